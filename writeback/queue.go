package writeback

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"hfmount/remote/hub"
)

// Queue turns the changes of a layer into commits. It is safe for concurrent
// use.
//
// One commit is made at a time: who builds, sends or settles one holds the
// token of work, and the fields in that group are his. mu guards what Status
// shows. Order: work, then mu, then the layer's locks; mu is never held across
// a request, a hook or a call of the layer.
type Queue struct {
	layer  *Layer
	l      local
	hub    Hub
	policy Policy
	key    Key
	hooks  Hooks
	public bool
	now    func() time.Time
	log    *slog.Logger
	budget *budget
	began  time.Time

	work     chan struct{} // holds one token
	pace     pace
	lineage  lineage
	unsure   []*batch    // sent, and nobody knows; oldest first
	landings []*delivery // on the Hub, and the view does not show them yet
	since    hub.CommitID
	ours     map[string]bool               // batches of this process
	unsquash string                        // why the history is not squashed any more
	squashed *squashRecord                 // a squash whose answer was lost
	away     map[hub.CommitID]hub.CommitID // commits that our own squashes replaced, and by which
	prNext   time.Time                     // of the next look at what the branch has of it
	prSeen   hub.CommitID                  // the head at which the pull request's paths were compared
	denied   bool                          // the last attempt had no permission
	lookTook time.Duration                 // the last look of an attempt at all changes
	opening  *opening                      // a pull request that may have been opened

	kick  chan struct{}
	again chan struct{}

	uploads uploads

	mu        sync.Mutex
	pr        *prState           // what went into the pull request
	guarded   map[string]guarded // by path: what the guard holds
	guardText string
	blocked   string          // why nothing can be committed at all
	busy      map[string]bool // closed, but found open or mapped by the last attempt
	flight    map[string]bool // paths of the commit under way
	posted    bool            // its request may have been sent
	abort     context.CancelCauseFunc
	holds     map[*Hold]bool
	last      *CommitInfo
	lastErr   *QueueError
	running   bool
	first     map[string]time.Time // by path: the first close since its last commit
	copied    map[*File]time.Time  // the Mtime that the last sealed copy had
	paused    map[string]pause     // by path: what keeps its group from automatic attempts
	forkless  bool                 // no permission to open pull requests
	notBefore time.Time            // of the next automatic attempt
	failures  int
	tick      time.Time // the next of the scheduled mode
}

// errDiscarded ends an attempt whose changes are being discarded.
var errDiscarded = errors.New("a change of the commit was discarded")

// NewQueue makes a queue. It does nothing before Run.
func NewQueue(o QueueOptions) (*Queue, error) {
	return newQueue(o, o.Layer)
}

func newQueue(o QueueOptions, l local) (*Queue, error) {
	if err := CheckMessage(o.Policy.Message); err != nil {
		return nil, err
	}
	q := &Queue{
		layer: o.Layer, l: l, hub: o.Hub, policy: o.Policy, key: l.identity(), hooks: o.Hooks, public: o.Public,
		now: o.Now, log: o.Logger,
		work: make(chan struct{}, 1), kick: make(chan struct{}, 1), again: make(chan struct{}, 1),
		ours: make(map[string]bool), away: make(map[hub.CommitID]hub.CommitID), paused: make(map[string]pause), guarded: make(map[string]guarded), flight: make(map[string]bool), busy: make(map[string]bool),
		holds: make(map[*Hold]bool), copied: make(map[*File]time.Time), first: make(map[string]time.Time),
	}
	if q.now == nil {
		q.now = time.Now
	}
	q.began = q.now()
	if q.log == nil {
		q.log = slog.New(slog.DiscardHandler)
	}
	if special(q.key.Ref) {
		q.policy.CreatePR = false // it is one
	}
	if q.policy.CommitAfter <= 0 {
		q.policy.CommitAfter = 30 * time.Second
	}
	if q.policy.CommitMaxWait <= 0 {
		q.policy.CommitMaxWait = 15 * time.Minute
	}
	dir := o.StateDir
	if dir == "" {
		dir = filepath.Join(os.TempDir(), fmt.Sprintf("hfmount-%d", os.Getuid()))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("the commit budget: %w", err)
	}
	q.budget = newBudget(dir, q.key.Endpoint, q.key.Account, q.now)
	q.uploads.init(q)
	if err := q.restore(); err != nil {
		return nil, err
	}
	return q, nil
}

// restore takes over what an earlier process left in the journal.
func (q *Queue) restore() error {
	for key, raw := range q.l.kept("batch/") {
		b := new(batch)
		if err := json.Unmarshal(raw, b); err != nil {
			return fmt.Errorf("the journal's %s: %w", key, err)
		}
		q.unsure = append(q.unsure, b)
		q.ours[b.ID] = true
	}
	sortBatches(q.unsure)
	if raw, ok := q.l.kept(openingKey)[openingKey]; ok {
		st := new(opening)
		if err := json.Unmarshal(raw, st); err != nil {
			return fmt.Errorf("the journal's %s: %w", openingKey, err)
		}
		q.opening = st
	}
	if raw, ok := q.l.kept("pr")["pr"]; ok {
		st := new(prState)
		if err := json.Unmarshal(raw, st); err != nil {
			return fmt.Errorf("the journal's pr: %w", err)
		}
		q.pr = st
	}
	for key, raw := range q.l.kept(squashKey) {
		st := new(squashRecord)
		if err := json.Unmarshal(raw, st); err != nil {
			return fmt.Errorf("the journal's %s: %w", key, err)
		}
		q.squashed = st
		q.ours[st.ID] = true
	}
	for key, raw := range q.l.kept("last") {
		c := new(CommitInfo)
		if err := json.Unmarshal(raw, c); err != nil {
			return fmt.Errorf("the journal's %s: %w", key, err)
		}
		q.last = c
	}
	// A transaction whose process died did not succeed.
	for key, raw := range q.l.kept("hold/") {
		var h holdRecord
		if err := json.Unmarshal(raw, &h); err != nil {
			return fmt.Errorf("the journal's %s: %w", key, err)
		}
		for _, it := range q.items() {
			if it.remote() && !it.Since.Before(h.Since) && it.State != Unclosed {
				if err := q.l.mark(it.seq, it.Path, Held, "hfmount run was interrupted"); err != nil {
					return err
				}
			}
		}
		if err := q.l.keep(key, nil, true); err != nil {
			return err
		}
	}
	return nil
}

// Kick makes an attempt at once, whatever earlier errors say: the token or the
// network is another one now.
func (q *Queue) Kick() {
	select {
	case q.kick <- struct{}{}:
	default:
	}
}

// poke makes Run look again, without forgetting errors.
func (q *Queue) poke() {
	for _, c := range []chan struct{}{q.again, q.uploads.again} {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// items is the layer's changes. Of an earlier process, whose clock may have
// been ahead, none is later than the beginning of this one.
func (q *Queue) items() []*item {
	items := q.l.items()
	now := q.now()
	for _, it := range items {
		if it.Since.After(now) {
			it.Since = q.began
		}
	}
	return items
}

// acquire takes the token of work; the caller calls release.
func (q *Queue) acquire(ctx context.Context) error {
	select {
	case q.work <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (q *Queue) release() { <-q.work }

// sleep waits, or ends with ctx.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (q *Queue) event(e Event) {
	if q.hooks.Event != nil {
		q.hooks.Event(e)
	}
}

// branch is where the layer's changes go.
func (q *Queue) branch() hub.Ref { return q.key.Ref }

// look is the changes as of now, without those that are on the Hub and only
// wait for the view to show them.
func (q *Queue) look() []*item {
	items := q.items()
	q.follow(items)
	q.remember(items)
	if len(q.landings) == 0 {
		return items
	}
	gone := make(map[string]uint64)
	for _, d := range q.landings {
		for _, c := range d.changes {
			if !c.copied {
				gone[c.path] = c.seq
			}
		}
	}
	out := items[:0:0]
	for _, it := range items {
		if seq, ok := gone[it.Path]; !ok || seq != it.seq {
			out = append(out, it)
		}
	}
	return out
}

// remember keeps since when each path waits, and forgets what is gone.
func (q *Queue) remember(items []*item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	present := make(map[string]bool, len(items))
	files := make(map[*File]bool)
	for _, it := range items {
		present[it.Path] = true
		if it.File != nil {
			files[it.File] = true
		}
		if _, ok := q.first[it.Path]; !ok && it.committable() {
			q.first[it.Path] = it.Since
		}
		it.first = q.first[it.Path]
	}
	for p := range q.first {
		if !present[p] {
			delete(q.first, p)
		}
	}
	for p := range q.busy {
		if !present[p] {
			delete(q.busy, p)
		}
	}
	for p := range q.paused {
		if !present[p] {
			delete(q.paused, p)
		}
	}
	for f := range q.copied {
		if !files[f] {
			delete(q.copied, f)
		}
	}
}
