package staging

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// ReadAt is io.ReaderAt with a context. What is not local comes from the base
// and is not kept.
func (f *File) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("staging: negative offset %d: %w", off, iofs.ErrInvalid)
	}
	n := 0
	for n < len(p) {
		k, err := f.readSome(ctx, p[n:], off+int64(n))
		n += k
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// readSome reads what is in one place, local or in the base.
func (f *File) readSome(ctx context.Context, p []byte, off int64) (int, error) {
	r, err := f.reader()
	if err != nil {
		return 0, err
	}
	end, in := off+int64(len(p)), true
	if f.base != nil && off < f.size {
		end, in = f.local.split(Range{off, min(end, f.size)})
	}
	p = p[:end-off]
	if in {
		n, err := r.ReadAt(p, off)
		f.mu.RUnlock()
		return n, err
	}
	f.mu.RUnlock()

	b := f.hold()
	if b == nil {
		return 0, nil // it was completed meanwhile: look again
	}
	defer f.release(b)
	n, err := b.src.ReadAt(ctx, p, off)
	if n == len(p) {
		return n, nil
	}
	return n, shortBase(err)
}

// shortBase is the error of a base that ended before it should have.
func shortBase(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return fmt.Errorf("the content beneath a local edit: %w", io.ErrUnexpectedEOF)
	}
	return err
}

// hold takes a reference on the base, or returns nil for a complete file.
func (f *File) hold() *base {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.base != nil {
		f.base.refs++
	}
	return f.base
}

// change runs do on a writable descriptor, alone if the file is partial, and
// then does what it returns is local to the interval set.
func (f *File) change(do func(w *os.File) (Range, error)) error {
	f.mu.RLock()
	if f.w != nil && f.base == nil {
		defer f.mu.RUnlock()
		_, err := do(f.w)
		return err
	}
	f.mu.RUnlock()

	f.mu.Lock()
	if err := f.openLocked(true); err != nil {
		f.mu.Unlock()
		return err
	}
	r, err := do(f.w)
	var b *base
	if f.base != nil {
		f.local.add(Range{r.Off, min(r.End, f.size)})
		b = f.checkComplete()
	}
	f.mu.Unlock()
	b.drop()
	return err
}

// WriteAt writes at once, whatever is not local.
func (f *File) WriteAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("staging: negative offset %d: %w", off, iofs.ErrInvalid)
	}
	err = f.change(func(w *os.File) (Range, error) {
		n, err = w.WriteAt(p, off)
		return Range{off, off + int64(n)}, err
	})
	return n, err
}

// Truncate sets the size. What is cut off the base is never shown again.
func (f *File) Truncate(size int64) error {
	if size < 0 {
		return fmt.Errorf("staging: negative size %d: %w", size, iofs.ErrInvalid)
	}
	return f.change(func(w *os.File) (Range, error) {
		if err := w.Truncate(size); err != nil {
			return Range{}, err
		}
		// mu is held for writing if there is a base.
		if f.base != nil && size < f.size {
			f.size = size
			f.local.cut(size)
		}
		return Range{}, nil
	})
}

// Allocate is fallocate(2) with its mode; a punched or zeroed range is local.
// Modes that move bytes about are [errors.ErrUnsupported].
func (f *File) Allocate(off, size int64, mode uint32) error {
	if off < 0 || size <= 0 || off+size < off {
		return fmt.Errorf("staging: allocate %d bytes at %d: %w", size, off, iofs.ErrInvalid)
	}
	zeroed := false
	switch mode {
	case 0, unix.FALLOC_FL_KEEP_SIZE:
	case unix.FALLOC_FL_ZERO_RANGE, unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE,
		unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE:
		zeroed = true
	default:
		return fmt.Errorf("staging: fallocate mode %#x: %w", mode, errors.ErrUnsupported)
	}
	return f.change(func(w *os.File) (Range, error) {
		for {
			err := unix.Fallocate(int(w.Fd()), mode, off, size)
			switch {
			case err == unix.EINTR:
				continue
			case err != nil:
				return Range{}, &os.PathError{Op: "fallocate", Path: f.Path(), Err: err}
			case !zeroed:
				return Range{}, nil
			}
			return Range{off, off + size}, nil
		}
	})
}
