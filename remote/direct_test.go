package remote

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"hfmount/remote/hub"
)

// shelf is a Hub with several git files in shape A.
type shelf struct {
	files []*script
	more  string                                            // added to the query of the redirect
	cache func(s *script, req *http.Request) *http.Response // answers resolve-cache; nil is right

	mu     sync.Mutex
	ways   []string // "resolve" or "cache", as they came
	hidden bool     // no X-Linked headers on the redirect
}

func newShelf(n int) *shelf {
	h := &shelf{}
	for i := range n {
		h.files = append(h.files, &script{data: append(testData(100+i), byte(i)), shape: 'A'})
	}
	return h
}

func (h *shelf) entry(i int) hub.Entry {
	e := h.files[i].entry()
	e.Path = fmt.Sprintf("d/f #%d.txt", i)
	return e
}

func (h *shelf) RoundTrip(req *http.Request) (*http.Response, error) {
	var i int
	if _, err := fmt.Sscanf(req.URL.Path[strings.LastIndexByte(req.URL.Path, '#'):], "#%d.txt", &i); err != nil {
		return nil, err
	}
	s := h.files[i]
	etag := `"` + s.entry().OID + `"`
	way, resp := "cache", (*http.Response)(nil)
	if strings.Contains(req.URL.Path, "/resolve/") {
		way = "resolve"
		hd := map[string]string{"Location": "/api/resolve-cache/models/a/b/" + string(commit) + "/" + escapePath(h.entry(i).Path) +
			"?" + url.QueryEscape(req.URL.EscapedPath()) + "=&etag=" + url.QueryEscape(etag) + h.more}
		if !h.hidden {
			hd["X-Linked-ETag"], hd["X-Linked-Size"] = etag, fmt.Sprint(len(s.data))
		}
		resp = reply(307, hd, "Temporary Redirect")
	} else {
		if h.cache != nil {
			resp = h.cache(s, req)
		}
		if resp == nil {
			resp = s.serve(req, etag)
		}
	}
	h.mu.Lock()
	h.ways = append(h.ways, way)
	h.mu.Unlock()
	resp.Request = req
	return resp, nil
}

func TestDirect(t *testing.T) {
	// second answers the second request of the cache otherwise.
	second := func(f func(s *script, req *http.Request) *http.Response) func(*shelf) {
		return func(h *shelf) {
			seen := 0
			h.cache = func(s *script, req *http.Request) *http.Response {
				if seen++; seen != 2 {
					return nil
				}
				return f(s, req)
			}
		}
	}
	const n = 4
	for _, tt := range []struct {
		name  string
		setup func(h *shelf)
		want  string
	}{
		{"learnt from the first", func(*shelf) {}, "resolve cache cache cache cache"},
		{"no word on the redirect", func(h *shelf) { h.hidden = true }, "resolve cache cache cache cache"},
		{"a signature is not guessed", func(h *shelf) { h.more = "&sig=1" }, strings.TrimSpace(strings.Repeat("resolve cache ", n))},
		{"not there", second(func(*script, *http.Request) *http.Response {
			return reply(404, map[string]string{"X-Error-Code": "EntryNotFound"}, "")
		}), "resolve cache cache resolve cache resolve cache resolve cache"},
		{"forbidden", second(func(*script, *http.Request) *http.Response {
			return reply(403, nil, "")
		}), "resolve cache cache resolve cache resolve cache resolve cache"},
		{"other content", second(func(s *script, req *http.Request) *http.Response {
			return s.serve(req, `"`+strings.Repeat("0", 40)+`"`)
		}), "resolve cache cache resolve cache resolve cache resolve cache"},
		{"no word on the content", second(func(s *script, req *http.Request) *http.Response {
			return s.serve(req, "")
		}), "resolve cache cache resolve cache resolve cache resolve cache"},
		{"another range", second(func(s *script, req *http.Request) *http.Response {
			req = req.Clone(req.Context())
			req.Header.Set("Range", "bytes=1-2")
			return s.serve(req, `"`+s.entry().OID+`"`)
		}), "resolve cache cache resolve cache resolve cache resolve cache"},
		{"overload is no sign", second(func(*script, *http.Request) *http.Response {
			return reply(503, map[string]string{"Retry-After": "0"}, "")
		}), "resolve cache cache resolve cache cache cache"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newShelf(n)
			tt.setup(h)
			c := newTest(t, h)
			for i := range n {
				e := h.entry(i)
				r, err := c.OpenRange(t.Context(), snapAB, e, 0, e.Size, true)
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(r)
				_ = r.Close()
				if err != nil || !bytes.Equal(got, h.files[i].data) {
					t.Fatalf("file %d: %d bytes, %v", i, len(got), err)
				}
			}
			if got := strings.Join(h.ways, " "); got != tt.want {
				t.Errorf("asked %s, want %s", got, tt.want)
			}
		})
	}
}

// TestDirectOtherCommit has a form hold for the commit that showed it alone.
func TestDirectOtherCommit(t *testing.T) {
	h := newShelf(2)
	c := newTest(t, h)
	for i := range 2 {
		s := snapAB
		if i == 1 {
			s.Commit = hub.CommitID(strings.Repeat("1", 40))
		}
		e := h.entry(i)
		r, err := c.OpenRange(t.Context(), s, e, 0, e.Size, true)
		if err != nil {
			t.Fatal(err)
		}
		_ = r.Close()
	}
	if got := strings.Join(h.ways, " "); got != "resolve cache resolve cache" {
		t.Error(got)
	}
}
