package main

import (
	"context"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// scriptAPI sends one request to the Hub with the script's token, and wants
// the answer to be a success.
func scriptAPI(ts *testscript.TestScript, neg bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), scriptPatience)
	defer cancel()
	body := strings.Join(args[2:], " ")
	req, err := http.NewRequestWithContext(ctx, args[0], ts.Getenv("HF_ENDPOINT")+args[1], strings.NewReader(body))
	ts.Check(err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+ts.Getenv("HF_TOKEN"))
	resp, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	ts.Check(err)
	if resp.StatusCode/100 != 2 {
		ts.Fatalf("%s %s: %s: %s", args[0], args[1], resp.Status, text)
	}
}

// await polls the status of the mount on dir until it is as ok wants it.
func await(ts *testscript.TestScript, dir, what string, ok func(mountStatus) bool) {
	d := daemonAt(ts, dir)
	for end := time.Now().Add(scriptPatience); ; time.Sleep(20 * time.Millisecond) {
		s, err := d.status(context.Background())
		ts.Check(err)
		if ok(s) {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("not %s: %+v, last error %+v", what, s, s.LastError)
		}
	}
}

// scriptWaitClean waits until all changes of a mount are on the Hub.
func scriptWaitClean(ts *testscript.TestScript, neg bool, args []string) {
	await(ts, args[0], "clean", func(s mountStatus) bool { return s.Pending == 0 && s.LastCommit != nil })
}

// scriptWaitError waits until the last error of a mount holds a text.
func scriptWaitError(ts *testscript.TestScript, neg bool, args []string) {
	await(ts, args[0], "in that trouble", func(s mountStatus) bool {
		return s.LastError != nil && strings.Contains(s.LastError.Text, args[1])
	})
}
