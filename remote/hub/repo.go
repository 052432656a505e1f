package hub

// RepoType says which of the Hub's kinds of repository a [Repo] is.
// The zero value is a model, as it is in hf:// URIs.
type RepoType uint8

const (
	Model RepoType = iota
	Dataset
	Space
)

// String returns the singular name the API uses in bodies: "model", "dataset", "space".
func (t RepoType) String() string {
	switch t {
	case Dataset:
		return "dataset"
	case Space:
		return "space"
	}
	return "model"
}

// Plural returns the segment used in API paths: "models", "datasets", "spaces"
// (hub-protocol §2.1).
func (t RepoType) Plural() string { return t.String() + "s" }

// Prefix returns what stands before the id in resolve URLs, git URLs and hf://
// names: "" for models, else the plural and a slash (hub-protocol §2.1).
func (t RepoType) Prefix() string {
	if t == Model {
		return ""
	}
	return t.Plural() + "/"
}

// Repo names one repository. Namespace is empty only for a canonical id such
// as "gpt2", which the Hub redirects (hub-protocol §2.2). Repo is comparable.
type Repo struct {
	Type      RepoType
	Namespace string
	Name      string
}

// ID returns "namespace/name", or the lone name of a canonical id.
func (r Repo) ID() string {
	if r.Namespace == "" {
		return r.Name
	}
	return r.Namespace + "/" + r.Name
}

// String returns the id with the type prefix: "ns/name", "datasets/ns/name".
func (r Repo) String() string { return r.Type.Prefix() + r.ID() }

// IsZero reports whether r names nothing.
func (r Repo) IsZero() bool { return r == Repo{} }

// Ref names a repository at a revision: a branch, a tag, a special ref such as
// "refs/pr/1", or a commit. An empty Revision is the default branch.
type Ref struct {
	Repo     Repo
	Revision string
}

// DefaultRevision is the branch an empty [Ref.Revision] stands for.
const DefaultRevision = "main"

// Rev returns the revision, or [DefaultRevision] if none is set.
func (r Ref) Rev() string {
	if r.Revision == "" {
		return DefaultRevision
	}
	return r.Revision
}

// Pinned reports whether the revision is a full commit id, which never moves.
func (r Ref) Pinned() bool { return CommitID(r.Revision).Valid() }
