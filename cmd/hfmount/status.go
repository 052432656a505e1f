package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"hfmount/remote/hub"
)

func statusCommand() *cli.Command {
	return &cli.Command{
		Name:      "status",
		Usage:     "show mounts: one block for each, or JSON",
		ArgsUsage: "[DIR]",
		Description: `Without DIR, all mounts of this user.

Example:
  hfmount status ~/model
  hfmount status --json | jq '.[].commit'`,
		Flags: []cli.Flag{
			jsonFlag(),
			&cli.BoolFlag{Name: "watch", Usage: "show again every second, until interrupted"},
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 0, 1); err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(c.Context, syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			if c.Bool("watch") {
				return watchStatus(ctx, c.App.Writer, c.Args().First(), c.Bool("json"))
			}
			return printStatus(ctx, c.App.Writer, c.Args().First(), c.Bool("json"))
		},
	}
}

const watchInterval = time.Second

func watchStatus(ctx context.Context, w io.Writer, dir string, asJSON bool) error {
	clear := ""
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) && !asJSON {
		clear = "\x1b[H\x1b[2J"
	}
	for {
		if _, err := io.WriteString(w, clear); err != nil {
			return err
		}
		if err := printStatus(ctx, w, dir, asJSON); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(watchInterval):
		}
	}
}

func printStatus(ctx context.Context, w io.Writer, dir string, asJSON bool) error {
	all, err := collectStatus(ctx)
	if err != nil {
		return err
	}
	if dir != "" {
		m, ok, err := findKernelMount(dir)
		if err != nil {
			return err
		}
		if !ok {
			if m.dir, err = realDir(dir); err != nil { // one that is gone may still send
				return err
			}
		}
		all = slices.DeleteFunc(all, func(s mountStatus) bool { return s.Mountpoint != m.dir })
		if len(all) == 0 && !ok {
			return &failure{text: dir + ": not a mount of hfmount", hint: "`hfmount status` lists the mounts", code: exitNotFound}
		}
		if len(all) == 0 {
			all = append(all, silentStatus(m))
		}
	}
	if asJSON {
		b, err := json.MarshalIndent(all, "", "  ")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "%s\n", b)
		return err
	}
	if len(all) == 0 {
		_, err := fmt.Fprintln(w, "nothing is mounted")
		return err
	}
	for i, s := range all {
		if i > 0 {
			fmt.Fprintln(w)
		}
		if err := s.print(w); err != nil {
			return err
		}
	}
	return nil
}

// collectStatus asks every daemon of this user, and adds mounts whose daemon
// does not answer or is gone. It is never nil, so that no mounts are [] in
// JSON.
func collectStatus(ctx context.Context) ([]mountStatus, error) {
	mounts, err := kernelMounts()
	if err != nil {
		return nil, err
	}
	all := []mountStatus{}
	answered := map[string]bool{}
	for _, d := range listDaemons(mounts) {
		s, err := d.status(ctx)
		if err != nil {
			continue // its mount appears below
		}
		answered[s.Mountpoint] = true
		all = append(all, s.normal())
	}
	for _, m := range mounts {
		// A socket is what tells our mounts from those of other users, and of
		// sessions with a runtime directory of their own.
		if !answered[m.dir] && hasSocket(m.dir) {
			answered[m.dir] = true
			all = append(all, silentStatus(m))
		}
	}
	slices.SortFunc(all, func(a, b mountStatus) int { return strings.Compare(a.Mountpoint, b.Mountpoint) })
	return all, nil
}

// silentStatus is what can be said of a mount whose daemon says nothing.
func silentStatus(m kernelMount) mountStatus {
	s := mountStatus{Mountpoint: m.dir, ReadOnly: true, State: stateSilent}
	if loc, err := hub.ParseArg(m.source, ""); err == nil {
		s.Repo, s.Revision, s.Path = loc.Repo.String(), loc.Rev(), loc.Path
		if loc.Repo.IsZero() {
			s.Repo, s.Revision = m.source, ""
		}
	}
	text := "its process does not answer"
	hint := "it hangs or is another user's; `hfmount unmount " + m.dir + "` ends the mount"
	if d, ok := findDaemon(m.dir); ok {
		s.PID = d.pid
	} else if stale(m.dir) {
		s.State = stateStale
		text = "its process is gone"
		hint = "clear it with `hfmount unmount " + m.dir + "`"
	}
	s.ReadOnlyReason = s.State
	s.LastError = &errorStatus{Time: time.Now().Truncate(time.Second), Text: text, Hint: hint}
	return s.normal()
}

// print writes the block for people.
func (s mountStatus) print(w io.Writer) error {
	var b strings.Builder
	line := func(name, format string, a ...any) { fmt.Fprintf(&b, "  %-12s%s\n", name, fmt.Sprintf(format, a...)) }
	fmt.Fprintf(&b, "%s\n", s.Mountpoint)
	what := s.Repo
	if s.Path != "" {
		what += "/" + s.Path
	}
	if s.Revision != "" {
		what += " @" + s.Revision
	}
	if len(s.Commit) >= 7 {
		what += " at " + s.Commit[:7]
	}
	line("shows", "%s", what)
	if s.State == stateDraining {
		line("state", "unmounted; its changes are still being sent")
	}
	if s.State != stateMounted && s.State != stateDraining {
		line("state", "%s", s.State)
	} else {
		access := "read-write"
		if s.CommitsTo != "" {
			access += ", " + s.CommitsTo
		}
		if s.ReadOnly {
			access = "read-only (" + s.ReadOnlyReason + ")"
		}
		line("access", "%s", access)
		hub := s.Endpoint
		if !s.Online {
			hub += ", offline"
		}
		if s.Checked != nil {
			hub += ", looked at " + humanize.Time(*s.Checked)
		}
		line("hub", "%s", hub)
		line("cache", "%s in memory, %s on disk, %d hits, %d misses",
			humanize.Bytes(uint64(s.Cache.MemoryBytes)), humanize.Bytes(uint64(s.Cache.DiskBytes)), s.Cache.Hits, s.Cache.Misses)
		line("fetched", "%s in %d requests (api %d, resolvers %d, pages %d, cdn %d)", humanize.Bytes(s.BytesFetched),
			s.Requests.API+s.Requests.Resolvers+s.Requests.Pages+s.Requests.CDN,
			s.Requests.API, s.Requests.Resolvers, s.Requests.Pages, s.Requests.CDN)
		reads := "native for complete files"
		if !s.Passthrough {
			reads = "through this process"
			if s.PassthroughReason != "" {
				reads += " (" + s.PassthroughReason + ")"
			}
		}
		line("reads", "%s, read-ahead %d KiB", reads, s.ReadAheadKB)
		line("process", "%d, since %s, log %s", s.PID, s.Mounted.Format(time.DateTime), orDash(s.LogFile))
	}
	s.printChanges(line)
	if s.StalledSince != nil {
		line("STALLED", "some read has made no progress since %s", s.StalledSince.Format(time.TimeOnly))
	}
	if s.LastError != nil {
		line("last error", "%s %s", s.LastError.Time.Format(time.DateTime), s.LastError.Text)
		if s.LastError.Hint != "" {
			line("", "%s", s.LastError.Hint)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// shownChanges bounds the changes that a block lists; --json has all.
const shownChanges = 50

// printChanges writes what is not on the Hub, and how it comes there.
func (s mountStatus) printChanges(line func(name, format string, a ...any)) {
	if c := s.LastCommit; c != nil {
		line("last commit", "%.7s %s, %s, %s", c.ID, age(c.Time), printable(c.Message), c.URL)
	}
	if s.PullRequest != nil {
		line("in PR", "%s", *s.PullRequest)
	}
	if s.State == stateStale || s.State == stateSilent || s.ReadOnly {
		return
	}
	pending := "nothing; all is on the Hub"
	if s.Pending > 0 {
		pending = count(s.Pending, "change")
		if s.NextCommit != nil {
			if in := time.Until(*s.NextCommit).Round(time.Second); in > 0 {
				pending += ", next commit in " + short(in)
			} else {
				pending += ", being committed"
			}
		}
	}
	line("pending", "%s", pending)
	for _, l := range changeLines(s.Changes, shownChanges) {
		line("", "%s", l)
	}
	for _, u := range s.Uploads {
		percent := int64(100)
		if u.Total > 0 {
			percent = u.Sent * 100 / u.Total
		}
		line("uploading", "%s, %s of %s (%d %%)", printable(u.Path), humanize.Bytes(uint64(u.Sent)), humanize.Bytes(uint64(u.Total)), percent)
	}
	for _, h := range s.HeldBy {
		who := "a process"
		if h.PID > 0 {
			who = "process " + strconv.Itoa(h.PID)
		}
		line("held by", "%s, which has %s open", who, printable(h.Path))
	}
	if s.StagedBytes > 0 || s.LocalOnly > 0 {
		line("staging", "%s, %s local only", humanize.Bytes(uint64(s.StagedBytes)), count(s.LocalOnly, "path"))
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
