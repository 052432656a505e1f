package node

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// kernel is what notices are sent to. While it is stuck, no send returns.
type kernel struct {
	mu    sync.Mutex
	sent  []notice
	stuck chan struct{} // nil: answers at once
}

func (k *kernel) send(x notice) syscall.Errno {
	k.mu.Lock()
	k.sent = append(k.sent, x)
	stuck := k.stuck
	k.mu.Unlock()
	if stuck != nil {
		<-stuck
	}
	return 0
}

func (k *kernel) got() []notice {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.sent)
}

func silent() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestNotifierSendsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kernel{}
		n := newNotifier(silent(), notifyPatience, k.send)
		defer n.close()
		n.EntryChanged(1, "a")
		n.DirChanged(1)
		n.ContentDropped(2)
		synctest.Wait()
		want := []notice{{kind: entryChanged, ino: 1, name: "a"}, {kind: dirChanged, ino: 1}, {kind: contentDropped, ino: 2}}
		if got := k.got(); !slices.Equal(got, want) {
			t.Fatalf("sent %v, want %v", got, want)
		}
		n.EntryChanged(1, "a") // changed again
		synctest.Wait()
		if got := k.got(); len(got) != 4 {
			t.Fatalf("a second change was taken for the first: %v", got)
		}
	})
}

func TestNotifierWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kernel{stuck: make(chan struct{})}
		n := newNotifier(silent(), notifyPatience, k.send)
		defer n.close()
		n.wait(t.Context()) // for nothing
		n.EntryChanged(1, "a")
		n.DirChanged(1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		n.wait(ctx)
		if ctx.Err() == nil {
			t.Error("it waited for less than what is under way")
		}
		waited := false
		go func() {
			n.wait(t.Context())
			waited = true
		}()
		synctest.Wait()
		if waited {
			t.Error("it waited for less than what is queued")
		}
		close(k.stuck)
		synctest.Wait()
		if !waited || len(k.got()) != 2 {
			t.Errorf("waited %v, sent %v", waited, k.got())
		}
	})
}

func TestNotifierOutlivesStuckNotices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kernel{stuck: make(chan struct{})}
		n := newNotifier(silent(), notifyPatience, k.send)
		n.DirChanged(0)
		synctest.Wait()
		for i := range uint64(maxStuck + 2) {
			n.DirChanged(i + 1)
			n.DirChanged(i + 1) // waits already
		}
		synctest.Wait()
		if got := k.got(); len(got) != 1 {
			t.Fatalf("%d sent while the first is waited for", len(got))
		}
		time.Sleep(notifyPatience)
		synctest.Wait()
		if got := k.got(); len(got) != 2 {
			t.Fatalf("%d sent after the first was given up", len(got))
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := k.got(); len(got) != maxStuck {
			t.Fatalf("%d stuck at once, want %d", len(got), maxStuck)
		}
		close(k.stuck)
		synctest.Wait()
		if got := k.got(); len(got) != maxStuck+3 {
			t.Fatalf("%d sent of %d", len(got), maxStuck+3)
		}
		n.close()
		n.DirChanged(99)
		synctest.Wait()
		if got := k.got(); len(got) != maxStuck+3 {
			t.Fatal("sent after close")
		}
		n.close() // again
	})
}

func TestNotifierCloseDoesNotWaitForItsQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kernel{stuck: make(chan struct{})}
		n := newNotifier(silent(), notifyPatience, k.send)
		n.DirChanged(1)
		n.DirChanged(2)
		synctest.Wait()
		closed := make(chan struct{})
		go func() {
			n.close()
			close(closed)
		}()
		synctest.Wait()
		close(k.stuck) // the connection ends, and with it what is stuck
		<-closed
		if got := k.got(); len(got) != 1 {
			t.Fatalf("sent %v after close", got)
		}
	})
}

func TestLiveNodes(t *testing.T) {
	var l liveNodes
	a, b := &dirNode{}, &dirNode{} // both with inode number 0
	l.add(a)
	if l.find(0) != a || l.find(1) != nil {
		t.Fatal("not found, or too much")
	}
	l.add(b) // the kernel holds another now
	l.remove(a)
	if l.find(0) != b {
		t.Fatal("forgetting the old one lost the new one")
	}
	l.remove(b)
	if l.find(0) != nil {
		t.Fatal("found after forget")
	}
	l.add(a)
	if l.find(0) != a {
		t.Fatal("a node that was forgotten and revived is not found")
	}
}

// What is sent later is sent once, some time after the last one was put, and
// not at all when the mount ends first.
func TestNotifierPutLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kernel{}
		n := newNotifier(silent(), notifyPatience, k.send)
		defer n.close()
		n.putLater(notice{kind: dirChanged, ino: 1}, time.Second)
		time.Sleep(time.Second / 2)
		n.putLater(notice{kind: dirChanged, ino: 1}, time.Second)
		n.putLater(notice{kind: dirChanged, ino: 2}, time.Second)
		time.Sleep(time.Second)
		synctest.Wait()
		if got := k.got(); len(got) != 0 {
			t.Fatalf("too early: %v", got)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := k.got(); !slices.Equal(got, []notice{{kind: dirChanged, ino: 1}, {kind: dirChanged, ino: 2}}) {
			t.Fatalf("sent %v", got)
		}
		n.putLater(notice{kind: dirChanged, ino: 3}, time.Second)
	})
}
