package staging

import (
	"context"
	"os"

	"golang.org/x/sys/unix"
)

// pieceSize is how much of the base is copied at once.
const pieceSize = 1 << 20

// Fill copies the rest of the base, after which the file is complete. Writes
// go on meanwhile and win. It may be called again after an error. The time of
// last modification stays as it is.
func (f *File) Fill(ctx context.Context) error {
	if f.Complete() {
		return nil
	}
	select {
	case f.filling <- struct{}{}:
		defer func() { <-f.filling }()
	case <-ctx.Done():
		return ctx.Err()
	}
	b := f.hold()
	if b == nil {
		return nil
	}
	defer f.release(b)
	var buf []byte
	for {
		r, ok := f.nextGap()
		if !ok {
			return f.usable()
		}
		if buf == nil {
			buf = make([]byte, pieceSize)
		}
		p := buf[:r.End-r.Off]
		// The whole piece or nothing: what was read of one that failed is not
		// worth a second way through here.
		if n, err := b.src.ReadAt(ctx, p, r.Off); n < len(p) {
			return shortBase(err)
		}
		if err := f.put(p, r.Off); err != nil {
			return err
		}
	}
}

// usable is nil until Close.
func (f *File) usable() error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.closed {
		return os.ErrClosed
	}
	return nil
}

// nextGap is the first piece that is not local.
func (f *File) nextGap() (Range, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.base == nil || f.closed {
		return Range{}, false
	}
	at := int64(0)
	for at < f.size {
		end, in := f.local.split(Range{at, f.size})
		if !in {
			return Range{at, min(end, at+pieceSize)}, true
		}
		at = end
	}
	return Range{}, false
}

// put writes those of the base's bytes at off that are still shown.
func (f *File) put(p []byte, off int64) error {
	f.mu.Lock()
	b, err := f.putLocked(p, off)
	f.mu.Unlock()
	b.drop()
	return err
}

func (f *File) putLocked(p []byte, off int64) (*base, error) {
	if err := f.openLocked(true); err != nil {
		return nil, err
	}
	if f.base == nil {
		return nil, nil
	}
	var st unix.Stat_t
	if err := f.stat(&st); err != nil {
		return nil, err
	}
	at, end := off, min(off+int64(len(p)), f.size)
	for at < end {
		to, in := f.local.split(Range{at, end})
		if !in {
			n, err := f.w.WriteAt(p[at-off:to-off], at)
			f.local.add(Range{at, at + int64(n)})
			if err != nil {
				return nil, err
			}
		}
		at = to
	}
	// Nobody else writes to a partial file, so that no time is lost here.
	if err := setMtime(f.w, st.Mtim); err != nil {
		return nil, err
	}
	return f.checkComplete(), nil
}

func setMtime(f *os.File, mtime unix.Timespec) error {
	ts := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, mtime}
	err := unix.UtimesNanoAt(int(f.Fd()), "", ts, unix.AT_EMPTY_PATH)
	if err == unix.EINVAL || err == unix.ENOENT { // before Linux 5.8
		err = unix.UtimesNanoAt(unix.AT_FDCWD, f.Name(), ts, 0)
	}
	if err != nil {
		return &os.PathError{Op: "utimensat", Path: f.Name(), Err: err}
	}
	return nil
}
