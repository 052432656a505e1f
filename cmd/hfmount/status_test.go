package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestStatusOfChanges(t *testing.T) {
	pr := "http://h/a/b/discussions/1"
	next := time.Now().Add(10 * time.Second)
	s := mountStatus{
		Mountpoint: "/m", Repo: "a/b", Revision: "main", State: stateMounted, Online: true, Endpoint: "http://h",
		CommitsTo: "commits to main of a/b (PUBLIC), 30s after the last change",
		Pending:   3, LocalOnly: 1, StagedBytes: 5e6, NextCommit: &next, PullRequest: &pr,
		Changes: []changeStatus{
			{Path: "new", Op: "add", State: "open"},
			{Path: "to", Was: "from", Op: "rename", State: "pending"},
			{Path: "x\ny", Op: "delete", State: "refused", Reason: "no such name"},
		},
		HeldBy:     []holderStatus{{Path: "new", PID: 42}},
		Uploads:    []uploadStatus{{Path: "big", Sent: 1e6, Total: 4e6}},
		LastCommit: &commitStatus{ID: "0123456789", URL: "http://h/c", Time: time.Now(), Message: "Add it"},
	}
	var b strings.Builder
	if err := s.print(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"read-write, commits to main of a/b (PUBLIC)", "3 changes, next commit in 10s", "A  new  (open)\n", "R  from -> to\n", "D  x?y  (refused: no such name)",
		"process 42, which has new open", "big, 1.0 MB of 4.0 MB (25 %)", "0123456 now, Add it, http://h/c", pr, "5.0 MB, 1 path local only",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	s.State = stateDraining
	b.Reset()
	if err := s.print(&b); err != nil || !strings.Contains(b.String(), "still being sent") || !strings.Contains(b.String(), "A  new") {
		t.Errorf("draining: %v\n%s", err, b.String())
	}
	raw, err := json.Marshal(mountStatus{}.normal())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"changes":[]`, `"held_by":[]`, `"uploads":[]`, `"last_commit":null`, `"pull_request":null`, `"last_error":null`, `"pending":0`, `"local_only":0`, `"staged_bytes":0`} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("no %s in %s", want, raw)
		}
	}
}

func TestShortDurations(t *testing.T) {
	for d, want := range map[time.Duration]string{
		30 * time.Second: "30s", time.Minute: "1m", 90 * time.Second: "1m30s", time.Hour: "1h", 90 * time.Minute: "1h30m", 0: "0s",
	} {
		if got := short(d); got != want {
			t.Errorf("%v: got %s, want %s", d, got, want)
		}
	}
}
