package node

import (
	"bytes"
	"context"
	"syscall"
	"testing"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"hfmount/blockcache"
	"hfmount/fs"
	"hfmount/remote/hub"
)

// wire is a mount without a kernel: requests go in by hand.
type wire struct {
	*bridge
	t   *testing.T
	src *source
}

func newWire(t *testing.T) *wire {
	t.Helper()
	src := newSource()
	cache, err := blockcache.Open(blockcache.Options{MemoryBytes: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	tree, err := fs.New(fs.Options{Source: src, Cache: cache})
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{
		tree: tree, fd: -1, readOnly: true, log: silent(), complaints: complaints{log: silent(), now: time.Now},
		open: make(map[*openFile]struct{}), noNative: "no kernel",
	}
	t.Cleanup(func() {
		s.shared.close()
		tree.Close()
		if err := cache.Close(); err != nil {
			t.Error(err)
		}
	})
	root, err := tree.Root(context.Background(), hub.Location{Ref: hub.Ref{Repo: testRepo}})
	if err != nil {
		t.Fatal(err)
	}
	opts := s.fuseOptions(Options{}, root)
	return &wire{&bridge{gofs.NewNodeFS(newDirNode(s, root), opts), s}, t, src}
}

// lookup returns the node id of the name in the directory, and its lifetime.
func (w *wire) lookup(dir uint64, name string) (fuse.EntryOut, fuse.Status) {
	var out fuse.EntryOut
	st := w.Lookup(make(chan struct{}), &fuse.InHeader{NodeId: dir}, name, &out)
	return out, st
}

func (w *wire) find(dir uint64, name string) uint64 {
	w.t.Helper()
	out, st := w.lookup(dir, name)
	if !st.Ok() || out.NodeId == 0 {
		w.t.Fatalf("%s: %v", name, st)
	}
	return out.NodeId
}

func TestLookupMiss(t *testing.T) {
	w := newWire(t)
	out, st := w.lookup(fuse.FUSE_ROOT_ID, "nothing")
	// Without refreshes, a miss is believed for long: no node, and a lifetime.
	if !st.Ok() || out.NodeId != 0 || out.EntryTimeout() <= 0 {
		t.Fatalf("%v %+v", st, out)
	}
	if _, st := w.lookup(w.find(fuse.FUSE_ROOT_ID, "README.md"), "x"); st.Ok() {
		t.Fatal("a file has children")
	}
	if out, _ := w.lookup(fuse.FUSE_ROOT_ID, "dir"); out.EntryTimeout() <= 0 || out.AttrTimeout() <= 0 {
		t.Fatalf("no lifetime: %+v", out)
	}
}

// The kernel may keep a listing, but not one of another version.
func TestOpenDirCache(t *testing.T) {
	const both = fuse.FOPEN_CACHE_DIR | fuse.FOPEN_KEEP_CACHE
	w := newWire(t)
	flags := func() uint32 {
		t.Helper()
		var out fuse.OpenOut
		in := &fuse.OpenIn{InHeader: fuse.InHeader{NodeId: fuse.FUSE_ROOT_ID}}
		if st := w.OpenDir(make(chan struct{}), in, &out); !st.Ok() {
			t.Fatal(st)
		}
		w.ReleaseDir(&fuse.ReleaseIn{InHeader: in.InHeader, Fh: out.Fh})
		return out.OpenFlags & both
	}
	if got := flags(); got != fuse.FOPEN_CACHE_DIR {
		t.Errorf("first: %x", got)
	}
	if got := flags(); got != both {
		t.Errorf("unchanged: %x", got)
	}
	w.src.move()
	if err := w.s.tree.Refresh(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := flags(); got != fuse.FOPEN_CACHE_DIR {
		t.Errorf("changed: %x", got)
	}
	if got := flags(); got != both {
		t.Errorf("unchanged again: %x", got)
	}
}

// The kernel keeps a file's pages over opens, until they become doubtful.
func TestOpenKeepsCache(t *testing.T) {
	w := newWire(t)
	const name = "model.safetensors"
	id := w.find(fuse.FUSE_ROOT_ID, name)
	keeps := func() bool {
		t.Helper()
		var out fuse.OpenOut
		in := &fuse.OpenIn{InHeader: fuse.InHeader{NodeId: id}}
		if st := w.Open(make(chan struct{}), in, &out); !st.Ok() {
			t.Fatal(st)
		}
		w.Release(make(chan struct{}), &fuse.ReleaseIn{InHeader: in.InHeader, Fh: out.Fh})
		return out.OpenFlags&fuse.FOPEN_KEEP_CACHE != 0
	}
	for range 2 {
		if !keeps() {
			t.Error("pages are dropped for no reason")
		}
	}
	w.s.tree.CorruptDropped(fileEntry(name, testFiles()[name]).Content())
	if keeps() {
		t.Error("pages of a corrupt file are kept")
	}
	if !keeps() {
		t.Error("pages are dropped twice")
	}
	if n := len(w.s.open); n != 0 {
		t.Errorf("%d handles left", n)
	}
}

func TestRefusedOpens(t *testing.T) {
	w := newWire(t)
	in := &fuse.OpenIn{InHeader: fuse.InHeader{NodeId: w.find(fuse.FUSE_ROOT_ID, "README.md")}}
	for _, flags := range []uint32{syscall.O_WRONLY, syscall.O_RDWR, syscall.O_RDONLY | syscall.O_TRUNC} {
		in.Flags = flags
		if st := w.Open(make(chan struct{}), in, new(fuse.OpenOut)); st != fuse.EROFS {
			t.Errorf("open with %#x: %v", flags, st)
		}
	}
	w.s.noOpen = true
	in.Flags = syscall.O_RDONLY
	if st := w.Open(make(chan struct{}), in, new(fuse.OpenOut)); st != fuse.ENOSYS {
		t.Error(st)
	}
}

// Without OPEN, reads share a handle for each inode, and few of them.
func TestSharedHandles(t *testing.T) {
	w := newWire(t)
	w.s.noOpen = true
	many := w.find(fuse.FUSE_ROOT_ID, "many")
	read := func(id uint64) []byte {
		t.Helper()
		in := &fuse.ReadIn{InHeader: fuse.InHeader{NodeId: id}, Size: 64}
		res, st := w.Read(make(chan struct{}), in, make([]byte, in.Size))
		if !st.Ok() {
			t.Fatal(st)
		}
		defer res.Done()
		b, st := res.Bytes(nil)
		if !st.Ok() || res.Size() != len(b) {
			t.Fatalf("%v, %d of %d bytes", st, len(b), res.Size())
		}
		return b
	}
	var ids []uint64
	for name, want := range testFiles() {
		if dir, base, _ := bytes.Cut([]byte(name), []byte("/")); string(dir) == "many" && len(ids) <= maxShared {
			id := w.find(many, string(base))
			if got := read(id); !bytes.Equal(got, want) {
				t.Fatalf("%s: %q", name, got)
			}
			ids = append(ids, id)
		}
	}
	if n := len(w.s.shared.lent); n != maxShared {
		t.Errorf("%d handles kept after %d files", n, len(ids))
	}
	read(ids[0]) // evicted, opened again
	last := ids[len(ids)-1]
	w.Forget(last, 1)
	if n := len(w.s.shared.lent); n != maxShared-1 {
		t.Errorf("%d handles kept after a forget", n)
	}
}

// A panic in a handler is one failed request.
func TestPanicked(t *testing.T) {
	if st := newWire(t).s.panicked("boom"); st != fuse.EIO {
		t.Error(st)
	}
}
