package remote

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"hfmount/remote/hub"
)

var oid = strings.Repeat("0a", 20)

func collect(t *testing.T, c *Client, dir string, recursive bool) ([]hub.Entry, error) {
	t.Helper()
	var all []hub.Entry
	for e, err := range c.List(t.Context(), snapAB, dir, recursive) {
		if err != nil {
			return all, err
		}
		all = append(all, e)
	}
	return all, nil
}

// pager serves page after page; links are written as link makes them.
func pager(pages []string, link func(n int) string, asked *[]string) roundTrip {
	return func(req *http.Request) (*http.Response, error) {
		*asked = append(*asked, req.URL.String())
		var n int
		fmt.Sscanf(req.URL.Query().Get("cursor"), "p%d", &n)
		h := map[string]string{}
		if n+1 < len(pages) {
			h["Link"] = link(n + 1)
		}
		resp := reply(200, h, pages[n])
		resp.Request = req
		return resp, nil
	}
}

func TestListPages(t *testing.T) {
	file := func(p string) string {
		return fmt.Sprintf(`[{"type":"file","oid":%q,"size":3,"path":%q}]`, oid, p)
	}
	pages := []string{file("d/x"), `[]`, file("d/ü y")}
	tree := "/api/models/a/b/tree/" + string(commit) + "/d"
	for name, link := range map[string]func(int) string{
		"absolute": func(n int) string {
			return fmt.Sprintf(`<%s%s?limit=1000&cursor=p%d%%3D%%3D>; rel="next"`, hubURL, tree, n)
		},
		"the Hub's": func(n int) string { return fmt.Sprintf(`<https://huggingface.co%s?cursor=p%d>;rel=next`, tree, n) },
		"relative":  func(n int) string { return fmt.Sprintf(`<%s?cursor=p%d>; foo="a,b"; rel="prev next"`, tree, n) },
		"second": func(n int) string {
			return fmt.Sprintf(`<http://x/y,z;a>; rel="prev", <%s%s?cursor=p%d>; rel="next"`, hubURL, tree, n)
		},
	} {
		var asked []string
		c := newTest(t, pager(pages, link, &asked))
		got, err := collect(t, c, "d", false)
		if err != nil || len(got) != 2 || got[0].Path != "d/x" || got[1].Path != "d/ü y" || got[1].Size != 3 {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if len(asked) != 3 || asked[0] != hubURL+tree+"?limit=1000" {
			t.Errorf("%s: asked %v", name, asked)
		}
	}
}

func TestListLinks(t *testing.T) {
	for name, link := range map[string]func(int) string{
		"a loop":    func(int) string { return `<` + hubURL + `/api/models/a/b/tree/x?cursor=p0>; rel="next"` },
		"elsewhere": func(int) string { return `<http://evil.test/api?cursor=p1>; rel="next"` },
		"no http":   func(int) string { return `<file:///etc/passwd>; rel="next"` },
		"port":      func(int) string { return `<http://hub.test:81/api?cursor=p1>; rel="next"` },
	} {
		var asked []string
		c := newTest(t, pager([]string{`[]`, `[]`, `[]`}, link, &asked))
		if got, err := collect(t, c, "", false); !errors.Is(err, hub.ErrBadAnswer) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		if len(asked) > 3 {
			t.Errorf("%s: asked %v", name, asked)
		}
	}
}

func TestEndlessCursor(t *testing.T) {
	n := 0
	c := newTest(t, roundTrip(func(req *http.Request) (*http.Response, error) {
		n++
		resp := reply(200, map[string]string{"Link": fmt.Sprintf(`</api/x?cursor=%d>; rel="next"`, n)}, `[]`)
		resp.Request = req
		return resp, nil
	}))
	if _, err := collect(t, c, "", true); !errors.Is(err, hub.ErrBadAnswer) || n != maxPages {
		t.Errorf("%d pages, %v", n, err)
	}
}

func TestListEntries(t *testing.T) {
	sha := strings.Repeat("b", 64)
	c := newTest(t, answers(200, nil, `[
		{"type":"directory","oid":"`+oid+`","size":0,"path":"d"},
		{"type":"file","oid":"`+oid+`","size":9,"path":"d/w","lfs":{"oid":"`+sha+`","size":9,"pointerSize":130},"xetHash":"`+sha+`"},
		{"type":"unknown","oid":"`+oid+`","size":0,"path":"sub"},
		{"type":"file","oid":"`+oid+`","size":0,"path":"new\nline"}]`))
	got, err := collect(t, c, "", true)
	want := []hub.Entry{
		{Path: "d", Type: hub.Directory, OID: oid},
		{Path: "d/w", Size: 9, OID: oid, SHA256: sha, XetHash: sha},
		{Path: "sub", Type: hub.Unknown, OID: oid},
		{Path: "new\nline", OID: oid},
	}
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
}

func TestHostileListing(t *testing.T) {
	entry := func(path string, more string) string {
		return `{"type":"file","oid":"` + oid + `","path":` + path + more + `}`
	}
	good := entry(`"d/good"`, `,"size":1`)
	for name, e := range map[string]string{
		"dotdot":     entry(`"d/.."`, `,"size":1`),
		"above":      entry(`"d/../x"`, `,"size":1`),
		"absolute":   entry(`"/etc/passwd"`, `,"size":1`),
		"elsewhere":  entry(`"e/x"`, `,"size":1`),
		"itself":     entry(`"d"`, `,"size":1`),
		"below":      entry(`"d/x/y"`, `,"size":1`),
		"slash":      entry(`"d/x/"`, `,"size":1`),
		"empty":      entry(`""`, `,"size":1`),
		"NUL":        entry(`"d/a\u0000b"`, `,"size":1`),
		"not UTF-8":  entry("\"d/a\xff\"", `,"size":1`),
		"surrogate":  entry(`"d/a\ud800"`, `,"size":1`),
		"long":       entry(`"d/`+strings.Repeat("x", 1000)+`"`, `,"size":1`),
		"negative":   entry(`"d/x"`, `,"size":-1`),
		"absurd":     entry(`"d/x"`, `,"size":1125899906842625`),
		"overflow":   entry(`"d/x"`, `,"size":1e30`),
		"no size":    entry(`"d/x"`, ``),
		"two sizes":  entry(`"d/x"`, `,"size":1,"lfs":{"oid":"`+strings.Repeat("b", 64)+`","size":2}`),
		"lfs oid":    entry(`"d/x"`, `,"size":1,"lfs":{"oid":"../../x","size":1}`),
		"no lfs oid": entry(`"d/x"`, `,"size":1,"lfs":{"size":1}`),
		"oid":        `{"type":"file","oid":"../../../x","size":1,"path":"d/x"}`,
		"no object":  `7`,
	} {
		c := newTest(t, answers(200, nil, `[`+good+`,`+e+`]`))
		got, err := collect(t, c, "d", false)
		if !errors.Is(err, hub.ErrBadAnswer) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if len(got) != 0 {
			t.Errorf("%s: part of the page was used", name)
		}
		if err != nil && len(err.Error()) > 1000 {
			t.Errorf("%s: an error of %d bytes", name, len(err.Error()))
		}
	}
	c := newTest(t, answers(200, nil, `[`+entry(`"d/a�"`, `,"size":1`)+`]`))
	if got, err := collect(t, c, "d", false); err != nil || len(got) != 1 {
		t.Errorf("a name that really has U+FFFD: %v, %v", got, err)
	}
}
