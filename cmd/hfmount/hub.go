package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"hfmount/remote/hub"
	"hfmount/remote/hubtest"
)

func hubCommand() *cli.Command {
	return &cli.Command{
		Name:      "hub",
		Usage:     "run a local Hub, for tests, demonstrations and work without a network",
		ArgsUsage: " ",
		Description: `Prints HF_ENDPOINT=http://HOST:PORT once it answers and every --import is
published, then logs to standard error until SIGTERM. The data directory holds
bare git repositories and LFS objects by SHA-256.

Example:
  hfmount hub --data ./hub --import demo/model=./model
  HF_ENDPOINT=http://127.0.0.1:8765 HF_TOKEN=hf_local hf upload local/new .`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "listen", Value: "127.0.0.1:8765", Usage: "`HOST:PORT` of the Hub; port 0 picks one"},
			&cli.StringFlag{Name: "cdn-listen", Value: "127.0.0.1:0", Usage: "`HOST:PORT` of its CDN"},
			&cli.StringFlag{Name: "data", Usage: "`DIR` to keep everything in, or :memory: (required)"},
			&cli.StringSliceFlag{Name: "import", Usage: "publish a folder on main of a public repository, as `REPO=FOLDER` (repeatable)"},
			&cli.StringSliceFlag{Name: "user", Usage: "an account, as `NAME:TOKEN` (repeatable; default local:hf_local)"},
			&cli.DurationFlag{Name: "latency", Usage: "delay of each answer, a `DURATION` (default: none)"},
			&cli.GenericFlag{Name: "bandwidth", Value: &sizeValue{rate: true, auto: "no limit"}, Usage: "most bytes a second for each connection, as `SIZE/s`"},
			&cli.BoolFlag{Name: "quotas", Usage: "enforce the rate limits of the real Hub"},
			&cli.BoolFlag{Name: "admin", Usage: "open /_hub/ to tests: counters, faults, shaping; it needs no token"},
			&cli.StringFlag{Name: "log-level", Value: "info", Usage: "debug, info, warn or error"},
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 0, 0); err != nil {
				return err
			}
			cfg, err := readHubConfig(c)
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(c.Context, syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			return runHub(ctx, cfg, c.App.Writer, c.App.ErrWriter)
		},
	}
}

type hubConfig struct {
	listen, cdnListen string
	imports           []hubImport
	logLevel          slog.Level
	options           hubtest.Options
}

type hubImport struct {
	repo   hub.Repo
	folder string
}

func readHubConfig(c *cli.Context) (hubConfig, error) {
	cfg := hubConfig{
		listen: c.String("listen"), cdnListen: c.String("cdn-listen"),
		options: hubtest.Options{
			Dir:     c.String("data"),
			Latency: c.Duration("latency"), Bandwidth: c.Generic("bandwidth").(*sizeValue).n,
			Quotas: c.Bool("quotas"), Admin: c.Bool("admin"),
		},
	}
	switch cfg.options.Dir {
	case "":
		return cfg, &failure{text: "--data is missing", hint: "name a directory to keep repositories in, or :memory: to keep nothing", code: exitUsage}
	case ":memory:":
		cfg.options.Dir = ""
	}
	if err := cfg.logLevel.UnmarshalText([]byte(c.String("log-level"))); err != nil {
		return cfg, errUsage("--log-level %q: it is debug, info, warn or error", c.String("log-level"))
	}
	for _, u := range c.StringSlice("user") {
		name, token, ok := strings.Cut(u, ":")
		if !ok || name == "" || token == "" {
			return cfg, errUsage("--user is NAME:TOKEN")
		}
		cfg.options.Users = append(cfg.options.Users, hubtest.User{Name: name, Token: token})
	}
	for _, i := range c.StringSlice("import") {
		imp, err := parseImport(i)
		if err != nil {
			return cfg, err
		}
		cfg.imports = append(cfg.imports, imp)
	}
	return cfg, nil
}

func parseImport(s string) (hubImport, error) {
	name, folder, ok := strings.Cut(s, "=")
	if !ok || folder == "" {
		return hubImport{}, errUsage("--import %q is not REPO=FOLDER", s)
	}
	loc, err := hub.ParseArg(name, "")
	if err != nil {
		return hubImport{}, err
	}
	if loc.Repo.Namespace == "" || loc.Revision != "" || loc.Path != "" {
		return hubImport{}, errUsage("--import %q: a repository is [datasets/|spaces/]NAMESPACE/NAME here, without revision and path", s)
	}
	info, err := os.Stat(folder)
	if err != nil {
		return hubImport{}, fmt.Errorf("--import %s: %w", name, err)
	}
	if !info.IsDir() {
		return hubImport{}, errUsage("--import %s: %s is not a folder", name, folder)
	}
	return hubImport{loc.Repo, folder}, nil
}

// runHub serves until ctx ends.
func runHub(ctx context.Context, cfg hubConfig, stdout, stderr io.Writer) (err error) {
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: cfg.logLevel}))
	cfg.options.Logger = log
	h, err := hubtest.New(cfg.options)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	for _, i := range cfg.imports {
		start := time.Now()
		id, err := h.Import(i.repo, os.DirFS(i.folder))
		if err != nil {
			return fmt.Errorf("import %s: %w", i.folder, err)
		}
		log.Info("imported", "repo", i.repo.String(), "folder", i.folder, "commit", id, "took", time.Since(start).Round(time.Millisecond))
	}
	s, err := h.Listen(cfg.listen, cfg.cdnListen)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if _, err := fmt.Fprintf(stdout, "HF_ENDPOINT=%s\n", s.URL); err != nil {
		return err
	}
	log.Info("answering", "hub", s.URL, "cdn", s.CDNURL)
	<-ctx.Done()
	log.Info("stopping")
	return nil
}
