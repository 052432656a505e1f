package remote

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"hfmount/remote/hub"
)

// FuzzListing feeds answers of a stranger to the listing: whatever comes, each
// entry can be shown, or the whole page is refused as nonsense.
func FuzzListing(f *testing.F) {
	f.Add(`[{"type":"file","oid":"`+oid+`","size":3,"path":"d/x","lfs":{"oid":"`+strings.Repeat("b", 64)+`","size":3}}]`, "d", false)
	f.Add(`[{"type":"directory","oid":"`+oid+`","size":0,"path":"../x"}]`, "", true)
	f.Fuzz(func(t *testing.T, body, dir string, recursive bool) {
		if dir != "" && hub.CheckPath(dir) != nil {
			return
		}
		entries, err := parseTree(call{op: "list"}, answer{body: []byte(body)}, dir, recursive)
		if err != nil {
			if !errors.Is(err, hub.ErrBadAnswer) || entries != nil {
				t.Fatal(err)
			}
			return
		}
		for _, e := range entries {
			if err := e.Check(); err != nil || !within(e.Path, dir, recursive) {
				t.Fatalf("%+v: %v", e, err)
			}
		}
	})
}

// FuzzHeaders feeds the headers that are parsed by hand.
func FuzzHeaders(f *testing.F) {
	f.Add(`<http://x/y>; rel="next"`, "bytes 0-5/6", `"api";r=1;t=2`, "7")
	f.Add(`<a>; rel=prev, <b,c;d>; rel=next`, "bytes */6", `"fixed window";"api";q=5;w=3`, "Wed, 21 Oct 2026 07:28:00 GMT")
	f.Fuzz(func(t *testing.T, link, span, limit, after string) {
		h := http.Header{"Link": {link}, "Ratelimit": {limit}, "Retry-After": {after}}
		if l := nextLink(h); strings.Contains(l, ">") {
			t.Fatalf("%q", l)
		}
		if a, b, n, ok := parseContentRange(span); ok && (a < 0 || b < a || n <= b) {
			t.Fatalf("%q: %d-%d/%d", span, a, b, n)
		}
		if d, _ := retryAfter(&http.Response{StatusCode: 429, Header: h}, time.Unix(1e9, 0)); d < 0 || d > (maxWindow+1)*1e9 {
			t.Fatalf("%v", d)
		}
		if s := scrub(link); len(s) > 410 {
			t.Fatalf("%d bytes", len(s))
		}
	})
}
