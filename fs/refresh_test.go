package fs

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	iofs "io/fs"

	"hfmount/remote/hub"
)

// listener is a Notifier that writes down what it is told.
type listener struct {
	mu  sync.Mutex
	got []string
}

func (l *listener) add(format string, a ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.got = append(l.got, fmt.Sprintf(format, a...))
}

func (l *listener) EntryChanged(dir uint64, name string) { l.add("entry %x %s", dir, name) }
func (l *listener) DirChanged(dir uint64)                { l.add("dir %x", dir) }
func (l *listener) NamesForgotten(dir uint64)            { l.add("names %x", dir) }
func (l *listener) ContentDropped(ino uint64)            { l.add("content %x", ino) }

func (l *listener) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	got := l.got
	l.got = nil
	slices.Sort(got)
	return got
}

func with(files map[string]string, changes ...string) map[string]string {
	m := maps.Clone(files)
	for i := 0; i < len(changes); i += 2 {
		if changes[i+1] == "-" {
			delete(m, changes[i])
		} else {
			m[changes[i]] = changes[i+1]
		}
	}
	return m
}

func TestRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHub()
		files := with(someFiles, "other/z", "z", "other/deep/zz", "zz")
		h.commit(repoAB, "main", day(1), files)
		tree := newTree(t, Options{Source: h, MetaDir: t.TempDir(), Refresh: 30 * time.Second})
		l := &listener{}
		tree.SetNotifier(l)
		root := rootOf(t, tree, "a/b")
		data, other := at(t, root, "data").(*Dir), at(t, root, "other").(*Dir)
		names(t, data)
		names(t, other)
		readme, config, x := at(t, root, "README.md"), at(t, root, "config.json"), at(t, root, "data/x.txt")
		open, err := x.(*File).Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer open.Close()

		// In use and unchanged: one cheap request. Idle: none.
		h.asked()
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if n, m := h.asked("head"), 0; n != 1 {
			t.Errorf("%d, %d requests", n, m)
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if n := h.asked(); n != 0 {
			t.Errorf("%d requests when idle", n)
		}

		// Back after a while: what is shown is at most this request old.
		c2 := h.commit(repoAB, "main", day(2), with(files, "README.md", "# changed", "data/x.txt", "xx2", "data/new", "n", "config.json", "-"))
		if got := content(t, at(t, root, "README.md")); got != "# changed" {
			t.Errorf("after idling: %q", got)
		}
		synctest.Wait()
		if got := readAll(t, open); got != "xx" {
			t.Errorf("an open file reads %q", got)
		}
		rd, dd := root.Ino(), data.Ino()
		want := []string{
			fmt.Sprintf("dir %x", rd), fmt.Sprintf("dir %x", dd),
			fmt.Sprintf("entry %x README.md", rd), fmt.Sprintf("entry %x config.json", rd),
			fmt.Sprintf("entry %x new", dd), fmt.Sprintf("entry %x x.txt", dd),
		}
		slices.Sort(want)
		if got := l.take(); !slices.Equal(got, want) {
			t.Errorf("told %q, want %q", got, want)
		}
		if n := h.asked("list other", "list other/deep"); n != 0 {
			t.Error("an unchanged directory was listed")
		}
		x2 := at(t, root, "data/x.txt")
		if x2.Ino() == x.Ino() || at(t, root, "other/z").Ino() == 0 || at(t, root, "data").Ino() != data.Ino() {
			t.Error("inode numbers")
		}
		if x3 := at(t, root, "README.md"); x3.Ino() == readme.Ino() {
			t.Error("changed content kept its inode number")
		}
		if _, err := walk(t.Context(), root, "config.json"); !errors.Is(err, iofs.ErrNotExist) {
			t.Errorf("a deleted file: %v", err)
		}
		for path, day := range map[string]time.Time{"README.md": day(2), "data/new": day(2), "data/x.txt": day(2), "other/z": day(1), "other": day(1), "data": day(2), "data/deep/y.txt": day(1), "empty": day(1)} {
			if got := mtime(t, at(t, root, path)); !got.Equal(day) {
				t.Errorf("%s is of %v, want %v", path, got, day)
			}
		}
		if m, _ := at(t, root, "data/x.txt").Xattrs(t.Context()); m["user.hf.commit"] != string(c2) {
			t.Error(m)
		}
		if m, _ := config.Xattrs(t.Context()); m["user.hf.commit"] == string(c2) {
			t.Error("a deleted file says it is in the new commit")
		}

		// The background finds it too; and what went back to what it was has
		// the time it had.
		h.commit(repoAB, "main", day(3), files)
		time.Sleep(31 * time.Second)
		synctest.Wait()
		h.asked()
		if n := at(t, root, "data/x.txt"); n.Ino() != x.Ino() || !mtime(t, n).Equal(day(1)) {
			t.Errorf("reverted: %v", mtime(t, n))
		}
		if n := h.asked(); n != 0 {
			t.Errorf("%d requests after the view had moved", n)
		}

		// A check that fails, a branch that is deleted: what was is served,
		// and nobody waits for it again and again.
		for _, fail := range []error{hub.ErrUnavailable, hub.ErrRevisionNotFound, hub.ErrForbidden} {
			h.set(func() {
				h.fail = func(kind string) error {
					if kind == "head" {
						return fail
					}
					return nil
				}
			})
			time.Sleep(5 * time.Minute)
			h.asked()
			for range 10 {
				if got := content(t, at(t, root, "data/x.txt")); got != "xx" {
					t.Error(got)
				}
			}
			if n := h.asked("head"); n > 1 {
				t.Errorf("%v: %d checks for ten lookups", fail, n)
			}
			if err := tree.Refresh(t.Context()); !errors.Is(err, fail) {
				t.Errorf("Refresh: %v", err)
			}
		}
		_ = tree.Close()
		_ = tree.cache.Close()
	})
}

func TestRefreshIsWholeOrNot(t *testing.T) {
	h := newFakeHub()
	c1 := h.commit(repoAB, "main", day(1), someFiles)
	tree := newTree(t, Options{Source: h})
	root := rootOf(t, tree, "a/b")
	names(t, at(t, root, "data").(*Dir))
	h.commit(repoAB, "main", day(2), with(someFiles, "data/x.txt", "other", "README.md", "other"))
	h.set(func() {
		h.mangle = func(dir string, es []hub.Entry) []hub.Entry {
			if dir == "data" {
				return []hub.Entry{{Path: "..", OID: sha("x")}}
			}
			return es
		}
	})
	if err := tree.Refresh(t.Context()); !errors.Is(err, hub.ErrBadAnswer) {
		t.Errorf("Refresh: %v", err)
	}
	if got := content(t, at(t, root, "README.md")); got != someFiles["README.md"] || tree.Views()[0].Snapshot.Commit != c1 {
		t.Errorf("moved to a commit that cannot be listed: %q", got)
	}
	h.set(func() { h.mangle = nil })
	if err := tree.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := content(t, at(t, root, "README.md")) + content(t, at(t, root, "data/x.txt")); got != "otherother" {
		t.Error(got)
	}
}

func TestPinnedNeverAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHub()
		c := h.commit(repoAB, "main", day(1), someFiles)
		tree := newTree(t, Options{Source: h, Refresh: time.Second})
		root := rootOf(t, tree, "a/b@"+string(c))
		at(t, root, "data/deep/y.txt")
		h.asked()
		for range 10 {
			time.Sleep(time.Hour)
			at(t, root, "data/deep/y.txt")
		}
		if err := tree.Refresh(t.Context()); err != nil {
			t.Error(err)
		}
		if n := h.asked(); n != 0 {
			t.Errorf("%d requests", n)
		}
		_ = tree.Close()
		_ = tree.cache.Close()
	})
}

func TestSlowCheckDoesNotHoldUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHub()
		h.commit(repoAB, "main", day(1), someFiles)
		tree := newTree(t, Options{Source: h, Refresh: 30 * time.Second})
		root := rootOf(t, tree, "a/b")
		at(t, root, "README.md")
		time.Sleep(10 * time.Minute)
		h.commit(repoAB, "main", day(2), map[string]string{"README.md": "new"})
		gate := make(chan struct{})
		h.set(func() { h.gate = gate })
		begin := time.Now()
		if got := at(t, root, "README.md").(*File).Size(); got != 7 {
			t.Error(got)
		}
		if d := time.Since(begin); d != idleCheck {
			t.Errorf("waited %v", d)
		}
		begin = time.Now()
		at(t, root, "README.md")
		if d := time.Since(begin); d != 0 {
			t.Errorf("the next one waited %v", d)
		}
		close(gate)
		_ = tree.Close()
		_ = tree.cache.Close()
	})
}

func TestHistoryRewritten(t *testing.T) {
	h := newFakeHub()
	c1 := h.commit(repoAB, "main", day(1), someFiles)
	tree := newTree(t, Options{Source: h})
	root := rootOf(t, tree, "a/b")
	keep, err := at(t, root, "README.md").(*File).Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer keep.Close()
	lost, err := at(t, root, "config.json").(*File).Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer lost.Close()
	h.commit(repoAB, "main", day(2), with(someFiles, "config.json", "{...}"))
	h.set(func() { delete(h.commits, c1) })

	if got := readAll(t, keep); got != someFiles["README.md"] {
		t.Errorf("the same bytes are in the new commit: %q", got)
	}
	_, err = lost.ReadAt(t.Context(), make([]byte, 2), 0)
	if !errors.Is(err, hub.ErrConflict) || errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("bytes that are nowhere any more: %v", err)
	}
}

func TestListingOfLostCommit(t *testing.T) {
	h := newFakeHub()
	c1 := h.commit(repoAB, "main", day(1), someFiles)
	tree := newTree(t, Options{Source: h})
	root := rootOf(t, tree, "a/b")
	at(t, root, "README.md")
	h.set(func() { delete(h.commits, c1) })
	if _, err := walk(t.Context(), root, "data/x.txt"); !errors.Is(err, hub.ErrConflict) || errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("no commit at all: %v", err)
	}
	h.commit(repoAB, "main", day(2), someFiles)
	if got := content(t, at(t, root, "data/x.txt")); got != "xx" {
		t.Error(got)
	}
}

func TestCorruptDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHub()
		h.commit(repoAB, "main", day(1), with(someFiles, "copy/README.md", someFiles["README.md"]))
		tree := newTree(t, Options{Source: h})
		l := &listener{}
		tree.SetNotifier(l)
		root := rootOf(t, tree, "a/b")
		f, g := at(t, root, "README.md").(*File), at(t, root, "copy/README.md").(*File)
		content(t, f)
		content(t, g)
		before, other := f.Epoch(), at(t, root, "empty").(*File)
		tree.CorruptDropped(f.Content())
		synctest.Wait()
		want := []string{fmt.Sprintf("content %x", f.Ino()), fmt.Sprintf("content %x", g.Ino())}
		slices.Sort(want)
		if got := l.take(); !slices.Equal(got, want) {
			t.Errorf("told %q, want %q", got, want)
		}
		if f.Epoch() == before || f.Epoch() != g.Epoch() || other.Epoch() != before {
			t.Error("epochs")
		}
		tree.SetNotifier(nil)
		tree.CorruptDropped(f.Content())
		synctest.Wait()
		if got := l.take(); len(got) != 0 {
			t.Errorf("told %q after it was disarmed", got)
		}
		_ = tree.Close()
		_ = tree.cache.Close()
	})
}

func TestTimesSurviveRemountAndRevisions(t *testing.T) {
	h := newFakeHub()
	h.commit(repoAB, "v1", day(1), map[string]string{"same": "s", "d/same": "s", "d/x": "1"})
	h.commit(repoAB, "main", day(5), map[string]string{"same": "s", "d/same": "s", "d/x": "2"})
	dir := t.TempDir()
	tree := newTree(t, Options{Source: h, MetaDir: dir})
	root := rootOf(t, tree, "a/b")
	names(t, at(t, root, "d").(*Dir))
	names(t, at(t, rootOf(t, tree, "a/b@v1"), "d").(*Dir))
	tree.Close()

	h.commit(repoAB, "main", day(7), map[string]string{"same": "s", "d/same": "s", "d/x": "3", "d/y": "y"})
	tree = newTree(t, Options{Source: h, MetaDir: dir})
	root = rootOf(t, tree, "a/b")
	for path, day := range map[string]time.Time{"same": day(5), "d/same": day(5), "d/x": day(7), "d/y": day(7)} {
		if got := mtime(t, at(t, root, path)); !got.Equal(day) {
			t.Errorf("%s is of %v, want %v", path, got, day)
		}
	}
}

func TestDirectoryBecomesFile(t *testing.T) {
	h := newFakeHub()
	h.commit(repoAB, "main", day(1), someFiles)
	tree := newTree(t, Options{Source: h})
	root := rootOf(t, tree, "a/b")
	deep := at(t, root, "data/deep").(*Dir)
	names(t, deep)
	h.commit(repoAB, "main", day(2), map[string]string{"data": "file now"})
	if err := tree.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := content(t, at(t, root, "data")); got != "file now" {
		t.Error(got)
	}
	for _, f := range []func() error{
		func() error { _, err := deep.Attr(t.Context()); return err },
		func() error { _, _, err := deep.ReadDir(t.Context()); return err },
		func() error { _, err := deep.Lookup(t.Context(), "y.txt"); return err },
	} {
		if err := f(); !errors.Is(err, ErrNotDir) && !errors.Is(err, iofs.ErrNotExist) {
			t.Error(err)
		}
	}
}

// The kernel may believe names for ever where it is told of each change, and
// asks about directories now and then.
func TestNameTTL(t *testing.T) {
	h := newFakeHub()
	h.commit(repoAB, "main", day(1), someFiles)
	tree := newTree(t, Options{Source: h, Refresh: time.Minute})
	root := rootOf(t, tree, "a/b")
	data := at(t, root, "data").(*Dir)
	file := at(t, root, "data/x.txt")
	for what, d := range map[string]time.Duration{
		"a directory in a directory that was looked into": root.NameTTL(data), "a miss": root.NameTTL(nil),
		"a file": data.NameTTL(file), "a file's attributes": file.TTL(),
	} {
		if d != forever {
			t.Errorf("%s lasts %v", what, d)
		}
	}
	for what, d := range map[string]time.Duration{"the root's attributes": root.TTL(), "a directory's": data.TTL()} {
		if d != time.Minute {
			t.Errorf("%s last %v", what, d)
		}
	}
	v := root.kind.(*repoDir).a.view
	for i := range maxDirs {
		v.dirs[dirAt{path: fmt.Sprint(i)}] = struct{}{}
	}
	deep := at(t, root, "data/deep").(*Dir)
	if d := deep.NameTTL(at(t, deep, "y.txt")); d != time.Minute {
		t.Errorf("where nobody is told: %v", d)
	}
	whole := &Dir{&hubRoot{tree}}
	if d := whole.NameTTL(root); d != time.Minute {
		t.Errorf("a repository among others: %v", d)
	}
}

// Where it is not known any more what was shown, all of it is forgotten, and
// each name that is there now may have been believed not to be.
func TestRefreshOfForgottenListing(t *testing.T) {
	h := newFakeHub()
	h.commit(repoAB, "main", day(1), someFiles)
	tree := newTree(t, Options{Source: h})
	l := &listener{}
	tree.SetNotifier(l)
	root := rootOf(t, tree, "a/b")
	names(t, at(t, root, "data").(*Dir))
	tree.memo.(*lruMemo).c.Purge()
	h.commit(repoAB, "main", day(2), with(someFiles, "data/new", "n", "data/x.txt", "-"))
	if err := tree.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	tree.Told(t.Context())
	ino := at(t, root, "data").Ino()
	got := l.take()
	for _, want := range []string{fmt.Sprintf("names %x", ino), fmt.Sprintf("entry %x new", ino)} {
		if !slices.Contains(got, want) {
			t.Errorf("%v lacks %q", got, want)
		}
	}
	if n := tree.News(); n != uint64(len(got)) {
		t.Errorf("%d news of which %d were told", n, len(got))
	}
}
