package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"hfmount/fs"
	"hfmount/fs/node"
	"hfmount/remote"
	"hfmount/remote/hub"
)

const (
	// resolvePatience bounds the questions to the Hub before a mount answers.
	resolvePatience = 90 * time.Second
	// drainPatience is how long files may stay open after SIGTERM before they
	// are cut off.
	drainPatience = 10 * time.Second
	// sendPatience is how long after SIGTERM changes are still sent, the time
	// above included.
	sendPatience = 60 * time.Second
)

// mounted is a mount that this process serves.
type mounted struct {
	*layers // answers what the control socket is asked about changes
	*finish
	cfg     *mountConfig
	stack   *stack
	server  *node.Server
	loc     hub.Location // under the repository's current name
	at      hub.CommitID // shown at first
	started time.Time
}

// serve mounts, says so to ready, and returns when the mount is gone: because
// somebody unmounted it, or because of SIGINT, SIGTERM or the end of ctx. The
// order of what it undoes is fixed: kernel first, then the queues, as far as
// they come, then the local changes, tree, cache and client. The control socket
// answers until the queues have ended.
func serve(ctx context.Context, cfg mountConfig, log *slog.Logger, ready func(line string)) (err error) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)

	if cfg.dir, err = checkDir(cfg.dir, cfg.nonEmpty); err != nil {
		return err
	}
	ev := newEvents(cfg.write.onEvent, cfg.dir, log)
	defer ev.close()
	var l *layers
	st, err := openStack(cfg.storeConfig, log, func(client *remote.Client) *layers {
		l = newLayers(&cfg, client, ev, log)
		return l
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	defer func() { err = errors.Join(err, l.close()) }()

	start, cancel := context.WithTimeout(ctx, resolvePatience)
	defer cancel()
	root, err := rootUnlessSignalled(start, signals, st.tree, l)
	if err != nil {
		return err
	}
	m := &mounted{cfg: &cfg, stack: st, layers: l, loc: cfg.loc, started: time.Now(), finish: newFinish()}
	if v, ok := m.view(); ok {
		m.loc.Repo, m.at = v.Snapshot.Ref.Repo, v.Snapshot.Commit
		// Its listing is open to all; that nothing can be read is said now
		// rather than at the first read.
		if v.Snapshot.Gated {
			if err := st.client.AuthCheck(start, m.loc.Repo, false); err != nil {
				return &repoError{cfg.loc, cfg.endpoint, err}
			}
		}
	}
	m.server, err = node.Mount(cfg.dir, st.tree, root, node.Options{
		FSName:     cfg.loc.String(),
		AllowOther: cfg.allowOther,
		UID:        cfg.uid, GID: cfg.gid, Umask: cfg.umask,
		NoOpen: cfg.noOpen, CacheDir: cfg.cacheDir,
		ReadOnly: cfg.readOnly != "",
		Logger:   log,
	})
	if err != nil {
		probe := node.ProbeHost(cfg.cacheDir)
		return explainMount(err, cfg.dir, probe.Helper, probe.Device)
	}
	gone := make(chan struct{})
	go func() { // ends with the mount, which every path below waits for
		m.server.Wait()
		close(gone)
	}()
	ctl, err := m.listen(log)
	if err != nil {
		m.leave(gone, log)
		select {
		case <-gone:
		case <-time.After(drainPatience):
		}
		return err
	}
	defer func() { err = errors.Join(err, ctl.Close()) }()
	background, stopBackground := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watching.Go(func() { l.watchToken(background, st.tokens) })
	defer watching.Wait()
	defer stopBackground()
	log.Info("mounted", "repo", m.loc.String(), "commit", m.at, "dir", cfg.dir, "pid", os.Getpid(), "read_only", cfg.readOnly)
	ready(m.line())
	cancel()

	send := context.Background() // whoever unmounts may wait for all of it
	select {
	case <-gone:
		log.Info("unmounted", "dir", cfg.dir)
	case s := <-signals:
		log.Info("unmounting", "dir", cfg.dir, "signal", s.String())
		var cancel context.CancelFunc
		send, cancel = context.WithTimeout(send, sendPatience)
		defer cancel()
		m.leave(gone, log)
	case <-ctx.Done():
		log.Info("unmounting", "dir", cfg.dir)
		m.leave(gone, log)
	}
	return m.sendRest(send, gone, ctl, signals, log)
}

// rootUnlessSignalled opens what the mount is of: local changes first, because
// the tree looks for them once. A signal ends the wait.
func rootUnlessSignalled(ctx context.Context, signals <-chan os.Signal, tree *fs.Tree, l *layers) (*fs.Dir, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		dir *fs.Dir
		err error
	}
	done := make(chan result, 1)
	go func() { // ends soon after cancel; the tree waits for its requests
		if err := l.prepare(ctx); err != nil {
			done <- result{nil, err}
			return
		}
		dir, err := tree.Root(ctx, l.cfg.loc)
		if err != nil {
			err = &repoError{l.cfg.loc, l.cfg.endpoint, err}
		}
		done <- result{dir, err}
	}()
	select {
	case r := <-done:
		return r.dir, r.err
	case <-signals:
		cancel()
		<-done
		return nil, context.Canceled
	}
}

func (m *mounted) listen(log *slog.Logger) (*control, error) {
	dir, err := makeRuntimeDir()
	if err != nil {
		return nil, err
	}
	return listenControl(socketPath(dir, m.cfg.dir), m, log)
}

// leave unmounts. A mount in use is detached, so that no new file is opened;
// files that are open keep answering.
func (m *mounted) leave(gone <-chan struct{}, log *slog.Logger) {
	if m.server.Unmount() == nil {
		return
	}
	select {
	case <-gone: // somebody else was quicker
		return
	default:
	}
	log.Warn("the mount is in use; detaching it, open files are cut off soon",
		"dir", m.cfg.dir, "held_by", describeHolders(findHolders(m.cfg.dir)), "wait", drainPatience)
	if err := detach(m.cfg.dir); err != nil {
		log.Error("cannot detach the mount", "dir", m.cfg.dir, "err", err)
	}
}

// view is the view of the one repository of the mount.
func (m *mounted) view() (fs.View, bool) {
	if m.loc.Repo.IsZero() {
		return fs.View{}, false
	}
	views := m.stack.tree.Views()
	for _, v := range views {
		if v.Snapshot.Ref.Repo == m.loc.Repo && v.Snapshot.Ref.Rev() == m.loc.Rev() {
			return v, true
		}
	}
	if len(views) > 0 { // renamed or canonical: the tree serves nothing else
		return views[0], true
	}
	return fs.View{}, false
}

// line says what is mounted, for the one who asked.
func (m *mounted) line() string {
	what := m.loc.String()
	if m.at != "" {
		loc := m.loc
		loc.Revision = loc.Rev()
		what = loc.String()
		if !loc.Pinned() {
			what += " at " + m.at.Short()
		}
	}
	line := fmt.Sprintf("%s on %s, ", what, m.cfg.dir)
	if m.cfg.readOnly != "" {
		return line + "read-only (" + m.cfg.readOnly + ")"
	}
	return line + "read-write: " + m.commitsTo()
}

func (m *mounted) refresh(ctx context.Context) error {
	if err := m.stack.tree.Refresh(ctx); err != nil {
		return &repoError{m.loc, m.cfg.endpoint, err}
	}
	m.told(ctx)
	return nil
}

// toldPatience is how long a command waits for the kernel to take note of what
// it changed.
const toldPatience = 2 * time.Second

// told returns when the kernel knows what changed: whoever ran a command looks
// at the files next.
func (m *mounted) told(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, toldPatience)
	defer cancel()
	m.server.Told(ctx)
}

func (m *mounted) commit(ctx context.Context, r commitRequest) (outcome, error) {
	o, err := m.layers.commit(ctx, r)
	m.told(ctx)
	return o, err
}

func (m *mounted) revert(ctx context.Context, r revertRequest) (outcome, error) {
	o, err := m.layers.revert(ctx, r)
	m.told(ctx)
	return o, err
}

func (m *mounted) discard(ctx context.Context, paths []string) error {
	err := m.layers.discard(ctx, paths)
	m.told(ctx)
	return err
}

// settlePatience is how long the kernel may take to tell that a file whose
// close(2) returned is closed.
const settlePatience = 2 * time.Second

// settle returns when no file is open for writing, or after settlePatience with
// those that are.
func (m *mounted) settle(ctx context.Context) []holderStatus {
	ctx, cancel := context.WithTimeout(ctx, settlePatience)
	defer cancel()
	for {
		open := []holderStatus{}
		for _, w := range m.server.OpenForWriting() {
			open = append(open, holderStatus{Path: w.Path, PID: w.PID})
		}
		if len(open) == 0 {
			return open
		}
		select {
		case <-ctx.Done():
			return open
		case <-time.After(20 * time.Millisecond):
		}
	}
}
