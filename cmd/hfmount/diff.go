package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"

	"github.com/urfave/cli/v2"
)

func diffCommand() *cli.Command {
	return &cli.Command{
		Name:      "diff",
		Usage:     "list what is pending in a mount, as `git status --short` would",
		ArgsUsage: "DIR",
		Description: `One line for each path that is not on the Hub: A added, M modified, D deleted,
R renamed. DIR may also be a folder or file in the mount. hfmount status says
what each waits for. --json has, for each path, op (add, modify, delete, rename),
size in bytes, state and reason; the old path of a rename stands there too, as a
delete with moved set.

Example:
  hfmount diff ~/model
  hfmount diff --json ~/model | jq -r '.[].path'`,
		Flags: []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, 1); err != nil {
				return err
			}
			p, err := placeOf(c.Args().First())
			if err != nil {
				return err
			}
			changes, err := p.changes(c.Context, p.rel)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return writeJSON(c.App.Writer, changes)
			}
			return printShort(c.App.Writer, changes)
		},
	}
}

func printShort(w io.Writer, changes []changeStatus) error {
	for _, c := range shown(changes) {
		if _, err := fmt.Fprintln(w, c.short()); err != nil {
			return err
		}
	}
	return nil
}

// changes are the pending changes at and beneath a path.
func (p place) changes(ctx context.Context, rel string) ([]changeStatus, error) {
	out := []changeStatus{}
	err := p.post(ctx, "/changes", rel, &out)
	return out, err
}

func discardCommand() *cli.Command {
	return &cli.Command{
		Name:      "discard",
		Usage:     "drop pending changes: the mount shows again what the Hub has",
		ArgsUsage: "PATH…",
		Description: `Drops what is pending at and beneath each PATH, after it asked. Files that are
open for writing must be closed first. What is committed already is not touched:
see hfmount revert.

Example:
  hfmount discard ~/model/checkpoint-500
  hfmount discard --yes ~/model          # all of it`,
		Flags: []cli.Flag{&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask"}},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, -1); err != nil {
				return err
			}
			p, rels, err := placesOf(c.Args().Slice())
			if err != nil {
				return err
			}
			return discard(c.Context, p, rels, c.Bool("yes"), c.App.Writer, c.App.ErrWriter)
		},
	}
}

// discard drops exactly the changes that it showed: what is made meanwhile
// stays.
func discard(ctx context.Context, p place, rels []string, yes bool, stdout, stderr io.Writer) error {
	if err := p.writable(ctx); err != nil {
		return err
	}
	var drop []changeStatus
	seen := map[string]bool{}
	for _, rel := range rels {
		changes, err := p.changes(ctx, rel)
		if err != nil {
			return err
		}
		for _, c := range changes {
			if !seen[c.Path] {
				seen[c.Path] = true
				drop = append(drop, c)
			}
		}
	}
	var paths []string
	for _, c := range drop {
		paths = append(paths, c.Path)
	}
	if len(drop) == 0 {
		// What is local only is not pending, but may be named.
		for _, rel := range rels {
			if rel != "" {
				paths = append(paths, path.Clean(rel))
			}
		}
		if len(paths) == 0 {
			fmt.Fprintln(stderr, "hfmount: nothing is pending")
			return nil
		}
		for _, rel := range paths {
			fmt.Fprintf(stdout, "   %s\n", printable(rel))
		}
	} else if err := printShort(stdout, drop); err != nil {
		return err
	}
	if err := confirm(os.Stdin, stderr, "Drop "+count(len(paths), "change")+" for good?", yes); err != nil {
		return err
	}
	return p.post(ctx, "/discard", paths, nil)
}
