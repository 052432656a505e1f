package writeback

import (
	"context"
	"log/slog"
	"time"

	"hfmount/remote/hub"
)

// OnConflict says what becomes of a path that changed on both sides.
type OnConflict uint8

const (
	ConflictPR   OnConflict = iota // its unit goes into a pull request
	ConflictFail                   // it stays local
	ConflictOurs                   // it overwrites
)

// Policy says when and how changes become commits (design §4).
type Policy struct {
	CommitAfter   time.Duration // quiet time of a unit
	CommitMaxWait time.Duration // the longest an open file holds a unit back
	Manual        bool          // only explicit commits
	Every         time.Duration // the scheduled mode, 0 is off
	Squash        bool          // super-squash after each scheduled commit
	Message       string        // template, "" is the default
	CreatePR      bool          // everything goes into one pull request
	CreateBranch  bool          // the branch is made by the first commit
	OnConflict    OnConflict
	NoGuard       bool
	Gitignore     bool   // honour the repository's .gitignore
	Host, Mount   string // for the commit's description
}

// Event is something to tell people, by --on-event.
type Event struct {
	Kind  string // committed, held, conflict, failed
	Text  string
	Hint  string
	Paths []string
	URL   string
}

// Hooks tell others what happened. All are called without locks, from the
// queue's goroutine; nil ones are skipped.
type Hooks struct {
	// Landed runs after a commit is on the branch, before its changes leave the
	// layer: it moves the view to a snapshot that has the commit, so that no
	// reader sees neither. An error leaves the changes shown, and it is called
	// again later.
	Landed func(ctx context.Context, l Landing) error
	// Shown is told about paths whose shown content is no longer ours.
	Event func(Event)
}

// Landing is a commit that was made.
type Landing struct {
	Commit hub.Committed
	Ref    hub.Ref
	Files  []LandedFile
	Paths  []string // all paths it changed
}

// LandedFile is local bytes that are on the Hub now. Staged is their file on
// disk, complete and without writers; whoever moves it away says so with
// Adopted.
type LandedFile struct {
	Path    string
	Content hub.ContentID
	Staged  string
	Adopted func()
}

// QueueOptions configures [NewQueue].
type QueueOptions struct {
	Layer    *Layer
	Hub      Hub
	Policy   Policy
	StateDir string // where the account's commit budget is kept
	Hooks    Hooks
	Public   bool // the repository is public
	Now      func() time.Time
	Logger   *slog.Logger
}

// Queue turns the changes of a layer into commits.
type Queue struct{}

// NewQueue makes a queue. It does nothing before Run.
func NewQueue(o QueueOptions) (*Queue, error) { return nil, errSkeleton }

// Run works until ctx ends; it settles first what an earlier process left.
func (q *Queue) Run(ctx context.Context) error { return errSkeleton }

// CommitRequest is an explicit commit.
type CommitRequest struct {
	Message     string // "" is the template's
	Description string
	Yes         bool // the guard is answered
	// Final is set on unmount: what stays local is not an error of the caller.
	Final bool
}

// Outcome is what an explicit commit did.
type Outcome struct {
	Commits []hub.Committed
	// Left are changes that remain local, with state and reason.
	Left []Change
	// Proposal is the pull request our side of a conflict went to.
	Proposal *hub.Proposal
}

// Commit commits what is pending and returns when it is on the Hub: every file
// whose close returned before the call. It waits up to 5 s for handles whose
// close returned to be released.
func (q *Queue) Commit(ctx context.Context, r CommitRequest) (Outcome, error) {
	return Outcome{}, errSkeleton
}

// Hold starts a transaction: until Release no change is committed by itself.
func (q *Queue) Hold() (*Hold, error) { return nil, errSkeleton }

// Hold is the transaction of `hfmount run`.
type Hold struct{}

// End ends it: with ok, its changes are as any others, else they are held
// until Commit or Discard.
func (h *Hold) End(ok bool) error { return errSkeleton }

// Discard drops the changes at and beneath paths. It fails for open files.
func (q *Queue) Discard(paths ...string) error { return errSkeleton }

// Revert makes changes, and commits them, that restore paths ("" is all) to
// what they were at commit to; "" is the parent of the last commit.
func (q *Queue) Revert(ctx context.Context, to hub.CommitID, paths ...string) (Outcome, error) {
	return Outcome{}, errSkeleton
}

// WaitFor returns when the path's present bytes are on the Hub (--sync=remote).
func (q *Queue) WaitFor(ctx context.Context, path string) error { return errSkeleton }

// Progress is how an upload stands, in bytes.
type Progress struct {
	Path        string
	Sent, Total int64
}

// Holder is who keeps a unit back.
type Holder struct {
	Path string
	PID  int
}

// QueueError is a failure as status shows it.
type QueueError struct {
	Time             time.Time
	Path, Text, Hint string
}

// CommitInfo is a commit that was made.
type CommitInfo struct {
	ID      hub.CommitID
	URL     string
	Time    time.Time
	Message string
}

// Status is a moment's view of a queue.
type Status struct {
	Changes     []Change // but local-only ones
	LocalOnly   int
	HeldBy      []Holder
	StagedBytes int64
	Uploads     []Progress
	LastCommit  *CommitInfo
	Proposal    *hub.Proposal
	LastError   *QueueError
	Next        time.Time // of the next automatic commit, zero if none is due
}

// Status does no I/O.
func (q *Queue) Status() Status { return Status{} }
