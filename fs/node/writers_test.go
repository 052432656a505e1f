package node

import (
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"
)

func TestThreadGroup(t *testing.T) {
	for status, want := range map[string]int{
		"Name:\tx\nTgid:\t123\nPid:\t456\n": 123,
		"Name:\tTgid: 9\nPid:\t4\n":         0,
		"Tgid:\tmany\n":                     0,
		"":                                  0,
	} {
		if got := threadGroup([]byte(status)); got != want {
			t.Errorf("%q: %d, want %d", status, got, want)
		}
	}
}

func TestProcessOf(t *testing.T) {
	now := time.Unix(1000, 0)
	s := &Server{complaints: complaints{now: func() time.Time { return now }}}
	if got := s.processOf(0); got != 0 {
		t.Errorf("nobody is %d", got)
	}
	if got := s.processOf(uint32(syscall.Gettid())); got != os.Getpid() {
		t.Errorf("this thread belongs to %d, not %d", got, os.Getpid())
	}
	const nobody = 1 << 30 // larger than any
	if got := s.processOf(nobody); got != nobody {
		t.Errorf("an unknown thread belongs to %d", got)
	}
	// What is remembered is used for a while, then looked at again.
	s.threads.known[nobody] = thread{process: 7, until: now.Add(threadTTL)}
	if got := s.processOf(nobody); got != 7 {
		t.Errorf("a known thread belongs to %d", got)
	}
	now = now.Add(threadTTL)
	if got := s.processOf(nobody); got != nobody {
		t.Errorf("after a while it belongs to %d", got)
	}
	for i := range uint32(3 * maxThreads) {
		s.processOf(nobody + i)
	}
	if n := len(s.threads.known); n > maxThreads {
		t.Errorf("%d threads remembered", n)
	}
}

func TestDueWriters(t *testing.T) {
	var d dueWriters
	now := time.Unix(1000, 0)
	at := func(path string) func() string { return func() string { return path } }
	a := at("a")
	if d.is(a, now) {
		t.Error("a writer is due from the start")
	}
	d.expect("a", now)
	if !d.is(a, now) || d.is(at("b"), now) || !d.is(a, now.Add(writerPatience-1)) || d.is(a, now.Add(writerPatience)) {
		t.Error("not due for just as long")
	}
	d.expect("a", now)
	d.came(a)
	if !d.is(a, now) {
		t.Error("one of two came, and none is due")
	}
	d.came(a)
	d.came(a) // who was not due
	if d.is(a, now) {
		t.Error("writers that came are still due")
	}
	if d.any.Load() {
		t.Error("nobody is due, and each open looks")
	}
	d.expect("a", now)
	now = now.Add(writerPatience)
	d.expect("a", now) // the first never came
	d.came(a)
	if d.is(a, now) {
		t.Error("who never came is still due")
	}
	for i := range 3 * maxDue {
		d.expect(fmt.Sprint(i), now)
	}
	if n := len(d.come); n > maxDue {
		t.Errorf("%d remembered", n)
	}
	if !d.is(at(fmt.Sprint(3*maxDue-1)), now) {
		t.Error("the last is forgotten")
	}
}

func TestOpenForWriting(t *testing.T) {
	s := &Server{open: make(map[*openFile]struct{})}
	n := newFileNode(s, nil)
	for _, o := range []*openFile{
		{node: n, write: true, pid: 3}, {node: n, write: true, pid: 1}, {node: n, pid: 2}, {node: n, write: true, pid: 3},
	} {
		s.track(o)
	}
	if got := fmt.Sprint(s.OpenForWriting()); got != "[{ 1} { 3}]" {
		t.Error(got)
	}
}
