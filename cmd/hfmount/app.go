package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
)

const appDescription = `hfmount REPO DIR mounts a repository and returns once it answers; hfmount
unmount DIR ends it. REPO is [hf://][datasets/|spaces/]NAMESPACE/NAME[@REVISION][/PATH],
a web URL of the Hub, or hf:// alone for the whole Hub. Flags may stand before
or after the arguments, "--" ends them. Every flag can be given by the
environment as HFMOUNT_<FLAG>. Sizes are in bytes and take K M G T with an
optional i and B (K is 1000, Ki is 1024); durations are like 30s, 10m, 1h30m.

Example:
  hfmount org/model ~/model
  hfmount --read-only datasets/org/data@v1:/mnt/data
  hfmount unmount ~/model

Exit codes:
  0  done
  1  failed, nothing lost
  2  wrong usage
  3  done, but changes remain local
  4  not found
  5  no access (no token, gated, forbidden)
  6  the Hub cannot be reached
  7  a conflict: our side went to a pull request`

// run is the whole program but for the exit. It returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	err := runArgs(ctx, args, stdout, stderr)
	if err == nil {
		return exitOK
	}
	f := explain(err)
	ours := args[1:]
	if i := slices.Index(ours, "--"); i >= 0 {
		ours = ours[:i] // the rest may be another program's
	}
	if wantsJSON(ours, os.Getenv(envName("json"))) {
		_ = json.NewEncoder(stderr).Encode(f.json()) // nothing is left to tell it to
		return f.code
	}
	f.print(stderr)
	return f.code
}

// wantsJSON reports whether --json is among args, or else set by the
// environment. The flag parser may not have come that far.
func wantsJSON(args []string, env string) bool {
	for _, a := range args {
		name, value, ok := strings.Cut(a, "=")
		if name != "--json" && name != "-json" {
			continue
		}
		if !ok {
			return true
		}
		env = value
	}
	on, err := strconv.ParseBool(env)
	return err == nil && on
}

func runArgs(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if isHelperName(args[0]) {
		plain, err := helperArgs(args)
		if err != nil || plain == nil {
			return err
		}
		args = plain
	}
	app := newApp(stdout, stderr)
	arranged, err := arrange(app, args)
	if err != nil {
		return err
	}
	return app.RunContext(ctx, arranged)
}

// newApp builds the command tree. Flag values live in it, so one App serves
// one Run.
func newApp(stdout, stderr io.Writer) *cli.App {
	app := &cli.App{
		Name:                      "hfmount",
		HelpName:                  "hfmount",
		Usage:                     "mount the Hugging Face Hub as a file system",
		UsageText:                 "hfmount [mount] REPO DIR [flags]\nhfmount COMMAND [arguments] [flags]",
		Description:               appDescription,
		HideVersion:               true,
		DisableSliceFlagSeparator: true,
		Writer:                    stdout,
		ErrWriter:                 stderr,
		ExitErrHandler:            func(*cli.Context, error) {},
		Commands: []*cli.Command{
			mountCommand(), unmountCommand(), statusCommand(), refreshCommand(),
			lsCommand(), catCommand(), statCommand(), findCommand(), fetchCommand(),
			commitCommand(), runCommand(), diffCommand(), discardCommand(),
			logCommand(), revertCommand(), recoverCommand(),
			hubCommand(), doctorCommand(), versionCommand(), completionCommand(),
		},
	}
	app.OnUsageError = onUsageError
	for _, c := range app.Commands {
		c.HideHelpCommand = true
		c.OnUsageError = onUsageError
		for _, f := range c.Flags {
			addEnv(f)
		}
	}
	return app
}

func onUsageError(c *cli.Context, err error, _ bool) error {
	name := "hfmount"
	if c.Command != nil && c.Command.Name != "" && c.Command.Name != "hfmount" {
		name += " " + c.Command.Name
	}
	return &failure{text: err.Error(), hint: "see " + name + " --help", code: exitUsage, err: err}
}

// eachArg runs f on every argument, of which there must be one at least, and
// ends at the first error.
func eachArg(c *cli.Context, f func(ctx context.Context, t treeReader, arg string) error) error {
	if err := wantArgs(c, 1, -1); err != nil {
		return err
	}
	return withTree(c, func(ctx context.Context, t treeReader) error {
		for _, arg := range c.Args().Slice() {
			if err := f(ctx, t, arg); err != nil {
				return err
			}
		}
		return nil
	})
}

// onDir runs f on the one argument, a directory, for --timeout at most.
func onDir(c *cli.Context, f func(ctx context.Context, dir string) error) error {
	if err := wantArgs(c, 1, 1); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Context, c.Duration("timeout"))
	defer cancel()
	return f(ctx, c.Args().First())
}

// wantArgs checks the number of arguments; max < 0 is without limit.
func wantArgs(c *cli.Context, min, max int) error {
	n := c.Args().Len()
	if n >= min && (max < 0 || n <= max) {
		return nil
	}
	text := "too few arguments"
	if n > min {
		text = fmt.Sprintf("unexpected argument %q", c.Args().Get(max))
	}
	return &failure{text: text, hint: "usage: hfmount " + c.Command.Name + " " + c.Command.ArgsUsage, code: exitUsage}
}

func isHelperName(arg0 string) bool {
	switch filepath.Base(arg0) {
	case "mount.hfmount", "mount.fuse.hfmount":
		return true
	}
	return false
}

// errUsage is a usage failure with a formatted reason.
func errUsage(format string, a ...any) error {
	return &failure{text: fmt.Sprintf(format, a...), code: exitUsage, err: errors.New("usage")}
}
