package writeback

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"hfmount/remote/hub"
)

// prState is the one pull request of a mount and branch, in the journal.
type prState struct {
	Proposal hub.Proposal      `json:"proposal"`
	Paths    map[string]prPath `json:"paths"`
	Began    hub.CommitID      `json:"began,omitempty"`  // what its branch stood at
	Head     hub.CommitID      `json:"head,omitempty"`   // our last commit in it
	Others   bool              `json:"others,omitempty"` // somebody else commits to it too
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
// to it: what we put there, or what its branch began with.
func (q *Queue) prBase(l *line, there *hub.Entry, began map[string]*hub.Entry) *hub.Entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.pr != nil {
		if p, ok := q.pr.Paths[l.Path]; ok {
			if p.Content == nil {
				return nil
			}
			return p.Content.entry(l.Path, p.LFS)
		}
	}
	if began == nil || sameEntry(l.Base.Entry, there) {
		return there
	}
	return began[l.Path]
}

// prBegan is what the pull request began with at the paths that are new to it;
// nil as long as nobody else commits to it.
func (j *job) prBegan(ctx context.Context, t target, head hub.Snapshot, lines []*line) (map[string]*hub.Entry, error) {
	q := j.q
	q.mu.Lock()
	st := q.pr
	if !t.pr || st == nil || st.Began == "" {
		q.mu.Unlock()
		return nil, nil
	}
	st.Others = st.Others || head.Commit != st.Head && (st.Head != "" || head.Commit != st.Began)
	var ask []string
	for _, l := range lines {
		if _, ok := st.Paths[l.Path]; !ok {
			ask = append(ask, l.Path)
		}
	}
	others := st.Others
	q.mu.Unlock()
	if !others {
		return nil, nil
	}
	return q.entries(ctx, snapshotAt(t.ref, st.Began), ask)
}

// entries looks up any number of paths.
func (q *Queue) entries(ctx context.Context, s hub.Snapshot, paths []string) (map[string]*hub.Entry, error) {
	out := make(map[string]*hub.Entry, len(paths))
	for chunk := range slices.Chunk(paths, 500) {
		entries, err := q.hub.Paths(ctx, s, chunk)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			out[e.Path] = &e
		}
	}
	return out, nil
}

// prTarget is where commits to the pull request go: to its own branch, or, if
// there is none yet, to the branch it will be opened against.
func (q *Queue) prTarget() target {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.pr == nil {
		return target{ref: q.branch(), pr: true, opens: true}
	}
	return target{ref: hub.Ref{Repo: q.branch().Repo, Revision: q.pr.Proposal.Ref()}, pr: true}
}

// publishPR commits items to the pull request, which is opened if there is
// none: against main by a request of its own, against another branch by the
// first commit (hub-protocol §6.5, §8). Either is known again by its trailer if
// the answer is lost.
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
			// Everything in it is settled: another may be opened.
			st = nil
			q.mu.Lock()
			q.pr = nil
			q.mu.Unlock()
		}
	}
	var err error
	switch {
	case st != nil:
	case q.branch().Rev() == hub.DefaultRevision:
		err = q.openPR(ctx, pathsOf(items))
	default:
		err = q.unopened()
	}
	if err == nil {
		err = j.publish(ctx, q.prTarget(), items)
	}
	q.mu.Lock()
	st = q.pr
	if st != nil && conflict {
		p := st.Proposal
		j.proposal = &p
	}
	none := st == nil && conflict && errors.Is(err, iofs.ErrPermission)
	if none {
		q.forkless = true
	}
	q.mu.Unlock()
	if none {
		return j.conflict(j.remaining(items))
	}
	return err
}

// openingKey is that of the record of a pull request that is being opened.
const openingKey = "opening"

// opening is a pull request whose request may have been answered.
type opening struct {
	ID    string    `json:"id"` // in its description
	Title string    `json:"title"`
	After int       `json:"after"` // the last one before
	At    time.Time `json:"at"`
}

// openPR opens the pull request against main, for paths.
func (q *Queue) openPR(ctx context.Context, paths []string) error {
	repo := q.branch().Repo
	all, err := q.hub.PullRequests(ctx, repo)
	if err != nil {
		return err
	}
	if o := q.opening; o != nil {
		for _, p := range all {
			if p.Num <= o.After || !p.Open || p.Title != o.Title {
				continue
			}
			if p, err = q.hub.PullRequest(ctx, repo, p.Num); err != nil {
				return err
			}
			if p.Description == "" || strings.Contains(p.Description, o.ID) {
				return q.openedMain(ctx, p, paths)
			}
		}
		if o.At.After(q.now()) {
			o.At = q.now() // by a clock that went back
		}
		if left := settleWait - q.now().Sub(o.At); left > 0 {
			return &unsettledError{left}
		}
	}
	o := &opening{ID: uuid.NewString(), Title: "Changes from hfmount", At: q.now()}
	if q.policy.Host != "" {
		o.Title += " on " + oneLine(q.policy.Host)
	}
	o.Title = cutText(o.Title, maxSummary)
	for _, p := range all {
		o.After = max(o.After, p.Num)
	}
	description := "Changes made through a mount; later ones follow."
	if !q.policy.CreatePR {
		description = "These files were changed here and on the branch at the same time."
	}
	if err := q.l.keep(openingKey, o, true); err != nil {
		return err
	}
	q.opening = o
	p, err := q.hub.OpenPullRequest(ctx, repo, o.Title, description+"\n\n"+batchTrailer+o.ID)
	if err == nil {
		return q.openedMain(ctx, p, paths)
	}
	if nothingDone(err) {
		q.opening = nil
		if err := q.l.keep(openingKey, nil, false); err != nil {
			return err
		}
	}
	return fmt.Errorf("open a pull request: %w", err)
}

// openedMain takes note of a pull request that branched from main.
func (q *Queue) openedMain(ctx context.Context, p hub.Proposal, paths []string) error {
	s, err := q.hub.Resolve(ctx, hub.Ref{Repo: q.branch().Repo, Revision: p.Ref()})
	if err != nil {
		return err // it will be found again
	}
	if err := q.opened(p, s.Commit, paths); err != nil {
		return err
	}
	q.opening = nil
	return q.l.keep(openingKey, nil, false)
}

// opened takes note of a pull request that began at a commit, for paths.
func (q *Queue) opened(p hub.Proposal, at hub.CommitID, paths []string) error {
	p.Description = ""
	st := &prState{Proposal: p, Paths: make(map[string]prPath), Began: at}
	q.mu.Lock()
	if q.pr != nil && q.pr.Proposal.Num == p.Num {
		st = q.pr
	}
	q.pr = st
	q.mu.Unlock()
	if err := q.l.keep("pr", st, true); err != nil {
		return err
	}
	if !q.policy.CreatePR {
		q.event(Event{Kind: "conflict", Text: "files that were changed on the Hub too go into a pull request", Paths: paths, URL: p.URL})
	}
	return nil
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
	st := q.pr
	if st == nil {
		q.mu.Unlock()
		return errors.New("the pull request of a commit is not known")
	}
	for _, l := range lines {
		st.Paths[l.Path] = prPath{Content: l.content, LFS: l.lfs}
	}
	if b != nil {
		st.Head = c.ID
	}
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
			l := Landing{Commit: c, Ref: hub.Ref{Repo: b.Ref.Repo, Revision: st.Proposal.Ref()}}
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
	there, err := q.entries(ctx, head, paths)
	if err != nil {
		return err
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
			q.hand(ctx, d, it, p.Content)
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
