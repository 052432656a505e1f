package staging

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	iofs "io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// Options configures [OpenDir].
type Options struct {
	// Synced, if set, is told the id of a file whose bytes became durable, and
	// "" when the names in the folder did. Tests that take away everything that
	// was not promised listen to it. It is called without locks.
	Synced func(id string)
	Logger *slog.Logger // nil is silence
}

// Dir is a folder of staging files. It is safe for concurrent use.
type Dir struct {
	path string
	opts Options
	log  *slog.Logger

	mu    sync.Mutex
	bytes map[string]int64 // disk space of each file as of its last count
	total int64            // of those
	live  map[*File]struct{}
}

// OpenDir opens or makes the folder, 0700.
func OpenDir(path string, o Options) (*Dir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	d := &Dir{
		path: path, opts: o, log: o.Logger,
		bytes: make(map[string]int64),
		live:  make(map[*File]struct{}),
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	ids, err := d.IDs()
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		var st unix.Stat_t
		if unix.Lstat(d.name(id), &st) == nil {
			d.know(id)
			d.count(id, st.Blocks*512)
		}
	}
	return d, nil
}

func (d *Dir) name(id string) string { return filepath.Join(d.path, id) }

// newID is 128 bits of chance: unique without looking, also across restarts.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// validID keeps an id from a damaged journal from being a path to elsewhere.
func validID(id string) bool {
	b, err := hex.DecodeString(id)
	return err == nil && len(b) == 16
}

// Create makes an empty file, which is complete.
func (d *Dir) Create() (*File, error) {
	id := newID()
	w, err := openFile(d.name(id), unix.O_RDWR|unix.O_CREAT|unix.O_EXCL)
	if err != nil {
		return nil, err
	}
	f := &File{d: d, id: id, w: w, filling: make(chan struct{}, 1)}
	d.know(id)
	d.use(f)
	return f, nil
}

// CreateOver makes a partial file that shows base, size bytes long. The file
// owns base from then on, also after an error, and closes it when it is
// complete or closed.
func (d *Dir) CreateOver(base Source, size int64) (*File, error) {
	f, err := d.Create()
	if err != nil {
		return nil, errors.Join(err, base.Close())
	}
	if err := f.w.Truncate(size); err != nil {
		return nil, errors.Join(err, base.Close(), f.Close(), d.Remove(f.id))
	}
	f.setBase(base, size)
	return f, nil
}

// Open opens a file of an earlier process. With base it is partial, and
// filled says which ranges are local; without, it is complete. The file owns
// base, also after an error. No more of the base is shown than the file is long.
func (d *Dir) Open(id string, base Source, baseSize int64, filled []Range) (*File, error) {
	fail := func(err error) (*File, error) {
		if base != nil {
			err = errors.Join(err, base.Close())
		}
		return nil, err
	}
	if !validID(id) {
		return fail(fmt.Errorf("staging: %q is no id: %w", id, iofs.ErrInvalid))
	}
	st, err := os.Lstat(d.name(id))
	if err != nil {
		return fail(err)
	}
	if !st.Mode().IsRegular() {
		return fail(fmt.Errorf("staging: %s is not a regular file: %w", id, iofs.ErrInvalid))
	}
	f := &File{d: d, id: id, filling: make(chan struct{}, 1)}
	f.last = printOf(st)
	d.know(id)
	if base != nil {
		for _, r := range filled {
			f.local.add(Range{max(r.Off, 0), r.End})
		}
		f.setBase(base, min(baseSize, st.Size()))
	}
	return f, nil
}

// IDs lists the files in the folder.
func (d *Dir) IDs() ([]string, error) {
	f, err := os.Open(d.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	ids := names[:0]
	for _, n := range names {
		if validID(n) {
			ids = append(ids, n)
		}
	}
	return ids, nil
}

// Remove deletes a file that is not open. One that is gone already, since the
// cache adopted it, is no error.
func (d *Dir) Remove(id string) error {
	if !validID(id) {
		return fmt.Errorf("staging: %q is no id: %w", id, iofs.ErrInvalid)
	}
	if err := os.Remove(d.name(id)); err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.total -= d.bytes[id]
	delete(d.bytes, id)
	return nil
}

// Bytes is the disk space the files take: of those in use as of now, of the
// others as of when they were last used.
func (d *Dir) Bytes() int64 {
	d.mu.Lock()
	live := make([]*File, 0, len(d.live))
	for f := range d.live {
		live = append(live, f)
	}
	d.mu.Unlock()
	for _, f := range live {
		f.mu.RLock()
		f.countLocked()
		f.mu.RUnlock()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.total
}

// Free is how many bytes the disk has left for others than root.
func (d *Dir) Free() (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(d.path, &st); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: d.path, Err: err}
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// know begins to count the disk space of a file.
func (d *Dir) know(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.bytes[id] += 0
}

// count notes the disk space of a file, unless it was removed: what is still
// open of it may be the cache's by now.
func (d *Dir) count(id string, n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if old, ok := d.bytes[id]; ok {
		d.total += n - old
		d.bytes[id] = n
	}
}

// use and unuse say that f has a descriptor, and has none.
func (d *Dir) use(f *File) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.live[f] = struct{}{}
}

func (d *Dir) unuse(f *File) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.live, f)
}

// sync makes the names in the folder durable.
func (d *Dir) sync() error {
	f, err := os.Open(d.path)
	if err != nil {
		return err
	}
	err = f.Sync()
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil && d.opts.Synced != nil {
		d.opts.Synced("")
	}
	return err
}
