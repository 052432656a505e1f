package writeback

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"hfmount/remote/hub"
)

// delivery is a commit that the view has to show before its changes may leave
// the layer.
type delivery struct {
	landing Landing
	changes []landedChange
	batch   *batch // nil if the Hub had the content already
	release []func()
	tried   time.Time // first
}

// finish takes lines off the job that the target has: by a commit of ours, or
// (batch nil) because it had the same content already.
func (j *job) finish(ctx context.Context, t target, c hub.Committed, summary string, lines []*line, b *batch) error {
	q := j.q
	for _, l := range lines {
		j.finished[l.item], j.landed[l.item] = true, true
		q.mu.Lock()
		delete(q.first, l.Path)
		if l.copy && !l.copyOf.IsZero() {
			q.copied[l.File] = l.copyOf
		}
		q.mu.Unlock()
	}
	if b != nil {
		if err := q.tellMade(t, c, summary, lines); err != nil {
			return err
		}
	}
	if t.pr {
		return q.joinedPR(ctx, c, lines, b)
	}
	d := &delivery{batch: b, landing: Landing{Commit: c, Ref: t.ref}}
	if b != nil {
		d.landing.Parent = b.Parent
	}
	for _, l := range lines {
		ch := landedChange{path: l.Path, seq: l.seq, copied: l.copy, base: Base{Commit: c.ID, Entry: l.there}}
		if b != nil {
			ch.base.Entry = nil
			if l.Kind == Put {
				ch.base.Entry = l.content.entry(l.Path, l.lfs)
			}
		}
		d.landing.Paths = append(d.landing.Paths, l.Path)
		if l.sealed != nil {
			ch.gen = l.sealed.gen
			if s, ok := j.sealed[l.item]; ok {
				// The bytes must outlive the job while the view may still want them.
				d.release = append(d.release, s.release)
				delete(j.sealed, l.item)
			}
		}
		d.changes = append(d.changes, ch)
		if l.sealed == nil || l.data != nil || l.copy || !l.content.is(ch.base.Entry) {
			continue
		}
		d.hand(len(d.changes)-1, l.sealed)
	}
	q.landings = append(q.landings, d)
	if err := q.deliver(ctx); err != nil {
		// The commit is made; that the view lags is no failure of it.
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		q.note(err)
	}
	return nil
}

// hand offers the local bytes of a change to the view, which takes them into the
// cache.
func (d *delivery) hand(i int, s *sealedBytes) {
	ch := &d.changes[i]
	c, path := s.content(), ch.path
	d.landing.Files = append(d.landing.Files, LandedFile{
		Path: path, Content: c.id(ch.base.Entry.LFS()), Staged: s.path, Adopted: s.moved,
	})
}

// hand offers the bytes of the last change of a delivery, if they are local, at
// rest, and those that the Hub has.
func (q *Queue) hand(ctx context.Context, d *delivery, it *item, c *content) {
	ch := &d.changes[len(d.changes)-1]
	if it == nil || it.File == nil || it.seq != ch.seq || ch.copied || c == nil {
		return
	}
	s, err := q.uploads.sealOne(ctx, it)
	if err != nil {
		return // it is being written to, or is another one's by now
	}
	if s.content() != *c || !c.is(ch.base.Entry) {
		s.release()
		return
	}
	ch.gen = s.gen
	d.release = append(d.release, s.release)
	d.hand(len(d.changes)-1, &s)
}

// tellMade shows a commit in status and tells about it.
func (q *Queue) tellMade(t target, c hub.Committed, summary string, lines []*line) error {
	info := &CommitInfo{ID: c.ID, URL: c.URL, Time: q.now(), Message: summary}
	q.mu.Lock()
	q.last = info
	for _, l := range lines {
		delete(q.guarded, l.Path)
	}
	q.mu.Unlock()
	if err := q.l.keep("last", info, false); err != nil {
		return err
	}
	paths := make([]string, len(lines))
	for i, l := range lines {
		paths[i] = l.Path
	}
	q.log.Info("committed", "commit", c.ID, "ref", t.ref.Rev(), "paths", len(paths))
	q.event(Event{Kind: "committed", Text: summary, Paths: paths, URL: c.URL})
	return nil
}

// deliver moves the view to the commits that it does not show yet, and only
// then takes their changes out of the layer.
func (q *Queue) deliver(ctx context.Context) error {
	for len(q.landings) > 0 {
		d := q.landings[0]
		if err := q.l.arriving(d.changes); err != nil {
			return err
		}
		if q.hooks.Landed != nil {
			if err := q.hooks.Landed(ctx, d.landing); err != nil {
				if d.tried.IsZero() {
					d.tried = q.now()
				}
				if q.now().Sub(d.tried) < lostAfter || !q.lost(ctx, d) {
					return fmt.Errorf("show commit %s: %w", d.landing.Commit.ID.Short(), err)
				}
				// Its changes stay, on the bases they have: what they meet on the
				// new history decides what becomes of them.
				q.log.Warn("a commit was taken off the branch", "commit", d.landing.Commit.ID)
				if err := q.settled(d); err != nil {
					return err
				}
				continue
			}
		}
		if err := q.l.landed(d.changes); err != nil {
			return err
		}
		if err := q.settled(d); err != nil {
			return err
		}
		q.l.drained()
	}
	return nil
}

// settled takes the first delivery off the list.
func (q *Queue) settled(d *delivery) error {
	q.landings = q.landings[1:]
	for _, r := range d.release {
		r()
	}
	if d.batch == nil {
		return nil
	}
	return q.forget(d.batch)
}

// lostAfter is how long the view may fail to show a commit before the branch is
// asked whether it still has it.
const lostAfter = time.Minute

// lost reports whether a commit is on its branch no more.
func (q *Queue) lost(ctx context.Context, d *delivery) bool {
	entries, err := q.hub.Log(ctx, d.landing.Ref, 1000)
	if errors.Is(err, hub.ErrRevisionNotFound) || errors.Is(err, hub.ErrRepoNotFound) {
		return true
	}
	return err == nil && !slices.ContainsFunc(entries, func(e hub.LogEntry) bool { return e.ID == d.landing.Commit.ID })
}

// recovered finishes a batch that was found on the Hub after its answer was
// lost. Its lines are those of an earlier attempt, or of an earlier process.
func (q *Queue) recovered(ctx context.Context, t target, b *batch, c hub.Committed) error {
	lines := make([]*line, len(b.Paths))
	for i, p := range b.Paths {
		it := &item{Change: Change{Path: p.Path, Kind: Delete}, seq: p.Seq, copy: p.Copied}
		l := &line{item: it, content: p.Content, lfs: p.LFS}
		if p.Content != nil {
			it.Kind = Put
		}
		lines[i] = l
	}
	if err := q.tellMade(t, c, b.Summary, lines); err != nil {
		return err
	}
	if c.PullRequest != nil {
		if err := q.opened(*c.PullRequest, b.Parent, b.names()); err != nil {
			return err
		}
	}
	if t.pr {
		return q.joinedPR(ctx, c, lines, b)
	}
	q.lineage.grew(b.Parent, c.ID)
	local := make(map[string]*item)
	for _, it := range q.items() {
		local[it.Path] = it
	}
	d := &delivery{batch: b, landing: Landing{Commit: c, Parent: b.Parent, Ref: t.ref}}
	for i, l := range lines {
		ch := landedChange{path: l.Path, seq: l.seq, gen: b.Paths[i].Gen, copied: l.copy, base: Base{Commit: c.ID}}
		if l.content != nil {
			ch.base.Entry = l.content.entry(l.Path, l.lfs)
		}
		d.changes = append(d.changes, ch)
		d.landing.Paths = append(d.landing.Paths, l.Path)
		q.hand(ctx, d, local[l.Path], l.content)
	}
	q.landings = append(q.landings, d)
	if err := q.deliver(ctx); err != nil && !errors.Is(err, context.Canceled) {
		q.note(err)
	}
	return nil
}
