package writeback

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"hfmount/remote/hub"
)

// settleWait is how long after its request a commit whose answer was lost may
// still be applied: the Hub's proxies give up after 60 s (hub-protocol §6.6).
const settleWait = 75 * time.Second

// batch is the record of a commit, in the journal before its request is sent.
// It is forgotten when the commit is settled: found on the branch, or
// impossible, because the head is not its parent any more.
type batch struct {
	ID      string       `json:"id"` // in the commit's description
	Ref     hub.Ref      `json:"ref"`
	PR      bool         `json:"pr,omitempty"`
	Parent  hub.CommitID `json:"parent"`
	Sent    time.Time    `json:"sent"`
	Summary string       `json:"summary"`
	Paths   []batchPath  `json:"paths"`

	lines []*line // of this process only
}

// batchPath is one path of a batch.
type batchPath struct {
	Path    string   `json:"path"`
	Seq     uint64   `json:"seq"`
	Gen     uint64   `json:"gen,omitempty"`
	Content *content `json:"content,omitempty"` // nil for a delete
	LFS     bool     `json:"lfs,omitempty"`
	Copied  bool     `json:"copied,omitempty"`
}

func (b *batch) key() string { return "batch/" + b.ID }

func sortBatches(bs []*batch) {
	slices.SortFunc(bs, func(a, b *batch) int {
		return cmp.Or(a.Sent.Compare(b.Sent), strings.Compare(a.ID, b.ID))
	})
}

// commit uploads what lines need and commits them on top of parent; the new
// head is returned.
func (j *job) commit(ctx context.Context, t target, parent hub.Snapshot, lines []*line) (hub.CommitID, error) {
	q := j.q
	if err := j.prepare(ctx, t, lines); err != nil {
		return "", err
	}
	if j.auto {
		if w, err := q.budget.take(); err != nil {
			return "", err
		} else if w > 0 {
			return "", &budgetError{w}
		}
	}
	b := &batch{ID: uuid.NewString(), Ref: t.ref, PR: t.pr, Parent: parent.Commit, lines: lines}
	message, err := j.text(lines)
	if err != nil {
		return "", err
	}
	c := hub.Commit{Parent: parent.Commit}
	c.Summary, c.Description = compose(message, j.description, b.ID, q.policy)
	b.Summary = c.Summary
	for _, l := range lines {
		p := batchPath{Path: l.Path, Seq: l.seq, Content: l.content, LFS: l.lfs, Copied: l.copy}
		if l.sealed != nil {
			p.Gen = l.sealed.gen
		}
		b.Paths = append(b.Paths, p)
		c.Ops = append(c.Ops, l.hubOp())
	}
	return j.send(ctx, t, b, c)
}

func (l *line) hubOp() hub.Op {
	switch {
	case l.Kind == Delete:
		return hub.Op{Kind: hub.OpDelete, Path: l.Path}
	case l.lfs:
		return hub.Op{Kind: hub.OpLFS, Path: l.Path, SHA256: l.content.SHA256, Size: l.content.Size}
	}
	return hub.Op{Kind: hub.OpFile, Path: l.Path, Size: l.content.Size, Data: func() (io.ReadCloser, error) {
		if l.data != nil || l.sealed == nil {
			return io.NopCloser(bytes.NewReader(l.data)), nil
		}
		return io.NopCloser(io.NewSectionReader(l.sealed.data, 0, l.content.Size)), nil
	}}
}

// text is the commit's message without our trailers.
func (j *job) text(lines []*line) (string, error) {
	message := j.message
	if message == "" {
		deleted := make(map[string]bool)
		for _, l := range lines {
			if l.Kind == Delete {
				deleted[l.Path] = true
			}
		}
		renamed := make(map[string]bool)
		var deeds []deed
		for _, l := range lines {
			d := deed{path: l.Path, op: l.op()}
			for _, from := range l.origins() {
				if deleted[from] && !renamed[from] {
					d.op, d.was = "rename", from
					renamed[from] = true
					break
				}
			}
			deeds = append(deeds, d)
		}
		deeds = slices.DeleteFunc(deeds, func(d deed) bool { return d.op == "delete" && renamed[d.path] })
		var err error
		if message, err = renderMessage(j.q.policy.Message, tell(deeds, j.q.policy, j.q.now())); err != nil {
			return "", err
		}
	}
	if j.of > 1 {
		first, rest, _ := strings.Cut(strings.TrimSpace(message), "\n")
		message = fmt.Sprintf("%s (part %d of %d)\n%s", first, j.parts+1, j.of, rest)
	}
	return message, nil
}

// prepare brings to the Hub, or to memory, what the commit names.
func (j *job) prepare(ctx context.Context, t target, lines []*line) error {
	var missing []*line
	for _, l := range lines {
		if l.Kind == Put && l.sealed == nil && l.data == nil && (!l.lfs || l.content.SHA256 == "") {
			missing = append(missing, l)
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for _, l := range missing {
		g.Go(func() error {
			data, err := j.bytes(gctx, l, mostInline)
			if err != nil {
				return err
			}
			c := contentOfBytes(data)
			l.data, l.content = data, &c
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, l := range lines {
		if l.Kind != Put || !strings.EqualFold(path.Base(l.Path), "README.md") || path.Dir(l.Path) != "." || l.lfs {
			continue
		}
		data, err := j.bytes(ctx, l, inlineBelow)
		if err != nil {
			return err
		}
		if err := j.q.hub.CheckCard(ctx, t.ref.Repo.Type, data); err != nil {
			return j.refused(err, []*line{l})
		}
	}
	g, gctx = errgroup.WithContext(ctx)
	var refused []*line
	var reasons []error
	for _, l := range lines {
		if l.Kind != Put || !l.lfs || l.content.Size == 0 || (l.sealed == nil && l.data == nil) {
			continue
		}
		g.Go(func() error {
			src := io.ReaderAt(bytes.NewReader(l.data))
			if l.data == nil {
				src = l.sealed.data
			}
			err := j.q.uploads.upload(gctx, t.ref, l.Path, *l.content, src)
			if errors.Is(err, hub.ErrRefused) {
				j.q.mu.Lock()
				refused, reasons = append(refused, l), append(reasons, err)
				j.q.mu.Unlock()
				return nil
			}
			if err != nil {
				return fmt.Errorf("upload %s: %w", l.Path, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	var again error
	for i, l := range refused {
		if again = j.refused(reasons[i], []*line{l}); !errors.Is(again, errAgain) {
			return again
		}
	}
	return again
}

// send makes the request and settles what came of it.
func (j *job) send(ctx context.Context, t target, b *batch, c hub.Commit) (hub.CommitID, error) {
	q := j.q
	for busy := 0; ; busy++ {
		q.mu.Lock()
		if ctx.Err() != nil {
			q.mu.Unlock()
			return "", context.Cause(ctx)
		}
		q.posted = true
		q.mu.Unlock()
		b.Sent = q.now()
		if err := q.l.keep(b.key(), b, true); err != nil {
			return "", err
		}
		q.ours[b.ID] = true
		start := time.Now()
		committed, err := q.hub.Commit(ctx, t.ref, c)
		if err == nil {
			q.pace.took(len(b.Paths), time.Since(start))
			q.unsure = append(q.unsure, b) // until it is delivered to the journal
			return committed.ID, j.made(ctx, t, b, committed)
		}
		if !nothingDone(err) {
			q.pace.took(len(b.Paths), max(time.Since(start), slowCommit))
			q.unsure = append(q.unsure, b)
			q.log.Warn("the answer to a commit was lost", "batch", b.ID, "err", err)
			if ctx.Err() != nil {
				return "", context.Cause(ctx)
			}
			found, serr := q.settle(ctx, b, true)
			switch {
			case serr != nil:
				return "", serr
			case found != nil:
				return found.ID, j.made(ctx, t, b, q.committedAs(t.ref.Repo, *found))
			}
			return "", errAgain
		}
		if ferr := q.forget(b); ferr != nil {
			return "", ferr
		}
		switch {
		case errors.Is(err, hub.ErrBusy) && busy < 6:
			if err := sleep(ctx, time.Second<<min(busy, 3)); err != nil {
				return "", err
			}
		case errors.Is(err, hub.ErrConflict):
			return "", j.moved(ctx, t, b.Parent, err)
		case errors.Is(err, hub.ErrEntryNotFound):
			// Somebody deleted a path between the look and the commit.
			return "", j.again(ctx, err)
		case errors.Is(err, hub.ErrRefused):
			q.uploads.forget(b.lines)
			return "", j.refused(err, b.lines)
		default:
			return "", err
		}
	}
}

// moved finds out what a 412 means: another commit came first, or the account
// has no permission on the branch (hub-protocol §6.5).
func (j *job) moved(ctx context.Context, t target, parent hub.CommitID, err error) error {
	q := j.q
	for wait := time.Second; ; wait *= 2 {
		head, rerr := q.hub.Resolve(ctx, t.ref)
		if rerr != nil {
			return rerr
		}
		if head.Commit != parent {
			break
		}
		// A replica may be behind; not for long.
		if wait > 4*time.Second {
			return &blockedError{
				text:  fmt.Sprintf("the Hub refuses commits to %s although nobody else made one: the token has no permission on it", t.ref.Rev()),
				hint:  "use a token that may write to the branch, or mount with --create-pr",
				err:   errors.Join(hub.ErrForbidden, err),
				final: true,
			}
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
	// The commit in the way may be one of ours whose answer was lost.
	if err := q.settleAll(ctx, true); err != nil {
		return err
	}
	j.refresh()
	return j.again(ctx, err)
}

// refresh takes over the bases that changes have by now. A change that was
// edited since the job began is another one's.
func (j *job) refresh() {
	now := make(map[string]*item)
	for _, it := range j.q.look() {
		now[it.Path] = it
	}
	for it := range j.all() {
		if n := now[it.Path]; n != nil && n.seq == it.seq {
			it.Base = n.Base
		} else {
			j.finished[it] = true
		}
	}
}

// again begins again, after a while that grows, and not for ever.
func (j *job) again(ctx context.Context, err error) error {
	j.tries++
	if j.tries > 20 {
		return err
	}
	if j.tries > 1 {
		if err := sleep(ctx, min(8*time.Second, 100*time.Millisecond<<j.tries)); err != nil {
			return err
		}
	}
	return errAgain
}

// made takes note of a commit and finishes its changes.
func (j *job) made(ctx context.Context, t target, b *batch, c hub.Committed) error {
	q := j.q
	if c.URL == "" {
		c.URL = q.hub.CommitURL(t.ref.Repo, c.ID)
	}
	j.parts++
	*j.commits = append(*j.commits, c)
	if !t.pr {
		q.lineage.grew(b.Parent, c.ID)
	}
	return j.finish(ctx, t, c, b.Summary, b.lines, b)
}

func (q *Queue) committedAs(repo hub.Repo, e hub.LogEntry) hub.Committed {
	return hub.Committed{ID: e.ID, URL: q.hub.CommitURL(repo, e.ID)}
}

// forget drops a batch that is settled.
func (q *Queue) forget(b *batch) error {
	q.unsure = slices.DeleteFunc(q.unsure, func(o *batch) bool { return o == b })
	return q.l.keep(b.key(), nil, false)
}

// settle looks for a batch whose answer was lost. It returns its commit, or nil
// with no error if it was not made: then it is forgotten if it cannot be made
// any more, else kept in unsure, in case it is applied very late: a commit on
// the same parent then fails, and settleAll finds out why.
func (q *Queue) settle(ctx context.Context, b *batch, wait bool) (*hub.LogEntry, error) {
	for pause := 2 * time.Second; ; pause = min(2*pause, 20*time.Second) {
		found, over, err := q.find(ctx, b)
		if err != nil || found != nil {
			return found, err
		}
		if over {
			return nil, q.forget(b)
		}
		left := settleWait - q.now().Sub(b.Sent)
		if left <= 0 {
			return nil, nil
		}
		if !wait {
			return nil, &unsettledError{left}
		}
		if err := sleep(ctx, min(pause, left)); err != nil {
			return nil, err
		}
	}
}

// unsettledError is a batch that may be applied yet.
type unsettledError struct{ left time.Duration }

func (e *unsettledError) Error() string {
	return fmt.Sprintf("the Hub has not said yet whether the last commit was made (up to %s more)", e.left.Round(time.Second))
}
func (e *unsettledError) Unwrap() error { return hub.ErrUncertain }

// find looks for the batch between the head and its parent; over is set when it
// is not there and the head has left the parent.
func (q *Queue) find(ctx context.Context, b *batch) (found *hub.LogEntry, over bool, err error) {
	for limit := 50; ; limit *= 10 {
		entries, err := q.hub.Log(ctx, b.Ref, limit)
		if errors.Is(err, hub.ErrRevisionNotFound) || errors.Is(err, hub.ErrRepoNotFound) {
			return nil, true, nil // what is gone takes no commit
		}
		if err != nil {
			return nil, false, err
		}
		for i, e := range entries {
			if batchOf(e) == b.ID {
				return &e, false, nil
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

// settleAll settles every batch that was not, oldest first.
func (q *Queue) settleAll(ctx context.Context, wait bool) error {
	for _, b := range slices.Clone(q.unsure) {
		if slices.ContainsFunc(q.landings, func(d *delivery) bool { return d.batch == b }) {
			continue
		}
		found, err := q.settle(ctx, b, wait)
		if err != nil {
			return err
		}
		if found == nil {
			continue
		}
		t := target{ref: b.Ref, pr: b.PR}
		if err := q.recovered(ctx, t, b, q.committedAs(b.Ref.Repo, *found)); err != nil {
			return err
		}
	}
	return nil
}
