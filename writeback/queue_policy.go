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
	Parent hub.CommitID // of the commit, "" where it is not known
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
