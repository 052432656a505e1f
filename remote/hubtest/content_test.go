package hubtest

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// FuzzParseRange: whatever a client sends, the part lies within the file.
func FuzzParseRange(f *testing.F) {
	for _, s := range []string{"", "bytes=0-0", "bytes=5-", "bytes=-5", "bytes=9-3", "bytes=0-1,2-3", "bytes= 1 - 2", "bytes=-0", "bytes=9223372036854775807-"} {
		f.Add(s, int64(10))
		f.Add(s, int64(0))
	}
	f.Fuzz(func(t *testing.T, spec string, size int64) {
		if size < 0 {
			return
		}
		from, n, kind := parseRange(spec, size)
		switch {
		case from < 0 || n < 0 || from > size || n > size-from:
			t.Errorf("parseRange(%q, %d) = %d, %d", spec, size, from, n)
		case kind == rangePart && n == 0:
			t.Errorf("parseRange(%q, %d) is an empty part", spec, size)
		case kind == rangeWhole && (from != 0 || n != size):
			t.Errorf("parseRange(%q, %d) is not the whole: %d, %d", spec, size, from, n)
		}
	})
}

// FuzzRouter: every reading of a path carries what the pattern promises.
func FuzzRouter(f *testing.F) {
	for _, s := range []string{"/api/models/ada/tiny/tree/main/a%2Fb", "/ada/tiny/resolve/refs/pr/1/x", "/datasets/d", "//", "/%zz", "/api/models/a/tree/refs/convert/"} {
		f.Add(s)
	}
	rt := newRouter((&front{hub: &Hub{}}).readRoutes(), false)
	f.Fuzz(func(t *testing.T, path string) {
		u, err := url.Parse("http://hub.test/" + strings.TrimPrefix(path, "/"))
		if err != nil {
			return
		}
		for _, m := range rt.find(&http.Request{Method: http.MethodGet, URL: u}) {
			if m.route == nil || m.hasID != strings.Contains(m.route.pattern, "{id}") {
				t.Errorf("%s: %+v", path, m)
			}
			if strings.Contains(m.route.pattern, "{rev}") && m.rev == "" {
				t.Errorf("%s: %s has no revision", path, m.route.name)
			}
			if strings.HasPrefix(m.path, "/") || strings.HasSuffix(m.path, "/") {
				t.Errorf("%s: path %q", path, m.path)
			}
		}
	})
}

func TestCursorRoundTrip(t *testing.T) {
	for _, c := range []cursor{{FileName: "a"}, {FileName: "data/part 1:2.txt", TreeOID: "abc"}, {FileName: "é\n\""}} {
		got, err := decodeCursor(c.encode(1000))
		if err != nil || got != c {
			t.Errorf("%+v became %+v, %v", c, got, err)
		}
	}
	for _, s := range []string{"", "!", "YWJj", "OjEwMDA="} {
		if c, err := decodeCursor(s); err == nil {
			t.Errorf("%q is a cursor: %+v", s, c)
		}
	}
}
