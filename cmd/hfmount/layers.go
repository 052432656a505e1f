package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"hfmount/fs"
	"hfmount/remote"
	"hfmount/remote/hub"
	"hfmount/writeback"
	"hfmount/writeback/staging"
)

// layers is fs.Layers over the state directory: it decides which branches are
// written to, and owns their queues. A mount of one repository has at most one
// branch, opened by prepare; in the whole Hub each is opened at its first
// change, or at the first look where an earlier mount left some.
type layers struct {
	cfg    *mountConfig
	client *remote.Client
	events *events
	log    *slog.Logger
	tree   atomic.Pointer[fs.Tree] // set before anything is asked of it

	ctx     context.Context // of the queues
	stop    context.CancelFunc
	running sync.WaitGroup // the queues

	// opening is held while a branch is opened, which takes requests. Order:
	// opening before mu.
	opening chan struct{}

	mu       sync.Mutex // guards what follows; a leaf
	branches map[hub.Ref]*branch
	refused  map[hub.Ref]refused
	left     map[hub.Ref]bool // what earlier mounts left, in the whole Hub
	holds    map[*holding]struct{}
	draining bool
	trouble  trouble // of the drain
}

// refused is a branch that may not be written, as of a time.
type refused struct {
	err   error
	until time.Time
}

// refusedFor is how long a refusal is not asked about again.
const refusedFor = time.Minute

func newLayers(cfg *mountConfig, client *remote.Client, ev *events, log *slog.Logger) *layers {
	l := &layers{
		cfg: cfg, client: client, events: ev, log: log,
		opening:  make(chan struct{}, 1),
		branches: make(map[hub.Ref]*branch), refused: make(map[hub.Ref]refused),
		left: make(map[hub.Ref]bool), holds: make(map[*holding]struct{}),
	}
	l.ctx, l.stop = context.WithCancel(context.Background())
	return l
}

// prepare decides whether the one repository of the mount is written to, and
// if so opens its changes. It sets cfg.readOnly otherwise. Of the whole Hub it
// looks for what earlier mounts left.
func (l *layers) prepare(ctx context.Context) error {
	if l.cfg.readOnly != "" {
		return nil
	}
	if l.cfg.loc.Repo.IsZero() {
		return l.findLeft()
	}
	v, err := l.judge(ctx, hub.Ref{Repo: l.cfg.loc.Repo, Revision: l.cfg.loc.Rev()})
	if err != nil {
		return &repoError{l.cfg.loc, l.cfg.endpoint, err}
	}
	if v.reason != "" {
		l.cfg.readOnly = v.reason
		if l.cfg.write.required {
			return l.cfg.cannotWrite(v.reason)
		}
		return nil
	}
	b, err := l.openBranch(v)
	if errors.Is(err, writeback.ErrLocked) && l.takeOver(ctx, v) {
		b, err = l.openBranch(v)
	}
	if err != nil {
		return l.explainOpen(v, err)
	}
	l.start(b)
	return nil
}

// takeOver asks a process that still sends changes of an ended mount of the
// same branch to leave them to this one.
func (l *layers) takeOver(ctx context.Context, v verdict) bool {
	ref := hub.Ref{Repo: v.snapshot.Ref.Repo, Revision: v.snapshot.Ref.Rev()}
	mounts, err := kernelMounts()
	if err != nil {
		return false
	}
	for _, d := range listDaemons(mounts) {
		s, err := d.status(ctx)
		if err != nil || s.State != stateDraining || s.Endpoint != l.cfg.endpoint || s.Repo != wholeHub && (s.Repo != ref.Repo.String() || s.Revision != ref.Rev()) {
			continue
		}
		l.log.Info("taking over from a process that still sends changes", "pid", d.pid, "mount", s.Mountpoint)
		if d.post(ctx, "/yield", nil, nil) != nil {
			return false
		}
		return d.waitGone(ctx) == nil
	}
	return false
}

// explainOpen is a failure to open local changes as people see it.
func (l *layers) explainOpen(v verdict, err error) error {
	name := refName(hub.Ref{Repo: v.snapshot.Ref.Repo, Revision: v.snapshot.Ref.Rev()})
	if errors.Is(err, writeback.ErrLocked) {
		return &failure{text: "another mount writes to " + name + ": " + err.Error(), code: exitFailed, err: err,
			hint: "use that mount, mount with --read-only, or give this one a --cache-dir of its own"}
	}
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	return &failure{text: "the local changes of " + name + " cannot be opened: " + err.Error(), code: exitFailed, err: err,
		hint: "they are in " + l.cfg.write.stateDir + "; `hfmount recover` looks at them, --read-only mounts without them"}
}

// start lets the queue of an open branch work, and shows the branch.
func (l *layers) start(b *branch) {
	l.mu.Lock()
	l.branches[b.ref] = b
	for h := range l.holds {
		h.add(b)
	}
	l.mu.Unlock()
	l.running.Go(func() {
		if err := b.queue.Run(l.ctx); err != nil && l.ctx.Err() == nil {
			l.log.Error("no more commits are made until the next mount", "ref", refName(b.ref), "err", err)
		}
	})
}

// findLeft notes which branches of the whole Hub an earlier mount left changes
// of.
func (l *layers) findLeft() error {
	found, err := writeback.Layers(l.cfg.write.stateDir)
	if err != nil {
		return &failure{text: "the local changes of earlier mounts cannot be looked at: " + err.Error(), code: exitFailed, err: err,
			hint: "--state-dir names another directory"}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range found {
		if f.Key.Endpoint == l.cfg.endpoint && l.cfg.write.names(f.Key.Ref.Repo) {
			l.left[f.Key.Ref] = true
		}
	}
	return nil
}

// key is the name under which the branch of ref is known here: the tree of one
// repository asks by the name that was given, which the Hub may redirect.
func (l *layers) key(ref hub.Ref) hub.Ref {
	ref.Revision = ref.Rev()
	if l.cfg.loc.Repo.IsZero() || ref.Repo != l.cfg.loc.Repo {
		return ref
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for known := range l.branches {
		if known.Revision == ref.Revision {
			return known
		}
	}
	return ref
}

func (l *layers) get(ref hub.Ref) (*branch, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, ok := l.branches[ref]
	return b, ok
}

// MayWrite reports, without I/O, whether Layer could succeed with create.
func (l *layers) MayWrite(ref hub.Ref) bool {
	if l.cfg.readOnly != "" {
		return false
	}
	ref = l.key(ref)
	if !l.cfg.loc.Repo.IsZero() {
		_, ok := l.get(ref)
		return ok
	}
	if ref.Pinned() || !l.cfg.write.names(ref.Repo) {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	no, ok := l.refused[ref]
	return !ok || time.Now().After(no.until)
}

// Layer returns the changes of a branch, see fs.Layers.
func (l *layers) Layer(ctx context.Context, ref hub.Ref, create bool) (*writeback.Layer, error) {
	if l.cfg.readOnly != "" {
		if create {
			return nil, fmt.Errorf("%w: %s", fs.ErrReadOnly, l.cfg.readOnly)
		}
		return nil, nil
	}
	ref = l.key(ref)
	if b, ok := l.get(ref); ok {
		return b.layer, nil
	}
	whole := l.cfg.loc.Repo.IsZero()
	if !create {
		l.mu.Lock()
		known := whole && l.left[ref]
		l.mu.Unlock()
		if !known {
			return nil, nil
		}
	}
	if !whole || ref.Pinned() || !l.cfg.write.names(ref.Repo) {
		return nil, fmt.Errorf("%w: %s is not what --rw names", fs.ErrReadOnly, refName(ref))
	}
	b, err := l.open(ctx, ref)
	if err != nil && !create && errors.Is(err, fs.ErrReadOnly) {
		return nil, nil // shown as the Hub has it; recover finds the rest
	}
	if err != nil {
		return nil, err
	}
	return b.layer, nil
}

// open opens a branch of the whole Hub, one at a time.
func (l *layers) open(ctx context.Context, ref hub.Ref) (*branch, error) {
	select {
	case l.opening <- struct{}{}:
		defer func() { <-l.opening }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	l.mu.Lock()
	b, ok := l.branches[ref]
	no, isNo := l.refused[ref]
	draining := l.draining
	l.mu.Unlock()
	switch {
	case ok:
		return b, nil
	case draining:
		return nil, fmt.Errorf("%w: the mount ends", fs.ErrReadOnly)
	case isNo && time.Now().Before(no.until):
		return nil, no.err
	}
	ctx, cancel := context.WithTimeout(ctx, resolvePatience)
	defer cancel()
	v, err := l.judge(ctx, ref)
	if err != nil {
		return nil, err
	}
	if v.reason == "" {
		b, err = l.openBranch(v)
		if errors.Is(err, writeback.ErrLocked) && l.takeOver(ctx, v) {
			b, err = l.openBranch(v)
		}
		if errors.Is(err, writeback.ErrLocked) {
			v.reason = "another mount writes to it"
		} else if err != nil {
			return nil, err
		}
	}
	if v.reason != "" {
		err := fmt.Errorf("%w: %s", fs.ErrReadOnly, v.reason)
		l.mu.Lock()
		l.refused[ref] = refused{err, time.Now().Add(refusedFor)}
		l.mu.Unlock()
		l.log.Warn("not written to", "ref", refName(ref), "reason", v.reason)
		return nil, err
	}
	l.start(b)
	l.log.Info("writing", "ref", refName(b.ref), "public", b.public)
	return b, nil
}

// MayCreate reports whether the mount was told that it may make repositories.
func (l *layers) MayCreate() bool { return l.cfg.readOnly == "" && l.cfg.write.createRepo }

// CreateRepo makes a private repository, where --create-repo allows it.
func (l *layers) CreateRepo(ctx context.Context, repo hub.Repo) error {
	if !l.MayCreate() || !l.cfg.write.names(repo) {
		return fmt.Errorf("%w: making repositories takes --create-repo, and --rw that names them", fs.ErrReadOnly)
	}
	return l.client.CreateRepo(ctx, repo, true)
}

// content opens bytes that the Hub has, for files of which only a part is
// local.
func (l *layers) content(ctx context.Context, p writeback.Place) (staging.Source, error) {
	return l.tree.Load().Content(ctx, p)
}

// waitFor returns when a path's present bytes are on the Hub, for fsync under
// --sync=remote.
func (l *layers) waitFor(ctx context.Context, ref hub.Ref, path string) error {
	b, ok := l.get(l.key(ref))
	if !ok {
		return nil
	}
	return b.queue.WaitFor(ctx, path)
}

// close ends the queues, then gives up the locks. Changes stay in the journals.
func (l *layers) close() error {
	l.stop()
	l.running.Wait()
	var errs []error
	for _, b := range l.all() {
		errs = append(errs, b.close())
	}
	l.mu.Lock()
	clear(l.branches)
	l.mu.Unlock()
	return errors.Join(errs...)
}

// kickInterval is how often a rotated token is looked for.
const kickInterval = 5 * time.Second

// watchToken lets queues try again at once when the token is another: those
// that an expired one stopped wait longer and longer. It returns when ctx ends.
func (l *layers) watchToken(ctx context.Context, tokens remote.TokenSource) {
	last, _ := tokens.Token(ctx) // an unreadable one is as good as none
	tick := time.NewTicker(kickInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now, err := tokens.Token(ctx)
		if err != nil || now == last {
			continue
		}
		last = now
		l.log.Info("the token changed")
		for _, b := range l.all() {
			b.queue.Kick()
		}
	}
}

func hostName() string {
	name, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	return name
}
