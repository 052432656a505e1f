package journal

import (
	"errors"
	"io"
	"os"
	"sync"
)

var errDisk = errors.New("the disk failed")

// powerFS is a file system in memory that knows what would survive the loss of
// power: of files what was synced, of names what SyncDir saw. It fails when
// told to.
type powerFS struct {
	mu    sync.Mutex
	names map[string]*powerFile // now
	safe  map[string]*powerFile // after the loss of power
	syncs int
	// fail is asked before each operation, and may let a write do a part.
	fail func(op string, n int) (did int, err error)
}

func newPowerFS() *powerFS {
	return &powerFS{names: make(map[string]*powerFile), safe: make(map[string]*powerFile)}
}

type powerFile struct {
	fs        *powerFS
	now, safe []byte // guarded by fs.mu
}

func (fs *powerFS) failing(op string, n int) (int, error) {
	if fs.fail == nil {
		return n, nil
	}
	return fs.fail(op, n)
}

func (fs *powerFS) Open(name string) (File, int64, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	f := fs.names[name]
	if f == nil {
		f = &powerFile{fs: fs}
		fs.names[name] = f
	}
	return f, int64(len(f.now)), nil
}

func (fs *powerFS) Rename(from, to string) error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if _, err := fs.failing("rename", 0); err != nil {
		return err
	}
	f := fs.names[from]
	if f == nil {
		return os.ErrNotExist
	}
	delete(fs.names, from)
	fs.names[to] = f
	return nil
}

func (fs *powerFS) Remove(name string) error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.names[name] == nil {
		return os.ErrNotExist
	}
	delete(fs.names, name)
	return nil
}

func (fs *powerFS) SyncDir(string) error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if _, err := fs.failing("syncdir", 0); err != nil {
		return err
	}
	clear(fs.safe)
	for name, f := range fs.names {
		fs.safe[name] = f
	}
	return nil
}

// cut is the loss of power. With torn, half of what was not synced of each
// file has reached the disk all the same.
func (fs *powerFS) cut(torn bool) *powerFS {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	after := newPowerFS()
	for name, f := range fs.safe {
		data := append([]byte(nil), f.safe...)
		if torn && len(f.now) > len(data) {
			data = append(data, f.now[len(data):len(data)+(len(f.now)-len(data))/2]...)
		}
		g := &powerFile{fs: after, now: data, safe: append([]byte(nil), data...)}
		after.names[name], after.safe[name] = g, g
	}
	return after
}

func (f *powerFile) ReadAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	n := copy(p, f.now[min(off, int64(len(f.now))):])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *powerFile) WriteAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	n, err := f.fs.failing("write", len(p))
	if grow := off + int64(n) - int64(len(f.now)); grow > 0 {
		f.now = append(f.now, make([]byte, grow)...)
	}
	copy(f.now[off:], p[:n])
	return n, err
}

func (f *powerFile) Truncate(size int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if _, err := f.fs.failing("truncate", 0); err != nil {
		return err
	}
	f.now = append(f.now[:min(size, int64(len(f.now)))], make([]byte, max(size-int64(len(f.now)), 0))...)
	return nil
}

func (f *powerFile) Sync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.fs.syncs++
	if _, err := f.fs.failing("sync", 0); err != nil {
		return err
	}
	f.safe = append([]byte(nil), f.now...)
	return nil
}

func (f *powerFile) Close() error { return nil }
