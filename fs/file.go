package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"hfmount/blockcache"
	"hfmount/remote/hub"
)

// File is a regular file with fixed content; changed content is another File.
type File struct {
	a    *anchor
	st   *state // what it was found in
	dir  string
	line item
	more *ext // nil for a file in git
	num  uint64
}

// newFile copies what it needs, so that a file does not keep the listing of a
// large directory in memory.
func newFile(a *anchor, st *state, dir string, l *listing, i int) *File {
	f := &File{a: a, st: st, dir: dir, line: l.items[i], num: a.fileIno(dir, l, i)}
	f.line.name = strings.Clone(f.line.name)
	if x := l.extOf(i); x != nil {
		c := *x
		f.more = &c
	}
	return f
}

// Attr implements Node.
func (f *File) Attr(context.Context) (Attr, error) {
	return Attr{Ino: f.num, Mode: 0o444, Size: f.line.size, Mtime: time.UnixMilli(f.line.mtime)}, nil
}

// Ino implements Node.
func (f *File) Ino() uint64 { return f.num }

// Mode implements Node.
func (f *File) Mode() iofs.FileMode { return 0 }

// TTL implements Node.
func (f *File) TTL() time.Duration { return f.a.view.ttl() }

// Size is in bytes.
func (f *File) Size() int64 { return f.line.size }

// Content is the identity of the bytes.
func (f *File) Content() hub.ContentID { return f.entry().Content() }

func (f *File) entry() hub.Entry { return entryOf(f.dir, &f.line, f.more) }

// Epoch changes when cached pages of the file's content became untrustworthy.
func (f *File) Epoch() uint64 { return f.a.view.t.contents.epoch(f.Content()) }

// Open pins the content. The caller closes the handle.
func (f *File) Open(ctx context.Context) (*Handle, error) {
	t := f.a.view.t
	if t.cache == nil {
		return nil, fmt.Errorf("opening %s without a cache: %w", f.line.name, errors.ErrUnsupported)
	}
	e := f.entry()
	b := &binding{v: f.a.view}
	b.at.Store(&place{f.st.snap, e})
	id := e.Content()
	file, err := t.cache.File(id, b)
	if err != nil {
		return nil, err
	}
	t.contents.open(id, f.num)
	return &Handle{file}, nil
}

// Handle is an open file. It keeps the bytes it was opened with.
type Handle struct{ f *blockcache.File }

// ReadAt reads like blockcache.File.ReadAt.
func (h *Handle) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	return h.f.ReadAt(ctx, p, off)
}

// View pins bytes like blockcache.File.View.
func (h *Handle) View(ctx context.Context, off int64, n int) (*blockcache.View, error) {
	return h.f.View(ctx, off, n)
}

// Native returns a descriptor for passthrough like blockcache.File.Native.
func (h *Handle) Native() (*os.File, bool) { return h.f.Native() }

// Close releases the handle.
func (h *Handle) Close() error { return h.f.Close() }

// binding is where the bytes of an open file come from: a blockcache.Source.
type binding struct {
	v  *view
	at atomic.Pointer[place]
}

// place is a path at a commit.
type place struct {
	snap  hub.Snapshot
	entry hub.Entry
}

// OpenRange reads from the commit the file was opened at. If history was
// rewritten since and that commit is gone, the same bytes may still be at the
// same path of the present one.
func (b *binding) OpenRange(ctx context.Context, off, n int64, urgent bool) (io.ReadCloser, error) {
	t, at := b.v.t, b.at.Load()
	if t.offline {
		return nil, fmt.Errorf("%s: %w", at.entry.Path, hub.ErrOffline)
	}
	r, err := t.src.OpenRange(ctx, at.snap, at.entry, off, n, urgent)
	if !gone(err) {
		return r, err
	}
	lost := &goneError{fmt.Sprintf("%s at %s", at.entry.Path, at.snap.Commit.Short()), err}
	if b.v.pinned {
		return nil, lost
	}
	if _, _, cerr := t.checking.do(ctx, b.v, b.v.check); cerr != nil {
		return nil, lost
	}
	st := b.v.cur.Load()
	if st.snap.Commit == at.snap.Commit {
		return nil, lost
	}
	l, i, lerr := st.lookup(ctx, at.entry.Path)
	if lerr != nil {
		return nil, lost
	}
	e := l.entry(i)
	if e.Type != hub.File || e.Content() != at.entry.Content() {
		return nil, lost
	}
	b.at.Store(&place{st.snap, e})
	r, err = t.src.OpenRange(ctx, st.snap, e, off, n, urgent)
	if gone(err) {
		return nil, lost
	}
	return r, err
}

// Symlink is where a canonical or renamed id leads.
type Symlink struct {
	num    uint64
	target string
	since  time.Time
}

// Attr implements Node.
func (l *Symlink) Attr(context.Context) (Attr, error) {
	return Attr{Ino: l.num, Mode: iofs.ModeSymlink | 0o444, Size: int64(len(l.target)), Mtime: l.since}, nil
}

// Ino implements Node.
func (l *Symlink) Ino() uint64 { return l.num }

// Mode implements Node.
func (l *Symlink) Mode() iofs.FileMode { return iofs.ModeSymlink }

// Xattrs implements Node. The kernel allows no user.* attributes on links.
func (l *Symlink) Xattrs(context.Context) (map[string]string, error) { return nil, nil }

// TTL implements Node.
func (l *Symlink) TTL() time.Duration { return hubTTL }

// Target is the link's text, relative.
func (l *Symlink) Target() string { return l.target }
