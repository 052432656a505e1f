package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"hfmount/remote/hub"
	"hfmount/writeback"
)

// commit commits what is pending in the branches that the path names.
func (l *layers) commit(ctx context.Context, r commitRequest) (outcome, error) {
	return l.each(l.find(r.Path), func(t target) (writeback.Outcome, error) {
		return t.queue.Commit(ctx, writeback.CommitRequest{Message: r.Message, Description: r.Description, Yes: r.Yes})
	})
}

// each runs f for every branch at once and puts what they did together.
func (l *layers) each(targets []target, f func(target) (writeback.Outcome, error)) (outcome, error) {
	out := outcome{Commits: []commitStatus{}, Left: []changeStatus{}}
	var mu sync.Mutex // guards out and errs
	var errs []error
	var wg sync.WaitGroup
	for _, t := range targets {
		wg.Go(func() {
			o, err := f(t)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, &repoError{hub.Location{Ref: t.ref}, l.cfg.endpoint, err})
			}
			for _, c := range o.Commits {
				out.Commits = append(out.Commits, commitStatus{ID: string(c.ID), URL: c.URL})
			}
			out.Left = append(out.Left, l.showAll(t.ref, o.Left)...)
			if o.Proposal != nil {
				out.PullRequest = o.Proposal.URL
			}
		})
	}
	wg.Wait()
	slices.SortFunc(out.Left, func(a, b changeStatus) int { return strings.Compare(a.Path, b.Path) })
	return out, errors.Join(errs...)
}

// showAll renders changes of a branch as status has them.
func (l *layers) showAll(ref hub.Ref, changes []writeback.Change) []changeStatus {
	out := make([]changeStatus, 0, len(changes))
	for _, c := range changes {
		s := changeStatus{Path: l.show(ref, c.Path), Op: c.Op(), Size: c.Size, State: c.State.String(), Reason: c.Reason, Moved: c.Moved}
		if c.Was != "" {
			s.Was = l.show(ref, c.Was)
		}
		out = append(out, s)
	}
	return out
}

// changes are the pending changes at and beneath a path of the mount.
func (l *layers) changes(rel string) []changeStatus {
	out := []changeStatus{}
	for _, t := range l.find(rel) {
		for _, c := range t.queue.Status().Changes {
			if _, ok := cutDir(c.Path, t.path); ok {
				out = append(out, l.showAll(t.ref, []writeback.Change{c})...)
			}
		}
	}
	return out
}

// holding is a transaction over all branches, those that are opened meanwhile
// included.
type holding struct {
	layers *layers
	holds  []*writeback.Hold // guarded by layers.mu
	err    error             // of the first that could not be had; guarded by layers.mu
	broken bool              // the mount ended first; guarded by layers.mu
}

// add holds a branch; layers.mu is held.
func (h *holding) add(b *branch) {
	hold, err := b.queue.Hold()
	if err != nil {
		h.err = errors.Join(h.err, err)
		return
	}
	h.holds = append(h.holds, hold)
}

// errHeldByEnd is a transaction that the end of its mount cut short.
var errHeldByEnd = &failure{text: "the mount ended before the command did; its changes are held", code: exitLocal,
	hint: "after the next mount, `hfmount commit` sends them and `hfmount discard` drops them"}

func (h *holding) end(ok bool) error {
	h.layers.mu.Lock()
	delete(h.layers.holds, h)
	holds, err := h.holds, h.err
	h.holds = nil
	if h.broken && ok {
		err = errors.Join(err, errHeldByEnd)
	}
	h.layers.mu.Unlock()
	for _, hold := range holds {
		err = errors.Join(err, hold.End(ok))
	}
	return err
}

// breakHolds ends transactions that are under way as failed ones.
func (l *layers) breakHolds() {
	l.mu.Lock()
	var open []*holding
	for h := range l.holds {
		h.broken = true
		open = append(open, h)
	}
	l.mu.Unlock()
	for _, h := range open {
		if err := h.end(false); err != nil {
			l.log.Error("changes could not be marked as held", "err", err)
		}
	}
}

func (l *layers) hold() (transaction, error) {
	l.mu.Lock()
	if l.draining {
		l.mu.Unlock()
		return nil, errHeldByEnd
	}
	h := &holding{layers: l}
	for _, b := range l.branches {
		h.add(b)
	}
	l.holds[h] = struct{}{}
	err := h.err
	l.mu.Unlock()
	if err != nil {
		return nil, errors.Join(err, h.end(true))
	}
	return h, nil
}

// discard drops the changes at and beneath paths of the mount. The old name of
// what was renamed comes back with it.
func (l *layers) discard(_ context.Context, paths []string) error {
	drop := make(map[*branch][]string)
	for _, rel := range paths {
		for _, t := range l.find(rel) {
			drop[t.branch] = append(drop[t.branch], t.path)
		}
	}
	var errs []error
	for b, paths := range drop {
		before := b.layer.Under("")
		errs = append(errs, b.queue.Discard(paths...))
		var gone []string
		for _, c := range before {
			if _, still := b.layer.Get(c.Path); !still {
				gone = append(gone, c.Path)
			}
		}
		l.tree.Load().LocalChanged(b.ref, gone)
	}
	return errors.Join(errs...)
}

// logDepth is how far back the abbreviation of a commit is looked for.
const logDepth = 1000

// revert makes commits that restore old content.
func (l *layers) revert(ctx context.Context, r revertRequest) (outcome, error) {
	paths := make(map[*branch][]string)
	var targets []target
	for _, rel := range r.Paths {
		for _, t := range l.find(rel) {
			if paths[t.branch] == nil {
				targets = append(targets, t)
			}
			paths[t.branch] = append(paths[t.branch], t.path)
		}
	}
	if len(targets) > 1 {
		return outcome{}, errUsage("several repositories; name the directory of one")
	}
	if len(targets) == 0 {
		return outcome{}, errNoBranch
	}
	return l.each(targets, func(t target) (writeback.Outcome, error) {
		to, err := l.fullID(ctx, t.ref, r.To)
		if err != nil {
			return writeback.Outcome{}, err
		}
		which := paths[t.branch]
		if slices.Contains(which, "") {
			which = nil // all of it
		}
		// The kernel knows what it did itself; this it has to be told.
		t.reverting.Add(1)
		defer t.reverting.Add(-1)
		o, err := t.queue.Revert(ctx, to, which...)
		var left []string
		for _, c := range o.Left {
			left = append(left, c.Path)
		}
		l.tree.Load().LocalChanged(t.ref, left)
		return o, err
	})
}

// errNoBranch answers a question about commits where nothing is written.
var errNoBranch = &failure{text: "no branch here is written to", code: exitFailed, hint: "`hfmount status` says why a mount is read-only"}

// fullID completes an abbreviated commit from the branch's history.
func (l *layers) fullID(ctx context.Context, ref hub.Ref, short string) (hub.CommitID, error) {
	id := hub.CommitID(strings.ToLower(short))
	if short == "" || id.Valid() {
		return id, nil
	}
	entries, err := l.client.Log(ctx, ref, logDepth)
	if err != nil {
		return "", err
	}
	var found []hub.CommitID
	for _, e := range entries {
		if strings.HasPrefix(string(e.ID), string(id)) {
			found = append(found, e.ID)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", &failure{text: "no commit " + short + " in the last commits of " + refName(ref), hint: "`hfmount log` lists them", code: exitNotFound}
	}
	return "", errUsage("%s could be %s or %s", short, found[0].Short(), found[1].Short())
}

// log lists the last commits of the branch that a path lies in. A read-only
// mount knows its branch too.
func (m *mounted) log(ctx context.Context, r logRequest) ([]commitStatus, error) {
	ref := hub.Ref{Repo: m.loc.Repo, Revision: m.loc.Rev()}
	if m.loc.Repo.IsZero() {
		var err error
		if ref, err = refOfPath(r.Path); err != nil {
			return nil, err
		}
	}
	entries, err := m.stack.client.Log(ctx, ref, r.Limit)
	if err != nil {
		return nil, &repoError{hub.Location{Ref: ref}, m.cfg.endpoint, err}
	}
	out := make([]commitStatus, 0, len(entries))
	for _, e := range entries {
		out = append(out, commitStatus{ID: string(e.ID), URL: m.stack.client.CommitURL(ref.Repo, e.ID), Time: e.Time, Message: e.Title, Batch: batchOf(e.Description)})
	}
	return out, nil
}

// refOfPath reads which repository a path in the whole Hub lies in.
func refOfPath(rel string) (hub.Ref, error) {
	loc, err := hub.ParseArg("hf://"+cleanRel(rel), "")
	if err != nil || loc.Repo.IsZero() || loc.Repo.Namespace == "" {
		return hub.Ref{}, errUsage("in a mount of the whole Hub, name the directory of a repository: DIR/NAMESPACE/NAME")
	}
	return loc.Ref, nil
}

// batchOf is the id in the trailer that our commits carry, "" if it is not
// there. Trailers are the end of a text; what stands above may quote another.
func batchOf(description string) string {
	batch := ""
	for line := range strings.Lines(description) {
		if id, ok := strings.CutPrefix(strings.TrimSpace(line), "Hfmount-Batch:"); ok {
			batch = strings.TrimSpace(id)
		}
	}
	return batch
}

// progress sums up all branches.
func (l *layers) progress() progress {
	var p progress
	for _, b := range l.all() {
		s := b.queue.Status()
		p.Pending += len(s.Changes)
		for _, u := range s.Uploads {
			p.Sent += u.Sent
			p.Total += u.Total
			p.Path = l.show(b.ref, u.Path)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := l.trouble; t.text != "" {
		p.Trouble, p.GivesUp = t.text, &t.until
	}
	return p
}
