package fs

import (
	"context"
	"errors"
	iofs "io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"hfmount/remote/hub"
	"hfmount/writeback"
)

func TestWriteAndLook(t *testing.T) {
	d := newDesk(t, someFiles)
	h := d.hub
	names(t, d.root)
	h.asked()

	// Opening for writing is not writing.
	f, w, err := d.open("config.json", OpenFlags{Write: true}, false)
	if err != nil {
		t.Fatal(err)
	}
	if a, _ := f.Attr(t.Context()); a.Mode != 0o644 || !a.Writable {
		t.Errorf("%+v", a)
	}
	if got := readAll(t, w); got != "{}" {
		t.Errorf("read %q", got)
	}
	closeHandle(t, w)
	if c := d.layer().Under(""); len(c) != 0 {
		t.Errorf("an open made changes: %+v", c)
	}

	// Readers that were there see a write, and so does everybody.
	ino, gen := f.Ino(), f.Gen()
	r, err := f.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, w, err = d.open("config.json", OpenFlags{Write: true}, false)
	if err != nil {
		t.Fatal(err)
	}
	if r.Local() || w.Local() {
		t.Error("local before a write")
	}
	if _, err := w.WriteAt(t.Context(), []byte("xy"), 1); err != nil {
		t.Fatal(err)
	}
	if !r.Local() || !w.Local() {
		t.Error("not local after a write")
	}
	if got := readAll(t, r); got != "{xy" {
		t.Errorf("reader has %q", got)
	}
	if _, err := r.View(t.Context(), 0, 1); !errors.Is(err, ErrLocal) {
		t.Error(err)
	}
	if n := at(t, d.root, "config.json"); n.Ino() != ino || n.(*File).Gen() != gen || n.(*File).Size() != 3 {
		t.Error("the written file is another")
	}
	if _, err := r.WriteAt(t.Context(), []byte("z"), 0); !errors.Is(err, iofs.ErrPermission) {
		t.Error(err)
	}
	closeHandle(t, r)
	closeHandle(t, w)

	// Created, appended, cut.
	d.write("data/new.txt", "hello")
	_, w, err = d.open("data/new.txt", OpenFlags{Write: true, Append: true}, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteAt(t.Context(), []byte(" world"), -1); err != nil {
		t.Fatal(err)
	}
	if err := w.Truncate(t.Context(), 8); err != nil {
		t.Fatal(err)
	}
	closeHandle(t, w)
	if _, _, err := d.dir("data").Create(t.Context(), "new.txt", 0o644, OpenFlags{}); !errors.Is(err, iofs.ErrExist) {
		t.Error(err)
	}
	want := with(someFiles, "config.json", "{xy", "data/new.txt", "hello wo")
	d.shows(want)
	x, err := at(t, d.root, "data/new.txt").Xattrs(t.Context())
	if err != nil || x["user.hf.state"] != "pending" || x["user.hf.path"] != "data/new.txt" {
		t.Errorf("%v, %v", x, err)
	}

	// truncate(2), to zero without a download.
	d.hub.asked()
	size := int64(0)
	if a, err := at(t, d.root, "README.md").(*File).SetAttr(t.Context(), SetAttr{Size: &size}); err != nil || a.Size != 0 {
		t.Errorf("%+v, %v", a, err)
	}
	size = 3
	if a, err := at(t, d.root, "data/deep/y.txt").(*File).SetAttr(t.Context(), SetAttr{Size: &size}); err != nil || a.Size != 3 {
		t.Errorf("%+v, %v", a, err)
	}
	if n := d.hub.asked("read"); n != 0 {
		t.Errorf("%d downloads", n)
	}
	want["README.md"] = ""
	d.shows(want)
	if _, ok := d.layer().Get("data/deep/y.txt"); ok {
		t.Error("setting the size that it has is a change")
	}
}

func TestNames(t *testing.T) {
	d := newDesk(t, someFiles)
	for _, c := range []struct {
		name string
		want error
	}{
		{`a\b`, iofs.ErrInvalid}, {"..", iofs.ErrInvalid}, {"a\x00", iofs.ErrInvalid}, {"\xff", iofs.ErrInvalid},
		{strings.Repeat("n", 256), ErrNameTooLong},
	} {
		if _, _, err := d.root.Create(t.Context(), c.name, 0o644, OpenFlags{}); !errors.Is(err, c.want) {
			t.Errorf("%.20q: %v", c.name, err)
		}
	}
	dir := d.root
	var err error
	for range 4 {
		if dir, err = dir.Mkdir(t.Context(), strings.Repeat("n", 249), 0o755); err != nil {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := dir.Create(t.Context(), "x", 0o644, OpenFlags{}); !errors.Is(err, ErrNameTooLong) {
		t.Error(err)
	}
}

func TestDirectories(t *testing.T) {
	d := newDesk(t, someFiles)
	made := d.mkdir("made")
	if n := at(t, d.root, "made"); n.Ino() != made.Ino() {
		t.Error("made directory has another number")
	}
	d.mkdir("made/in")
	if err := d.root.Rmdir(t.Context(), "made"); !errors.Is(err, ErrNotEmpty) {
		t.Error(err)
	}
	d.write("made/in/f", "f")
	if _, err := d.root.Mkdir(t.Context(), "made", 0o755); !errors.Is(err, iofs.ErrExist) {
		t.Error(err)
	}
	d.shows(with(someFiles, "made/in/f", "f"))

	// The last file leaves its directory, which stays.
	for _, p := range []string{"made/in/f", "data/deep/y.txt", "data/x.txt"} {
		if err := d.unlink(p); err != nil {
			t.Fatal(err)
		}
	}
	want := with(someFiles, "data/deep/y.txt", "-", "data/x.txt", "-")
	d.shows(want, "made/in", "data/deep")
	if err := d.unlink("data"); !errors.Is(err, ErrIsDir) {
		t.Error(err)
	}
	if err := d.root.Rmdir(t.Context(), "README.md"); !errors.Is(err, ErrNotDir) {
		t.Error(err)
	}
	if err := d.root.Rmdir(t.Context(), "nope"); !errors.Is(err, iofs.ErrNotExist) {
		t.Error(err)
	}
	for _, p := range []string{"data/deep", "data", "made/in", "made"} {
		dir, name := d.parent(p)
		if err := dir.Rmdir(t.Context(), name); err != nil {
			t.Fatalf("%s: %v", p, err)
		}
	}
	d.shows(want)
	// A directory that is gone, and then a file in its place, and back.
	d.write("data", "now a file")
	want["data"] = "now a file"
	d.shows(want)
	if err := d.unlink("data"); err != nil {
		t.Fatal(err)
	}
	d.mkdir("data")
	d.write("data/x.txt", "xx")
	delete(want, "data")
	want["data/x.txt"] = "xx"
	d.shows(want)
	// A file of the Hub's gives way to a directory.
	if err := d.unlink("config.json"); err != nil {
		t.Fatal(err)
	}
	d.mkdir("config.json")
	d.write("config.json/a", "a")
	delete(want, "config.json")
	want["config.json/a"] = "a"
	d.shows(want)

	l, err := d.root.Symlink(t.Context(), "link", "data/x.txt")
	if err != nil || at(t, d.root, "link").Ino() != l.Ino() {
		t.Error(err)
	}
	want["link"] = "-> data/x.txt"
	d.shows(want)
	if err := d.rename("link", "data/link", RenameFlags{}); err != nil || at(t, d.root, "data/link").Ino() != l.Ino() {
		t.Error(err)
	}
	delete(want, "link")
	want["data/link"] = "-> data/x.txt"
	d.shows(want)

	// It is all there at the next mount.
	if err := d.tree.Close(); err != nil {
		t.Fatal(err)
	}
	d.close()
	again := openDesk(t, d.hub, d.layers.dir)
	again.layer() // as a mount does that finds changes
	again.tree.LocalChanged(hub.Ref{Repo: repoAB}, nil)
	again.shows(want)
}

func TestRenameRules(t *testing.T) {
	files := map[string]string{"f": "f", "g": "g", "d/a": "a", "d/sub/b": "b", "e/c": "c"}
	for _, c := range []struct {
		name, from, to string
		flags          RenameFlags
		err            error
		want           map[string]string
		empty          []string
	}{
		{name: "file", from: "f", to: "h", want: with(files, "f", "-", "h", "f")},
		{name: "over a file", from: "f", to: "g", want: with(files, "f", "-", "g", "f")},
		{name: "into a directory", from: "f", to: "d/f", want: with(files, "f", "-", "d/f", "f")},
		{name: "the last of a directory", from: "e/c", to: "d/c", want: with(files, "e/c", "-", "d/c", "c"), empty: []string{"e"}},
		{name: "itself", from: "f", to: "f", want: files},
		{name: "missing", from: "nope", to: "f", err: iofs.ErrNotExist},
		{name: "no replace", from: "f", to: "g", flags: RenameFlags{NoReplace: true}, err: iofs.ErrExist},
		{name: "no replace, free", from: "f", to: "h", flags: RenameFlags{NoReplace: true}, want: with(files, "f", "-", "h", "f")},
		{name: "exchange", from: "f", to: "g", flags: RenameFlags{Exchange: true}, want: with(files, "f", "g", "g", "f")},
		{name: "exchange with nothing", from: "f", to: "h", flags: RenameFlags{Exchange: true}, err: iofs.ErrNotExist},
		{name: "exchange file and directory", from: "f", to: "d", flags: RenameFlags{Exchange: true},
			want: map[string]string{"f/a": "a", "f/sub/b": "b", "d": "f", "g": "g", "e/c": "c"}},
		{name: "exchange directories", from: "e", to: "d", flags: RenameFlags{Exchange: true},
			want: map[string]string{"e/a": "a", "e/sub/b": "b", "d/c": "c", "f": "f", "g": "g"}},
		{name: "exchange with one's own", from: "d", to: "d/sub", flags: RenameFlags{Exchange: true}, err: iofs.ErrInvalid},
		{name: "directory", from: "d", to: "n", want: map[string]string{"n/a": "a", "n/sub/b": "b", "e/c": "c", "f": "f", "g": "g"}},
		{name: "directory deeper", from: "d", to: "e/n", want: map[string]string{"e/n/a": "a", "e/n/sub/b": "b", "e/c": "c", "f": "f", "g": "g"}},
		{name: "directory up", from: "d/sub", to: "sub", want: with(files, "d/sub/b", "-", "sub/b", "b")},
		{name: "directory into itself", from: "d", to: "d/sub/n", err: iofs.ErrInvalid},
		{name: "directory onto a full one", from: "d", to: "e", err: ErrNotEmpty},
		{name: "directory onto a file", from: "d", to: "f", err: ErrNotDir},
		{name: "file onto a directory", from: "f", to: "d", err: ErrIsDir},
		{name: "bad name", from: "f", to: `b\`, err: iofs.ErrInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDesk(t, files)
			before := at(t, d.root, "f")
			var ino uint64
			if n, err := walk(t.Context(), d.root, c.from); err == nil {
				ino = n.Ino()
			}
			if err := d.rename(c.from, c.to, c.flags); !errors.Is(err, c.err) || (err != nil) != (c.err != nil) {
				t.Fatalf("%v, want %v", err, c.err)
			}
			if c.err != nil {
				d.shows(files)
				return
			}
			d.shows(c.want, c.empty...)
			if n := at(t, d.root, c.to); n.Ino() != ino {
				t.Error("what was moved has another number")
			}
			_ = before
			// Each file of the Hub that moved is told from where.
			for _, ch := range d.layer().Under("") {
				if ch.Kind == writeback.Put && ch.From == nil {
					t.Errorf("%s was copied", ch.Path)
				}
			}
		})
	}
	t.Run("onto an empty one", func(t *testing.T) {
		d := newDesk(t, files)
		d.mkdir("empty")
		if err := d.rename("d", "empty", RenameFlags{}); err != nil {
			t.Fatal(err)
		}
		d.shows(map[string]string{"empty/a": "a", "empty/sub/b": "b", "e/c": "c", "f": "f", "g": "g"})
		if err := d.rename("empty", "d", RenameFlags{}); err != nil {
			t.Fatal(err)
		}
		d.shows(files)
	})
	t.Run("another branch", func(t *testing.T) {
		d := newDesk(t, files)
		d.hub.commit(repoAB, "dev", day(3), files)
		other := rootOf(t, d.tree, "a/b@dev")
		if err := d.root.Rename(t.Context(), "f", other, "f", RenameFlags{}); !errors.Is(err, ErrCrossDevice) {
			t.Error(err)
		}
	})
}

// TestOpenThroughRename moves files and directories that are open.
func TestOpenThroughRename(t *testing.T) {
	d := newDesk(t, someFiles)
	data := d.dir("data")
	deep := d.dir("data/deep")
	f, w, err := d.open("data/deep/y.txt", OpenFlags{Write: true}, false)
	if err != nil {
		t.Fatal(err)
	}
	r, err := f.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	inos := []uint64{data.Ino(), deep.Ino(), f.Ino()}
	if err := d.rename("data", "moved", RenameFlags{}); err != nil {
		t.Fatal(err)
	}
	// The old nodes are where they were moved to.
	if _, err := w.WriteAt(t.Context(), []byte("!"), 3); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, r); got != "yyy!" {
		t.Errorf("reader has %q", got)
	}
	if _, err := deep.Mkdir(t.Context(), "sub", 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := data.Lookup(t.Context(), "x.txt"); err != nil {
		t.Error(err)
	}
	want := with(someFiles, "data/x.txt", "-", "data/deep/y.txt", "-", "moved/x.txt", "xx", "moved/deep/y.txt", "yyy!")
	d.shows(want, "moved/deep/sub")
	// Something new takes the old names, with other numbers.
	d.mkdir("data")
	d.mkdir("data/deep")
	d.write("data/deep/y.txt", "new")
	want["data/deep/y.txt"] = "new"
	d.shows(want, "moved/deep/sub")
	for i, p := range []string{"moved", "moved/deep", "moved/deep/y.txt"} {
		if at(t, d.root, p).Ino() != inos[i] {
			t.Errorf("%s has another number", p)
		}
	}
	// Removed while open.
	if err := d.unlink("moved/deep/y.txt"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteAt(t.Context(), []byte("?"), 4); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, r); got != "yyy!?" {
		t.Errorf("an unlinked file has %q", got)
	}
	if a, err := f.Attr(t.Context()); err != nil || a.Size != 5 {
		t.Errorf("%+v, %v", a, err)
	}
	closeHandle(t, w)
	closeHandle(t, r)
	// A clean one, too: what is written to it goes nowhere.
	_, w, err = d.open("README.md", OpenFlags{Write: true}, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.unlink("README.md"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteAt(t.Context(), []byte("gone"), 0); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, w); got != "gonello" {
		t.Errorf("%q", got)
	}
	closeHandle(t, w)
	if _, err := d.root.Lookup(t.Context(), "README.md"); !errors.Is(err, iofs.ErrNotExist) {
		t.Error(err)
	}
}

func TestTmpfile(t *testing.T) {
	d := newDesk(t, someFiles)
	f, w, err := d.root.Tmpfile(t.Context(), 0o600, OpenFlags{Write: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteAt(t.Context(), []byte("tmp"), 0); err != nil {
		t.Fatal(err)
	}
	d.shows(someFiles)
	if _, err := d.root.Link(t.Context(), "tmp", f); err != nil {
		t.Fatal(err)
	}
	closeHandle(t, w)
	d.shows(with(someFiles, "tmp", "tmp"))
	if _, err := d.root.Link(t.Context(), "tmp2", f); !errors.Is(err, ErrNoLinks) {
		t.Error(err)
	}
	if a, err := at(t, d.root, "tmp").Attr(t.Context()); err != nil || a.Mode != 0o600 || a.Ino != f.Ino() {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestSetAttr(t *testing.T) {
	d := newDesk(t, someFiles)
	when := day(5)
	mode, uid := iofs.FileMode(0o600), uint32(7)
	f := at(t, d.root, "README.md").(*File)
	if _, err := f.SetAttr(t.Context(), SetAttr{Mode: &mode, UID: &uid, Mtime: &when}); err != nil {
		t.Fatal(err)
	}
	if len(d.layer().Under("")) != 0 {
		t.Error("touch makes a change")
	}
	check := func(n Node, mtime time.Time) {
		t.Helper()
		if a, err := n.Attr(t.Context()); err != nil || a.Owner == nil || a.Owner.GID != NoOwner {
			t.Errorf("%+v, %v", a, err)
		}
		a, err := n.Attr(t.Context())
		if err != nil || a.Mode.Perm() != mode || a.Owner == nil || a.Owner.UID != uid || !a.Mtime.Equal(mtime) {
			t.Errorf("%+v, %v", a, err)
		}
	}
	check(at(t, d.root, "README.md"), when)
	// A write is later than that, a utimes after it is not.
	d.write("README.md", "new")
	if a, err := f.Attr(t.Context()); err != nil || a.Mtime.Equal(when) || a.Mtime.Before(day(6)) {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := f.SetAttr(t.Context(), SetAttr{Mtime: &when}); err != nil {
		t.Fatal(err)
	}
	check(f, when)
	if err := d.rename("README.md", "other", RenameFlags{}); err != nil {
		t.Fatal(err)
	}
	check(at(t, d.root, "other"), when)
	dir := d.dir("data")
	if _, err := dir.SetAttr(t.Context(), SetAttr{Mode: &mode, UID: &uid, Mtime: &when}); err != nil {
		t.Fatal(err)
	}
	check(d.dir("data"), when)
}

func TestDetach(t *testing.T) {
	d := newDesk(t, someFiles)
	f := at(t, d.root, "README.md").(*File)
	r, err := f.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f.Detach()
	now := at(t, d.root, "README.md").(*File)
	if now.Ino() != f.Ino() || now.Gen() == f.Gen() {
		t.Error("the same inode")
	}
	d.write("README.md", "new")
	if got := readAll(t, r); got != "# hello" {
		t.Errorf("the old inode has %q", got)
	}
	closeHandle(t, r)
	d.shows(with(someFiles, "README.md", "new"))
}

// TestBase is what a change is held against.
func TestBase(t *testing.T) {
	d := newDesk(t, someFiles)
	first := d.tree.Views()[0].Snapshot.Commit
	content(t, at(t, d.root, "README.md"))
	d.hub.theirs("README.md", "# theirs", "config.json", "{1}")
	if err := d.tree.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := d.tree.Views()[0].Snapshot.Commit
	base := func(path string) writeback.Base {
		t.Helper()
		c, ok := d.layer().Get(path)
		if !ok {
			t.Fatalf("%s is unchanged", path)
		}
		return c.Base
	}
	// It was read at the first commit, and replaced by who read that.
	d.write("tmp", "ours")
	if err := d.rename("tmp", "README.md", RenameFlags{}); err != nil {
		t.Fatal(err)
	}
	if b := base("README.md"); b.Commit != first || b.Entry == nil || b.Entry.OID != blobID("# hello") {
		t.Errorf("%+v", b)
	}
	// It was not read before: what is there now.
	d.write("config.json", "{2}")
	if b := base("config.json"); b.Commit != second || b.Entry == nil || b.Entry.OID != blobID("{1}") {
		t.Errorf("%+v", b)
	}
	d.write("new", "")
	if b := base("new"); b.Commit != second || b.Entry != nil {
		t.Errorf("%+v", b)
	}
}

func TestAliases(t *testing.T) {
	d := newDesk(t, someFiles)
	l := &listener{}
	d.tree.SetNotifier(l)
	other := rootOf(t, d.tree, "a/b@main")
	names(t, other)
	d.write("new", "n")
	if got := content(t, at(t, other, "new")); got != "n" {
		t.Error(got)
	}
	if at(t, other, "new").Ino() == at(t, d.root, "new").Ino() {
		t.Error("one number at two places")
	}
	deadline := time.Now().Add(5 * time.Second)
	var got []string
	for time.Now().Before(deadline) && len(got) < 2 {
		got = append(got, l.take()...)
		time.Sleep(time.Millisecond)
	}
	slices.Sort(got)
	if len(got) != 2 || !strings.HasPrefix(got[0], "dir ") || !strings.HasSuffix(got[1], " new") {
		t.Errorf("told %q", got)
	}
	_, h, err := other.Create(t.Context(), "there", 0o644, OpenFlags{})
	if err != nil {
		t.Fatal(err)
	}
	closeHandle(t, h)
	d.shows(with(someFiles, "new", "n", "there", ""))
}

func TestMakeRepo(t *testing.T) {
	d := newDesk(t, someFiles)
	d.hub.account = &hub.Account{Name: "a"}
	top := rootOf(t, d.tree, "hf://")
	ns := at(t, top, "a").(*Dir)
	if _, err := ns.Lookup(t.Context(), "made"); !errors.Is(err, iofs.ErrNotExist) {
		t.Error(err)
	}
	repo, err := ns.Mkdir(t.Context(), "made", 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if got := names(t, repo); len(got) != 0 {
		t.Errorf("%q", got)
	}
	if !slices.Contains(names(t, ns), "made") {
		t.Error("not listed")
	}
	_, h, err := repo.Create(t.Context(), "f", 0o644, OpenFlags{})
	if err != nil {
		t.Fatal(err)
	}
	closeHandle(t, h)
	if got := names(t, at(t, ns, "made").(*Dir)); !slices.Equal(got, []string{"f"}) {
		t.Errorf("%q", got)
	}
	if _, err := ns.Mkdir(t.Context(), "--", 0o755); !errors.Is(err, iofs.ErrInvalid) {
		t.Error(err)
	}
}

// TestContent opens the base of a change before anybody looked at its view,
// also when its commit is gone since.
func TestContent(t *testing.T) {
	h := newFakeHub()
	c := h.commit(repoAB, "main", day(1), someFiles)
	tree := newTree(t, Options{Source: h})
	ref := hub.Ref{Repo: repoAB, Revision: "main"}
	p := writeback.Place{Snapshot: hub.Snapshot{Ref: ref, Commit: c}, Entry: hub.Entry{Path: "README.md", Size: 7, OID: blobID("# hello")}}
	read := func() (string, error) {
		s, err := tree.Content(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		b := make([]byte, 7)
		n, err := s.ReadAt(t.Context(), b, 0)
		return string(b[:n]), err
	}
	h.commit(repoAB, "main", day(2), with(someFiles, "config.json", "{1}"))
	h.set(func() { delete(h.commits, c) })
	if got, err := read(); got != "# hello" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	p.Entry.OID = blobID("never")
	if _, err := read(); !errors.Is(err, hub.ErrConflict) {
		t.Error(err)
	}
	p.Entry.OID = "x"
	if _, err := tree.Content(t.Context(), p); !errors.Is(err, hub.ErrBadAnswer) {
		t.Error(err)
	}
}

func TestReadOnlyTree(t *testing.T) {
	h := newFakeHub()
	h.commit(repoAB, "main", day(1), someFiles)
	root := rootOf(t, newTree(t, Options{Source: h}), "a/b")
	f := at(t, root, "README.md").(*File)
	ctx := context.Background()
	_, _, create := root.Create(ctx, "n", 0o644, OpenFlags{})
	_, mkdir := root.Mkdir(ctx, "n", 0o755)
	_, link := root.Symlink(ctx, "n", "x")
	_, open := f.OpenWith(ctx, OpenFlags{Write: true})
	_, set := f.SetAttr(ctx, SetAttr{})
	for i, err := range []error{create, mkdir, link, open, set, root.Unlink(ctx, "README.md"), root.Rmdir(ctx, "data"), root.Rename(ctx, "data", root, "x", RenameFlags{})} {
		if !errors.Is(err, ErrReadOnly) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if root.Writable() || f.Gen() != genOf(f.Content()) {
		t.Error("writable")
	}
	if err := root.Sync(ctx); err != nil {
		t.Error(err)
	}
}

// TestIOFSLocal walks over local changes with the standard library.
func TestIOFSLocal(t *testing.T) {
	d := newDesk(t, someFiles)
	d.write("data/new", "n")
	if err := d.unlink("data/x.txt"); err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	fsys := d.tree.FS(t.Context(), d.root)
	err := iofs.WalkDir(fsys, ".", func(p string, e iofs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			var b []byte
			b, err = iofs.ReadFile(fsys, p)
			got[p] = string(b)
		}
		return err
	})
	if want := with(someFiles, "data/new", "n", "data/x.txt", "-"); err != nil || !maps.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
}
