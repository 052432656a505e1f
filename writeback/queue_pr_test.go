package writeback

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hfmount/remote/hub"
)

// onDev is a rig on a branch that has what main has, and one file more.
func onDev(t *testing.T, p Policy) (*fakeHub, *rig) {
	h := newFakeHub(t, map[string]string{"d/p": "A", "d/q": "Q"})
	h.set(func() { h.branches["dev"] = h.branches["main"] })
	h.push("dev", "only here", map[string]string{"dev.txt": "dev"})
	r := &rig{t: t, h: h, dir: t.TempDir(), p: p, to: "dev"}
	r.start()
	t.Cleanup(r.close)
	return h, r
}

// A conflict on another branch than main opens a pull request against that
// branch, once, whatever becomes of the answer.
func TestPullRequestAgainstABranch(t *testing.T) {
	for _, fault := range []string{"", "lost", "apply-500", "late", "busy", "unavailable", "limited"} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprint(fault, " restart ", restart), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h, r := onDev(t, defaults)
					h.push("main", "elsewhere", map[string]string{"d/p": "M"})
					h.push("dev", "theirs", map[string]string{"d/p": "B"})
					h.set(func() { h.faults = []string{fault} })
					r.write("d/p", "X")
					r.write("d/new", "N")
					time.Sleep(30*time.Second + 700*time.Millisecond)
					if restart {
						r.restart()
					}
					time.Sleep(25 * time.Minute)
					prs := h.seen().prs
					if len(prs) != 1 {
						t.Fatalf("%d pull requests", len(prs))
					}
					r.wantPending("d/new in-pr", "d/p in-pr")
					for p, want := range map[string]string{"d/p": "X", "d/new": "N", "dev.txt": "dev"} {
						if got := h.text("refs/pr/1", p); got != want {
							t.Errorf("the pull request has %s %q, want %q", p, got, want)
						}
					}
					if got := h.text("dev", "d/p"); got != "B" {
						t.Errorf("the branch has %q", got)
					}
					if s := r.q.Status(); s.Proposal == nil || s.Proposal.Num != 1 || s.Changes[0].Reason != prs[0].URL {
						t.Errorf("status %+v", s)
					}
					// Later changes join it.
					r.restart()
					r.write("d/p", "Y")
					out := r.commit(CommitRequest{})
					if len(h.seen().prs) != 1 || h.text("refs/pr/1", "d/p") != "Y" || out.Proposal == nil {
						t.Errorf("%d pull requests, %q in the first, %+v", len(h.seen().prs), h.text("refs/pr/1", "d/p"), out)
					}
					if left := r.l.kept("batch/"); len(left) != 0 {
						t.Errorf("%d batches are not settled", len(left))
					}
					// Merged.
					h.push("dev", "merge", map[string]string{"d/p": "Y", "d/new": "N"})
					h.set(func() { h.prs[0].Open = false })
					time.Sleep(3 * time.Minute)
					r.wantPending()
				})
			})
		}
	}
}

// Only the first part of a large unit opens it.
func TestPullRequestInParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, r := onDev(t, defaults)
		h.push("dev", "theirs", map[string]string{"d/p": "B"})
		r.write("d/p", "X")
		for i := range mostFiles + 10 {
			r.write(fmt.Sprint("d/n/", i), "x")
		}
		out := r.commit(CommitRequest{})
		if len(out.Commits) < 2 || len(out.Left) != 0 || out.Proposal == nil || len(h.seen().prs) != 1 {
			t.Errorf("%d commits, %d left, %d pull requests", len(out.Commits), len(out.Left), len(h.seen().prs))
		}
		for _, p := range []string{"d/p", "d/n/0", fmt.Sprint("d/n/", mostFiles+9)} {
			if got := h.text("refs/pr/1", p); !strings.EqualFold(got, "x") {
				t.Errorf("the pull request has %s %q", p, got)
			}
		}
	})
}

func TestCreatePRAgainstABranch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := defaults
		p.CreatePR = true
		h, r := onDev(t, p)
		h.set(func() { h.noWrite = true })
		r.write("d/p", "X")
		r.remove("dev.txt")
		time.Sleep(time.Minute)
		r.write("d/q", "Z")
		time.Sleep(time.Minute)
		if n := len(h.seen().prs); n != 1 {
			t.Fatalf("%d pull requests", n)
		}
		r.wantPending("d/p in-pr", "d/q in-pr", "dev.txt in-pr")
		for p, want := range map[string]string{"d/p": "X", "d/q": "Z", "dev.txt": "-"} {
			if got := h.text("refs/pr/1", p); got != want {
				t.Errorf("the pull request has %s %q, want %q", p, got, want)
			}
		}
	})
}

func TestNoPermissionForPullRequestsAgainstABranch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, r := onDev(t, defaults)
		h.set(func() { h.noPR = true })
		h.push("dev", "theirs", map[string]string{"d/p": "B"})
		r.write("d/p", "X")
		time.Sleep(time.Hour)
		r.wantPending("d/p conflict")
		if n := h.seen().posts; n != 1 {
			t.Errorf("it was tried %d times", n)
		}
		// A token that may.
		h.set(func() { h.noPR = false })
		r.q.Kick()
		time.Sleep(time.Second)
		r.commit(CommitRequest{})
		r.wantPending("d/p in-pr")
	})
}

// Against main it is opened by a request of its own, whose answer may be lost,
// or the process may die.
func TestOpeningAPullRequestOnce(t *testing.T) {
	for _, fault := range []string{"lost", "apply-500"} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprint(fault, " restart ", restart), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h := newFakeHub(t, map[string]string{"d/p": "A"})
					r := newRig(t, h, defaults)
					h.set(func() {
						h.prFault = fault
						h.newPR("Changes from hfmount", "of another mount")
						h.branches["refs/pr/1"] = h.branches["main"]
					})
					h.push("main", "theirs", map[string]string{"d/p": "B"})
					r.write("d/p", "X")
					time.Sleep(30*time.Second + 700*time.Millisecond)
					if restart {
						r.restart()
					}
					time.Sleep(10 * time.Minute)
					r.wantPending("d/p in-pr")
					if n := len(h.seen().prs); n != 2 || h.text("refs/pr/2", "d/p") != "X" || h.text("refs/pr/1", "d/p") != "A" {
						t.Errorf("%d pull requests, want the other's and one of ours", n)
					}
				})
			})
		}
	}
}

// What a reviewer pushed to the pull request is not overwritten by paths that
// come to it later.
func TestAReviewersPushIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHub(t, map[string]string{"d/p": "A", "e/q": "A", "f/r": "A"})
		h.set(func() { h.noWrite = true })
		p := defaults
		p.CreatePR = true
		r := newRig(t, h, p)
		r.write("d/p", "X")
		time.Sleep(time.Minute)
		h.push("refs/pr/1", "review", map[string]string{"e/q": "reviewed"})
		r.write("e/q", "ours")
		r.write("f/r", "free")
		time.Sleep(time.Minute)
		r.write("d/p", "Y")
		time.Sleep(time.Minute)
		for p, want := range map[string]string{"d/p": "Y", "e/q": "reviewed", "f/r": "free"} {
			if got := h.text("refs/pr/1", p); got != want {
				t.Errorf("the pull request has %s %q, want %q", p, got, want)
			}
		}
		r.wantPending("d/p in-pr", "e/q conflict", "f/r in-pr")
	})
}

// A batch that is found later hands its bytes to the view, as one whose answer
// came.
func TestBytesOfARecoveredBatch(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprint("restart ", restart), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newFakeHub(t, map[string]string{"gone": "g"})
				r := newRig(t, h, defaults)
				h.set(func() { h.faults, h.slow = []string{"apply-down"}, 3*time.Second })
				r.write("d/a", "one")
				r.write("d/m.bin", "weights")
				r.write("d/again", "first")
				r.remove("gone")
				time.Sleep(32 * time.Second) // the request is under way
				h.set(func() { h.slow = 0 })
				r.apply(Edit{Path: "d/again", Forget: true})
				r.write("d/again", "second")
				time.Sleep(2 * time.Second)
				if restart {
					r.restart()
				}
				time.Sleep(2 * time.Minute)
				if len(r.l.kept("batch/")) != 1 {
					t.Fatal("the batch is settled already")
				}
				h.set(func() { h.down = nil })
				time.Sleep(2 * time.Minute)
				r.mu.Lock()
				var found *Landing
				for i, l := range r.landed {
					for _, p := range l.Paths {
						if p == "gone" {
							found = &r.landed[i]
						}
					}
				}
				r.mu.Unlock()
				if found == nil {
					t.Fatal("the batch never landed")
				}
				var got []string
				for _, f := range found.Files {
					got = append(got, f.Path)
					if f.Staged == "" || f.Adopted == nil || f.Content.Size != int64(len(h.text("main", f.Path))) {
						t.Errorf("%+v", f)
					}
				}
				if strings.Join(got, " ") != "d/a d/m.bin" {
					t.Errorf("handed over %q", got)
				}
				time.Sleep(time.Minute)
				r.wantText("d/again", "second")
				r.wantPending()
				if n := r.ourCommits(); n != 2 {
					t.Errorf("%d commits, want 2", n)
				}
			})
		})
	}
}

// As long as a pull request may be opened yet by a request whose answer was
// lost, no other is opened; other units go their way.
func TestAPullRequestThatMayBeOpenedYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, r := onDev(t, defaults)
		h.push("dev", "theirs", map[string]string{"d/p": "B"})
		h.set(func() { h.faults = []string{"very late"} })
		r.write("d/p", "X")
		start := time.Now()
		_, err := r.q.Commit(context.Background(), CommitRequest{})
		if !errors.Is(err, hub.ErrUncertain) || time.Since(start) > 2*time.Minute {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		r.refresh()
		r.write("e/free", "f")
		asked := h.count("preupload")
		time.Sleep(time.Minute)
		if got := h.text("dev", "e/free"); got != "f" {
			t.Errorf("another unit waits: %q", got)
		}
		r.write("d/p", "Y")
		time.Sleep(20 * time.Minute)
		r.wantPending("d/p in-pr")
		if n := len(h.seen().prs); n != 1 || h.text("refs/pr/1", "d/p") != "Y" {
			t.Errorf("%d pull requests", n)
		}
		if n := h.count("preupload") - asked; n > 30 {
			t.Errorf("%d preuploads", n)
		}
	})
}
