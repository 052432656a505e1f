package remote

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"hfmount/remote/hub"
)

// pathsHub answers paths-info by f.
func pathsHub(t *testing.T, f func(paths []string) string) *Client {
	return newTest(t, roundTrip(func(req *http.Request) (*http.Response, error) {
		var body struct{ Paths []string }
		if err := json.NewDecoder(req.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		_ = req.Body.Close()
		if req.Method != "POST" || req.URL.Path != "/api/models/a/b/paths-info/"+string(commit) || len(body.Paths) > 500 {
			t.Errorf("%s %s with %d paths", req.Method, req.URL, len(body.Paths))
		}
		resp := reply(200, nil, f(body.Paths))
		resp.Request = req
		return resp, nil
	}))
}

func listed(paths ...string) string {
	var all []string
	for _, p := range paths {
		all = append(all, `{"type":"file","oid":"`+oid+`","size":3,"path":`+strconv.Quote(p)+`}`)
	}
	return "[" + strings.Join(all, ",") + "]"
}

func TestPaths(t *testing.T) {
	calls := 0
	c := pathsHub(t, func(paths []string) string {
		calls++
		return listed(paths[1:]...) // the first of each call does not exist
	})
	var ask []string
	for i := range 1001 {
		ask = append(ask, fmt.Sprintf("d/%d.txt", i))
	}
	got, err := c.Paths(t.Context(), snapAB, ask)
	if err != nil || calls != 3 || len(got) != 998 || got[0].Path != "d/1.txt" || got[997].Path != "d/999.txt" {
		t.Errorf("%d entries in %d calls, %v", len(got), calls, err)
	}
	if got, err := c.Paths(t.Context(), snapAB, nil); got != nil || err != nil || calls != 3 {
		t.Errorf("nothing asked: %v, %v", got, err)
	}
	for name, answer := range map[string]string{
		"unasked": listed("a", "b"), "twice": listed("a", "a"), "hostile": listed("../a"), "no list": `{}`, "no size": `[{"type":"file","oid":"` + oid + `","path":"a"}]`,
	} {
		c := pathsHub(t, func([]string) string { return answer })
		if got, err := c.Paths(t.Context(), snapAB, []string{"a"}); !errors.Is(err, hub.ErrBadAnswer) || got != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if _, err := c.Paths(t.Context(), snapAB, []string{"a", "/b"}); !errors.Is(err, iofs.ErrInvalid) {
		t.Errorf("no path: %v", err)
	}
}

func TestReadAll(t *testing.T) {
	for _, lfs := range []bool{false, true} {
		s := &script{data: testData(3000), lfs: lfs, shape: 'C'}
		c := newTest(t, s)
		b, err := c.ReadAll(t.Context(), snapAB, s.entry(), 3000)
		if err != nil || string(b) != string(s.data) {
			t.Errorf("%d bytes, %v", len(b), err)
		}
		if _, err := c.ReadAll(t.Context(), snapAB, s.entry(), 2999); !errors.Is(err, iofs.ErrInvalid) {
			t.Errorf("longer than asked: %v", err)
		}
		e := s.entry()
		asked := s.hub
		spoil := func(times int) {
			n := 0
			s.fault = func(int, *http.Request) *http.Response {
				if n++; n > times {
					return nil
				}
				bad := testData(3000)
				bad[7]++
				return reply(200, map[string]string{"ETag": `"` + e.Content().Hex + `"`, "Content-Length": "3000"}, string(bad))
			}
		}
		spoil(1)
		if b, err := c.ReadAll(t.Context(), snapAB, e, 3000); err != nil || string(b) != string(s.data) || s.hub != asked+2 {
			t.Errorf("spoilt once: %v after %d requests", err, s.hub-asked)
		}
		spoil(9)
		if b, err := c.ReadAll(t.Context(), snapAB, e, 3000); !errors.Is(err, hub.ErrBadAnswer) || b != nil {
			t.Errorf("spoilt: %v", err)
		}
	}
	empty := hub.Entry{Path: "e", OID: "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"}
	if b, err := newTest(t, answers(500, nil, "")).ReadAll(t.Context(), snapAB, empty, 0); err != nil || len(b) != 0 {
		t.Errorf("an empty file: %v", err)
	}
}

func TestLogPages(t *testing.T) {
	var queries []string
	c := newTest(t, roundTrip(func(req *http.Request) (*http.Response, error) {
		queries = append(queries, req.URL.RequestURI())
		p, _ := strconv.Atoi(req.URL.Query().Get("p"))
		var page []string
		for i := range 10 {
			page = append(page, fmt.Sprintf(`{"id":"%040x","title":"t%d","message":"t%d\n\nmore","authors":[{"user":"ada"}],"date":"2026-07-01T12:00:00.000Z"}`, p*10+i, i, i))
		}
		resp := reply(200, map[string]string{"Link": `<` + hubURL + `/api/models/a/b/commits/refs%2Fpr%2F3?p=` + strconv.Itoa(p+1) + `>; rel="next"`}, "["+strings.Join(page, ",")+"]")
		resp.Request = req
		return resp, nil
	}))
	log, err := c.Log(t.Context(), hub.Ref{Repo: repoAB, Revision: "refs/pr/3"}, 25)
	if err != nil || len(log) != 25 || log[24].ID != hub.CommitID(fmt.Sprintf("%040x", 24)) || log[0].Description != "more" || len(queries) != 3 ||
		queries[0] != "/api/models/a/b/commits/refs%2Fpr%2F3?limit=25" {
		t.Errorf("%d entries, %v, %q", len(log), err, queries)
	}
	if _, err := newTest(t, answers(200, nil, `[{"id":"x"}]`)).Log(t.Context(), snapAB.Ref, 1); !errors.Is(err, hub.ErrBadAnswer) {
		t.Errorf("no commit: %v", err)
	}
}

// TestCommitBody is the NDJSON of hub-protocol §6.4, byte for byte.
func TestCommitBody(t *testing.T) {
	data := func(s string) func() (io.ReadCloser, error) {
		return func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(s)), nil }
	}
	sum := strings.Repeat("68", 32)
	m := hub.Commit{Parent: commit, Summary: "Update", Description: "a\nb", Ops: []hub.Op{
		{Kind: hub.OpFile, Path: "hello.txt", Size: 6, Data: data("hello\n")},
		{Kind: hub.OpFile, Path: `q"ü.txt`, Size: 0, Data: data("")},
		{Kind: hub.OpLFS, Path: "w.bin", SHA256: sum, Size: 12345678},
		{Kind: hub.OpDelete, Path: "old.txt"}, {Kind: hub.OpDeleteFolder, Path: "old_dir"},
	}}
	want := `{"key":"header","value":{"description":"a\nb","parentCommit":"` + string(commit) + `","summary":"Update"}}
{"key":"file","value":{"path":"hello.txt","encoding":"base64","content":"aGVsbG8K"}}
{"key":"file","value":{"path":"q\"ü.txt","encoding":"base64","content":""}}
{"key":"lfsFile","value":{"algo":"sha256","oid":"` + sum + `","path":"w.bin","size":12345678}}
{"key":"deletedFile","value":{"path":"old.txt"}}
{"key":"deletedFolder","value":{"path":"old_dir/"}}
`
	l, err := newCommitLines(m)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // it can be opened again
		r, err := l.open()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil || string(b) != want || l.size != int64(len(want)) {
			t.Errorf("%d bytes, %v:\n%s", l.size, err, b)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}
