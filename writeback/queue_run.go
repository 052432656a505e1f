package writeback

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"hfmount/remote/hub"
)

const (
	lookEvery   = 500 * time.Millisecond // at most, while names change all the time
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
	defer cancel()
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

	looked := time.Time{}
	for {
		// Looking costs time in proportion to the changes: not after each of
		// ten thousand closes.
		if d := lookEvery - time.Since(looked); d > 0 {
			if sleep(ctx, d) != nil {
				return nil
			}
		}
		changed := q.l.changed()
		next := q.step(ctx, &wg)
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
			q.mu.Lock()
			q.notBefore, q.failures, q.blocked = time.Time{}, 0, ""
			q.mu.Unlock()
			q.uploads.retry()
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

// step does what is due, and says when the next look is.
func (q *Queue) step(ctx context.Context, wg *sync.WaitGroup) time.Time {
	ahead := q.uploads.startAhead(ctx, wg)
	next := q.attempt(ctx)
	if !ahead.IsZero() && (next.IsZero() || ahead.Before(next)) {
		return ahead
	}
	return next
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
		return q.now().Add(min(wait.left, 5*time.Second))
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
	if len(q.unsure) > 0 {
		if err := q.settleAll(ctx, false); err != nil {
			return time.Time{}, err
		}
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
		if err := q.checkPR(ctx); err != nil {
			return time.Time{}, err
		}
		sooner(now.Add(recheck))
	}
	if held || q.policy.Manual {
		return next, nil
	}
	items := q.unguarded(q.look())
	selected, at := q.due(items, now)
	sooner(at)
	if len(selected) == 0 {
		return next, nil
	}
	// Do not build what may not be sent; the token itself is taken just before
	// the request, since building may end in nothing to commit.
	if w, err := q.budget.peek(); err != nil {
		return time.Time{}, err
	} else if w > 0 {
		return now.Add(w), nil
	}
	var commits []hub.Committed
	j := &job{q: q, auto: true, commits: &commits}
	err := j.run(ctx, selected)
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
	return withoutHalves(selected, items), next
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
	q.note(err, "")
	return at
}

// note shows an error in status, and tells about it once.
func (q *Queue) note(err error, path string) {
	e := &QueueError{Time: q.now(), Path: path, Text: err.Error(), Hint: hintOf(err)}
	q.mu.Lock()
	known := q.lastErr != nil && q.lastErr.Text == e.Text && q.lastErr.Path == path
	q.lastErr = e
	q.mu.Unlock()
	if known {
		return
	}
	q.log.Warn("changes wait", "err", err, "path", path)
	ev := Event{Kind: "failed", Text: e.Text, Hint: e.Hint}
	if path != "" {
		ev.Paths = []string{path}
	}
	q.event(ev)
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
		if seq, ok := q.guarded[it.Path]; ok && seq == it.seq {
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
		if !slices.ContainsFunc(g.items, func(it *item) bool { return q.guarded[it.Path] == it.seq }) {
			out = append(out, g.items...)
		}
	}
	return out
}
