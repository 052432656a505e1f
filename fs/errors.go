package fs

import (
	"errors"
	"fmt"
	iofs "io/fs"

	"hfmount/remote/hub"
	"hfmount/writeback"
)

// Errors beside those of package hub and io/fs.
var (
	ErrReadOnly    = errors.New("read-only")
	ErrIsDir       = errors.New("is a directory")
	ErrNotDir      = errors.New("not a directory")
	ErrNameTooLong = errors.New("name too long")
	ErrNotEmpty    = errors.New("directory not empty")
	// ErrNoSpace is local changes that fill what they may while nothing drains
	// them.
	ErrNoSpace = writeback.ErrNoSpace
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

// errInvalid is a name or an argument that cannot be.
var errInvalid = iofs.ErrInvalid

// errClosed is what a closed tree answers.
var errClosed = fmt.Errorf("the tree is %w", iofs.ErrClosed)

// missing says that name is known not to exist.
func missing(name string) error {
	return &iofs.PathError{Op: "lookup", Path: name, Err: iofs.ErrNotExist}
}

// badAnswer is an answer nothing of which is used.
func badAnswer(format string, args ...any) error {
	return fmt.Errorf("%w: %s", hub.ErrBadAnswer, fmt.Sprintf(format, args...))
}

// goneError is a commit that the Hub no longer knows, after history was
// rewritten. The names in it exist as far as anybody here knows, so it must
// not answer to io/fs.ErrNotExist: it is a conflict of what was shown with
// what the Hub has.
type goneError struct {
	what  string
	cause error
}

func (e *goneError) Error() string { return e.what + " is no longer on the Hub: " + e.cause.Error() }

func (e *goneError) Is(target error) bool { return target == hub.ErrConflict }
