package writeback

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	iofs "io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"hfmount/remote/hub"
	"hfmount/writeback/staging"
)

const (
	aheadFrom      = 10 << 20  // bytes; files from here on are uploaded once closed
	storedMost     = 1 << 16   // objects remembered to be on the Hub
	storedFor      = time.Hour // they are certainly there
	busyAgain      = 2 * time.Second
	uploadsAtATime = 4
	sealsAtATime   = 2
)

// uploads sends objects to the Hub, each at most once at a time, for commits
// and ahead of them.
type uploads struct {
	q     *Queue
	slots chan struct{}
	seals chan struct{}
	again chan struct{} // looks at what can be sent ahead

	mu      sync.Mutex
	sealing map[*File]chan struct{}
	jobs    map[string]*upload   // by SHA-256
	stored  map[string]time.Time // since when, by SHA-256
	ahead   map[*File]*aheadJob
}

// upload is one object on its way.
type upload struct {
	path  string
	total int64
	sent  atomic.Int64
	done  chan struct{}
	err   error // valid once done is closed
}

// aheadJob is a large closed file that is hashed and sent before its commit.
type aheadJob struct {
	gen     uint64
	cancel  context.CancelFunc
	running bool
	done    bool
	retryAt time.Time
	tries   int
}

func (u *uploads) init(q *Queue) {
	*u = uploads{
		q: q, slots: make(chan struct{}, uploadsAtATime), seals: make(chan struct{}, sealsAtATime), again: make(chan struct{}, 1),
		sealing: make(map[*File]chan struct{}), jobs: make(map[string]*upload), stored: make(map[string]time.Time), ahead: make(map[*File]*aheadJob),
	}
}

// sealOne seals a change's file; the background and a commit that want the same
// file wait for each other instead of hashing it twice.
func (u *uploads) sealOne(ctx context.Context, it *item) (sealedBytes, error) {
	for {
		u.mu.Lock()
		other := u.sealing[it.File]
		if other == nil {
			break
		}
		u.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return sealedBytes{}, context.Cause(ctx)
		}
	}
	mine := make(chan struct{})
	u.sealing[it.File] = mine
	u.mu.Unlock()
	defer func() {
		u.mu.Lock()
		delete(u.sealing, it.File)
		u.mu.Unlock()
		close(mine)
	}()
	select {
	case u.seals <- struct{}{}:
	case <-ctx.Done():
		return sealedBytes{}, context.Cause(ctx)
	}
	defer func() { <-u.seals }()
	if it.copy {
		return u.q.l.sealCopy(ctx, it.File)
	}
	return u.q.l.seal(ctx, it.File)
}

// upload stores an object, or waits until somebody else has.
func (u *uploads) upload(ctx context.Context, ref hub.Ref, path string, c content, data io.ReaderAt) error {
	var mine *upload
	for mine == nil {
		u.mu.Lock()
		if _, ok := u.stored[c.SHA256]; ok {
			u.mu.Unlock()
			return nil
		}
		other := u.jobs[c.SHA256]
		if other == nil {
			mine = &upload{path: path, total: c.Size, done: make(chan struct{})}
			u.jobs[c.SHA256] = mine
		}
		u.mu.Unlock()
		if mine != nil {
			break
		}
		select {
		case <-other.done:
			// One that was given up, because its file vanished, says nothing.
			if other.err != nil && !errors.Is(other.err, context.Canceled) && !errors.Is(other.err, errDiscarded) {
				return other.err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	err := u.store(ctx, ref, c, data, mine)
	u.mu.Lock()
	delete(u.jobs, c.SHA256)
	if err == nil {
		if len(u.stored) >= storedMost {
			clear(u.stored)
		}
		u.stored[c.SHA256] = u.q.now()
	}
	u.mu.Unlock()
	mine.err = err
	close(mine.done)
	return err
}

func (u *uploads) store(ctx context.Context, ref hub.Ref, c content, data io.ReaderAt, job *upload) error {
	select {
	case u.slots <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-u.slots }()
	key := "upload/" + c.SHA256
	o := hub.Object{
		SHA256: c.SHA256, Size: c.Size, Data: data,
		Progress: func(n int64) { job.sent.Add(n) },
		Save: func(state []byte) {
			if err := u.q.l.keep(key, state, false); err != nil {
				u.q.log.Warn("an upload could not be resumed after a crash", "err", err)
			}
		},
	}
	saved := u.q.l.kept(key)
	if raw, ok := saved[key]; ok {
		if err := json.Unmarshal(raw, &o.Resume); err != nil {
			o.Resume = nil
		}
	}
	if err := u.q.hub.Upload(ctx, ref, o); err != nil {
		return err
	}
	if len(u.q.l.kept(key)) > 0 {
		return u.q.l.keep(key, nil, false)
	}
	return nil
}

// forget has the objects of lines asked for again, should a commit with them be
// tried once more: the Hub drops objects that no commit names for long. It
// reports whether that may have happened to one.
func (u *uploads) forget(lines []*line) (old bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, l := range lines {
		if !l.lfs {
			continue
		}
		if at, ok := u.stored[l.content.SHA256]; ok {
			old = old || u.q.now().Sub(at) > storedFor
			delete(u.stored, l.content.SHA256)
		}
	}
	return old
}

// progress is how the uploads stand.
func (u *uploads) progress() []Progress {
	u.mu.Lock()
	defer u.mu.Unlock()
	out := make([]Progress, 0, len(u.jobs))
	for _, j := range u.jobs {
		out = append(out, Progress{Path: j.path, Sent: min(j.total, max(0, j.sent.Load())), Total: j.total})
	}
	slices.SortFunc(out, func(a, b Progress) int { return strings.Compare(a.Path, b.Path) })
	return out
}

// run starts uploads ahead of commits, also while one is being made, until ctx
// ends. What it starts is wg's.
func (u *uploads) run(ctx context.Context, wg *sync.WaitGroup) {
	for {
		changed := u.q.l.changed()
		began := time.Now()
		next := u.startAhead(ctx, wg)
		// Looking costs time in proportion to the changes.
		if sleep(ctx, restAfter(time.Since(began))) != nil {
			return
		}
		var due <-chan time.Time
		var timer *time.Timer
		if !next.IsZero() {
			timer = time.NewTimer(max(0, next.Sub(u.q.now())))
			due = timer.C
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-due:
		case <-u.again:
		}
		if timer != nil {
			timer.Stop()
		}
	}
}

// retry forgets earlier failures.
func (u *uploads) retry() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, a := range u.ahead {
		a.retryAt, a.tries = time.Time{}, 0
	}
}

// startAhead begins to hash and send large files that were closed, stops what
// vanished, and says when a failed one is due again. The goroutines are wg's
// and end with ctx.
func (u *uploads) startAhead(ctx context.Context, wg *sync.WaitGroup) (next time.Time) {
	q := u.q
	if q.policy.Manual {
		return time.Time{}
	}
	ref := q.branch()
	q.mu.Lock()
	if q.policy.CreatePR {
		if q.pr == nil {
			q.mu.Unlock()
			return time.Time{}
		}
		ref.Revision = q.pr.Proposal.Ref()
	}
	blocked := q.blocked != ""
	q.mu.Unlock()
	items := q.unguarded(q.items())
	present := make(map[*File]bool)
	now := q.now()

	u.mu.Lock()
	defer u.mu.Unlock()
	for _, it := range items {
		if it.Kind != Put || it.File == nil {
			continue
		}
		present[it.File] = true
		if blocked || it.Size < aheadFrom || !it.committable() || q.public && secretName(it.Path) != "" || it.Size > guardBytes && !q.policy.NoGuard {
			continue
		}
		a := u.ahead[it.File]
		switch {
		case a == nil:
			a = &aheadJob{gen: it.gen}
			u.ahead[it.File] = a
		case a.gen != it.gen && a.running:
			a.cancel() // the newer bytes count; its end wakes the queue
			continue
		case a.gen != it.gen:
			*a = aheadJob{gen: it.gen}
		case a.running || a.done:
			continue
		case now.Before(a.retryAt):
			if next.IsZero() || a.retryAt.Before(next) {
				next = a.retryAt
			}
			continue
		}
		var actx context.Context
		actx, a.cancel = context.WithCancel(ctx)
		a.running = true
		wg.Add(1)
		go func() {
			defer wg.Done()
			u.sendAhead(actx, ref, it, a)
		}()
	}
	for f, a := range u.ahead {
		if present[f] {
			continue
		}
		if a.running {
			a.cancel()
		} else {
			delete(u.ahead, f)
		}
	}
	return next
}

func (u *uploads) sendAhead(ctx context.Context, ref hub.Ref, it *item, a *aheadJob) {
	defer a.cancel()
	err := u.sendFile(ctx, ref, it)
	q := u.q
	u.mu.Lock()
	a.running = false
	cancelled := ctx.Err() != nil
	switch {
	case err == nil:
		a.done = true
	case errors.Is(err, staging.ErrWriters), errors.Is(err, staging.ErrChanged):
		a.retryAt = q.now().Add(busyAgain)
	case errors.Is(err, iofs.ErrNotExist):
	default:
		a.retryAt = q.now().Add(min(maxBackoff, time.Second<<min(a.tries, 6)))
		a.tries++
	}
	u.mu.Unlock()
	if err == nil || cancelled || errors.Is(err, staging.ErrWriters) || errors.Is(err, staging.ErrChanged) {
		if cancelled || err != nil {
			q.poke()
		}
		return
	}
	if r := new(hub.RefusedError); errors.As(err, &r) {
		if merr := q.l.mark(it.seq, it.Path, Refused, r.Message); merr != nil {
			q.log.Warn("a refused path could not be marked", "err", merr)
		}
	}
	q.note(err, it.Path)
	q.poke()
}

func (u *uploads) sendFile(ctx context.Context, ref hub.Ref, it *item) error {
	s, err := u.sealOne(ctx, it)
	if err != nil {
		return err
	}
	defer s.release()
	if u.q.policy.Gitignore {
		modes, err := u.q.hub.Preupload(ctx, ref, hub.Preupload{Files: []hub.Sample{{Path: it.Path, Size: s.Size, Head: s.Head}}})
		if err != nil {
			return err
		}
		if len(modes) != 1 || modes[0].Ignore || !modes[0].LFS {
			return nil
		}
	}
	c := s.content()
	if c.is(it.Base.Entry) {
		return nil // the Hub has it
	}
	return u.upload(ctx, ref, it.Path, c, s.data)
}
