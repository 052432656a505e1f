package hub

import (
	"strconv"
	"time"
)

// CommitID is a full commit hash: 40 lower-case hexadecimal digits.
type CommitID string

// Valid reports whether c is 40 lower-case hexadecimal digits.
func (c CommitID) Valid() bool { return len(c) == 40 && isHex(string(c)) }

// Short returns the first seven digits, for people.
func (c CommitID) Short() string {
	if len(c) > 7 {
		return string(c[:7])
	}
	return string(c)
}

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// Snapshot is a [Ref] pinned to the commit it stood at. Listings, sizes and
// bytes taken through one Snapshot always belong together.
type Snapshot struct {
	// Ref is the repository under its current name (after redirects) and the
	// revision that was asked for.
	Ref Ref
	// Commit is what the revision resolved to.
	Commit CommitID
	// Time is the date of the commit, or of the repository's last change where
	// the Hub says no better.
	Time    time.Time
	Private bool
	// Gated repositories list their files to everybody, and give their content
	// only to accounts that were let in (hub-protocol §5.1).
	Gated bool
}

// EntryType says what an [Entry] is.
type EntryType uint8

const (
	// File is a regular file, stored in git or as an LFS object.
	File EntryType = iota
	// Directory is a git tree.
	Directory
	// Unknown is whatever else the Hub lists, such as a submodule
	// (hub-protocol §3.4).
	Unknown
)

// Entry is one line of a listing (hub-protocol §3.4). It is valid only
// together with the [Snapshot] it was listed from.
type Entry struct {
	// Path is the full path from the root of the repository.
	Path string
	Type EntryType
	// Size is in bytes; for an LFS file that of its content, not its pointer.
	// It is 0 for directories.
	Size int64
	// OID is the git object id: of the blob (for LFS, of the pointer), or of
	// the tree. Two directories with equal OID have equal contents.
	OID string
	// SHA256 is the content hash of an LFS file, empty for others.
	SHA256 string
	// XetHash is the Xet hash of the content where the Hub gives one.
	XetHash string
}

// LFS reports whether the content lives outside git.
func (e Entry) LFS() bool { return e.SHA256 != "" }

// Content returns the identity of the entry's bytes: the SHA-256 of an LFS
// file, else the git blob id (hub-protocol §4.3).
func (e Entry) Content() ContentID {
	if e.LFS() {
		return ContentID{Algo: SHA256, Hex: e.SHA256, Size: e.Size}
	}
	return ContentID{Algo: GitBlob, Hex: e.OID, Size: e.Size}
}

// Algo is the function that turns bytes into a [ContentID].
type Algo uint8

const (
	// GitBlob is SHA-1 over "blob <size>\x00" and the bytes.
	GitBlob Algo = iota
	// SHA256 is plain SHA-256.
	SHA256
)

// String returns "git" or "sha256".
func (a Algo) String() string {
	if a == SHA256 {
		return "sha256"
	}
	return "git"
}

// ContentID identifies immutable bytes by what they are. Size, in bytes, is
// part of the identity so that a server which lies about a length can never
// make two different byte strings share a name. ContentID is comparable.
type ContentID struct {
	Algo Algo
	Hex  string
	Size int64
}

// String returns "sha256-<hex>-<size>", which is safe as a file name.
func (c ContentID) String() string {
	return c.Algo.String() + "-" + c.Hex + "-" + strconv.FormatInt(c.Size, 10)
}

// Valid reports whether the hash has the length and digits of its algorithm
// and the size is not negative.
func (c ContentID) Valid() bool {
	want := 40
	if c.Algo == SHA256 {
		want = 64
	}
	return len(c.Hex) == want && isHex(c.Hex) && c.Size >= 0
}

// RepoInfo is one line of a repository listing (hub-protocol §3.7).
type RepoInfo struct {
	Repo    Repo
	Private bool
	Time    time.Time // last modification
}

// GitRef is one named reference of a repository (hub-protocol §3.2).
type GitRef struct {
	// Name is the revision as [Ref.Revision] takes it: "main", "v1",
	// "refs/pr/1", "refs/convert/parquet".
	Name   string
	Commit CommitID
	Kind   RefKind
}

// RefKind tells the groups of a refs listing apart.
type RefKind uint8

const (
	Branch RefKind = iota
	Tag
	Convert
	PullRequest
)

// Account is who a token belongs to (hub-protocol §1.6).
type Account struct {
	Name string
	Orgs []string
}
