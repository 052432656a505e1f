package node

import (
	"context"
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
}

func (l *linkNode) Readlink(context.Context) ([]byte, syscall.Errno) {
	return []byte(l.link.Target()), 0
}

func (l *linkNode) Getattr(ctx context.Context, _ gofs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	return l.s.getattr(ctx, l, l.link, out)
}

// Setattr answers lchown and utimensat, which programs use that copy trees.
func (l *linkNode) Setattr(ctx context.Context, _ gofs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if l.s.readOnly {
		return syscall.EROFS
	}
	r := l.s.begin(ctx)
	defer r.finish()
	a, err := l.link.SetAttr(r, setAttrOf(in))
	if err != nil {
		return l.s.failWrite(r, "setattr", l.Path(nil), err)
	}
	l.s.fill(&out.Attr, a, l)
	out.SetTimeout(ttl(l.link.TTL()))
	return 0
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
