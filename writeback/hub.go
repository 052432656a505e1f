package writeback

import (
	"context"

	"hfmount/remote/hub"
)

// Hub is the writing half of the Hub. *remote.Client is one. All its
// methods but Commit may be repeated freely and retry transient failures by
// themselves; errors wrap those of
// package hub.
type Hub interface {
	// Resolve pins ref to the commit it stands at.
	Resolve(ctx context.Context, ref hub.Ref) (hub.Snapshot, error)
	// Paths looks up paths at a snapshot; what does not exist is left out
	// (hub-protocol §3.5).
	Paths(ctx context.Context, s hub.Snapshot, paths []string) ([]hub.Entry, error)
	// List lists a directory of a snapshot with everything beneath it.
	ListAll(ctx context.Context, s hub.Snapshot, dir string) ([]hub.Entry, error)
	// ReadAll reads a whole file, at most limit bytes of it, and verifies it.
	ReadAll(ctx context.Context, s hub.Snapshot, e hub.Entry, limit int64) ([]byte, error)
	// MayWrite asks whether the account may commit to repo; nil if so, else
	// an error that says why not (hub-protocol §1.7).
	MayWrite(ctx context.Context, repo hub.Repo) error
	// Preupload answers for each file, in order (hub-protocol §6.1).
	Preupload(ctx context.Context, ref hub.Ref, p hub.Preupload) ([]hub.UploadMode, error)
	// Upload stores an object unless it is stored already (hub-protocol §6.2).
	Upload(ctx context.Context, ref hub.Ref, o hub.Object) error
	// CheckCard validates the front matter of a README.md; a bad one is a
	// *hub.RefusedError (hub-protocol §6.4).
	CheckCard(ctx context.Context, t hub.RepoType, readme []byte) error
	// Commit sends a commit once. hub.ErrConflict, ErrBusy, ErrRefused and
	// ErrLimited mean that nothing was done; ErrUncertain that nobody knows.
	Commit(ctx context.Context, ref hub.Ref, c hub.Commit) (hub.Committed, error)
	// Log returns up to limit commits from the head back, newest first.
	Log(ctx context.Context, ref hub.Ref, limit int) ([]hub.LogEntry, error)
	CreateBranch(ctx context.Context, repo hub.Repo, branch string, at hub.CommitID) error
	CreateRepo(ctx context.Context, repo hub.Repo, private bool) error
	// OpenPullRequest makes a draft that branches from main.
	OpenPullRequest(ctx context.Context, repo hub.Repo, title, description string) (hub.Proposal, error)
	PullRequest(ctx context.Context, repo hub.Repo, num int) (hub.Proposal, error)
	// PullRequests lists those that were opened last, of any state.
	PullRequests(ctx context.Context, repo hub.Repo) ([]hub.Proposal, error)
	// SuperSquash makes the branch's history one commit.
	SuperSquash(ctx context.Context, ref hub.Ref, message string) (hub.CommitID, error)
	// CommitURL is the address of a commit for people.
	CommitURL(repo hub.Repo, id hub.CommitID) string
}
