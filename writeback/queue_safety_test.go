package writeback

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"hfmount/remote/hub"
)

// ourCommits counts the branch's commits that carry our trailer.
func (r *rig) ourCommits() int {
	n := 0
	for _, c := range r.h.history("main") {
		if batchOf(hub.LogEntry{Description: c.about}) != "" {
			n++
		}
	}
	return n
}

func TestLostAnswers(t *testing.T) {
	for _, c := range []struct {
		fault string
		posts int // 0 is any number
	}{
		{"", 1}, {"busy", 2}, {"apply-500", 1}, {"apply-500-push", 1}, {"lost", 2}, {"late", 1}, {"very late", 0},
		{"push:other.txt", 2}, {"unavailable", 2}, {"limited", 2},
	} {
		for _, explicit := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s explicit %v", c.fault, explicit), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h := newFakeHub(t, map[string]string{"gone": "x"})
					r := newRig(t, h, defaults)
					h.set(func() { h.faults = []string{c.fault} })
					r.write("a", "one")
					r.write("big.safetensors", "weights")
					r.remove("gone")
					if explicit {
						if _, err := r.q.Commit(context.Background(), CommitRequest{}); err != nil && !errors.Is(err, hub.ErrUnavailable) {
							t.Fatal(err)
						}
					}
					time.Sleep(10 * time.Minute)
					if n := r.ourCommits(); n != 1 {
						t.Errorf("%d commits of ours, want 1", n)
					}
					if c.posts != 0 && h.seen().posts != c.posts {
						t.Errorf("%d requests, want %d", h.seen().posts, c.posts)
					}
					r.wantText("a", "one")
					r.wantText("big.safetensors", "weights")
					r.wantText("gone", "-")
					r.wantPending()
					if left := r.l.kept("batch/"); len(left) != 0 {
						t.Errorf("%d batches are not settled", len(left))
					}
					r.write("a", "two")
					time.Sleep(time.Minute)
					r.wantText("a", "two")
				})
			})
		}
	}
}

// A file that is written again while the outcome of its commit is unknown ends
// with the newer bytes, on top of the older ones, without a conflict.
func TestWrittenAgainWhileUncertain(t *testing.T) {
	for _, fault := range []string{"apply-500", "late", "lost", "very late"} {
		t.Run(fault, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newFakeHub(t, nil)
				r := newRig(t, h, defaults)
				h.set(func() { h.faults = []string{fault} })
				r.write("d/a", "one")
				time.Sleep(32 * time.Second)
				r.write("d/a", "two")
				time.Sleep(10 * time.Minute)
				r.wantText("d/a", "two")
				r.wantPending()
				if len(h.seen().prs) != 0 {
					t.Error("our own commit was taken for a conflict")
				}
			})
		})
	}
}

func TestRestartWithAnUnsettledBatch(t *testing.T) {
	for _, fault := range []string{"apply-500", "lost", "late"} {
		t.Run(fault, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newFakeHub(t, nil)
				r := newRig(t, h, defaults)
				h.set(func() { h.faults = []string{fault} })
				h.set(func() { h.slow = 3 * time.Second })
				r.write("a", "one")
				time.Sleep(32 * time.Second) // the request is under way
				h.mu.Lock()
				h.down = hub.ErrUnavailable // so that it cannot be settled before the end
				h.slow = 0
				h.mu.Unlock()
				time.Sleep(2 * time.Second)
				h.mu.Lock()
				h.down = nil
				h.mu.Unlock()
				r.restart()
				time.Sleep(5 * time.Minute)
				if n := r.ourCommits(); n != 1 {
					t.Errorf("%d commits of ours, want 1", n)
				}
				r.wantText("a", "one")
				r.wantPending()
			})
		})
	}
}

func TestNoPermissionOnTheBranchIsSaidOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHub(t, nil)
		r := newRig(t, h, defaults)
		h.set(func() { h.faults = []string{"precondition", "precondition", "precondition"} })
		r.write("a", "one")
		time.Sleep(30 * time.Minute)
		if h.seen().posts != 1 {
			t.Errorf("%d requests, want 1", h.seen().posts)
		}
		r.wantPending("a blocked")
		if s := r.q.Status(); s.LastError == nil || !strings.Contains(s.LastError.Hint, "--create-pr") {
			t.Errorf("last error %+v", s.LastError)
		}
		if _, err := r.q.Commit(context.Background(), CommitRequest{}); !errors.Is(err, iofs.ErrPermission) {
			t.Errorf("explicit commit: %v, want no permission", err)
		}
		r.q.Kick() // a new token
		time.Sleep(time.Minute)
		h.mu.Lock()
		h.faults = nil
		h.mu.Unlock()
		r.q.Kick()
		time.Sleep(time.Minute)
		r.wantPending()
	})
}

func TestTokenExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHub(t, nil)
		r := newRig(t, h, defaults)
		h.set(func() { h.down = hub.ErrBadToken })
		r.write("a", "one")
		time.Sleep(time.Hour)
		r.wantPending("a pending")
		if e := r.q.Status().LastError; e == nil || !strings.Contains(e.Hint, "log in") {
			t.Errorf("last error %+v", e)
		}
		h.mu.Lock()
		h.down = nil
		h.mu.Unlock()
		r.q.Kick()
		time.Sleep(time.Second)
		r.wantPending()
		if e := r.q.Status().LastError; e != nil {
			t.Errorf("the error stays: %+v", e)
		}
	})
}

func TestBranchGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHub(t, nil)
		r := newRig(t, h, defaults)
		h.mu.Lock()
		head := h.branches["main"]
		delete(h.branches, "main")
		h.mu.Unlock()
		r.write("a", "one")
		time.Sleep(time.Hour)
		r.wantPending("a blocked")
		h.mu.Lock()
		h.branches["main"] = head
		h.mu.Unlock()
		time.Sleep(2 * time.Minute)
		r.wantPending()
	})
}

func TestForcePush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHub(t, map[string]string{"a": "A"})
		r := newRig(t, h, defaults)
		r.write("a", "ours")
		h.mu.Lock()
		h.branches["main"] = ""
		h.mu.Unlock()
		h.push("main", "rewritten", map[string]string{"a": "A"})
		time.Sleep(time.Hour)
		r.wantPending("a blocked")
		r.commit(CommitRequest{Yes: true})
		r.wantText("a", "ours")
		r.wantPending()
	})
}

func TestCreateBranch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHub(t, map[string]string{"a": "A"})
		h.mu.Lock()
		h.branches["trunk"] = h.branches["main"]
		delete(h.branches, "main")
		h.mu.Unlock()
		p := defaults
		p.CreateBranch = true
		h.mu.Lock()
		h.branches["main"] = h.branches["trunk"] // what the view shows
		h.mu.Unlock()
		r := newRig(t, h, p)
		h.mu.Lock()
		delete(h.branches, "main")
		h.mu.Unlock()
		time.Sleep(time.Hour)
		if len(h.seen().branched) != 0 {
			t.Fatal("the branch was made before there was a commit")
		}
		r.write("b", "B")
		time.Sleep(time.Minute)
		if len(h.seen().branched) != 1 {
			t.Errorf("branches made: %v", h.seen().branched)
		}
		r.wantText("a", "A")
		r.wantText("b", "B")
	})
}

func TestRefusedPaths(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHub(t, nil)
		h.refused["d/bad"] = "a name the Hub does not like"
		r := newRig(t, h, defaults)
		r.write("d/bad", "x")
		r.write("d/good", "y")
		r.write(`e/back\slash`, "x")
		r.write("e/good", "y")
		r.write("f/fine", "z")
		r.write("README.md", "---\nbad: [\n---\n")
		time.Sleep(2 * time.Minute)
		r.wantPending("README.md refused", "d/bad refused", "d/good pending", `e/back\slash refused`, "e/good pending")
		r.wantText("f/fine", "z")
		out := r.commit(CommitRequest{})
		if len(out.Left) != 3 || out.Left[1].Reason != "a name the Hub does not like" {
			t.Errorf("left: %+v", out.Left)
		}
		r.wantText("d/good", "y")
		r.wantText("e/good", "y")
		r.write("README.md", "# fine\n")
		time.Sleep(time.Minute)
		r.wantText("README.md", "# fine\n")
	})
}

func TestGuard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		files := make(map[string]string)
		for i := range 20 {
			files[fmt.Sprintf("d/%02d", i)] = "x"
		}
		h := newFakeHub(t, files)
		r := newRig(t, h, defaults)
		for i := range 11 {
			r.remove(fmt.Sprintf("d/%02d", i))
		}
		time.Sleep(time.Hour)
		r.wantCommits()
		if got := r.pending(); len(got) != 11 || got[0] != "d/00 held" {
			t.Errorf("pending %q", got)
		}
		if k := r.kinds(); len(k) != 1 || k[0] != "held" {
			t.Errorf("events %v", k)
		}
		r.write("e/free", "f")
		time.Sleep(time.Minute)
		r.wantText("e/free", "f")
		if out := r.commit(CommitRequest{}); len(out.Left) != 11 || out.Left[0].State != Held {
			t.Errorf("commit without --yes: %+v", out)
		}
		if out := r.commit(CommitRequest{Final: true}); len(out.Left) != 11 {
			t.Errorf("unmount: %+v", out)
		}
		r.commit(CommitRequest{Yes: true})
		r.wantPending()
		r.wantText("d/00", "-")
	})
}

func TestGuardSecrets(t *testing.T) {
	for _, public := range []bool{true, false} {
		t.Run(fmt.Sprint("public ", public), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &rig{t: t, h: newFakeHub(t, nil), dir: t.TempDir(), p: defaults, pub: public}
				r.start()
				t.Cleanup(r.close)
				r.write("d/config.py", "TOKEN = 'hf_"+strings.Repeat("aB3", 12)+"'")
				r.write("d/fine", "x")
				time.Sleep(time.Hour)
				if public {
					r.wantPending("d/config.py held", "d/fine held")
					// Without the secret the rest goes.
					r.remove("d/config.py")
					time.Sleep(time.Minute)
				}
				r.wantPending()
			})
		})
	}
	t.Run("a rename is no deletion", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			files := make(map[string]string)
			var moves []string
			for i := range 12 {
				files[fmt.Sprintf("old/%02d", i)] = fmt.Sprint(i)
				moves = append(moves, fmt.Sprintf("old/%02d", i), fmt.Sprintf("new/%02d", i))
			}
			h := newFakeHub(t, files)
			r := newRig(t, h, defaults)
			r.rename(true, moves...)
			time.Sleep(2 * time.Second)
			r.wantPending()
			r.wantText("new/11", "11")
			r.wantText("old/11", "-")
			if n := r.ourCommits(); n != 1 {
				t.Errorf("%d commits, want 1", n)
			}
			if got := h.history("main")[0].title; got != "Rename 12 files via hfmount" {
				t.Errorf("title %q", got)
			}
		})
	})
}

func TestRenameOfALargeFileUploadsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHub(t, map[string]string{"a.safetensors": "weights", "small.txt": "s"})
		r := newRig(t, h, defaults)
		r.rename(false, "a.safetensors", "b.safetensors", "small.txt", "big.txt")
		time.Sleep(time.Minute)
		r.wantText("b.safetensors", "weights")
		r.wantText("a.safetensors", "-")
		r.wantText("big.txt", "s")
		if len(h.seen().uploaded) != 0 {
			t.Errorf("uploads %v", h.seen().uploaded)
		}
		r.wantPending()
	})
}

func TestDiscard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHub(t, map[string]string{"old": "o"})
		r := newRig(t, h, defaults)
		r.write("d/a", "a")
		r.write("d/b", "b")
		r.rename(false, "old", "new")
		if err := r.q.Discard("d/a", "new"); err != nil {
			t.Fatal(err)
		}
		r.wantPending("d/b pending") // and old is back
		// An old name may be in use again.
		r.rename(false, "old", "new")
		r.write("old/x", "mine")
		if err := r.q.Discard("new"); err != nil {
			t.Fatal(err)
		}
		if _, ok := r.l.Get("old/x"); !ok {
			t.Error("another change was dropped with the new name")
		}
		if err := r.q.Discard("old"); err != nil {
			t.Fatal(err)
		}
		o := r.open("d/c", false)
		if err := r.q.Discard("d"); err == nil || !strings.Contains(err.Error(), "d/c") {
			t.Errorf("discard of an open file: %v", err)
		}
		r.shut(o)
		time.Sleep(time.Minute)
		r.wantText("d/a", "-")
		r.wantText("old", "o")
	})
}

func TestDiscardStopsTheUpload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHub(t, nil)
		h.slowPut = time.Hour
		r := newRig(t, h, defaults)
		r.write("d/m.safetensors", "weights")
		time.Sleep(time.Minute)
		r.wantPending("d/m.safetensors uploading")
		if err := r.q.Discard("d"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		r.wantPending()
		if len(h.seen().broken) != 1 || h.seen().posts != 0 {
			t.Errorf("%d uploads given up, %d commits", len(h.seen().broken), h.seen().posts)
		}
	})
}

func TestRevert(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHub(t, map[string]string{"a": "A", "m.bin": "weights", "d/x": "x", "d/y": "y"})
		r := newRig(t, h, defaults)
		r.write("a", "A2")
		r.write("new", "n")
		r.write("m.bin", "other")
		r.commit(CommitRequest{})
		r.remove("d/x")
		r.remove("d/y")
		r.commit(CommitRequest{})
		uploads := len(h.seen().uploaded)

		out, err := r.q.Revert(context.Background(), "")
		if err != nil || len(out.Commits) != 1 {
			t.Fatalf("revert: %+v, %v", out, err)
		}
		r.wantText("d/x", "x")
		r.wantText("a", "A2")

		first := h.history("main")[0].parent
		if _, err = r.q.Revert(context.Background(), first, "m.bin", "new"); err != nil {
			t.Fatal(err)
		}
		r.wantText("m.bin", "weights")
		r.wantText("new", "-")
		r.wantText("a", "A2")
		if len(h.seen().uploaded) != uploads {
			t.Error("a revert uploaded")
		}
		if got := h.history("main"); !strings.HasPrefix(got[len(got)-1].title, "Revert to "+first.Short()) {
			t.Errorf("title %q", got[len(got)-1].title)
		}
		r.write("a", "pending")
		if _, err := r.q.Revert(context.Background(), first, "a"); err == nil {
			t.Error("a revert over pending changes passes")
		}
		if _, err := r.q.Revert(context.Background(), first, "never"); !errors.Is(err, iofs.ErrNotExist) {
			t.Errorf("revert of nothing: %v", err)
		}
	})
}

func TestWaitFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHub(t, nil)
		r := newRig(t, h, defaults)
		o := r.open("log", false)
		r.append(o, "one\n")
		if err := r.q.WaitFor(context.Background(), "log"); err != nil {
			t.Fatal(err)
		}
		r.wantText("log", "one\n")
		r.append(o, "two\n")
		r.shut(o)
		if err := r.q.WaitFor(context.Background(), "log"); err != nil {
			t.Fatal(err)
		}
		r.wantText("log", "one\ntwo\n")
		r.wantPending()
		if err := r.q.WaitFor(context.Background(), "clean"); err != nil {
			t.Errorf("a clean file: %v", err)
		}
	})
}

func TestExplicitCommitWaitsForReleases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newFakeHub(t, nil), defaults)
		h := r.open("a", false)
		r.append(h, "a")
		if err := h.Flush(); err != nil {
			t.Fatal(err)
		}
		go func() {
			time.Sleep(2 * time.Second)
			_ = h.Release()
		}()
		start := time.Now()
		if out := r.commit(CommitRequest{}); len(out.Commits) != 1 || len(out.Left) != 0 {
			t.Errorf("commit: %+v", out)
		}
		if d := time.Since(start); d > 3*time.Second {
			t.Errorf("it took %v", d)
		}
		h = r.open("b", false)
		r.write("c", "c")
		if out := r.commit(CommitRequest{}); len(out.Commits) != 1 || len(out.Left) != 1 || out.Left[0].State != Open {
			t.Errorf("commit with an open file: %+v", out)
		}
		r.shut(h)
	})
}

// A mapping outlives the close: its file is not committed, and named.
func TestMappedFilesAreNotCommitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newFakeHub(t, nil), defaults)
		r.write("d/a", "a")
		h := r.open("d/mapped", false)
		r.append(h, "before")
		native, _, ok := h.Native()
		if !ok {
			t.Fatal("a new file is not native")
		}
		// As the kernel opens it for a passthrough handle.
		fd, err := os.OpenFile(native.Name(), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		m, err := unix.Mmap(int(fd.Fd()), 0, len("before"), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			t.Fatal(err)
		}
		if err := fd.Close(); err != nil {
			t.Fatal(err)
		}
		r.shut(h)
		r.write("e/free", "f")
		time.Sleep(time.Hour)
		r.wantCommits("e/free")
		r.wantPending("d/a pending", "d/mapped open")
		if got := r.q.Status().HeldBy; len(got) != 1 || got[0].Path != "d/mapped" {
			t.Errorf("held by %v", got)
		}
		if out := r.commit(CommitRequest{}); len(out.Left) != 1 || out.Left[0].Path != "d/mapped" || out.Left[0].State != Open {
			t.Errorf("left %+v", out.Left)
		}
		r.wantText("d/a", "a")
		copy(m, "after!")
		if err := unix.Munmap(m); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		r.wantText("d/mapped", "after!")
		r.wantPending()
	})
}

func TestUploadAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHub(t, nil)
		h.slowPut = 10 * time.Second
		r := newRig(t, h, defaults)
		big := strings.Repeat("0123456789abcdef", aheadFrom/16+1)
		r.write("d/big", big)
		r.write("d/vanishes", big+"x")
		time.Sleep(5 * time.Second)
		r.remove("d/vanishes")
		r.rename(false, "d/big", "d/renamed")
		time.Sleep(8 * time.Second)
		if len(h.seen().uploaded) != 1 || len(h.seen().broken) != 1 || h.seen().posts != 0 {
			t.Errorf("%d uploads done, %d given up, %d commits before anything is due", len(h.seen().uploaded), len(h.seen().broken), h.seen().posts)
		}
		time.Sleep(time.Minute)
		r.wantCommits("d/renamed")
		if len(h.seen().uploaded) != 1 {
			t.Errorf("%d uploads, want 1", len(h.seen().uploaded))
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if l := r.landed[len(r.landed)-1]; len(l.Files) != 1 || l.Files[0].Path != "d/renamed" || l.Files[0].Content != (hub.ContentID{Algo: hub.SHA256, Hex: h.seen().uploaded[0], Size: int64(len(big))}) {
			t.Errorf("landed %+v", l)
		}
	})
}

func TestTheViewMovesBeforeChangesLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newFakeHub(t, nil), defaults)
		r.mu.Lock()
		r.fail = errors.New("the view cannot move")
		r.mu.Unlock()
		r.write("a", "a")
		time.Sleep(time.Minute)
		r.wantText("a", "a")
		if _, ok := r.l.Get("a"); !ok {
			t.Error("the change left the layer before the view showed the commit")
		}
		r.mu.Lock()
		r.fail = nil
		r.mu.Unlock()
		time.Sleep(2 * time.Minute)
		if _, ok := r.l.Get("a"); ok {
			t.Error("the change stays in the layer")
		}
		if n := r.ourCommits(); n != 1 {
			t.Errorf("%d commits, want 1", n)
		}
	})
}
