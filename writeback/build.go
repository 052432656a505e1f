package writeback

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"hfmount/remote/hub"
	"hfmount/writeback/staging"
)

// job is one run over a selection of changes: as many commits as they need.
type job struct {
	q           *Queue
	auto        bool // nobody asked for it: whole units only, within the budget
	whole       bool // whole units only
	yes         bool // the guard is answered
	message     string
	description string
	commits     *[]hub.Committed

	groups   []group
	group    map[string]*group // by path: the selected changes of its group
	sealed   map[*item]sealedBytes
	finished map[*item]bool // landed, or set aside
	landed   map[*item]bool
	aside    map[*group]bool // wholly
	why      map[string]setAside
	toPR     map[*item]bool  // our side of conflicts
	pulled   map[*group]bool // that it is of
	proposal *hub.Proposal   // where it went
	raced    bool            // something was removed or replaced meanwhile
	most     int             // groups at a time, 0 is all: the Hub refuses one and does not say which
	asked    bool            // anew which objects the Hub has
	tries    int             // of heads that moved away
	lost     int             // answers, of commits that were not made
	parts    int             // commits made so far
	of       int             // commits planned, 0 if unknown
}

// setAside is why a change was left out of a run.
type setAside struct {
	seq    uint64
	State  State
	Reason string
}

// target is where a job's commits go.
type target struct {
	ref   hub.Ref
	pr    bool // a pull request of ours
	opens bool // ref is the branch that the commit opens one against
}

// line is one change on its way into a commit.
type line struct {
	*item
	content *content     // of a Put
	sealed  *sealedBytes // of a Put of local bytes
	data    []byte       // bytes to send in place of the sealed ones
	there   *hub.Entry   // what the head has at the path
	lfs     bool
}

func (l *line) op() string {
	switch {
	case l.Kind == Delete:
		return "delete"
	case l.there != nil:
		return "modify"
	}
	return "add"
}

// mappedReason is that of a file whose close returned while it can be written
// to: through a descriptor that was passed on, or a mapping.
const mappedReason = "still open or mapped for writing"

// errAgain is an attempt that has to begin again: the head moved, or some
// changes were set aside.
var errAgain = errors.New("the commit has to be built again")

// run commits a selection. The caller holds the token of work, and looked at
// the changes after everything was delivered and settled.
func (j *job) run(ctx context.Context, selected []*item) error {
	q := j.q
	j.groups = groupItems(selected)
	j.group = make(map[string]*group)
	for i := range j.groups {
		for _, it := range j.groups[i].items {
			j.group[it.Path] = &j.groups[i]
		}
	}
	j.sealed = make(map[*item]sealedBytes)
	j.finished, j.landed = make(map[*item]bool), make(map[*item]bool)
	j.why, j.aside = make(map[string]setAside), make(map[*group]bool)
	j.toPR, j.pulled = make(map[*item]bool), make(map[*group]bool)
	j.raced = false
	defer func() {
		for _, s := range j.sealed {
			s.release()
		}
	}()
	ctx, abort := context.WithCancelCause(ctx)
	defer abort(nil)
	q.mu.Lock()
	q.abort = abort
	for _, it := range selected {
		q.flight[it.Path] = true
		if it.File == nil {
			delete(q.busy, it.Path)
		}
	}
	q.mu.Unlock()
	defer func() {
		q.mu.Lock()
		q.abort, q.posted = nil, false
		clear(q.flight)
		q.mu.Unlock()
	}()

	var branch, pr []*item
	for _, it := range selected {
		if q.policy.CreatePR || q.inPR(it.Path) {
			pr = append(pr, it)
		} else {
			branch = append(branch, it)
		}
	}
	err := j.publish(ctx, target{ref: q.branch()}, branch)
	if err == nil {
		for _, it := range branch {
			if j.toPR[it] {
				pr = append(pr, it)
			}
		}
		err = j.publishPR(ctx, j.remaining(pr))
	}
	if err != nil && errors.Is(context.Cause(ctx), errDiscarded) {
		return errDiscarded
	}
	if err == nil {
		q.mu.Lock()
		q.lastErr, q.blocked = j.keepErr(q.lastErr), ""
		q.mu.Unlock()
	}
	return err
}

// keepErr is what stays of the last error after a run without one.
func (j *job) keepErr(e *QueueError) *QueueError {
	if e != nil && e.Path != "" {
		if _, ok := j.why[e.Path]; ok {
			return e
		}
	}
	return nil
}

func (j *job) remaining(items []*item) []*item {
	return slices.DeleteFunc(slices.Clone(items), func(it *item) bool { return j.finished[it] })
}

// publish commits items to a target, however often its head moves.
func (j *job) publish(ctx context.Context, t target, items []*item) error {
	through := make(map[*group]bool)
	for {
		items = slices.DeleteFunc(j.remaining(items), func(it *item) bool { return through[j.group[it.Path]] })
		if len(items) == 0 {
			return nil
		}
		if t.pr {
			t = j.q.prTarget()
		}
		some, of := items, make(map[*group]bool)
		if j.most > 0 {
			some = nil
			for _, it := range items {
				if g := j.group[it.Path]; of[g] || len(of) < j.most {
					of[g] = true
					some = append(some, it)
				}
			}
		}
		err := j.once(ctx, t, some)
		if err == nil && len(some) < len(items) {
			maps.Copy(through, of)
			j.most *= 2
			continue
		}
		if !errors.Is(err, errAgain) {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// once builds on the present head and sends.
func (j *job) once(ctx context.Context, t target, items []*item) error {
	q := j.q
	// The bytes first: files that are not ready are no reason to ask the Hub.
	lines, err := j.seal(ctx, items)
	if err != nil || len(lines) == 0 {
		return err
	}
	head, err := j.head(ctx, t, items)
	if err != nil {
		return err
	}
	if !t.pr && !j.yes {
		if err := q.checkBases(ctx, t.ref, head, items); err != nil {
			return err
		}
	}
	if lines, err = j.meetHead(ctx, t, head, lines); err != nil || len(lines) == 0 {
		return err
	}
	if !j.yes && !q.policy.NoGuard && j.most == 0 { // else it saw all of it before
		held, err := j.guard(ctx, head, lines)
		if err != nil || held {
			return err
		}
	}
	if lines, err = j.modes(ctx, t, lines); err != nil || len(lines) == 0 {
		return err
	}
	parts := make([]part, len(lines))
	for i, l := range lines {
		parts[i] = part{path: l.Path, del: l.Kind == Delete, from: l.origins()}
		if l.content != nil && !l.lfs {
			parts[i].inline = l.content.Size
		}
	}
	parent := head.Commit
	for first := true; len(parts) > 0; first = false {
		if t.opens && !first {
			return errAgain // the rest goes where the first commit went
		}
		// The pace may have changed with the commit before.
		chunks := split(parts, &q.pace)
		j.of = j.parts + len(chunks)
		chunk := make([]*line, len(chunks[0]))
		taken := make(map[int]bool, len(chunk))
		for k, i := range chunks[0] {
			chunk[k], taken[i] = lines[i], true
		}
		c, err := j.commit(ctx, t, snapshotAt(t.ref, parent), chunk)
		if err != nil {
			return err
		}
		parent = c
		var restLines []*line
		var restParts []part
		for i := range lines {
			if !taken[i] {
				restLines, restParts = append(restLines, lines[i]), append(restParts, parts[i])
			}
		}
		lines, parts = restLines, restParts
	}
	return nil
}

// seal fixes and hashes the bytes of the selection, two files at a time.
// Files that can still be written to are set aside.
func (j *job) seal(ctx context.Context, items []*item) ([]*line, error) {
	var mu sync.Mutex
	open := make(map[*item]bool)
	failed := make(map[*item]error)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(2)
	var local []*item
	for _, it := range items {
		if _, ok := j.sealed[it]; !ok && it.Kind == Put && it.File != nil {
			local = append(local, it)
		}
	}
	vanished := make(map[*item]bool)
	for _, it := range local {
		g.Go(func() error {
			s, err := j.q.uploads.sealOne(gctx, it)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				j.sealed[it] = s
				j.q.mu.Lock()
				delete(j.q.busy, it.Path) // not before: status names who holds it all along
				j.q.mu.Unlock()
			case errors.Is(err, staging.ErrWriters), errors.Is(err, staging.ErrChanged):
				open[it] = true
			case errors.Is(err, ErrRaced):
				vanished[it] = true // removed or replaced since the look
			case everybodys(err):
				return fmt.Errorf("%s: %w", it.Path, err)
			default:
				failed[it] = err
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for it := range open {
		j.q.mu.Lock()
		j.q.busy[it.Path] = true
		j.q.mu.Unlock()
		j.setAside(it, Open, mappedReason)
	}
	if len(failed) > 0 {
		now := make(map[string]uint64)
		for _, it := range j.q.l.items() {
			now[it.Path] = it.seq
		}
		for it := range failed {
			if now[it.Path] != it.seq {
				vanished[it] = true
				delete(failed, it)
			}
		}
	}
	for it := range vanished {
		j.raced = true
		j.setAside(it, Pending, "")
		delete(j.why, it.Path)
	}
	for it, err := range failed {
		j.unable(it, err)
	}
	var lines []*line
	pending := slices.DeleteFunc(slices.Clone(items), func(it *item) bool { return j.landed[it] })
	for _, it := range coherent(j.remaining(items), pending) {
		l := &line{item: it}
		switch {
		case it.Kind != Put:
		case it.File != nil:
			s := j.sealed[it]
			c := s.content()
			l.sealed, l.content = &s, &c
		case it.From != nil:
			c := contentOf(it.From.Entry)
			l.content = &c
			l.lfs = it.From.Entry.LFS()
		default:
			j.finished[it] = true
			continue
		}
		lines = append(lines, l)
	}
	return lines, nil
}

// setAside leaves a change out of this run. One that nobody asked for leaves
// its whole group out: a unit is not committed in part.
func (j *job) setAside(it *item, s State, reason string) {
	j.why[it.Path] = setAside{it.seq, s, reason}
	j.finished[it] = true
	g := j.group[it.Path]
	if !j.auto && !j.whole && s != Conflict || j.aside[g] {
		return
	}
	j.aside[g] = true
	for _, other := range g.items {
		j.finished[other] = true
	}
}

// unable sets aside a change whose own bytes are the trouble: no reason to keep
// the others back.
func (j *job) unable(it *item, err error) {
	j.setAside(it, Pending, err.Error())
	j.q.note(fmt.Errorf("%s: %w", it.Path, err), it.Path)
}

// everybodys reports whether an error met at one path would be met at any other,
// too.
func everybodys(err error) bool {
	for _, kind := range []error{
		context.Canceled, context.DeadlineExceeded, errClosed, errDiscarded, hub.ErrUnavailable, hub.ErrOffline, hub.ErrUncertain, hub.ErrLimited,
		hub.ErrUnauthorized, hub.ErrBadToken, hub.ErrGated, hub.ErrForbidden, hub.ErrRepoNotFound,
	} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// refuse sets paths aside that the Hub will not have.
func (j *job) refuse(lines []*line, reason string) error {
	paths := make([]string, len(lines))
	for i, l := range lines {
		paths[i] = l.Path
		j.setAside(l.item, Refused, reason)
		if err := j.q.l.mark(l.seq, l.Path, Refused, reason); err != nil {
			return err
		}
	}
	j.q.note(&hub.RefusedError{Message: reason, Paths: paths}, paths...)
	return errAgain
}

// refused is refuse for what an error names of lines; all if it names none.
func (j *job) refused(err error, lines []*line) error {
	var r *hub.RefusedError
	if !errors.As(err, &r) {
		return err
	}
	about := make(map[string]bool, len(r.Paths))
	for _, p := range r.Paths {
		about[p] = true
	}
	var named []*line
	of := make(map[*group]bool)
	for _, l := range lines {
		if about[l.Path] {
			named = append(named, l)
		}
		of[j.group[l.Path]] = true
	}
	if len(named) == 0 && len(of) > 1 {
		j.most = len(of) / 2
		return errAgain
	}
	if len(named) == 0 {
		named = lines
	}
	return j.refuse(named, r.Message)
}

// bytes is all of a small file's content.
func (j *job) bytes(ctx context.Context, l *line, limit int64) ([]byte, error) {
	switch {
	case l.data != nil:
		return l.data, nil
	case l.content.Size > limit:
		return nil, fmt.Errorf("%s is larger than %d bytes", l.Path, limit)
	case l.sealed != nil:
		data := make([]byte, l.content.Size)
		if n, err := l.sealed.data.ReadAt(data, 0); n < len(data) {
			return nil, fmt.Errorf("%s: %w", l.Path, err)
		}
		return data, nil
	}
	e := l.From.Entry
	data, err := j.q.hub.ReadAll(ctx, l.From.Snapshot, e, limit)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path.Clean(e.Path), err)
	}
	return data, nil
}
