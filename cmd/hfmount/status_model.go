package main

import "time"

// mountStatus is one element of `status --json`. cli.md fixes the names of
// the fields; more may be added, none renamed.
type mountStatus struct {
	Mountpoint     string         `json:"mountpoint"`
	Repo           string         `json:"repo"`
	Revision       string         `json:"revision"`
	Commit         string         `json:"commit"`
	ReadOnly       bool           `json:"read_only"`
	ReadOnlyReason string         `json:"read_only_reason"`
	PID            int            `json:"pid"`
	Version        string         `json:"version"`
	Endpoint       string         `json:"endpoint"`
	Online         bool           `json:"online"`
	Pending        int            `json:"pending"`
	Changes        []changeStatus `json:"changes"`
	LocalOnly      int            `json:"local_only"`
	HeldBy         []holderStatus `json:"held_by"`
	StagedBytes    int64          `json:"staged_bytes"`
	LastCommit     *commitStatus  `json:"last_commit"`
	PullRequest    *string        `json:"pull_request"`
	LastError      *errorStatus   `json:"last_error"`
	Cache          cacheStatus    `json:"cache"`
	Passthrough    bool           `json:"passthrough"`
	Requests       requestStatus  `json:"requests"`
	BytesFetched   uint64         `json:"bytes_fetched"`

	// Beyond the contract.
	Path              string     `json:"path"`               // folder of the repository, "" for its root
	State             string     `json:"state"`              // mounted, stale, or not answering
	PassthroughReason string     `json:"passthrough_reason"` // why not
	ReadAheadKB       int        `json:"read_ahead_kb"`
	Mounted           time.Time  `json:"mounted"`
	Checked           *time.Time `json:"checked"`       // when the branch was last looked at
	StalledSince      *time.Time `json:"stalled_since"` // since when some read makes no progress
	LogFile           string     `json:"log_file"`
	Views             int        `json:"views"` // revisions in use, of the whole Hub

	Uploads    []uploadStatus `json:"uploads"`
	NextCommit *time.Time     `json:"next_commit"` // when the next automatic one is due
	CommitsTo  string         `json:"commits_to"`  // where changes go, "" if read-only
	StateDir   string         `json:"state_dir"`
}

// wholeHub is the repository of a mount of the whole Hub.
const wholeHub = "hf://"

const (
	stateMounted = "mounted"
	// stateDraining is a mount that is gone, whose changes are still being sent.
	stateDraining = "draining"
	stateStale    = "stale"
	stateSilent   = "not answering"
)

type changeStatus struct {
	Path   string `json:"path"`
	Op     string `json:"op"`
	Size   int64  `json:"size"`
	State  string `json:"state"`
	Reason string `json:"reason"`
	Was    string `json:"was,omitempty"` // the old path of a rename
	Moved  bool   `json:"moved"`         // a delete that is half of a rename
}

// uploadStatus is an upload under way, in bytes.
type uploadStatus struct {
	Path  string `json:"path"`
	Sent  int64  `json:"sent"`
	Total int64  `json:"total"`
}

type holderStatus struct {
	Path string `json:"path"`
	PID  int    `json:"pid"`
}

type commitStatus struct {
	ID      string    `json:"id"`
	URL     string    `json:"url"`
	Time    time.Time `json:"time"`
	Message string    `json:"message"`
	Batch   string    `json:"batch,omitempty"` // of hfmount's own commits, in `log`
}

type errorStatus struct {
	Time time.Time `json:"time"`
	Path string    `json:"path"`
	Text string    `json:"text"`
	Hint string    `json:"hint"`
}

type cacheStatus struct {
	MemoryBytes int64  `json:"memory_bytes"`
	DiskBytes   int64  `json:"disk_bytes"`
	Hits        uint64 `json:"hits"`
	Misses      uint64 `json:"misses"`
}

type requestStatus struct {
	API       uint64 `json:"api"`
	Resolvers uint64 `json:"resolvers"`
	Pages     uint64 `json:"pages"`
	CDN       uint64 `json:"cdn"`
}

// normal makes absent lists empty lists, as programs expect them.
func (s mountStatus) normal() mountStatus {
	if s.Changes == nil {
		s.Changes = []changeStatus{}
	}
	if s.HeldBy == nil {
		s.HeldBy = []holderStatus{}
	}
	if s.Uploads == nil {
		s.Uploads = []uploadStatus{}
	}
	return s
}
