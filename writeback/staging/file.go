package staging

import (
	"context"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Source is the base of a partial file. *fs.Handle and *blockcache.File are ones.
type Source interface {
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
	Close() error
}

// File is one staging file. It is safe for concurrent use; overlapping reads
// and writes are ordered as the kernel orders those of a file.
type File struct {
	d       *Dir
	id      string
	filling chan struct{} // holds a value while someone fills

	// mu is held for writing by whatever changes the fields below, and by all
	// writes while the file is partial: local and the bytes on disk go together.
	mu     sync.RWMutex
	r, w   *os.File // O_RDONLY and O_RDWR; nil until needed
	base   *base    // nil: complete
	size   int64    // how much of the base, from its start, may still show
	local  ranges   // of [0, size)
	named  bool     // the name is durable
	closed bool
	last   Print // for when the file on disk is gone
}

// base counts who reads it, since a write may complete the file meanwhile.
type base struct {
	src  Source
	refs int // guarded by File.mu; the File has one
}

// ID is its name in the folder.
func (f *File) ID() string { return f.id }

// Path is its name on disk.
func (f *File) Path() string { return f.d.name(f.id) }

// Print is what tells whether a file was written to meanwhile, by whomever.
// Copying base bytes in changes it as well.
type Print struct {
	Size  int64 `json:"s"`
	Mtime int64 `json:"m"` // nanoseconds since 1970
	Ctime int64 `json:"c"`
}

func printOf(st os.FileInfo) Print {
	p := Print{Size: st.Size(), Mtime: st.ModTime().UnixNano()}
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		p.Ctime = s.Ctim.Nano()
	}
	return p
}

// stat asks the file on disk. mu is held.
func (f *File) stat(st *unix.Stat_t) error {
	for _, fd := range [...]*os.File{f.w, f.r} {
		if fd != nil {
			if err := unix.Fstat(int(fd.Fd()), st); err != nil {
				return &os.PathError{Op: "stat", Path: f.Path(), Err: err}
			}
			return nil
		}
	}
	if err := unix.Lstat(f.Path(), st); err != nil {
		return &os.PathError{Op: "stat", Path: f.Path(), Err: err}
	}
	return nil
}

// Print tells versions apart.
func (f *File) Print() (Print, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.printLocked()
}

func (f *File) printLocked() (Print, error) {
	var st unix.Stat_t
	if err := f.stat(&st); err != nil {
		return f.last, err
	}
	return Print{Size: st.Size, Mtime: st.Mtim.Nano(), Ctime: st.Ctim.Nano()}, nil
}

// Size is in bytes, as of now, writes of the kernel included.
func (f *File) Size() int64 {
	p, _ := f.Print() // what it was last if it is gone
	return p.Size
}

// Mtime is when it was last written.
func (f *File) Mtime() time.Time {
	p, _ := f.Print()
	return time.Unix(0, p.Mtime)
}

// Complete reports whether every byte is local.
func (f *File) Complete() bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.base == nil
}

// Filled is what is local of a partial file, nil for a complete one.
func (f *File) Filled() []Range {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return append([]Range(nil), f.local...)
}

// BaseSize is how much of the base may still show, 0 for a complete file.
func (f *File) BaseSize() int64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.size
}

// setBase makes a file nobody knows yet partial.
func (f *File) setBase(src Source, size int64) {
	f.base, f.size = &base{src: src, refs: 1}, max(size, 0)
	f.local.cut(f.size)
	f.mu.Lock()
	b := f.checkComplete()
	f.mu.Unlock()
	b.drop()
}

// checkComplete ends the partial state if nothing of the base shows any more,
// and returns what the caller drops without mu. mu is held for writing.
func (f *File) checkComplete() *base {
	if f.base == nil {
		return nil
	}
	if f.size > 0 && (len(f.local) != 1 || f.local[0].Off > 0 || f.local[0].End < f.size) {
		return nil
	}
	f.size, f.local = 0, nil
	return f.detach()
}

// detach takes the base off and returns it if nobody reads it any more. mu is
// held for writing.
func (f *File) detach() *base {
	b := f.base
	f.base = nil
	if b == nil {
		return nil
	}
	if b.refs--; b.refs > 0 {
		return nil
	}
	return b
}

// drop closes a base that nobody reads any more; nil is none.
func (b *base) drop() {
	if b != nil {
		_ = b.src.Close() // it was only read
	}
}

// release gives back a reference taken for reading.
func (f *File) release(b *base) {
	f.mu.Lock()
	b.refs--
	last := b.refs == 0
	f.mu.Unlock()
	if last {
		b.drop()
	}
}

// reader returns a descriptor to read from. It takes mu and keeps it for
// reading if there is no error.
func (f *File) reader() (*os.File, error) {
	f.mu.RLock()
	for f.r == nil && (f.w == nil || f.closed) {
		f.mu.RUnlock()
		f.mu.Lock()
		err := f.openLocked(false)
		f.mu.Unlock()
		if err != nil {
			return nil, err
		}
		f.mu.RLock()
	}
	if f.r != nil {
		return f.r, nil
	}
	return f.w, nil
}

// openLocked opens a descriptor that is not open. mu is held for writing.
func (f *File) openLocked(write bool) error {
	if f.closed {
		return os.ErrClosed
	}
	at, flags := &f.r, os.O_RDONLY
	if write {
		at, flags = &f.w, os.O_RDWR
	}
	if *at != nil {
		return nil
	}
	fd, err := openFile(f.Path(), flags)
	if err != nil {
		return err
	}
	*at = fd
	f.d.use(f)
	return nil
}

// openFile is os.OpenFile for a regular file, without the five calls that find
// out that one cannot be polled.
func openFile(name string, flags int) (*os.File, error) {
	for {
		fd, err := unix.Open(name, flags|unix.O_CLOEXEC, 0o600)
		switch err {
		case nil:
			return os.NewFile(uintptr(fd), name), nil
		case unix.EINTR:
		default:
			return nil, &os.PathError{Op: "open", Path: name, Err: err}
		}
	}
}

// Data is a descriptor of a complete file, for the kernel to read and write
// through. It is the File's and read-only, for writers too: the kernel opens
// the file anew with the flags of each open, and a writable descriptor that it
// kept for a reader would keep the file from ever being sealed. False while
// the file is partial.
func (f *File) Data(_ bool) (*os.File, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.base != nil || f.openLocked(false) != nil {
		return nil, false
	}
	return f.r, true
}

// Idle closes the descriptors of a file that nobody has open. They come back
// when they are needed.
func (f *File) Idle() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.idleLocked()
}

func (f *File) idleLocked() error {
	if f.r == nil && f.w == nil {
		return nil
	}
	if p, err := f.printLocked(); err == nil {
		f.last = p
	}
	f.countLocked()
	f.d.unuse(f)
	err := closeFile(&f.w)
	if rerr := closeFile(&f.r); err == nil {
		err = rerr
	}
	return err
}

func closeFile(f **os.File) error {
	if *f == nil {
		return nil
	}
	err := (*f).Close()
	*f = nil
	return err
}

// countLocked notes the disk space of a file with descriptors. mu is held.
func (f *File) countLocked() {
	var st unix.Stat_t
	if f.r == nil && f.w == nil || f.stat(&st) != nil {
		return
	}
	f.d.count(f.id, st.Blocks*512)
}

// Sync makes the bytes durable (fdatasync), and once the directory entry.
func (f *File) Sync() error {
	r, err := f.reader()
	if err != nil {
		return err
	}
	err = fdatasync(r)
	named := f.named
	f.mu.RUnlock()
	if err != nil {
		return &os.PathError{Op: "fdatasync", Path: f.Path(), Err: err}
	}
	if f.d.opts.Synced != nil {
		f.d.opts.Synced(f.id)
	}
	if named {
		return nil
	}
	if err := f.d.sync(); err != nil {
		return err
	}
	f.mu.Lock()
	f.named = true
	f.mu.Unlock()
	return nil
}

func fdatasync(f *os.File) error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); err != unix.EINTR {
			return err
		}
	}
}

// Close closes descriptors and base; the bytes stay.
func (f *File) Close() error {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return nil
	}
	err := f.idleLocked()
	f.closed = true
	b := f.detach()
	f.mu.Unlock()
	b.drop()
	return err
}
