package node

import (
	"context"
	"maps"
	"slices"
	"strings"
	"syscall"

	"hfmount/fs"
)

// xattrPrefix is the one namespace with anything in it. Names outside of it
// are answered without asking.
const xattrPrefix = "user.hf."

// getxattr copies the value to dest. If that is too small it returns ERANGE
// and the size, from which go-fuse also answers the question for the size.
func (s *Server) getxattr(ctx context.Context, n fs.Node, name string, dest []byte) (uint32, syscall.Errno) {
	switch {
	case strings.HasPrefix(name, xattrPrefix):
	case strings.HasPrefix(name, "user."):
		return 0, syscall.ENODATA
	default:
		// There are no labels and no lists here at all. ls -l asks for
		// security.* and system.* of every file until it is told so.
		return 0, syscall.ENOTSUP
	}
	r := s.begin(ctx)
	defer r.finish()
	attrs, err := n.Xattrs(r)
	if err != nil {
		return 0, s.fail(r, "getxattr", name, err)
	}
	value, ok := attrs[name]
	if !ok {
		return 0, syscall.ENODATA
	}
	return copyOut(dest, value)
}

// listxattr is getxattr for the names, each ended by a NUL.
func (s *Server) listxattr(ctx context.Context, n fs.Node, dest []byte) (uint32, syscall.Errno) {
	r := s.begin(ctx)
	defer r.finish()
	attrs, err := n.Xattrs(r)
	if err != nil {
		return 0, s.fail(r, "listxattr", "", err)
	}
	var list strings.Builder
	for _, name := range slices.Sorted(maps.Keys(attrs)) {
		list.WriteString(name)
		list.WriteByte(0)
	}
	return copyOut(dest, list.String())
}

func copyOut(dest []byte, value string) (uint32, syscall.Errno) {
	if len(dest) < len(value) {
		return uint32(len(value)), syscall.ERANGE
	}
	return uint32(copy(dest, value)), 0
}

// setxattr refuses. The Hub has no place for attributes of a file, and those
// that the mount shows say what is, not what somebody wants. Copying programs
// pass over ENOTSUP.
func (s *Server) setxattr(name string) syscall.Errno {
	switch {
	case s.readOnly:
		return syscall.EROFS
	case strings.HasPrefix(name, xattrPrefix):
		return syscall.EPERM
	}
	return syscall.ENOTSUP
}

func (d *dirNode) Setxattr(_ context.Context, name string, _ []byte, _ uint32) syscall.Errno {
	return d.s.setxattr(name)
}

func (f *fileNode) Setxattr(_ context.Context, name string, _ []byte, _ uint32) syscall.Errno {
	return f.s.setxattr(name)
}

func (l *linkNode) Setxattr(_ context.Context, name string, _ []byte, _ uint32) syscall.Errno {
	return l.s.setxattr(name)
}

func (d *dirNode) Removexattr(_ context.Context, name string) syscall.Errno {
	return d.s.removexattr(name)
}

func (f *fileNode) Removexattr(_ context.Context, name string) syscall.Errno {
	return f.s.removexattr(name)
}

func (l *linkNode) Removexattr(_ context.Context, name string) syscall.Errno {
	return l.s.removexattr(name)
}

// removexattr says that there is none, but of those that stay.
func (s *Server) removexattr(name string) syscall.Errno {
	if no := s.setxattr(name); no != syscall.ENOTSUP {
		return no
	}
	return syscall.ENODATA
}
