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
	"hfmount/fs/formats"
	"hfmount/remote/hub"
)

// File is a regular file. In a view that is only read it is fixed content, and
// changed content is another File. In a writable view it stands for an inode,
// whose name and bytes change.
type File struct {
	a     *anchor
	num   uint64
	w     *inode // nil in a view that is only read
	*held        // nil in a writable one
}

// fixedFile is a file with its content, in one piece of memory.
type fixedFile struct {
	File
	held held
}

// newFile copies what it needs, so that a file does not keep the listing of a
// large directory in memory.
func newFile(a *anchor, st *state, dir string, l *listing, i int) *File {
	x := &fixedFile{File: File{a: a, num: a.fileIno(dir, l, i)}, held: held{st: st, dir: dir, line: l.items[i]}}
	f := &x.File
	f.held = &x.held
	f.line.name = strings.Clone(f.line.name)
	if x := l.extOf(i); x != nil {
		c := *x
		f.more = &c
	}
	return f
}

// Attr implements Node.
func (f *File) Attr(context.Context) (Attr, error) {
	if f.w != nil {
		return f.w.attr(f.num), nil
	}
	return Attr{Ino: f.num, Mode: 0o444, Size: f.line.size, Mtime: time.UnixMilli(f.line.mtime)}, nil
}

// Ino implements Node.
func (f *File) Ino() uint64 { return f.num }

// Mode implements Node.
func (f *File) Mode() iofs.FileMode { return 0 }

// TTL implements Node. Fixed content has attributes for ever.
func (f *File) TTL() time.Duration {
	if f.w == nil {
		return forever
	}
	return f.a.view.ttl()
}

// Size is in bytes.
func (f *File) Size() int64 {
	if f.w != nil {
		return f.w.size()
	}
	return f.line.size
}

// Content is the identity of the bytes, the zero one while they are local.
func (f *File) Content() hub.ContentID {
	if f.w != nil {
		return f.w.content()
	}
	return f.content()
}

// Epoch changes when cached pages of the file's content became untrustworthy.
// It says nothing of local bytes.
func (f *File) Epoch() uint64 {
	id := f.Content()
	if !id.Valid() {
		return 0
	}
	return f.a.view.t.contents.epoch(id)
}

// Gen tells inodes of one number apart: it is another one when open readers
// must not see what the path shows from now on.
func (f *File) Gen() uint64 {
	if f.w != nil {
		return f.w.gen
	}
	return f.gen()
}

// Open opens the file for reading. The caller closes the handle.
func (f *File) Open(ctx context.Context) (*Handle, error) {
	if f.w != nil {
		return f.w.open(f, OpenFlags{})
	}
	c, err := f.a.view.openHeld(f.held, f.num)
	if err != nil {
		return nil, err
	}
	return &Handle{f: c, first: firstRead{a: f.a, h: f.held}}, nil
}

// openHeld opens bytes that the Hub has. num is the inode that shows them.
func (v *view) openHeld(h *held, num uint64) (*blockcache.File, error) {
	t := v.t
	if t.cache == nil {
		return nil, fmt.Errorf("opening %s without a cache: %w", h.line.name, errors.ErrUnsupported)
	}
	e := h.entry()
	id := e.Content()
	file, err := v.openPlace(&place{h.st.snap, e})
	if err != nil {
		return nil, err
	}
	t.contents.open(id, num)
	return file, nil
}

func (v *view) openPlace(p *place) (*blockcache.File, error) {
	b := &binding{v: v}
	b.at.Store(p)
	f, err := v.t.cache.File(p.entry.Content(), b)
	if err == nil {
		f.Expect(formats.All{}, formats.Named(p.entry.Path))
	}
	return f, err
}

// Handle is an open file. In a view that is only read it keeps the bytes it
// was opened with; in a writable one all handles of an inode are of the same
// bytes, whoever changes them.
type Handle struct {
	f *blockcache.File // in a view that is only read
	w *opened          // in a writable one

	first firstRead // of f
}

// ReadAt reads like blockcache.File.ReadAt.
func (h *Handle) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if h.w != nil {
		return h.w.readAt(ctx, p, off)
	}
	h.first.note()
	return h.f.ReadAt(ctx, p, off)
}

// View pins bytes like blockcache.File.View. It fails with ErrLocal where
// they are not the cache's.
func (h *Handle) View(ctx context.Context, off int64, n int) (*blockcache.View, error) {
	if h.w != nil {
		return h.w.view(ctx, off, n)
	}
	h.first.note()
	return h.f.View(ctx, off, n)
}

// Native returns a descriptor for passthrough like blockcache.File.Native, if
// the bytes are the cache's.
func (h *Handle) Native() (*os.File, bool) {
	if h.w != nil {
		return h.w.native()
	}
	return h.f.Native()
}

// Local reports whether the present bytes are local, not the cache's.
func (h *Handle) Local() bool { return h.w != nil && h.w.isLocal() }

// Backing is the descriptor for passthrough and the identity of the file on
// disk behind it: two opens of one kernel inode may be native together only if
// their ids are equal. ok is false where some byte is not local or verified,
// or writing must not reach it. The descriptor lasts until Close.
func (h *Handle) Backing() (f *os.File, id string, ok bool) {
	if h.w != nil {
		return h.w.backing()
	}
	if f, ok = h.f.Native(); !ok {
		return nil, "", false
	}
	return f, "cache:" + h.f.ID().String(), true
}

// Close releases the handle.
func (h *Handle) Close() error {
	if h.w != nil {
		return h.w.close()
	}
	return h.f.Close()
}

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
	if _, uerr := b.v.use(ctx); uerr != nil {
		return nil, lost // it was never looked at: the base of a change of an earlier mount
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

// Symlink is where a canonical or renamed id leads, or a local link in a
// writable view.
type Symlink struct {
	num    uint64
	target string
	since  time.Time
	a      *anchor // both nil but in a writable view
	w      *inode
}

// Attr implements Node.
func (l *Symlink) Attr(context.Context) (Attr, error) {
	if l.w != nil {
		return l.w.attr(l.num), nil
	}
	return Attr{Ino: l.num, Mode: iofs.ModeSymlink | 0o444, Size: int64(len(l.target)), Mtime: l.since}, nil
}

// Ino implements Node.
func (l *Symlink) Ino() uint64 { return l.num }

// Mode implements Node.
func (l *Symlink) Mode() iofs.FileMode { return iofs.ModeSymlink }

// Xattrs implements Node. The kernel allows no user.* attributes on links.
func (l *Symlink) Xattrs(context.Context) (map[string]string, error) { return nil, nil }

// TTL implements Node.
func (l *Symlink) TTL() time.Duration {
	if l.a != nil {
		return l.a.view.ttl()
	}
	return hubTTL
}

// Target is the link's text, relative.
func (l *Symlink) Target() string { return l.target }
