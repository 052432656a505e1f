package node

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"hfmount/fs"
)

// dirNode shows an fs.Dir.
type dirNode struct {
	gofs.Inode
	s      *Server
	dir    atomic.Pointer[fs.Dir] // the newest of equals, see Server.child
	listed atomic.Bool            // in Server.live

	changes atomic.Uint64 // that were made through this inode

	asked atomic.Int64 // when names were last answered, in nanoseconds since 1970

	mu      sync.Mutex
	gen     uint32 // the number of the listing that was last given out, 0 for none; guarded by mu
	version uint64 // of that listing; guarded by mu
}

func newDirNode(s *Server, d *fs.Dir) *dirNode {
	n := &dirNode{s: s}
	n.dir.Store(d)
	return n
}

func (d *dirNode) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	d.s.live.add(d)
	if len(name) > maxName {
		return nil, syscall.ENAMETOOLONG
	}
	r := d.s.begin(ctx)
	defer r.finish()
	defer d.s.answered(d, out, d.s.tree.News())
	dir := d.dir.Load()
	n, err := dir.Lookup(r, name)
	if err != nil {
		no := d.s.fail(r, "lookup", name, err)
		if no == syscall.ENOENT {
			// bridge.Lookup turns this into an answer the kernel remembers.
			out.SetEntryTimeout(ttl(dir.NameTTL(nil)))
		}
		return nil, no
	}
	a, err := n.Attr(r)
	if err != nil {
		return nil, d.s.fail(r, "lookup", name, fmt.Errorf("attributes: %w", err))
	}
	inode, err := d.s.child(ctx, d.EmbeddedInode(), name, n)
	if err != nil {
		return nil, d.s.fail(r, "lookup", name, err)
	}
	d.s.entry(out, a, inode.Operations(), n)
	out.SetEntryTimeout(ttl(dir.NameTTL(n)))
	return inode, 0
}

// answered is called with the answer to a LOOKUP. News that came meanwhile may
// have been for the kernel to forget what it is only now about to learn: then
// it may not believe that for long.
func (s *Server) answered(d *dirNode, out *fuse.EntryOut, before uint64) {
	if s.tree.News() != before && out.EntryTimeout() > time.Second {
		out.SetEntryTimeout(time.Second)
	}
	d.asked.Store(time.Now().UnixNano())
}

// Getattr answers what a walk through a directory asks from time to time,
// which is when a branch that was idle is looked at. Whoever brings news in
// this way shall see them: the kernel has to forget first.
func (d *dirNode) Getattr(ctx context.Context, _ gofs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	before := d.s.tree.News()
	no := d.s.getattr(ctx, d, d.dir.Load(), out)
	if d.s.readOnly && d.s.tree.News() != before {
		// Not for long: the caller may hold what the kernel needs for it.
		told, cancel := context.WithTimeout(context.Background(), newsPatience)
		d.s.Told(told)
		cancel()
	}
	return no
}

// newsPatience bounds how long a walk waits for the kernel to forget.
const newsPatience = 200 * time.Millisecond

// OpendirHandle takes the snapshot that this handle lists. The kernel may keep
// the listing and serve later handles from it; it is told to drop what it
// keeps when the version is another than at the last OPENDIR.
func (d *dirNode) OpendirHandle(ctx context.Context, _ uint32) (gofs.FileHandle, uint32, syscall.Errno) {
	reply := d.s.reply(ctx)
	if d.s.noOpendir {
		// The bridge wants to know whom a request is for, see bridge.readDir.
		if reply != nil {
			reply.dir = d
		}
		return nil, 0, syscall.ENOSYS
	}
	d.s.live.add(d)
	r := d.s.begin(ctx)
	defer r.finish()
	h := &dirHandle{d: d}
	same, err := h.list(r)
	if err != nil {
		return nil, 0, d.s.fail(r, "opendir", "", err)
	}
	if reply != nil {
		reply.dropCache = !same
	} else if !same {
		return h, 0, 0
	}
	return h, fuse.FOPEN_CACHE_DIR | fuse.FOPEN_KEEP_CACHE, 0
}

// given numbers a listing that is about to be given out, and reports whether
// it is the one that was given out before.
func (d *dirNode) given(l *fs.Listing) (gen uint32, same bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gen != 0 && d.version == l.Version() {
		return d.gen, true
	}
	if d.gen++; d.gen > maxGen {
		d.gen = 1
	}
	d.version = l.Version()
	return d.gen, false
}

func (d *dirNode) Getxattr(ctx context.Context, name string, dest []byte) (uint32, syscall.Errno) {
	return d.s.getxattr(ctx, d.dir.Load(), name, dest)
}

func (d *dirNode) Listxattr(ctx context.Context, dest []byte) (uint32, syscall.Errno) {
	return d.s.listxattr(ctx, d.dir.Load(), dest)
}

func (d *dirNode) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	return d.s.statfs(out)
}

func (d *dirNode) OnForget() {
	d.s.live.remove(d)
	d.s.given.drop(d)
}

// dots are the entries before the first name, "." and "..".
const dots = 2

// An offset is the number of a listing and the number of the entry in it that
// follows. The kernel looks for the offset of a reader among the entries it
// keeps: the number of the listing prevents it from going on in the middle of
// another, where names would be shown twice or not at all. An offset is not
// negative as a loff_t, and telldir and seekdir work however large a directory
// is.
func offsetAt(gen uint32, next int) uint64 { return uint64(gen)<<32 | uint64(uint32(next)) }

func placeOf(off uint64) (gen uint32, next int) { return uint32(off >> 32), int(uint32(off)) }

const maxGen = 1<<31 - 1

// dirent is entry i of a listing.
func (d *dirNode) dirent(l *fs.Listing, gen uint32, i int) fuse.DirEntry {
	e := fuse.DirEntry{Off: offsetAt(gen, i+1), Mode: syscall.S_IFDIR}
	switch i {
	case 0:
		e.Name, e.Ino = ".", d.StableAttr().Ino
	case 1:
		e.Name, e.Ino = "..", d.StableAttr().Ino
		if _, parent := d.Parent(); parent != nil {
			e.Ino = parent.StableAttr().Ino
		}
	default:
		of := l.At(i - dots)
		e.Name, e.Ino, e.Mode = of.Name, of.Ino, typeBits(of.Mode)
	}
	return e
}

// dirHandle lists one snapshot of a directory. go-fuse serialises the calls on
// one handle.
type dirHandle struct {
	d    *dirNode
	l    *fs.Listing
	gen  uint32
	next int

	changes uint64 // dirNode.changes before the listing
}

// list takes the present listing, and reports whether it is the one that was
// given out before.
func (h *dirHandle) list(r *request) (same bool, err error) {
	h.changes = h.d.changes.Load() // before: what changes meanwhile is seen
	if h.l, err = h.d.dir.Load().Listing(r); err != nil {
		return false, err
	}
	h.gen, same = h.d.given(h.l)
	return same, nil
}

// outdated reports whether the directory was changed through the mount, or
// another listing of it given out, since this one was taken. The kernel dates
// what it keeps by when it begins to read, not by when it opened.
func (h *dirHandle) outdated() bool {
	if h.changes != h.d.changes.Load() {
		return true
	}
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	return h.gen != h.d.gen
}

func (h *dirHandle) Readdirent(ctx context.Context) (*fuse.DirEntry, syscall.Errno) {
	if h.next == 0 && h.outdated() {
		if no := h.relist(ctx); no != 0 {
			return nil, no
		}
	}
	if h.next >= h.l.Len()+dots {
		return nil, 0
	}
	e := h.d.dirent(h.l, h.gen, h.next)
	h.next++
	return &e, 0
}

// Seekdir goes to the entry with the offset. Going back to the start looks at
// the directory anew, as rewinddir(3) promises; places in a listing from
// before that are gone.
func (h *dirHandle) Seekdir(ctx context.Context, off uint64) syscall.Errno {
	if off == 0 {
		if no := h.relist(ctx); no != 0 {
			return no
		}
	}
	_, next := placeOf(off)
	h.next = min(next, h.l.Len()+dots)
	return 0
}

func (h *dirHandle) relist(ctx context.Context) syscall.Errno {
	r := h.d.s.begin(ctx)
	defer r.finish()
	_, err := h.list(r)
	return h.d.s.fail(r, "readdir", "", err)
}
