package node

import (
	"context"
	"fmt"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// readSome reads a directory without a handle, from an offset and into a small
// buffer, and returns the names and where they end.
func (w *wire) readSome(plus bool, off uint64, size int) (names []string, next uint64) {
	w.t.Helper()
	in := &fuse.ReadIn{InHeader: fuse.InHeader{NodeId: fuse.FUSE_ROOT_ID}, Offset: off, Size: uint32(size)}
	buf := make([]byte, size)
	out := fuse.NewDirEntryList(buf, off)
	read := w.ReadDir
	if plus {
		read = w.ReadDirPlus
	}
	if st := read(make(chan struct{}), in, out); !st.Ok() {
		w.t.Fatal(st)
	}
	var entries []fuse.DirEntry
	var err error
	if plus {
		var outs []fuse.EntryOut
		entries, outs, err = fuse.ParseDirLookupEntries(out.Bytes())
		for i, e := range entries {
			if dot := e.Name == "." || e.Name == ".."; dot != (outs[i].NodeId == 0) {
				w.t.Errorf("%s: node %d", e.Name, outs[i].NodeId)
			}
			if outs[i].NodeId != 0 && outs[i].Attr.Ino != e.Ino {
				w.t.Errorf("%s: inode %d listed as %d", e.Name, outs[i].Attr.Ino, e.Ino)
			}
		}
	} else {
		entries, err = fuse.ParseDirEntries(out.Bytes())
	}
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name)
	}
	return names, out.Offset
}

// readAll reads on from an offset to the end.
func (w *wire) readAll(plus bool, off uint64) (names []string) {
	for {
		some, next := w.readSome(plus, off, 512)
		if len(some) == 0 {
			return names
		}
		names, off = append(names, some...), next
	}
}

// Without OPENDIR, whoever is in the middle of a listing goes on in it when it
// changes, whoever begins sees the new one, and no offset of the one is a
// place in the other.
func TestReadWithoutOpendir(t *testing.T) {
	for _, plus := range []bool{false, true} {
		w := newWire(t)
		w.s.noOpendir = true
		var out fuse.OpenOut
		if st := w.OpenDir(make(chan struct{}), &fuse.OpenIn{InHeader: fuse.InHeader{NodeId: fuse.FUSE_ROOT_ID}}, &out); st != fuse.ENOSYS {
			t.Fatalf("OPENDIR: %v", st)
		}
		before := w.readAll(plus, 0)
		if !slices.Contains(before, "gone.txt") || !slices.Contains(before, "..") {
			t.Fatal(before)
		}
		got, at := w.readSome(plus, 0, 512)
		if again, where := w.readSome(plus, 0, 512); !slices.Equal(got, again) || where != at {
			t.Errorf("an unchanged listing has other offsets: %v to %x, %v to %x", got, at, again, where)
		}
		places := map[uint64]bool{at: true}
		for range 3 {
			w.src.move()
			if err := w.s.tree.Refresh(context.Background()); err != nil {
				t.Fatal(err)
			}
			_, next := w.readSome(plus, 0, 512)
			if places[next] {
				t.Errorf("the offset %x is a place in two listings", next)
			}
			places[next] = true
		}
		if after := w.readAll(plus, 0); slices.Contains(after, "gone.txt") || !slices.Contains(after, "new3.txt") {
			t.Errorf("a new reader sees %v", after)
		}
		if got = append(got, w.readAll(false, at)...); !slices.Equal(got, before) {
			t.Errorf("in the middle of a change: %v, want %v", got, before)
		}
	}
}

// Listings that are held for readers are bounded, and go with their node.
func TestGivenListings(t *testing.T) {
	w := newWire(t)
	w.s.noOpendir = true
	w.readAll(false, 0)
	d := w.dirOf(make(chan struct{}), &fuse.ReadIn{InHeader: fuse.InHeader{NodeId: fuse.FUSE_ROOT_ID}})
	g := &w.s.given
	l := g.find(d, 1)
	if l == nil {
		t.Fatal("not kept")
	}
	for i := range uint32(2 * maxGiven) {
		g.keep(d, i+2, l)
	}
	if g.kept.Len() != maxGiven || g.names != maxGiven*l.Len() || g.find(d, 1) != nil {
		t.Errorf("%d listings with %d names", g.kept.Len(), g.names)
	}
	g.drop(d)
	if g.kept.Len() != 0 || g.names != 0 {
		t.Errorf("%d listings with %d names are left", g.kept.Len(), g.names)
	}
	// Who comes with the offset of a listing that is not held goes on.
	_, at := w.readSome(false, 0, 512)
	_, i := placeOf(at)
	g.drop(d)
	if names := w.readAll(false, offsetAt(99, i)); len(names) != l.Len()+dots-i {
		t.Errorf("from entry %d of %d: %v", i, l.Len()+dots, names)
	}
}

// What the kernel keeps it shows without asking, until it is told of a change.
func TestKernelKeepsListings(t *testing.T) {
	m := startMount(t, asMe())
	list := func(what string, requests bool) {
		t.Helper()
		before := m.ask("asked opendir") + m.ask("asked readdir")
		names, err := os.ReadDir(m.dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range names {
			if _, err := e.Info(); err != nil {
				t.Fatal(err)
			}
		}
		if after := m.ask("asked opendir") + m.ask("asked readdir"); (after != before) != requests {
			t.Errorf("%s: requests from %s to %s", what, before, after)
		}
	}
	list("first", true)
	list("again", false)
	m.ask("move")
	m.ask("refresh")
	waitFor(t, "the new name", func() bool {
		_, err := os.Stat(m.path("new1.txt"))
		return err == nil
	})
	waitFor(t, "the new listing", func() bool {
		names, err := os.ReadDir(m.dir)
		return err == nil && slices.ContainsFunc(names, func(e os.DirEntry) bool { return e.Name() == "new1.txt" })
	})
}

// A directory that changes through the mount is kept as well, and every reader
// sees each name that stays exactly once.
func TestListWhileWriting(t *testing.T) {
	m := startWriting(t)
	if err := os.Mkdir(m.path("crowd"), 0o755); err != nil {
		t.Fatal(err)
	}
	const stay = 2000
	for i := range stay {
		m.write(fmt.Sprintf("crowd/stays%04d", i), "")
	}
	f, err := os.Open(m.path("crowd"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for round := range 4 {
		seen := make(map[string]int)
		buf := make([]byte, 4096)
		if _, err := f.Seek(0, 0); err != nil {
			t.Fatal(err)
		}
		for i := 0; ; i++ {
			n, err := syscall.Getdents(int(f.Fd()), buf)
			if err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				break
			}
			_, _, names := syscall.ParseDirent(buf[:n], -1, nil)
			for _, name := range names {
				seen[name]++
			}
			if i%5 == round { // and another reader that the kernel may keep
				m.write(fmt.Sprintf("crowd/a%d-%d", round, i), "")
				if _, err := os.ReadDir(m.path("crowd")); err != nil {
					t.Fatal(err)
				}
			}
		}
		for i := range stay {
			if n := seen[fmt.Sprintf("stays%04d", i)]; n != 1 {
				t.Fatalf("round %d: stays%04d is shown %d times", round, i, n)
			}
		}
	}
}

// A LOOKUP that was overtaken by news is not believed for long.
func TestAnswerOvertakenByNews(t *testing.T) {
	w := newWire(t)
	d := w.dirOf(make(chan struct{}), &fuse.ReadIn{InHeader: fuse.InHeader{NodeId: fuse.FUSE_ROOT_ID}})
	if d != nil {
		t.Fatal("a node is given away where OPENDIR is answered")
	}
	w.s.noOpendir = true
	d = w.dirOf(make(chan struct{}), &fuse.ReadIn{InHeader: fuse.InHeader{NodeId: fuse.FUSE_ROOT_ID}})
	var out fuse.EntryOut
	for _, news := range []bool{false, true} {
		out.SetEntryTimeout(time.Hour)
		before := w.s.tree.News()
		if news {
			before--
		}
		w.s.answered(d, &out, before)
		if short := out.EntryTimeout() <= time.Second; short != news {
			t.Errorf("news %v: believed for %v", news, out.EntryTimeout())
		}
	}
	if !d.askedLately() {
		t.Error("it was asked")
	}
}
