package main

import (
	"bufio"
	"context"
	"io"
	iofs "io/fs"
	"path"
	"strings"

	"github.com/urfave/cli/v2"

	"hfmount/fs"
)

func findCommand() *cli.Command {
	return &cli.Command{
		Name:      "find",
		Usage:     "list everything below a folder without a mount",
		ArgsUsage: "REPO[/PATH]…",
		Description: `Prints one name a line, each of which can be an argument of cat, stat and ls.

Example:
  hfmount find org/model -name '*.json' -type f`,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "name", Usage: "only what the last component of the name matches, a `GLOB`"},
			&cli.StringFlag{Name: "type", Usage: "only files (f), directories (d) or symbolic links (l)"},
			&cli.BoolFlag{Name: "print0", Usage: "end each name with NUL instead of a newline"},
		}, storeFlags("warn")...),
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, -1); err != nil {
				return err
			}
			f := finder{glob: c.String("name"), end: "\n"}
			if c.Bool("print0") {
				f.end = "\x00"
			}
			if _, err := path.Match(f.glob, ""); err != nil {
				return errUsage("-name %q is not a pattern", f.glob)
			}
			switch t := c.String("type"); t {
			case "", "f", "d", "l":
				f.kind = t
			default:
				return errUsage("-type %q: it is f, d or l", t)
			}
			return withTree(c, func(ctx context.Context, t treeReader) error {
				w := bufio.NewWriter(c.App.Writer)
				for _, arg := range c.Args().Slice() {
					if err := f.walk(ctx, w, t, arg); err != nil {
						_ = w.Flush() // the error is what matters
						return err
					}
				}
				return w.Flush()
			})
		},
	}
}

// finder is what find looks for.
type finder struct {
	glob, kind, end string
}

func (f finder) matches(name string, mode iofs.FileMode) bool {
	kind := "f"
	switch {
	case mode.IsDir():
		kind = "d"
	case mode&iofs.ModeSymlink != 0:
		kind = "l"
	}
	if f.kind != "" && f.kind != kind {
		return false
	}
	if f.glob == "" {
		return true
	}
	ok, _ := path.Match(f.glob, name) // the pattern was checked
	return ok
}

// walk prints arg and what is below it. Symbolic links are not followed.
func (f finder) walk(ctx context.Context, w io.Writer, t treeReader, arg string) error {
	n, loc, err := t.node(ctx, arg)
	if err != nil {
		return err
	}
	if f.matches(path.Base(strings.TrimSuffix(arg, "/")), n.Mode()) {
		if _, err := io.WriteString(w, arg+f.end); err != nil {
			return err
		}
	}
	d, ok := n.(*fs.Dir)
	if !ok {
		return nil
	}
	return t.wrap(loc, f.descend(ctx, w, d, arg))
}

func (f finder) descend(ctx context.Context, w io.Writer, d *fs.Dir, prefix string) error {
	entries, _, err := d.ReadDir(ctx)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := below(prefix, e.Name)
		if f.matches(e.Name, e.Mode) {
			if _, err := io.WriteString(w, name+f.end); err != nil {
				return err
			}
		}
		if !e.Mode.IsDir() {
			continue
		}
		n, err := d.Lookup(ctx, e.Name)
		if err != nil {
			return err
		}
		if sub, ok := n.(*fs.Dir); ok {
			if err := f.descend(ctx, w, sub, name); err != nil {
				return err
			}
		}
	}
	return nil
}
