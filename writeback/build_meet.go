package writeback

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"hfmount/remote/hub"
)

// head is where a target stands now. A branch that is to be made by its first
// commit is made here.
func (j *job) head(ctx context.Context, t target, items []*item) (hub.Snapshot, error) {
	q := j.q
	s, err := q.hub.Resolve(ctx, t.ref)
	if err == nil || t.pr && !t.opens {
		return s, err
	}
	q.mu.Lock()
	fresh := q.last == nil
	q.mu.Unlock()
	switch {
	case errors.Is(err, hub.ErrRevisionNotFound) && q.policy.CreateBranch && fresh && !t.pr:
		at := hub.CommitID("")
		for _, it := range items {
			if at = it.Base.Commit; at != "" {
				break
			}
		}
		if at == "" {
			main, err := q.hub.Resolve(ctx, hub.Ref{Repo: t.ref.Repo})
			if err != nil {
				return s, err
			}
			at = main.Commit
		}
		if err := q.hub.CreateBranch(ctx, t.ref.Repo, t.ref.Rev(), at); err != nil && !errors.Is(err, hub.ErrExists) {
			return s, fmt.Errorf("make the branch %s: %w", t.ref.Rev(), err)
		}
		return q.hub.Resolve(ctx, t.ref)
	case errors.Is(err, hub.ErrRevisionNotFound):
		return s, &blockedError{
			text: fmt.Sprintf("the branch %s is gone", t.ref.Rev()),
			hint: "make it again on the Hub, or save the changes with `hfmount recover export` and discard them", err: err}
	case errors.Is(err, hub.ErrRepoNotFound):
		return s, &blockedError{
			text: fmt.Sprintf("the repository %s is gone, or closed to this account", t.ref.Repo),
			hint: "make it again on the Hub, or save the changes with `hfmount recover export` and discard them", err: err}
	}
	return s, err
}

// lineage is the commits known to be ancestors of a head, or it.
type lineage struct {
	head  hub.CommitID
	known map[hub.CommitID]bool
}

func (n *lineage) add(c hub.CommitID) {
	if n.known == nil {
		n.known = make(map[hub.CommitID]bool)
	}
	n.known[c] = true
}

// grew tells of a commit of ours on top of the head.
func (n *lineage) grew(parent, c hub.CommitID) {
	if n.head != parent {
		n.known = nil
	}
	n.add(parent)
	n.add(c)
	n.head = c
}

// checkBases blocks changes whose base is no ancestor of the head: the history
// was rewritten, and what others did to a path since cannot be told.
func (q *Queue) checkBases(ctx context.Context, ref hub.Ref, head hub.Snapshot, items []*item) error {
	need := make(map[hub.CommitID]bool)
	for _, it := range items {
		if c := q.replaced(it.Base.Commit); c != "" && c != head.Commit {
			need[c] = true
		}
	}
	n := &q.lineage
	satisfied := func() bool {
		for c := range need {
			if !n.known[c] {
				return false
			}
		}
		return true
	}
	if n.head != head.Commit {
		old := n.known
		last := n.head
		*n = lineage{head: head.Commit}
		n.add(head.Commit)
		if len(need) == 0 {
			return nil
		}
		for limit := 100; !satisfied(); limit *= 10 {
			entries, err := q.hub.Log(ctx, ref, limit)
			if err != nil {
				n.head = ""
				return err
			}
			for _, e := range entries {
				n.add(e.ID)
			}
			if last != "" && n.known[last] {
				for c := range old {
					n.add(c)
				}
			}
			if len(entries) < limit || limit >= 10_000 {
				break
			}
		}
	} else if !satisfied() {
		// Bases older than what was asked about before.
		n.head = ""
		return q.checkBases(ctx, ref, head, items)
	}
	if satisfied() {
		return nil
	}
	n.head = ""
	return &blockedError{
		text:  fmt.Sprintf("the history of %s was rewritten: what the changes are based on is not in it", ref.Rev()),
		hint:  "`hfmount commit --yes` compares the files and commits on top of the new history, `hfmount discard` drops the changes",
		final: true,
	}
}

// meetHead compares the lines with what the head has at their paths. What the
// head has already is finished, conflicts go where the policy says, and the
// rest is returned.
func (j *job) meetHead(ctx context.Context, t target, head hub.Snapshot, lines []*line) ([]*line, error) {
	q := j.q
	there, err := j.lookUp(ctx, t, head, lines)
	if err != nil {
		return nil, err
	}
	began, err := j.prBegan(ctx, t, head, lines)
	if err != nil {
		return nil, err
	}
	deleted := make(map[string]bool)
	for _, l := range lines {
		if l.Kind == Delete {
			deleted[l.Path] = true
		}
	}
	var on, finished, clashes []*line
	for _, l := range lines {
		base := l.Base.Entry
		if t.pr {
			base = q.prBase(l, there[l.Path], began)
		}
		l.there = there[l.Path]
		verdict := meet(l.content, base, l.there)
		if l.Kind == Put && verdict != done {
			blocked, err := j.inTheWay(ctx, head, l, there, deleted)
			if err != nil {
				return nil, err
			}
			switch {
			case blocked:
				verdict = clash
			case l.there != nil && l.there.Type == hub.Directory:
				l.there, verdict = nil, carry
			}
		}
		if verdict == clash && l.Path == attributesName {
			ok, err := j.mergeAttributes(ctx, head, l)
			if err != nil {
				return nil, err
			}
			if ok {
				verdict = carry
			}
		}
		switch {
		case verdict == done:
			finished = append(finished, l)
		case verdict == clash && (q.policy.OnConflict != ConflictOurs || t.pr):
			clashes = append(clashes, l)
		default:
			if l.Kind == Delete && l.there == nil {
				finished = append(finished, l)
				continue
			}
			on = append(on, l)
		}
	}
	if len(finished) > 0 {
		if err := j.finish(ctx, t, hub.Committed{ID: head.Commit}, "", finished, nil); err != nil {
			return nil, err
		}
	}
	if err := j.clash(t, clashes); err != nil {
		return nil, err
	}
	on = slices.DeleteFunc(on, func(l *line) bool { return j.finished[l.item] || j.toPR[l.item] && !t.pr })
	return j.coherentLines(on), nil
}

// coherentLines leaves out what could not be committed without what was left
// out already. It stays for a later run.
func (j *job) coherentLines(lines []*line) []*line {
	kept := make([]*item, len(lines))
	for i, l := range lines {
		kept[i] = l.item
	}
	whole := make(map[*item]bool)
	for _, it := range coherent(kept, slices.Collect(j.all())) {
		whole[it] = true
	}
	return slices.DeleteFunc(lines, func(l *line) bool { return !whole[l.item] })
}

// special reports whether a ref is no branch that a pull request could be for:
// it is one itself.
func special(ref hub.Ref) bool { return strings.HasPrefix(ref.Rev(), "refs/") }

// clash sends conflicts where the policy says.
func (j *job) clash(t target, lines []*line) error {
	q := j.q
	q.mu.Lock()
	pr := !t.pr && q.policy.OnConflict == ConflictPR && !q.forkless && !special(q.branch())
	q.mu.Unlock()
	if !pr {
		items := make([]*item, len(lines))
		for i, l := range lines {
			items[i] = l.item
		}
		return j.conflict(items)
	}
	for _, l := range lines {
		g := j.group[l.Path]
		if j.pulled[g] {
			continue
		}
		j.pulled[g] = true
		for _, it := range j.remaining(g.items) {
			j.toPR[it] = true
		}
	}
	return nil
}

// conflict keeps changes local that somebody else's contradict.
func (j *job) conflict(items []*item) error {
	if len(items) == 0 {
		return nil
	}
	const why = "changed on the Hub too"
	for _, it := range items {
		j.setAside(it, Conflict, why)
		if err := j.q.l.mark(it.seq, it.Path, Conflict, why); err != nil {
			return err
		}
	}
	text := items[0].Path + " was " + why
	if n := len(items); n > 1 {
		text = fmt.Sprintf("%s and %d more were %s", items[0].Path, n-1, why)
	}
	j.q.event(Event{
		Kind: "conflict", Text: text, Paths: pathsOf(items),
		Hint: "`hfmount discard` takes theirs; a mount with --on-conflict=ours or =pr commits ours",
	})
	return nil
}

// lookUp returns what the head has at the paths of lines, and at the
// directories above those that are new.
func (j *job) lookUp(ctx context.Context, t target, head hub.Snapshot, lines []*line) (map[string]*hub.Entry, error) {
	known := make(map[string]*hub.Entry, len(lines))
	ask := make(map[string]bool)
	for _, l := range lines {
		if !t.pr && l.Base.Commit == head.Commit {
			known[l.Path] = l.Base.Entry
			continue
		}
		ask[l.Path] = true
		if l.Kind == Put && l.Base.Entry == nil {
			for dir := path.Dir(l.Path); dir != "." && !ask[dir]; dir = path.Dir(dir) {
				ask[dir] = true
			}
		}
	}
	if len(ask) == 0 {
		return known, nil
	}
	paths := make([]string, 0, len(ask))
	for p := range ask {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	there, err := j.q.entries(ctx, head, paths)
	if err != nil {
		return nil, err
	}
	maps.Copy(there, known)
	return there, nil
}

// inTheWay reports whether the head has a file where l needs a directory, or a
// directory with files of others where l is a file.
func (j *job) inTheWay(ctx context.Context, head hub.Snapshot, l *line, there map[string]*hub.Entry, deleted map[string]bool) (bool, error) {
	for dir := path.Dir(l.Path); dir != "."; dir = path.Dir(dir) {
		if e := there[dir]; e != nil && e.Type != hub.Directory && !deleted[dir] {
			return true, nil
		}
	}
	if e := there[l.Path]; e == nil || e.Type != hub.Directory {
		return false, nil
	}
	entries, err := j.q.hub.ListAll(ctx, head, l.Path)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(entries, func(e hub.Entry) bool { return e.Type != hub.Directory && !deleted[e.Path] }), nil
}

// mergeAttributes takes the Hub's own edits of .gitattributes into ours.
func (j *job) mergeAttributes(ctx context.Context, head hub.Snapshot, l *line) (bool, error) {
	read := func(s hub.Snapshot, e *hub.Entry) (string, error) {
		if e == nil || e.Type != hub.File {
			return "", nil
		}
		data, err := j.q.hub.ReadAll(ctx, s, *e, inlineBelow)
		return string(data), err
	}
	theirs, err := read(head, l.there)
	if err != nil {
		return false, err
	}
	base, err := read(snapshotAt(head.Ref, l.Base.Commit), l.Base.Entry)
	if err != nil {
		return false, err
	}
	ours := ""
	if l.Kind == Put {
		data, err := j.bytes(ctx, l, inlineBelow)
		if err != nil {
			return false, err
		}
		ours = string(data)
	}
	out, ok := mergeAttributes(ours, base, theirs)
	if ok && l.Kind == Put && out != ours {
		l.data = []byte(out)
		c := contentOfBytes(l.data)
		l.content = &c
	}
	return ok, nil
}
