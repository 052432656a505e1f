package fs_test

import (
	"bytes"
	"errors"
	"fmt"
	iofs "io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"hfmount/blockcache"
	"hfmount/fs"
	"hfmount/remote"
	"hfmount/remote/hub"
	"hfmount/remote/hubtest"
)

// wired is a tree on the real client and the Hub in a process.
type wired struct {
	hub    *hubtest.Hub
	client *remote.Client
	tree   *fs.Tree
}

func wire(t *testing.T, ho hubtest.Options, fo fs.Options) *wired {
	t.Helper()
	h, err := hubtest.New(ho)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return wireTo(t, h, "", fo)
}

func wireTo(t *testing.T, h *hubtest.Hub, token remote.Token, fo fs.Options) *wired {
	t.Helper()
	c, err := remote.New(remote.Options{Endpoint: "http://hub.test", Transport: h.RoundTripper(), Tokens: remote.StaticToken(token)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	cache, err := blockcache.Open(blockcache.Options{MemoryBytes: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cache.Close() })
	fo.Source, fo.Cache = c, cache
	tree, err := fs.New(fo)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tree.Close() })
	return &wired{h, c, tree}
}

func (w *wired) fs(t *testing.T, loc string) iofs.FS {
	t.Helper()
	l, err := hub.ParseArg(loc, "http://hub.test")
	if err != nil {
		t.Fatal(err)
	}
	d, err := w.tree.Root(t.Context(), l)
	if err != nil {
		t.Fatalf("%s: %v", loc, err)
	}
	return w.tree.FS(t.Context(), d)
}

func TestThroughTheClient(t *testing.T) {
	w := wire(t, hubtest.Options{PageSize: 7}, fs.Options{MetaDir: t.TempDir()})
	repo := hub.Repo{Namespace: "ada", Name: "tiny"}
	if err := w.hub.CreateRepo(repo, hubtest.RepoOptions{}); err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{
		"hello.txt": []byte("hello\n"), "empty": {}, "weights.bin": bytes.Repeat([]byte{0, 1, 2, 3}, 1<<14),
		"a b/c#d?e%f/é.txt": []byte("odd names"), "x@y/z@1": []byte("at"),
	}
	for i := range 40 {
		files[fmt.Sprintf("many/f%02d/part", i)] = []byte(fmt.Sprint(i))
	}
	if _, err := w.hub.Commit(repo, "main", "all", files); err != nil {
		t.Fatal(err)
	}
	fsys := w.fs(t, "ada/tiny")
	if err := fstest.TestFS(fsys, slices.Collect(maps.Keys(files))...); err != nil {
		t.Error(err)
	}
	for name, want := range files {
		if got, err := iofs.ReadFile(fsys, name); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	info, err := iofs.Stat(fsys, "weights.bin")
	if err != nil {
		t.Fatal(err)
	}
	x, err := info.Sys().(fs.Node).Xattrs(t.Context())
	if err != nil || len(x["user.hf.sha256"]) != 64 || !strings.Contains(x["user.hf.url"], "/blob/") {
		t.Errorf("%v, %v", x, err)
	}
	if n := w.hub.Stats().LeakedTokens; n != 0 {
		t.Errorf("%d tokens leaked", n)
	}
}

func TestRefreshThroughTheClient(t *testing.T) {
	w := wire(t, hubtest.Options{}, fs.Options{Refresh: time.Hour})
	repo := hub.Repo{Type: hub.Dataset, Namespace: "ada", Name: "rows"}
	if err := w.hub.CreateRepo(repo, hubtest.RepoOptions{}); err != nil {
		t.Fatal(err)
	}
	put := func(files map[string][]byte) {
		t.Helper()
		if _, err := w.hub.Commit(repo, "main", "change", files); err != nil {
			t.Fatal(err)
		}
	}
	put(map[string][]byte{"d/one": []byte("1"), "d/two": []byte("2"), "e/x": []byte("x")})
	fsys := w.fs(t, "datasets/ada/rows")
	read := func(name string) string {
		b, err := iofs.ReadFile(fsys, name)
		if err != nil {
			return "error: " + err.Error()
		}
		return string(b)
	}
	if got := read("d/one") + read("d/two") + read("e/x"); got != "12x" {
		t.Fatal(got)
	}
	w.hub.ResetStats()
	if err := w.tree.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := w.hub.Stats().Total; n != 1 {
		t.Errorf("an unchanged branch costs %d requests", n)
	}
	put(map[string][]byte{"d/one": []byte("one"), "d/two": nil, "d/three": []byte("3")})
	if got := read("d/one"); got != "1" {
		t.Errorf("moved before it looked: %q", got)
	}
	if err := w.tree.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := read("d/one") + read("d/three") + read("e/x"); got != "one3x" {
		t.Error(got)
	}
	if _, err := iofs.Stat(fsys, "d/two"); !errors.Is(err, iofs.ErrNotExist) {
		t.Error(err)
	}
}

func TestWholeHubThroughTheClient(t *testing.T) {
	h, err := hubtest.New(hubtest.Options{Users: []hubtest.User{{Name: "ada", Token: "hf_ada"}, {Name: "bob", Token: "hf_bob"}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	public, secret := hub.Repo{Namespace: "org", Name: "gpt2"}, hub.Repo{Namespace: "ada", Name: "secret"}
	for r, o := range map[hub.Repo]hubtest.RepoOptions{public: {}, secret: {Private: true}} {
		if err := h.CreateRepo(r, o); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Commit(r, "main", "x", map[string][]byte{"f": []byte(r.Name)}); err != nil {
			t.Fatal(err)
		}
	}
	h.Redirect(hub.Repo{Name: "gpt2"}, public, true)
	ada, nobody := wireTo(t, h, "hf_ada", fs.Options{}), wireTo(t, h, "", fs.Options{})
	for _, w := range []*wired{ada, nobody} {
		fsys := w.fs(t, "hf://")
		for _, p := range []string{"org/gpt2/f", "org/gpt2@main/f", "gpt2/f"} {
			if b, err := iofs.ReadFile(fsys, p); err != nil || string(b) != "gpt2" {
				t.Errorf("%s: %q, %v", p, b, err)
			}
		}
		for _, p := range []string{"nobody-at-all", "datasets/nobody-at-all", "org/gpt2@nope", "org/gpt2/nope"} {
			if _, err := iofs.Stat(fsys, p); !errors.Is(err, iofs.ErrNotExist) {
				t.Errorf("%s: %v", p, err)
			}
		}
	}
	fsys := ada.fs(t, "hf://")
	if b, err := iofs.ReadFile(fsys, "ada/secret/f"); err != nil || string(b) != "secret" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := iofs.Stat(fsys, "ada/nope"); !errors.Is(err, iofs.ErrNotExist) {
		t.Error(err)
	}
	es, err := iofs.ReadDir(fsys, "org/gpt2@")
	if err != nil || len(es) != 1 || es[0].Name() != "main" {
		t.Errorf("%v, %v", es, err)
	}
	if _, err := iofs.Stat(nobody.fs(t, "hf://"), "ada/secret"); !errors.Is(err, iofs.ErrNotExist) && !errors.Is(err, iofs.ErrPermission) {
		t.Error(err)
	}
}
