package fs

import (
	"context"
	"errors"
	iofs "io/fs"
	"os"
	"time"

	"hfmount/remote/hub"
	"hfmount/writeback"
	"hfmount/writeback/staging"
)

// Errors of changing the tree.
var (
	ErrNotEmpty = errors.New("directory not empty")
	// ErrLocal is a View of bytes that the block cache does not have: use ReadAt.
	ErrLocal = errors.New("the bytes are local")
	// ErrStale is an open that the kernel has to begin again with a new lookup:
	// the inode it means serves readers of bytes that are about to change.
	ErrStale = errors.New("the inode is another now")
	// ErrCrossDevice is a rename from one branch to another.
	ErrCrossDevice = errors.New("another repository or revision")
	// ErrNoLinks is a hard link, which the Hub cannot express.
	ErrNoLinks = errors.New("no hard links")
)

// Layers gives a tree its local changes. It is called without locks.
type Layers interface {
	// MayWrite reports, without I/O, whether Layer could succeed with create.
	MayWrite(ref hub.Ref) bool
	// Layer returns the changes of a branch; without create nil where there are
	// none yet. It fails with ErrReadOnly, and the reason, where the mount does
	// not write.
	Layer(ctx context.Context, ref hub.Ref, create bool) (*writeback.Layer, error)
	// CreateRepo makes a repository; ErrReadOnly where that was not asked for.
	CreateRepo(ctx context.Context, repo hub.Repo) error
}

// Owner is who chown(2) gave a file to.
type Owner struct{ UID, GID uint32 }

// SetAttr says what to change; nil fields stay.
type SetAttr struct {
	Size         *int64
	Mode         *iofs.FileMode // permission bits
	UID, GID     *uint32
	Atime, Mtime *time.Time
}

// OpenFlags says how a file is opened.
type OpenFlags struct {
	Write, Append, Trunc bool
	PID                  int // who, 0 if it is not known
}

// RenameFlags are those of renameat2(2).
type RenameFlags struct{ NoReplace, Exchange bool }

// Create makes an empty file and opens it for reading and writing.
func (d *Dir) Create(ctx context.Context, name string, mode iofs.FileMode, o OpenFlags) (*File, *Handle, error) {
	return nil, nil, ErrReadOnly
}

// Tmpfile makes a file without a name; Link gives it one.
func (d *Dir) Tmpfile(ctx context.Context, mode iofs.FileMode, o OpenFlags) (*File, *Handle, error) {
	return nil, nil, ErrReadOnly
}

// Link gives a name to a file that has none, and fails with ErrNoLinks for
// one that has.
func (d *Dir) Link(ctx context.Context, name string, f *File) (*File, error) { return nil, ErrReadOnly }

// Mkdir makes a directory, which is local until a file is in it. In a listing
// of a namespace it makes a repository, where the mount may.
func (d *Dir) Mkdir(ctx context.Context, name string, mode iofs.FileMode) (*Dir, error) {
	return nil, ErrReadOnly
}

// Symlink makes a symbolic link, which is local.
func (d *Dir) Symlink(ctx context.Context, name, target string) (*Symlink, error) {
	return nil, ErrReadOnly
}

// Unlink removes a file or symbolic link. Handles go on.
func (d *Dir) Unlink(ctx context.Context, name string) error { return ErrReadOnly }

// Rmdir removes an empty directory.
func (d *Dir) Rmdir(ctx context.Context, name string) error { return ErrReadOnly }

// Rename moves a name, with everything beneath it, and replaces what is there
// as rename(2) does. What was moved keeps its inode number.
func (d *Dir) Rename(ctx context.Context, name string, to *Dir, newName string, flags RenameFlags) error {
	return ErrReadOnly
}

// Sync makes all names durable.
func (d *Dir) Sync(ctx context.Context) error { return nil }

// SetAttr changes what lasts for the life of the mount.
func (d *Dir) SetAttr(ctx context.Context, s SetAttr) (Attr, error) { return Attr{}, ErrReadOnly }

// Writable reports whether the mount writes here at all.
func (d *Dir) Writable() bool { return false }

// OpenWith opens the file. Opening for writing changes nothing and fetches
// nothing, but for Trunc.
func (f *File) OpenWith(ctx context.Context, o OpenFlags) (*Handle, error) {
	if o.Write || o.Trunc {
		return nil, ErrReadOnly
	}
	return f.Open(ctx)
}

// SetAttr changes size, times, mode and owner.
func (f *File) SetAttr(ctx context.Context, s SetAttr) (Attr, error) { return Attr{}, ErrReadOnly }

// Gen tells inodes of one number apart: it is another one when open readers
// must not see what the path shows from now on.
func (f *File) Gen() uint64 { return 0 }

// Detach makes the path another inode, with the same number and another Gen,
// so that readers which the kernel serves natively keep what they have. The
// caller answers ErrStale to the open.
func (f *File) Detach() {}

// Forgotten tells the tree that the kernel forgot the file's inode.
func (f *File) Forgotten() {}

// Local reports whether the present bytes are local, not the cache's.
func (h *Handle) Local() bool { return false }

// Backing is the descriptor for passthrough and the identity of the file on
// disk behind it: two opens of one kernel inode may be native together only if
// their ids are equal. ok is false where some byte is not local or verified,
// or writing must not reach it.
func (h *Handle) Backing() (f *os.File, id string, ok bool) {
	if f, ok = h.f.Native(); !ok {
		return nil, "", false
	}
	return f, f.Name(), true
}

// WriteAt writes; a negative off appends. The first write makes the change.
func (h *Handle) WriteAt(ctx context.Context, p []byte, off int64) (int, error) {
	return 0, ErrReadOnly
}

// Truncate sets the size.
func (h *Handle) Truncate(ctx context.Context, size int64) error { return ErrReadOnly }

// Allocate is fallocate(2).
func (h *Handle) Allocate(ctx context.Context, off, size int64, mode uint32) error {
	return ErrReadOnly
}

// Flush records the present bytes, as close(2) promises.
func (h *Handle) Flush(ctx context.Context) error { return nil }

// Sync makes the bytes durable; with --sync=remote it returns when they are on
// the Hub.
func (h *Handle) Sync(ctx context.Context) error { return nil }

// Content opens bytes that the Hub has, for a partial staging file. It is
// writeback.LayerOptions.Content.
func (t *Tree) Content(ctx context.Context, p writeback.Place) (staging.Source, error) {
	return nil, errors.ErrUnsupported
}

// Landed is writeback.Hooks.Landed for the view of ref: it takes the bytes into
// the cache, and moves the view to a snapshot that has the commit.
func (t *Tree) Landed(ctx context.Context, l writeback.Landing) error { return errors.ErrUnsupported }

// LocalChanged drops what the kernel remembers of paths that changed in the
// layer by another way than the mount: a discard, a recovery.
func (t *Tree) LocalChanged(ref hub.Ref, paths []string) {}
