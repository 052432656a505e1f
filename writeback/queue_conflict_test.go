package writeback

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestConflictPolicies(t *testing.T) {
	for _, policy := range []OnConflict{ConflictPR, ConflictFail, ConflictOurs} {
		for _, c := range conflictTable {
			if c.there == "/" {
				continue
			}
			t.Run(fmt.Sprintf("%d %s", policy, c.what), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					files := map[string]string{"keep": "k"}
					if c.base != "" {
						files["d/p"] = c.base
					}
					h := newFakeHub(t, files)
					p := defaults
					p.OnConflict = policy
					r := newRig(t, h, p)
					if c.there != c.base {
						theirs := c.there
						if theirs == "" {
							theirs = "-"
						}
						h.push("main", "theirs", map[string]string{"d/p": theirs})
					}
					if c.ours == "" {
						r.remove("d/p")
					} else {
						r.write("d/p", c.ours)
					}
					r.write("d/other", "o")
					r.write("free", "f")
					time.Sleep(2 * time.Minute)
					theirs, ours := c.there, c.ours
					if theirs == "" {
						theirs = "-"
					}
					if ours == "" {
						ours = "-"
					}
					r.wantText("free", "f") // another unit goes its way
					switch {
					case c.want == carry:
						r.wantText("d/p", ours)
						r.wantPending()
					case c.want == done:
						r.wantText("d/p", theirs)
						r.wantPending()
					case policy == ConflictOurs:
						r.wantText("d/p", ours)
						r.wantPending()
					case policy == ConflictFail:
						r.wantText("d/p", theirs)
						r.wantText("d/other", "-")
						r.wantPending("d/other pending", "d/p conflict")
					default:
						r.wantText("d/p", theirs)
						r.wantPending("d/other in-pr", "d/p in-pr")
						if got := h.text("refs/pr/1", "d/p"); got != ours {
							t.Errorf("the pull request has %q, want %q", got, ours)
						}
						if got := h.text("refs/pr/1", "d/other"); got != "o" {
							t.Errorf("the pull request has d/other %q", got)
						}
					}
					if want := c.want == clash && policy == ConflictPR; want != (len(h.seen().prs) == 1) {
						t.Errorf("%d pull requests", len(h.seen().prs))
					}
					if c.want == clash && policy == ConflictFail {
						if out := r.commit(CommitRequest{}); len(out.Left) != 2 || out.Proposal != nil {
							t.Errorf("explicit commit: %+v", out)
						}
					}
				})
			})
		}
	}
}

func TestPullRequestOfAConflict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHub(t, map[string]string{"d/p": "A"})
		r := newRig(t, h, defaults)
		h.push("main", "theirs", map[string]string{"d/p": "B"})
		r.write("d/p", "X")
		out := r.commit(CommitRequest{})
		if out.Proposal == nil || out.Proposal.Num != 1 || len(out.Left) != 0 {
			t.Errorf("commit: %+v", out)
		}
		// Later changes of the path join it, also after a restart.
		r.refresh()
		r.write("d/p", "Y")
		time.Sleep(time.Minute)
		r.restart()
		r.wantPending("d/p in-pr")
		r.write("d/p", "Z")
		time.Sleep(time.Minute)
		if len(h.seen().prs) != 1 || h.text("refs/pr/1", "d/p") != "Z" {
			t.Errorf("%d pull requests, the first has %q", len(h.seen().prs), h.text("refs/pr/1", "d/p"))
		}
		if got := r.q.Status().Changes[0].Reason; got != h.seen().prs[0].URL {
			t.Errorf("reason %q, want the URL", got)
		}
		// Other paths go to the branch.
		r.write("e/q", "q")
		time.Sleep(time.Minute)
		r.wantText("e/q", "q")
		// It is merged.
		h.push("main", "merge", map[string]string{"d/p": "Z"})
		h.mu.Lock()
		h.prs[0].Open = false
		h.mu.Unlock()
		time.Sleep(3 * time.Minute)
		r.wantPending()
		// The path is as any other again.
		r.refresh()
		r.write("d/p", "after")
		time.Sleep(time.Minute)
		r.wantText("d/p", "after")
	})
}

func TestPullRequestClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHub(t, map[string]string{"d/p": "A"})
		r := newRig(t, h, defaults)
		h.push("main", "theirs", map[string]string{"d/p": "B"})
		r.write("d/p", "X")
		time.Sleep(time.Minute)
		h.mu.Lock()
		h.prs[0].Open = false
		h.mu.Unlock()
		r.write("d/p", "Y")
		time.Sleep(time.Minute)
		r.wantPending("d/p conflict")
		if len(h.seen().prs) != 1 {
			t.Errorf("%d pull requests, want one", len(h.seen().prs))
		}
		if err := r.q.Discard("d/p"); err != nil {
			t.Fatal(err)
		}
		r.wantPending()
	})
}

func TestNoPermissionForPullRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHub(t, map[string]string{"d/p": "A"})
		h.noPR = true
		r := newRig(t, h, defaults)
		h.push("main", "theirs", map[string]string{"d/p": "B"})
		r.write("d/p", "X")
		time.Sleep(time.Minute)
		r.wantPending("d/p conflict")
	})
}

func TestCreatePR(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHub(t, map[string]string{"a": "A"})
		h.noWrite = true
		p := defaults
		p.CreatePR = true
		r := newRig(t, h, p)
		for i := range 3 {
			r.write("a", fmt.Sprint(i))
			time.Sleep(time.Minute)
		}
		if len(h.seen().prs) != 1 || h.text("refs/pr/1", "a") != "2" {
			t.Errorf("%d pull requests, a is %q", len(h.seen().prs), h.text("refs/pr/1", "a"))
		}
		r.wantText("a", "A")
		r.wantPending("a in-pr")
		if out := r.commit(CommitRequest{Final: true}); len(out.Left) != 0 || out.Proposal != nil {
			t.Errorf("unmount: %+v", out)
		}
	})
}

func TestAttributesEditedByTheHub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const tail = " filter=lfs diff=lfs merge=lfs -text\n"
		h := newFakeHub(t, map[string]string{".gitattributes": "*.bin" + tail})
		r := newRig(t, h, defaults)
		r.write(".gitattributes", "*.bin"+tail+"*.sh text\n")
		h.push("main", "theirs", map[string]string{".gitattributes": "*.bin" + tail + "x.dat" + tail})
		time.Sleep(time.Minute)
		r.wantText(".gitattributes", "*.bin"+tail+"*.sh text\nx.dat"+tail)
		r.wantPending()
	})
}
