package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"
)

func commitCommand() *cli.Command {
	return &cli.Command{
		Name:      "commit",
		Usage:     "commit what is pending in a mount, now",
		ArgsUsage: "DIR",
		Description: `Commits every file whose close returned before, prints the commit's URL, and
returns when it is on the Hub. A file that is still open stays local and is
named (exit code 3), as is what the guard holds. Exits with 7 if our side of a
conflict went to a pull request. Nothing pending is no error. In a mount of the
whole Hub, DIR may be one repository.

Example:
  hfmount commit ~/model -m "Train two more epochs"
  hfmount commit --yes ~/model   # what the guard holds, too`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "message", Aliases: []string{"m"}, Usage: "`TEXT` of the commit's title (default: what changed)"},
			&cli.StringFlag{Name: "description", Usage: "`TEXT` of the commit's description"},
			&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "also what the guard holds: mass deletions, very large batches, what looks like a secret"},
			jsonFlag(),
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, 1); err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(c.Context, syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			p, err := placeOf(c.Args().First())
			if err != nil {
				return err
			}
			if err := p.writable(ctx); err != nil {
				return err
			}
			req := commitRequest{Path: p.rel, Message: c.String("message"), Description: c.String("description"), Yes: c.Bool("yes")}
			o, err := p.followWithBar(ctx, "/commit", req, c.App.ErrWriter)
			if err != nil {
				return err
			}
			if len(o.Commits) == 0 && len(o.Left) == 0 && !c.Bool("json") {
				fmt.Fprintln(c.App.ErrWriter, "hfmount: nothing is pending")
			}
			return o.tell(c.App.Writer, c.Bool("json"))
		},
	}
}

// followWithBar follows a request and shows progress on a terminal.
func (p place) followWithBar(ctx context.Context, path string, in any, stderr io.Writer) (outcome, error) {
	b := newBar(stderr)
	defer b.close()
	return p.follow(ctx, path, in, b.show)
}

// writeJSON prints one value as a program reads it.
func writeJSON(w io.Writer, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", b)
	return err
}
