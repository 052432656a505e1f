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
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"hfmount/remote/hub"
)

// settleWait is how long after its request a commit whose answer was lost may
// still be applied: the Hub's proxies give up after 60 s (hub-protocol §6.6).
const settleWait = 75 * time.Second

// openWait is settleWait of a commit that opens a pull request. No parent
// keeps a second one from being applied: rather late than twice.
const openWait = 10 * time.Minute

// forgetAfter is when a commit that is not on the branch was never made,
// although the branch did not move.
const forgetAfter = time.Hour

// mostLost is how many answers an attempt loses before it is given up.
const mostLost = 2

// batch is the record of a commit, in the journal before its request is sent.
// It is forgotten when the commit is settled: found on the branch, or
// impossible, because the head is not its parent any more.
type batch struct {
	ID      string       `json:"id"` // in the commit's description
	Ref     hub.Ref      `json:"ref"`
	PR      bool         `json:"pr,omitempty"`
	Opens   bool         `json:"opens,omitempty"` // a pull request against Ref
	After   int          `json:"after,omitempty"` // the last discussion before that
	Parent  hub.CommitID `json:"parent"`
	Sent    time.Time    `json:"sent"`
	Summary string       `json:"summary"`
	Paths   []batchPath  `json:"paths"`

	lines []*line // of this process only
	again bool    // it was sent before, and may be applied yet
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
		if w := q.budget.take(); w > 0 {
			return "", &budgetError{w}
		}
	}
	b := &batch{ID: uuid.NewString(), Ref: t.ref, PR: t.pr, Parent: parent.Commit, lines: lines}
	b.Opens = t.opens
	c := hub.Commit{Parent: parent.Commit, PullRequest: t.opens}
	for _, l := range lines {
		p := batchPath{Path: l.Path, Seq: l.seq, Content: l.content, LFS: l.lfs, Copied: l.copy}
		if l.sealed != nil {
			p.Gen = l.sealed.gen
		}
		b.Paths = append(b.Paths, p)
		c.Ops = append(c.Ops, l.hubOp())
	}
	if t.opens {
		open, err := q.hub.PullRequests(ctx, t.ref.Repo)
		if err != nil {
			return "", err
		}
		for _, p := range open {
			b.After = max(b.After, p.Num)
		}
	}
	if i := slices.IndexFunc(q.unsure, b.same); i >= 0 {
		// It is the commit whose answer was lost: of all its requests one at most
		// can be applied, and is known by the one name.
		b.ID, b.After, b.again = q.unsure[i].ID, q.unsure[i].After, true
		q.unsure[i] = b
	}
	c.Summary, c.Description = compose(j.text(lines), j.description, b.ID, q.policy)
	b.Summary = c.Summary
	return j.send(ctx, t, b, c)
}

func (b *batch) names() []string {
	out := make([]string, len(b.Paths))
	for i, p := range b.Paths {
		out[i] = p.Path
	}
	return out
}

// same reports whether two batches are the same commit.
func (b *batch) same(o *batch) bool {
	return b.Ref == o.Ref && b.PR == o.PR && b.Opens == o.Opens && b.Parent == o.Parent && slices.EqualFunc(b.Paths, o.Paths, batchPath.same)
}

func (p batchPath) same(o batchPath) bool {
	if (p.Content == nil) != (o.Content == nil) || p.Content != nil && *p.Content != *o.Content {
		return false
	}
	p.Content, o.Content = nil, nil
	return p == o
}

// age is how long ago it was sent. A clock that went back makes it new.
func (b *batch) age(now time.Time) time.Duration {
	if b.Sent.After(now) {
		b.Sent = now
	}
	return now.Sub(b.Sent)
}

// wait is how long after its request it may still be applied.
func (b *batch) wait() time.Duration {
	if b.Opens {
		return openWait
	}
	return settleWait
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
		return sealedReader{io.NewSectionReader(l.sealed.data, 0, l.content.Size), l.sealed}, nil
	}}
}

// sealedReader reads sealed bytes and then gives up their descriptor: a commit
// has a thousand files.
type sealedReader struct {
	io.Reader
	s *sealedBytes
}

func (r sealedReader) Close() error {
	r.s.idle()
	return nil
}

// text is the commit's message without our trailers.
func (j *job) text(lines []*line) string {
	message := j.message
	if strings.TrimSpace(message) == "" {
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
		told := tell(deeds, j.q.policy, j.q.now())
		var err error
		if message, err = renderMessage(j.q.policy.Message, told); err != nil {
			// A template that fails for these changes must not keep them back.
			j.q.log.Warn("the commit has the default message", "err", err)
			message, _ = renderMessage("", told)
		}
	}
	if j.of > 1 {
		first, rest, _ := strings.Cut(strings.TrimSpace(message), "\n")
		message = fmt.Sprintf("%s (part %d of %d)\n%s", first, j.parts+1, j.of, rest)
	}
	return message
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
	var mu sync.Mutex
	failed := make(map[*line]error)
	fail := func(l *line, err error) error {
		if everybodys(err) {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		failed[l] = err
		return nil
	}
	for _, l := range missing {
		g.Go(func() error {
			data, err := j.bytes(gctx, l, mostInline)
			if err != nil {
				return fail(l, err)
			}
			c := contentOfBytes(data)
			l.data, l.content = data, &c
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if len(failed) > 0 {
		return j.unableAll(failed)
	}
	for _, l := range lines {
		if l.Kind != Put || !strings.EqualFold(path.Base(l.Path), "README.md") || path.Dir(l.Path) != "." || l.lfs {
			continue
		}
		data, err := j.bytes(ctx, l, inlineBelow)
		if err != nil {
			if err := fail(l, err); err != nil {
				return err
			}
			return j.unableAll(failed)
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
				mu.Lock()
				refused, reasons = append(refused, l), append(reasons, err)
				mu.Unlock()
				return nil
			}
			if err != nil {
				return fail(l, fmt.Errorf("upload %s: %w", l.Path, err))
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	var again error
	if len(failed) > 0 {
		again = j.unableAll(failed)
	}
	for i, l := range refused {
		if again = j.refused(reasons[i], []*line{l}); !errors.Is(again, errAgain) {
			return again
		}
	}
	return again
}

// unableAll is unable of several.
func (j *job) unableAll(failed map[*line]error) error {
	for l, err := range failed {
		j.unable(l.item, err)
	}
	return errAgain
}

// send makes the request and settles what came of it.
func (j *job) send(ctx context.Context, t target, b *batch, c hub.Commit) (hub.CommitID, error) {
	q := j.q
	defer func() {
		// It is known what became of it, or written down that it is not.
		q.mu.Lock()
		q.posted = false
		q.mu.Unlock()
	}()
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
			q.doubt(b) // until it is delivered to the journal
			return committed.ID, j.made(ctx, t, b, committed)
		}
		if !nothingDone(err) {
			q.pace.took(len(b.Paths), max(time.Since(start), slowCommit))
			q.doubt(b)
			q.log.Warn("the answer to a commit was lost", "batch", b.ID, "err", err)
			if ctx.Err() != nil {
				return "", context.Cause(ctx)
			}
			found, serr := q.settle(ctx, b)
			switch {
			case serr != nil:
				return "", serr
			case found != nil:
				return found.ID, j.made(ctx, t, b, *found)
			}
			if j.lost++; j.lost >= mostLost {
				return "", err
			}
			return "", errAgain
		}
		// An earlier request for the same commit may be why this one fails.
		if !b.again {
			if ferr := q.forget(b); ferr != nil {
				return "", ferr
			}
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
			if q.uploads.forget(b.lines) && !j.asked {
				j.asked = true
				return "", errAgain
			}
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
	if c.PullRequest != nil {
		if err := q.opened(*c.PullRequest, b.Parent, b.names()); err != nil {
			return err
		}
	}
	return j.finish(ctx, t, c, b.Summary, b.lines, b)
}

// doubt takes a batch among those that are not settled.
func (q *Queue) doubt(b *batch) {
	if !slices.Contains(q.unsure, b) {
		q.unsure = append(q.unsure, b)
	}
}

// forget drops a batch that is settled.
func (q *Queue) forget(b *batch) error {
	q.unsure = slices.DeleteFunc(q.unsure, func(o *batch) bool { return o == b })
	return q.l.keep(b.key(), nil, false)
}
