package node

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"

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

	mu      sync.Mutex
	opened  bool   // guarded by mu
	version uint64 // of the listing that was last given out; guarded by mu
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
	dir := d.dir.Load()
	n, err := dir.Lookup(r, name)
	if err != nil {
		no := d.s.fail(r, "lookup", name, err)
		if no == syscall.ENOENT {
			// bridge.Lookup turns this into an answer the kernel remembers.
			out.SetEntryTimeout(ttl(dir.NegativeTTL()))
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
	return inode, 0
}

func (d *dirNode) Getattr(ctx context.Context, _ gofs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	return d.s.getattr(ctx, d, d.dir.Load(), out)
}

// OpendirHandle takes the snapshot that this handle lists. The kernel may keep
// the listing and serve later handles from it; it is told to drop what it
// keeps when the version is another than at the last OPENDIR.
func (d *dirNode) OpendirHandle(ctx context.Context, _ uint32) (gofs.FileHandle, uint32, syscall.Errno) {
	d.s.live.add(d)
	r := d.s.begin(ctx)
	defer r.finish()
	h := &dirHandle{d: d}
	same, err := h.list(r)
	if err != nil {
		return nil, 0, d.s.fail(r, "opendir", "", err)
	}
	if h.changes != 0 {
		// Offsets are places in one listing. Where names come and go, the kernel
		// must not go on in ours from a place in one that it kept of another.
		return h, 0, 0
	}
	if reply := d.s.reply(ctx); reply != nil {
		reply.dropCache = !same
	} else if !same {
		return h, 0, 0
	}
	return h, fuse.FOPEN_CACHE_DIR | fuse.FOPEN_KEEP_CACHE, 0
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

func (d *dirNode) OnForget() { d.s.live.remove(d) }

// dirHandle lists one snapshot of a directory. Entry 0 is ".", entry 1 is
// ".."; the offset of an entry is the number of the one that follows, so that
// telldir and seekdir work however large the directory is. go-fuse serialises
// the calls on one handle.
type dirHandle struct {
	d       *dirNode
	entries []fs.DirEntry
	next    int

	changes uint64 // dirNode.changes before the listing
	version uint64 // of the listing
}

// list takes the present listing, and reports whether it is the one that was
// given out before.
func (h *dirHandle) list(r *request) (same bool, err error) {
	h.changes = h.d.changes.Load() // before: what changes meanwhile is seen
	h.entries, h.version, err = h.d.dir.Load().ReadDir(r)
	if err != nil {
		return false, err
	}
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	same = h.d.opened && h.d.version == h.version
	h.d.opened, h.d.version = true, h.version
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
	return h.version != h.d.version
}

func (h *dirHandle) Readdirent(ctx context.Context) (*fuse.DirEntry, syscall.Errno) {
	const dots = 2
	if h.next == 0 && h.outdated() {
		if no := h.relist(ctx); no != 0 {
			return nil, no
		}
	}
	if h.next >= len(h.entries)+dots {
		return nil, 0
	}
	e := fuse.DirEntry{Off: uint64(h.next) + 1, Mode: syscall.S_IFDIR}
	switch h.next {
	case 0:
		e.Name, e.Ino = ".", h.d.StableAttr().Ino
	case 1:
		e.Name, e.Ino = "..", h.d.StableAttr().Ino
		if _, parent := h.d.Parent(); parent != nil {
			e.Ino = parent.StableAttr().Ino
		}
	default:
		of := &h.entries[h.next-dots]
		e.Name, e.Ino, e.Mode = of.Name, of.Ino, typeBits(of.Mode)
	}
	h.next++
	return &e, 0
}

// Seekdir goes to the entry with the offset. Going back to the start looks at
// the directory anew, as rewinddir(3) promises.
func (h *dirHandle) Seekdir(ctx context.Context, off uint64) syscall.Errno {
	if off == 0 {
		if no := h.relist(ctx); no != 0 {
			return no
		}
	}
	if off > uint64(len(h.entries))+2 {
		off = uint64(len(h.entries)) + 2
	}
	h.next = int(off)
	return 0
}

func (h *dirHandle) relist(ctx context.Context) syscall.Errno {
	r := h.d.s.begin(ctx)
	defer r.finish()
	_, err := h.list(r)
	return h.d.s.fail(r, "readdir", "", err)
}
