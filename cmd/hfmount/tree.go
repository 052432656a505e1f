package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"strings"

	"github.com/urfave/cli/v2"

	"hfmount/fs"
	"hfmount/remote/hub"
)

// withTree opens the tree for a command that reads without a mount, and runs
// fn on it.
func withTree(c *cli.Context, fn func(ctx context.Context, t treeReader) error) (err error) {
	cfg, err := readStoreConfig(c)
	if err != nil {
		return err
	}
	st, err := openStack(cfg, cfg.newLogger(c.App.ErrWriter), nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	return fn(c.Context, treeReader{cfg, st.tree})
}

// treeReader finds nodes by what a person writes.
type treeReader struct {
	cfg  storeConfig
	tree *fs.Tree
}

// node finds what arg names. A symbolic link, which a canonical or renamed
// repository is, is followed by the Hub's redirect.
func (t treeReader) node(ctx context.Context, arg string) (fs.Node, hub.Location, error) {
	loc, err := t.cfg.location(arg)
	if err != nil {
		return nil, loc, err
	}
	n, err := t.tree.Node(ctx, loc)
	if err != nil {
		return nil, loc, &repoError{loc, t.cfg.endpoint, err}
	}
	return n, loc, nil
}

func (t treeReader) wrap(loc hub.Location, err error) error {
	if err == nil {
		return nil
	}
	return &repoError{loc, t.cfg.endpoint, err}
}

// file is node for what must be a file.
func (t treeReader) file(ctx context.Context, arg string) (*fs.File, hub.Location, error) {
	n, loc, err := t.node(ctx, arg)
	if err != nil {
		return nil, loc, err
	}
	f, ok := n.(*fs.File)
	if !ok {
		return nil, loc, &failure{text: loc.String() + ": is a directory", hint: "list it with `hfmount ls`", code: exitFailed, err: fs.ErrIsDir}
	}
	return f, loc, nil
}

// printable keeps a name on its line: control characters are shown as ?.
func printable(name string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, name)
}

// below renders the path of something under arg so that it can be an argument
// again.
func below(arg, rel string) string {
	if rel == "" {
		return arg
	}
	if strings.HasSuffix(arg, "/") {
		return arg + rel
	}
	return arg + "/" + rel
}

// copyFile writes the whole of f to w.
func copyFile(ctx context.Context, w io.Writer, f *fs.File) (err error) {
	h, err := f.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	const step = 1 << 20
	for off := int64(0); off < f.Size(); {
		v, err := h.View(ctx, off, step)
		if err != nil {
			return err
		}
		n := v.Len()
		for _, s := range v.Slices() {
			if _, err := w.Write(s); err != nil {
				v.Release()
				return err
			}
		}
		v.Release()
		if n == 0 {
			return fmt.Errorf("short at %d of %d bytes: %w", off, f.Size(), io.ErrUnexpectedEOF)
		}
		off += int64(n)
	}
	return nil
}

// modeString is how ls shows a mode.
func modeString(m iofs.FileMode) string {
	if m&iofs.ModeSymlink != 0 {
		return "l" + iofs.FileMode(0o777).String()[1:]
	}
	return m.String()
}
