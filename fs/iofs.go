package fs

import (
	"context"
	"errors"
	"io"
	iofs "io/fs"
	"path"
	"strings"
	"sync"
	"time"
)

// FS returns the tree below d as an io/fs.FS (also ReadDirFS, StatFS,
// ReadFileFS, ReadLinkFS). Every operation on it lasts no longer than ctx.
// Open files are io.Seekers and io.ReaderAts.
func (t *Tree) FS(ctx context.Context, d *Dir) iofs.FS { return &ioFS{ctx, d} }

type ioFS struct {
	ctx  context.Context
	root *Dir
}

// maxLinks is how many symbolic links one path may lead through.
const maxLinks = 16

// node walks to name. The last component is followed too, unless nofollow.
func (f *ioFS) node(op, name string, nofollow bool) (Node, error) {
	fail := func(err error) (Node, error) {
		var pe *iofs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return nil, &iofs.PathError{Op: op, Path: name, Err: err}
	}
	if !iofs.ValidPath(name) {
		return fail(iofs.ErrInvalid)
	}
	at, rest, links := "", name, 0
	var n Node = f.root
	if rest == "." {
		rest = ""
	}
	stack := []*Dir{f.root}
	for rest != "" {
		part, more, _ := strings.Cut(rest, "/")
		rest = more
		child, err := stack[len(stack)-1].Lookup(f.ctx, part)
		if err != nil {
			return fail(err)
		}
		n = child
		switch c := child.(type) {
		case *Symlink:
			if rest == "" && nofollow {
				return n, nil
			}
			if links++; links > maxLinks {
				return fail(errors.New("too many links"))
			}
			next := path.Join(at, c.Target())
			if next == ".." || strings.HasPrefix(next, "../") {
				return fail(iofs.ErrNotExist)
			}
			rest = path.Join(next, rest)
			at, stack, n = "", stack[:1], f.root
		case *Dir:
			at, stack = join(at, part), append(stack, c)
		default:
			if rest != "" {
				return fail(ErrNotDir)
			}
		}
	}
	return n, nil
}

// Open implements io/fs.FS.
func (f *ioFS) Open(name string) (iofs.File, error) {
	n, err := f.node("open", name, false)
	if err != nil {
		return nil, err
	}
	info, err := f.info(name, n)
	if err != nil {
		return nil, &iofs.PathError{Op: "open", Path: name, Err: err}
	}
	switch n := n.(type) {
	case *Dir:
		return &openDir{fs: f, name: name, dir: n, info: info}, nil
	case *File:
		h, err := n.Open(f.ctx)
		if err != nil {
			return nil, &iofs.PathError{Op: "open", Path: name, Err: err}
		}
		r := io.NewSectionReader(readerAt{f.ctx, h}, 0, n.Size())
		return &openIO{SectionReader: r, h: h, name: name, info: info}, nil
	}
	return nil, &iofs.PathError{Op: "open", Path: name, Err: iofs.ErrInvalid}
}

// Stat implements io/fs.StatFS.
func (f *ioFS) Stat(name string) (iofs.FileInfo, error) { return f.stat("stat", name, false) }

// Lstat implements io/fs.ReadLinkFS.
func (f *ioFS) Lstat(name string) (iofs.FileInfo, error) { return f.stat("lstat", name, true) }

func (f *ioFS) stat(op, name string, nofollow bool) (iofs.FileInfo, error) {
	n, err := f.node(op, name, nofollow)
	if err != nil {
		return nil, err
	}
	info, err := f.info(name, n)
	if err != nil {
		return nil, &iofs.PathError{Op: op, Path: name, Err: err}
	}
	return info, nil
}

// ReadLink implements io/fs.ReadLinkFS.
func (f *ioFS) ReadLink(name string) (string, error) {
	n, err := f.node("readlink", name, true)
	if err != nil {
		return "", err
	}
	l, ok := n.(*Symlink)
	if !ok {
		return "", &iofs.PathError{Op: "readlink", Path: name, Err: iofs.ErrInvalid}
	}
	return l.Target(), nil
}

// ReadDir implements io/fs.ReadDirFS.
func (f *ioFS) ReadDir(name string) ([]iofs.DirEntry, error) {
	n, err := f.node("readdir", name, false)
	if err != nil {
		return nil, err
	}
	d, ok := n.(*Dir)
	if !ok {
		return nil, &iofs.PathError{Op: "readdir", Path: name, Err: ErrNotDir}
	}
	out, err := f.entries(name, d)
	if err != nil {
		return nil, &iofs.PathError{Op: "readdir", Path: name, Err: err}
	}
	return out, nil
}

func (f *ioFS) entries(name string, d *Dir) ([]iofs.DirEntry, error) {
	list, _, err := d.ReadDir(f.ctx)
	if err != nil {
		return nil, err
	}
	out := make([]iofs.DirEntry, len(list))
	for i, e := range list {
		out[i] = &ioEntry{f, d, e}
	}
	return out, nil
}

// ReadFile implements io/fs.ReadFileFS.
func (f *ioFS) ReadFile(name string) ([]byte, error) {
	file, err := f.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	r, ok := file.(*openIO)
	if !ok {
		return nil, &iofs.PathError{Op: "read", Path: name, Err: ErrIsDir}
	}
	// The size is the Hub's word until the bytes are there.
	const trust = 64 << 20
	if r.Size() > trust {
		return io.ReadAll(file)
	}
	b := make([]byte, r.Size())
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, &iofs.PathError{Op: "read", Path: name, Err: err}
	}
	return b, nil
}

func (f *ioFS) info(name string, n Node) (iofs.FileInfo, error) {
	a, err := n.Attr(f.ctx)
	if err != nil {
		return nil, err
	}
	return &ioInfo{path.Base(name), a, n}, nil
}

// readerAt reads a handle for as long as the context lasts.
type readerAt struct {
	ctx context.Context
	h   *Handle
}

func (r readerAt) ReadAt(p []byte, off int64) (int, error) { return r.h.ReadAt(r.ctx, p, off) }

type openIO struct {
	*io.SectionReader
	h    *Handle
	name string
	info iofs.FileInfo
	once sync.Once
}

func (o *openIO) Stat() (iofs.FileInfo, error) { return o.info, nil }

func (o *openIO) Close() error {
	err := error(&iofs.PathError{Op: "close", Path: o.name, Err: iofs.ErrClosed})
	o.once.Do(func() { err = o.h.Close() })
	return err
}

type openDir struct {
	fs   *ioFS
	name string
	dir  *Dir
	info iofs.FileInfo

	mu      sync.Mutex
	entries []iofs.DirEntry // what ReadDir has still to return
	read    bool
}

func (o *openDir) Stat() (iofs.FileInfo, error) { return o.info, nil }

func (o *openDir) Read([]byte) (int, error) {
	return 0, &iofs.PathError{Op: "read", Path: o.name, Err: ErrIsDir}
}

func (o *openDir) Close() error { return nil }

func (o *openDir) ReadDir(n int) ([]iofs.DirEntry, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.read {
		entries, err := o.fs.entries(o.name, o.dir)
		if err != nil {
			return nil, &iofs.PathError{Op: "readdir", Path: o.name, Err: err}
		}
		o.entries, o.read = entries, true
	}
	if n <= 0 {
		n = len(o.entries)
	} else if len(o.entries) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(o.entries))
	out := o.entries[:n:n]
	o.entries = o.entries[n:]
	return out, nil
}

type ioInfo struct {
	name string
	a    Attr
	node Node
}

func (i *ioInfo) Name() string        { return i.name }
func (i *ioInfo) Size() int64         { return i.a.Size }
func (i *ioInfo) Mode() iofs.FileMode { return i.a.Mode }
func (i *ioInfo) ModTime() time.Time  { return i.a.Mtime }
func (i *ioInfo) IsDir() bool         { return i.a.Mode.IsDir() }

// Sys returns the Node.
func (i *ioInfo) Sys() any { return i.node }

type ioEntry struct {
	fs  *ioFS
	dir *Dir
	e   DirEntry
}

func (e *ioEntry) Name() string        { return e.e.Name }
func (e *ioEntry) IsDir() bool         { return e.e.Mode.IsDir() }
func (e *ioEntry) Type() iofs.FileMode { return e.e.Mode }
func (e *ioEntry) String() string      { return iofs.FormatDirEntry(e) }

func (e *ioEntry) Info() (iofs.FileInfo, error) {
	n, err := e.dir.Lookup(e.fs.ctx, e.e.Name)
	if err != nil {
		return nil, err
	}
	return e.fs.info(e.e.Name, n)
}
