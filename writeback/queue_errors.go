package writeback

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"time"

	"hfmount/remote/hub"
)

// blockedError is a state of the branch or of the access in which no change
// can be committed until somebody does something.
type blockedError struct {
	text  string
	hint  string
	err   error
	final bool // looking again by itself is useless
}

func (e *blockedError) Error() string { return e.text }
func (e *blockedError) Unwrap() error { return e.err }

// budgetError is an automatic commit that has to wait for its turn.
type budgetError struct{ wait time.Duration }

func (e *budgetError) Error() string { return fmt.Sprintf("the commit budget: again in %s", e.wait) }

// hintOf says what somebody can do about an error, "" if it passes by itself.
func hintOf(err error) string {
	var gone *blockedError
	switch {
	case errors.As(err, &gone):
		return gone.hint
	case errors.Is(err, hub.ErrBadToken), errors.Is(err, hub.ErrUnauthorized):
		return "log in again (`hf auth login`); a new token is picked up without a remount"
	case errors.Is(err, iofs.ErrPermission):
		return "use a token that may write, or mount with --create-pr"
	case errors.Is(err, hub.ErrLimited):
		return "the Hub limits commits per hour; the changes wait"
	case errors.Is(err, hub.ErrRefused):
		return "change the file, or `hfmount discard` it"
	}
	return ""
}

// nothingDone reports whether an error of a commit says for certain that it was
// not made and never will be.
func nothingDone(err error) bool {
	for _, kind := range []error{hub.ErrConflict, hub.ErrBusy, hub.ErrRefused, hub.ErrLimited, hub.ErrUnavailable, hub.ErrOffline, iofs.ErrPermission, iofs.ErrNotExist, iofs.ErrInvalid} {
		if errors.Is(err, kind) {
			return !errors.Is(err, hub.ErrUncertain)
		}
	}
	return false
}
