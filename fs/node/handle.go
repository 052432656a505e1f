package node

import (
	"context"
	"sync"
	"sync/atomic"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"hfmount/blockcache"
	"hfmount/fs"
)

// openFile is one open of a file. It reads even where the kernel is told to
// read by itself, should it ask.
//
// It deliberately has no PassthroughFd method. go-fuse counts the backing file
// down at every RELEASE, also of handles that never counted it up, and stops
// passthrough for the whole mount after one failed registration. Here
// fileNode.backing is the only account, and bridge.Open tells the kernel.
type openFile struct {
	node  *fileNode
	h     *fs.Handle
	mode  openMode
	write bool
	pid   int // who, 0 if it is not known
	once  sync.Once
	// flushed is set by FLUSH, which precedes RELEASE.
	flushed atomic.Bool
}

// Release ends the open.
func (o *openFile) Release(context.Context) syscall.Errno {
	o.node.s.untrack(o)
	o.close()
	return 0
}

// close is called by RELEASE, or at the end of the mount for the handles whose
// RELEASE the kernel will not send any more.
func (o *openFile) close() {
	o.once.Do(func() {
		o.node.leave(o)
		o.node.s.closeHandle(o.h)
	})
}

// cut ends the open in place of close for one that was not complete. Its
// handle stays open: the layer of local changes then knows, when it is closed,
// that these bytes are not to be committed unasked.
func (o *openFile) cut() {
	o.once.Do(func() { o.node.leave(o) })
}

// lastOpen keeps the local bytes of a file that loses its name. Somebody who
// found the name before may open it after, and finds what was there, as on any
// file system: the inode lives until the kernel forgets it.
type lastOpen struct {
	node *fileNode
	h    *fs.Handle
}

// lastOpen opens the file that inode shows, if its bytes would be gone with the
// name; nil otherwise.
func (s *Server) lastOpen(r *request, inode *gofs.Inode) *lastOpen {
	if inode == nil {
		return nil
	}
	n, ok := inode.Operations().(*fileNode)
	if !ok || n.file.Load().Content().Valid() {
		return nil // the Hub has it
	}
	h, err := n.file.Load().Open(r)
	if err != nil {
		return nil // then nobody else can open it either
	}
	return &lastOpen{n, h}
}

// drop is for a name that stays after all.
func (l *lastOpen) drop() {
	if l != nil {
		l.node.s.closeHandle(l.h)
	}
}

// keep keeps the bytes until OnForget.
func (l *lastOpen) keep() {
	if l == nil {
		return
	}
	l.node.mu.Lock()
	defer l.node.mu.Unlock()
	l.node.last = append(l.node.last, l.h)
	l.node.s.tracked(l.node, true)
}

// forgetLast closes what lastOpen kept.
func (f *fileNode) forgetLast() {
	f.mu.Lock()
	last := f.last
	f.last = nil
	if last != nil {
		f.s.tracked(f, false)
	}
	f.mu.Unlock()
	for _, h := range last {
		f.s.closeHandle(h)
	}
}

func (s *Server) closeHandle(h *fs.Handle) {
	if err := h.Close(); err != nil {
		s.log.Warn("closing a handle failed", "cause", err)
	}
}

// viewResult sends pinned blocks to the kernel without copying them. go-fuse
// calls Done when they are sent, or when it will not send them.
type viewResult struct {
	view *blockcache.View
}

var _ fuse.ReadResult = (*viewResult)(nil)

func (r *viewResult) Slices() ([][]byte, fuse.Status) { return r.view.Slices(), fuse.OK }

func (r *viewResult) Size() int { return r.view.Len() }

func (r *viewResult) Done() { r.view.Release() }

// Bytes copies, for callers of go-fuse that cannot send several pieces.
func (r *viewResult) Bytes(buf []byte) ([]byte, fuse.Status) {
	buf = buf[:0]
	for _, s := range r.view.Slices() {
		buf = append(buf, s...)
	}
	return buf, fuse.OK
}
