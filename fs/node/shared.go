package node

import (
	"container/list"
	"context"
	"sync"

	"hfmount/fs"
)

// maxShared is how many handles a mount without OPEN keeps.
const maxShared = 256

// sharedHandles are the handles of a mount whose kernel does not send OPEN,
// one for each inode read of late. A handle carries the read-ahead state, so
// it must outlive a single read.
type sharedHandles struct {
	mu     sync.Mutex
	lent   map[*fileNode]*sharedHandle // guarded by mu
	recent list.List                   // of *sharedHandle, newest first; guarded by mu
	closed bool                        // guarded by mu
}

// sharedHandle is closed when it is out of the set and nobody uses it.
type sharedHandle struct {
	node  *fileNode
	h     *fs.Handle
	elem  *list.Element // nil once out of the set
	users int
}

// borrow returns the node's handle. The caller gives it back after the read.
func (s *sharedHandles) borrow(ctx context.Context, f *fileNode) (*sharedHandle, error) {
	if sh := s.find(f); sh != nil {
		return sh, nil
	}
	h, err := f.file.Load().Open(ctx)
	if err != nil {
		return nil, err
	}
	sh, out := s.insert(f, h)
	for _, h := range out {
		h.Close()
	}
	return sh, nil
}

func (s *sharedHandles) find(f *fileNode) *sharedHandle {
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := s.lent[f]
	if sh != nil {
		sh.users++
		s.recent.MoveToFront(sh.elem)
	}
	return sh
}

// insert returns the handle to use, which is another's if that was quicker,
// and those to close.
func (s *sharedHandles) insert(f *fileNode, h *fs.Handle) (sh *sharedHandle, out []*fs.Handle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sh := s.lent[f]; sh != nil {
		sh.users++
		return sh, []*fs.Handle{h}
	}
	sh = &sharedHandle{node: f, h: h, users: 1}
	if s.closed {
		return sh, nil // closed when given back
	}
	if s.lent == nil {
		s.lent = make(map[*fileNode]*sharedHandle)
	}
	sh.elem = s.recent.PushFront(sh)
	s.lent[f] = sh
	for len(s.lent) > maxShared {
		out = append(out, s.removeLocked(s.recent.Back().Value.(*sharedHandle))...)
	}
	return sh, out
}

// removeLocked takes sh out of the set and returns its handle if it is idle.
func (s *sharedHandles) removeLocked(sh *sharedHandle) []*fs.Handle {
	delete(s.lent, sh.node)
	s.recent.Remove(sh.elem)
	sh.elem = nil
	if sh.users == 0 {
		return []*fs.Handle{sh.h}
	}
	return nil
}

func (s *sharedHandles) giveBack(sh *sharedHandle) {
	s.mu.Lock()
	sh.users--
	last := sh.users == 0 && sh.elem == nil
	s.mu.Unlock()
	if last {
		sh.h.Close()
	}
}

// drop forgets the node's handle, as the kernel forgot the node.
func (s *sharedHandles) drop(f *fileNode) {
	s.mu.Lock()
	var out []*fs.Handle
	if sh := s.lent[f]; sh != nil {
		out = s.removeLocked(sh)
	}
	s.mu.Unlock()
	for _, h := range out {
		h.Close()
	}
}

// close drops all handles and keeps no more.
func (s *sharedHandles) close() {
	s.mu.Lock()
	s.closed = true
	var out []*fs.Handle
	for _, sh := range s.lent {
		out = append(out, s.removeLocked(sh)...)
	}
	s.mu.Unlock()
	for _, h := range out {
		h.Close()
	}
}
