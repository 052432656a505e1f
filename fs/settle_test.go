package fs

import (
	"context"
	"errors"
	iofs "io/fs"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hfmount/remote/hub"
	"hfmount/writeback"
)

func commitAll(t testing.TB, q *writeback.Queue) writeback.Outcome {
	t.Helper()
	out, err := q.Commit(context.Background(), writeback.CommitRequest{Yes: true})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestLanded commits, and looks for what changes by it: nothing.
func TestLanded(t *testing.T) {
	d := newDesk(t, someFiles)
	l := &listener{}
	d.tree.SetNotifier(l)
	names(t, d.dir("data"))
	d.write("data/new", strings.Repeat("n", 3000))
	d.write("README.md", "# ours")
	if err := d.rename("config.json", "renamed.json", RenameFlags{}); err != nil {
		t.Fatal(err)
	}
	if err := d.unlink("data/deep/y.txt"); err != nil {
		t.Fatal(err)
	}
	want := with(someFiles, "data/new", strings.Repeat("n", 3000), "README.md", "# ours", "config.json", "-", "renamed.json", "{}", "data/deep/y.txt", "-")
	d.shows(want, "data/deep")
	moved := at(t, d.root, "renamed.json") // as the kernel has it
	type id struct {
		ino, gen uint64
		mtime    time.Time
	}
	ids := func() map[string]id {
		out := make(map[string]id)
		for p := range want {
			n := at(t, d.root, p).(*File)
			out[p] = id{n.Ino(), n.Gen(), mtime(t, n)}
		}
		return out
	}
	before := ids()
	r, err := at(t, d.root, "data/new").(*File).Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	q := d.queue()
	if out := commitAll(t, q); len(out.Commits) != 1 {
		t.Fatalf("%+v", out)
	}
	if got := d.hub.files(); !equalFiles(got, want) {
		t.Fatalf("committed %v", got)
	}
	for _, c := range d.layer().Under("") {
		if c.Kind != writeback.Folder {
			t.Errorf("still local: %+v", c)
		}
	}
	d.hub.asked()
	d.shows(want, "data/deep")
	if n := at(t, d.root, "renamed.json"); n.Ino() != moved.Ino() {
		t.Error("renamed.json has another number")
	}
	for p, b := range before {
		if a := ids()[p]; a != b && p != "renamed.json" || a.ino != b.ino || a.gen != b.gen {
			t.Errorf("%s is another: %+v, was %+v", p, a, b)
		}
	}
	if got := readAll(t, r); got != want["data/new"] {
		t.Error("the open file has other bytes")
	}
	closeHandle(t, r)
	// What was written is not fetched again.
	for _, p := range []string{"data/new", "README.md"} {
		f := at(t, d.root, p).(*File)
		if !d.cache.Contains(f.Content()) {
			t.Errorf("%s is not in the cache", p)
		}
	}
	for _, n := range l.take() {
		if strings.HasPrefix(n, "entry") {
			t.Errorf("the kernel was told: %s", n)
		}
	}
	// Written again, the base is our own commit.
	d.write("README.md", "# ours again")
	if c, _ := d.layer().Get("README.md"); c.Base.Entry == nil || c.Base.Entry.OID != blobID("# ours") {
		t.Errorf("%+v", c.Base)
	}
	if out := commitAll(t, q); len(out.Commits) != 1 || len(out.Left) != 0 {
		t.Errorf("%+v", out)
	}
	want["README.md"] = "# ours again"
	d.shows(want, "data/deep")

	// Somebody else's change is another file.
	f := at(t, d.root, "README.md").(*File)
	d.hub.theirs("README.md", "# theirs")
	if err := d.tree.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := at(t, d.root, "README.md").(*File)
	if n.Ino() == f.Ino() && n.Gen() == f.Gen() {
		t.Error("their content has our inode")
	}
	want["README.md"] = "# theirs"
	d.shows(want, "data/deep")
}

// TestLandedLate looks for a commit that the branch does not show at first,
// or which is not its head any more.
func TestLandedLate(t *testing.T) {
	d := newDesk(t, someFiles)
	names(t, d.root)
	old := d.hub.heads[hub.Ref{Repo: repoAB, Revision: "main"}]
	made := d.hub.theirs("new", "n")
	d.hub.set(func() { d.hub.heads[hub.Ref{Repo: repoAB, Revision: "main"}] = old })
	landing := writeback.Landing{Commit: hub.Committed{ID: made}, Ref: hub.Ref{Repo: repoAB}, Paths: []string{"new"}}
	time.AfterFunc(50*time.Millisecond, func() {
		d.hub.set(func() { d.hub.heads[hub.Ref{Repo: repoAB, Revision: "main"}] = made })
	})
	if err := d.tree.Landed(t.Context(), landing); err != nil {
		t.Fatal(err)
	}
	if got := d.tree.Views()[0].Snapshot.Commit; got != made {
		t.Errorf("the view is at %s", got)
	}
	ours := d.hub.theirs("ours", "o")
	d.hub.theirs("ours", "their")
	landing = writeback.Landing{Commit: hub.Committed{ID: ours}, Ref: hub.Ref{Repo: repoAB}, Paths: []string{"ours"},
		Files: []writeback.LandedFile{{Path: "ours", Content: hub.ContentID{Algo: hub.GitBlob, Hex: blobID("o"), Size: 1}}}}
	for range 2 {
		if err := d.tree.Landed(t.Context(), landing); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	landing.Commit.ID = hub.CommitID(strings.Repeat("7", 40))
	if err := d.tree.Landed(ctx, landing); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	// One to a pull request moves nothing.
	landing.Ref.Revision = "refs/pr/1"
	if err := d.tree.Landed(t.Context(), landing); err != nil {
		t.Error(err)
	}
}

// TestLandedInOneSecond: dates of commits have seconds, so that somebody else's
// commit on top may have that of ours, but so may the one below.
func TestLandedInOneSecond(t *testing.T) {
	d := newDesk(t, someFiles)
	names(t, d.root)
	parent := d.hub.theirs("new", "n")
	if err := d.tree.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	ours := d.hub.theirs("ours", "o")
	d.hub.set(func() {
		for _, id := range []hub.CommitID{parent, ours} {
			c := d.hub.commits[id]
			c.time = day(3)
			d.hub.commits[id] = c
		}
		d.hub.heads[hub.Ref{Repo: repoAB, Revision: "main"}] = parent
	})
	landing := writeback.Landing{Commit: hub.Committed{ID: ours}, Parent: parent, Ref: hub.Ref{Repo: repoAB}, Paths: []string{"ours"}}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := d.tree.Landed(ctx, landing); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the parent was taken for ours: %v", err)
	}
	d.hub.set(func() { d.hub.heads[hub.Ref{Repo: repoAB, Revision: "main"}] = ours })
	top := d.hub.theirs("ours", "their")
	d.hub.set(func() { c := d.hub.commits[top]; c.time = day(3); d.hub.commits[top] = c })
	if err := d.tree.Landed(t.Context(), landing); err != nil {
		t.Error(err)
	}
}

// TestRemoteUnderChanges moves the branch under local changes.
func TestRemoteUnderChanges(t *testing.T) {
	d := newDesk(t, someFiles)
	l := &listener{}
	d.tree.SetNotifier(l)
	names(t, d.root)
	data := d.dir("data") // as the kernel has it
	names(t, data)
	d.write("README.md", "# ours")
	if err := d.unlink("data/x.txt"); err != nil {
		t.Fatal(err)
	}
	f := at(t, d.root, "README.md")
	d.hub.theirs("README.md", "# theirs", "data/x.txt", "theirs", "data/added", "a")
	if err := d.tree.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.shows(with(someFiles, "README.md", "# ours", "data/x.txt", "-", "data/added", "a"))
	if n := at(t, d.root, "README.md"); n.Ino() != f.Ino() {
		t.Error("another file")
	}
	var told []string
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline) && len(told) < 3; time.Sleep(time.Millisecond) {
		told = append(told, l.take()...)
	}
	for _, n := range told {
		if strings.HasSuffix(n, "README.md") || strings.HasSuffix(n, "x.txt") {
			t.Errorf("told about what is shown as before: %s", n)
		}
	}
	if !slices.ContainsFunc(told, func(n string) bool { return strings.HasSuffix(n, " added") }) {
		t.Errorf("not told about what is new: %q", told)
	}
	runtime.KeepAlive(data)
	// A discard shows theirs.
	if err := d.layer().Apply(0, writeback.Edit{Path: "README.md", Forget: true}); err != nil {
		t.Fatal(err)
	}
	d.tree.LocalChanged(hub.Ref{Repo: repoAB}, []string{"README.md"})
	n := at(t, d.root, "README.md")
	if n.Ino() == f.Ino() {
		t.Error("the same file")
	}
	d.shows(with(someFiles, "README.md", "# theirs", "data/x.txt", "-", "data/added", "a"))
}

func equalFiles(a, b map[string]string) bool { return minus(a, b) == "" && minus(b, a) == "" }

// TestNoFlicker replaces a file, the way savers do, while commits land and
// somebody else commits; whoever looks always finds it, whole, and never an
// older one than before.
func TestNoFlicker(t *testing.T) {
	d := newDesk(t, someFiles)
	names(t, d.root)
	save := func(n int) {
		d.write("data/tmp", strings.Repeat("x", n))
		if err := d.rename("data/tmp", "data/save", RenameFlags{}); err != nil {
			t.Fatal(err)
		}
	}
	save(1)
	q := d.queue()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			last := int64(0)
			for {
				select {
				case <-stop:
					return
				default:
				}
				n, err := walk(context.Background(), d.root, "data/save")
				if err != nil {
					t.Error("looked:", err)
					return
				}
				f := n.(*File)
				a, err := f.Attr(context.Background())
				if err != nil || a.Size < last {
					t.Errorf("size %d after %d, %v", a.Size, last, err)
					return
				}
				last = a.Size
				h, err := f.Open(context.Background())
				if errors.Is(err, ErrStale) {
					continue // as the kernel does
				}
				if err != nil {
					t.Error("opened:", err)
					return
				}
				b := make([]byte, 1<<12)
				got, err := h.ReadAt(context.Background(), b, 0)
				if int64(got) < a.Size {
					t.Errorf("read %d of %d, %v", got, a.Size, err)
				}
				if err := h.Close(); err != nil {
					t.Error(err)
				}
				es, _, err := d.dir("data").ReadDir(context.Background())
				if err != nil || !slices.ContainsFunc(es, func(e DirEntry) bool { return e.Name == "save" }) {
					t.Errorf("listed: %v, %v", es, err)
				}
			}
		})
	}
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
			d.hub.theirs("theirs", strings.Repeat("y", i))
			if err := d.tree.Refresh(context.Background()); err != nil {
				t.Error(err)
			}
		}
	})
	for n := 2; n < 40; n++ {
		save(n)
		if n%3 == 0 {
			commitAll(t, q)
		}
	}
	commitAll(t, q)
	close(stop)
	wg.Wait()
	if got := d.hub.files()["data/save"]; len(got) != 39 {
		t.Errorf("committed %d", len(got))
	}
	if _, err := d.root.Lookup(t.Context(), "nope"); !errors.Is(err, iofs.ErrNotExist) {
		t.Error(err)
	}
}

// quickCommit does not wait for files that are open.
func quickCommit() writeback.CommitRequest { return writeback.CommitRequest{Yes: true} }

// TestLandedBetweenLooks commits after an operation has taken the snapshot that
// it looks at, and before it looks into the layer: the name is in one of both
// all the time.
func TestLandedBetweenLooks(t *testing.T) {
	ctx := context.Background()
	for _, locked := range []bool{false, true} {
		d := newDesk(t, someFiles)
		q := d.queue()
		// Nothing of it is in staging, so that its landing waits for nobody.
		if err := d.rename("config.json", "renamed.json", RenameFlags{}); err != nil {
			t.Fatal(err)
		}
		o := d.root.kind.(*repoDir).spot.o
		var th thing
		runs := 0
		look := func(s *sight) error {
			if runs++; runs == 1 {
				commitAll(t, q)
			}
			var err error
			if th, err = s.at("", "renamed.json"); err == nil && th.kind == isNone {
				err = missing("renamed.json")
			}
			return err
		}
		var err error
		if locked {
			err = o.change(ctx, look)
		} else {
			err = o.glimpse(ctx, look, func() {})
		}
		if err != nil || th.kind != isFile {
			t.Errorf("locked %v: %v, kind %d", locked, err, th.kind)
		}
		if n := len(d.layer().Under("")); n != 0 {
			t.Errorf("%d changes are left", n)
		}
	}
}
