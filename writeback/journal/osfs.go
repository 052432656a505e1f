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

type osFile struct{ *os.File }

// Sync leaves the times of the file to the kernel: a log needs its bytes and
// its length only.
func (f osFile) Sync() error {
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
	return osFile{f}, st.Size(), nil
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
