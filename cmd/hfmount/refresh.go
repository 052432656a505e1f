package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/urfave/cli/v2"
)

func refreshCommand() *cli.Command {
	return &cli.Command{
		Name:      "refresh",
		Usage:     "look now whether the branch of a mount has moved",
		ArgsUsage: "DIR",
		Description: `Returns when the mount shows the newest commit, and says which that is.

Example:
  hfmount refresh ~/model`,
		Flags: []cli.Flag{
			&cli.DurationFlag{Name: "timeout", Value: time.Minute, Usage: "how long to wait for the Hub, a `DURATION`"},
			jsonFlag(),
		},
		Action: func(c *cli.Context) error {
			return onDir(c, func(ctx context.Context, dir string) error {
				return refresh(ctx, dir, c.App.Writer)
			})
		},
	}
}

func refresh(ctx context.Context, dir string, stdout io.Writer) error {
	d, err := daemonOf(dir)
	if err != nil {
		return err
	}
	old, err := d.status(ctx)
	if err != nil {
		return err
	}
	var now mountStatus
	if err := d.do(ctx, http.MethodPost, "/refresh", &now); err != nil {
		return err
	}
	switch {
	case now.Commit == "":
		fmt.Fprintf(stdout, "%s: looked at %d revisions\n", now.Repo, now.Views)
	case now.Commit == old.Commit:
		fmt.Fprintf(stdout, "%s is at %s, unchanged\n", now.Repo, now.Commit)
	default:
		fmt.Fprintf(stdout, "%s is at %s, was %s\n", now.Repo, now.Commit, old.Commit)
	}
	return nil
}

// daemonOf finds the process that serves the mount dir is in.
func daemonOf(dir string) (daemon, error) {
	m, ok, err := findKernelMount(dir)
	if err != nil {
		return daemon{}, err
	}
	if !ok {
		return daemon{}, &failure{text: dir + ": not a mount of hfmount", hint: "`hfmount status` lists the mounts", code: exitNotFound}
	}
	d, ok := findDaemon(m.dir)
	if !ok {
		f := &failure{text: m.dir + ": its process does not answer, or is another user's", code: exitFailed}
		if stale(m.dir) {
			f.text = m.dir + ": its process is gone"
			f.hint = "clear it with `hfmount unmount " + m.dir + "`"
		}
		return daemon{}, f
	}
	return d, nil
}
