package main

import (
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"hfmount/remote/hub"
	"hfmount/writeback"
)

// writeConfig says whether, when and how a mount's changes become commits
// (design §4 as flags).
type writeConfig struct {
	rw         string // which repositories of the whole Hub: a glob, "" none
	required   bool   // :rw or --rw of one repository: what cannot write is no mount
	stateDir   string // absolute
	policy     writeback.Policy
	syncRemote bool
	createRepo bool
	maxStaging int64 // bytes; 0 is half of the free space
	ignore     []string
	noJunk     bool // the junk filter is off
	onEvent    string
}

// rwValue is --rw, which may stand alone.
type rwValue struct{ glob string }

// Set reads a glob; what a lone --rw gives is everything.
func (v *rwValue) Set(s string) error {
	switch strings.ToLower(s) {
	case "true", "1", "yes", "on", "":
		v.glob = "*"
	case "false", "0", "no", "off":
		v.glob = ""
	default:
		if _, err := path.Match(s, ""); err != nil {
			return errUsage("%q is not a pattern", s)
		}
		v.glob = s
	}
	return nil
}

func (v *rwValue) String() string {
	if v == nil {
		return ""
	}
	return v.glob
}

// IsBoolFlag lets --rw stand without a value.
func (v *rwValue) IsBoolFlag() bool { return true }

// stateDirFlag is of every command that looks at journals.
func stateDirFlag() cli.Flag {
	return &cli.StringFlag{Name: "state-dir", Usage: "`DIR` of journals and staged files (default: state in the cache directory)"}
}

func writeFlags() []cli.Flag {
	return []cli.Flag{
		&cli.GenericFlag{Name: "rw", Value: &rwValue{}, DefaultText: "one repository: if the token may write; the whole Hub: no", Usage: "of the whole Hub, write where the token may, or with --rw=`GLOB` only to repositories that match, such as me/* or datasets/me/*; of one repository, fail instead of mounting it read-only"},
		stateDirFlag(),
		&cli.StringFlag{Name: "commit", Value: "auto", Usage: "`MODE`: auto, or manual: only hfmount commit and hfmount run make commits"},
		&cli.DurationFlag{Name: "commit-after", Value: 30 * time.Second, Usage: "commit the changes of a folder once none was made for this `DURATION`"},
		&cli.DurationFlag{Name: "commit-max-wait", Value: 15 * time.Minute, Usage: "the longest that an open file, or a folder that never rests, holds back what belongs to it, a `DURATION`"},
		&cli.DurationFlag{Name: "commit-every", DefaultText: "off", Usage: "commit on a schedule instead, every `DURATION`, also what is still being appended to"},
		&cli.BoolFlag{Name: "squash-history", Usage: "with --commit-every, make the branch's history one commit after each"},
		&cli.StringFlag{Name: "commit-message", Usage: "`TEMPLATE` of messages, as Go's text/template, with .Summary .Files .Added .Updated .Deleted .Renamed .Host .Mount .Time (default: {{.Summary}} via hfmount)"},
		&cli.StringFlag{Name: "sync", Value: "local", Usage: "`WHERE` the bytes are when fsync returns: local (on the disk) or remote (on the Hub)"},
		&cli.BoolFlag{Name: "create-pr", Usage: "collect all commits in one pull request, also where the branch may not be written"},
		&cli.BoolFlag{Name: "create-branch", Usage: "make the branch, if it is missing, with the first commit"},
		&cli.BoolFlag{Name: "create-repo", Usage: "make a repository that is missing, private: REPO at once, of the whole Hub by mkdir DIR/NAMESPACE/NAME"},
		&cli.StringFlag{Name: "on-conflict", Value: "pr", Usage: "`WHAT` becomes of a path that changed on both sides: pr (ours goes to a pull request), fail (it stays local) or ours (it overwrites)"},
		&cli.StringFlag{Name: "guard", Value: "on", Usage: "on, or off: on holds, until hfmount commit --yes, deletions of 10 files or more and over half of the repository, additions of over 100 GB or 25,000 files, and in a public repository what looks like a secret"},
		&cli.GenericFlag{Name: "max-staging", Value: &sizeValue{auto: "half of the free space"}, Usage: "most bytes of changes on disk, a `SIZE`; beyond it writers wait until some are sent"},
		&cli.StringSliceFlag{Name: "ignore", Usage: "never commit what matches this `PATTERN`, as in .gitignore (repeatable)"},
		&cli.BoolFlag{Name: "respect-gitignore", Usage: "never commit what the repository's .gitignore names"},
		&cli.BoolFlag{Name: "no-junk-filter", Usage: "commit droppings of systems and editors too, such as .DS_Store and *.swp"},
		&cli.StringFlag{Name: "on-event", Usage: "shell `COMMAND` to run on events, with HFMOUNT_EVENT (committed, held, conflict or failed), HFMOUNT_TEXT, _HINT, _PATHS (one a line) and _URL in its environment; ended after 30s"},
	}
}

// stateDirOf is where journals and staged files are.
func stateDirOf(c *cli.Context, store storeConfig) (string, error) {
	dir := c.String("state-dir")
	if dir == "" {
		return filepath.Join(store.cacheDir, "state"), nil
	}
	return filepath.Abs(dir)
}

// readWriteConfig checks each flag by itself and against the others.
func readWriteConfig(c *cli.Context, store storeConfig) (writeConfig, error) {
	cfg := writeConfig{
		rw: c.Generic("rw").(*rwValue).glob,
		policy: writeback.Policy{
			CommitAfter:   c.Duration("commit-after"),
			CommitMaxWait: c.Duration("commit-max-wait"),
			Every:         c.Duration("commit-every"),
			Squash:        c.Bool("squash-history"),
			Message:       c.String("commit-message"),
			CreatePR:      c.Bool("create-pr"),
			CreateBranch:  c.Bool("create-branch"),
			Gitignore:     c.Bool("respect-gitignore"),
		},
		createRepo: c.Bool("create-repo"),
		maxStaging: c.Generic("max-staging").(*sizeValue).n,
		ignore:     c.StringSlice("ignore"),
		noJunk:     c.Bool("no-junk-filter"),
		onEvent:    c.String("on-event"),
	}
	var err error
	if cfg.stateDir, err = stateDirOf(c, store); err != nil {
		return cfg, err
	}
	p := &cfg.policy
	word := func(name string, values ...string) int {
		for i, v := range values {
			if c.String(name) == v {
				return i
			}
		}
		if err == nil {
			err = errUsage("--%s %q: it is %s", name, c.String(name), strings.Join(values, " or "))
		}
		return 0
	}
	p.Manual = word("commit", "auto", "manual") == 1
	cfg.syncRemote = word("sync", "local", "remote") == 1
	p.OnConflict = []writeback.OnConflict{writeback.ConflictPR, writeback.ConflictFail, writeback.ConflictOurs}[word("on-conflict", "pr", "fail", "ours")]
	p.NoGuard = word("guard", "on", "off") == 1
	if err != nil {
		return cfg, err
	}
	if err := writeback.CheckMessage(p.Message); err != nil {
		return cfg, errUsage("--commit-message: %v", err)
	}
	switch {
	case p.CommitAfter < 0 || p.Every < 0:
		return cfg, errUsage("--commit-after and --commit-every must not be negative")
	case p.CommitMaxWait <= 0:
		return cfg, errUsage("--commit-max-wait must be above zero")
	case p.CommitMaxWait < p.CommitAfter:
		return cfg, errUsage("--commit-max-wait (%s) must not be shorter than --commit-after (%s)", p.CommitMaxWait, p.CommitAfter)
	case p.Manual && p.Every > 0:
		return cfg, errUsage("--commit-every commits by itself, --commit=manual never does")
	case p.Squash && p.Every == 0:
		return cfg, errUsage("--squash-history goes with --commit-every")
	case p.CreatePR && p.Squash:
		return cfg, errUsage("--squash-history rewrites a branch; it does not go with --create-pr")
	case p.CreatePR && p.CreateBranch:
		return cfg, errUsage("--create-pr commits to a pull request, --create-branch to a branch; choose one")
	case p.Manual && cfg.syncRemote:
		return cfg, errUsage("--sync=remote would wait for a commit that --commit=manual never makes by itself")
	case cfg.maxStaging < 0:
		return cfg, errUsage("--max-staging must not be negative")
	}
	return cfg, nil
}

// names reports whether --rw names the repository.
func (cfg writeConfig) names(repo hub.Repo) bool {
	if cfg.rw == "*" {
		return true
	}
	ok, err := path.Match(cfg.rw, repo.String())
	return err == nil && ok
}

// settle decides, from words alone, whether the mount might write, and why not
// if it does not.
func (cfg *mountConfig) settle(readOnly bool, mode string) error {
	w := &cfg.write
	whole := cfg.loc.Repo.IsZero()
	w.required = mode == "rw" || !whole && w.rw != "" && w.names(cfg.loc.Repo)
	switch {
	case readOnly || mode == "ro":
		cfg.readOnly = "asked for"
	case cfg.offline:
		cfg.readOnly = "offline"
	case cfg.noOpen:
		cfg.readOnly = "--open-mode noopen"
	case whole && w.rw == "":
		cfg.readOnly = "the whole Hub; --rw names what may be written"
	case cfg.loc.Pinned():
		cfg.readOnly = "a commit never changes"
	case strings.HasPrefix(cfg.loc.Rev(), "refs/convert/"):
		cfg.readOnly = "made by the Hub"
	}
	switch {
	case w.required && readOnly:
		return errUsage("--read-only, and :rw or --rw, which ask for the opposite")
	case w.required && cfg.readOnly != "":
		return cfg.cannotWrite(cfg.readOnly)
	case whole && w.createRepo && w.rw == "":
		return errUsage("--create-repo needs --rw, which names what may be written")
	case whole && w.policy.CreateBranch:
		return errUsage("--create-branch needs one repository and a branch: NAMESPACE/NAME@BRANCH")
	}
	return nil
}

// cannotWrite is the failure of a mount that must be able to write.
func (cfg *mountConfig) cannotWrite(reason string) *failure {
	f := &failure{text: cfg.loc.String() + " cannot be written (" + reason + "), and :rw or --rw asks for it", code: exitFailed,
		hint: "leave it out for a read-only mount"}
	if !cfg.loc.Pinned() && !cfg.offline {
		f.hint += ", or give --create-pr to send changes as a pull request"
	}
	return f
}
