package hub

import (
	"errors"
	iofs "io/fs"
)

// Errors a Hub answer can mean. They are matched with [errors.Is]; what a
// client returns wraps one of them and says more. The NotFound errors also
// answer to [iofs.ErrNotExist], the access errors to [iofs.ErrPermission].
var (
	ErrRepoNotFound     error = &kind{"repository not found", iofs.ErrNotExist}
	ErrRevisionNotFound error = &kind{"revision not found", iofs.ErrNotExist}
	ErrEntryNotFound    error = &kind{"no such file in the repository", iofs.ErrNotExist}

	// ErrUnauthorized is a 401 without a token: the repository is missing,
	// private or gated, and the Hub does not say which (hub-protocol §5.1).
	ErrUnauthorized error = &kind{"authentication required", iofs.ErrPermission}
	// ErrBadToken is a 401 with a token the Hub does not know.
	ErrBadToken error = &kind{"the token is invalid or expired", iofs.ErrPermission}
	// ErrGated is a gated repository the account has no access to.
	ErrGated error = &kind{"access to the repository is gated", iofs.ErrPermission}
	// ErrForbidden is any other 403.
	ErrForbidden error = &kind{"forbidden", iofs.ErrPermission}

	// ErrOffline is a request that was not made because of offline mode.
	ErrOffline = errors.New("offline, and not in the cache")
	// ErrUnavailable is a transient failure that outlasted its retries: the
	// Hub or a CDN cannot be reached, or answers 429 or 5xx.
	ErrUnavailable = errors.New("the Hub cannot be reached")
	// ErrBadAnswer is an answer that breaks the protocol: a wrong length,
	// range, encoding, size or name. Nothing of it is used.
	ErrBadAnswer = errors.New("the Hub's answer makes no sense")
	// ErrConflict is a commit whose parent is no longer the head
	// (hub-protocol §6.5).
	ErrConflict = errors.New("the branch has moved")
)

type kind struct {
	text   string
	parent error
}

func (k *kind) Error() string { return k.text }
func (k *kind) Unwrap() error { return k.parent }
