package fs

import (
	"strconv"

	"github.com/cespare/xxhash/v2"

	"hfmount/remote/hub"
)

// Inode numbers are hashes of what they stand for, so that they are the same
// after a remount and no table of them is kept. A directory of a repository
// keeps its number while its content changes; a file is one content and gets
// another number with another one.

// inoOf hashes fields, each ended by NUL so that no two lists of them run
// together. 0 and 1 are taken by FUSE.
func inoOf(fields ...string) uint64 {
	var buf [512]byte
	b := buf[:0]
	for _, f := range fields {
		b = append(b, f...)
		b = append(b, 0)
	}
	h := xxhash.Sum64(b)
	if h <= 1 {
		h += 2
	}
	return h
}

// dirIno is the number of a directory of a repository.
func (a *anchor) dirIno(path string) uint64 {
	return inoOf("dir", a.view.ref.Repo.String(), a.alias, path)
}

// fileIno is the number of a file with fixed content.
func (a *anchor) fileIno(dir string, l *listing, i int) uint64 {
	it := &l.items[i]
	var buf [512]byte
	b := append(buf[:0], "file\x00"...)
	b = append(b, a.view.ref.Repo.Type.Prefix()...)
	b = append(b, a.view.ref.Repo.Namespace...)
	b = append(b, '/')
	b = append(b, a.view.ref.Repo.Name...)
	b = append(b, 0)
	b = append(b, a.alias...)
	b = append(b, 0)
	if dir != "" {
		b = append(b, dir...)
		b = append(b, '/')
	}
	b = append(b, it.name...)
	b = append(b, 0)
	if x := l.extOf(i); x != nil && x.lfs {
		b = append(b, x.sha[:]...)
	} else {
		b = append(b, it.oid[:]...)
	}
	b = strconv.AppendInt(b, it.size, 10)
	h := xxhash.Sum64(b)
	if h <= 1 {
		h += 2
	}
	return h
}

// childIno is the number of an entry of a directory.
func (a *anchor) childIno(dir string, l *listing, i int) uint64 {
	if l.items[i].kind == hub.Directory {
		return a.dirIno(join(dir, l.items[i].name))
	}
	return a.fileIno(dir, l, i)
}
