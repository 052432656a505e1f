package node

import (
	"context"
	"fmt"
	"strconv"
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

	mu      sync.Mutex
	opened  bool   // guarded by mu
	version uint64 // of the listing at the last OPENDIR; guarded by mu
}

func newDirNode(s *Server, d *fs.Dir) *dirNode {
	n := &dirNode{s: s}
	n.dir.Store(d)
	return n
}

// child returns the inode that shows n under name: the present one if it shows
// the same thing, else a new one.
//
// Content is part of an inode's identity, as its generation. So a file whose
// bytes changed is another inode even where fs gives it the same number, and
// neither pages nor open handles of the old one are touched.
func (s *Server) child(ctx context.Context, parent *gofs.Inode, name string, n fs.Node) (*gofs.Inode, error) {
	id := gofs.StableAttr{Ino: n.Ino(), Mode: typeBits(n.Mode())}
	if f, ok := n.(*fs.File); ok {
		id.Gen = contentGen(f)
	}
	if old := parent.GetChild(name); old != nil && old.StableAttr() == id {
		switch ops := old.Operations().(type) {
		case *dirNode:
			if d, ok := n.(*fs.Dir); ok {
				ops.dir.Store(d)
				return old, nil
			}
		case *fileNode:
			if f, ok := n.(*fs.File); ok {
				ops.file.Store(f)
				return old, nil
			}
		}
	}
	var ops gofs.InodeEmbedder
	switch n := n.(type) {
	case *fs.Dir:
		ops = newDirNode(s, n)
	case *fs.File:
		ops = newFileNode(s, n)
	case *fs.Symlink:
		ops = &linkNode{s: s, link: n}
	default:
		return nil, fmt.Errorf("a node of unknown type %T", n)
	}
	return parent.NewInode(ctx, ops, id), nil
}

// contentGen is the generation of a file's inode: the start of its hash.
func contentGen(f *fs.File) uint64 {
	hex := f.Content().Hex
	gen, err := strconv.ParseUint(hex[:min(16, len(hex))], 16, 64)
	if err != nil {
		return 0 // no hash, no promise
	}
	return gen
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
	d.s.owner.fill(&out.Attr, a)
	out.SetEntryTimeout(ttl(n.TTL()))
	out.SetAttrTimeout(ttl(n.TTL()))
	return inode, 0
}

func (d *dirNode) Getattr(ctx context.Context, _ gofs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	return d.s.getattr(ctx, d.dir.Load(), out)
}

// OpendirHandle takes the snapshot that this handle lists. The kernel may keep
// the listing and serve later handles from it; it is told to drop what it
// keeps when the version is another than at the last OPENDIR.
func (d *dirNode) OpendirHandle(ctx context.Context, _ uint32) (gofs.FileHandle, uint32, syscall.Errno) {
	d.s.live.add(d)
	r := d.s.begin(ctx)
	defer r.finish()
	entries, version, err := d.dir.Load().ReadDir(r)
	if err != nil {
		return nil, 0, d.s.fail(r, "opendir", "", err)
	}
	d.mu.Lock()
	same := d.opened && d.version == version
	d.opened, d.version = true, version
	d.mu.Unlock()
	if reply := d.s.reply(ctx); reply != nil {
		reply.dropCache = !same
	} else if !same {
		return &dirHandle{d: d, entries: entries}, 0, 0
	}
	return &dirHandle{d: d, entries: entries}, fuse.FOPEN_CACHE_DIR | fuse.FOPEN_KEEP_CACHE, 0
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
}

func (h *dirHandle) Readdirent(context.Context) (*fuse.DirEntry, syscall.Errno) {
	const dots = 2
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
		r := h.d.s.begin(ctx)
		defer r.finish()
		entries, _, err := h.d.dir.Load().ReadDir(r)
		if err != nil {
			return h.d.s.fail(r, "readdir", "", err)
		}
		h.entries = entries
	}
	if off > uint64(len(h.entries))+2 {
		off = uint64(len(h.entries)) + 2
	}
	h.next = int(off)
	return 0
}
