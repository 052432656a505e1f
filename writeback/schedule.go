package writeback

import (
	"context"
	"fmt"
	"time"

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
	selected = withoutHalves(selected, items)
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
	for limit := 100; ; limit *= 10 {
		entries, err := q.hub.Log(ctx, q.branch(), limit)
		if err != nil {
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
	message := "Squash the history via hfmount"
	id, err := q.hub.SuperSquash(ctx, q.branch(), message)
	if err != nil {
		return fmt.Errorf("squash the history: %w", err)
	}
	// The content is what it was; only the name of the commit is another one.
	bases := make(map[string]Base)
	for _, it := range q.l.items() {
		if it.remote() && it.Base.Commit != "" {
			bases[it.Path] = Base{Commit: id, Entry: it.Base.Entry}
		}
	}
	if len(bases) > 0 {
		if err := q.l.rebase(bases); err != nil {
			return err
		}
	}
	q.since = id
	q.lineage = lineage{head: id}
	q.lineage.add(id)
	info := &CommitInfo{ID: id, URL: q.hub.CommitURL(q.branch().Repo, id), Time: q.now(), Message: message}
	q.mu.Lock()
	q.last = info
	q.mu.Unlock()
	if err := q.l.keep("last", info, false); err != nil {
		return err
	}
	q.landings = append(q.landings, &delivery{landing: Landing{Commit: hub.Committed{ID: id, URL: info.URL}, Ref: q.branch()}})
	return q.deliver(ctx)
}
