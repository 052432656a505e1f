package main

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"hfmount/writeback"
)

const (
	// eventBacklog bounds what waits for a slow --on-event command.
	eventBacklog = 64
	// eventPatience is how long one run of it may take, and how long the end of
	// the mount waits for all that are left.
	eventPatience = 30 * time.Second
	// eventPaths bounds the paths one run is told, so that they fit into the
	// environment.
	eventPaths = 1000
)

// events tells a command of the user's what happens. Telling never blocks: when
// the command is too slow, the oldest event is lost, and the log says so.
type events struct {
	command string // "" is nobody to tell
	dir     string // of the mount
	log     *slog.Logger
	queue   chan writeback.Event
	running sync.WaitGroup

	mu     sync.Mutex // guards closed, and sends with it
	closed bool
}

// newEvents starts the teller. The caller closes it.
func newEvents(command, dir string, log *slog.Logger) *events {
	e := &events{command: command, dir: dir, log: log, queue: make(chan writeback.Event, eventBacklog)}
	if command != "" {
		e.running.Go(func() {
			for ev := range e.queue {
				e.run(ev)
			}
		})
	}
	return e
}

// tell passes an event on. It is safe for concurrent use, and does nothing
// after close.
func (e *events) tell(ev writeback.Event) {
	level := slog.LevelInfo
	if ev.Kind != "committed" {
		level = slog.LevelWarn
	}
	e.log.Log(context.Background(), level, ev.Kind, "text", ev.Text, "hint", ev.Hint, "url", ev.URL, "paths", len(ev.Paths))
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.command == "" || e.closed {
		return
	}
	for {
		select {
		case e.queue <- ev:
			return
		default:
		}
		select {
		case lost := <-e.queue:
			e.log.Warn("--on-event is too slow; an event is lost", "event", lost.Kind, "text", lost.Text)
		default:
		}
	}
}

// run runs the command once. A shell of its own process group ends with all
// that it started.
func (e *events) run(ev writeback.Event) {
	ctx, cancel := context.WithTimeout(context.Background(), eventPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", e.command)
	paths := ev.Paths
	if len(paths) > eventPaths {
		paths = paths[:eventPaths]
	}
	cmd.Env = append(os.Environ(),
		"HFMOUNT_EVENT="+ev.Kind, "HFMOUNT_TEXT="+noNUL(ev.Text), "HFMOUNT_HINT="+noNUL(ev.Hint),
		"HFMOUNT_PATHS="+noNUL(strings.Join(paths, "\n")), "HFMOUNT_URL="+noNUL(ev.URL), "HFMOUNT_MOUNTPOINT="+e.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		e.log.Warn("--on-event failed", "event", ev.Kind, "err", err, "output", strings.TrimSpace(string(out)))
	}
}

// noNUL keeps text from ending an environment variable early.
func noNUL(s string) string { return strings.ReplaceAll(s, "\x00", "?") }

// close waits, for eventPatience at most, until what was told is passed on.
func (e *events) close() {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return
	}
	e.closed = true
	close(e.queue)
	e.mu.Unlock()
	done := make(chan struct{})
	go func() { // ends when the last run does, each of which is bounded
		e.running.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(eventPatience):
		e.log.Warn("--on-event has not heard of everything")
	}
}
