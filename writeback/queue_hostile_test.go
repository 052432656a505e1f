package writeback

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What could stop the queue, have it ask the Hub without end, or grow.

func TestAnswersAreLostForHours(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHub(t, nil)
		r := newRig(t, h, defaults)
		h.set(func() {
			for range 10_000 {
				h.faults = append(h.faults, "lost")
			}
		})
		r.write("a", "one")
		for i := range 180 { // in three hours
			r.write("log", fmt.Sprint(i))
			time.Sleep(time.Minute)
		}
		if n := h.seen().posts; n < 50 || n > 180 {
			t.Errorf("%d requests in three hours", n)
		}
		if n := len(r.l.kept("batch/")); n > 60 {
			t.Errorf("%d batches are kept", n)
		}
		if n := h.count("log"); n > 8*180 {
			t.Errorf("the history was read %d times in three hours", n)
		}
		start := time.Now()
		if err := r.q.Discard("log"); err != nil {
			t.Errorf("discard: %v", err)
		}
		if d := time.Since(start); d > 2*settleWait {
			t.Errorf("a discard took %v", d)
		}
		h.set(func() { h.faults = nil })
		time.Sleep(5 * time.Minute)
		if n := r.ourCommits(); n != 1 {
			t.Errorf("%d commits, want 1", n)
		}
		r.wantText("a", "one")
		r.wantPending()
		time.Sleep(2 * time.Hour)
		if n := len(r.l.kept("batch/")); n > 0 {
			t.Errorf("%d batches are kept for ever", n)
		}
	})
}

// A commit is sent again, which fails for certain; then the first request for it
// is applied, when there are newer bytes.
func TestTheFirstOfManyRequestsIsApplied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHub(t, nil)
		r := newRig(t, h, defaults)
		h.set(func() {
			h.faults = []string{"very late"}
			for range 100 {
				h.faults = append(h.faults, "unavailable")
			}
		})
		r.write("a", "one")
		time.Sleep(3 * time.Minute)
		r.write("a", "two")
		time.Sleep(4 * time.Minute)
		r.wantText("a", "one")
		h.set(func() { h.faults = nil })
		time.Sleep(5 * time.Minute)
		r.wantText("a", "two")
		r.wantCommits("a", "a")
		r.wantPending()
		if len(h.seen().prs) != 0 {
			t.Error("our own commit was taken for a conflict")
		}
	})
}

// A clock that was ahead when the process died must not stop the next one.
func TestTheClockWentBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHub(t, nil)
		r := &rig{t: t, h: h, dir: t.TempDir(), p: defaults}
		r.now = func() time.Time { return time.Now().Add(1000 * time.Hour) }
		r.start()
		t.Cleanup(r.close)
		h.set(func() { h.faults = []string{"lost"} })
		r.write("a", "one")
		time.Sleep(32 * time.Second) // it is sent, and not settled
		r.write("b/two", "two")
		r.now = nil
		r.restart()
		time.Sleep(5 * time.Minute)
		r.wantText("a", "one")
		r.wantText("b/two", "two")
		r.wantPending()
	})
}

func TestATemplateThatFailsForSomeChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHub(t, map[string]string{"a": "A"})
		p := defaults
		p.Message = "{{if .Added}}Add {{.Added}}{{end}}"
		r := newRig(t, h, p)
		r.remove("a")
		time.Sleep(time.Minute)
		r.wantText("a", "-")
		r.write("b", "B")
		if out := r.commit(CommitRequest{Message: " \n"}); len(out.Left) != 0 {
			t.Errorf("left %+v", out.Left)
		}
		r.wantText("b", "B")
		if got := h.history("main")[1].title; got != "Add 1" {
			t.Errorf("title %q", got)
		}
	})
}

// A message may quote the trailer of another commit.
func TestAQuotedTrailer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHub(t, nil)
		r := newRig(t, h, defaults)
		h.set(func() { h.faults = []string{"apply-500"} })
		r.write("a", "A")
		out := r.commit(CommitRequest{Message: "Again\n\nHfmount-Batch: 1234", Description: "Hfmount-Batch: 5678"})
		if len(out.Commits) != 1 || r.q.Status().LastCommit == nil {
			t.Errorf("its own commit is not known again: %+v", out)
		}
		time.Sleep(10 * time.Minute)
		if n := len(h.history("main")); n != 1 || h.seen().posts != 1 {
			t.Errorf("%d commits by %d requests, want 1", n, h.seen().posts)
		}
		r.wantPending()
	})
}

// One file that cannot be read keeps its unit back, and nothing else.
func TestAFileThatCannotBeRead(t *testing.T) {
	for _, gone := range []bool{true, false} {
		t.Run(fmt.Sprint("gone ", gone), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newFakeHub(t, nil)
				r := newRig(t, h, defaults)
				r.write("d/bad", "bad")
				r.write("d/good", "good")
				r.write("e/free", "free")
				c, _ := r.l.Get("d/bad")
				path := c.File.cur.sf.Path()
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
				if !gone {
					if err := os.Mkdir(path, 0o700); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(time.Hour)
				r.wantText("e/free", "free")
				r.wantCommits("e/free")
				r.wantPending("d/bad pending", "d/good pending")
				s := r.q.Status()
				if s.Changes[0].Reason == "" || s.LastError == nil || s.LastError.Path != "d/bad" {
					t.Errorf("%+v, last error %+v", s.Changes[0], s.LastError)
				}
				if k := r.kinds(); len(k) != 2 {
					t.Errorf("events %v", k)
				}
				if n := h.count("resolve"); n > 10 {
					t.Errorf("the head was asked for %d times", n)
				}
				if out := r.commit(CommitRequest{}); len(out.Left) != 1 || out.Left[0].Path != "d/bad" || out.Left[0].Reason == "" {
					t.Errorf("left %+v", out.Left)
				}
				r.wantText("d/good", "good")
				if err := r.q.Discard("d/bad"); err != nil {
					t.Error(err)
				}
				r.wantPending()
				if err := os.RemoveAll(path); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// What a renamed file was is gone from the Hub: others go on.
func TestARenamedFileWhoseContentIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHub(t, map[string]string{"d/old": "content", "keep": "k"})
		r := newRig(t, h, defaults)
		r.rename(false, "d/old", "d/new")
		h.set(func() { clear(h.content) })
		r.write("e/free", "free")
		time.Sleep(time.Hour)
		r.wantText("e/free", "free")
		r.wantCommits("e/free")
		r.wantPending("d/new pending", "d/old pending")
	})
}

// Files that are mapped, and paths in a pull request, are looked at now and
// then, however busy the rest is.
func TestABusyMountAsksTheHubNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHub(t, map[string]string{"pr/p": "A"})
		r := newRig(t, h, defaults)
		h.push("main", "theirs", map[string]string{"pr/p": "B"})
		r.write("pr/p", "X")
		time.Sleep(time.Minute)
		r.wantPending("pr/p in-pr")
		r.write("m/mapped", "before")
		c, _ := r.l.Get("m/mapped")
		fd, err := os.OpenFile(c.File.cur.sf.Path(), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		before, logs := h.count("resolve"), h.count("log")
		for i := range 1200 { // in ten minutes
			r.write(fmt.Sprint("scratch/", i%3), fmt.Sprint(i))
			time.Sleep(500 * time.Millisecond)
		}
		if n := h.count("resolve") - before; n > 25 {
			t.Errorf("the head was asked for %d times in ten minutes", n)
		}
		if n := h.count("log") - logs; n > 25 {
			t.Errorf("the history was read %d times in ten minutes", n)
		}
		if err := fd.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		r.wantText("m/mapped", "before")
	})
}

// A refused path goes with the next explicit commit, if the Hub takes it then.
func TestWhatWasRefusedMayBeTakenLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHub(t, nil)
		h.refused["d/big"] = "the storage is full"
		r := newRig(t, h, defaults)
		r.write("d/big", "x")
		time.Sleep(time.Minute)
		r.wantPending("d/big refused")
		if out := r.commit(CommitRequest{}); len(out.Left) != 1 || out.Left[0].Reason != "the storage is full" {
			t.Errorf("left %+v", out.Left)
		}
		h.set(func() { clear(h.refused) })
		posts := h.seen().posts
		time.Sleep(time.Hour)
		if h.seen().posts != posts {
			t.Error("what was refused was sent unasked")
		}
		r.commit(CommitRequest{})
		r.wantPending()
		r.wantText("d/big", "x")
	})
}

// A refusal that names nothing keeps back the unit that it is about.
func TestARefusalWithoutAName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHub(t, nil)
		h.quietly = "d/bad"
		r := newRig(t, h, defaults)
		r.write("a/1", "x")
		r.write("d/bad", "x")
		r.write("d/good", "x")
		r.write("e/1", "x")
		time.Sleep(2 * time.Minute)
		r.wantCommits("a/1", "e/1")
		r.wantPending("d/bad refused", "d/good refused")
	})
}

// The one that is wrong is found among many, without a commit for each.
func TestARefusalWithoutANameAmongMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHub(t, nil)
		h.quietly = "u33/bad"
		r := newRig(t, h, defaults)
		for i := range 60 {
			r.write(fmt.Sprintf("u%02d/x", i), "x")
		}
		r.write("u33/bad", "x")
		time.Sleep(2 * time.Minute)
		r.wantPending("u33/bad refused", "u33/x refused")
		if n := h.seen().posts; n > 20 {
			t.Errorf("%d requests", n)
		}
		if n := h.count("preupload"); n > 30 {
			t.Errorf("%d preuploads", n)
		}
	})
}

// The end of a mount commits no unit in part.
func TestUnmountCommitsWholeUnits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHub(t, nil)
		h.refused["r/bad"] = "no"
		r := newRig(t, h, defaults)
		r.write("r/bad", "x")
		time.Sleep(time.Minute)
		r.write("r/good", "x")
		hold, err := r.q.Hold()
		if err != nil {
			t.Fatal(err)
		}
		r.write("h/held", "x")
		if err := hold.End(false); err != nil {
			t.Fatal(err)
		}
		r.write("h/later", "x")
		r.write("m/good", "x")
		r.write("m/mapped", "x")
		c, _ := r.l.Get("m/mapped")
		fd, err := os.OpenFile(c.File.cur.sf.Path(), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer fd.Close()
		r.write("w/whole", "x")
		out := r.commit(CommitRequest{Final: true})
		r.wantCommits("w/whole")
		var left []string
		for _, c := range out.Left {
			left = append(left, c.Path+" "+c.State.String())
		}
		if want := []string{"h/held held", "h/later pending", "m/good pending", "m/mapped open", "r/bad refused", "r/good pending"}; !slices.Equal(left, want) {
			t.Errorf("left %q, want %q", left, want)
		}
	})
}

// The Hub drops objects that no commit names for long.
func TestAnObjectThatTheHubDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHub(t, nil)
		r := newRig(t, h, defaults)
		r.write("a.bin", "weights")
		time.Sleep(time.Minute)
		r.remove("a.bin")
		time.Sleep(3 * time.Hour)
		h.set(func() { clear(h.objects) })
		r.write("b.bin", "weights")
		time.Sleep(time.Minute)
		r.wantText("b.bin", "weights")
		r.wantPending()
	})
}

// Without the permission to write, a question is asked now and then, and
// nothing is sent.
func TestNoPermissionIsAskedAboutCheaply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHub(t, nil)
		h.noWrite = true
		r := newRig(t, h, defaults)
		r.write("a", "A")
		time.Sleep(time.Hour)
		if s := h.seen(); s.posts != 1 || h.count("preupload") != 1 {
			t.Errorf("%d commits and %d preuploads were tried in an hour", s.posts, h.count("preupload"))
		}
		r.wantPending("a pending")
		h.set(func() { h.noWrite = false })
		time.Sleep(2 * time.Minute)
		r.wantPending()
	})
}

// What is closed while a commit is under way is uploaded meanwhile.
func TestUploadsAheadDuringACommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHub(t, nil)
		h.slowPut = time.Hour
		r := newRig(t, h, defaults)
		r.write("d/small.bin", "small") // uploaded by the commit itself
		time.Sleep(time.Minute)
		h.set(func() { h.slowPut = time.Minute })
		r.write("e/big", strings.Repeat("0123456789abcdef", aheadFrom/16+1))
		time.Sleep(2 * time.Minute)
		if n := len(h.seen().uploaded); n != 1 {
			t.Errorf("%d uploads while another goes on, want 1", n)
		}
		time.Sleep(2 * time.Hour)
		r.wantPending()
	})
}

// Many conflicts are one event.
func TestManyConflictsAreToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mine, theirs := make(map[string]string), make(map[string]string)
		for i := range 40 {
			mine[fmt.Sprint("d/", i)], theirs[fmt.Sprint("d/", i)] = "A", "B"
		}
		h := newFakeHub(t, mine)
		p := defaults
		p.OnConflict = ConflictFail
		r := newRig(t, h, p)
		h.push("main", "theirs", theirs)
		for i := range 40 {
			r.write(fmt.Sprint("d/", i), "X")
		}
		time.Sleep(time.Minute)
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.events) != 1 || len(r.events[0].Paths) != 40 {
			t.Errorf("%d events, the first about %d paths", len(r.events), len(r.events[0].Paths))
		}
	})
}

// A commit that somebody took off the branch before the view showed it.
func TestACommitThatIsTakenOffTheBranch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHub(t, map[string]string{"a": "A"})
		r := newRig(t, h, defaults)
		r.mu.Lock()
		r.fail = errors.New("the branch does not show it")
		r.mu.Unlock()
		r.write("a", "ours")
		time.Sleep(40 * time.Second)
		r.wantText("a", "ours")
		h.set(func() { h.branches["main"] = "" })
		h.push("main", "rewritten", map[string]string{"a": "A"})
		time.Sleep(5 * time.Minute)
		r.mu.Lock()
		r.fail = nil
		r.mu.Unlock()
		if _, ok := r.l.Get("a"); !ok {
			t.Fatal("a change was lost")
		}
		time.Sleep(time.Minute)
		r.wantPending("a blocked")
		r.commit(CommitRequest{Yes: true})
		r.wantText("a", "ours")
		r.wantPending()
	})
}

func TestASquashWhoseAnswerIsLost(t *testing.T) {
	for _, fault := range []string{"lost", "apply-500"} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprint(fault, " restart ", restart), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p := defaults
					p.Every, p.Squash = 10*time.Minute, true
					h := newFakeHub(t, map[string]string{"a": "A", "b": "B"})
					r := newRig(t, h, p)
					time.Sleep(time.Minute)
					h.set(func() { h.squashFault = fault })
					r.write("a", "one")
					old := r.base("b")
					time.Sleep(9*time.Minute + 300*time.Millisecond)
					r.write("a", "two")
					if restart {
						r.restart()
						old = r.base("b")
					}
					// b was opened before the squash, and is written to now.
					f, err := r.l.NewFile(context.Background())
					if err != nil {
						t.Fatal(err)
					}
					o, err := f.Open(OpenFile{Write: true})
					if err != nil {
						t.Fatal(err)
					}
					r.apply(Edit{Path: "b", Kind: Put, File: f, Base: old})
					r.append(o, "later")
					r.shut(o)
					time.Sleep(25 * time.Minute)
					r.wantText("b", "later")
					r.wantPending()
					want := 1
					if fault == "apply-500" {
						want = 2
					}
					if n := h.seen().squashes; n != want {
						t.Errorf("squashed %d times, want %d", n, want)
					}
				})
			})
		}
	}
}

func TestWaitForIsNoWayAround(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHub(t, nil)
		r := &rig{t: t, h: h, dir: t.TempDir(), p: defaults, pub: true}
		r.start()
		t.Cleanup(r.close)
		r.write("d/.env", "SECRET=1")
		if err := r.q.WaitFor(context.Background(), "d/.env"); !errors.Is(err, ErrHeld) {
			t.Errorf("what the guard holds: %v", err)
		}
		hold, err := r.q.Hold()
		if err != nil {
			t.Fatal(err)
		}
		r.write("e/a", "a")
		if err := r.q.WaitFor(context.Background(), "e/a"); err != nil {
			t.Errorf("within a transaction: %v", err)
		}
		if err := hold.End(false); err != nil {
			t.Fatal(err)
		}
		if err := r.q.WaitFor(context.Background(), "e/a"); !errors.Is(err, ErrHeld) {
			t.Errorf("of a transaction that failed: %v", err)
		}
		r.wantCommits()
	})
}

// A closed file that another one replaces while the commit begins: the commit
// has the newer one.
func TestReplacedWhileTheCommitBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHub(t, map[string]string{"slow/1": "1", "slow/2": "2"})
		r := newRig(t, h, defaults)
		for _, p := range []string{"slow/1", "slow/2"} { // both need what they are an edit of
			b := r.base(p)
			f, err := r.l.NewFileOver(context.Background(), Place{Snapshot: snapshotAt(r.key().Ref, b.Commit), Entry: *b.Entry})
			if err != nil {
				t.Fatal(err)
			}
			o, err := f.Open(OpenFile{Write: true})
			if err != nil {
				t.Fatal(err)
			}
			r.apply(Edit{Path: p, Kind: Put, File: f, Base: b})
			r.append(o, "+")
			r.shut(o)
		}
		r.write("z/a", "first")
		h.set(func() { h.slowRead = 10 * time.Second })
		go func() {
			time.Sleep(3 * time.Second)
			r.write("z/tmp", "second")
			r.rename(false, "z/tmp", "z/a")
		}()
		if out := r.commit(CommitRequest{}); len(out.Left) != 0 {
			t.Errorf("left %+v", out.Left)
		}
		r.wantText("z/a", "second")
		r.wantText("slow/2", "2+")
	})
}

// A commit of many files needs few descriptors, also where all are searched
// for secrets.
func TestDescriptors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHub(t, nil)
		r := &rig{t: t, h: h, dir: t.TempDir(), p: defaults, pub: true}
		r.start()
		t.Cleanup(r.close)
		for i := range 600 {
			r.write(fmt.Sprintf("d/%03d", i), "x")
		}
		h.set(func() { h.descriptors = 0 })
		r.commit(CommitRequest{})
		r.wantPending()
		if n := h.descriptors; n == 0 || n > 200 {
			t.Errorf("%d descriptors", n)
		}
	})
}

// Numbers at which anything quadratic would take minutes.
func TestManyChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 30_000
		files := make(map[string]string, n)
		for i := range n {
			files[fmt.Sprintf("d/%05d", i)] = "x"
		}
		h := newFakeHub(t, files)
		r := newRig(t, h, defaults)
		var moves []string
		for i := range n {
			moves = append(moves, fmt.Sprintf("d/%05d", i), fmt.Sprintf("dirs/%05d/f", i))
		}
		r.rename(false, moves...)
		if s := r.q.Status(); len(s.Changes) != 2*n {
			t.Errorf("%d changes", len(s.Changes))
		}
		time.Sleep(time.Minute)
		s := r.q.Status()
		if s.Changes[0].State != Held || !s.Changes[0].Moved {
			t.Errorf("the first is %+v", s.Changes[0])
		}
		said := 0
		for _, c := range s.Changes {
			if c.Reason != "" {
				said++
			}
		}
		if said != 1 {
			t.Errorf("the guard's reason is said %d times", said)
		}
		if err := r.q.Discard("dirs"); err != nil {
			t.Error(err)
		}
		r.wantPending()

		// Conflicts on all of them.
		theirs := make(map[string]string, n)
		for i := range n {
			theirs[fmt.Sprintf("d/%05d", i)] = "y"
		}
		var edits []Edit
		for i := range n {
			p := fmt.Sprintf("d/%05d", i)
			edits = append(edits, Edit{Path: p, Kind: Delete, Base: r.base(p)})
		}
		h.push("main", "theirs", theirs)
		r.apply(edits...)
		if out := r.commit(CommitRequest{Yes: true}); len(out.Left) != 0 || out.Proposal == nil {
			t.Errorf("%d left", len(out.Left))
		}
		if err := r.q.Discard("d"); err != nil {
			t.Error(err)
		}
		r.wantPending()
	})
}

// What is being built is given up for a discard, also after a part of it is on
// the Hub.
func TestDiscardBetweenTheParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHub(t, nil)
		r := newRig(t, h, defaults)
		for i := range mostFiles {
			r.write(fmt.Sprintf("d/%04d", i), "x")
		}
		r.write("d/zz.bin", "weights")
		h.set(func() { h.slowPut = 10 * time.Hour })
		time.Sleep(2 * time.Minute)
		r.wantText("d/0000", "x")
		start := time.Now()
		if err := r.q.Discard("d/zz.bin"); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("it took %v", d)
		}
		time.Sleep(30 * time.Minute)
		r.wantPending()
		r.wantText("d/zz.bin", "-")
		r.wantText("d/0999", "x")
	})
}

// The guard says once what is wrong with the batch, and at each path what is
// wrong with it.
func TestReasonsOfTheGuard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, h: newFakeHub(t, nil), dir: t.TempDir(), p: defaults, pub: true}
		r.start()
		t.Cleanup(r.close)
		for _, p := range []string{"d/.env", "d/a", "d/b", "d/id_rsa"} {
			r.write(p, "x")
		}
		check := func(what string, changes []Change) {
			t.Helper()
			var got []string
			for _, c := range changes {
				got = append(got, filepath.Base(c.Path)+": "+c.Reason)
			}
			want := []string{
				".env: the guard: it looks like a secret (an environment file) and the repository is public", "a: ", "b: ",
				"id_rsa: the guard: it looks like a secret (a private key) and the repository is public",
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: %q", what, got)
			}
		}
		check("left", r.commit(CommitRequest{}).Left)
		check("status", r.q.Status().Changes)
	})
}

func TestMovedDeletes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newFakeHub(t, map[string]string{"big.bin": "x", "other": "y"}), defaults)
		r.rename(false, "big.bin", "bigger.bin")
		r.remove("other")
		var got []string
		for _, c := range r.q.Status().Changes {
			got = append(got, fmt.Sprint(c.Path, " ", c.Op(), " ", c.Moved))
		}
		if want := []string{"big.bin delete true", "bigger.bin rename false", "other delete false"}; !slices.Equal(got, want) {
			t.Errorf("%q", got)
		}
	})
}
