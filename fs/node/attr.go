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
	*out = fuse.Attr{
		Ino:     a.Ino,
		Size:    uint64(a.Size),
		Blocks:  (uint64(a.Size) + 511) / 512,
		Blksize: blockSize,
		Mode:    typeBits(a.Mode) | permBits(a.Mode)&^o.umask,
		Nlink:   1,
		Owner:   fuse.Owner{Uid: o.uid, Gid: o.gid},
	}
	if mtime := a.Mtime; mtime.Unix() > 0 {
		out.SetTimes(&mtime, &mtime, &mtime)
	}
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

// permBits are the permissions before the umask. Nothing can be written, so
// whatever the tree says beyond that is not shown.
func permBits(m iofs.FileMode) uint32 {
	switch {
	case m.IsDir():
		return 0o555
	case m&iofs.ModeSymlink != 0:
		return 0o777
	}
	return uint32(m.Perm()) & 0o555
}

// getattr answers GETATTR for every kind of node.
func (s *Server) getattr(ctx context.Context, n fs.Node, out *fuse.AttrOut) syscall.Errno {
	r := s.begin(ctx)
	defer r.finish()
	a, err := n.Attr(r)
	if err != nil {
		return s.fail(r, "getattr", "", err)
	}
	s.owner.fill(&out.Attr, a)
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

// linkNode shows an fs.Symlink.
type linkNode struct {
	gofs.Inode
	s    *Server
	link *fs.Symlink
}

func (l *linkNode) Readlink(context.Context) ([]byte, syscall.Errno) {
	return []byte(l.link.Target()), 0
}

func (l *linkNode) Getattr(ctx context.Context, _ gofs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	return l.s.getattr(ctx, l.link, out)
}

func (l *linkNode) Getxattr(ctx context.Context, name string, dest []byte) (uint32, syscall.Errno) {
	return l.s.getxattr(ctx, l.link, name, dest)
}

func (l *linkNode) Listxattr(ctx context.Context, dest []byte) (uint32, syscall.Errno) {
	return l.s.listxattr(ctx, l.link, dest)
}

func (l *linkNode) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	return l.s.statfs(out)
}

// ttl makes a lifetime fit for the wire, which has no negative ones.
func ttl(d time.Duration) time.Duration { return max(d, 0) }
