package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
)

func unmountCommand() *cli.Command {
	return &cli.Command{
		Name:      "unmount",
		Aliases:   []string{"umount"},
		Usage:     "end a mount, once its changes are on the Hub",
		ArgsUsage: "DIR",
		Description: `Unmounts, then returns when what may be committed is on the Hub and the process
that served the mount has ended; on a terminal it shows what it waits for. A Hub
that cannot be reached is given up after 30s. A mount in use is left alone, and
the processes that use it are named. What is held, in conflict or out of time
stays in the journal and is named (exit code 3); the next mount continues with
it. Also clears a mount whose process was killed.

Example:
  hfmount unmount ~/model
  hfmount unmount --timeout 5m ~/model   # what is not sent by then stays local`,
		Flags: []cli.Flag{
			&cli.DurationFlag{Name: "timeout", DefaultText: "no limit while the Hub answers", Usage: "how long changes may be sent, a `DURATION`; 0 is no limit"},
			jsonFlag(),
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, 1); err != nil {
				return err
			}
			if c.Duration("timeout") < 0 {
				return errUsage("--timeout must not be negative")
			}
			ctx, stop := signal.NotifyContext(c.Context, syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			return unmount(ctx, c.Args().First(), c.Duration("timeout"), c.Bool("json"), c.App.Writer, c.App.ErrWriter)
		},
	}
}

const (
	// busyRetries covers those that look at every new mount for a moment.
	busyRetries = 3
	// endPatience is how long a process may take to end when nothing is left to
	// send, and how long to stop sending when it is told to.
	endPatience = time.Minute
)

func unmount(ctx context.Context, dir string, timeout time.Duration, asJSON bool, stdout, stderr io.Writer) error {
	m, ok, err := findKernelMount(dir)
	if err != nil {
		return err
	}
	if !ok {
		if d, dir, ok := findDraining(ctx, dir); ok {
			return awaitDrain(ctx, d, dir, timeout, asJSON, stdout, stderr, func() error { return nil })
		}
		return &failure{text: dir + ": not a mount of hfmount", hint: "`hfmount status` lists the mounts", code: exitNotFound}
	}
	// Nobody is left to tell what was sent; programs get an outcome all the same.
	unknown := func() error {
		if asJSON {
			return writeJSON(stdout, outcome{Commits: []commitStatus{}, Left: []changeStatus{}})
		}
		return nil
	}
	d, alive := findDaemon(m.dir)
	if !alive && stale(m.dir) {
		if err := detach(m.dir); err != nil {
			return err
		}
		removeSocket(m.dir)
		fmt.Fprintf(stderr, "hfmount: %s was left by a process that is gone; cleared. `hfmount recover` lists what it did not send\n", m.dir)
		return unknown()
	}
	if !alive {
		if err := unmountUnlessBusy(ctx, m.dir, nil); err != nil {
			return err
		}
		return unknown()
	}
	return awaitDrain(ctx, d, m.dir, timeout, asJSON, stdout, stderr, func() error {
		// The kernel drops what it did not tell yet about closed files.
		var writers []holderStatus
		if err := d.post(ctx, "/settle", nil, &writers); err != nil && ctx.Err() == nil {
			fmt.Fprintf(stderr, "hfmount: %v\n", err) // it hangs; the mount can end all the same
		}
		return unmountUnlessBusy(ctx, m.dir, writers)
	})
}

// unmountUnlessBusy unmounts, or names those that use the mount. writers are
// those the mount knows of: /proc shows only this user's processes.
func unmountUnlessBusy(ctx context.Context, dir string, writers []holderStatus) error {
	var err error
	for try := 0; ; try++ {
		err = unmountNow(dir)
		if !errors.Is(err, syscall.EBUSY) || try == busyRetries {
			break
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	if errors.Is(err, syscall.EBUSY) {
		hs := findHolders(dir)
		for _, w := range writers {
			if w.PID > 0 && !slices.ContainsFunc(hs, func(h holder) bool { return h.pid == w.PID }) {
				hs = append(hs, holder{pid: w.PID, name: programName(w.PID), path: filepath.Join(dir, w.Path)})
			}
		}
		f := &failure{text: dir + ": in use by " + describeHolders(hs), hint: "end those processes or close their files, then try again", code: exitFailed, err: err}
		for _, h := range hs {
			f.hint += fmt.Sprintf("\n  %d (%s): %s", h.pid, h.name, h.path)
		}
		return f
	}
	return err
}

// awaitDrain follows the end of a mount that unmount brings about.
func awaitDrain(ctx context.Context, d daemon, dir string, timeout time.Duration, asJSON bool, stdout, stderr io.Writer, unmount func() error) error {
	follow, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		outcome outcome
		err     error
	}
	done := make(chan result, 1)
	following := make(chan struct{}, 1)
	b := newBar(stderr)
	defer b.close()
	if timeout > 0 {
		b.until = time.Now().Add(timeout)
	}
	go func() { // ends with the process it follows, or with cancel
		o, err := d.follow(follow, "/drain", nil, func(p progress) {
			select {
			case following <- struct{}{}:
			default:
			}
			b.show(p)
		})
		done <- result{o, err}
	}()
	var res result
	finished := false
	// Whoever is followed before the end of the mount hears of all of it.
	select {
	case <-following:
	case res = <-done:
		finished = true
	case <-time.After(statusPatience):
	case <-ctx.Done():
		return context.Canceled
	}
	if err := unmount(); err != nil {
		return err
	}
	var deadline <-chan time.Time
	if timeout > 0 {
		deadline = time.After(timeout)
	}
	for !finished {
		select {
		case res = <-done:
			finished = true
		case <-deadline:
			deadline = nil
			yield, cancelYield := context.WithTimeout(ctx, endPatience)
			if d.moved().post(yield, "/yield", nil, nil) != nil {
				_ = d.post(yield, "/yield", nil, nil) // by either name; if by none, it has ended
			}
			cancelYield()
			stop := time.AfterFunc(endPatience, cancel)
			defer stop.Stop()
		case <-ctx.Done():
			return &failure{text: "interrupted", code: exitFailed, err: ctx.Err(),
				hint: fmt.Sprintf("%s is unmounted; process %d goes on sending its changes, `hfmount status` shows how far it is", dir, d.pid)}
		}
	}
	gone, cancelGone := context.WithTimeout(ctx, endPatience)
	defer cancelGone()
	if err := d.waitGone(gone); err != nil {
		return &failure{text: fmt.Sprintf("%s is unmounted, but process %d that served it still runs", dir, d.pid), hint: "it ends by itself, or is told to with `kill`", code: exitFailed, err: err}
	}
	b.close()
	if res.err != nil {
		return &failure{text: dir + " is unmounted, but whether its changes are on the Hub is not known: " + res.err.Error(), code: exitLocal, err: res.err,
			hint: "`hfmount recover` lists what is left"}
	}
	if left := res.outcome.stillLocal(); len(left) > 0 {
		if asJSON {
			if err := writeJSON(stdout, res.outcome); err != nil {
				return err
			}
		}
		return leftBehind(res.outcome, res.outcome.StateDir)
	}
	return res.outcome.tell(stdout, asJSON)
}

// moved is d by the name that its socket has once the mount is gone.
func (d daemon) moved() daemon {
	return daemon{socket: strings.TrimSuffix(d.socket, ".sock") + "." + strconv.Itoa(d.pid) + ".sock", pid: d.pid}
}

// findDraining finds a process that still sends what a mount on dir left.
func findDraining(ctx context.Context, dir string) (daemon, string, bool) {
	abs, err := realDir(dir)
	if err != nil {
		return daemon{}, "", false
	}
	mounts, err := kernelMounts()
	if err != nil {
		return daemon{}, "", false
	}
	for _, d := range listDaemons(mounts) {
		if s, err := d.status(ctx); err == nil && s.State == stateDraining && s.Mountpoint == abs {
			return d, abs, true
		}
	}
	return daemon{}, "", false
}
