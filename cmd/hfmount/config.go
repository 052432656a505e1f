package main

import (
	"io"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"hfmount/remote"
	"hfmount/remote/hub"
)

// storeConfig is what a command needs to read the Hub through the cache.
// Flags, environment and defaults meet here and nowhere else; all paths are
// absolute.
type storeConfig struct {
	endpoint    string
	tokenFile   string // "": from the environment
	cacheDir    string
	cacheSize   int64
	memory      int64
	refresh     time.Duration
	readTimeout time.Duration
	offline     bool
	revision    string
	logLevel    slog.Level
	logFormat   string
}

func readStoreConfig(c *cli.Context) (storeConfig, error) {
	cfg := storeConfig{
		endpoint:    strings.TrimRight(c.String("endpoint"), "/"),
		tokenFile:   c.String("token-file"),
		cacheDir:    c.String("cache-dir"),
		cacheSize:   c.Generic("cache-size").(*sizeValue).n,
		memory:      c.Generic("memory").(*sizeValue).n,
		readTimeout: c.Duration("read-timeout"),
		offline:     c.Bool("offline") || environment.Offline(),
		revision:    c.String("revision"),
		logFormat:   c.String("log-format"),
	}
	if cfg.endpoint == "" {
		cfg.endpoint = environment.Endpoint()
	}
	if !strings.HasPrefix(cfg.endpoint, "http://") && !strings.HasPrefix(cfg.endpoint, "https://") {
		return cfg, errUsage("the endpoint %q is not an http:// or https:// URL", cfg.endpoint)
	}
	if err := cfg.logLevel.UnmarshalText([]byte(c.String("log-level"))); err != nil {
		return cfg, errUsage("--log-level %q: it is debug, info, warn or error", c.String("log-level"))
	}
	if cfg.logFormat != "text" && cfg.logFormat != "json" {
		return cfg, errUsage("--log-format %q: it is text or json", cfg.logFormat)
	}
	if cfg.readTimeout <= 0 {
		return cfg, errUsage("--read-timeout must be above zero")
	}
	if cfg.tokenFile != "" {
		var err error
		if cfg.tokenFile, err = filepath.Abs(cfg.tokenFile); err != nil {
			return cfg, err
		}
		if _, err := os.Stat(cfg.tokenFile); err != nil {
			return cfg, &failure{text: "the token file cannot be read: " + err.Error(), code: exitAccess, err: err,
				hint: "write one with `hf auth login`, or leave --token-file out to use HF_TOKEN"}
		}
	}
	if cfg.cacheDir == "" {
		cfg.cacheDir = filepath.Join(environment.Home(), "hfmount")
	}
	var err error
	cfg.cacheDir, err = filepath.Abs(cfg.cacheDir)
	return cfg, err
}

// environment is what package remote reads the environment through. It knows
// a home directory even where HOME is not set, as for mount(8) at boot.
var environment remote.Env = func(name string) string {
	v := os.Getenv(name)
	if v == "" && name == "HOME" {
		if u, err := user.LookupId(strconv.Itoa(os.Getuid())); err == nil {
			v = u.HomeDir
		}
	}
	return v
}

// tokens is where the token comes from. It is never an argument: those are
// for everyone on the machine to see.
func (cfg storeConfig) tokens() remote.TokenSource {
	if cfg.tokenFile != "" {
		return remote.TokenFile(cfg.tokenFile)
	}
	return environment.Tokens()
}

// newLogger makes the logger that all packages are given.
func (cfg storeConfig) newLogger(w io.Writer) *slog.Logger {
	o := &slog.HandlerOptions{Level: cfg.logLevel}
	if cfg.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// location reads a REPO argument and applies --revision to it.
func (cfg storeConfig) location(arg string) (hub.Location, error) {
	loc, err := hub.ParseArg(arg, cfg.endpoint)
	if err != nil {
		return loc, err
	}
	return cfg.withRevision(loc)
}

func (cfg storeConfig) withRevision(loc hub.Location) (hub.Location, error) {
	switch {
	case cfg.revision == "":
	case loc.Repo.IsZero():
		return loc, errUsage("--revision needs a repository; the whole Hub has them all, as NAME@REV")
	case loc.Revision != "" && loc.Revision != cfg.revision:
		return loc, errUsage("two revisions: @%s and --revision %s", loc.Revision, cfg.revision)
	default:
		loc.Revision = cfg.revision
	}
	return loc, nil
}

// mountConfig is all that a mount is made of.
type mountConfig struct {
	storeConfig
	loc        hub.Location
	dir        string // absolute, as the kernel will name it
	readOnly   string // why the mount is read-only, "" if it might write
	allowOther bool
	uid, gid   int
	umask      uint32
	noOpen     bool
	nonEmpty   bool
	foreground bool
	logFile    string
	write      writeConfig
}

func readMountConfig(c *cli.Context) (mountConfig, error) {
	store, err := readStoreConfig(c)
	if err != nil {
		return mountConfig{}, err
	}
	store.refresh = c.Duration("refresh")
	if store.refresh < 0 {
		return mountConfig{}, errUsage("--refresh must not be negative")
	}
	cfg := mountConfig{
		storeConfig: store,
		allowOther:  c.Bool("allow-other"),
		uid:         c.Int("uid"), gid: c.Int("gid"),
		nonEmpty:   c.Bool("nonempty"),
		foreground: c.Bool("foreground"),
		logFile:    c.String("log-file"),
	}
	umask, err := strconv.ParseUint(c.String("umask"), 8, 32)
	if err != nil || umask > 0o777 {
		return cfg, errUsage("--umask %q is not an octal number up to 777", c.String("umask"))
	}
	cfg.umask = uint32(umask)
	switch mode := c.String("open-mode"); mode {
	case "auto":
	case "noopen":
		cfg.noOpen = true
	default:
		return cfg, errUsage("--open-mode %q: it is auto or noopen", mode)
	}
	if cfg.logFile != "" {
		if cfg.logFile, err = filepath.Abs(cfg.logFile); err != nil {
			return cfg, err
		}
	}
	mode := ""
	switch c.Args().Len() {
	case 1:
		v, ok, err := hub.ParseVolume(c.Args().First(), cfg.endpoint)
		if err != nil {
			return cfg, err
		}
		if !ok {
			return cfg, wantArgs(c, 2, 2)
		}
		cfg.loc, cfg.dir, mode = v.Location, v.Dir, v.Mode
		if cfg.loc, err = cfg.withRevision(cfg.loc); err != nil {
			return cfg, err
		}
	default:
		if err := wantArgs(c, 2, 2); err != nil {
			return cfg, err
		}
		cfg.dir = c.Args().Get(1)
		if cfg.loc, err = cfg.location(c.Args().First()); err != nil {
			return cfg, err
		}
	}
	if cfg.write, err = readWriteConfig(c, store); err != nil {
		return cfg, err
	}
	return cfg, cfg.settle(c.Bool("read-only"), mode)
}
