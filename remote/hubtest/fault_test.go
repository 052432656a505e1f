package hubtest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func (b bench) faults(rules ...Fault) {
	b.t.Helper()
	if err := b.SetFaults(rules...); err != nil {
		b.t.Fatal(err)
	}
}

// fired asserts how often the only rule has hit.
func (b bench) fired(want int) {
	b.t.Helper()
	if got := b.Faults()[0].Fired; got != want {
		b.t.Errorf("%s fired %d times, want %d", b.Faults()[0].Fault, got, want)
	}
}

const infoPath = "/api/models/ada/tiny"

func (b bench) cdnURL() string {
	return b.get("/ada/tiny/resolve/main/w.bin").header.Get("Location")
}

func TestFaultRules(t *testing.T) {
	b := filled(t)
	for _, tt := range []struct {
		name string
		rule Fault
		want string // statuses of six requests
	}{
		{"always", Fault{}, "503 503 503 503 503 503"},
		{"nth", Fault{Nth: 3}, "200 200 503 200 200 200"},
		{"every", Fault{Every: 2}, "200 503 200 503 200 503"},
		{"times", Fault{Times: 2}, "503 503 200 200 200 200"},
		{"every and times", Fault{Every: 2, Times: 1}, "200 503 200 200 200 200"},
		{"certain", Fault{Probability: 1, Times: 3}, "503 503 503 200 200 200"},
		{"other method", Fault{Method: "HEAD"}, "200 200 200 200 200 200"},
		{"method", Fault{Method: "get"}, "503 503 503 503 503 503"},
		{"other host", Fault{Host: "cdn"}, "200 200 200 200 200 200"},
		{"glob", Fault{Path: "*/ada/*"}, "503 503 503 503 503 503"},
		{"exact", Fault{Path: infoPath}, "503 503 503 503 503 503"},
		{"other path", Fault{Path: "/api/*/tree"}, "200 200 200 200 200 200"},
		{"status", Fault{Status: 502, Body: "oops", Headers: map[string]string{"Retry-After": "7"}, Nth: 1}, "502 200 200 200 200 200"},
	} {
		tt.rule.Fault = "status"
		b.faults(tt.rule)
		var got []string
		fired := 0
		for range 6 {
			r := b.get(infoPath)
			got = append(got, strconv.Itoa(r.status))
			if r.status >= 500 {
				fired++
			}
			if r.status == 502 && (r.body != "oops" || r.header.Get("Retry-After") != "7") {
				t.Errorf("%q %v", r.body, r.header)
			}
		}
		if s := strings.Join(got, " "); s != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, s, tt.want)
		}
		b.fired(fired)
	}
}

func TestBadFaults(t *testing.T) {
	b := newBench(t)
	for _, r := range []Fault{
		{Fault: "nonsense"}, {Fault: "status", Host: "moon"}, {Fault: "delay", MS: -1}, {Fault: "reset", Nth: 1, Every: 1},
		{Fault: "max-connections"}, {Fault: "status", Status: 42}, {Fault: "reset", Probability: 2},
	} {
		if err := b.SetFaults(r); err == nil {
			t.Errorf("%+v is accepted", r)
		}
	}
}

func TestGlob(t *testing.T) {
	for _, tt := range []struct {
		pattern, s string
		want       bool
	}{
		{"*", "/a/b", true}, {"/a/*", "/a/b/c", true}, {"*/resolve/*", "/x/y/resolve/main/f", true}, {"*/resolve", "/x/resolve/y", false},
		{"/a*a", "/a", false}, {"/a", "/a", true}, {"/a", "/ab", false}, {"*b*c", "/abbc", true}, {"**", "", true}, {"/a?b", "/a?b", true},
	} {
		if got := glob(tt.pattern, tt.s); got != tt.want {
			t.Errorf("glob(%q, %q) = %v", tt.pattern, tt.s, got)
		}
	}
}

func TestBodyFaults(t *testing.T) {
	b := filled(t)
	u := b.cdnURL()

	b.faults(Fault{Host: "cdn", Fault: "truncate", After: 100, Times: 1})
	if b.get(u, "Range", "bytes=0-99").err != nil {
		t.Error("an answer of 100 bytes is truncated after 100")
	}
	if got := b.get(u); len(got.body) != 100 || !errors.Is(got.err, io.ErrUnexpectedEOF) || got.header.Get("Content-Length") != "1000" {
		t.Errorf("truncate: %d bytes, %v", len(got.body), got.err)
	}
	b.fired(1)

	b.faults(Fault{Fault: "corrupt", At: 500, Nth: 2})
	if got := b.get(u, "Range", "bytes=0-499"); got.body != string(weights[:500]) {
		t.Error("a range without the byte is corrupt")
	}
	if got := b.get(u, "Range", "bytes=500-501"); got.body != string(weights[500:502]) {
		t.Error("the first answer with the byte is corrupt")
	}
	got := b.get(u, "Range", "bytes=499-501")
	if len(got.body) != 3 || got.body[0] != weights[499] || got.body[1] == weights[500] || got.body[2] != weights[501] {
		t.Errorf("corrupt: %q, right is %q", got.body, weights[499:502])
	}
	b.fired(1)

	b.faults(Fault{Fault: "ignore-range"})
	b.get(u)
	b.fired(0)
	if got := b.get(u, "Range", "bytes=5-6"); got.status != 200 || got.body != string(weights) || got.header.Get("Content-Range") != "" {
		t.Errorf("ignore-range: %d, %d bytes", got.status, len(got.body))
	}
	b.fired(1)

	b.faults(Fault{Fault: "wrong-range"})
	if got := b.get(u, "Range", "bytes=5-6"); got.status != 206 || got.body != "56" || got.header.Get("Content-Range") != "bytes 6-7/1000" {
		t.Errorf("wrong-range: %d %q", got.status, got.header.Get("Content-Range"))
	}
	if got := b.get(u, "Range", "bytes=0-999"); got.header.Get("Content-Range") != "bytes 1-1000/1001" {
		t.Errorf("wrong-range of the whole: %q", got.header.Get("Content-Range"))
	}
	b.fired(2)
}

func TestResetAndDelay(t *testing.T) {
	b := filled(t)
	b.faults(Fault{Path: infoPath, Fault: "reset", Times: 1})
	if _, err := b.send("GET", infoPath); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("reset: %v", err)
	}
	b.fired(1)
	b.faults(Fault{Fault: "delay", MS: 1})
	if got := b.get(infoPath); got.status != 200 {
		t.Errorf("delay: %d", got.status)
	}
	b.fired(1)
}

func TestStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := filled(t)
		u := b.cdnURL()
		b.faults(Fault{Fault: "stall", After: 10})
		for _, url := range []string{u, site + "/ada/tiny/resolve/main/w.bin"} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			r, _ := http.NewRequestWithContext(ctx, "GET", url, nil)
			start := time.Now()
			resp, err := b.RoundTripper().RoundTrip(r)
			if err == nil {
				var body []byte
				body, err = io.ReadAll(resp.Body)
				resp.Body.Close()
				if len(body) != 10 {
					t.Errorf("%d bytes before the stall", len(body))
				}
			}
			if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Minute {
				t.Errorf("%v after %v", err, time.Since(start))
			}
			cancel()
		}
		b.fired(2)
	})
}

func TestMaxConnections(t *testing.T) {
	b := filled(t)
	u := b.cdnURL()
	b.faults(Fault{Host: "cdn", Fault: "max-connections", N: 1})
	held, err := b.send("GET", u)
	if err != nil {
		t.Fatal(err)
	}
	if got := b.get(u); got.status != 429 {
		t.Errorf("second connection: %d", got.status)
	}
	b.fired(1)
	io.Copy(io.Discard, held.Body)
	held.Body.Close()
	// The first is over once its handler has returned.
	for deadline := time.Now().Add(10 * time.Second); b.get(u).status != 200; {
		if time.Now().After(deadline) {
			t.Fatal("the first connection never ends")
		}
	}
}

const commitBody = `{"key":"header","value":{"summary":"by test"}}
{"key":"file","value":{"path":"new.txt","content":"new"}}
`

func (b bench) commits() int {
	b.t.Helper()
	return len(decode[[]struct{}](b.t, b.get("/api/models/ada/tiny/commits/main")))
}

func TestCommitFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := filled(t)
		for _, tt := range []struct {
			rule       Fault
			status     int
			now, later int // commits more
			beginsWith string
		}{
			{Fault{Fault: "conflict", Times: 1}, 409, 0, 0, "Cannot commit"},
			{Fault{Fault: "precondition", Times: 1}, 412, 0, 0, "A commit has happened since"},
			{Fault{Fault: "apply-then-500", Times: 1}, 500, 1, 1, "Internal Error"},
			{Fault{Fault: "apply-late", MS: 5000, Times: 1}, 504, 0, 1, "Gateway"},
			{Fault{Fault: "apply-late", Nth: 7}, 200, 1, 1, ""},
		} {
			before := b.commits()
			b.faults(tt.rule)
			got := b.do("POST", "/api/models/ada/tiny/commit/main", "as", "ada", "Content-Type", "application/x-ndjson", "body", commitBody)
			if got.status != tt.status || !strings.HasPrefix(got.header.Get("X-Error-Message"), tt.beginsWith) {
				t.Errorf("%s: %d %s", tt.rule.Fault, got.status, got.body)
			}
			if n := b.commits() - before; n != tt.now {
				t.Errorf("%s: %d commits at once, want %d", tt.rule.Fault, n, tt.now)
			}
			time.Sleep(6 * time.Second)
			if n := b.commits() - before; n != tt.later {
				t.Errorf("%s: %d commits later, want %d", tt.rule.Fault, n, tt.later)
			}
			if tt.status != 200 {
				b.fired(1)
			}
		}
		if n := b.Stats().Commits; n != 3 {
			t.Errorf("Stats.Commits = %d, want 3", n)
		}
	})
}

func TestUploadFault(t *testing.T) {
	b := filled(t)
	b.faults(Fault{Fault: "lfs-403", Times: 1})
	if got := b.get(b.cdnURL()); got.status != 200 {
		t.Errorf("a download: %d", got.status)
	}
	b.fired(0)
	const oid = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824" // of "hello"
	batch := decode[struct {
		Objects []struct {
			Actions struct{ Upload struct{ Href string } }
		}
	}](t, b.do("POST", "/ada/tiny.git/info/lfs/objects/batch", "as", "ada", "Content-Type", "application/vnd.git-lfs+json",
		"body", `{"operation":"upload","transfers":["basic"],"objects":[{"oid":"`+oid+`","size":5}]}`))
	href := batch.Objects[0].Actions.Upload.Href
	for _, want := range []int{403, 200} {
		if got := b.do("PUT", href, "body", "hello"); got.status != want {
			t.Errorf("PUT: %d, want %d: %s", got.status, want, got.body)
		}
	}
	b.fired(1)
}

// TestSocketFaults breaks real connections.
func TestSocketFaults(t *testing.T) {
	b := filled(t)
	s, err := b.Listen("127.0.0.1:0", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	get := func(url string) (string, error) {
		resp, err := client.Get(url)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return string(body), err
	}
	file := s.URL + "/ada/tiny/resolve/main/w.bin"
	if body, err := get(file); err != nil || body != string(weights) {
		t.Fatalf("%d bytes, %v", len(body), err)
	}
	b.faults(Fault{Host: "cdn", Fault: "truncate", After: 10})
	if body, err := get(file); !errors.Is(err, io.ErrUnexpectedEOF) || len(body) != 10 {
		t.Errorf("truncate: %d bytes, %v", len(body), err)
	}
	b.faults(Fault{Host: "cdn", Fault: "reset"})
	if _, err := get(file); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.EOF) {
		t.Errorf("reset: %v", err)
	}
	b.faults(Fault{Host: "cdn", Fault: "stall", After: 10})
	ctx, cancel := context.WithCancel(t.Context())
	r, _ := http.NewRequestWithContext(ctx, "GET", file, nil)
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(resp.Body, make([]byte, 10)); err != nil {
		t.Error(err)
	}
	cancel()
	resp.Body.Close()
	b.fired(1)
}
