package fs

import (
	"context"
	iofs "io/fs"
	"time"

	"hfmount/remote/hub"
	"hfmount/writeback"
)

// Layers gives a tree its local changes. It is called without locks.
type Layers interface {
	// MayWrite reports, without I/O, whether Layer could succeed with create.
	MayWrite(ref hub.Ref) bool
	// Layer returns the changes of a branch; without create nil where there are
	// none yet. It fails with ErrReadOnly, and the reason, where the mount does
	// not write.
	Layer(ctx context.Context, ref hub.Ref, create bool) (*writeback.Layer, error)
	// MayCreate reports, without I/O, whether CreateRepo could succeed at all.
	MayCreate() bool
	// CreateRepo makes a repository; ErrReadOnly where that was not asked for.
	CreateRepo(ctx context.Context, repo hub.Repo) error
}

// NoOwner in an [Owner] is the mount's own user or group, as -1 is one not to
// change for chown(2).
const NoOwner = 1<<32 - 1

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
