package writeback

import (
	"errors"
	"time"

	"hfmount/remote/hub"
)

// Errors of this package.
var (
	// ErrNoSpace is staging that is full (design: --max-staging) while nothing
	// is draining it.
	ErrNoSpace = errors.New("no space for local changes")
	// ErrLocked is local changes that another process serves.
	ErrLocked = errors.New("the local changes are in use by another process")
	// ErrRaced is an Apply on names that changed since the caller looked.
	ErrRaced = errors.New("the names changed meanwhile")
	// ErrLanded is a file whose bytes are on the Hub and in the snapshot now: it
	// left the layer, and whoever wants to open it looks the path up again.
	ErrLanded = errors.New("the bytes are on the Hub now")
	// ErrHeld is a batch that the guard holds until it is confirmed.
	ErrHeld = errors.New("held until it is confirmed")
)

// Kind says what a change makes of its path.
type Kind uint8

const (
	// Put is a regular file: local bytes, or bytes that the Hub has already.
	Put Kind = iota
	// Delete hides what the Hub has at the path.
	Delete
	// Folder is a directory without anything on the Hub beneath it. It is
	// local only.
	Folder
	// Symlink is a symbolic link. It is local only.
	Symlink
)

// Place is content on the Hub: a path at a commit.
type Place struct {
	Snapshot hub.Snapshot `json:"snapshot"`
	Entry    hub.Entry    `json:"entry"`
}

// Base is what the Hub had at a path when a change of it began.
type Base struct {
	Commit hub.CommitID `json:"commit"`
	Entry  *hub.Entry   `json:"entry,omitempty"` // nil: nothing
}

// State is where a change is on its way to the Hub, as `status` names it.
type State uint8

const (
	Open      State = iota // open for writing
	Pending                // closed, waiting for its unit to be ready
	Uploading              // its bytes are being sent
	Held                   // by the guard, a failed run, or --commit manual
	Blocked                // the branch or the access is gone
	Refused                // the Hub will not have it; Reason says why
	Conflict               // changed on both sides, and --on-conflict is fail
	InPR                   // on the Hub, in a pull request
	Unclosed               // was open when the process died
	LocalOnly              // never committed
)

// String returns the word of cli.md.
func (s State) String() string {
	return [...]string{"open", "pending", "uploading", "held", "blocked", "refused", "conflict", "in-pr", "unclosed", "local-only"}[s]
}

// Change is what is different from the Hub at one path: a value, as of the
// moment it was asked for.
type Change struct {
	Path string
	Kind Kind
	// File holds the bytes of a Put; nil if From does.
	File *File
	// From is where the Hub has the bytes of a Put that nobody wrote to: a file
	// that was renamed.
	From   *Place
	Target string // of a Symlink
	Base   Base
	// Was is the path it was renamed from, for people.
	Was string
	// Moved is a Delete of an old name that another change's Was names.
	Moved  bool
	State  State
	Reason string    // of Held, Blocked, Refused, Conflict, InPR (its URL), LocalOnly
	Since  time.Time // of the last close, rename, unlink, mkdir or truncate
	Size   int64     // of a Put, bytes
}

// Op is "add", "modify", "delete" or "rename", as `status` names it.
func (c Change) Op() string {
	switch {
	case c.Kind == Delete:
		return "delete"
	case c.Was != "":
		return "rename"
	case c.Base.Entry != nil:
		return "modify"
	}
	return "add"
}
