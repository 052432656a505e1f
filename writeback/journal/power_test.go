package journal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"testing/synctest"
)

const logName = "d/journal"

// Whatever is appended, synced and rewritten: the loss of power leaves at least
// what Sync or Rewrite promised, and nothing that was not written.
func TestLossOfPower(t *testing.T) {
	for seed := range uint64(200) {
		g := rand.New(rand.NewPCG(seed, 1))
		fs := newPowerFS()
		l, _, _ := load(t, logName, fs)
		var all [][][]byte
		promised := 0 // of all
		rewritten := false
		for i := range 40 {
			switch g.IntN(8) {
			case 0:
				if err := l.Sync(); err != nil {
					t.Fatal(err)
				}
				promised = len(all)
			case 1:
				// Keep every other record.
				var live [][][]byte
				for k, r := range all {
					if k%2 == 0 {
						live = append(live, r)
					}
				}
				if err := l.Rewrite(records(live)); err != nil {
					t.Fatal(err)
				}
				all, promised, rewritten = live, len(live), true
			default:
				if err := l.Append(record(i)...); err != nil {
					t.Fatal(err)
				}
				all = append(all, record(i))
			}
			for _, torn := range []bool{false, true} {
				_, d, got := load(t, logName, fs.cut(torn))
				if len(got) < promised || len(got) > len(all) || !equalRecords(got, all[:len(got)]) {
					t.Fatalf("seed %d, step %d: %d records after the loss of power, %d promised of %d", seed, i, len(got), promised, len(all))
				}
				if d != nil && !d.Torn {
					t.Fatalf("seed %d, step %d: %v", seed, i, d)
				}
			}
		}
		if seed == 0 && !rewritten {
			t.Fatal("this seed tests no Rewrite")
		}
	}
}

// A crash at any operation of a Rewrite leaves the old records or the new ones.
func TestFailedRewrite(t *testing.T) {
	old, kept := [][][]byte{record(1), record(2), record(3)}, [][][]byte{record(2)}
	for at := 0; ; at++ {
		fs := newPowerFS()
		l, _, _ := load(t, logName, fs)
		for _, r := range old {
			if err := l.Append(r...); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Sync(); err != nil {
			t.Fatal(err)
		}
		steps := 0
		fs.fail = func(op string, n int) (int, error) {
			if steps++; steps == at+1 {
				return n / 2, fmt.Errorf("%s: %w", op, errDisk)
			}
			return n, nil
		}
		err := l.Rewrite(records(kept))
		fs.fail = nil
		want := old
		if steps > 3 || err == nil { // behind write, sync and rename
			want = kept
		}
		for _, state := range []*powerFS{fs.cut(false), fs.cut(true)} {
			_, d, got := load(t, logName, state)
			if d != nil || !equalRecords(got, old) && !equalRecords(got, kept) {
				t.Fatalf("failed at %d: %d records, %v", at, len(got), d)
			}
		}
		if err := l.Append(record(9)...); err != nil {
			t.Fatal(err)
		}
		if _, d, got := load(t, logName, fs); d != nil || !equalRecords(got, append(want[:len(want):len(want)], record(9))) {
			t.Fatalf("failed at %d (%v): %d records, %v", at, err, len(got), d)
		}
		if err == nil {
			return
		}
		if !errors.Is(err, errDisk) {
			t.Fatal(err)
		}
	}
}

// A write that fails at any byte is cut off again, or the log refuses the rest
// until it is rewritten.
func TestWriteFailsAtEveryByte(t *testing.T) {
	frame, err := appendFrame(nil, record(7))
	if err != nil {
		t.Fatal(err)
	}
	for cut := range frame {
		for _, truncates := range []bool{true, false} {
			fs := newPowerFS()
			l, _, _ := load(t, logName, fs)
			if err := l.Append(record(5)...); err != nil {
				t.Fatal(err)
			}
			fs.fail = func(op string, n int) (int, error) {
				switch {
				case op == "write":
					return cut, errDisk
				case op == "truncate" && !truncates:
					return 0, errDisk
				}
				return n, nil
			}
			if err := l.Append(record(7)...); !errors.Is(err, errDisk) {
				t.Fatalf("got %v", err)
			}
			fs.fail = nil
			err := l.Append(record(6)...)
			if (err == nil) != truncates {
				t.Fatalf("the next append: %v", err)
			}
			if !truncates {
				if err := l.Rewrite(records([][][]byte{record(5)})); err != nil {
					t.Fatal(err)
				}
				if err := l.Append(record(6)...); err != nil {
					t.Fatal(err)
				}
			}
			if _, d, got := load(t, logName, fs); d != nil || !equalRecords(got, [][][]byte{record(5), record(6)}) {
				t.Fatalf("cut at %d: %d records, %v", cut, len(got), d)
			}
		}
	}
}

func TestFailedSyncPromisesNothingMore(t *testing.T) {
	fs := newPowerFS()
	l, _, _ := load(t, logName, fs)
	if err := l.Append([]byte("x")); err != nil {
		t.Fatal(err)
	}
	fs.fail = func(op string, n int) (int, error) { return n, errDisk }
	if err := l.Sync(); !errors.Is(err, errDisk) {
		t.Fatalf("got %v", err)
	}
	fs.fail = nil
	if err := l.Sync(); !errors.Is(err, errDisk) {
		t.Fatalf("a later sync pretends: %v", err)
	}
	if err := l.Append([]byte("y")); err != nil {
		t.Fatal(err) // the process may still die
	}
	if err := l.Rewrite(records([][][]byte{{[]byte("z")}})); err != nil {
		t.Fatal(err)
	}
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
}

func TestSyncsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := newPowerFS()
		l, _, _ := load(t, logName, fs)
		hold := make(chan struct{})
		entered := make(chan struct{}, 10)
		slow := &slowSync{FS: fs, hold: hold, entered: entered}
		l.f = &slowFile{l.f, slow}
		if err := l.Append([]byte("first")); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() { l.Sync() })
		<-entered
		for range 20 {
			wg.Go(func() {
				if err := l.Append([]byte("more")); err != nil {
					t.Error(err)
				}
				if err := l.Sync(); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		close(hold)
		wg.Wait()
		if fs.syncs != 2 {
			t.Errorf("%d syncs for 21 callers", fs.syncs)
		}
		if _, _, got := load(t, logName, fs.cut(false)); len(got) != 21 {
			t.Errorf("%d records are durable", len(got))
		}
		if err := l.Sync(); err != nil || fs.syncs != 2 {
			t.Errorf("a sync of nothing: %v, %d", err, fs.syncs)
		}
	})
}

type slowSync struct {
	FS
	hold    chan struct{}
	entered chan struct{}
}

type slowFile struct {
	File
	s *slowSync
}

func (f *slowFile) Sync() error {
	f.s.entered <- struct{}{}
	<-f.s.hold
	return f.File.Sync()
}

func TestConcurrentUse(t *testing.T) {
	path := t.TempDir() + "/journal"
	l, _, _ := load(t, path, nil)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 50 {
				if err := l.Append(fmt.Appendf(nil, "%d %d", w, i)); err != nil {
					t.Error(err)
				}
				if i%5 == 0 {
					if err := l.Sync(); err != nil {
						t.Error(err)
					}
				}
				l.Size()
			}
		})
	}
	wg.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	for _, err := range []error{l.Append(nil), l.Sync(), l.Rewrite(records(nil))} {
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
	_, d, got := load(t, path, nil)
	next := make(map[int]int)
	for _, r := range got {
		var w, i int
		fmt.Sscan(string(r[0]), &w, &i)
		if next[w] != i {
			t.Fatalf("record %d of writer %d comes when %d should", i, w, next[w])
		}
		next[w]++
	}
	if d != nil || len(got) != 400 {
		t.Errorf("%d records, %v", len(got), d)
	}
}

// What cannot be set aside is not cut off either.
func TestDamageThatCannotBeSaved(t *testing.T) {
	fs := newPowerFS()
	raw, _, _ := journalOf(t, 3)
	f, _, _ := fs.Open(logName)
	if _, err := f.WriteAt(append(raw, 1, 2, 3), 0); err != nil {
		t.Fatal(err)
	}
	fs.fail = func(op string, n int) (int, error) {
		if op == "write" {
			return 0, errDisk
		}
		return n, nil
	}
	if _, _, err := Open(logName, Options{FS: fs}, func([][]byte) error { return nil }); !errors.Is(err, errDisk) {
		t.Fatalf("got %v", err)
	}
	fs.fail = nil
	if _, d, got := load(t, logName, fs); len(got) != 3 || d == nil || d.Bytes != 3 {
		t.Errorf("%d records, %v", len(got), d)
	}
}

func TestReplayErrorEndsOpen(t *testing.T) {
	fs := newPowerFS()
	l, _, _ := load(t, logName, fs)
	for i := range 5 {
		if err := l.Append(record(i)...); err != nil {
			t.Fatal(err)
		}
	}
	calls := 0
	_, _, err := Open(logName, Options{FS: fs}, func([][]byte) error {
		calls++
		return errDisk
	})
	if !errors.Is(err, errDisk) || calls != 1 {
		t.Errorf("%d calls, %v", calls, err)
	}
}

// By the time that damage is cut off, its copy survives the loss of power.
func TestDamageIsSavedDurably(t *testing.T) {
	fs := newPowerFS()
	raw, _, ends := journalOf(t, 6)
	raw[ends[3]+frameSize] ^= 1
	f, _, _ := fs.Open(logName)
	if _, err := f.WriteAt(raw, 0); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), fs.SyncDir("d")); err != nil {
		t.Fatal(err)
	}
	_, d, got := load(t, logName, fs)
	if len(got) != 3 || d == nil {
		t.Fatalf("%d records, %v", len(got), d)
	}
	after := fs.cut(false)
	saved, n, _ := after.Open(d.Saved)
	p := make([]byte, n)
	if _, err := saved.ReadAt(p, 0); err != nil || string(p) != string(raw[d.Offset:]) {
		t.Errorf("%d of %d bytes of the damage survive, %v", n, d.Bytes, err)
	}
	if _, again, got := load(t, logName, after); again != nil || len(got) != 3 {
		t.Errorf("the cut does not survive: %v", again)
	}
}
