package fs

import (
	"context"
	"io"
	"iter"

	"hfmount/remote/hub"
)

// Source answers questions about repositories. *remote.Client is one. Its
// errors wrap those of package hub.
type Source interface {
	// Resolve pins ref to a commit (hub-protocol §3.1).
	Resolve(ctx context.Context, ref hub.Ref) (hub.Snapshot, error)
	// Head is the cheapest way to learn the commit that ref stands at.
	Head(ctx context.Context, ref hub.Ref) (hub.CommitID, error)
	// List lists a directory of a snapshot, all pages (hub-protocol §3.4).
	List(ctx context.Context, s hub.Snapshot, dir string, recursive bool) iter.Seq2[hub.Entry, error]
	// Refs lists the revisions that have names (hub-protocol §3.2).
	Refs(ctx context.Context, repo hub.Repo) ([]hub.GitRef, error)
	// Repos lists what a namespace holds (hub-protocol §3.7).
	Repos(ctx context.Context, t hub.RepoType, author string) iter.Seq2[hub.RepoInfo, error]
	// WhoAmI says whose token is used (hub-protocol §1.6).
	WhoAmI(ctx context.Context) (hub.Account, error)
	// OpenRange streams n bytes of e from off (hub-protocol §4).
	OpenRange(ctx context.Context, s hub.Snapshot, e hub.Entry, off, n int64, urgent bool) (io.ReadCloser, error)
	// URL is the address of e for people.
	URL(s hub.Snapshot, e hub.Entry) string
}

// Notifier drops what the kernel remembers. It is called with no locks held,
// from a goroutine of the Tree's, never from a request: the kernel may block
// the call until a request of its own is answered.
type Notifier interface {
	// EntryChanged drops the name in the directory with inode number dir.
	EntryChanged(dir uint64, name string)
	// DirChanged drops the cached listing of the directory.
	DirChanged(dir uint64)
	// NamesForgotten is DirChanged where it is not known which names changed:
	// it drops all that the kernel has of the directory.
	NamesForgotten(dir uint64)
	// ContentDropped drops cached pages of the file.
	ContentDropped(ino uint64)
}
