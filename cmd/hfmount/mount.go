package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
)

func mountCommand() *cli.Command {
	flags := append([]cli.Flag{
		&cli.BoolFlag{Name: "foreground", Aliases: []string{"f"}, Usage: "stay in the foreground, log to standard error, unmount on SIGINT or SIGTERM"},
		&cli.BoolFlag{Name: "read-only", Usage: "never write, even where that is permitted"},
		&cli.DurationFlag{Name: "refresh", Value: 30 * time.Second, Usage: "how often to look whether the branch moved, a `DURATION`; 0 is never"},
		&cli.BoolFlag{Name: "allow-other", Usage: "let other users in; ordinary users need user_allow_other in /etc/fuse.conf"},
		&cli.IntFlag{Name: "uid", Value: -1, DefaultText: "yours", Usage: "numeric `ID` of the owner of all files"},
		&cli.IntFlag{Name: "gid", Value: -1, DefaultText: "yours", Usage: "numeric `ID` of the group of all files"},
		&cli.StringFlag{Name: "umask", Value: "0", Usage: "permission bits to take away, in `OCTAL`"},
		&cli.StringFlag{Name: "open-mode", Value: "auto", Usage: "auto, or noopen: no request per open, for mounts of many small files"},
		&cli.BoolFlag{Name: "nonempty", Usage: "hide what is in DIR instead of refusing"},
		&cli.StringFlag{Name: "log-file", Usage: "`FILE` the background process logs to (default: one per mount in the runtime directory)"},
	}, append(writeFlags(), storeFlags("info")...)...)
	return &cli.Command{
		Name:      "mount",
		Usage:     "mount a repository, a folder of one, or the whole Hub (the default command)",
		ArgsUsage: "REPO DIR | REPO:/DIR[:ro|:rw]",
		Description: `Returns once the mount answers, after one line that says what is mounted, at
which commit, and whether, where and when changes are committed. A branch that
the token may write is writable: files that are closed become commits by
themselves. The whole Hub, tags and commits are read-only unless --rw says
otherwise (of the whole Hub). hfmount status shows what is not on the Hub yet.

-o name=value,name sets the same flags. Called as mount.hfmount it is a helper
of mount(8), so that fstab works.

Example:
  hfmount org/model ~/model
  hfmount org/model ~/model --commit manual        # commit with hfmount commit
  hfmount other/model ~/model --create-pr          # where you may not push
  hfmount datasets/org/data@v1 /mnt/data --refresh 5m --cache-size 100G
  hfmount hf:// ~/hub --rw='me/*'`,
		Flags: flags,
		Action: func(c *cli.Context) error {
			cfg, err := readMountConfig(c)
			if err != nil {
				return err
			}
			return mount(c.Context, cfg, c.App.Writer, c.App.ErrWriter)
		},
	}
}

// mount does one of three things: serve in the foreground, serve as the
// background process that a parent waits for, or be that parent.
func mount(ctx context.Context, cfg mountConfig, stdout, stderr io.Writer) error {
	if pipe, ok := readyPipe(); ok {
		return serveBackground(ctx, cfg, pipe, stderr)
	}
	if err := os.MkdirAll(cfg.cacheDir, 0o700); err == nil { // an error is told by who opens the cache
		if kind := unfitForCache(cfg.cacheDir); kind != "" {
			fmt.Fprintf(stderr, "hfmount: warning: the cache, %s, is %s; --cache-dir names another\n", cfg.cacheDir, kind)
		}
	}
	if cfg.foreground {
		w := stderr
		if cfg.logFile != "" {
			f, err := openLog(cfg.logFile)
			if err != nil {
				return err
			}
			defer f.Close()
			w = f
		}
		return serve(ctx, cfg, cfg.newLogger(w), func(line string) { fmt.Fprintln(stdout, line) })
	}
	// What can be told without the child is told without it.
	dir, err := checkDir(cfg.dir, cfg.nonEmpty)
	if err != nil {
		return err
	}
	cfg.dir = dir
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	return startBackground(ctx, cfg, stdout)
}

// openLog opens a log for appending; a large one is set aside first, so that
// a mount that is renewed for years does not fill the disk.
func openLog(path string) (*os.File, error) {
	const large = 16 << 20
	if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Size() > large {
		if err := os.Rename(path, path+".old"); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, &failure{text: "the log file cannot be opened: " + err.Error(), hint: "name another with --log-file", code: exitFailed, err: err}
	}
	return f, nil
}

// logPath is where a background mount logs unless told otherwise.
func (cfg mountConfig) logPath() (string, error) {
	if cfg.logFile != "" {
		return cfg.logFile, nil
	}
	dir, err := makeRuntimeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, mountKey(cfg.dir)+".log"), nil
}
