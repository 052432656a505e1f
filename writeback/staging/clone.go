package staging

import (
	"context"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// CreateFrom makes a file with the bytes of from, which must be complete and
// sealed: where the file system can, by sharing its blocks, and else as a
// partial file over it, at no cost until it is filled. from may be removed
// meanwhile.
func (d *Dir) CreateFrom(from *File) (*File, error) {
	src, err := from.own()
	if err != nil {
		return nil, err
	}
	f, err := d.Create()
	if err != nil {
		return nil, errors.Join(err, src.Close())
	}
	if unix.IoctlFileClone(int(f.w.Fd()), int(src.Fd())) == nil {
		return f, src.Close()
	}
	st, err := src.Stat()
	if err == nil {
		err = f.w.Truncate(st.Size())
	}
	if err != nil {
		return nil, errors.Join(err, src.Close(), f.Close(), d.Remove(f.id))
	}
	f.setBase(fileSource{src}, st.Size())
	return f, nil
}

// Copy makes a complete file with the bytes that from has now, while writers
// of it go on: what they write meanwhile may or may not be in it, but no byte
// behind the size of now is.
func (d *Dir) Copy(ctx context.Context, from *File) (_ *File, err error) {
	f, err := d.Create()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), d.Remove(f.id))
		}
	}()
	if src, err := from.own(); err == nil {
		cloned := unix.IoctlFileClone(int(f.w.Fd()), int(src.Fd())) == nil
		if err := src.Close(); err != nil {
			return nil, err
		}
		if cloned {
			return f, nil
		}
	}
	size := from.Size()
	buf := make([]byte, min(pieceSize, max(size, 1)))
	for off := int64(0); off < size; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n, err := from.ReadAt(ctx, buf[:min(int64(len(buf)), size-off)], off)
		if _, werr := f.w.WriteAt(buf[:n], off); werr != nil {
			return nil, werr
		}
		off += int64(n)
		if errors.Is(err, io.EOF) {
			break // it was cut meanwhile
		} else if err != nil {
			return nil, err
		}
	}
	return f, nil
}

// own opens a complete file once more, for reading. The descriptor is the
// caller's.
func (f *File) own() (*os.File, error) {
	r, err := f.reader()
	if err != nil {
		return nil, err
	}
	defer f.mu.RUnlock()
	if f.base != nil {
		return nil, errors.New("staging: the file is partial")
	}
	if own, err := os.Open(f.Path()); err == nil {
		return own, nil
	}
	// The cache has it by now, or it was removed.
	fd, err := unix.FcntlInt(r.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "dup", Path: f.Path(), Err: err}
	}
	return os.NewFile(uintptr(fd), f.Path()), nil
}

// fileSource is a base on local disk.
type fileSource struct{ f *os.File }

func (s fileSource) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	return s.f.ReadAt(p, off)
}

func (s fileSource) Close() error { return s.f.Close() }
