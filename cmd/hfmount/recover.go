package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"hfmount/remote"
	"hfmount/remote/hub"
	"hfmount/writeback"
)

func recoverCommand() *cli.Command {
	return &cli.Command{
		Name:      "recover",
		Usage:     "look after changes that ended mounts left in their journals",
		ArgsUsage: "[list|retry|export FOLDER|discard]",
		Description: `Works without a mount, on the changes of branches that no mount serves now; a
mount of the same branch would continue with them by itself.

  list           what there is (the default)
  retry          commit it; with --unclosed also files that were open in a crash,
                 with --yes also what the guard holds
  export FOLDER  copy the files out, to FOLDER/NAMESPACE/NAME@REV/…
  discard        drop it for good, after it asked

Exits with 3 if something is still left after retry.

Example:
  hfmount recover
  hfmount recover retry --repo org/model
  hfmount recover export ~/rescued`,
		Flags: append([]cli.Flag{
			stateDirFlag(),
			&cli.StringFlag{Name: "repo", Usage: "only of this `REPO`, with @REV only of that branch"},
			&cli.BoolFlag{Name: "unclosed", Usage: "retry: also what was open for writing when its process died"},
			&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "discard without asking; retry what the guard holds, too"},
			jsonFlag(),
		}, storeFlags("error")...),
		Action: func(c *cli.Context) error {
			action := c.Args().First()
			args := 1
			switch action {
			case "":
				action, args = "list", 0
			case "list", "retry", "discard":
			case "export":
				args = 2
			default:
				return errUsage("recover %q: it is list, retry, export or discard", action)
			}
			if err := wantArgs(c, args, args); err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(c.Context, syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			r, err := newRecovery(c)
			if err != nil {
				return err
			}
			defer r.events.close()
			switch action {
			case "retry":
				return r.retry(ctx, c.Bool("unclosed"), c.Bool("yes"), c.Bool("json"), c.App.Writer, c.App.ErrWriter)
			case "export":
				return r.export(ctx, c.Args().Get(1), c.Bool("json"), c.App.Writer, c.App.ErrWriter)
			case "discard":
				return r.discard(ctx, c.Bool("yes"), c.Bool("json"), c.App.Writer, c.App.ErrWriter)
			}
			return r.list(ctx, c.Bool("json"), c.App.Writer)
		},
	}
}

// recovery is one run of `hfmount recover`.
type recovery struct {
	cfg    mountConfig
	only   *hub.Location // nil is all
	log    *slog.Logger
	events *events
}

// leftover is the local changes of one branch that a mount left.
type leftover struct {
	Repo     string         `json:"repo"`
	Revision string         `json:"revision"`
	Endpoint string         `json:"endpoint"`
	Account  string         `json:"account"`
	Dir      string         `json:"dir"`
	InUse    string         `json:"in_use"` // by whom, "" if by nobody
	Damage   string         `json:"damage"` // what of the journal could not be read
	Changes  []changeStatus `json:"changes"`

	key writeback.Key
}

func (o leftover) name() string { return refName(o.key.Ref) }

func newRecovery(c *cli.Context) (*recovery, error) {
	store, err := readStoreConfig(c)
	if err != nil {
		return nil, err
	}
	r := &recovery{cfg: mountConfig{storeConfig: store}, log: store.newLogger(c.App.ErrWriter)}
	if r.cfg.write.stateDir, err = stateDirOf(c, store); err != nil {
		return nil, err
	}
	r.cfg.write.rw = "*"
	r.cfg.write.policy = writeback.Policy{Manual: true}
	r.cfg.dir = "hfmount recover"
	r.events = newEvents("", "", r.log)
	if name := c.String("repo"); name != "" {
		loc, err := store.location(name)
		if err != nil {
			return nil, err
		}
		r.only = &loc
	}
	return r, nil
}

// find lists what was left, without what is empty.
func (r *recovery) find() ([]leftover, error) {
	found, err := writeback.Layers(r.cfg.write.stateDir)
	if err != nil {
		return nil, err
	}
	out := []leftover{}
	for _, f := range found {
		ref := f.Key.Ref
		if r.only != nil && (r.only.Repo != ref.Repo || r.only.Revision != "" && r.only.Rev() != ref.Rev()) {
			continue
		}
		o := leftover{Repo: ref.Repo.String(), Revision: ref.Rev(), Endpoint: f.Key.Endpoint, Account: f.Key.Account, Dir: f.Dir, key: f.Key, Changes: []changeStatus{}}
		switch {
		case f.Locked && f.PID > 0:
			o.InUse = fmt.Sprintf("process %d (%s)", f.PID, orDash(f.Owner))
		case f.Locked:
			o.InUse = "another process"
		case f.Err != nil:
			return nil, fmt.Errorf("look at %s: %w", f.Dir, f.Err)
		case f.Changes == 0 && f.Damage == "":
			continue
		}
		out = append(out, o)
	}
	return out, nil
}

// with opens the changes of o, and everything they need, for fn.
func (r *recovery) with(o *leftover, fn func(l *layers, b *branch) error) (err error) {
	cfg := r.cfg
	cfg.endpoint = o.Endpoint
	var l *layers
	st, err := openStack(cfg.storeConfig, r.log, func(client *remote.Client) *layers {
		l = newLayers(&cfg, client, r.events, r.log)
		return l
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	defer func() { err = errors.Join(err, l.close()) }()
	v := verdict{account: o.Account, snapshot: hub.Snapshot{Ref: o.key.Ref}}
	b, err := l.openBranch(v)
	if err != nil {
		return l.explainOpen(v, err)
	}
	l.mu.Lock()
	l.branches[b.ref] = b // closed with l
	l.mu.Unlock()
	o.Damage = b.layer.Damage()
	changes := b.layer.Under("")
	renamed := make(map[string]bool)
	for _, c := range changes {
		if c.Kind == writeback.Put && c.Was != "" {
			renamed[c.Was] = true
		}
	}
	for _, c := range changes {
		if c.State == writeback.LocalOnly {
			continue
		}
		s := l.showAll(b.ref, []writeback.Change{c})[0]
		s.Path, s.Was = c.Path, c.Was // the branch is named beside it
		s.Moved = c.Kind == writeback.Delete && renamed[c.Path]
		o.Changes = append(o.Changes, s)
	}
	return fn(l, b)
}

func (r *recovery) list(ctx context.Context, asJSON bool, w io.Writer) error {
	all, err := r.find()
	if err != nil {
		return err
	}
	for i := range all {
		if all[i].InUse == "" {
			if err := r.with(&all[i], func(*layers, *branch) error { return ctx.Err() }); err != nil {
				return err
			}
		}
	}
	if asJSON {
		return writeJSON(w, all)
	}
	var b strings.Builder
	if len(all) == 0 {
		b.WriteString("nothing is left in " + r.cfg.write.stateDir + "\n")
	}
	for _, o := range all {
		fmt.Fprintf(&b, "%s, of %s at %s\n", o.name(), orDash(o.Account), o.Endpoint)
		if o.InUse != "" {
			fmt.Fprintf(&b, "  in use by %s; see hfmount status\n", o.InUse)
			continue
		}
		if o.Damage != "" {
			fmt.Fprintf(&b, "  DAMAGED: %s\n", o.Damage)
		}
		for _, line := range changeLines(o.Changes, 0) {
			fmt.Fprintf(&b, "  %s\n", line)
		}
		fmt.Fprintf(&b, "  %s, in %s\n", count(len(o.Changes), "change"), o.Dir)
	}
	_, err = io.WriteString(w, b.String())
	return err
}

// free is what find found and nobody uses; that something is in use is said.
func (r *recovery) free(w io.Writer) ([]leftover, error) {
	all, err := r.find()
	if err != nil {
		return nil, err
	}
	out := []leftover{}
	for _, o := range all {
		if o.InUse != "" {
			fmt.Fprintf(w, "hfmount: %s is in use by %s; left alone\n", o.name(), o.InUse)
			continue
		}
		out = append(out, o)
	}
	return out, nil
}

// retry commits what can be committed.
func (r *recovery) retry(ctx context.Context, unclosed, yes, asJSON bool, stdout, stderr io.Writer) error {
	all, err := r.free(stderr)
	if err != nil {
		return err
	}
	total := outcome{Commits: []commitStatus{}, Left: []changeStatus{}}
	var errs []error
	for _, o := range all {
		err := r.with(&o, func(l *layers, b *branch) error {
			v, err := l.judge(ctx, b.ref)
			if err != nil {
				return &repoError{hub.Location{Ref: b.ref}, o.Endpoint, err}
			}
			switch {
			case v.reason != "":
				return &failure{text: o.name() + " cannot be written: " + v.reason, code: exitAccess}
			case v.account != o.Account:
				return &failure{text: fmt.Sprintf("the changes of %s are of %s, and the token is of %s", o.name(), orDash(o.Account), v.account), code: exitAccess,
					hint: "use the other account's token, or `hfmount recover export`"}
			}
			if unclosed {
				if _, err := b.layer.Promote(""); err != nil {
					return err
				}
			}
			l.start(b)
			bar := newBar(stderr)
			defer bar.close()
			done, err := l.each([]target{{b, ""}}, func(t target) (writeback.Outcome, error) {
				return t.queue.Commit(ctx, writeback.CommitRequest{Yes: yes})
			})
			total.Commits = append(total.Commits, done.Commits...)
			total.Left = append(total.Left, done.Left...)
			if done.PullRequest != "" {
				total.PullRequest = done.PullRequest
			}
			return err
		})
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if len(total.Commits)+len(total.Left) == 0 && !asJSON {
		fmt.Fprintln(stderr, "hfmount: nothing is left to commit")
	}
	return total.tell(stdout, asJSON)
}

// exported is what came of one branch, for programs.
type exported struct {
	Repo     string   `json:"repo"`
	Revision string   `json:"revision"`
	Folder   string   `json:"folder"`
	Files    int      `json:"files"`
	Bytes    int64    `json:"bytes"`
	Deleted  []string `json:"deleted"` // paths that the changes delete
}

// export copies files out, each branch into a folder of its own.
func (r *recovery) export(ctx context.Context, folder string, asJSON bool, stdout, stderr io.Writer) error {
	all, err := r.free(stderr)
	if err != nil {
		return err
	}
	out := []exported{}
	for _, o := range all {
		e := exported{Repo: o.Repo, Revision: o.Revision, Deleted: []string{},
			Folder: filepath.Join(folder, filepath.FromSlash(o.Repo)+"@"+hub.EscapeRevision(o.Revision))}
		err := r.with(&o, func(_ *layers, b *branch) error {
			done, err := b.layer.Export(ctx, e.Folder)
			e.Files, e.Bytes = done.Files, done.Bytes
			e.Deleted = append(e.Deleted, done.Deleted...)
			return err
		})
		if err != nil {
			return fmt.Errorf("export %s: %w", o.name(), err)
		}
		out = append(out, e)
		if asJSON {
			continue
		}
		if _, err := fmt.Fprintf(stdout, "%s: %s, %s\n", e.Folder, count(e.Files, "file"), humanize.Bytes(uint64(e.Bytes))); err != nil {
			return err
		}
		for _, p := range e.Deleted {
			if _, err := fmt.Fprintf(stdout, "  deleted: %s\n", printable(p)); err != nil {
				return err
			}
		}
	}
	if asJSON {
		return writeJSON(stdout, out)
	}
	return nil
}

// discard drops what was left, after it was confirmed.
func (r *recovery) discard(ctx context.Context, yes, asJSON bool, stdout, stderr io.Writer) error {
	all, err := r.free(stderr)
	if err != nil {
		return err
	}
	if len(all) == 0 && !asJSON {
		fmt.Fprintln(stderr, "hfmount: nothing is left")
		return nil
	}
	if !yes && len(all) > 0 {
		if !asJSON {
			if err := r.list(ctx, false, stdout); err != nil {
				return err
			}
		}
		if err := confirm(os.Stdin, stderr, "Drop all of it for good?", false); err != nil {
			return err
		}
	}
	for i := range all {
		err := r.with(&all[i], func(_ *layers, b *branch) error { return b.layer.DiscardAll() })
		if err != nil {
			return fmt.Errorf("discard %s: %w", all[i].name(), err)
		}
	}
	if asJSON {
		return writeJSON(stdout, all)
	}
	return nil
}
