package hubtest

import (
	"cmp"
	"log/slog"
	"net/http"
	"time"
)

// User is an account and its token.
type User struct{ Name, Token string }

// Options configures [New].
type Options struct {
	// Dir holds bare git repositories, LFS objects by SHA-256 and a state file;
	// empty keeps everything in memory.
	Dir   string
	Users []User // none: one account "local" with token "hf_local"
	// Now is the clock of dates, quotas and signed URLs; nil is time.Now.
	// Latency, bandwidth and delays always take the time they take.
	Now      func() time.Time
	PageSize int  // entries per listing page, at most; 0 is 1000
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
	XetRefreshRoute    bool  // B: X-Xet-Refresh-Route instead of the xet-auth link
	LFSBytesThreshold  int64 // preupload: binary files above are LFS; 0 is 1 MiB
	MultipartThreshold int64 // LFS above this many bytes is multipart; 0 is 20 MB
	PartSize           int64 // 0 is 5 MB
}

// Hub is one Hub with its CDN. It is safe for concurrent use.
type Hub struct {
	opts  Options
	store *store
	front *front
}

// New opens or creates a Hub. The caller closes it.
//
// To use it inside a testing/synctest bubble, call New inside the bubble.
func New(o Options) (*Hub, error) {
	if len(o.Users) == 0 {
		o.Users = []User{{Name: "local", Token: "hf_local"}}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.PageSize = cmp.Or(o.PageSize, 1000)
	o.URLTTL = cmp.Or(o.URLTTL, time.Hour)
	o.Shapes.LFSBytesThreshold = cmp.Or(o.Shapes.LFSBytesThreshold, 1<<20)
	o.Shapes.MultipartThreshold = cmp.Or(o.Shapes.MultipartThreshold, 20_000_000)
	o.Shapes.PartSize = cmp.Or(o.Shapes.PartSize, 5_000_000)

	st, err := openStore(o.Dir, o.Now)
	if err != nil {
		return nil, err
	}
	h := &Hub{opts: o, store: st}
	h.front = newFront(h)
	return h, nil
}

// Close ends requests made through [Hub.RoundTripper] and late commits, waits
// for them and releases the data directory. Servers are closed before.
func (h *Hub) Close() error {
	h.front.tasks.close()
	return h.store.close()
}

// Shape changes latency per request and bandwidth, in bytes per second and
// connection; 0 is none. Answers under way keep their bandwidth.
func (h *Hub) Shape(latency time.Duration, bytesPerSecond int64) {
	h.front.latency.Store(int64(latency))
	h.front.bandwidth.Store(bytesPerSecond)
}

// ShapeUploads changes above which size, in bytes, an LFS object comes in
// parts, and how large these are. Uploads that have begun keep theirs.
func (h *Hub) ShapeUploads(above, part int64) {
	h.front.multipart.Store(above)
	h.front.partSize.Store(max(part, 1))
}

// ExpireURLs makes every signed URL given out so far expire now.
func (h *Hub) ExpireURLs() { h.front.signer.expireAll() }

// RoundTripper serves without sockets, for virtual time: the Hub is
// http://hub.test, its CDN http://cdn.test. Unlike a socket it adds no
// Accept-Encoding of its own. A request ends when its context does or its
// body is closed.
func (h *Hub) RoundTripper() http.RoundTripper { return &inProcess{h.front} }
