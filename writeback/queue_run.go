package writeback

import (
	"context"
	"errors"
	iofs "io/fs"
	"slices"
	"sync"
	"time"

	"hfmount/remote/hub"
)

const (
	lookEvery   = 500 * time.Millisecond // at most, while names change all the time
	lookMost    = 5 * time.Second        // of rest between two looks that take long
	lookShare   = 20                     // a look is followed by a rest this many times as long
	maxBackoff  = time.Minute
	recheck     = time.Minute // of a branch that is gone, and of the pull request
	limitedWait = 5 * time.Minute
)

// Run works until ctx ends; it settles first what an earlier process left. It
// returns when everything it started has ended.
func (q *Queue) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // before the wait
	q.mu.Lock()
	if q.running {
		q.mu.Unlock()
		return errors.New("the queue runs already")
	}
	q.running = true
	q.tick = q.now().Add(q.policy.Every)
	q.mu.Unlock()
	defer func() {
		q.mu.Lock()
		q.running = false
		q.mu.Unlock()
	}()

	wg.Go(func() { q.uploads.run(ctx, &wg) })
	looked := time.Time{}
	for {
		// Looking costs time in proportion to the changes: not after each of
		// ten thousand closes.
		if d := restAfter(q.lookTook) - time.Since(looked); d > 0 {
			rest := time.NewTimer(d)
			select {
			case <-ctx.Done():
			case <-rest.C:
			case <-q.kick:
				q.kicked()
			}
			rest.Stop()
			if ctx.Err() != nil {
				return nil
			}
		}
		changed := q.l.changed()
		next := q.attempt(ctx)
		if ctx.Err() != nil {
			return nil
		}
		looked = time.Now()
		var due <-chan time.Time
		var timer *time.Timer
		if !next.IsZero() {
			timer = time.NewTimer(max(0, next.Sub(q.now())))
			due = timer.C
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-due:
		case <-q.again:
		case <-q.kick:
			q.kicked()
			looked = time.Time{}
		}
		if timer != nil {
			timer.Stop()
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// restAfter is how long not to look after a look that took as long: the more
// changes wait, the less it matters to see each at once.
func restAfter(took time.Duration) time.Duration {
	return min(max(lookEvery, lookShare*took), lookMost)
}

// kicked forgets why nothing was to be tried.
func (q *Queue) kicked() {
	q.mu.Lock()
	q.notBefore, q.failures, q.blocked = time.Time{}, 0, ""
	q.forkless = false
	clear(q.paused)
	q.mu.Unlock()
	q.uploads.retry()
	q.poke()
}

// attempt makes the automatic commit that is due, if one is.
func (q *Queue) attempt(ctx context.Context) time.Time {
	if q.acquire(ctx) != nil {
		return time.Time{}
	}
	defer q.release()
	now := q.now()
	q.mu.Lock()
	notBefore := q.notBefore
	held := len(q.holds) > 0
	q.mu.Unlock()
	if now.Before(notBefore) {
		return notBefore
	}
	next, err := q.automatic(ctx, now, held)
	switch {
	case err == nil:
		q.mu.Lock()
		q.failures = 0
		q.mu.Unlock()
		return next
	case ctx.Err() != nil:
		return time.Time{}
	case errors.Is(err, errDiscarded):
		return q.now()
	}
	if wait := new(unsettledError); errors.As(err, &wait) {
		// Not before: every change that is made meanwhile would ask again.
		every := 5 * time.Second
		if wait.left > settleWait {
			every = 30 * time.Second
		}
		at := q.now().Add(min(wait.left, every))
		q.mu.Lock()
		q.notBefore = at
		q.mu.Unlock()
		return at
	}
	at := q.failed(err)
	if !next.IsZero() && next.Before(at) {
		return next
	}
	return at
}

// automatic makes the commit that nobody asked for, if one is due.
func (q *Queue) automatic(ctx context.Context, now time.Time, held bool) (time.Time, error) {
	if err := q.deliver(ctx); err != nil {
		return time.Time{}, err
	}
	if err := q.settleAll(ctx, false); err != nil {
		return time.Time{}, err
	}
	if q.policy.Squash && q.since == "" {
		if s, err := q.hub.Resolve(ctx, q.branch()); err == nil {
			q.since = s.Commit
		}
	}
	var next time.Time
	sooner := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	if q.prPaths() > 0 {
		if !now.Before(q.prNext) {
			if err := q.checkPR(ctx); err != nil {
				return time.Time{}, err
			}
			q.prNext = now.Add(recheck)
		}
		sooner(q.prNext)
	}
	if held || q.policy.Manual {
		return next, nil
	}
	began := time.Now()
	items, at := q.unpaused(q.unguarded(q.look()), now)
	sooner(at)
	selected, at := q.due(items, now)
	sooner(at)
	q.lookTook = time.Since(began)
	if len(selected) == 0 {
		return next, nil
	}
	// Do not build what may not be sent; the token itself is taken just before
	// the request, since building may end in nothing to commit.
	if w := q.budget.peek(); w > 0 {
		return now.Add(w), nil
	}
	if q.denied && !q.policy.CreatePR && !special(q.branch()) {
		// One small question, before all is built and sent again in vain.
		if err := q.hub.MayWrite(ctx, q.branch().Repo); err != nil {
			return next, err
		}
	}
	var commits []hub.Committed
	j := &job{q: q, auto: true, commits: &commits}
	err := j.run(ctx, selected)
	gone := new(blockedError)
	q.denied = errors.Is(err, iofs.ErrPermission) && !errors.As(err, &gone)
	sooner(q.pauseAfter(j))
	if limited := new(budgetError); errors.As(err, &limited) {
		return q.now().Add(limited.wait), nil
	}
	if err == nil && j.raced && len(commits) == 0 {
		return q.now().Add(busyAgain), nil
	}
	if err == nil && q.policy.Every > 0 {
		q.mu.Lock()
		for !q.tick.After(q.now()) {
			q.tick = q.tick.Add(q.policy.Every)
		}
		sooner(q.tick)
		q.mu.Unlock()
		if len(commits) > 0 && q.policy.Squash {
			err = q.squash(ctx)
		}
	}
	if err != nil {
		return next, err
	}
	// What became ready meanwhile, or was set aside, is looked at again.
	if len(commits) > 0 || q.policy.Every == 0 {
		sooner(q.now().Add(q.policy.CommitAfter))
	}
	return next, nil
}

// due is what is ready now, and when something else will be.
func (q *Queue) due(items []*item, now time.Time) (selected []*item, next time.Time) {
	if q.policy.Every > 0 {
		return q.dueScheduled(items, now)
	}
	for _, g := range groupItems(items) {
		at, ok := g.readyAt(q.policy)
		switch {
		case !ok:
		case at.After(now):
			if next.IsZero() || at.Before(next) {
				next = at
			}
		default:
			for _, it := range g.items {
				if it.committable() {
					selected = append(selected, it)
				}
			}
		}
	}
	return coherent(selected, items), next
}

// failed records what an automatic attempt failed with, and says when the next
// one is.
func (q *Queue) failed(err error) time.Time {
	now := q.now()
	at := now
	var limited *hub.LimitedError
	var gone *blockedError
	q.mu.Lock()
	switch {
	case errors.As(err, &limited):
		wait := limited.After
		if wait <= 0 {
			wait = limitedWait
		}
		at = now.Add(wait)
	case errors.As(err, &gone):
		q.blocked = gone.Error()
		wait := recheck
		if gone.final {
			wait = time.Hour
		}
		at = now.Add(wait)
	default:
		wait := maxBackoff
		if q.failures < 6 {
			wait = time.Second << q.failures
		}
		q.failures++
		at = now.Add(wait)
	}
	q.notBefore = at
	q.mu.Unlock()
	q.note(err)
	return at
}

// note shows an error, about paths or all changes, in status, and tells about
// it once.
func (q *Queue) note(err error, paths ...string) {
	path := ""
	if len(paths) > 0 {
		path = paths[0]
	}
	e := &QueueError{Time: q.now(), Path: path, Text: err.Error(), Hint: hintOf(err)}
	q.mu.Lock()
	known := q.lastErr != nil && q.lastErr.Text == e.Text && q.lastErr.Path == path
	q.lastErr = e
	q.mu.Unlock()
	if known {
		return
	}
	q.log.Warn("changes wait", "err", err, "paths", len(paths), "first", path)
	q.event(Event{Kind: "failed", Text: e.Text, Hint: e.Hint, Paths: paths})
}

// pause keeps a change's group from automatic attempts: it could not be
// committed, and nothing tells when it can.
type pause struct {
	seq   uint64
	until time.Time
	tries int
	why   string
}

const (
	mappedPause = 30 * time.Second // at most, for a file that is still mapped
	failedPause = 10 * time.Minute // at most, for a file that cannot be read
)

// pauseAfter pauses what a run set aside without a mark, and says when the
// first of it is tried again.
func (q *Queue) pauseAfter(j *job) (next time.Time) {
	now := q.now()
	q.mu.Lock()
	defer q.mu.Unlock()
	for path, w := range j.why {
		if sticky(w.State) {
			continue
		}
		p := q.paused[path]
		if p.seq != w.seq {
			p = pause{seq: w.seq}
		}
		wait := min(mappedPause, busyAgain<<min(p.tries, 8))
		if w.State != Open {
			wait = min(failedPause, 15*busyAgain<<min(p.tries, 8))
		}
		p.tries++
		p.until, p.why = now.Add(wait), w.Reason
		q.paused[path] = p
		if next.IsZero() || p.until.Before(next) {
			next = p.until
		}
	}
	return next
}

// unpaused drops the groups of which a change is paused, and says when the
// first of them is tried again.
func (q *Queue) unpaused(items []*item, now time.Time) (out []*item, next time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.paused) == 0 {
		return items, time.Time{}
	}
	for _, g := range groupItems(items) {
		var until time.Time
		for _, it := range g.items {
			if p, ok := q.paused[it.Path]; ok && p.seq == it.seq {
				until = later(until, p.until)
			}
		}
		if !until.After(now) {
			out = append(out, g.items...)
		} else if next.IsZero() || until.Before(next) {
			next = until
		}
	}
	return out, next
}

// unguarded drops the groups of which the guard holds a change, as long as
// everything that it holds is still the same.
func (q *Queue) unguarded(items []*item) []*item {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.guarded) == 0 {
		return items
	}
	same := 0
	for _, it := range items {
		if g, ok := q.guarded[it.Path]; ok && g.seq == it.seq {
			same++
		}
	}
	if same < len(q.guarded) {
		// Something of it was dropped or written again: it is judged anew.
		clear(q.guarded)
		return items
	}
	out := make([]*item, 0, len(items))
	for _, g := range groupItems(items) {
		if !slices.ContainsFunc(g.items, func(it *item) bool { return q.guarded[it.Path].seq == it.seq }) {
			out = append(out, g.items...)
		}
	}
	return out
}
