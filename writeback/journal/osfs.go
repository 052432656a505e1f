package journal

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// File is the part of *os.File that a log needs; tests fail it at every byte.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Truncate(size int64) error
	Sync() error
}

// FS is where a log lies; the zero Options use the operating system.
type FS interface {
	Open(name string) (File, int64, error) // creates it; the size in bytes
	Rename(from, to string) error
	Remove(name string) error
	SyncDir(dir string) error
}

// OS is the file system of the operating system.
type OS struct{}

// reserve is how many bytes behind its end a log keeps of the disk: on one that
// is full, what frees space has to be written down first.
const reserve = 1 << 20

// osFile is used by one goroutine at a time, but for Sync and ReadAt.
type osFile struct {
	*os.File
	reserved int64 // where the space ends that it has, as far as it is known
}

// keep sees to it that the space behind end is the file's. That there is none is
// no error: the next write asks again. So is a file system that cannot.
func (f *osFile) keep(end int64) {
	if end+reserve <= f.reserved {
		return
	}
	from := max(end, f.reserved)
	to := end + 2*reserve
	for {
		switch err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, from, to-from); err {
		case nil:
			f.reserved = to
			return
		case unix.EINTR:
		case unix.ENOSPC, unix.EDQUOT:
			if to == end+reserve || from >= end+reserve {
				return
			}
			to = end + reserve // better than nothing
		default:
			f.reserved = 1<<63 - 1 - reserve // never again
			return
		}
	}
}

// WriteAt writes into the reserve, and then makes it as large as before.
func (f *osFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	if err == nil {
		f.keep(off + int64(n))
	}
	return n, err
}

// Truncate gives the reserve up, as the kernel does, and takes it again.
func (f *osFile) Truncate(size int64) error {
	err := f.File.Truncate(size)
	if err == nil {
		f.reserved = min(f.reserved, size)
		f.keep(size)
	}
	return err
}

// Close gives the reserve back.
func (f *osFile) Close() error {
	if st, err := f.Stat(); err == nil && f.reserved > st.Size() {
		_ = f.File.Truncate(st.Size()) // space only
	}
	return f.File.Close()
}

// Sync leaves the times of the file to the kernel: a log needs its bytes and
// its length only.
func (f *osFile) Sync() error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if err != unix.EINTR {
			return err
		}
	}
}

// Open opens or creates the file, readable by its owner only.
func (OS) Open(name string) (File, int64, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, 0, err
	}
	return &osFile{File: f, reserved: st.Size()}, st.Size(), nil
}

// Rename replaces to.
func (OS) Rename(from, to string) error { return os.Rename(from, to) }

// Remove deletes the file.
func (OS) Remove(name string) error { return os.Remove(name) }

// SyncDir makes the names in the directory durable.
func (OS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}
