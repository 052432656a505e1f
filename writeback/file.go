package writeback

import (
	"context"
	"errors"
	"io"
	iofs "io/fs"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"hfmount/writeback/staging"
)

// stage is one staging file and who needs it: the File whose present bytes it
// has, stages that show it where nothing was written, and whoever reads or
// sends it. With its last user it is closed, and deleted from disk.
type stage struct {
	l    *Layer
	sf   *staging.File
	refs atomic.Int64
	// trashed is set with the last reference, for good.
	trashed atomic.Bool

	// Guarded by Layer.mu.
	place  *Place // of a partial file: what it shows from the Hub
	under  *stage // or from another stage, which it has a reference of
	hub    *Place // where the Hub has exactly these bytes
	synced bool   // an fsync promised its bytes
	whole  bool   // the journal knows that it is complete
	pins   int    // who relies on sealed bytes

	// Changed with File.mu and Layer.mu of the file whose present bytes it has,
	// read with either.
	sealed  *staging.Sealed
	sealing *sealing
	moved   bool // into the cache: never to be written to again

	// again reads from the Hub what was moved away before it was opened.
	againMu sync.Mutex
	again   staging.Source
}

// frozen reports whether the next write must not simply go into the file.
func (s *stage) frozen() bool { return s.sealed != nil || s.sealing != nil || s.moved }

func (s *stage) get() { s.refs.Add(1) }

// put gives a reference back. The stage goes at the next Layer.sweep.
func (s *stage) put() {
	if s.refs.Add(-1) == 0 {
		s.l.trash.add(s)
	}
}

// readAt reads, also when the bytes have moved into the cache since.
func (s *stage) readAt(ctx context.Context, p []byte, off int64) (int, error) {
	n, err := s.sf.ReadAt(ctx, p, off)
	if n > 0 || !errors.Is(err, iofs.ErrNotExist) {
		return n, err
	}
	s.l.mu.RLock()
	hub := s.hub
	s.l.mu.RUnlock()
	if hub == nil || s.l.o.Content == nil {
		return n, err
	}
	s.againMu.Lock()
	if s.again == nil {
		s.again, err = s.l.o.Content(ctx, *hub)
	} else {
		err = nil
	}
	src := s.again
	s.againMu.Unlock()
	if err != nil {
		return 0, err
	}
	if off >= hub.Entry.Size {
		return 0, io.EOF
	}
	return src.ReadAt(ctx, p, off)
}

func (s *stage) close() error {
	s.againMu.Lock()
	again := s.again
	s.again = nil
	s.againMu.Unlock()
	if again != nil {
		_ = again.Close() // it was only read
	}
	return s.sf.Close()
}

// placeSource is a base on the Hub that is opened by the first read of it.
type placeSource struct {
	l *Layer
	p Place

	mu     sync.Mutex
	src    staging.Source
	closed bool
}

func (s *placeSource) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	src, err := s.open(ctx)
	if err != nil {
		return 0, err
	}
	return src.ReadAt(ctx, p, off)
}

func (s *placeSource) open(ctx context.Context) (staging.Source, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, errClosed
	case s.src != nil:
		return s.src, nil
	case s.l.o.Content == nil:
		return nil, errors.New("the bytes are on the Hub, and nothing opens them")
	}
	src, err := s.l.o.Content(ctx, s.p)
	if err != nil {
		return nil, err
	}
	s.src = src
	return src, nil
}

func (s *placeSource) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.src == nil {
		return nil
	}
	return s.src.Close()
}

// File is the local bytes behind a name, or, after an unlink, behind handles.
// It is safe for concurrent use.
type File struct {
	l  *Layer
	id uint64

	// mu is held for reading by writes, so that the present bytes do not become
	// others under them.
	mu  sync.RWMutex
	cur *stage // changed with mu and Layer.mu, read with either

	// gen is raised when the bytes may have become others since somebody last
	// looked at it; wrote is set by the write that raised it and cleared by
	// whoever looks.
	gen   atomic.Uint64
	wrote atomic.Bool

	// Guarded by Layer.mu.
	at      []*change
	handles int
	writers []*Handle
	fresh   bool  // nobody named or opened it yet
	gone    error // why nobody can open or name it any more
	freed   bool  // its reference of cur was given back
	// What the journal says:
	print    staging.Print
	flushed  bool
	open     bool // for writing, by who may have written what print stands for
	synced   bool
	unclosed bool
	doubt    bool      // it was closed, and the machine stopped before it was durable
	since    time.Time // of the last close that followed a write
}

// NewFile makes an empty file without a name. It waits, within ctx, while
// staging is full and drains, and fails with ErrNoSpace when it does not. The
// first Open or Apply owns the file; Abandon is for who does neither.
func (l *Layer) NewFile(ctx context.Context) (*File, error) {
	if err := l.admit(ctx, 0); err != nil {
		return nil, err
	}
	sf, err := l.staging.Create()
	if err != nil {
		return nil, full(err)
	}
	return l.newFile(&stage{l: l, sf: sf, whole: true})
}

// NewFileOver makes a file that shows what the Hub has at p until it is
// written to. Nothing is downloaded before that is needed.
func (l *Layer) NewFileOver(ctx context.Context, p Place) (*File, error) {
	if err := l.admit(ctx, 0); err != nil {
		return nil, err
	}
	sf, err := l.staging.CreateOver(&placeSource{l: l, p: p}, p.Entry.Size)
	if err != nil {
		return nil, full(err)
	}
	return l.newFile(&stage{l: l, sf: sf, place: &p, whole: sf.Complete()})
}

func (l *Layer) newFile(s *stage) (*File, error) {
	s.get()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		s.put()
		return nil, errors.Join(errClosed, s.sf.Close())
	}
	l.lastFile++
	f := &File{l: l, id: l.lastFile, cur: s, fresh: true}
	f.gen.Store(1)
	return f, nil
}

// Abandon deletes a file of NewFile that was neither opened nor named.
func (f *File) Abandon() {
	f.l.mu.Lock()
	f.fresh = false
	f.dropLocked()
	f.l.mu.Unlock()
	f.l.sweep()
}

// unnameLocked takes a change off the file.
func (f *File) unnameLocked(c *change) {
	if i := slices.Index(f.at, c); i >= 0 {
		f.at = slices.Delete(f.at, i, i+1)
	}
	f.dropLocked()
}

// dropLocked gives the bytes up if nobody needs the file any more.
func (f *File) dropLocked() {
	if len(f.at) > 0 || f.handles > 0 || f.fresh || f.freed {
		return
	}
	f.freed = true
	if f.gone == nil {
		f.gone = errClosed
	}
	f.cur.put()
}

// Landed reports whether the bytes are on the Hub and in the snapshot now, and
// no change names them any more. It stays so.
func (f *File) Landed() bool {
	f.l.mu.RLock()
	defer f.l.mu.RUnlock()
	return errors.Is(f.gone, ErrLanded)
}

// Size is in bytes, as of now.
func (f *File) Size() int64 {
	f.l.mu.RLock()
	defer f.l.mu.RUnlock()
	return f.sizeLocked()
}

// sizeLocked spares the disk the question where nobody can write.
func (f *File) sizeLocked() int64 {
	if f.settledLocked() {
		return f.print.Size
	}
	return f.cur.sf.Size()
}

func (f *File) settledLocked() bool {
	return f.flushed && len(f.writers) == 0 && !f.wrote.Load()
}

// Stat is Size and Mtime of the same moment.
func (f *File) Stat() (size int64, mtime time.Time) {
	f.l.mu.RLock()
	defer f.l.mu.RUnlock()
	p := f.print
	if !f.settledLocked() {
		p, _ = f.cur.sf.Print() // what it was last if it is gone
	}
	return p.Size, time.Unix(0, p.Mtime)
}

// Mtime is when it was last written.
func (f *File) Mtime() time.Time {
	f.l.mu.RLock()
	defer f.l.mu.RUnlock()
	if f.settledLocked() {
		return time.Unix(0, f.print.Mtime)
	}
	return f.cur.sf.Mtime()
}
