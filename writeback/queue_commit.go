package writeback

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"hfmount/remote/hub"
)

// releaseWait is how long an explicit commit waits for the kernel to release
// files whose close returned.
const releaseWait = 5 * time.Second

// longestLimit is how long an explicit commit waits where the Hub limits how
// many may be made.
const longestLimit = 2 * time.Minute

// CommitRequest is an explicit commit.
type CommitRequest struct {
	Message     string // "" is the template's
	Description string
	Yes         bool // the guard is answered
	// Final is set on unmount: what is held, by a failed run or because commits
	// are manual, stays local.
	Final bool
}

// Outcome is what an explicit commit did.
type Outcome struct {
	Commits []hub.Committed
	// Left are changes that remain local, with state and reason.
	Left []Change
	// Proposal is the pull request our side of a conflict went to.
	Proposal *hub.Proposal
}

// Commit commits what is pending and returns when it is on the Hub: every file
// whose close returned before the call. It waits up to 5 s for handles whose
// close returned to be released.
func (q *Queue) Commit(ctx context.Context, r CommitRequest) (Outcome, error) {
	return q.commit(ctx, r, nil)
}

// commit is Commit of the changes that only picks, of all if it is nil.
func (q *Queue) commit(ctx context.Context, r CommitRequest, only func(*item) bool) (Outcome, error) {
	var out Outcome
	began := q.items()
	if err := q.awaitReleases(ctx, only); err != nil {
		return out, err
	}
	if err := q.acquire(ctx); err != nil {
		return out, err
	}
	defer q.release()
	j := &job{q: q, yes: r.Yes, whole: r.Final, message: r.Message, description: r.Description, commits: &out.Commits}
	err := q.explicit(ctx, j, r, only)
	out.Proposal = j.proposal
	out.Left = q.left(began, j, r, only)
	if err == nil {
		q.Kick()
	} else {
		q.poke()
		if ctx.Err() == nil && !errors.Is(err, errDiscarded) {
			q.note(err)
		}
		return out, fmt.Errorf("commit: %w", err)
	}
	return out, nil
}

func (q *Queue) explicit(ctx context.Context, j *job, r CommitRequest, only func(*item) bool) error {
	for raced := 0; ; {
		if err := q.deliver(ctx); err != nil {
			return err
		}
		// Before the look: what turns out to be on the Hub changes bases.
		if err := q.settleAll(ctx, true); err != nil {
			return err
		}
		if q.prPaths() > 0 {
			if err := q.checkPR(ctx); err != nil {
				return err
			}
		}
		all := q.look()
		var selected []*item
		for _, it := range all {
			if q.asked(it, r) && (only == nil || only(it)) {
				selected = append(selected, it)
			}
		}
		if r.Final {
			selected = wholeSaves(selected, all, q.policy, q.now())
		}
		selected = coherent(selected, all)
		if len(selected) == 0 {
			return nil
		}
		err := j.run(ctx, selected)
		if err == nil && j.raced && raced < 5 {
			raced++ // what took the place of a closed file counts
			continue
		}
		limited := new(hub.LimitedError)
		if !errors.As(err, &limited) || limited.After <= 0 || limited.After > longestLimit {
			return err
		}
		if end, ok := ctx.Deadline(); ok && time.Until(end) < limited.After {
			return err
		}
		if err := sleep(ctx, limited.After); err != nil {
			return err
		}
	}
}

// asked reports whether an explicit commit takes a change.
func (q *Queue) asked(it *item, r CommitRequest) bool {
	if !it.remote() || len(it.writers) > 0 && !it.copy {
		return false
	}
	switch it.State {
	case Open, Unclosed, InPR:
		return it.copy && it.State == Open
	case Held, Refused:
		return !r.Final // what was refused may be taken now
	}
	return !(r.Final && q.policy.Manual)
}

// awaitReleases waits, for a while, until no change is open for writing.
func (q *Queue) awaitReleases(ctx context.Context, only func(*item) bool) error {
	timeout := time.NewTimer(releaseWait)
	defer timeout.Stop()
	for {
		changed := q.l.changed()
		if !slices.ContainsFunc(q.items(), func(it *item) bool {
			return it.remote() && len(it.writers) > 0 && (only == nil || only(it))
		}) {
			return nil
		}
		select {
		case <-changed:
		case <-timeout.C:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// left is what of the changes a commit began with is still local.
func (q *Queue) left(began []*item, j *job, r CommitRequest, only func(*item) bool) []Change {
	first := make(map[string]*item, len(began))
	for _, it := range began {
		first[it.Path] = it
	}
	var out []Change
	now := q.look()
	moved := movedFrom(now)
	for _, it := range now {
		was := first[it.Path]
		if was == nil || !it.remote() || it.State == InPR || only != nil && !only(it) {
			continue
		}
		open := it.State == Open || len(it.writers) > 0
		if was.seq != it.seq && !open {
			continue // edited meanwhile: another change
		}
		c := it.Change
		c.Moved = moved[it]
		if w, ok := j.why[it.Path]; ok && w.seq == it.seq {
			c.State, c.Reason = w.State, w.Reason
		}
		if r.Final && q.policy.Manual && c.State == Pending {
			c.State, c.Reason = Held, manualReason
		}
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
	return out
}

const manualReason = "--commit manual"

// WaitFor returns when the path's present bytes are on the Hub (--sync=remote).
// Of a file that is open, a copy of the present bytes is committed. Within a
// transaction of `hfmount run` it returns at once: its end commits.
func (q *Queue) WaitFor(ctx context.Context, path string) error {
	if err := q.acquire(ctx); err != nil {
		return err
	}
	defer q.release()
	if err := q.deliver(ctx); err != nil {
		return err
	}
	if err := q.settleAll(ctx, true); err != nil {
		return err
	}
	all := q.look()
	var it *item
	for _, other := range all {
		if other.Path == path {
			it = other
		}
	}
	if it == nil || !it.remote() || it.State == InPR {
		return nil
	}
	q.mu.Lock()
	transaction := len(q.holds) > 0
	q.mu.Unlock()
	switch {
	case transaction:
		return nil // nothing of it is on the Hub before its end
	case it.State == Held:
		return fmt.Errorf("%s stays local: %s: %w", path, it.Reason, ErrHeld)
	}
	if len(it.writers) > 0 {
		it.copy = true
	}
	var commits []hub.Committed
	j := &job{q: q, commits: &commits}
	if err := j.run(ctx, companions(it, all)); err != nil {
		return fmt.Errorf("wait for %s to be on the Hub: %w", path, err)
	}
	if !j.finished[it] {
		return fmt.Errorf("%s stays local: what was renamed or removed with it cannot be committed yet: %w", path, ErrHeld)
	}
	if w, ok := j.why[path]; ok {
		kind := error(ErrHeld)
		switch w.State {
		case Conflict:
			kind = hub.ErrConflict
		case Refused:
			kind = hub.ErrRefused
		}
		return fmt.Errorf("%s stays local: %s: %w", path, w.Reason, kind)
	}
	return nil
}
