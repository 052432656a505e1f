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
// are answered without asking: the kernel and ls -l ask for security.* and
// system.* on every file.
const xattrPrefix = "user.hf."

// getxattr copies the value to dest. If that is too small it returns ERANGE
// and the size, from which go-fuse also answers the question for the size.
func (s *Server) getxattr(ctx context.Context, n fs.Node, name string, dest []byte) (uint32, syscall.Errno) {
	if !strings.HasPrefix(name, xattrPrefix) {
		return 0, syscall.ENODATA
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
