package hubtest

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"hfmount/remote/hub"
)

// discussion is a discussion or a pull request, as state.json keeps it. The
// fields are guarded by store.mu.
type discussion struct {
	Num     int         `json:"num"`
	Title   string      `json:"title"`
	Status  string      `json:"status"` // draft, open, closed, merged
	PR      bool        `json:"pr,omitempty"`
	Author  string      `json:"author"`
	Created time.Time   `json:"created"`
	Base    string      `json:"base,omitempty"`   // full reference a pull request is for
	Merged  string      `json:"merged,omitempty"` // the merge commit
	Events  []talkEvent `json:"events"`
}

// talkEvent is one entry of a discussion. Text is by Type: a comment's text,
// the new status, the subject of a commit, or the old title.
type talkEvent struct {
	ID      string    `json:"id"`
	Type    string    `json:"type"` // comment, status-change, commit, title-change
	Author  string    `json:"author"`
	Created time.Time `json:"created"`
	Text    string    `json:"text"`
	More    string    `json:"more,omitempty"` // a commit's id, or the new title
}

// ref is the reference of a pull request.
func (d *discussion) ref() string { return "refs/pr/" + strconv.Itoa(d.Num) }

func (d *discussion) comments() int {
	n := 0
	for _, e := range d.Events {
		if e.Type == "comment" {
			n++
		}
	}
	return n
}

func (s *store) newEvent(kind, author, text, more string) talkEvent {
	var id [12]byte
	rand.Read(id[:])
	return talkEvent{
		ID: hex.EncodeToString(id[:]), Type: kind, Author: author,
		Created: s.now().UTC().Truncate(time.Millisecond), Text: text, More: more,
	}
}

// newTalk makes a discussion with the next number, not yet part of the
// repository. The caller holds commitMu, so that no two get one number. A
// reference that a crash left without its pull request uses its number up.
func (r *repo) newTalk(title, text, author string, pr bool, status, base string) *discussion {
	r.st.mu.RLock()
	defer r.st.mu.RUnlock()
	num := 1
	for _, d := range r.talks {
		num = max(num, d.Num+1)
	}
	for name := range r.db.refs() {
		if n, err := strconv.Atoi(strings.TrimPrefix(name, "refs/pr/")); err == nil {
			num = max(num, n+1)
		}
	}
	d := &discussion{
		Num: num, Title: title, Status: status, PR: pr, Author: author,
		Created: r.st.now().UTC().Truncate(time.Millisecond), Base: base,
	}
	d.Events = []talkEvent{r.st.newEvent("comment", author, text, "")}
	return d
}

func (r *repo) addTalk(d *discussion) error {
	r.st.mu.Lock()
	defer r.st.mu.Unlock()
	r.talks = append(r.talks, d)
	return r.st.save()
}

// talk returns a copy of a discussion.
func (r *repo) talk(num int) (discussion, bool) {
	r.st.mu.RLock()
	defer r.st.mu.RUnlock()
	for _, d := range r.talks {
		if d.Num == num {
			c := *d
			c.Events = slices.Clone(d.Events)
			return c, true
		}
	}
	return discussion{}, false
}

// allTalks returns copies of all discussions, the newest first.
func (r *repo) allTalks() []discussion {
	r.st.mu.RLock()
	defer r.st.mu.RUnlock()
	out := make([]discussion, len(r.talks))
	for i, d := range r.talks {
		out[i] = *d
		out[i].Events = slices.Clone(d.Events)
	}
	slices.SortFunc(out, func(a, b discussion) int { return cmp.Compare(b.Num, a.Num) })
	return out
}

// changeTalk edits a discussion and saves it.
func (r *repo) changeTalk(num int, change func(*discussion)) error {
	r.st.mu.Lock()
	defer r.st.mu.Unlock()
	for _, d := range r.talks {
		if d.Num == num {
			change(d)
			return r.st.save()
		}
	}
	return fmt.Errorf("%w: discussion %d", hub.ErrEntryNotFound, num)
}

// noteCommit adds a commit on a pull request to its events.
func (r *repo) noteCommit(ref string, id hub.CommitID, title, author string) error {
	num, err := strconv.Atoi(strings.TrimPrefix(ref, "refs/pr/"))
	if err != nil {
		return nil // another branch
	}
	if _, ok := r.talk(num); !ok {
		return nil
	}
	return r.changeTalk(num, func(d *discussion) {
		d.Events = append(d.Events, r.st.newEvent("commit", author, title, string(id)))
	})
}

// ownsTalk reports whether rev is the reference of a pull request that the
// account opened, and may therefore push to.
func (r *repo) ownsTalk(rev, account string) bool {
	num, err := strconv.Atoi(strings.TrimPrefix(rev, "refs/pr/"))
	if err != nil || !strings.HasPrefix(rev, "refs/pr/") {
		return false
	}
	d, ok := r.talk(num)
	return ok && d.PR && d.Author == account
}
