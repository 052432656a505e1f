package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

func (m *mounted) status() mountStatus {
	c, r := m.stack.cache.Stats(), m.stack.client.Stats()
	pass, why := m.server.Passthrough()
	s := mountStatus{
		Mountpoint: m.cfg.dir,
		Repo:       m.loc.Repo.String(), Revision: m.loc.Rev(), Commit: string(m.at), Path: m.loc.Path,
		ReadOnly: m.cfg.readOnly != "", ReadOnlyReason: m.cfg.readOnly,
		PID: os.Getpid(), Version: version(), Endpoint: m.cfg.endpoint,
		Online:      r.Online && !m.cfg.offline,
		Cache:       cacheStatus{MemoryBytes: c.MemoryBytes, DiskBytes: c.DiskBytes, Hits: c.Hits, Misses: c.Misses},
		Passthrough: pass, PassthroughReason: why, ReadAheadKB: m.server.ReadAheadKB(),
		Requests:     requestStatus{API: r.API, Resolvers: r.Resolvers, Pages: r.Pages, CDN: r.CDN},
		BytesFetched: r.BytesFetched,
		State:        m.state(), Mounted: m.started, LogFile: m.cfg.logFile,
		Views: len(m.stack.tree.Views()),
	}
	if m.loc.Repo.IsZero() {
		s.Repo, s.Revision = wholeHub, ""
	}
	if v, ok := m.view(); ok {
		s.Commit = string(v.Snapshot.Commit)
		if !v.Checked.IsZero() {
			s.Checked = &v.Checked
		}
	}
	if !r.Stalled.IsZero() {
		s.StalledSince = &r.Stalled
	}
	if r.LastError != nil {
		f := explain(&repoError{m.loc, m.cfg.endpoint, r.LastError})
		s.LastError = &errorStatus{Time: r.LastErrorTime, Text: f.text, Hint: f.hint}
	}
	m.writeStatus(&s)
	return s.normal()
}

// writeStatus fills in what is to say of changes.
func (m *mounted) writeStatus(s *mountStatus) {
	if m.cfg.readOnly != "" {
		return
	}
	s.CommitsTo, s.StateDir = m.commitsTo(), m.cfg.write.stateDir
	for _, b := range m.all() {
		q := b.queue.Status()
		s.Changes = append(s.Changes, m.showAll(b.ref, q.Changes)...)
		s.LocalOnly += q.LocalOnly
		s.StagedBytes += q.StagedBytes
		for _, h := range q.HeldBy {
			s.HeldBy = append(s.HeldBy, holderStatus{Path: m.show(b.ref, h.Path), PID: h.PID})
		}
		for _, u := range q.Uploads {
			s.Uploads = append(s.Uploads, uploadStatus{Path: m.show(b.ref, u.Path), Sent: u.Sent, Total: u.Total})
		}
		if c := q.LastCommit; c != nil && (s.LastCommit == nil || c.Time.After(s.LastCommit.Time)) {
			s.LastCommit = &commitStatus{ID: string(c.ID), URL: c.URL, Time: c.Time, Message: c.Message}
		}
		if q.Proposal != nil {
			s.PullRequest = &q.Proposal.URL
		}
		if e := q.LastError; e != nil && (s.LastError == nil || e.Time.After(s.LastError.Time)) {
			path := ""
			if e.Path != "" {
				path = m.show(b.ref, e.Path)
			}
			s.LastError = &errorStatus{Time: e.Time, Path: path, Text: e.Text, Hint: e.Hint}
		}
		if !q.Next.IsZero() && (s.NextCommit == nil || q.Next.Before(*s.NextCommit)) {
			s.NextCommit = &q.Next
		}
	}
	s.Pending = len(s.Changes)
}

// commitsTo says in one sentence where changes go, when, and who will see them
// (design §4 "Who may write").
func (m *mounted) commitsTo() string {
	p := m.cfg.write.policy
	where, adopted := "any branch that --rw="+m.cfg.write.rw+" names", 0
	if !m.cfg.loc.Repo.IsZero() {
		for _, b := range m.all() { // there is one
			visibility := "private"
			if b.public {
				visibility = "PUBLIC"
			}
			what := b.ref.Rev()
			switch {
			case p.CreatePR:
				what = "a pull request"
			case b.missing.Load():
				what = "the new branch " + what
			}
			where = fmt.Sprintf("%s of %s (%s)", what, b.ref.Repo, visibility)
			adopted = b.adopted
		}
	}
	var when string
	switch {
	case p.Manual:
		when = "only by `hfmount commit` and `hfmount run`"
	case p.Every > 0:
		when = "every " + short(p.Every)
	default:
		when = short(p.CommitAfter) + " after the last change"
	}
	s := "commits to " + where + ", " + when
	if adopted > 0 {
		s += fmt.Sprintf("; %s of an earlier mount included", count(adopted, "change"))
	}
	return s
}

// short leaves the zero units of a duration away.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return humanize.Comma(int64(n)) + " " + what + "s"
}
