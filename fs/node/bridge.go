package node

import (
	"context"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// bridge stands between go-fuse's node layer and the wire, for the things that
// the node layer cannot say.
type bridge struct {
	fuse.RawFileSystem
	s *Server
}

// openReply is what a handler wants in the answer to OPEN, CREATE, TMPFILE or
// OPENDIR.
type openReply struct {
	backing   int32    // the id of the file to read natively, 0 for none
	dropCache bool     // cache from now on, but drop what is cached
	dir       *dirNode // whom the request is for, where OPENDIR is not implemented
}

// Lookup makes a miss that has a lifetime into an entry without a node, which
// the kernel remembers for that long.
func (b *bridge) Lookup(cancel <-chan struct{}, header *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	st := b.RawFileSystem.Lookup(cancel, header, name, out)
	if st == fuse.Status(syscall.ENOENT) && out.EntryTimeout() > 0 {
		out.NodeId = 0
		return fuse.OK
	}
	return st
}

func (b *bridge) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	var reply openReply
	defer b.s.expect(cancel, &reply)()
	st := b.RawFileSystem.Open(cancel, in, out)
	reply.fill(st, out)
	return st
}

func (b *bridge) Create(cancel <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	var reply openReply
	defer b.s.expect(cancel, &reply)()
	st := b.RawFileSystem.Create(cancel, in, name, out)
	reply.fill(st, &out.OpenOut)
	return st
}

func (b *bridge) Tmpfile(cancel <-chan struct{}, in *fuse.CreateIn, out *fuse.CreateOut) fuse.Status {
	var reply openReply
	defer b.s.expect(cancel, &reply)()
	st := b.RawFileSystem.Tmpfile(cancel, in, out)
	reply.fill(st, &out.OpenOut)
	return st
}

func (r *openReply) fill(st fuse.Status, out *fuse.OpenOut) {
	if st.Ok() && r.backing != 0 {
		out.BackingID = r.backing
		out.OpenFlags |= fuse.FOPEN_PASSTHROUGH
		out.OpenFlags &^= fuse.FOPEN_KEEP_CACHE
	}
}

func (b *bridge) OpenDir(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	if b.s.noOpendir {
		return fuse.ENOSYS // and the kernel never asks again
	}
	var reply openReply
	defer b.s.expect(cancel, &reply)()
	st := b.RawFileSystem.OpenDir(cancel, in, out)
	if st.Ok() && reply.dropCache {
		out.OpenFlags &^= fuse.FOPEN_KEEP_CACHE
	}
	return st
}

// expect lets the handler of the request find reply. A request is known by its
// cancel channel, which the node layer passes on and no other request in
// flight shares. The returned function ends it.
func (s *Server) expect(cancel <-chan struct{}, reply *openReply) func() {
	if cancel == nil {
		return func() {}
	}
	s.replies.Store(cancel, reply)
	return func() { s.replies.Delete(cancel) }
}

// reply finds the reply of the request that ctx belongs to, nil if there is
// nobody to send it.
func (s *Server) reply(ctx context.Context) *openReply {
	c, ok := ctx.(*fuse.Context)
	if !ok || c.Cancel == nil {
		return nil
	}
	v, ok := s.replies.Load(c.Cancel)
	if !ok {
		return nil
	}
	return v.(*openReply)
}
