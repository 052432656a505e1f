package writeback

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"hfmount/remote/hub"
)

// unsettledError is a batch that may be applied yet.
type unsettledError struct{ left time.Duration }

func (e *unsettledError) Error() string {
	return fmt.Sprintf("the Hub has not said yet whether the last commit was made (up to %s more)", e.left.Round(time.Second))
}
func (e *unsettledError) Unwrap() error { return hub.ErrUncertain }

// settle waits until it is known what became of a batch whose answer was lost.
// It returns its commit, or nil with no error if it was not made: then it is
// forgotten if it cannot be made any more, else kept in unsure, in case it is
// applied very late: a commit on the same parent then fails, and settleAll
// finds out why.
func (q *Queue) settle(ctx context.Context, b *batch) (*hub.Committed, error) {
	for pause := 2 * time.Second; ; pause = min(2*pause, 20*time.Second) {
		found, over, err := q.find(ctx, b, make(pastLogs))
		if err != nil || found != nil {
			return found, err
		}
		if over {
			return nil, q.forget(b)
		}
		age := b.age(q.now())
		if age >= b.wait() {
			return nil, nil
		}
		if age >= settleWait {
			return nil, &unsettledError{b.wait() - age}
		}
		if err := sleep(ctx, min(pause, settleWait-age)); err != nil {
			return nil, err
		}
	}
}

// settleAll settles every batch that was not, oldest first, and what else of
// ours may have happened unseen. Without wait it fails with an unsettledError
// while one may be applied yet.
func (q *Queue) settleAll(ctx context.Context, wait bool) error {
	if err := q.settleSquash(ctx, wait); err != nil {
		return err
	}
	for pause := 2 * time.Second; ; pause = min(2*pause, 20*time.Second) {
		var left time.Duration
		logs := make(pastLogs)
		for _, b := range slices.Clone(q.unsure) {
			if slices.ContainsFunc(q.landings, func(d *delivery) bool { return d.batch == b }) {
				continue
			}
			found, over, err := q.find(ctx, b, logs)
			if err != nil {
				return err
			}
			age := b.age(q.now())
			switch {
			case found != nil:
				err = q.recovered(ctx, target{ref: b.Ref, pr: b.PR}, b, *found)
			case over, age >= forgetAfter:
				err = q.forget(b)
			case !b.Opens: // only what needs the pull request waits for that
				left = max(left, b.wait()-age)
			}
			if err != nil {
				return err
			}
		}
		if left <= 0 {
			return nil
		}
		if !wait {
			return &unsettledError{left}
		}
		if err := sleep(ctx, min(pause, left)); err != nil {
			return err
		}
	}
}

// unopened fails while a pull request may be opened yet by an earlier request.
func (q *Queue) unopened() error {
	for _, b := range q.unsure {
		if left := b.wait() - b.age(q.now()); b.Opens && left > 0 {
			return &unsettledError{left}
		}
	}
	return nil
}

// pastLogs is what was read of histories a moment ago.
type pastLogs map[hub.Ref]pastLog

type pastLog struct {
	entries []hub.LogEntry
	limit   int
}

// read returns up to limit commits of a ref.
func (p pastLogs) read(ctx context.Context, q *Queue, ref hub.Ref, limit int) ([]hub.LogEntry, error) {
	if l, ok := p[ref]; ok && l.limit >= limit {
		return l.entries[:min(limit, len(l.entries))], nil
	}
	entries, err := q.hub.Log(ctx, ref, limit)
	if err == nil {
		p[ref] = pastLog{entries, limit}
	}
	return entries, err
}

// find looks for the batch between the head and its parent; over is set when it
// is not there and cannot come any more: the head has left the parent.
func (q *Queue) find(ctx context.Context, b *batch, logs pastLogs) (found *hub.Committed, over bool, err error) {
	if b.Opens {
		return q.findOpened(ctx, b, logs)
	}
	for limit := 50; ; limit *= 10 {
		entries, err := logs.read(ctx, q, b.Ref, limit)
		if errors.Is(err, hub.ErrRevisionNotFound) || errors.Is(err, hub.ErrRepoNotFound) {
			return nil, true, nil // what is gone takes no commit
		}
		if err != nil {
			return nil, false, err
		}
		for i, e := range entries {
			if batchOf(e) == b.ID {
				return &hub.Committed{ID: e.ID, URL: q.hub.CommitURL(b.Ref.Repo, e.ID)}, false, nil
			}
			if e.ID == b.Parent {
				return nil, i > 0, nil
			}
		}
		if len(entries) < limit || limit >= 50_000 {
			return nil, true, nil // the parent is gone: the history was rewritten
		}
	}
}

// findOpened looks for the pull request that a batch opened.
func (q *Queue) findOpened(ctx context.Context, b *batch, logs pastLogs) (found *hub.Committed, over bool, err error) {
	all, err := q.hub.PullRequests(ctx, b.Ref.Repo)
	if errors.Is(err, hub.ErrRepoNotFound) {
		return nil, true, nil
	}
	if err != nil {
		return nil, false, err
	}
	for _, p := range all {
		if p.Num <= b.After {
			continue
		}
		entries, err := logs.read(ctx, q, hub.Ref{Repo: b.Ref.Repo, Revision: p.Ref()}, 50)
		if errors.Is(err, hub.ErrRevisionNotFound) {
			continue // its branch was deleted
		}
		if err != nil {
			return nil, false, err
		}
		for _, e := range entries {
			if batchOf(e) == b.ID {
				return &hub.Committed{ID: e.ID, URL: q.hub.CommitURL(b.Ref.Repo, e.ID), PullRequest: &p}, false, nil
			}
			if e.ID == b.Parent {
				break
			}
		}
	}
	return nil, false, nil
}
