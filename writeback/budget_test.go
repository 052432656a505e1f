package writeback

import (
	"os"
	"testing"
	"time"
)

func TestBudget(t *testing.T) {
	now := noon
	dir := t.TempDir()
	clock := func() time.Time { return now }
	a := newBudget(dir, "https://hub", "ada", clock)
	b := newBudget(dir, "https://hub", "ada", clock) // another mount of the account
	other := newBudget(dir, "https://hub", "bob", clock)
	must := (*budget).take
	for i := range budgetBurst {
		who := a
		if i%2 == 1 {
			who = b
		}
		if w := must(who); w != 0 {
			t.Fatalf("commit %d of the burst waits %v", i, w)
		}
	}
	if w := must(a); w < 59*time.Second || w > 61*time.Second {
		t.Errorf("after the burst the wait is %v, want a minute", w)
	}
	if w := must(other); w != 0 {
		t.Errorf("another account waits %v", w)
	}
	now = now.Add(time.Minute + time.Millisecond)
	if w := must(b); w != 0 {
		t.Errorf("a minute later the wait is %v", w)
	}
	if w := must(a); w == 0 {
		t.Error("one minute gave two commits")
	}
	n := 0
	for range 6 * 60 {
		now = now.Add(10 * time.Second)
		if must(a) == 0 {
			n++
		}
	}
	if n < 59 || n > 61 {
		t.Errorf("%d commits in an hour, want 60", n)
	}
	now = now.Add(-48 * time.Hour) // a clock set back
	must(a)
	now = now.Add(2 * time.Minute)
	if w := must(a); w != 0 {
		t.Errorf("after the clock went back the wait is %v", w)
	}
	if err := os.WriteFile(a.path, []byte("{torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	if w := must(a); w != 0 {
		t.Errorf("a torn file waits %v", w)
	}
	// A file that cannot be used must not stop commits, nor let all through.
	if err := os.Remove(a.path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(a.path, 0o700); err != nil {
		t.Fatal(err)
	}
	n = 0
	for range 6 * 60 {
		now = now.Add(10 * time.Second)
		if must(a) == 0 {
			n++
		}
	}
	if n < 60 || n > 60+budgetBurst {
		t.Errorf("%d commits in an hour without the file, want 60 to 70", n)
	}
}
