package hubtest

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestQuotaWindow(t *testing.T) {
	now := time.Unix(1_800_000_000, 0) // 0 s into a window
	b := filled(t, clock(&now), func(o *Options) { o.Quotas = true })
	for i := range 500 {
		got := b.get(infoPath + "?expand=sha")
		if want := fmt.Sprintf(`"api";r=%d;t=300`, 499-i); got.status != 200 || got.header.Get("RateLimit") != want {
			t.Fatalf("request %d: %d %q, want %q", i, got.status, got.header.Get("RateLimit"), want)
		}
	}
	over := b.get(infoPath)
	if over.status != 429 || over.header.Get("RateLimit") != `"api";r=0;t=300` || !strings.Contains(over.body, "quota of 500 api requests") {
		t.Errorf("over: %d %q %s", over.status, over.header.Get("RateLimit"), over.body)
	}
	if got := b.get("/ada/tiny/resolve/main/hello.txt"); got.status != 307 {
		t.Errorf("another bucket: %d", got.status)
	}
	if got := b.get(infoPath, "as", "bob"); got.status != 200 || got.header.Get("RateLimit") != `"api";r=999;t=300` {
		t.Errorf("an account: %d %q", got.status, got.header.Get("RateLimit"))
	}
	now = now.Add(299 * time.Second)
	if got := b.get(infoPath); got.status != 429 || got.header.Get("RateLimit") != `"api";r=0;t=1` {
		t.Errorf("a second before: %d %q", got.status, got.header.Get("RateLimit"))
	}
	now = now.Add(time.Second)
	if got := b.get(infoPath); got.status != 200 {
		t.Errorf("the next window: %d", got.status)
	}
	if n := b.Stats().Quota["api"]; n != 504 {
		t.Errorf("counted %d api requests", n)
	}
}

func TestCommitQuota(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	b := filled(t, clock(&now), func(o *Options) { o.Quotas = true })
	commit := func() reply {
		return b.do("POST", "/api/models/ada/tiny/commit/main", "as", "ada", "Content-Type", "application/x-ndjson", "body", commitBody)
	}
	for i := range 128 {
		if got := commit(); got.status != 200 {
			t.Fatalf("commit %d: %d %s", i, got.status, got.body)
		}
	}
	got := commit()
	if got.status != 429 || got.header.Get("Retry-After") == "" || strings.Contains(got.header.Get("RateLimit"), "r=0") ||
		!strings.Contains(got.body, "repository commits (128 per hour)") {
		t.Errorf("%d %v %s", got.status, got.header, got.body)
	}
	now = now.Add(time.Hour)
	if got := commit(); got.status != 200 {
		t.Errorf("an hour later: %d", got.status)
	}
}
