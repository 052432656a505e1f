package node

import (
	"context"
	"sync"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"hfmount/fs"
)

// linkNode shows an fs.Symlink.
type linkNode struct {
	gofs.Inode
	s    *Server
	link *fs.Symlink

	mu  sync.Mutex
	set fs.SetAttr // guarded by mu
}

func (l *linkNode) Readlink(context.Context) ([]byte, syscall.Errno) {
	return []byte(l.link.Target()), 0
}

func (l *linkNode) Getattr(ctx context.Context, _ gofs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	no := l.s.getattr(ctx, l, l.link, out)
	l.show(&out.Attr)
	return no
}

// Setattr answers lchown and utimensat, which programs use that copy trees. It
// lasts as long as the kernel remembers the link.
func (l *linkNode) Setattr(ctx context.Context, fh gofs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if _, parent := l.Parent(); l.s.readOnly || !writableDir(parent) {
		return syscall.EROFS
	}
	set := setAttrOf(in)
	l.mu.Lock()
	if set.UID != nil {
		l.set.UID = set.UID
	}
	if set.GID != nil {
		l.set.GID = set.GID
	}
	if set.Atime != nil {
		l.set.Atime = set.Atime
	}
	if set.Mtime != nil {
		l.set.Mtime = set.Mtime
	}
	l.mu.Unlock()
	return l.Getattr(ctx, fh, out)
}

func writableDir(inode *gofs.Inode) bool {
	if inode == nil {
		return false
	}
	d, ok := inode.Operations().(*dirNode)
	return ok && d.dir.Load().Writable()
}

// show puts what Setattr said into a.
func (l *linkNode) show(a *fuse.Attr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.set.UID != nil {
		a.Uid = *l.set.UID
	}
	if l.set.GID != nil {
		a.Gid = *l.set.GID
	}
	a.SetTimes(l.set.Atime, l.set.Mtime, nil)
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
