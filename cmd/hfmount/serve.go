package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"hfmount/fs"
	"hfmount/fs/node"
	"hfmount/remote/hub"
)

const (
	// resolvePatience bounds the questions to the Hub before a mount answers.
	resolvePatience = 90 * time.Second
	// drainPatience is how long files may stay open after SIGTERM before they
	// are cut off.
	drainPatience = 10 * time.Second
)

// mounted is a mount that this process serves.
type mounted struct {
	cfg     mountConfig
	stack   *stack
	server  *node.Server
	loc     hub.Location // under the repository's current name
	commit  hub.CommitID // at mount
	started time.Time
}

// serve mounts, says so to ready, and returns when the mount is gone: because
// somebody unmounted it, or because of SIGINT, SIGTERM or the end of ctx. The
// order of what it undoes is fixed: kernel first, then tree, cache, client.
func serve(ctx context.Context, cfg mountConfig, log *slog.Logger, ready func(line string)) (err error) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)

	if cfg.dir, err = checkDir(cfg.dir, cfg.nonEmpty); err != nil {
		return err
	}
	st, err := openStack(cfg.storeConfig, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()

	start, cancel := context.WithTimeout(ctx, resolvePatience)
	defer cancel()
	stopSetup := context.AfterFunc(ctx, cancel)
	defer stopSetup()
	root, err := rootUnlessSignalled(start, signals, st.tree, cfg.loc)
	if err != nil {
		return &repoError{cfg.loc, cfg.endpoint, err}
	}
	m := &mounted{cfg: cfg, stack: st, loc: cfg.loc, started: time.Now()}
	if v, ok := m.view(); ok {
		m.loc.Repo, m.commit = v.Snapshot.Ref.Repo, v.Snapshot.Commit
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
		Logger: log,
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
		m.end(gone, signals, log)
		return err
	}
	defer func() { err = errors.Join(err, ctl.Close()) }()
	log.Info("mounted", "repo", m.loc.String(), "commit", m.commit, "dir", cfg.dir, "pid", os.Getpid())
	ready(m.line())
	cancel()

	select {
	case <-gone:
		log.Info("unmounted", "dir", cfg.dir)
		return nil
	case s := <-signals:
		log.Info("unmounting", "dir", cfg.dir, "signal", s.String())
	case <-ctx.Done():
		log.Info("unmounting", "dir", cfg.dir)
	}
	m.end(gone, signals, log)
	return nil
}

// rootUnlessSignalled resolves loc; a signal ends the wait.
func rootUnlessSignalled(ctx context.Context, signals <-chan os.Signal, tree *fs.Tree, loc hub.Location) (*fs.Dir, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		dir *fs.Dir
		err error
	}
	done := make(chan result, 1)
	go func() { // ends soon after cancel; the tree waits for its requests
		dir, err := tree.Root(ctx, loc)
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

// end unmounts. A mount in use is detached, so that no new file is opened;
// files that are open keep answering for drainPatience or until a second
// signal.
func (m *mounted) end(gone <-chan struct{}, signals <-chan os.Signal, log *slog.Logger) {
	err := m.server.Unmount()
	if err != nil {
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
	select {
	case <-gone:
	case <-signals:
	case <-time.After(drainPatience):
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
	if m.commit != "" {
		loc := m.loc
		loc.Revision = loc.Rev()
		what = loc.String()
		if !loc.Pinned() {
			what += " at " + m.commit.Short()
		}
	}
	return fmt.Sprintf("%s on %s, read-only (%s)", what, m.cfg.dir, m.cfg.readOnly)
}

func (m *mounted) refresh(ctx context.Context) error {
	if err := m.stack.tree.Refresh(ctx); err != nil {
		return &repoError{m.loc, m.cfg.endpoint, err}
	}
	return nil
}

func (m *mounted) status() mountStatus {
	c, r := m.stack.cache.Stats(), m.stack.client.Stats()
	pass, why := m.server.Passthrough()
	s := mountStatus{
		Mountpoint: m.cfg.dir,
		Repo:       m.loc.Repo.String(), Revision: m.loc.Rev(), Commit: string(m.commit), Path: m.loc.Path,
		ReadOnly: true, ReadOnlyReason: m.cfg.readOnly,
		PID: os.Getpid(), Version: version(), Endpoint: m.cfg.endpoint,
		Online:      r.Online && !m.cfg.offline,
		Cache:       cacheStatus{MemoryBytes: c.MemoryBytes, DiskBytes: c.DiskBytes, Hits: c.Hits, Misses: c.Misses},
		Passthrough: pass, PassthroughReason: why, ReadAheadKB: m.server.ReadAheadKB(),
		Requests:     requestStatus{API: r.API, Resolvers: r.Resolvers, Pages: r.Pages, CDN: r.CDN},
		BytesFetched: r.BytesFetched,
		State:        stateMounted, Mounted: m.started, LogFile: m.cfg.logFile,
		Views: len(m.stack.tree.Views()),
	}
	if m.loc.Repo.IsZero() {
		s.Repo, s.Revision = "hf://", ""
	}
	if v, ok := m.view(); ok {
		s.Commit = string(v.Snapshot.Commit)
		if !v.Checked.IsZero() {
			s.Checked = &v.Checked
		}
	}
	if !r.Stalled.IsZero() {
		s.StalledSince = &r.Stalled
	}
	if r.LastError != nil {
		f := explain(&repoError{m.loc, m.cfg.endpoint, r.LastError})
		s.LastError = &errorStatus{Time: r.LastErrorTime, Text: f.text, Hint: f.hint}
	}
	return s.normal()
}
