package hubtest

import (
	"io"
	"time"

	"hfmount/remote/hub"
)

// This file is the seam between the store (repositories, objects) and the
// front (HTTP). Errors of the store are hub.Err*NotFound or say what is wrong.

// store holds repositories and LFS objects. Safe for concurrent use.
type store struct{}

func openStore(dir string, now func() time.Time) (*store, error) { return nil, nil }
func (s *store) close() error                                    { return nil }

// repo finds a repository by its exact current id.
func (s *store) repo(r hub.Repo) (*repo, bool) { return nil, false }

// redirect says where an old, canonical or differently cased id leads.
func (s *store) redirect(r hub.Repo) (to hub.Repo, canonical, ok bool) {
	return hub.Repo{}, false, false
}

// repos lists all repositories of a type, sorted by id.
func (s *store) repos(t hub.RepoType) []*repo { return nil }

// object opens an LFS object (or synthetic content).
func (s *store) object(sha256 string) (r io.ReaderAt, size int64, ok bool) { return nil, 0, false }

// imported reports whether a namespace holds an imported repository, which
// opens it to every account.
func (s *store) imported(namespace string) bool { return false }

// repo is one repository.
type repo struct{}

// meta returns a copy of the metadata.
func (r *repo) meta() repoMeta { return repoMeta{} }

type repoMeta struct {
	ID               hub.Repo
	ObjectID         string // 24 hex digits, stable across renames
	Private          bool
	Gated            string          // "", "auto", "manual"
	Approved         map[string]bool // accounts with access to a gated repository
	Disabled         bool
	Imported         bool // came by Import: every account may write its namespace
	Created, Updated time.Time
}

// resolve finds the commit of a decoded revision: branch (before tag), tag,
// refs/pr/N, refs/convert/x, HEAD, full or abbreviated commit.
func (r *repo) resolve(rev string) (hub.CommitID, error) { return "", nil }

type commitInfo struct {
	ID             hub.CommitID
	Title, Message string
	Author         string
	Time           time.Time
	Parents        []hub.CommitID
}

func (r *repo) commit(id hub.CommitID) (commitInfo, error) { return commitInfo{}, nil }

// log lists history from id, newest first.
func (r *repo) log(id hub.CommitID) ([]commitInfo, error) { return nil, nil }

// entry looks up one path; "" is the root.
func (r *repo) entry(c hub.CommitID, path string) (hub.Entry, error) { return hub.Entry{}, nil }

// list returns the entries of a directory, directories first, then by name;
// recursive includes all below. A path that is a file is ErrEntryNotFound.
func (r *repo) list(c hub.CommitID, dir string, recursive bool) ([]hub.Entry, error) { return nil, nil }

// blob returns the bytes of a git blob (for LFS, the pointer).
func (r *repo) blob(oid string) ([]byte, error) { return nil, nil }

// refs lists all references.
func (r *repo) refs() ([]hub.GitRef, error) { return nil, nil }
