// Package hubtest is the Hub in a process: for tests, demonstrations and
// offline development.
package hubtest

import (
	"errors"
	"io"
	iofs "io/fs"
	"log/slog"
	"net/http"
	"time"

	"hfmount/remote/hub"
)

// User is an account and its token.
type User struct{ Name, Token string }

// Options configures [New].
type Options struct {
	// Dir holds bare git repositories, LFS objects by SHA-256 and a state file;
	// empty keeps everything in memory.
	Dir   string
	Users []User // none: one account "local" with token "hf_local"
	// Now is the clock; nil is time.Now.
	Now      func() time.Time
	PageSize int  // entries per listing page; 0 is 1000
	Quotas   bool // enforce hub-protocol §5.3
	Admin    bool // serve /_hub/
	// Latency is per request, Bandwidth in bytes per second and connection; 0 is none.
	Latency   time.Duration
	Bandwidth int64
	URLTTL    time.Duration // life of signed URLs; 0 is an hour
	Logger    *slog.Logger  // nil is silence
	// Shapes switches the optional headers of hub-protocol §4.2.
	Shapes Shapes
}

// Shapes switches optional parts of answers on and off.
type Shapes struct {
	NoLinkedOnCacheHop bool  // A: leave X-Linked-* off the 307
	NoCommitOnCacheHop bool  // A: leave X-Repo-Commit off the second hop
	Direct             bool  // C for everything
	XetHeaders         bool  // announce xetHash and X-Xet-Hash (needs clients without hf_xet)
	LFSBytesThreshold  int64 // preupload: binary files above are LFS; 0 is 1 MiB
	MultipartThreshold int64 // LFS above this many bytes is multipart; 0 is 20 MB
	PartSize           int64 // 0 is 5 MB
}

// RepoOptions configures [Hub.CreateRepo].
type RepoOptions struct {
	Private bool
	Gated   string // "", "auto", "manual"
	Empty   bool   // no initial commit
}

// Hub is one Hub with its CDN. It is safe for concurrent use.
type Hub struct {
	opts  Options
	store *store
	front *front
}

// New opens or creates a Hub. The caller closes it.
func New(o Options) (*Hub, error) { return nil, errors.New("skeleton") }

// Close releases the data directory.
func (h *Hub) Close() error { return nil }

// Server is a Hub on two sockets.
type Server struct {
	URL    string // of the Hub: http://127.0.0.1:PORT
	CDNURL string
}

// Listen serves the Hub and its CDN; "127.0.0.1:0" picks a port.
func (h *Hub) Listen(addr, cdnAddr string) (*Server, error) { return nil, errors.New("skeleton") }

// Close ends the server and its connections.
func (s *Server) Close() error { return nil }

// RoundTripper serves without sockets, for virtual time: the Hub is
// http://hub.test, its CDN http://cdn.test.
func (h *Hub) RoundTripper() http.RoundTripper { return nil }

// CreateRepo makes a repository, with the Hub's initial commit unless Empty.
func (h *Hub) CreateRepo(r hub.Repo, o RepoOptions) error { return errors.New("skeleton") }

// Commit publishes files on a branch as one commit with that title, adding to
// what is there; a nil value deletes. Content goes to LFS as preupload would decide.
func (h *Hub) Commit(r hub.Repo, branch, title string, files map[string][]byte) (hub.CommitID, error) {
	return "", errors.New("skeleton")
}

// Import publishes a folder as one commit on main of a public repository,
// if the repository is missing or differs. It makes the branch equal the folder.
func (h *Hub) Import(r hub.Repo, folder iofs.FS) (hub.CommitID, error) {
	return "", errors.New("skeleton")
}

// Synthetic describes content that is made on the fly: size bytes of
// deterministic noise from a seed, tiled, at no cost in memory or disk.
type Synthetic struct {
	Size int64
	Seed uint64
}

// ReaderAt returns the bytes.
func (s Synthetic) ReaderAt() io.ReaderAt { return nil }

// SHA256 returns the hash of the bytes; it costs a pass over them the first
// time it is asked for in a process.
func (s Synthetic) SHA256() string { return "" }

// CommitSynthetic publishes LFS files with made content as one commit.
func (h *Hub) CommitSynthetic(r hub.Repo, branch, title string, files map[string]Synthetic) (hub.CommitID, error) {
	return "", errors.New("skeleton")
}

// Redirect makes requests for old lead to new, as a rename does; if canonical,
// resolve on old is served directly (hub-protocol §2.2).
func (h *Hub) Redirect(old, new hub.Repo, canonical bool) {}

// Fault is a rule of misbehaviour; its JSON form is cli.md's.
type Fault struct {
	Method      string            `json:"method,omitempty"`
	Path        string            `json:"path,omitempty"` // glob; * matches / too
	Host        string            `json:"host,omitempty"` // "hub" or "cdn"
	Nth         int               `json:"nth,omitempty"`
	Every       int               `json:"every,omitempty"`
	Probability float64           `json:"probability,omitempty"`
	Times       int               `json:"times,omitempty"`
	Fault       string            `json:"fault"`
	Status      int               `json:"status,omitempty"`
	Headers     map[string]string `json:"headers,omitempty"`
	Body        string            `json:"body,omitempty"`
	MS          int               `json:"ms,omitempty"`
	After       int64             `json:"after,omitempty"`
	At          int64             `json:"at,omitempty"`
	N           int               `json:"n,omitempty"`
	Fired       int               `json:"fired"`
}

// SetFaults replaces the rules.
func (h *Hub) SetFaults(rules ...Fault) error { return nil }

// Faults returns the rules with their Fired counts.
func (h *Hub) Faults() []Fault { return nil }

// Shape changes latency and bandwidth.
func (h *Hub) Shape(latency time.Duration, bytesPerSecond int64) {}

// ExpireURLs makes every signed URL given out so far expire now.
func (h *Hub) ExpireURLs() {}

// Stats counts what the Hub was asked; its JSON form is cli.md's.
type Stats struct {
	Requests  map[string]int64 `json:"requests"` // by route
	Quota     map[string]int64 `json:"quota"`    // api, resolvers, pages, cdn
	Total     int64            `json:"total"`
	BytesSent int64            `json:"bytes_sent"`
	Commits   int64            `json:"commits"`
	// LeakedTokens counts requests to the CDN that carried an Authorization header.
	LeakedTokens int64 `json:"leaked_tokens"`
}

// Stats returns the counters since New or ResetStats.
func (h *Hub) Stats() Stats { return Stats{} }

// ResetStats sets the counters to zero.
func (h *Hub) ResetStats() {}
