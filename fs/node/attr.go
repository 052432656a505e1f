package node

import (
	"context"
	iofs "io/fs"
	"syscall"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"hfmount/fs"
)

// owner is who the mount says its files belong to, and what it takes off
// their permissions.
type owner struct {
	uid, gid uint32
	umask    uint32
}

// blockSize is the preferred size of a read in bytes, as stat shows it.
// Programs size their first buffer by it, and a header must stay cheap to read.
const blockSize = 4096

// fill translates a to what the kernel keeps. Directories have one link: with
// two, old versions of find believe that there are no sub-directories.
func (o owner) fill(out *fuse.Attr, a fs.Attr) {
	uid, gid := o.uid, o.gid
	if a.Owner != nil && a.Owner.UID != fs.NoOwner {
		uid = a.Owner.UID
	}
	if a.Owner != nil && a.Owner.GID != fs.NoOwner {
		gid = a.Owner.GID
	}
	*out = fuse.Attr{
		Ino:     a.Ino,
		Size:    uint64(a.Size),
		Blocks:  (uint64(a.Size) + 511) / 512,
		Blksize: blockSize,
		Mode:    typeBits(a.Mode) | o.permBits(a),
		Nlink:   1,
		Owner:   fuse.Owner{Uid: uid, Gid: gid},
	}
	if a.Mtime.IsZero() {
		return
	}
	atime, ctime := a.Mtime, a.Mtime
	if !a.Atime.IsZero() {
		atime = a.Atime
	}
	if !a.Ctime.IsZero() {
		ctime = a.Ctime
	}
	out.SetTimes(&atime, &a.Mtime, &ctime)
}

func typeBits(m iofs.FileMode) uint32 {
	switch {
	case m.IsDir():
		return syscall.S_IFDIR
	case m&iofs.ModeSymlink != 0:
		return syscall.S_IFLNK
	}
	return syscall.S_IFREG
}

// permBits are the permissions to show. What cannot be written has no bits for
// that, whatever the tree says. The mount's umask takes bits off what nobody
// chose: a mode that was given at a create or by chmod is shown as it was.
func (o owner) permBits(a fs.Attr) uint32 {
	switch {
	case a.Mode&iofs.ModeSymlink != 0:
		return 0o777 &^ o.umask
	case a.Writable && a.Chosen:
		return uint32(a.Mode.Perm())
	case a.Writable:
		return uint32(a.Mode.Perm()) &^ o.umask
	case a.Mode.IsDir():
		return 0o555 &^ o.umask
	}
	return uint32(a.Mode.Perm()) & 0o555 &^ o.umask
}

// fill translates a for the inode of n. One without a name has no link: it was
// unlinked, or made without one.
func (s *Server) fill(out *fuse.Attr, a fs.Attr, n gofs.InodeEmbedder) {
	s.owner.fill(out, a)
	inode := n.EmbeddedInode()
	if _, parent := inode.Parent(); parent == nil && !inode.IsRoot() {
		out.Nlink = 0
	}
}

// entry answers a request for a name with what is there.
func (s *Server) entry(out *fuse.EntryOut, a fs.Attr, ops gofs.InodeEmbedder, n fs.Node) {
	s.owner.fill(&out.Attr, a)
	out.SetEntryTimeout(ttl(n.TTL()))
	if f, ok := ops.(*fileNode); !ok || !f.changesUnseen() {
		out.SetAttrTimeout(ttl(n.TTL()))
	}
}

// getattr answers GETATTR for every kind of node.
func (s *Server) getattr(ctx context.Context, ops gofs.InodeEmbedder, n fs.Node, out *fuse.AttrOut) syscall.Errno {
	r := s.begin(ctx)
	defer r.finish()
	a, err := n.Attr(r)
	if err != nil {
		return s.fail(r, "getattr", "", err)
	}
	s.fill(&out.Attr, a, ops)
	out.SetTimeout(ttl(n.TTL()))
	return 0
}

// statfs shows a file system with room in it: there is no meaningful size of
// the Hub, and one that is full makes monitors ring.
func (s *Server) statfs(out *fuse.StatfsOut) syscall.Errno {
	const blocks = 1 << 38 // of 4 KiB: 1 PiB
	var files uint64
	for _, v := range s.tree.Views() {
		files += uint64(max(v.Files, 0))
	}
	*out = fuse.StatfsOut{
		Bsize:   blockSize,
		Frsize:  blockSize,
		Blocks:  blocks,
		Bfree:   blocks,
		Bavail:  blocks,
		Files:   files,
		NameLen: maxName,
	}
	return 0
}

// maxName is the longest file name in bytes, as for every local file system.
const maxName = 255

// ttl makes a lifetime fit for the wire, which has no negative ones.
func ttl(d time.Duration) time.Duration { return max(d, 0) }
