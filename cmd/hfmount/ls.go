package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"time"

	"github.com/urfave/cli/v2"

	"hfmount/fs"
)

func lsCommand() *cli.Command {
	return &cli.Command{
		Name:      "ls",
		Usage:     "list a folder without a mount",
		ArgsUsage: "REPO[/PATH]…",
		Description: `Example:
  hfmount ls -l org/model
  hfmount ls datasets/org/data@v1/train`,
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "long", Aliases: []string{"l"}, Usage: "mode, size in bytes and time of each"},
			&cli.BoolFlag{Name: "json", Usage: "print a JSON array of objects with name, type, size, mode and time"},
		}, storeFlags("warn")...),
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, -1); err != nil {
				return err
			}
			return withTree(c, func(ctx context.Context, t treeReader) error {
				w := bufio.NewWriter(c.App.Writer)
				for i, arg := range c.Args().Slice() {
					if c.Args().Len() > 1 && !c.Bool("json") {
						if i > 0 {
							fmt.Fprintln(w)
						}
						fmt.Fprintf(w, "%s:\n", arg)
					}
					if err := list(ctx, w, t, arg, c.Bool("long"), c.Bool("json")); err != nil {
						_ = w.Flush() // the error is what matters
						return err
					}
				}
				return w.Flush()
			})
		},
	}
}

type listedEntry struct {
	Name   string    `json:"name"`
	Type   string    `json:"type"` // file, directory or symlink
	Size   int64     `json:"size"`
	Mode   string    `json:"mode"`
	Time   time.Time `json:"time"`
	Target string    `json:"target,omitempty"`
}

func list(ctx context.Context, w io.Writer, t treeReader, arg string, long, asJSON bool) error {
	n, loc, err := t.node(ctx, arg)
	if err != nil {
		return err
	}
	entries := []listedEntry{}
	if d, ok := n.(*fs.Dir); ok {
		names, _, err := d.ReadDir(ctx)
		if err != nil {
			return t.wrap(loc, err)
		}
		for _, e := range names {
			if !long && !asJSON {
				fmt.Fprintln(w, printable(e.Name))
				continue
			}
			child, err := d.Lookup(ctx, e.Name)
			if err != nil {
				return t.wrap(loc, fmt.Errorf("%s: %w", e.Name, err))
			}
			listed, err := describe(ctx, e.Name, child)
			if err != nil {
				return t.wrap(loc, err)
			}
			entries = append(entries, listed)
		}
	} else {
		listed, err := describe(ctx, path.Base(arg), n)
		if err != nil {
			return t.wrap(loc, err)
		}
		if !long && !asJSON {
			fmt.Fprintln(w, arg)
			return nil
		}
		entries = append(entries, listed)
	}
	if asJSON {
		return json.NewEncoder(w).Encode(entries)
	}
	width := 1
	for _, e := range entries {
		width = max(width, len(fmt.Sprint(e.Size)))
	}
	for _, e := range entries {
		name := printable(e.Name)
		if e.Target != "" {
			name += " -> " + printable(e.Target)
		}
		fmt.Fprintf(w, "%s %*d %s %s\n", e.Mode, width, e.Size, e.Time.UTC().Format("2006-01-02 15:04:05"), name)
	}
	return nil
}

func describe(ctx context.Context, name string, n fs.Node) (listedEntry, error) {
	a, err := n.Attr(ctx)
	if err != nil {
		return listedEntry{}, err
	}
	e := listedEntry{Name: name, Type: "file", Size: a.Size, Mode: modeString(a.Mode), Time: a.Mtime.UTC()}
	switch n := n.(type) {
	case *fs.Dir:
		e.Type = "directory"
	case *fs.Symlink:
		e.Type, e.Target = "symlink", n.Target()
	}
	return e, nil
}
