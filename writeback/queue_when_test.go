package writeback

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestShardedSaveIsOneCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newFakeHub(t, nil), defaults)
		var want []string
		for i := range 12 {
			r.write(shard(i, 12), fmt.Sprint("weights ", i))
			want = append(want, shard(i, 12))
			time.Sleep(20 * time.Second)
			r.wantCommits()
		}
		r.write("ckpt/model.safetensors.index.json", "{}")
		want = append(want, "ckpt/model.safetensors.index.json")
		time.Sleep(29 * time.Second)
		r.wantCommits()
		time.Sleep(3 * time.Second)
		r.wantCommits(strings.Join(want, " "))
		r.wantPending()
		if got := r.h.history("main")[0].title; got != "Add 13 files via hfmount" {
			t.Errorf("title %q", got)
		}
		time.Sleep(time.Hour)
		if r.h.seen().posts != 1 {
			t.Errorf("%d requests to commit, want 1", r.h.seen().posts)
		}
	})
}

func TestTensorBoardAllDay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newFakeHub(t, nil), defaults)
		log := r.open("logs/events.out.tfevents", true)
		for i := range 24 {
			r.append(log, fmt.Sprintln("step", i))
			r.write(fmt.Sprintf("logs/sample-%02d.txt", i), "x")
			time.Sleep(time.Hour)
		}
		if n := len(r.h.history("main")); n != 24 {
			t.Errorf("%d commits in a day, want one for each sample", n)
		}
		r.wantPending("logs/events.out.tfevents open")
		r.shut(log)
		time.Sleep(40 * time.Second)
		r.wantPending()
		if !strings.HasSuffix(r.h.text("main", "logs/events.out.tfevents"), "step 23\n") {
			t.Error("the log is not whole")
		}
	})
}

func TestBudgetOfAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newFakeHub(t, nil), defaults)
		for i := range 100 {
			r.write("state.json", fmt.Sprintf("{%d}", i))
			time.Sleep(36 * time.Second)
		}
		n := len(r.h.history("main"))
		if n > budgetBurst+budgetPerHour || n < 60 {
			t.Errorf("%d commits for 100 saves in an hour, want at most %d", n, budgetBurst+budgetPerHour)
		}
		time.Sleep(2 * time.Minute)
		r.wantText("state.json", "{99}")
		r.wantPending()
	})
}

func TestExplicitCommitsBypassTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newFakeHub(t, nil), defaults)
		for i := range 30 {
			r.write("a", fmt.Sprint(i))
			if out := r.commit(CommitRequest{}); len(out.Commits) != 1 || len(out.Left) != 0 {
				t.Fatalf("commit %d: %+v", i, out)
			}
		}
		if n := len(r.h.history("main")); n != 30 {
			t.Errorf("%d commits, want 30", n)
		}
	})
}

func TestCheckpointLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newFakeHub(t, nil), defaults)
		files := []string{"config.json", "model.safetensors", "optimizer.bin"}
		for step := 1; step <= 6; step++ {
			tmp, final := "tmp-checkpoint", fmt.Sprintf("checkpoint-%d", step*100)
			var moves []string
			for _, f := range files {
				r.write(tmp+"/"+f, fmt.Sprint(f, step))
				time.Sleep(3 * time.Second)
				moves = append(moves, tmp+"/"+f, final+"/"+f)
			}
			r.rename(true, moves...)
			// A directory renamed into place is ready at once.
			time.Sleep(2 * time.Second)
			r.wantText(final+"/optimizer.bin", fmt.Sprint("optimizer.bin", step))
			if old := step - 2; old >= 1 {
				for _, f := range files {
					r.remove(fmt.Sprintf("checkpoint-%d/%s", old*100, f))
				}
			}
			time.Sleep(2 * time.Minute)
		}
		for _, c := range r.h.history("main") {
			dirs := make(map[string]int)
			for p := range c.files {
				dir, _, _ := strings.Cut(p, "/")
				dirs[dir]++
				if dir == "tmp-checkpoint" {
					t.Errorf("%s was committed", p)
				}
			}
			for dir, n := range dirs {
				if n != len(files) {
					t.Errorf("commit %q shows %d files of %s", c.title, n, dir)
				}
			}
		}
		if n := len(r.h.history("main")); n != 6+4 {
			t.Errorf("%d commits, want 6 checkpoints and 4 removals", n)
		}
		r.wantPending()
	})
}

func TestManySmallFilesAreFewCommits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newFakeHub(t, nil), defaults)
		n := 10_000
		if testing.Short() {
			n = 1_500
		}
		for i := range n {
			r.write(fmt.Sprintf("data/%02d/%05d.txt", i%100, i), fmt.Sprint(i))
		}
		time.Sleep(10 * time.Minute)
		r.wantPending()
		commits := r.h.history("main")
		if len(commits) > 12 {
			t.Errorf("%d commits, want few", len(commits))
		}
		if got := len(commits[len(commits)-1].files); got != n {
			t.Errorf("%d files on the Hub, want %d", got, n)
		}
	})
}

// A file that is never quiet is committed all the same, after the longest wait.
func TestRewrittenAllTheTime(t *testing.T) {
	for _, every := range []time.Duration{0, 10 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			p := defaults
			p.Every = every
			r := newRig(t, newFakeHub(t, nil), p)
			for i := range 3 * 120 {
				r.write("state.json", fmt.Sprint(i))
				time.Sleep(20 * time.Second)
			}
			if n := len(r.h.history("main")); n < 5 || n > 12 {
				t.Errorf("every %v: %d commits in two hours", every, n)
			}
		})
	}
}

func TestVimSave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHub(t, map[string]string{"notes.md": "old"})
		r := newRig(t, h, defaults)
		r.rename(false, "notes.md", "notes.md~")
		r.write("notes.md", "new")
		r.remove("notes.md~")
		time.Sleep(40 * time.Second)
		r.wantCommits("notes.md")
		r.wantText("notes.md", "new")
		r.wantText("notes.md~", "-")
		r.wantPending()
	})
}

func TestOpenFilesHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newFakeHub(t, nil), defaults)
		h := r.open("d/slow", false)
		r.append(h, "half")
		r.write("d/a", "a")
		r.write("e/b", "b")
		time.Sleep(5 * time.Minute)
		r.wantCommits("e/b")
		if got := r.q.Status().HeldBy; len(got) != 1 || got[0] != (Holder{Path: "d/slow", PID: 42}) {
			t.Errorf("held by %v", got)
		}
		time.Sleep(11 * time.Minute)
		r.wantCommits("e/b", "d/a") // and never half of d/slow
		r.wantPending("d/slow open")
		r.append(h, " and half")
		r.shut(h)
		time.Sleep(time.Minute)
		r.wantText("d/slow", "half and half")
	})
}

func TestUnchangedContentMakesNoCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newFakeHub(t, map[string]string{"a": "same", "m.bin": "weights"}), defaults)
		r.write("a", "same")
		r.write("m.bin", "weights")
		time.Sleep(time.Minute)
		r.wantPending()
		if r.h.seen().posts != 0 || len(r.h.seen().uploaded) != 0 {
			t.Errorf("%d commits, %d uploads", r.h.seen().posts, len(r.h.seen().uploaded))
		}
	})
}

func TestManual(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := defaults
		p.Manual = true
		r := newRig(t, newFakeHub(t, nil), p)
		r.write("a", "a")
		time.Sleep(time.Hour)
		r.wantPending("a held")
		out := r.commit(CommitRequest{Final: true})
		if len(out.Commits) != 0 || len(out.Left) != 1 || out.Left[0].State != Held {
			t.Errorf("unmount: %+v", out)
		}
		r.commit(CommitRequest{Message: "By hand\n\nBecause.", Description: "More."})
		r.wantPending()
		c := r.h.history("main")[0]
		if c.title != "By hand" || !strings.HasPrefix(c.about, "Because.\n\nMore.\n\nHfmount-Batch: ") || !strings.HasSuffix(c.about, "\nHfmount-Host: box\nHfmount-Mount: /m") {
			t.Errorf("title %q, description %q", c.title, c.about)
		}
	})
}

func TestScheduled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := defaults
		p.Every = 10 * time.Minute
		r := newRig(t, newFakeHub(t, nil), p)
		log := r.open("train.log", true)
		half := r.open("half.bin", false)
		r.append(half, "half")
		r.shut(half)
		for i := range 60 {
			r.append(log, fmt.Sprintln(i))
			time.Sleep(time.Minute)
		}
		time.Sleep(30 * time.Second)
		if n := len(r.h.history("main")); n != 6 {
			t.Errorf("%d commits in an hour, want one every ten minutes", n)
		}
		if got := r.h.text("main", "train.log"); !strings.HasPrefix(got, "0\n1\n") || !strings.HasSuffix(got, "\n") {
			t.Errorf("the log is %q", got)
		}
		n := len(r.h.history("main"))
		time.Sleep(time.Hour)
		if got := len(r.h.history("main")); got > n+1 {
			t.Errorf("%d commits though nothing was written", got-n)
		}
		r.wantPending("train.log open")
		r.append(log, "end\n")
		r.shut(log)
		r.commit(CommitRequest{Final: true})
		if got := r.h.text("main", "train.log"); !strings.HasSuffix(got, "59\nend\n") {
			t.Errorf("the log is %q", got)
		}
	})
}

func TestScheduledSquash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := defaults
		p.Every, p.Squash = 10*time.Minute, true
		r := newRig(t, newFakeHub(t, map[string]string{"README.md": "x"}), p)
		for i := range 3 {
			time.Sleep(5 * time.Minute)
			r.write("train.log", fmt.Sprint(i))
			time.Sleep(5 * time.Minute)
		}
		time.Sleep(time.Minute)
		if r.h.seen().squashes != 3 {
			t.Errorf("squashed %d times, want 3", r.h.seen().squashes)
		}
		r.wantText("train.log", "2")
		r.wantPending()
		r.h.push("main", "theirs", map[string]string{"theirs": "x"})
		r.write("train.log", "3")
		time.Sleep(21 * time.Minute)
		if r.h.seen().squashes != 3 {
			t.Error("somebody else's commit was squashed away")
		}
		r.wantText("train.log", "3")
		if k := r.kinds(); k[len(k)-1] != "failed" {
			t.Errorf("events %v, want a refusal to squash", k)
		}
	})
}

func TestRunIsATransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newFakeHub(t, nil), defaults)
		hold, err := r.q.Hold()
		if err != nil {
			t.Fatal(err)
		}
		r.write("d/a", "1")
		time.Sleep(time.Hour)
		r.wantCommits()
		if err := hold.End(false); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		r.wantPending("d/a held")
		r.write("e/b", "free")
		time.Sleep(time.Minute)
		r.wantCommits("e/b")
		if out := r.commit(CommitRequest{Final: true}); len(out.Left) != 1 {
			t.Errorf("unmount leaves %+v", out.Left)
		}
		r.restart()
		time.Sleep(time.Hour)
		r.wantPending("d/a held")
		r.commit(CommitRequest{})
		r.wantPending()
		r.wantText("d/a", "1")

		hold, err = r.q.Hold()
		if err != nil {
			t.Fatal(err)
		}
		r.write("d/a", "2")
		if err := hold.End(true); err != nil {
			t.Fatal(err)
		}
		r.commit(CommitRequest{})
		r.wantText("d/a", "2")

		// The process dies in the middle of one.
		if _, err = r.q.Hold(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		r.write("d/a", "3")
		r.restart()
		time.Sleep(time.Hour)
		r.wantPending("d/a held")
	})
}

// However many changes wait, looking at them takes a small part of the time, and
// one that is due is found soon.
func TestRestAfterLook(t *testing.T) {
	for took, want := range map[time.Duration]time.Duration{
		0: lookEvery, time.Millisecond: lookEvery, 100 * time.Millisecond: 2 * time.Second, time.Minute: lookMost,
	} {
		if got := restAfter(took); got != want {
			t.Errorf("after %v: %v, want %v", took, got, want)
		}
	}
}
