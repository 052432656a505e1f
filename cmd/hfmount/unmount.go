package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
)

func unmountCommand() *cli.Command {
	return &cli.Command{
		Name:      "unmount",
		Aliases:   []string{"umount"},
		Usage:     "end a mount",
		ArgsUsage: "DIR",
		Description: `Returns once the process that served the mount has ended. A mount in use
is left alone, and the processes that use it are named. Also clears a mount
whose process was killed.

Example:
  hfmount unmount ~/model`,
		Flags: []cli.Flag{
			&cli.DurationFlag{Name: "timeout", Value: time.Minute, Usage: "how long to wait for the process, a `DURATION`"},
			jsonFlag(),
		},
		Action: func(c *cli.Context) error {
			return onDir(c, func(ctx context.Context, dir string) error {
				return unmount(ctx, dir, c.App.ErrWriter)
			})
		},
	}
}

// busyRetries covers those that look at every new mount for a moment.
const busyRetries = 3

func unmount(ctx context.Context, dir string, stderr io.Writer) error {
	m, ok, err := findKernelMount(dir)
	if err != nil {
		return err
	}
	if !ok {
		return &failure{text: dir + ": not a mount of hfmount", hint: "`hfmount status` lists the mounts", code: exitNotFound}
	}
	d, alive := findDaemon(m.dir)
	if !alive && stale(m.dir) {
		if err := detach(m.dir); err != nil {
			return err
		}
		removeSocket(m.dir)
		fmt.Fprintf(stderr, "hfmount: %s was left by a process that is gone; cleared\n", m.dir)
		return nil
	}
	for try := 0; ; try++ {
		err = unmountNow(m.dir)
		if !errors.Is(err, syscall.EBUSY) || try == busyRetries {
			break
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	if errors.Is(err, syscall.EBUSY) {
		hs := findHolders(m.dir)
		f := &failure{text: m.dir + ": in use by " + describeHolders(hs), hint: "end those processes or close their files, then try again", code: exitFailed, err: err}
		for _, h := range hs {
			f.hint += fmt.Sprintf("\n  %d (%s): %s", h.pid, h.name, h.path)
		}
		return f
	}
	if err != nil {
		return err
	}
	if !alive {
		return nil
	}
	if err := d.waitGone(ctx); err != nil {
		return &failure{text: fmt.Sprintf("%s is unmounted, but process %d that served it still runs", m.dir, d.pid), hint: "it ends by itself; --timeout waits longer", code: exitFailed, err: err}
	}
	return nil
}
