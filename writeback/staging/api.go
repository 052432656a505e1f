// Package staging keeps the bytes of files that were written and are not on the
// Hub yet, each in a file of its own on local disk.
//
// A staging file may be partial: it then shows a base, the content the file had
// before, wherever nothing was written, so that a small edit of a large file
// waits for no download. A file is complete when no byte of the base is shown
// any more, and only then may the kernel be given a descriptor of it.
package staging

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"
)

var errSkeleton = errors.ErrUnsupported

var (
	// ErrWriters is a file that somebody can still write to through a
	// descriptor or a mapping.
	ErrWriters = errors.New("the file is still open or mapped for writing")
	// ErrChanged is a file that changed while it was read.
	ErrChanged = errors.New("the file changed while it was read")
)

// Source is the base of a partial file. *fs.Handle and *blockcache.File are ones.
type Source interface {
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
	Close() error
}

// Range is [Off, End) in bytes.
type Range struct {
	Off int64 `json:"o"`
	End int64 `json:"e"`
}

// Print is what tells whether a file was written to meanwhile, by whomever.
type Print struct {
	Size  int64 `json:"s"`
	Mtime int64 `json:"m"` // nanoseconds since 1970
	Ctime int64 `json:"c"`
}

// Sealed is the identity of a file's bytes.
type Sealed struct {
	Size    int64  `json:"size"`
	GitBlob string `json:"git"`    // 40 hexadecimal digits
	SHA256  string `json:"sha256"` // 64
	Head    []byte `json:"head"`   // the first 512 bytes
	Print   Print  `json:"print"`
}

// Options configures [OpenDir].
type Options struct {
	Logger *slog.Logger // nil is silence
}

// Dir is a folder of staging files. It is safe for concurrent use.
type Dir struct{}

// OpenDir opens or makes the folder, 0700.
func OpenDir(path string, o Options) (*Dir, error) { return nil, errSkeleton }

// Create makes an empty file, which is complete.
func (d *Dir) Create() (*File, error) { return nil, errSkeleton }

// CreateOver makes a partial file that shows base, size bytes long. The file
// owns base from then on and closes it when it is complete or closed.
func (d *Dir) CreateOver(base Source, size int64) (*File, error) { return nil, errSkeleton }

// Open opens a file of an earlier process. With base it is partial, and
// filled says which ranges are local; without, it is complete.
func (d *Dir) Open(id string, base Source, baseSize int64, filled []Range) (*File, error) {
	return nil, errSkeleton
}

// IDs lists the files in the folder.
func (d *Dir) IDs() ([]string, error) { return nil, errSkeleton }

// Remove deletes a file that is not open.
func (d *Dir) Remove(id string) error { return errSkeleton }

// Bytes is the disk space the files take, as of the last count.
func (d *Dir) Bytes() int64 { return 0 }

// Free is how many bytes the disk has left for others than root.
func (d *Dir) Free() (int64, error) { return 0, errSkeleton }

// File is one staging file. It is safe for concurrent use; overlapping reads
// and writes are ordered as the kernel orders those of a file.
type File struct{}

// ID is its name in the folder.
func (f *File) ID() string { return "" }

// Path is its name on disk.
func (f *File) Path() string { return "" }

// Size is in bytes, as of now, writes of the kernel included.
func (f *File) Size() int64 { return 0 }

// Mtime is when it was last written.
func (f *File) Mtime() time.Time { return time.Time{} }

// Print tells versions apart.
func (f *File) Print() (Print, error) { return Print{}, errSkeleton }

// Complete reports whether every byte is local.
func (f *File) Complete() bool { return false }

// Filled is what is local of a partial file, nil for a complete one.
func (f *File) Filled() []Range { return nil }

// ReadAt is io.ReaderAt with a context. What is not local comes from the base
// and is not kept.
func (f *File) ReadAt(ctx context.Context, p []byte, off int64) (int, error) { return 0, errSkeleton }

// WriteAt writes at once, whatever is not local.
func (f *File) WriteAt(p []byte, off int64) (int, error) { return 0, errSkeleton }

// Truncate sets the size. What is cut off the base is never shown again.
func (f *File) Truncate(size int64) error { return errSkeleton }

// Allocate is fallocate(2) with its mode; a punched or zeroed range is local.
func (f *File) Allocate(off, size int64, mode uint32) error { return errSkeleton }

// Fill copies the rest of the base, after which the file is complete. Writes
// go on meanwhile and win. It may be called again after an error.
func (f *File) Fill(ctx context.Context) error { return errSkeleton }

// Data is a descriptor of a complete file, for the kernel to read and write
// through. It stays the File's; false while the file is partial.
func (f *File) Data(write bool) (*os.File, bool) { return nil, false }

// Sync makes the bytes durable (fdatasync), and once the directory entry.
func (f *File) Sync() error { return errSkeleton }

// Seal fills the file, makes sure that nobody can write to it any more, and
// reads it once. It fails with ErrWriters, or ErrChanged, or what Fill failed
// with. The File's own writable descriptor is closed for it: Data(true) and
// WriteAt open it again, so that the caller keeps writers away from a seal
// that is to last.
func (f *File) Seal(ctx context.Context) (Sealed, error) { return Sealed{}, errSkeleton }

// Close closes descriptors and base; the bytes stay.
func (f *File) Close() error { return errSkeleton }
