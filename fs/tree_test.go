package fs

import (
	"context"
	"errors"
	iofs "io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"hfmount/remote/hub"
)

var someFiles = map[string]string{
	"README.md": "# hello", "config.json": "{}", "empty": "", "data/x.txt": "xx", "data/deep/y.txt": "yyy", "é @#%.txt": "odd",
}

func TestRepo(t *testing.T) {
	h := newFakeHub()
	c := h.commit(repoAB, "main", day(1), someFiles)
	tree := newTree(t, Options{Source: h})
	root := rootOf(t, tree, "a/b")
	if got, want := names(t, root), []string{"README.md", "config.json", "data", "empty", "é @#%.txt"}; !slices.Equal(got, want) {
		t.Errorf("root: %q, want %q", got, want)
	}
	for path, want := range someFiles {
		n := at(t, root, path)
		a, err := n.Attr(t.Context())
		if err != nil || a.Size != int64(len(want)) || a.Mode != 0o444 || a.Ino != n.Ino() || !a.Mtime.Equal(day(1)) {
			t.Errorf("%s: %+v, %v", path, a, err)
		}
		if got := content(t, n); got != want {
			t.Errorf("%s: %q", path, got)
		}
	}
	h.asked()
	for _, name := range []string{"nope", "data/nope", "data/deep/y.txt.bak", "..", "a\x00b"} {
		if _, err := walk(t.Context(), root, name); !errors.Is(err, iofs.ErrNotExist) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if n := h.asked(); n != 0 {
		t.Errorf("names that a complete listing lacks cost %d requests", n)
	}
	if _, err := root.Lookup(t.Context(), strings.Repeat("x", 256)); !errors.Is(err, ErrNameTooLong) {
		t.Error(err)
	}
	want := map[string]string{
		"user.hf.repo": "a/b", "user.hf.revision": "main", "user.hf.commit": string(c),
		"user.hf.oid": blobID("xx"), "user.hf.url": "hub://a/b/" + string(c) + "/data/x.txt",
	}
	if got, err := at(t, root, "data/x.txt").Xattrs(t.Context()); err != nil || !maps.Equal(got, want) {
		t.Errorf("xattrs %v, %v", got, err)
	}
	if got, err := at(t, root, "data").Xattrs(t.Context()); err != nil || got["user.hf.oid"] != h.commits[c].treeID("data") {
		t.Errorf("xattrs of a directory %v, %v", got, err)
	}
	if v := tree.Views(); len(v) != 1 || v[0].Snapshot.Commit != c || v[0].Files != 8 {
		t.Errorf("views %+v", v)
	}
}

func TestLocations(t *testing.T) {
	h := newFakeHub()
	c := h.commit(repoAB, "main", day(1), someFiles)
	h.commit(repoAB, "refs/pr/1", day(2), map[string]string{"pr": "1"})
	h.renamed[hub.Repo{Name: "b"}] = repoAB
	tree := newTree(t, Options{Source: h})
	if d := rootOf(t, tree, "a/b/data"); !slices.Equal(names(t, d), []string{"deep", "x.txt"}) {
		t.Error("sub-folder")
	}
	if d := rootOf(t, tree, "a/b@refs/pr/1"); !slices.Equal(names(t, d), []string{"pr"}) {
		t.Error("special ref")
	}
	if d := rootOf(t, tree, "b@main/data/deep"); !slices.Equal(names(t, d), []string{"y.txt"}) {
		t.Error("canonical id")
	}
	pinned := rootOf(t, tree, "a/b@"+string(c))
	if pinned.TTL() != forever {
		t.Error("a commit does not last")
	}
	for loc, want := range map[string]error{
		"a/b/README.md": ErrNotDir, "a/b/README.md/x": ErrNotDir, "a/b/nope": hub.ErrEntryNotFound,
		"a/b@nope": hub.ErrRevisionNotFound, "a/nope": hub.ErrUnauthorized,
	} {
		l, err := hub.ParseArg(loc, "")
		if err != nil {
			t.Fatal(err)
		}
		if want == hub.ErrEntryNotFound {
			want = iofs.ErrNotExist
		}
		if _, err := tree.Root(t.Context(), l); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", loc, err, want)
		}
	}
	n, err := tree.Node(t.Context(), hub.Location{Ref: hub.Ref{Repo: repoAB}, Path: "data/x.txt"})
	if err != nil || content(t, n) != "xx" {
		t.Error(err)
	}
	if _, err := tree.Node(t.Context(), hub.Location{Ref: hub.Ref{Repo: repoAB, Revision: strings.Repeat("1", 40)}}); !errors.Is(err, iofs.ErrNotExist) {
		t.Error(err)
	}
}

func TestRemount(t *testing.T) {
	h := newFakeHub()
	h.commit(repoAB, "main", day(1), someFiles)
	dir := t.TempDir()
	visit := func(o Options) (inos []uint64) {
		t.Helper()
		o.Source, o.MetaDir = h, dir
		tree := newTree(t, o)
		defer tree.Close()
		root := rootOf(t, tree, "a/b")
		err := iofs.WalkDir(tree.FS(t.Context(), root), ".", func(p string, e iofs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := e.Info()
			if err == nil {
				inos = append(inos, info.Sys().(Node).Ino())
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return inos
	}
	first := visit(Options{})
	h.asked()
	if again := visit(Options{}); !slices.Equal(first, again) {
		t.Errorf("inode numbers %v, then %v", first, again)
	}
	if n := h.asked(); n != 1 {
		t.Errorf("a remount cost %d requests", n)
	}
	visit(Options{Offline: true})
	if n := h.asked(); n != 0 {
		t.Errorf("offline cost %d requests", n)
	}
	slices.Sort(first)
	if first = slices.Compact(first); len(first) != 9 || first[0] <= 1 {
		t.Errorf("inode numbers %v", first)
	}

	// Damage is not believed.
	err := filepath.WalkDir(dir, func(p string, e iofs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		b[len(b)/2] ^= 1
		return os.WriteFile(p, b, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := visit(Options{}); len(got) != 9 {
		t.Error(got)
	}
	if n := h.asked("list"); n != 3 {
		t.Errorf("damaged listings cost %d requests", n)
	}
}

func TestOffline(t *testing.T) {
	h := newFakeHub()
	c := h.commit(repoAB, "main", day(1), someFiles)
	dir := t.TempDir()
	tree := newTree(t, Options{Source: h, MetaDir: dir})
	names(t, rootOf(t, tree, "a/b"))
	tree.Close()
	h.asked()

	tree = newTree(t, Options{Source: h, MetaDir: dir, Offline: true, Refresh: time.Second})
	root := rootOf(t, tree, "a/b")
	if _, err := walk(t.Context(), root, "data/x.txt"); !errors.Is(err, hub.ErrOffline) || errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("an unlisted directory: %v", err)
	}
	if _, err := walk(t.Context(), root, "nope"); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("a name that a complete listing lacks: %v", err)
	}
	f, err := at(t, root, "README.md").(*File).Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReadAt(t.Context(), make([]byte, 7), 0); !errors.Is(err, hub.ErrOffline) {
		t.Errorf("bytes that are not in the cache: %v", err)
	}
	f.Close()
	rootOf(t, tree, "a/b@"+string(c)) // known as a commit of main
	if _, err := tree.Root(t.Context(), hub.Location{Ref: hub.Ref{Repo: repoAB, Revision: "v1"}}); !errors.Is(err, hub.ErrOffline) {
		t.Error(err)
	}
	whole := rootOf(t, tree, "hf://")
	if got := names(t, whole); !slices.Equal(got, []string{"a", "datasets", "spaces"}) {
		t.Error(got)
	}
	if got := names(t, at(t, whole, "a").(*Dir)); !slices.Equal(got, []string{"b"}) {
		t.Error(got)
	}
	if got := names(t, at(t, whole, "a/b@").(*Dir)); !slices.Equal(got, []string{"main"}) {
		t.Error(got)
	}
	if n := h.asked(); n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestHostile(t *testing.T) {
	good := hub.Entry{Path: "good", Size: 1, OID: blobID("x")}
	sub := hub.Entry{Path: "data", Type: hub.Directory, OID: sha("t")}
	for name, e := range map[string]hub.Entry{
		"slash":    {Path: "x/y", OID: good.OID},
		"absolute": {Path: "/x", OID: good.OID},
		"dotdot":   {Path: "..", OID: good.OID},
		"dot":      {Path: ".", OID: good.OID},
		"nul":      {Path: "a\x00", OID: good.OID},
		"utf8":     {Path: "a\xff", OID: good.OID},
		"long":     {Path: strings.Repeat("x", 1000), OID: good.OID},
		"empty":    {Path: "", OID: good.OID},
		"negative": {Path: "x", Size: -1, OID: good.OID},
		"absurd":   {Path: "x", Size: hub.MaxSize + 1, OID: good.OID},
		"oid":      {Path: "x", OID: "abc"},
		"sha256":   {Path: "x", OID: good.OID, SHA256: "abc"},
		"twice":    {Path: "good", OID: good.OID},
		"tree too": {Path: "good", Type: hub.Directory, OID: good.OID},
	} {
		t.Run(name, func(t *testing.T) {
			h := newFakeHub()
			h.commit(repoAB, "main", day(1), someFiles)
			dir := t.TempDir()
			tree := newTree(t, Options{Source: h, MetaDir: dir})
			root := rootOf(t, tree, "a/b")
			h.set(func() { h.mangle = func(string, []hub.Entry) []hub.Entry { return []hub.Entry{good, sub, e} } })
			for range 2 {
				if _, err := root.Lookup(t.Context(), "good"); !errors.Is(err, hub.ErrBadAnswer) || errors.Is(err, iofs.ErrNotExist) {
					t.Errorf("lookup: %v", err)
				}
			}
			if n := h.asked("list"); n != 2 {
				t.Errorf("asked %d times: something was cached", n)
			}
			h.set(func() { h.mangle = nil })
			at(t, root, "data/x.txt")
		})
	}
}

func TestUnknownEntriesAreHidden(t *testing.T) {
	h := newFakeHub()
	h.commit(repoAB, "main", day(1), someFiles)
	h.mangle = func(_ string, es []hub.Entry) []hub.Entry {
		return append(es, hub.Entry{Path: "module", Type: hub.Unknown, OID: sha("m")})
	}
	tree := newTree(t, Options{Source: h})
	if slices.Contains(names(t, rootOf(t, tree, "a/b")), "module") {
		t.Error("a submodule is shown")
	}
}

func TestTransientFailure(t *testing.T) {
	h := newFakeHub()
	h.commit(repoAB, "main", day(1), someFiles)
	tree := newTree(t, Options{Source: h})
	root := rootOf(t, tree, "a/b")
	h.set(func() { h.fail = func(string) error { return hub.ErrUnavailable } })
	if _, err := root.Lookup(t.Context(), "nope"); !errors.Is(err, hub.ErrUnavailable) || errors.Is(err, iofs.ErrNotExist) {
		t.Error(err)
	}
	h.set(func() { h.fail = nil })
	at(t, root, "README.md")
}

func TestWalkFillsInAtOnce(t *testing.T) {
	h := newFakeHub()
	files := map[string]string{}
	for _, d := range strings.Split("abcdefghijklmnopqrst", "") {
		files["dir"+d+"/one"] = d
		files["dir"+d+"/sub/two"] = d + d
	}
	h.commit(repoAB, "main", day(1), files)
	tree := newTree(t, Options{Source: h, MetaDir: t.TempDir()})
	root := rootOf(t, tree, "a/b")
	at(t, root, "dira/sub/two")
	if n := h.asked("recursive"); n != 0 {
		t.Error("one path down is no walk")
	}
	at(t, root, "dirb/one")
	at(t, root, "dirc/one")
	v := tree.view(hub.Ref{Repo: repoAB})
	deadline := time.Now().Add(30 * time.Second)
	for v.cur.Load().local("dirt/sub") == nil {
		if time.Now().After(deadline) {
			t.Fatal("the rest was not filled in")
		}
		time.Sleep(time.Millisecond)
	}
	// Everything is there but perhaps for what was still being stored.
	tree.Close()
	h.asked()
	tree = newTree(t, Options{Source: h, MetaDir: tree.meta.dir})
	root = rootOf(t, tree, "a/b")
	if err := fstest.TestFS(tree.FS(t.Context(), root), slices.Collect(maps.Keys(files))...); err != nil {
		t.Error(err)
	}
}

func TestFillRefusesOrphans(t *testing.T) {
	h := newFakeHub()
	h.commit(repoAB, "main", day(1), someFiles)
	tree := newTree(t, Options{Source: h, MetaDir: t.TempDir()})
	rootOf(t, tree, "a/b")
	st := tree.view(hub.Ref{Repo: repoAB}).cur.Load()
	h.set(func() {
		h.mangle = func(_ string, es []hub.Entry) []hub.Entry {
			return slices.DeleteFunc(es, func(e hub.Entry) bool { return e.Path == "data" })
		}
	})
	st.fill(t.Context())
	if st.local("") != nil {
		t.Error("a listing with holes was kept")
	}
	h.set(func() { h.mangle = nil })
	st.fill(t.Context())
	if st.local("data/deep") == nil {
		t.Error("a good one was not")
	}
}

func TestOneRequestForMany(t *testing.T) {
	h := newFakeHub()
	h.commit(repoAB, "main", day(1), someFiles)
	gate := make(chan struct{})
	tree := newTree(t, Options{Source: h})
	root := rootOf(t, tree, "a/b")
	h.set(func() { h.gate = gate })

	// One that gives up neither waits nor spoils it for the others.
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := root.Lookup(ctx, "README.md"); !errors.Is(err, context.Canceled) {
			t.Errorf("interrupted: %v", err)
		}
	})
	for range 8 {
		wg.Go(func() {
			if _, err := root.Lookup(t.Context(), "README.md"); err != nil {
				t.Error(err)
			}
		})
	}
	waiting := func() int {
		tree.loading.mu.Lock()
		defer tree.loading.mu.Unlock()
		for _, fl := range tree.loading.m {
			return fl.waiters
		}
		return 0
	}
	for waiting() < 9 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	for waiting() > 8 {
		time.Sleep(time.Millisecond)
	}
	close(gate)
	wg.Wait()
	if n := h.asked("list"); n != 1 {
		t.Errorf("%d requests", n)
	}
}

func TestClosed(t *testing.T) {
	h := newFakeHub()
	h.commit(repoAB, "main", day(1), someFiles)
	tree := newTree(t, Options{Source: h})
	root := rootOf(t, tree, "a/b")
	tree.Close()
	if _, err := root.Lookup(t.Context(), "README.md"); !errors.Is(err, iofs.ErrClosed) {
		t.Error(err)
	}
}

func TestIOFS(t *testing.T) {
	h := newFakeHub()
	h.commit(repoAB, "main", day(1), someFiles)
	for _, dir := range []string{"", t.TempDir()} {
		tree := newTree(t, Options{Source: h, MetaDir: dir})
		fsys := tree.FS(t.Context(), rootOf(t, tree, "a/b"))
		if err := fstest.TestFS(fsys, slices.Collect(maps.Keys(someFiles))...); err != nil {
			t.Error(err)
		}
		if b, err := iofs.ReadFile(fsys, "data/deep/y.txt"); err != nil || string(b) != "yyy" {
			t.Errorf("%q, %v", b, err)
		}
		if _, err := iofs.ReadFile(fsys, "data"); !errors.Is(err, ErrIsDir) {
			t.Error(err)
		}
		if _, err := iofs.Stat(fsys, "README.md/x"); !errors.Is(err, ErrNotDir) {
			t.Error(err)
		}
	}
}
