package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/urfave/cli/v2"
)

func statCommand() *cli.Command {
	return &cli.Command{
		Name:      "stat",
		Usage:     "show size, time, hashes and address of a file or folder without a mount",
		ArgsUsage: "REPO[/PATH]…",
		Description: `Example:
  hfmount stat org/model/model.safetensors`,
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "json", Usage: "print one JSON object for each"},
		}, storeFlags("warn")...),
		Action: func(c *cli.Context) error {
			return eachArg(c, func(ctx context.Context, t treeReader, arg string) error {
				return stat(ctx, c.App.Writer, t, arg, c.Bool("json"))
			})
		},
	}
}

type statAnswer struct {
	listedEntry
	Inode uint64 `json:"inode"`
	// Attributes are the extended attributes of the mounted file.
	Attributes map[string]string `json:"attributes"`
}

func stat(ctx context.Context, w io.Writer, t treeReader, arg string, asJSON bool) error {
	n, loc, err := t.node(ctx, arg)
	if err != nil {
		return err
	}
	e, err := describe(ctx, loc.String(), n)
	if err != nil {
		return t.wrap(loc, err)
	}
	attrs, err := n.Xattrs(ctx)
	if err != nil {
		return t.wrap(loc, err)
	}
	if asJSON {
		return json.NewEncoder(w).Encode(statAnswer{e, n.Ino(), attrs})
	}
	fmt.Fprintf(w, "%s\n  %-22s%s\n  %-22s%d\n  %-22s%s\n  %-22s%s\n  %-22s%d\n", e.Name,
		"type", e.Type, "size", e.Size, "mode", e.Mode, "modified", e.Time.Format(time.RFC3339), "inode", n.Ino())
	for _, k := range slices.Sorted(maps.Keys(attrs)) {
		if _, err := fmt.Fprintf(w, "  %-22s%s\n", k, printable(attrs[k])); err != nil {
			return err
		}
	}
	return nil
}
