package remote

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hfmount/remote/hub"
)

func TestNamedPaths(t *testing.T) {
	sent := []string{"a", "d/a.txt", "a.txt", "data", "README.md", "w x.bin", "é.bin", "contains"}
	for _, tt := range []struct {
		words string
		want  []string
	}{
		{"", nil},
		{"Your push was rejected because it contains files larger than 10 MiB. Offending files: - a.txt (ref: refs/heads/main) - w x.bin (ref: refs/heads/main)", []string{"a.txt", "w x.bin"}},
		{"… larger than 10 MiB.\nOffending files:\n - a.txt (ref: refs/heads/main)\n - d/a.txt (ref: refs/pr/3)\n", []string{"a.txt", "d/a.txt"}},
		{"An LFS pointer pointed to a file that does not exist. Offending file: - w x.bin", []string{"w x.bin"}},
		{"Offending files: - .gitattributes (ref: refs/heads/main)", []string{".gitattributes"}},
		{"Offending files: - ../x (ref: y) - ok (ref: y) - ok (ref: y)", []string{"ok"}},
		{"Offending files: nobody", nil},
		{"A file with this name doesn't exist: d/a.txt", []string{"d/a.txt"}},
		{"A file with this name doesn't exist: a.txt", []string{"a.txt"}},
		{"d/a.txt and a.txt are both bad", []string{"d/a.txt", "a.txt"}},
		{`Invalid path: "data"`, []string{"data"}},
		{"A file with this name doesn't exist: data", []string{"data"}},
		{"the data of a commit contains something", nil},
		{"Invalid metadata in README.md: \"tags\" must be a string", []string{"README.md"}},
		{"README.md.", []string{"README.md"}},
		{"OLDREADME.md READMExmd", nil},
		{"é.bin has 3 bytes, not 4", []string{"é.bin"}},
	} {
		if got := namedPaths(tt.words, sent); !slices.Equal(got, tt.want) {
			t.Errorf("%q: %q, want %q", tt.words, got, tt.want)
		}
	}
}

func TestWaitInWords(t *testing.T) {
	for s, want := range map[string]time.Duration{
		"You can retry this action in about 1 hour.": time.Hour,
		"try again in 5 minutes":                     5 * time.Minute,
		"in about an hour":                           time.Hour,
		"in 99999 seconds":                           0,
		"in 9999 hours":                              time.Hour,
		"the limit is 128 per hour":                  0,
		"":                                           0,
		"in about a minute":                          time.Minute,
		"limit (128 per hour). Retry in about 2 hours…": time.Hour, // at most
	} {
		if got := waitInWords(s); got != want {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
	}
}

// FuzzRefusal feeds refusals of a stranger to the client: what comes out can
// be shown, and names only paths that can exist.
func FuzzRefusal(f *testing.F) {
	f.Add(400, `{"error":"Offending files: - a (ref: x) - b/c (ref: x)"}`, "", "", "a\nb/c")
	f.Add(404, "", "EntryNotFound", "A file with this name doesn't exist: x", "x")
	f.Add(429, `{"error":["You can retry this action in about 1 hour"]}`, "", "", "")
	f.Add(409, `{"errors":[{"message":"another conflicting operation is in progress"}]}`, "", "", "")
	f.Add(403, "<Error><Code>AccessDenied</Code><Message>no</Message></Error>", "", "", "")
	f.Fuzz(func(t *testing.T, status int, body, code, header, paths string) {
		if status < 300 || status > 599 {
			return
		}
		var sent []string
		for p := range strings.SplitSeq(paths, "\n") {
			if hub.CheckPath(p) == nil {
				sent = append(sent, p)
			}
		}
		for _, commits := range []bool{false, true} {
			k := call{op: "commit to", repo: repoAB, commits: commits, paths: sent}
			req, err := http.NewRequest("POST", hubURL+"/x", nil)
			if err != nil {
				t.Fatal(err)
			}
			h := http.Header{"X-Error-Code": {code}, "X-Error-Message": {header}}
			resp := &http.Response{StatusCode: status, Header: h, Request: req, Body: io.NopCloser(strings.NewReader(body))}
			e, words := k.judge(resp, true, false)
			k.refine(e, words)
			if s := e.Error(); strings.ContainsAny(s, "\n\r\x00") && !strings.ContainsAny(words+code, "\x00") {
				t.Errorf("more than a line: %q", s)
			}
			var r *hub.RefusedError
			if errors.As(e, &r) {
				for _, p := range r.Paths {
					if err := hub.CheckPath(p); err != nil {
						t.Errorf("names %q: %v", p, err)
					}
				}
				if len(r.Paths) > maxNamed {
					t.Errorf("%d paths", len(r.Paths))
				}
			}
			var l *hub.LimitedError
			if errors.As(e, &l) && (l.After < 0 || l.After > maxWindow*time.Second+time.Second) {
				t.Errorf("again after %v", l.After)
			}
			if commits && e.retry && !transient(status) {
				t.Errorf("a commit would be sent again after %d", status)
			}
		}
	})
}

// TestPostRedirects: a renamed repository keeps method and body; nothing that
// a user wrote follows a redirect off the Hub, nor becomes a GET.
func TestPostRedirects(t *testing.T) {
	for _, tt := range []struct {
		status   int
		location string
		ok       bool
	}{
		{307, "/api/models/new/b/commit/main", true},
		{308, hubURL + "/api/models/new/b/commit/main", true},
		{302, "/api/models/new/b/commit/main", false},
		{303, "/api/models/new/b/commit/main", false},
		{307, "http://evil.test/api/models/new/b/commit/main", false},
		{307, "https://hub.test/api/models/new/b/commit/main", false},
	} {
		var bodies []string
		rt := roundTrip(func(req *http.Request) (*http.Response, error) {
			if req.URL.Host != "hub.test" || req.URL.Scheme != "http" {
				t.Errorf("%d %s: sent to %s", tt.status, tt.location, req.URL)
			}
			b, err := io.ReadAll(req.Body)
			if err != nil || req.Method != "POST" || req.Header.Get("Authorization") == "" {
				t.Errorf("%s with %q, %v", req.Method, req.Header.Get("Authorization"), err)
			}
			_ = req.Body.Close()
			bodies = append(bodies, string(b))
			resp := reply(200, nil, `{"commitOid":"`+string(commit)+`"}`)
			if !strings.Contains(req.URL.Path, "/new/") {
				resp = reply(tt.status, map[string]string{"Location": tt.location}, "")
			}
			resp.Request = req
			return resp, nil
		})
		c := newTest(t, rt)
		_, err := c.Commit(t.Context(), snapAB.Ref, hub.Commit{Parent: commit, Summary: "x", Ops: []hub.Op{{
			Kind: hub.OpFile, Path: "f", Size: 3, Data: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("abc")), nil }}}})
		if tt.ok != (err == nil) {
			t.Errorf("%d %s: %v", tt.status, tt.location, err)
		}
		if tt.ok && (len(bodies) != 2 || bodies[0] != bodies[1] || !strings.Contains(bodies[1], `"content":"YWJj"`)) {
			t.Errorf("bodies %q", bodies)
		}
	}
}

// TestRejectedToken: the answer 401 makes the token file be read again, so
// that a retry has what the user has just logged in with.
func TestRejectedToken(t *testing.T) {
	f := &tokenFile{path: "/nonexistent", read: true, token: new(Token), checked: time.Now()}
	*f.token = secret
	c := newTest(t, answers(401, nil, ""), func(o *Options) { o.Tokens = f })
	if err := c.AuthCheck(t.Context(), repoAB, true); !errors.Is(err, hub.ErrBadToken) {
		t.Fatal(err)
	}
	if !f.checked.IsZero() {
		t.Error("the file is not looked at again")
	}
}

// TestWriteErrors is hub-protocol §5.1 for changes other than commits.
func TestWriteErrors(t *testing.T) {
	for _, tt := range []struct {
		status int
		header map[string]string
		body   string
		want   error
	}{
		{400, nil, `{"error":"Invalid reference for a branch: x"}`, hub.ErrRefused},
		{413, nil, `too many parameters`, hub.ErrRefused},
		{422, nil, `{"errors":[{"message":"a"},{"message":"b"}]}`, hub.ErrRefused},
		{409, nil, `{"error":"Reference refs/heads/x already exists"}`, hub.ErrExists},
		{409, nil, `{"error":"Cannot create repo: another conflicting operation is in progress"}`, hub.ErrBusy},
		{412, nil, ``, hub.ErrConflict},
		{401, nil, ``, hub.ErrBadToken},
		{403, nil, ``, hub.ErrForbidden},
		{404, map[string]string{"X-Error-Code": "RepoNotFound"}, ``, hub.ErrRepoNotFound},
		{404, map[string]string{"X-Error-Code": "RevisionNotFound"}, ``, hub.ErrRevisionNotFound},
		{404, nil, `<html>`, hub.ErrBadAnswer},
		{429, map[string]string{"RateLimit": `"api";r=9;t=1`, "Retry-After": "1800"}, ``, hub.ErrLimited},
		{429, map[string]string{"RateLimit": `"api";r=9;t=1`}, `{"error":"You can retry this action in about 1 hour"}`, hub.ErrLimited},
		{503, nil, ``, hub.ErrUnavailable},
		{501, nil, ``, hub.ErrUnavailable},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := newTest(t, answers(tt.status, tt.header, tt.body))
			start := time.Now()
			err := c.CreateBranch(t.Context(), repoAB, "x", commit)
			if !errors.Is(err, tt.want) {
				t.Errorf("%d %s: %v", tt.status, tt.body, err)
			}
			if waited := time.Since(start); waited > 61*time.Second || (tt.want == hub.ErrLimited && waited > 0) {
				t.Errorf("%d: after %v", tt.status, waited)
			}
		})
	}
}
