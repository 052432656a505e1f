package writeback

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"hfmount/remote/hub"
)

// dueScheduled is due in the scheduled mode (Policy.Every): at each tick all
// that is closed, and copies of what is open for appending, or has been open
// for so long that it must be a log. A unit with another open file is left to
// the next tick. The tick waits a little for units that are not quiet, or open.
func (q *Queue) dueScheduled(items []*item, now time.Time) (selected []*item, next time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if now.Before(q.tick) {
		return nil, q.tick
	}
	patience := q.tick.Add(2 * q.policy.CommitAfter)
	for _, g := range groupItems(items) {
		ok, open := q.copies(g, now)
		var until time.Time
		switch at, will := g.readyAt(q.policy); {
		case open:
			// A file may just be open for the moment: its close wakes the queue.
			until = patience.Add(q.policy.CommitAfter)
		case ok && will && at.After(now):
			if until = patience; at.Before(until) {
				until = at
			}
		}
		if now.Before(until) {
			if next.IsZero() || until.Before(next) {
				next = until
			}
			continue
		}
		if !ok {
			continue
		}
		for _, it := range g.items {
			if it.committable() || it.copy {
				selected = append(selected, it)
			}
		}
	}
	if !next.IsZero() {
		return nil, next
	}
	selected = coherent(selected, items)
	if len(selected) == 0 {
		for !q.tick.After(now) {
			q.tick = q.tick.Add(q.policy.Every)
		}
		next = q.tick
	}
	return selected, next
}

// copies marks the open files of a group of which a copy is due, and reports
// whether the group may be committed at all, and if not, whether that is
// because of an open file. q.mu is held.
func (q *Queue) copies(g group, now time.Time) (ok, open bool) {
	for _, it := range g.items {
		if !it.remote() {
			continue
		}
		if it.State == Unclosed && now.Before(it.Since.Add(q.policy.CommitMaxWait)) {
			return false, false
		}
		if sticky(it.State) {
			return false, false
		}
		if len(it.writers) == 0 || it.File == nil {
			continue
		}
		long := true
		for _, w := range it.writers {
			if !w.Append && now.Before(w.Since.Add(q.policy.CommitMaxWait)) {
				long = false
			}
		}
		if !long {
			return false, true
		}
		if m := it.File.Mtime(); !m.Equal(q.copied[it.File]) {
			it.copy, it.copyOf = true, m
		}
	}
	return true, false
}

// squash makes the branch's history one commit, if every commit since the mount
// is ours; else it says so once and stops trying.
func (q *Queue) squash(ctx context.Context) error {
	if q.unsquash != "" || q.since == "" {
		return nil
	}
	var entries []hub.LogEntry
	for limit := 100; ; limit *= 10 {
		var err error
		if entries, err = q.hub.Log(ctx, q.branch(), limit); err != nil {
			return err
		}
		met := false
		for _, e := range entries {
			if e.ID == q.since {
				met = true
				break
			}
			if !q.ours[batchOf(e)] {
				q.unsquash = fmt.Sprintf("commit %s (%s) is not of this mount: the history is not squashed", e.ID.Short(), e.Title)
				break
			}
		}
		if met {
			break
		}
		if q.unsquash == "" && len(entries) == limit && limit < 10_000 {
			continue
		}
		if q.unsquash == "" {
			q.unsquash = "the commit this mount began with is gone: the history is not squashed"
		}
		q.event(Event{Kind: "failed", Text: q.unsquash, Hint: "mount again to begin a new history"})
		return nil
	}
	r := &squashRecord{ID: uuid.NewString(), Sent: q.now(), From: []hub.CommitID{q.since}}
	for _, e := range entries {
		if e.ID == q.since {
			break
		}
		r.From = append(r.From, e.ID)
	}
	if err := q.l.keep(squashKey, r, true); err != nil {
		return err
	}
	q.squashed = r
	q.ours[r.ID] = true
	id, err := q.hub.SuperSquash(ctx, q.branch(), squashMessage+"\n\n"+batchTrailer+r.ID)
	switch {
	case err == nil:
		return q.finishSquash(ctx, r, id)
	case nothingDone(err):
		return errors.Join(fmt.Errorf("squash the history: %w", err), q.forgetSquash())
	}
	return fmt.Errorf("squash the history: %w", err)
}

const (
	squashKey     = "squash" // of the record of a squash
	squashMessage = "Squash the history via hfmount"
)

// squashRecord is a squash whose answer may be lost, in the journal before its
// request is sent.
type squashRecord struct {
	ID   string         `json:"id"`   // in its message
	From []hub.CommitID `json:"from"` // the commits it replaces that changes may be based on
	Sent time.Time      `json:"sent"`
}

func (q *Queue) forgetSquash() error {
	q.squashed = nil
	return q.l.keep(squashKey, nil, false)
}

// settleSquash finds out about a squash whose answer was lost. Without wait it
// fails with an unsettledError while it may be made yet.
func (q *Queue) settleSquash(ctx context.Context, wait bool) error {
	r := q.squashed
	if r == nil {
		return nil
	}
	entries, err := q.hub.Log(ctx, q.branch(), 50)
	if err != nil {
		if errors.Is(err, hub.ErrRevisionNotFound) || errors.Is(err, hub.ErrRepoNotFound) {
			return q.forgetSquash()
		}
		return err
	}
	for _, e := range entries {
		if batchOf(e) == r.ID || strings.Contains(e.Title, r.ID) {
			return q.finishSquash(ctx, r, e.ID)
		}
	}
	if r.Sent.After(q.now()) {
		r.Sent = q.now() // by a clock that went back
	}
	left := settleWait - q.now().Sub(r.Sent)
	switch {
	case left <= 0:
		return q.forgetSquash()
	case !wait:
		return &unsettledError{left}
	}
	if err := sleep(ctx, min(left, 10*time.Second)); err != nil {
		return err
	}
	return q.settleSquash(ctx, wait)
}

// replaced is the commit that a squash of ours put in the place of c, or c.
func (q *Queue) replaced(c hub.CommitID) hub.CommitID {
	if by, ok := q.away[c]; ok {
		return by
	}
	return c
}

// follow moves changes that are based on squashed commits to what is in their
// place: the view showed the old ones until a moment ago.
func (q *Queue) follow(items []*item) {
	if len(q.away) == 0 {
		return
	}
	bases := make(map[string]Base)
	for _, it := range items {
		if c := q.replaced(it.Base.Commit); c != it.Base.Commit && it.remote() {
			it.Base.Commit = c
			bases[it.Path] = it.Base
		}
	}
	if len(bases) == 0 {
		return
	}
	if err := q.l.rebase(bases); err != nil {
		q.log.Warn("changes stay on the squashed history", "err", err)
	}
}

// finishSquash takes note of a squash that was made. The content is what it
// was; only the name of the commit is another one.
func (q *Queue) finishSquash(ctx context.Context, r *squashRecord, id hub.CommitID) error {
	for c := range q.away {
		q.away[c] = id
	}
	for _, c := range r.From {
		q.away[c] = id
	}
	bases := make(map[string]Base)
	for _, it := range q.items() {
		if it.remote() && it.Base.Commit != "" {
			bases[it.Path] = Base{Commit: id, Entry: it.Base.Entry}
		}
	}
	if len(bases) > 0 {
		if err := q.l.rebase(bases); err != nil {
			return err
		}
	}
	if err := q.forgetSquash(); err != nil {
		return err
	}
	q.since = id
	q.lineage = lineage{head: id}
	q.lineage.add(id)
	info := &CommitInfo{ID: id, URL: q.hub.CommitURL(q.branch().Repo, id), Time: q.now(), Message: squashMessage}
	q.mu.Lock()
	q.last = info
	q.mu.Unlock()
	if err := q.l.keep("last", info, false); err != nil {
		return err
	}
	q.landings = append(q.landings, &delivery{landing: Landing{Commit: hub.Committed{ID: id, URL: info.URL}, Ref: q.branch()}})
	return q.deliver(ctx)
}
