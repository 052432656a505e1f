package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// finish is the end of a mount, for those who wait for it.
type finish struct {
	drainStarted chan struct{} // closed when the mount is gone
	done         chan struct{} // closed when result is set
	yielded      chan struct{} // closed to give up draining
	result       outcome
	once         sync.Once // of yielded
}

func newFinish() *finish {
	return &finish{drainStarted: make(chan struct{}), done: make(chan struct{}), yielded: make(chan struct{})}
}

func (f *finish) state() string {
	select {
	case <-f.drainStarted:
		return stateDraining
	default:
		return stateMounted
	}
}

// yield gives up draining, now or when it comes to that.
func (f *finish) yield() { f.once.Do(func() { close(f.yielded) }) }

// drained returns what was done once the mount is gone and nothing more is
// tried.
func (f *finish) drained(ctx context.Context) (outcome, error) {
	select {
	case <-f.done:
		return f.result, nil
	case <-ctx.Done():
		return outcome{}, ctx.Err()
	}
}

// sendRest drains what the mount left. The locks are held meanwhile, the
// control socket answers under a name of its own, and a signal or a yield ends
// it. Files that are still open, of a mount that was detached, have
// drainPatience to be closed; what is finished is sent meanwhile. What stays
// local is a failure, and in the journal.
func (m *mounted) sendRest(ctx context.Context, gone <-chan struct{}, ctl *control, signals <-chan os.Signal, log *slog.Logger) error {
	close(m.drainStarted)
	cutOff := time.After(drainPatience)
	if err := ctl.move(strings.TrimSuffix(ctl.path, ".sock") + "." + strconv.Itoa(os.Getpid()) + ".sock"); err != nil {
		log.Warn("the next mount of this directory has to wait for the end of this process", "err", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watched := make(chan struct{})
	go func() { // ends with ctx
		defer close(watched)
		select {
		case s := <-signals:
			log.Warn("giving up sending changes", "signal", s.String())
		case <-m.yielded:
			log.Info("leaving changes to another process")
		case <-ctx.Done():
		}
		cancel()
	}()
	inUse := false
	select {
	case <-gone:
	default:
		inUse = true
	}
	m.result = m.drain(ctx)
	if inUse {
		select {
		case <-gone:
		case <-cutOff:
			log.Warn("files are cut off that are still open", "held_by", describeHolders(findHolders(m.cfg.dir)))
		case <-ctx.Done():
		}
		earlier := m.result
		m.result = m.drain(ctx)
		m.result.Commits = append(earlier.Commits, m.result.Commits...)
		if m.result.PullRequest == "" {
			m.result.PullRequest = earlier.PullRequest
		}
	}
	m.result.StateDir = filepath.Clean(m.cfg.write.stateDir)
	cancel()
	<-watched
	left := m.result.stillLocal()
	log.Info("drained", "commits", len(m.result.Commits), "left", len(left), "gave_up", m.result.GaveUp)
	close(m.done)
	if len(left) == 0 {
		return nil
	}
	return leftBehind(m.result, m.result.StateDir)
}

// leftBehind is the failure of a mount that ended with changes that are not on
// the Hub.
func leftBehind(o outcome, stateDir string) *failure {
	left := o.stillLocal()
	f := &failure{text: count(len(left), "change") + " not on the Hub; the journal in " + stateDir + " keeps them", code: exitLocal,
		hint: listChanges(left) + "the next mount continues with them; `hfmount recover` lists, sends, exports or discards them"}
	if o.GaveUp != "" {
		f.text += " (" + o.GaveUp + ")"
	}
	return f
}
