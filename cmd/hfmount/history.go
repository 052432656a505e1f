package main

import (
	"context"
	"fmt"
	"io"
	"os/signal"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
)

func logCommand() *cli.Command {
	return &cli.Command{
		Name:      "log",
		Usage:     "list the last commits of the mounted branch",
		ArgsUsage: "DIR",
		Description: `Newest first; those that hfmount made are marked. In a mount of the whole Hub, DIR is a repository in it.

Example:
  hfmount log ~/model
  hfmount log -n 100 --json ~/model | jq -r '.[].id'`,
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "number", Aliases: []string{"n"}, Value: 20, Usage: "at most `N` commits"},
			jsonFlag(),
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, 1); err != nil {
				return err
			}
			if c.Int("number") <= 0 {
				return errUsage("--number must be above zero")
			}
			p, err := placeOf(c.Args().First())
			if err != nil {
				return err
			}
			commits := []commitStatus{}
			if err := p.post(c.Context, "/log", logRequest{Path: p.rel, Limit: c.Int("number")}, &commits); err != nil {
				return err
			}
			if c.Bool("json") {
				return writeJSON(c.App.Writer, commits)
			}
			return printLog(c.App.Writer, commits)
		},
	}
}

func printLog(w io.Writer, commits []commitStatus) error {
	for _, c := range commits {
		mark := ""
		if c.Batch != "" {
			mark = "  (hfmount)"
		}
		if _, err := fmt.Fprintf(w, "%.7s  %s  %s%s\n", c.ID, c.Time.Local().Format(time.DateTime), printable(c.Message), mark); err != nil {
			return err
		}
	}
	return nil
}

func revertCommand() *cli.Command {
	return &cli.Command{
		Name:      "revert",
		Usage:     "make a new commit that restores old content",
		ArgsUsage: "DIR|PATH…",
		Description: `Restores each PATH, or all of DIR, to what it was at --to, by default before the
last commit. History stays; large files are taken by their hash, so that
nothing is uploaded. Pending changes of those paths must be committed or
discarded first.

Example:
  hfmount revert ~/model                          # undo the last commit
  hfmount revert --to 1f3a9c2 ~/model/config.json`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "to", Usage: "`COMMIT` to restore, its first digits are enough (default: the parent of the last)"},
			jsonFlag(),
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, -1); err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(c.Context, syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			p, rels, err := placesOf(c.Args().Slice())
			if err != nil {
				return err
			}
			return revert(ctx, p, revertRequest{Paths: rels, To: c.String("to")}, c.Bool("json"), c.App.Writer, c.App.ErrWriter)
		},
	}
}

func revert(ctx context.Context, p place, r revertRequest, asJSON bool, stdout, stderr io.Writer) error {
	if err := p.writable(ctx); err != nil {
		return err
	}
	o, err := p.followWithBar(ctx, "/revert", r, stderr)
	if err != nil {
		return err
	}
	if len(o.Commits) == 0 && len(o.Left) == 0 && !asJSON {
		fmt.Fprintln(stderr, "hfmount: nothing to restore, it is like that already")
	}
	return o.tell(stdout, asJSON)
}
