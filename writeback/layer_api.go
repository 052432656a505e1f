package writeback

import (
	"context"
	"log/slog"
	"os"
	"time"

	"hfmount/remote/hub"
	"hfmount/writeback/staging"
)

var errSkeleton = ErrHeld

// Key says whose local changes a layer holds. Two mounts with equal keys and
// the same state folder are about the same changes.
type Key struct {
	Endpoint string  `json:"endpoint"`
	Account  string  `json:"account"`
	Ref      hub.Ref `json:"ref"` // the revision spelt out
}

// LayerOptions configures [OpenLayer].
type LayerOptions struct {
	// StateDir is the folder of all layers; this one is a folder in it.
	StateDir string
	Key      Key
	// Content opens bytes that the Hub has. It is called without locks.
	Content func(ctx context.Context, p Place) (staging.Source, error)
	// LocalOnly says why a path is never committed ("editor temporary", ".git",
	// "ignored"), or "" for the others.
	LocalOnly func(path string) string
	// MaxStaging bounds the bytes in staging; 0 is half of the free space.
	MaxStaging int64
	Now        func() time.Time // nil is time.Now
	Logger     *slog.Logger     // nil is silence
}

// Layer is the local changes of one branch: names, bytes and journal. It is
// safe for concurrent use.
//
// Every change of it is in the journal before the call returns. No method
// makes a request but those of a Handle that read a partial file, and Fill.
type Layer struct{}

// OpenLayer locks and replays the local changes of key, or fails with
// ErrLocked. The caller closes it.
func OpenLayer(o LayerOptions) (*Layer, error) { return nil, errSkeleton }

// Damage says what of the journal could not be replayed, "" if nothing.
func (l *Layer) Damage() string { return "" }

// Close syncs the journal and gives up the lock. Changes stay.
func (l *Layer) Close() error { return errSkeleton }

// Version changes whenever a name does. Apply takes it back.
func (l *Layer) Version() uint64 { return 0 }

// Get returns the change at exactly path. A path beneath which something was
// put, without being a Folder itself, is not one.
func (l *Layer) Get(path string) (Change, bool) { return Change{}, false }

// DirChanges is what the layer says of one directory.
type DirChanges struct {
	// Names are the names directly in it that the layer decides: a Put, Delete,
	// Symlink, or a Folder, the last also for a directory that exists only
	// because something local is beneath it.
	Names map[string]Kind
	// Deletes reports, by name, directories beneath which something is deleted:
	// whether the directory still shows anything must be looked at.
	Deletes map[string]bool
	// Version changes with Names and Deletes.
	Version uint64
}

// Dir returns the changes directly in a directory ("" is the root). Ask it
// before the snapshot, never after: what a commit took out of the layer is in
// the snapshot by then.
func (l *Layer) Dir(dir string) DirChanges { return DirChanges{} }

// Under returns all changes at and beneath a path, sorted by path; "" is all.
func (l *Layer) Under(path string) []Change { return nil }

// Edit is one part of an Apply.
type Edit struct {
	Path   string
	Kind   Kind
	File   *File  // of a Put
	From   *Place // of a Put without File
	Target string // of a Symlink
	// Base is what the snapshot has at Path. The base of a change that is there
	// already is kept instead.
	Base Base
	Was  string // the path it is renamed from
	// Forget takes the change at Path away, so that the snapshot shows through;
	// the fields above but Path are then not used. A file that nothing names any
	// more is deleted with its last handle.
	Forget bool
}

// Apply makes all edits or none, as one record of the journal. It fails with
// ErrRaced if the names changed since version; 0 is not to look. A Delete of a
// path with no base entry is a Forget.
func (l *Layer) Apply(version uint64, edits ...Edit) error { return errSkeleton }

// NewFile makes an empty file without a name. It waits, within ctx, while
// staging is full and drains, and fails with ErrNoSpace when it does not.
func (l *Layer) NewFile(ctx context.Context) (*File, error) { return nil, errSkeleton }

// NewFileOver makes a file that shows what the Hub has at p until it is
// written to. Nothing is downloaded before that is needed.
func (l *Layer) NewFileOver(ctx context.Context, p Place) (*File, error) { return nil, errSkeleton }

// File is the local bytes behind a name, or, after an unlink, behind handles.
// It is safe for concurrent use.
type File struct{}

// Size is in bytes, as of now.
func (f *File) Size() int64 { return 0 }

// Mtime is when it was last written.
func (f *File) Mtime() time.Time { return time.Time{} }

// OpenFile says how a file is opened.
type OpenFile struct {
	Write  bool
	Append bool // an open that only appends holds nothing back
	PID    int  // who, 0 if it is not known
}

// Open counts an opener in. A handle for writing makes the change Open until
// its Release. If the present bytes are sealed and on their way to the Hub,
// the first write puts a new file in their place and leaves them alone.
func (f *File) Open(o OpenFile) (*Handle, error) { return nil, errSkeleton }

// Handle is one open of a file.
type Handle struct{}

// ReadAt reads the present bytes; io.EOF at their end.
func (h *Handle) ReadAt(ctx context.Context, p []byte, off int64) (int, error) { return 0, errSkeleton }

// WriteAt writes; a negative off appends.
func (h *Handle) WriteAt(ctx context.Context, p []byte, off int64) (int, error) {
	return 0, errSkeleton
}

// Truncate sets the size.
func (h *Handle) Truncate(ctx context.Context, size int64) error { return errSkeleton }

// Allocate is fallocate(2).
func (h *Handle) Allocate(ctx context.Context, off, size int64, mode uint32) error {
	return errSkeleton
}

// Native is a descriptor for passthrough, and true, if every byte is local
// and, for a handle for writing, nothing of it is sealed. It stays open until
// Release. Two handles may share a kernel inode natively only if their
// descriptors are of one file on disk (compare id).
func (h *Handle) Native() (f *os.File, id string, ok bool) { return nil, "", false }

// Flush records the present bytes, as close(2) promises: they survive the
// death of the process. No sync, no hashing.
func (h *Handle) Flush() error { return errSkeleton }

// Sync makes bytes, journal and names survive the loss of power.
func (h *Handle) Sync(ctx context.Context) error { return errSkeleton }

// Release ends the open. After the last one for writing the file may be
// committed.
func (h *Handle) Release() error { return errSkeleton }

// Sync makes all names durable, for fsync of a directory.
func (l *Layer) Sync() error { return errSkeleton }
