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
	// ErrNoSpace is local changes that fill what they may while nothing drains
	// them.
	ErrNoSpace = writeback.ErrNoSpace
)

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
