package hub

import (
	"errors"
	"fmt"
	"io"
	"time"
)

// Errors of publishing, matched with [errors.Is] like those of reading.
// [ErrConflict] is a 412: the parent is not the head, or (§6.5) the token has
// no permission on the branch, which only a look at the head tells apart.
var (
	// ErrBusy is a 409 to a commit: another operation is in progress. Nothing
	// was done; the same request may be sent again later.
	ErrBusy = errors.New("another operation on the repository is in progress")
	// ErrUncertain is a commit whose answer was lost: a timeout, a broken
	// connection or a 5xx. It may have been applied, or be applied later
	// (hub-protocol §6.5, §6.6).
	ErrUncertain = errors.New("the Hub did not say whether the commit was made")
	// ErrRefused is content or a path that the Hub will not take (400, 413,
	// 422). Trying again without a change is useless. See [RefusedError].
	ErrRefused = errors.New("the Hub refuses the change")
	// ErrExists is a 409 to a creation.
	ErrExists = errors.New("it exists already")
	// ErrLimited is an action limit, such as 128 commits an hour. See
	// [LimitedError].
	ErrLimited = errors.New("the Hub limits how often this may be done")
)

// RefusedError is an [ErrRefused] with what the Hub says. Paths are those it
// names, possibly none.
type RefusedError struct {
	Message string
	Paths   []string
}

func (e *RefusedError) Error() string { return ErrRefused.Error() + ": " + e.Message }
func (e *RefusedError) Unwrap() error { return ErrRefused }

// LimitedError is an [ErrLimited] with the time to wait; 0 where the Hub names
// none.
type LimitedError struct {
	After   time.Duration
	Message string
}

func (e *LimitedError) Error() string {
	if e.After > 0 {
		return fmt.Sprintf("%s (again in %s): %s", ErrLimited, e.After.Round(time.Second), e.Message)
	}
	return ErrLimited.Error() + ": " + e.Message
}
func (e *LimitedError) Unwrap() error { return ErrLimited }

// Sample is a file about which the Hub is asked before it is uploaded
// (hub-protocol §6.1).
type Sample struct {
	Path string
	Size int64  // bytes
	Head []byte // the first 512 bytes at most
}

// Preupload asks how files are to be uploaded.
type Preupload struct {
	Files []Sample
	// Attributes is the .gitattributes of the same commit, nil if it does not
	// edit that file.
	Attributes []byte
	// Ignore replaces the repository's .gitignore in the answer; an empty
	// non-nil value ignores nothing; nil leaves the repository's.
	Ignore []byte
	// PullRequest is set when the commit will open a pull request.
	PullRequest bool
}

// UploadMode is how the Hub wants one file.
type UploadMode struct {
	LFS    bool
	Ignore bool // the repository's .gitignore matches
	// OID is what is at the path now: a git blob id, or the SHA-256 of an LFS
	// file; empty if nothing is.
	OID string
}

// Object is content to be stored by LFS. SHA256 and Size name it; ReadAt must
// give exactly those bytes, several parts at once.
type Object struct {
	SHA256 string
	Size   int64
	Data   io.ReaderAt
	// Progress is told how many more bytes were sent; negative when they are
	// sent again. It may be called from several goroutines. nil is nobody.
	Progress func(n int64)
	// Resume holds what an earlier, interrupted upload of the object left, and
	// Save is told what a later one needs. Both are opaque and may be nil.
	Resume []byte
	Save   func(state []byte)
}

// OpKind says what an [Op] does.
type OpKind uint8

const (
	// OpFile puts a regular file with Data.
	OpFile OpKind = iota
	// OpLFS puts an LFS file by SHA256 and Size; the object must be stored.
	OpLFS
	// OpDelete deletes the file at Path.
	OpDelete
	// OpDeleteFolder deletes everything beneath Path, which has no final slash.
	OpDeleteFolder
)

// Op is one line of a commit (hub-protocol §6.4).
type Op struct {
	Kind   OpKind
	Path   string
	SHA256 string // OpLFS
	Size   int64  // OpLFS and OpFile, bytes
	// Data opens the bytes of an OpFile. It may be called again for a retry.
	Data func() (io.ReadCloser, error)
}

// Commit is a change of a branch, made as a whole or not at all.
type Commit struct {
	Parent      CommitID // always set: it makes a retry safe (hub-protocol §5.4)
	Summary     string   // not empty
	Description string
	Ops         []Op
	// PullRequest opens a new pull request from Parent instead.
	PullRequest bool
}

// Committed is the answer to a [Commit].
type Committed struct {
	ID          CommitID
	URL         string // for people
	PullRequest *Proposal
}

// LogEntry is one commit of a branch (hub-protocol §3.3).
type LogEntry struct {
	ID          CommitID
	Title       string
	Description string // the rest of the message
	Authors     []string
	Time        time.Time
}

// Proposal is a pull request on the Hub (hub-protocol §8).
type Proposal struct {
	Num  int
	URL  string // for people
	Open bool   // neither merged nor closed; a draft is open
	// Title is its title; Description is what it was opened with, where it was
	// asked for by number and the Hub says it.
	Title       string `json:",omitempty"`
	Description string `json:",omitempty"`
}

// Ref is where commits to the pull request go.
func (p Proposal) Ref() string { return fmt.Sprintf("refs/pr/%d", p.Num) }
