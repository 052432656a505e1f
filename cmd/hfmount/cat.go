package main

import (
	"context"

	"github.com/urfave/cli/v2"
)

func catCommand() *cli.Command {
	return &cli.Command{
		Name:      "cat",
		Usage:     "print files without a mount",
		ArgsUsage: "REPO/PATH…",
		Description: `Example:
  hfmount cat org/model/config.json | jq .hidden_size`,
		Flags: storeFlags("warn"),
		Action: func(c *cli.Context) error {
			return eachArg(c, func(ctx context.Context, t treeReader, arg string) error {
				f, loc, err := t.file(ctx, arg)
				if err != nil {
					return err
				}
				if err := copyFile(ctx, c.App.Writer, f); err != nil {
					return t.wrap(loc, err)
				}
				return nil
			})
		},
	}
}
