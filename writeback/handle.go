package writeback

import (
	"context"
	"errors"
	"io"
	iofs "io/fs"
	"os"
	"slices"
	"time"
)

// OpenFile says how a file is opened.
type OpenFile struct {
	Write  bool
	Append bool // an open that only appends holds nothing back
	PID    int  // who, 0 if it is not known
}

// Handle is one open of a file. It is safe for concurrent use; only Release
// must be the last call.
type Handle struct {
	f     *File
	o     OpenFile
	since time.Time

	// Guarded by Layer.mu.
	native   []*stage // with a reference each, for the descriptors given out
	released bool
}

// Open counts an opener in. A handle for writing makes the change Open until
// its Release. If the present bytes are sealed and on their way to the Hub,
// the first write puts a new file in their place and leaves them alone. It
// fails with ErrLanded if the bytes are on the Hub and in the snapshot now.
func (f *File) Open(o OpenFile) (*Handle, error) {
	l := f.l
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return nil, errClosed
	case f.gone != nil:
		return nil, f.gone
	}
	h := &Handle{f: f, o: o, since: l.o.Now()}
	f.handles++
	f.fresh = false
	if o.Write {
		f.writers = append(f.writers, h)
		l.signal.raise()
	}
	return h, nil
}

// File is what the handle is of.
func (h *Handle) File() *File { return h.f }

// present returns the present bytes with a reference.
func (f *File) present() *stage {
	f.mu.RLock()
	defer f.mu.RUnlock()
	f.cur.get()
	return f.cur
}

// ReadAt reads the present bytes; io.EOF at their end.
func (h *Handle) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	s := h.f.present()
	n, err := s.readAt(ctx, p, off)
	s.put()
	if err != nil && err != io.EOF {
		h.f.l.sweep()
	}
	return n, err
}

// WriteAt writes; a negative off appends.
func (h *Handle) WriteAt(ctx context.Context, p []byte, off int64) (n int, err error) {
	f := h.f
	if off < 0 {
		return h.append(ctx, p)
	}
	err = f.write(ctx, func(s *stage) error {
		n, err = s.sf.WriteAt(p, off)
		return err
	})
	return n, err
}

// append writes at the end: two of them never get the same place.
func (h *Handle) append(ctx context.Context, p []byte) (n int, err error) {
	f := h.f
	for {
		f.mu.Lock()
		if !f.cur.frozen() {
			f.touch()
			n, err := f.cur.sf.WriteAt(p, f.cur.sf.Size())
			f.mu.Unlock()
			return n, full(err)
		}
		f.mu.Unlock()
		if err := f.thaw(ctx, -1); err != nil {
			return 0, err
		}
	}
}

// Truncate sets the size. To make a file larger waits as NewFile does.
func (h *Handle) Truncate(ctx context.Context, size int64) error {
	f := h.f
	if now := f.Size(); size > now {
		if err := f.l.admit(ctx, 0); err != nil {
			return err
		}
	}
	if err := f.writeKeeping(ctx, size, func(s *stage) error { return s.sf.Truncate(size) }); err != nil {
		return err
	}
	return f.noteCut()
}

// Allocate is fallocate(2).
func (h *Handle) Allocate(ctx context.Context, off, size int64, mode uint32) error {
	return h.f.write(ctx, func(s *stage) error { return s.sf.Allocate(off, size, mode) })
}

// write runs do on bytes that may be written to.
func (f *File) write(ctx context.Context, do func(*stage) error) error {
	return f.writeKeeping(ctx, -1, do)
}

// writeKeeping is write for who needs the first keep bytes only, -1 for all.
func (f *File) writeKeeping(ctx context.Context, keep int64, do func(*stage) error) error {
	for {
		f.mu.RLock()
		if !f.cur.frozen() {
			f.touch()
			err := do(f.cur)
			f.mu.RUnlock()
			return full(err)
		}
		f.mu.RUnlock()
		if err := f.thaw(ctx, keep); err != nil {
			return err
		}
	}
}

// touch notes that the bytes are about to change.
func (f *File) touch() {
	if !f.wrote.Load() && !f.wrote.Swap(true) {
		f.gen.Add(1)
	}
}

// Native is a descriptor for passthrough, and true, if every byte is local
// and, for a handle for writing, nothing of it is sealed. It stays open until
// Release. Two handles may share a kernel inode natively only if their
// descriptors are of one file on disk (compare id).
func (h *Handle) Native() (fd *os.File, id string, ok bool) {
	f, l := h.f, h.f.l
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.cur
	if !s.sf.Complete() {
		return nil, "", false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || h.released {
		return nil, "", false
	}
	if h.o.Write {
		// The kernel will write without asking: a seal that nobody relies on is
		// given up for it, and the journal has to know that no byte comes from
		// the base any more.
		if s.sealing != nil || s.moved || s.pins > 0 {
			return nil, "", false
		}
		if f.unsealLocked() != nil {
			return nil, "", false
		}
		if !s.whole && len(f.at) > 0 {
			if l.appendLocked(payload{Stage: s.recLocked()}) != nil {
				return nil, "", false // it will be told by whatever writes next
			}
			s.wholeLocked()
		}
	}
	if fd, ok = s.sf.Data(h.o.Write); !ok {
		return nil, "", false
	}
	if !slices.Contains(h.native, s) {
		s.get()
		h.native = append(h.native, s)
	}
	return fd, s.sf.ID(), true
}

// wholeLocked notes that the journal knows a stage to be complete.
func (s *stage) wholeLocked() {
	s.whole = true
	s.place = nil
	if s.under != nil {
		s.under.put()
		s.under = nil
	}
}

// Flush records the present bytes, as close(2) promises: they survive the
// death of the process. No sync, no hashing.
func (h *Handle) Flush() error { return h.flush(false) }

// FlushLast is Flush by the close of what is the last descriptor of the file as
// far as the caller can see. Release follows in a moment, but the process may
// not live to see it: the file counts as closed from now on. If none follows,
// somebody has the file open after all, and it does not.
func (h *Handle) FlushLast() error { return h.flush(true) }

func (h *Handle) flush(last bool) error {
	if !h.o.Write {
		return nil
	}
	f, l := h.f, h.f.l
	l.mu.Lock()
	changed, err := f.noteLocked(true, last, nil)
	if last && err == nil && !f.open && len(f.at) > 0 {
		l.expectLocked(f)
	}
	l.mu.Unlock()
	if changed {
		l.signal.raise()
	}
	l.sweep()
	return err
}

// Sync makes bytes, journal and names survive the loss of power.
func (h *Handle) Sync(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f, l := h.f, h.f.l
	s := f.present()
	p, perr := s.sf.Print() // before: what is written from now on is not promised
	err := s.sync()
	s.put()
	switch {
	case errors.Is(err, iofs.ErrNotExist) || errors.Is(perr, iofs.ErrNotExist):
		// In the cache: the Hub has it.
	case err != nil:
		return err
	case perr != nil:
		return perr
	default:
		l.mu.Lock()
		_, err = f.noteLocked(false, false, &p)
		l.mu.Unlock()
		if err != nil {
			return err
		}
	}
	if err := l.syncJournal(); err != nil {
		return err
	}
	l.sweep()
	return nil
}

// sync makes the bytes of a stage durable, with those it shows from another.
func (s *stage) sync() error {
	s.l.mu.Lock()
	s.synced = true // before it is true: what was promised must not be deleted early
	under := s.under
	if under != nil {
		under.get()
	}
	s.l.mu.Unlock()
	if under != nil {
		err := under.sync()
		under.put()
		if err != nil {
			return err
		}
	}
	return s.sf.Sync()
}

// Release ends the open. After the last one for writing the file may be
// committed.
func (h *Handle) Release() error {
	f, l := h.f, h.f.l
	l.mu.Lock()
	if h.released {
		l.mu.Unlock()
		return nil
	}
	h.released = true
	var err error
	if h.o.Write {
		if !l.closed && !f.freed {
			_, err = f.noteLocked(true, false, nil)
		}
		f.writers = slices.DeleteFunc(f.writers, func(w *Handle) bool { return w == h })
		if len(f.writers) == 0 && !l.closed {
			err = errors.Join(err, f.closedLocked())
			l.leaveLandedLocked(f)
			l.compactLocked()
		}
	}
	f.handles--
	if f.handles == 0 && len(f.at) > 0 && !f.freed && f.cur.sealing == nil {
		_ = f.cur.sf.Idle() // what could not be closed was only read or is written already
	}
	f.dropLocked()
	for _, s := range h.native {
		s.put()
	}
	h.native = nil
	l.mu.Unlock()
	if h.o.Write {
		l.signal.raise()
	}
	l.sweep()
	return err
}
