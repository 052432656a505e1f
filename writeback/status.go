package writeback

import (
	"slices"
	"strings"
	"time"

	"hfmount/remote/hub"
)

// Progress is how an upload stands, in bytes.
type Progress struct {
	Path        string
	Sent, Total int64
}

// Holder is who keeps a unit back.
type Holder struct {
	Path string
	PID  int
}

// QueueError is a failure as status shows it.
type QueueError struct {
	Time             time.Time
	Path, Text, Hint string
}

// CommitInfo is a commit that was made.
type CommitInfo struct {
	ID      hub.CommitID `json:"id"`
	URL     string       `json:"url"`
	Time    time.Time    `json:"time"`
	Message string       `json:"message"`
}

// Status is a moment's view of a queue.
type Status struct {
	Changes     []Change // but local-only ones
	LocalOnly   int
	HeldBy      []Holder
	StagedBytes int64
	Uploads     []Progress
	LastCommit  *CommitInfo
	Proposal    *hub.Proposal
	LastError   *QueueError
	Next        time.Time // of the next automatic commit, zero if none is due
}

// Status does no I/O.
func (q *Queue) Status() Status {
	items := q.items()
	moved := movedFrom(items)
	s := Status{StagedBytes: q.l.stagedBytes(), Uploads: q.uploads.progress()}
	uploading := make(map[string]bool)
	for _, u := range s.Uploads {
		uploading[u.Path] = true
	}
	groups := groupItems(items)
	s.HeldBy = holders(groups, q.policy, q.now())
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, it := range items {
		it.first = q.first[it.Path]
		if it.State == LocalOnly || it.Kind == Folder || it.Kind == Symlink {
			s.LocalOnly++
			continue
		}
		c := it.Change
		c.Moved = moved[it]
		g, kept := q.guarded[it.Path]
		if c.State == Pending {
			switch {
			case q.busy[it.Path]:
				c.State, c.Reason = Open, mappedReason
				s.HeldBy = append(s.HeldBy, Holder{Path: it.Path})
			case kept && g.seq == it.seq:
				c.State, c.Reason = Held, g.why
			case q.blocked != "":
				c.State, c.Reason = Blocked, q.blocked
			case q.flight[it.Path] || uploading[it.Path]:
				c.State = Uploading
			case q.paused[it.Path].seq == it.seq:
				c.Reason = q.paused[it.Path].why
			case q.policy.Manual:
				c.State, c.Reason = Held, manualReason
			case len(q.holds) > 0:
				c.Reason = "hfmount run"
			}
		}
		s.Changes = append(s.Changes, c)
	}
	slices.SortFunc(s.Changes, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
	if q.last != nil {
		last := *q.last
		s.LastCommit = &last
	}
	if q.lastErr != nil {
		e := *q.lastErr
		s.LastError = &e
	}
	if q.pr != nil {
		p := q.pr.Proposal
		s.Proposal = &p
	}
	if !q.policy.Manual && len(q.holds) == 0 {
		s.Next = q.nextCommit(groups)
	}
	return s
}

// movedFrom are the deletes of which a rename says where the bytes are now.
func movedFrom(items []*item) map[*item]bool {
	taken := make(map[string]bool)
	for _, it := range items {
		if it.Kind == Put && it.Was != "" {
			taken[it.Was] = true
		}
	}
	out := make(map[*item]bool)
	for _, it := range items {
		if it.Kind == Delete && taken[it.Path] {
			out[it] = true
		}
	}
	return out
}

// nextCommit is when the first group will be ready; q.mu is held.
func (q *Queue) nextCommit(groups []group) time.Time {
	var next time.Time
	for _, g := range groups {
		if at, ok := g.readyAt(q.policy); ok && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	if next.IsZero() {
		return next
	}
	if q.policy.Every > 0 {
		next = later(next, q.tick)
	}
	return later(next, q.notBefore)
}
