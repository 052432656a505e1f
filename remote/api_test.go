package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"hfmount/remote/hub"
)

func TestErrorKinds(t *testing.T) {
	code := func(s string) map[string]string {
		return map[string]string{"X-Error-Code": s, "X-Request-Id": "Root=1-abc"}
	}
	for _, tt := range []struct {
		status   int
		header   map[string]string
		body     string
		token    string
		want     error
		notExist bool
		denied   bool
	}{
		{401, nil, `{"error":"Invalid username or password."}`, "", hub.ErrUnauthorized, false, true},
		{401, nil, `{"error":"Invalid credentials in Authorization header"}`, secret, hub.ErrBadToken, false, true},
		{401, code("GatedRepo"), "", "", hub.ErrGated, false, true},
		{403, code("GatedRepo"), "", secret, hub.ErrGated, false, true},
		{403, nil, `{"error":"Access to this resource is disabled."}`, secret, hub.ErrForbidden, false, true},
		{404, code("RepoNotFound"), `{"error":"Repository not found"}`, secret, hub.ErrRepoNotFound, true, false},
		{404, code("RevisionNotFound"), "", "", hub.ErrRevisionNotFound, true, false},
		{404, code("EntryNotFound"), "", "", hub.ErrEntryNotFound, true, false},
		{404, nil, "<html>404 Not Found</html>", "", hub.ErrBadAnswer, false, false},
		{412, nil, "", secret, hub.ErrConflict, false, false},
		{304, nil, "", "", hub.ErrBadAnswer, false, false},
		{501, nil, "", "", hub.ErrUnavailable, false, false},
		{400, nil, `{"error":["a","b"]}`, "", nil, false, false},
	} {
		c := newTest(t, answers(tt.status, tt.header, tt.body), func(o *Options) { o.Tokens = StaticToken(Token(tt.token)) })
		_, err := c.Resolve(t.Context(), snapAB.Ref)
		if err == nil || (tt.want != nil && !errors.Is(err, tt.want)) {
			t.Errorf("%d %v: %v, want %v", tt.status, tt.header, err, tt.want)
			continue
		}
		if got := errors.Is(err, iofs.ErrNotExist); got != tt.notExist {
			t.Errorf("%d: not exist is %v", tt.status, got)
		}
		if got := errors.Is(err, iofs.ErrPermission); got != tt.denied {
			t.Errorf("%d: permission is %v", tt.status, got)
		}
		var e *Error
		if !errors.As(err, &e) || e.Status != tt.status || e.Repo != repoAB || e.Op != "resolve" {
			t.Errorf("%d: %#v", tt.status, err)
		}
		if tt.header != nil && (e.RequestID != "Root=1-abc" || !strings.Contains(err.Error(), "Root=1-abc")) {
			t.Errorf("%d: the request id is missing in %q", tt.status, err)
		}
	}
}

// TestNoErrnoLeaks: what the network layer says must not pass for the answer
// to a file operation.
func TestNoErrnoLeaks(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.ENOENT, syscall.EACCES, syscall.ECONNREFUSED} {
		synctest.Test(t, func(t *testing.T) {
			c := newTest(t, roundTrip(func(*http.Request) (*http.Response, error) {
				return nil, &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", errno)}
			}))
			start := time.Now()
			_, err := c.Resolve(t.Context(), snapAB.Ref)
			var n syscall.Errno
			if !errors.Is(err, hub.ErrUnavailable) || errors.As(err, &n) || errors.Is(err, iofs.ErrNotExist) || errors.Is(err, iofs.ErrPermission) {
				t.Errorf("%v: %v", errno, err)
			}
			if c.Stats().Online {
				t.Error("online")
			}
			if time.Since(start) > 5*time.Second {
				t.Errorf("it took %v to say that nobody answers there", time.Since(start))
			}
		})
	}
}

// TestWrongPeer: a certificate does not get better by asking again.
func TestWrongPeer(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.NotFoundHandler())
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	defer srv.Close()
	n := 0
	api, _ := newTransports(1)
	defer api.CloseIdleConnections()
	c := newTest(t, roundTrip(func(req *http.Request) (*http.Response, error) {
		n++
		return api.RoundTrip(req)
	}), func(o *Options) { o.Endpoint = srv.URL })
	if _, err := c.Head(t.Context(), snapAB.Ref); !errors.Is(err, hub.ErrUnavailable) || !strings.Contains(err.Error(), "certificate") || n != 1 {
		t.Errorf("%d tries, %v", n, err)
	}
}

func TestRetry(t *testing.T) {
	info := fmt.Sprintf(`{"id":"a/b","sha":%q,"lastModified":"2026-07-01T12:00:00.000Z"}`, commit)
	for _, tt := range []struct {
		name     string
		first    []*http.Response
		min, max time.Duration
		want     error
	}{
		{"transient", []*http.Response{reply(503, nil, ""), reply(500, nil, ""), reply(408, nil, "")}, 3 * time.Second, 8 * time.Second, nil},
		{"window", []*http.Response{reply(429, map[string]string{"RateLimit": `"api";r=0;t=200`}, "")}, 201 * time.Second, 201 * time.Second, nil},
		{"action limit", []*http.Response{reply(429, map[string]string{"RateLimit": `"api";r=400;t=200`, "Retry-After": "7"}, "")}, 7 * time.Second, 7 * time.Second, nil},
		{"too long", []*http.Response{reply(429, map[string]string{"Retry-After": "3000"}, "")}, 0, 0, hub.ErrUnavailable},
		{"for ever", slices.Repeat([]*http.Response{reply(502, nil, "")}, 100), 50 * time.Second, time.Minute, hub.ErrUnavailable},
		{"permanent", []*http.Response{reply(403, nil, "")}, 0, 0, hub.ErrForbidden},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := 0
				c := newTest(t, roundTrip(func(req *http.Request) (*http.Response, error) {
					resp := reply(200, nil, info)
					if n < len(tt.first) {
						resp = tt.first[n]
					}
					n++
					resp.Request = req
					return resp, nil
				}))
				start := time.Now()
				_, err := c.Resolve(t.Context(), snapAB.Ref)
				if d := time.Since(start); d < tt.min || d > tt.max {
					t.Errorf("took %v, want %v to %v", d, tt.min, tt.max)
				}
				if !errors.Is(err, tt.want) {
					t.Errorf("%v, want %v", err, tt.want)
				}
			})
		})
	}
}

func TestStalledAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		c := newTest(t, roundTrip(func(req *http.Request) (*http.Response, error) {
			if n++; n == 1 {
				<-req.Context().Done()
				return nil, req.Context().Err()
			}
			resp := reply(200, nil, `{"id":"a/b","sha":"`+string(commit)+`"}`)
			if n == 2 {
				resp = broken(resp, req, 5, true)
			}
			resp.Request = req
			return resp, nil
		}))
		start := time.Now()
		if _, err := c.Head(t.Context(), snapAB.Ref); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d < 40*time.Second || d > 44*time.Second {
			t.Errorf("took %v: 30 s for the first byte, 10 s for the rest", d)
		}
	})
}

func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTest(t, roundTrip(func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			return nil, req.Context().Err()
		}))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Head(ctx, snapAB.Ref); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, hub.ErrUnavailable) {
			t.Error(err)
		}
		if s := c.Stats(); !s.Online || s.LastError != nil {
			t.Errorf("the caller gave up, and the Hub is blamed: %+v", s)
		}
	})
}

func TestResolve(t *testing.T) {
	var asked string
	c := newTest(t, roundTrip(func(req *http.Request) (*http.Response, error) {
		asked = req.URL.RequestURI()
		resp := reply(200, nil, `{"id":"new/name","sha":"`+string(commit)+`","lastModified":"2026-07-01T12:00:00.000Z","private":true,"gated":"auto"}`)
		if strings.HasPrefix(asked, "/api/datasets/gpt2/") {
			resp = reply(307, map[string]string{"Location": strings.Replace(asked, "gpt2", "new/name", 1)}, "Temporary Redirect")
		}
		if req.Header.Get("Authorization") != "Bearer "+secret {
			t.Errorf("%s was not shown the token", asked)
		}
		resp.Request = req
		return resp, nil
	}))
	got, err := c.Resolve(t.Context(), hub.Ref{Repo: hub.Repo{Type: hub.Dataset, Name: "gpt2"}, Revision: "refs/pr/1"})
	want := hub.Snapshot{
		Ref:    hub.Ref{Repo: hub.Repo{Type: hub.Dataset, Namespace: "new", Name: "name"}, Revision: "refs/pr/1"},
		Commit: commit, Time: time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC), Private: true, Gated: true,
	}
	if err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	if want := "/api/datasets/new/name/revision/refs%2Fpr%2F1?expand=sha&expand=lastModified&expand=private&expand=gated"; asked != want {
		t.Errorf("asked %s, want %s", asked, want)
	}
	asked = ""
	if id, err := c.Head(t.Context(), hub.Ref{Repo: repoAB, Revision: string(commit)}); err != nil || id != commit || asked != "" {
		t.Errorf("the head of a commit: %v, %v, asked %q", id, err, asked)
	}
}

func TestResolveNonsense(t *testing.T) {
	for _, body := range []string{
		`{"id":"a/b","sha":"short"}`, `{"id":"a/../b","sha":"` + string(commit) + `"}`, `{"id":"","sha":"` + string(commit) + `"}`,
		`{"id":"/b","sha":"` + string(commit) + `"}`, `[]`, `<html>login</html>`, ``,
	} {
		c := newTest(t, answers(200, nil, body))
		if s, err := c.Resolve(t.Context(), snapAB.Ref); !errors.Is(err, hub.ErrBadAnswer) {
			t.Errorf("%s: %+v, %v", body, s, err)
		}
	}
	c := newTest(t, answers(200, nil, `{"id":"a/b","sha":"`+string(commit)+`"}`))
	if _, err := c.Resolve(t.Context(), hub.Ref{Repo: repoAB, Revision: strings.Repeat("1", 40)}); !errors.Is(err, hub.ErrBadAnswer) {
		t.Errorf("another commit than asked for: %v", err)
	}
	for _, ref := range []hub.Ref{{Repo: hub.Repo{Namespace: "a", Name: ".."}}, {Repo: repoAB, Revision: ".."}, {Repo: repoAB, Revision: "a b"}} {
		if _, err := c.Resolve(t.Context(), ref); !errors.Is(err, iofs.ErrInvalid) {
			t.Errorf("%v: %v", ref, err)
		}
	}
}

func TestOffline(t *testing.T) {
	c := newTest(t, roundTrip(func(req *http.Request) (*http.Response, error) {
		t.Errorf("a request to %s", req.URL)
		return nil, errors.New("no")
	}), func(o *Options) { o.Offline = true })
	ctx := t.Context()
	var errs []error
	add := func(err error) { errs = append(errs, err) }
	_, err := c.Resolve(ctx, snapAB.Ref)
	add(err)
	_, err = c.Head(ctx, snapAB.Ref)
	add(err)
	_, err = c.Refs(ctx, repoAB)
	add(err)
	_, err = c.WhoAmI(ctx)
	add(err)
	add(c.AuthCheck(ctx, repoAB, true))
	for _, err := range c.List(ctx, snapAB, "", true) {
		add(err)
	}
	for _, err := range c.Repos(ctx, hub.Model, "a") {
		add(err)
	}
	s := &script{data: []byte("x")}
	_, err = c.OpenRange(ctx, snapAB, s.entry(), 0, 1, true)
	add(err)
	if len(errs) != 8 {
		t.Errorf("%d answers", len(errs))
	}
	for i, err := range errs {
		if !errors.Is(err, hub.ErrOffline) {
			t.Errorf("%d: %v", i, err)
		}
	}
}

func TestWhoAmI(t *testing.T) {
	c := newTest(t, answers(200, nil, `{"name":"ada","orgs":[{"name":"acme"},{"name":"../x"}]}`))
	a, err := c.WhoAmI(t.Context())
	if err != nil || a.Name != "ada" || !slices.Equal(a.Orgs, []string{"acme"}) {
		t.Errorf("%+v, %v", a, err)
	}
	c = newTest(t, roundTrip(func(*http.Request) (*http.Response, error) {
		t.Error("asked without a token")
		return nil, errors.New("no")
	}), func(o *Options) { o.Tokens = nil })
	if _, err := c.WhoAmI(t.Context()); !errors.Is(err, hub.ErrUnauthorized) {
		t.Error(err)
	}
}

func TestRefs(t *testing.T) {
	one := func(name, ref string) string {
		return fmt.Sprintf(`{"name":%q,"ref":%q,"targetCommit":%q}`, name, ref, commit)
	}
	c := newTest(t, answers(200, nil, `{"branches":[`+one("feature/x", "refs/heads/feature/x")+`],"tags":[`+one("v1", "refs/tags/v1")+
		`],"converts":[`+one("parquet", "refs/convert/parquet")+`],"pullRequests":[`+one("1", "refs/pr/1")+`]}`))
	got, err := c.Refs(t.Context(), repoAB)
	want := []hub.GitRef{{Name: "feature/x", Commit: commit, Kind: hub.Branch}, {Name: "v1", Commit: commit, Kind: hub.Tag},
		{Name: "refs/convert/parquet", Commit: commit, Kind: hub.Convert}, {Name: "refs/pr/1", Commit: commit, Kind: hub.PullRequest}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	c = newTest(t, answers(200, nil, `{"branches":[`+one("../../x", "refs/heads/x")+`]}`))
	if _, err := c.Refs(t.Context(), repoAB); !errors.Is(err, hub.ErrBadAnswer) {
		t.Error(err)
	}
}

func TestRepos(t *testing.T) {
	c := newTest(t, answers(200, nil, `[{"id":"Acme/x","private":true},{"id":"other/y"},{"id":"gpt2"}]`))
	var got []hub.RepoInfo
	for r, err := range c.Repos(t.Context(), hub.Space, "acme") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, r)
	}
	if len(got) != 1 || got[0].Repo.String() != "spaces/Acme/x" || !got[0].Private {
		t.Errorf("%+v", got)
	}
}
