package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// place is a path in a mount, by the process that serves it.
type place struct {
	daemon
	mountpoint string
	rel        string // below the mountpoint, "" for itself
}

// placeOf finds the process that serves what is at path, which need not exist.
func placeOf(path string) (place, error) {
	d, err := daemonOf(path)
	if err != nil {
		return place{}, err
	}
	m, _, err := findKernelMount(path)
	if err != nil {
		return place{}, err
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return place{}, err
	}
	if !within(abs, m.dir) {
		abs = realPath(abs)
	}
	return place{d, m.dir, strings.TrimPrefix(strings.TrimPrefix(abs, m.dir), "/")}, nil
}

// placesOf is placeOf for several paths, which must lie in one mount.
func placesOf(paths []string) (place, []string, error) {
	var first place
	var rels []string
	for i, path := range paths {
		p, err := placeOf(path)
		if err != nil {
			return place{}, nil, err
		}
		if i == 0 {
			first = p
		}
		if p.mountpoint != first.mountpoint {
			return place{}, nil, errUsage("%s and %s are two mounts; name the paths of one at a time", first.mountpoint, p.mountpoint)
		}
		rels = append(rels, p.rel)
	}
	return first, rels, nil
}

// writable is an error that says why nothing can be committed here, if so.
func (p place) writable(ctx context.Context) error {
	s, err := p.status(ctx)
	if err != nil {
		return err
	}
	if s.ReadOnly {
		return &failure{text: p.mountpoint + ": read-only (" + s.ReadOnlyReason + ")", code: exitFailed, hint: "nothing is written here, so there is nothing to commit"}
	}
	return nil
}

// bar shows progress on a terminal, and nothing elsewhere: a spinner, and
// bytes while some are sent.
type bar struct {
	w     *os.File                 // nil if it is no terminal
	p     *progressbar.ProgressBar // the one that is shown, or nil
	bytes bool                     // p shows bytes
	until time.Time                // when whoever waits gives up, zero if never
}

func newBar(w io.Writer) *bar {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return &bar{}
	}
	return &bar{w: f}
}

func (b *bar) show(p progress) {
	if b.w == nil {
		return
	}
	b.begin(p.Total > 0)
	b.p.Describe(p.text(b.until, time.Now()))
	if b.bytes {
		b.p.ChangeMax64(p.Total)
		_ = b.p.Set64(min(p.Sent, p.Total)) // a bar that cannot be drawn is no failure
		return
	}
	_ = b.p.Add(1) // turns the spinner; likewise
}

// begin puts a bar of that kind on the terminal, if there is none.
func (b *bar) begin(bytes bool) {
	if b.p == nil || b.bytes != bytes {
		b.close()
		b.bytes = bytes
		b.p = progressbar.NewOptions64(-1,
			progressbar.OptionSetWriter(b.w), progressbar.OptionShowBytes(b.bytes), progressbar.OptionClearOnFinish(),
			progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionSetWidth(24), progressbar.OptionSpinnerType(14),
			progressbar.OptionSetElapsedTime(false), progressbar.OptionSetPredictTime(b.bytes))
	}
}

// text says what is waited for, and when that is given up; until is when the
// one who waits does, zero if never.
func (p progress) text(until, now time.Time) string {
	text := "waiting for the Hub"
	if p.Pending > 0 {
		text = count(p.Pending, "change") + " to send"
	}
	if p.Path != "" {
		text += ", " + printable(p.Path)
	}
	if p.Trouble != "" {
		text += "; " + p.Trouble
	}
	if p.GivesUp != nil && (until.IsZero() || p.GivesUp.Before(until)) {
		until = *p.GivesUp
	}
	if !until.IsZero() {
		text += ", giving up in " + max(0, until.Sub(now)).Round(time.Second).String()
	}
	return text
}

func (b *bar) close() {
	if b.p != nil {
		_ = b.p.Finish() // clears the line, if that can be done
	}
	b.p = nil
}

// tell prints what a commit did, and returns what is left as a failure.
func (o outcome) tell(w io.Writer, asJSON bool) error {
	if asJSON {
		if err := writeJSON(w, o); err != nil {
			return err
		}
	} else {
		for _, c := range o.Commits {
			if _, err := fmt.Fprintln(w, c.URL); err != nil {
				return err
			}
		}
		if o.PullRequest != "" && len(o.Commits) == 0 {
			if _, err := fmt.Fprintln(w, o.PullRequest); err != nil {
				return err
			}
		}
	}
	if left := o.stillLocal(); len(left) > 0 {
		return &failure{text: count(len(left), "change") + " not on the Hub", hint: listChanges(left) + hintFor(left), code: exitLocal}
	}
	if o.PullRequest != "" {
		return &failure{text: "a conflict: the branch changed too; our side is in " + o.PullRequest, code: exitConflict,
			hint: "merge it there, or take the Hub's side with `hfmount discard`"}
	}
	return nil
}

// hintFor says what moves changes in such states.
func hintFor(left []changeStatus) string {
	has := map[string]bool{}
	for _, c := range left {
		has[c.State] = true
	}
	var hints []string
	if has["open"] {
		hints = append(hints, "close the files that are open for writing; `hfmount status` says who holds them")
	}
	if has["held"] {
		hints = append(hints, "`hfmount commit --yes` sends what is held")
	}
	if has["conflict"] {
		hints = append(hints, "where both sides changed, rename yours, or drop it with `hfmount discard`")
	}
	if has["refused"] || has["unclosed"] {
		hints = append(hints, "rename, correct or `hfmount discard` what the Hub refuses or a crash left half")
	}
	if len(hints) == 0 {
		hints = []string{"`hfmount status` says why"}
	}
	return strings.Join(hints, "\n")
}

// confirm asks on the terminal; without one, only yes helps.
func confirm(in *os.File, w io.Writer, question string, yes bool) error {
	if yes {
		return nil
	}
	if !term.IsTerminal(int(in.Fd())) {
		return &failure{text: "this needs a confirmation, and there is no terminal to ask on", hint: "--yes confirms it", code: exitUsage}
	}
	if _, err := fmt.Fprintf(w, "%s [y/N] ", question); err != nil {
		return err
	}
	var reply string
	if _, err := fmt.Fscanln(in, &reply); err != nil || !strings.HasPrefix(strings.ToLower(reply), "y") {
		return &failure{text: "nothing was done", code: exitFailed, err: errors.New("not confirmed")}
	}
	return nil
}

// age is how long ago something was, for people.
func age(t time.Time) string {
	if time.Since(t) < 5*time.Second {
		return "now"
	}
	return humanize.Time(t)
}
