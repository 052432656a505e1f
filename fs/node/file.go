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

// fileNode shows an fs.File. Its content never changes.
type fileNode struct {
	gofs.Inode
	s      *Server
	file   atomic.Pointer[fs.File] // the newest of equals, see Server.child
	listed atomic.Bool             // in Server.live

	mu      sync.Mutex
	opens   openCount // guarded by mu
	backing int32     // id of the registered file while opens.native > 0; guarded by mu
	opened  bool      // guarded by mu
	epoch   uint64    // fs.File.Epoch at the last open; guarded by mu
}

func newFileNode(s *Server, f *fs.File) *fileNode {
	n := &fileNode{s: s}
	n.file.Store(f)
	return n
}

func (f *fileNode) Getattr(ctx context.Context, _ gofs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	return f.s.getattr(ctx, f.file.Load(), out)
}

func (f *fileNode) Getxattr(ctx context.Context, name string, dest []byte) (uint32, syscall.Errno) {
	return f.s.getxattr(ctx, f.file.Load(), name, dest)
}

func (f *fileNode) Listxattr(ctx context.Context, dest []byte) (uint32, syscall.Errno) {
	return f.s.listxattr(ctx, f.file.Load(), dest)
}

func (f *fileNode) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	return f.s.statfs(out)
}

func (f *fileNode) OnForget() {
	f.s.live.remove(f)
	f.s.shared.drop(f)
}

// Open opens the file in the mode that openCount says. The kernel keeps the
// pages of earlier opens unless they became untrustworthy since.
func (f *fileNode) Open(ctx context.Context, flags uint32) (gofs.FileHandle, uint32, syscall.Errno) {
	if flags&syscall.O_ACCMODE != syscall.O_RDONLY || flags&syscall.O_TRUNC != 0 {
		return nil, 0, syscall.EROFS
	}
	f.s.live.add(f)
	if f.s.noOpen {
		return nil, 0, syscall.ENOSYS
	}
	r := f.s.begin(ctx)
	defer r.finish()
	file := f.file.Load()
	epoch := file.Epoch() // before Open: what changes later is seen by the next open
	h, err := file.Open(r)
	if err != nil {
		return nil, 0, f.s.fail(r, "open", f.name(), err)
	}
	o := &openFile{node: f, h: h}
	keep := f.enter(o, file.Size(), epoch, f.s.reply(ctx))
	f.s.track(o)
	if keep {
		return o, fuse.FOPEN_KEEP_CACHE, 0
	}
	return o, 0, 0
}

// enter decides o's mode and counts it. reply takes the id of the backing
// file; without one there is no way to tell the kernel, and no native open.
func (f *fileNode) enter(o *openFile, size int64, epoch uint64, reply *openReply) (keep bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	complete := false
	blob, ok := o.h.Native()
	if ok && reply != nil && f.s.mayPassThrough() {
		complete = true
	}
	o.mode = f.opens.mode(complete, size)
	if o.mode == native && f.backing == 0 {
		// The first of them: opens.native is 0 and complete is true.
		if f.backing = f.s.register(blob); f.backing == 0 {
			o.mode = f.opens.mode(false, size)
		}
	}
	f.opens.enter(o.mode)
	if o.mode == native && reply != nil {
		reply.backing = f.backing
	}
	keep = !f.opened || f.epoch == epoch
	f.opened, f.epoch = true, epoch
	return keep
}

// leave counts o out. It is called once for each handle, at RELEASE, which the
// kernel sends after it gave up its own claim on the mode.
func (f *fileNode) leave(o *openFile) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.opens.leave(o.mode)
	if f.opens.native == 0 && f.backing != 0 {
		f.s.unregister(f.backing)
		f.backing = 0
	}
}

// busy reports whether the kernel holds the file open, as far as it says so.
func (f *fileNode) busy() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.opens.idle()
}

// Read serves a handle's read, or in a mount without OPEN the inode's.
func (f *fileNode) Read(ctx context.Context, fh gofs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	r := f.s.begin(ctx)
	defer r.finish()
	var h *fs.Handle
	if o, ok := fh.(*openFile); ok {
		h = o.h
	} else {
		lent, err := f.s.shared.borrow(r, f)
		if err != nil {
			return nil, f.s.fail(r, "open", f.name(), err)
		}
		defer f.s.shared.giveBack(lent)
		h = lent.h
	}
	view, err := h.View(r, off, len(dest))
	if err != nil {
		return nil, f.s.fail(r, "read", f.name(), err)
	}
	// The kernel takes a short answer for the end of the file and cuts it there.
	want := max(min(int64(len(dest)), f.file.Load().Size()-off), 0)
	if int64(view.Len()) != want {
		got := view.Len()
		view.Release()
		return nil, f.s.fail(r, "read", f.name(), fmt.Errorf("%d bytes at %d where %d are", got, off, want))
	}
	return &viewResult{view: view}, 0
}

// Flush and Fsync have nothing to do. ENOSYS tells the kernel not to ask
// again, and is a success to the caller.
func (f *fileNode) Flush(context.Context, gofs.FileHandle) syscall.Errno { return syscall.ENOSYS }

func (f *fileNode) Fsync(context.Context, gofs.FileHandle, uint32) syscall.Errno {
	return syscall.ENOSYS
}

// name is the path in the mount, for messages.
func (f *fileNode) name() string { return f.Path(nil) }
