package writeback

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"slices"

	"hfmount/remote/hub"
)

// prState is the one pull request of a mount and branch, in the journal.
type prState struct {
	Proposal hub.Proposal      `json:"proposal"`
	Paths    map[string]prPath `json:"paths"`
}

// prPath is what the pull request has at a path; no content is a delete.
type prPath struct {
	Content *content `json:"content,omitempty"`
	LFS     bool     `json:"lfs,omitempty"`
}

// inPR reports whether a path's changes go into the pull request.
func (q *Queue) inPR(path string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.pr == nil {
		return false
	}
	_, ok := q.pr.Paths[path]
	return ok
}

func (q *Queue) prPaths() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.pr == nil {
		return 0
	}
	return len(q.pr.Paths)
}

// prBase is what a path should be in the pull request if nobody else commits
// to it: what we put there, or whatever its branch began with.
func (q *Queue) prBase(path string, there *hub.Entry) *hub.Entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	p, ok := q.pr.Paths[path]
	switch {
	case !ok:
		return there
	case p.Content == nil:
		return nil
	}
	return p.Content.entry(path, p.LFS)
}

// publishPR commits items to the pull request, which is opened if there is
// none. It is opened by a request of its own, so that a lost answer to a
// commit never makes a second one (hub-protocol §6.5).
func (j *job) publishPR(ctx context.Context, items []*item) error {
	if len(items) == 0 {
		return nil
	}
	q := j.q
	conflict := !q.policy.CreatePR
	q.mu.Lock()
	st := q.pr
	q.mu.Unlock()
	if st != nil {
		p, err := q.hub.PullRequest(ctx, q.branch().Repo, st.Proposal.Num)
		if err != nil {
			return err
		}
		if !p.Open {
			if len(st.Paths) > 0 {
				return j.closedPR(items, st)
			}
			st = nil // everything in it is settled: another may be opened
		}
	}
	if st == nil {
		title := "Changes from hfmount"
		if q.policy.Host != "" {
			title += " on " + oneLine(q.policy.Host)
		}
		description := "Changes made through a mount; later ones follow."
		if conflict {
			description = "These files were changed here and on the branch at the same time."
		}
		p, err := q.hub.OpenPullRequest(ctx, q.branch().Repo, title[:min(len(title), maxSummary)], description)
		switch {
		case errors.Is(err, iofs.ErrPermission) && conflict:
			q.forkless = true
			for _, it := range j.remaining(items) {
				if err := j.conflict(it); err != nil {
					return err
				}
			}
			return nil
		case err != nil:
			return fmt.Errorf("open a pull request: %w", err)
		}
		st = &prState{Proposal: p, Paths: make(map[string]prPath)}
		q.mu.Lock()
		q.pr = st
		q.mu.Unlock()
		if err := q.l.keep("pr", st, true); err != nil {
			return err
		}
		if conflict {
			q.event(Event{Kind: "conflict", Text: "files that were changed on the Hub too go into a pull request", Paths: pathsOf(items), URL: p.URL})
		}
	}
	if conflict {
		p := st.Proposal
		j.proposal = &p
	}
	ref := hub.Ref{Repo: q.branch().Repo, Revision: st.Proposal.Ref()}
	return j.publish(ctx, target{ref: ref, pr: true}, items)
}

// closedPR keeps changes local whose pull request takes no more commits.
func (j *job) closedPR(items []*item, st *prState) error {
	why := "its pull request is closed: " + st.Proposal.URL
	for _, it := range items {
		j.setAside(it, Conflict, why)
		if err := j.q.l.mark(it.seq, it.Path, Conflict, why); err != nil {
			return err
		}
	}
	j.q.event(Event{Kind: "conflict", Text: why, Hint: "`hfmount discard` takes the branch's files", Paths: pathsOf(items), URL: st.Proposal.URL})
	return nil
}

func pathsOf(items []*item) []string {
	out := make([]string, len(items))
	for i, it := range items {
		out[i] = it.Path
	}
	return out
}

// joinedPR records what the pull request has now. The changes stay in the
// layer: the mount shows our side.
func (q *Queue) joinedPR(ctx context.Context, c hub.Committed, lines []*line, b *batch) error {
	q.mu.Lock()
	if q.pr == nil {
		q.mu.Unlock()
		return nil
	}
	for _, l := range lines {
		q.pr.Paths[l.Path] = prPath{Content: l.content, LFS: l.lfs}
	}
	st := q.pr
	q.mu.Unlock()
	if err := q.l.keep("pr", st, true); err != nil {
		return err
	}
	for _, l := range lines {
		if err := q.l.mark(l.seq, l.Path, InPR, st.Proposal.URL); err != nil {
			return err
		}
	}
	if b != nil {
		if err := q.forget(b); err != nil {
			return err
		}
		if q.hooks.Landed != nil {
			l := Landing{Commit: c, Ref: b.Ref}
			for _, p := range b.Paths {
				l.Paths = append(l.Paths, p.Path)
			}
			if err := q.hooks.Landed(ctx, l); err != nil && ctx.Err() == nil {
				q.log.Warn("the view did not take note of the pull request", "err", err)
			}
		}
	}
	q.prSeen = ""
	return nil
}

// checkPR takes paths out of the pull request's list that the branch has by
// now, as after a merge, or whose change was discarded.
func (q *Queue) checkPR(ctx context.Context) error {
	items := make(map[string]*item)
	for _, it := range q.look() {
		items[it.Path] = it
	}
	q.mu.Lock()
	st := q.pr
	gone := false
	for path := range st.Paths {
		if items[path] == nil {
			delete(st.Paths, path)
			gone = true
		}
	}
	paths := make([]string, 0, len(st.Paths))
	for path := range st.Paths {
		paths = append(paths, path)
	}
	seen := q.prSeen
	q.mu.Unlock()
	slices.Sort(paths)
	if gone {
		if err := q.l.keep("pr", st, false); err != nil {
			return err
		}
	}
	if len(paths) == 0 {
		return nil
	}
	head, err := q.hub.Resolve(ctx, q.branch())
	if err != nil || head.Commit == seen {
		return err
	}
	there := make(map[string]*hub.Entry)
	for chunk := range slices.Chunk(paths, 500) {
		entries, err := q.hub.Paths(ctx, head, chunk)
		if err != nil {
			return err
		}
		for _, e := range entries {
			there[e.Path] = &e
		}
	}
	d := &delivery{landing: Landing{Commit: hub.Committed{ID: head.Commit, URL: q.hub.CommitURL(q.branch().Repo, head.Commit)}, Ref: q.branch()}}
	bases := make(map[string]Base)
	for _, path := range paths {
		q.mu.Lock()
		p := st.Paths[path]
		q.mu.Unlock()
		e := there[path]
		if p.Content == nil && e != nil || p.Content != nil && !p.Content.is(e) {
			continue
		}
		it := items[path]
		base := Base{Commit: head.Commit, Entry: e}
		if it.State == InPR {
			d.changes = append(d.changes, landedChange{path: path, seq: it.seq, gen: it.gen, base: base})
			d.landing.Paths = append(d.landing.Paths, path)
		} else {
			bases[path] = base
		}
		q.mu.Lock()
		delete(st.Paths, path)
		q.mu.Unlock()
	}
	if len(bases) > 0 {
		if err := q.l.rebase(bases); err != nil {
			return err
		}
	}
	if len(d.changes) > 0 {
		q.landings = append(q.landings, d)
		if err := q.deliver(ctx); err != nil {
			return err
		}
	}
	if len(d.changes)+len(bases) > 0 {
		if err := q.l.keep("pr", st, false); err != nil {
			return err
		}
	}
	q.prSeen = head.Commit
	return nil
}
