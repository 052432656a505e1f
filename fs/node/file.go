package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"hfmount/fs"
	"hfmount/remote/hub"
)

// fileNode shows an fs.File. What it stands for changes by writing alone; what
// others make of the path is another node.
type fileNode struct {
	gofs.Inode
	s      *Server
	file   atomic.Pointer[fs.File] // the newest of equals, see Server.child
	listed atomic.Bool             // in Server.live

	mu      sync.Mutex
	opens   openCount // guarded by mu
	writers int       // native opens for writing; guarded by mu
	backing backing   // while opens.native > 0; guarded by mu
	found   pages     // by the last open; guarded by mu
	// last keeps the bytes of a file without a name, see lastOpen. guarded by mu
	last []*fs.Handle
}

// backing is a file on disk that the kernel serves an inode from.
type backing struct {
	handle int32  // what the kernel knows it by, 0 for none
	id     string // fs.Handle.Backing
}

// pages says what an open found, and so what the kernel has in its page cache.
type pages struct {
	opened  bool
	local   bool
	epoch   uint64        // fs.File.Epoch
	content hub.ContentID // unless local
}

func newFileNode(s *Server, f *fs.File) *fileNode {
	n := &fileNode{s: s}
	n.file.Store(f)
	return n
}

func fileAttr(f *fs.File) gofs.StableAttr {
	return gofs.StableAttr{Ino: f.Ino(), Gen: f.Gen(), Mode: syscall.S_IFREG}
}

func (f *fileNode) Getattr(ctx context.Context, _ gofs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	no := f.s.getattr(ctx, f, f.file.Load(), out)
	if f.changesUnseen() {
		out.SetTimeout(0)
	}
	return no
}

// changesUnseen reports whether the kernel lets somebody write past us, so that
// only asking shows the present size and time.
func (f *fileNode) changesUnseen() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.writers > 0
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
	f.forgetLast()
	f.file.Load().Forgotten()
}

// openFlags translates those of open(2).
func (s *Server) openFlags(ctx context.Context, flags uint32) fs.OpenFlags {
	o := fs.OpenFlags{
		Write:  flags&syscall.O_ACCMODE != syscall.O_RDONLY,
		Append: flags&syscall.O_APPEND != 0,
		Trunc:  flags&syscall.O_TRUNC != 0,
	}
	// O_TRUNC changes the file also in an open for reading.
	if c, ok := ctx.(*fuse.Context); ok && (o.Write || o.Trunc) {
		o.PID = s.processOf(c.Pid)
	}
	return o
}

// Open opens the file in the mode that openCount says. The kernel keeps the
// pages of earlier opens unless they became untrustworthy since.
func (f *fileNode) Open(ctx context.Context, flags uint32) (gofs.FileHandle, uint32, syscall.Errno) {
	f.s.live.add(f)
	o := f.s.openFlags(ctx, flags)
	if f.s.readOnly && (o.Write || o.Trunc) {
		return nil, 0, syscall.EROFS
	}
	if f.s.noOpen {
		return nil, 0, syscall.ENOSYS
	}
	r := f.s.begin(ctx)
	defer r.finish()
	if o.Trunc && !f.mayWrite(r) {
		// Found out before the bytes are gone: they may be what readers keep.
		return f.openElsewhere(r)
	}
	file := f.file.Load()
	epoch := file.Epoch() // before Open: what changes later is seen by the next open
	h, err := file.OpenWith(r, o)
	if err != nil {
		return nil, 0, f.s.failWrite(r, "open", f.name(), err)
	}
	of := &openFile{node: f, h: h, write: o.Write, pid: o.PID}
	keep, ok := f.enter(of, file, epoch, f.s.reply(ctx))
	if !ok {
		f.s.closeHandle(h)
		return f.openElsewhere(r)
	}
	f.s.track(of)
	var how uint32
	if keep {
		how |= fuse.FOPEN_KEEP_CACHE
	}
	if !o.Write {
		how |= fuse.FOPEN_NOFLUSH
	}
	return of, how, 0
}

// openElsewhere makes the kernel look the path up again and open the inode
// that it then finds.
func (f *fileNode) openElsewhere(r *request) (gofs.FileHandle, uint32, syscall.Errno) {
	f.detach()
	return nil, 0, f.s.fail(r, "open", f.name(), fs.ErrStale)
}

// detach leaves this inode to those who read it natively.
func (f *fileNode) detach() {
	f.s.writerDue.expect(f.name(), f.s.now())
	f.file.Load().Detach()
}

// mayWrite reports whether a change of the file reaches everybody who has this
// inode open: not if the kernel reads something else by itself.
func (f *fileNode) mayWrite(r *request) bool {
	f.mu.Lock()
	present, busy := f.backing.id, f.opens.native > 0
	f.mu.Unlock()
	if !busy {
		return true
	}
	// Opening for writing changes nothing and fetches nothing.
	h, err := f.file.Load().OpenWith(r, fs.OpenFlags{Write: true})
	if err != nil {
		return true // the change itself will say why not
	}
	defer f.s.closeHandle(h)
	_, id, ok := h.Backing()
	return ok && id == present
}

// enter decides o's mode and counts it; it returns false if this inode cannot
// serve o. reply takes the id of the backing file; without one there is no way
// to tell the kernel, and no native open.
func (f *fileNode) enter(o *openFile, file *fs.File, epoch uint64, reply *openReply) (keep, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	wish := openWish{write: o.write, local: o.h.Local(), size: file.Size()}
	var disk *os.File
	if reply != nil && f.opens.asks(wish) && f.s.mayPassThrough() && (o.write || !f.s.writerDue.is(f.name, f.s.now())) {
		if d, id, ok := o.h.Backing(); ok {
			disk, wish.backing = d, id
		}
	}
	o.mode, ok = f.opens.mode(wish, f.backing.id)
	if !ok {
		return false, false
	}
	if o.mode == native && f.backing.handle == 0 {
		// The first of them: opens.native is 0 and there is a file on disk.
		f.backing = backing{f.s.register(disk), wish.backing}
		if f.backing.handle == 0 {
			f.backing = backing{}
			o.mode = cached
		}
	}
	f.opens.enter(o.mode)
	if o.mode == native {
		if o.write {
			f.writers++
		}
		if reply != nil {
			reply.backing = f.backing.handle
		}
	}
	if o.write {
		f.s.writerDue.came(f.name)
	}
	// Pages of local bytes are never kept: they may have been written to past
	// this inode, natively or under another name of the view.
	now := pages{opened: true, local: wish.local, epoch: epoch}
	if !wish.local {
		now.content = file.Content()
	}
	keep = !wish.local && (!f.found.opened || f.found == now)
	f.found = now
	return keep, true
}

// leave counts o out. It is called once for each handle, at RELEASE, which the
// kernel sends after it gave up its own claim on the mode.
func (f *fileNode) leave(o *openFile) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.opens.leave(o.mode)
	if o.mode == native && o.write {
		f.writers--
	}
	if f.opens.native == 0 && f.backing.handle != 0 {
		f.s.unregister(f.backing.handle)
		f.backing = backing{}
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
	if o, ok := fh.(*openFile); ok {
		return f.read(r, o.h, dest, off)
	}
	lent, err := f.s.shared.borrow(r, f)
	if err != nil {
		return nil, f.s.fail(r, "open", f.name(), err)
	}
	defer f.s.shared.giveBack(lent)
	return f.read(r, lent.h, dest, off)
}

func (f *fileNode) read(r *request, h *fs.Handle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	for !h.Local() {
		size := f.file.Load().Size()
		view, err := h.View(r, off, len(dest))
		if err == nil {
			// The kernel takes a short answer for the end of the file and cuts
			// it there.
			want := max(min(int64(len(dest)), size-off), 0)
			got := int64(view.Len())
			if got == want {
				return &viewResult{view: view}, 0
			}
			view.Release()
			if f.file.Load().Size() != size && r.Err() == nil {
				continue // it was written to between the two
			}
			err = fmt.Errorf("%d bytes at %d where %d are", got, off, want)
		}
		if !h.Local() && !errors.Is(err, fs.ErrLocal) {
			return nil, f.s.fail(r, "read", f.name(), err)
		}
	}
	n, err := h.ReadAt(r, dest, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, f.s.fail(r, "read", f.name(), err)
	}
	return fuse.ReadResultData(dest[:n]), 0
}

// name is the path in the mount, for messages.
func (f *fileNode) name() string { return f.Path(nil) }
