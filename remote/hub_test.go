package remote_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hfmount/remote"
	"hfmount/remote/hub"
	"hfmount/remote/hubtest"
)

var tiny = hub.Repo{Namespace: "acme", Name: "tiny"}

// newHub makes a Hub without sockets that has acme/tiny with a 5 MB LFS file,
// small files in folders, a branch with a slash and a tag's worth of history.
func newHub(t *testing.T, o hubtest.Options) (*hubtest.Hub, []byte) {
	t.Helper()
	o.Users = append(o.Users, hubtest.User{Name: "ada", Token: "hf_adaadaada"})
	h, err := hubtest.New(o)
	if err != nil {
		t.Fatal(err)
	}
	big := make([]byte, 5_000_000)
	for i := range big {
		big[i] = byte(i * 31 >> 3)
	}
	files := map[string][]byte{
		"w.safetensors": big, "hello.txt": []byte("hello\n"), "empty.txt": {}, "d/ü #%?&+ x.txt": []byte("odd"),
	}
	for i := range 7 {
		files[fmt.Sprintf("d/e/%d.txt", i)] = fmt.Appendf(nil, "file %d", i)
	}
	must(t, h.CreateRepo(tiny, hubtest.RepoOptions{}))
	_, err = h.Commit(tiny, "main", "add files", files)
	must(t, err)
	_, err = h.Commit(tiny, "feature/x", "more", map[string][]byte{"only-here.txt": []byte("x")})
	must(t, err)
	return h, big
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newClient(t *testing.T, h *hubtest.Hub, token remote.Token) *remote.Client {
	t.Helper()
	c, err := remote.New(remote.Options{Endpoint: "http://hub.test", Tokens: remote.StaticToken(token), Transport: h.RoundTripper()})
	must(t, err)
	return c
}

func list(t *testing.T, c *remote.Client, s hub.Snapshot, dir string, recursive bool) []hub.Entry {
	t.Helper()
	var all []hub.Entry
	for e, err := range c.List(t.Context(), s, dir, recursive) {
		must(t, err)
		all = append(all, e)
	}
	return all
}

func read(ctx context.Context, c *remote.Client, s hub.Snapshot, e hub.Entry, off, n int64) ([]byte, error) {
	r, err := c.OpenRange(ctx, s, e, off, n, true)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func TestAgainstHub(t *testing.T) {
	for name, shapes := range map[string]hubtest.Shapes{
		"usual": {}, "direct": {Direct: true}, "bare": {NoLinkedOnCacheHop: true, NoCommitOnCacheHop: true}, "xet": {XetHeaders: true},
	} {
		t.Run(name, func(t *testing.T) {
			h, big := newHub(t, hubtest.Options{PageSize: 3, Shapes: shapes})
			defer h.Close()
			c := newClient(t, h, "hf_adaadaada")
			s, err := c.Resolve(t.Context(), hub.Ref{Repo: tiny})
			must(t, err)
			if s.Ref.Repo != tiny || !s.Commit.Valid() || s.Time.IsZero() || s.Private {
				t.Errorf("%+v", s)
			}
			all := list(t, c, s, "", true)
			var names []string
			for _, e := range all {
				names = append(names, e.Path)
				if e.Type != hub.File {
					continue
				}
				got, err := read(t.Context(), c, s, e, 0, e.Size)
				if err != nil || int64(len(got)) != e.Size {
					t.Errorf("%s: %d bytes of %d, %v", e.Path, len(got), e.Size, err)
				}
				if e.Path == "w.safetensors" {
					if !e.LFS() || !bytes.Equal(got, big) {
						t.Errorf("%s is wrong", e.Path)
					}
					if part, err := read(t.Context(), c, s, e, 4_999_990, 10); err != nil || !bytes.Equal(part, big[4_999_990:]) {
						t.Errorf("the end of it: %q, %v", part, err)
					}
				}
			}
			slices.Sort(names)
			want := []string{".gitattributes", "d", "d/e", "d/e/0.txt", "d/e/1.txt", "d/e/2.txt", "d/e/3.txt", "d/e/4.txt",
				"d/e/5.txt", "d/e/6.txt", "d/ü #%?&+ x.txt", "empty.txt", "hello.txt", "w.safetensors"}
			if !slices.Equal(names, want) {
				t.Errorf("listed %q", names)
			}
			if got := list(t, c, s, "d/e", false); len(got) != 7 {
				t.Errorf("d/e has %d entries", len(got))
			}
			for _, dir := range []string{"nope", "hello.txt"} {
				for _, err := range c.List(t.Context(), s, dir, false) {
					if !errors.Is(err, hub.ErrEntryNotFound) {
						t.Errorf("list %s: %v", dir, err)
					}
				}
			}
			if st := c.Stats(); !st.Online || st.API == 0 || st.LastError != nil {
				t.Errorf("%+v", st)
			}
		})
	}
}

func TestRevisionsAgainstHub(t *testing.T) {
	h, _ := newHub(t, hubtest.Options{})
	defer h.Close()
	c := newClient(t, h, "hf_adaadaada")
	ctx := t.Context()
	refs, err := c.Refs(ctx, tiny)
	must(t, err)
	for _, r := range refs {
		id, err := c.Head(ctx, hub.Ref{Repo: tiny, Revision: r.Name})
		if err != nil || id != r.Commit {
			t.Errorf("%+v: head %s, %v", r, id, err)
		}
	}
	if len(refs) != 2 {
		t.Errorf("%+v", refs)
	}
	if _, err := c.Resolve(ctx, hub.Ref{Repo: tiny, Revision: "nope"}); !errors.Is(err, hub.ErrRevisionNotFound) {
		t.Error(err)
	}
	a, err := c.WhoAmI(ctx)
	if err != nil || a.Name != "ada" {
		t.Errorf("%+v, %v", a, err)
	}
	var repos []string
	for r, err := range c.Repos(ctx, hub.Model, "acme") {
		must(t, err)
		repos = append(repos, r.Repo.String())
	}
	if !slices.Equal(repos, []string{"acme/tiny"}) {
		t.Errorf("%q", repos)
	}
	for r, err := range c.Repos(ctx, hub.Dataset, "nobody") {
		t.Errorf("%v, %v", r, err)
	}
}

func TestAccessAgainstHub(t *testing.T) {
	h, _ := newHub(t, hubtest.Options{})
	defer h.Close()
	private := hub.Repo{Namespace: "ada", Name: "private"}
	gated := hub.Repo{Type: hub.Dataset, Namespace: "acme", Name: "gated"}
	must(t, h.CreateRepo(private, hubtest.RepoOptions{Private: true}))
	must(t, h.CreateRepo(gated, hubtest.RepoOptions{Gated: "manual"}))
	_, err := h.Commit(private, "main", "add", map[string][]byte{"x": []byte("secret"), "w.bin": []byte("secret")})
	must(t, err)
	h.Redirect(hub.Repo{Name: "gpt2"}, tiny, true)
	h.Redirect(hub.Repo{Namespace: "old", Name: "name"}, tiny, false)
	anonymous, ada, wrong := newClient(t, h, ""), newClient(t, h, "hf_adaadaada"), newClient(t, h, "hf_wrongwrong")
	for _, tt := range []struct {
		c    *remote.Client
		repo hub.Repo
		want error
	}{
		{anonymous, private, hub.ErrUnauthorized},
		{anonymous, hub.Repo{Namespace: "no", Name: "body"}, hub.ErrUnauthorized},
		{ada, hub.Repo{Namespace: "no", Name: "body"}, hub.ErrRepoNotFound},
		{wrong, private, hub.ErrBadToken},
		{ada, private, nil},
		{ada, hub.Repo{Name: "gpt2"}, nil},
		{ada, hub.Repo{Namespace: "old", Name: "name"}, nil},
	} {
		s, err := tt.c.Resolve(t.Context(), hub.Ref{Repo: tt.repo})
		if !errors.Is(err, tt.want) {
			t.Errorf("resolve %v: %v, want %v", tt.repo, err, tt.want)
		}
		if err == nil && tt.repo != private && s.Ref.Repo != tiny {
			t.Errorf("%v is now %v", tt.repo, s.Ref.Repo)
		}
	}
	if err := anonymous.AuthCheck(t.Context(), gated, false); !errors.Is(err, hub.ErrGated) {
		t.Errorf("gated: %v", err)
	}
	s, err := ada.Resolve(t.Context(), hub.Ref{Repo: private})
	must(t, err)
	if !s.Private {
		t.Error("not private")
	}
	for _, e := range list(t, ada, s, "", false) {
		if e.Path == ".gitattributes" {
			continue
		}
		if got, err := read(t.Context(), ada, s, e, 0, e.Size); string(got) != "secret" {
			t.Errorf("%s: %q, %v", e.Path, got, err)
		}
		if _, err := read(t.Context(), anonymous, s, e, 0, e.Size); !errors.Is(err, hub.ErrUnauthorized) {
			t.Errorf("%s without a token: %v", e.Path, err)
		}
	}
	if err := ada.AuthCheck(t.Context(), private, true); err != nil {
		t.Error(err)
	}
}

// TestFaultsAgainstHub reads through every fault of the Hub that a read can
// meet: the right bytes in the end, and the fault did fire.
func TestFaultsAgainstHub(t *testing.T) {
	for _, f := range []hubtest.Fault{
		{Host: "cdn", Fault: "status", Status: 503, Times: 3},
		{Host: "cdn", Fault: "status", Status: 403, Times: 2},
		{Host: "cdn", Fault: "status", Status: 429, Headers: map[string]string{"Retry-After": "30"}, Times: 1},
		{Host: "hub", Path: "*/resolve/*", Fault: "status", Status: 500, Times: 3},
		{Host: "hub", Path: "*/tree/*", Fault: "status", Status: 502, Times: 3},
		{Host: "hub", Path: "*/revision/*", Fault: "reset", Times: 2},
		{Host: "cdn", Fault: "delay", MS: 60_000, Times: 1},
		{Host: "cdn", Fault: "reset", Times: 2},
		{Host: "cdn", Fault: "truncate", After: 1_000_000, Times: 4},
		{Host: "cdn", Fault: "stall", After: 1_000_000, Times: 2},
		{Host: "cdn", Fault: "wrong-range", Times: 2},
		{Host: "cdn", Fault: "ignore-range", Times: 1},
	} {
		t.Run(fmt.Sprint(f.Host, f.Path, f.Fault, f.Status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, big := newHub(t, hubtest.Options{})
				defer h.Close()
				c := newClient(t, h, "")
				must(t, h.SetFaults(f))
				s, err := c.Resolve(t.Context(), hub.Ref{Repo: tiny})
				must(t, err)
				for _, e := range list(t, c, s, "", false) {
					if e.Path != "w.safetensors" {
						continue
					}
					got, err := read(t.Context(), c, s, e, 1000, e.Size-1000)
					if err != nil || !bytes.Equal(got, big[1000:]) {
						t.Errorf("%d bytes, %v", len(got), err)
					}
				}
				if fired := h.Faults()[0].Fired; fired != f.Times {
					t.Errorf("fired %d times, want %d", fired, f.Times)
				}
				if st := c.Stats(); !st.Stalled.IsZero() {
					t.Errorf("stalled since %v", st.Stalled)
				}
			})
		})
	}
}

func TestExpiredURLsAgainstHub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, big := newHub(t, hubtest.Options{})
		defer h.Close()
		c := newClient(t, h, "")
		s, err := c.Resolve(t.Context(), hub.Ref{Repo: tiny})
		must(t, err)
		i := slices.IndexFunc(list(t, c, s, "", false), hub.Entry.LFS)
		e := list(t, c, s, "", false)[i]
		for step := range 4 {
			switch step {
			case 1:
				time.Sleep(2 * time.Hour)
			case 2:
				h.ExpireURLs()
			}
			if got, err := read(t.Context(), c, s, e, 100, 50); err != nil || !bytes.Equal(got, big[100:150]) {
				t.Errorf("step %d: %v", step, err)
			}
		}
		if n := c.Stats().Resolvers; n != 3 {
			t.Errorf("%d resolves, want 3", n)
		}
	})
}

func TestQuotaAgainstHub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := newHub(t, hubtest.Options{Quotas: true})
		defer h.Close()
		c := newClient(t, h, "") // 500 API calls in five minutes
		start := time.Now()
		for range 510 {
			if _, err := c.Head(t.Context(), hub.Ref{Repo: tiny}); err != nil {
				t.Fatal(err)
			}
		}
		if d := time.Since(start); d > 6*time.Minute || d < 3*time.Minute {
			t.Errorf("took %v: one window to wait for", d)
		}
	})
}

// Example reads the end of a file, as a reader of Parquet would.
func Example() {
	h, err := hubtest.New(hubtest.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer h.Close()
	repo := hub.Repo{Type: hub.Dataset, Namespace: "acme", Name: "web"}
	if err := h.CreateRepo(repo, hubtest.RepoOptions{}); err != nil {
		fmt.Println(err)
		return
	}
	if _, err := h.Commit(repo, "main", "add it", map[string][]byte{"0.txt": []byte("head and tail")}); err != nil {
		fmt.Println(err)
		return
	}

	c, err := remote.New(remote.Options{Endpoint: "http://hub.test", Transport: h.RoundTripper()})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	ctx := context.Background()
	s, err := c.Resolve(ctx, hub.Ref{Repo: repo})
	if err != nil {
		fmt.Println(err)
		return
	}
	for e, err := range c.List(ctx, s, "", false) {
		if err != nil {
			fmt.Println(err)
			return
		}
		if !strings.HasSuffix(e.Path, ".txt") {
			continue
		}
		r, err := c.OpenRange(ctx, s, e, e.Size-4, 4, true)
		if err != nil {
			fmt.Println(err)
			return
		}
		b, err := io.ReadAll(r)
		_ = r.Close()
		fmt.Printf("%s ends in %q %v\n", e.Path, b, err)
	}
	// Output: 0.txt ends in "tail" <nil>
}

// BenchmarkSockets streams a GB through loopback, Hub and client in one process.
func BenchmarkSockets(b *testing.B) {
	h, err := hubtest.New(hubtest.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer h.Close()
	srv, err := h.Listen("127.0.0.1:0", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer srv.Close()
	const size = 1 << 30
	if err := h.CreateRepo(tiny, hubtest.RepoOptions{}); err != nil {
		b.Fatal(err)
	}
	if _, err := h.CommitSynthetic(tiny, "main", "big", map[string]hubtest.Synthetic{"w.bin": {Size: size, Seed: 1}}); err != nil {
		b.Fatal(err)
	}
	c, err := remote.New(remote.Options{Endpoint: srv.URL})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	s, err := c.Resolve(b.Context(), hub.Ref{Repo: tiny})
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 1<<20)
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		for e, err := range c.List(b.Context(), s, "", false) {
			if err != nil {
				b.Fatal(err)
			}
			if !e.LFS() {
				continue
			}
			r, err := c.OpenRange(b.Context(), s, e, 0, e.Size, true)
			if err != nil {
				b.Fatal(err)
			}
			n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r}, buf)
			if err != nil || n != size {
				b.Fatal(n, err)
			}
			_ = r.Close()
		}
	}
}
