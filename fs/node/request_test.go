package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestDyingStatus(t *testing.T) {
	mask := func(signals ...syscall.Signal) string {
		var m uint64
		for _, s := range signals {
			m |= 1 << (s - 1)
		}
		return fmt.Sprintf("%016x", m)
	}
	const none = "0000000000000000"
	for _, c := range []struct {
		name                                  string
		state                                 string
		pnd, shdPnd, blocked, ignored, caught string
		want                                  bool
	}{
		{"running", "R (running)", none, none, none, none, none, false},
		{"in a request", "D (disk sleep)", none, none, none, none, none, false},
		{"zombie", "Z (zombie)", none, none, none, none, none, true},
		{"dead", "X (dead)", none, none, none, none, none, true},
		{"killed", "D (disk sleep)", mask(syscall.SIGKILL), none, none, none, none, true},
		{"killed as a process", "S (sleeping)", none, mask(syscall.SIGKILL), none, none, none, true},
		{"killed with all blocked", "S (sleeping)", mask(syscall.SIGKILL), none, "fffffffffffbfeff", none, none, true},
		{"preempted Go thread", "S (sleeping)", mask(syscall.SIGURG), none, none, none, mask(syscall.SIGURG), false},
		{"urgent data, default action", "S (sleeping)", mask(syscall.SIGURG), none, none, none, none, false},
		{"child ended", "S (sleeping)", none, mask(syscall.SIGCHLD), none, none, none, false},
		{"window resized", "S (sleeping)", none, mask(syscall.SIGWINCH), none, none, none, false},
		{"stopped", "T (stopped)", none, mask(syscall.SIGTSTP), none, none, none, false},
		{"interrupt handled", "S (sleeping)", none, mask(syscall.SIGINT), none, none, mask(syscall.SIGINT), false},
		{"hangup ignored", "S (sleeping)", none, mask(syscall.SIGHUP), none, mask(syscall.SIGHUP), none, false},
		{"alarm blocked", "S (sleeping)", mask(syscall.SIGALRM), none, mask(syscall.SIGALRM), none, none, false},
		{"about to dump core", "S (sleeping)", none, mask(syscall.SIGQUIT), none, none, none, true},
		{"one handled, one not", "S (sleeping)", mask(syscall.SIGUSR1), mask(syscall.SIGTERM), none, none, mask(syscall.SIGUSR1), true},
	} {
		status := fmt.Sprintf("Name:\tcat Z (x)\nUmask:\t0022\nState:\t%s\nTgid:\t7\nSigQ:\t1/9\n"+
			"SigPnd:\t%s\nShdPnd:\t%s\nSigBlk:\t%s\nSigIgn:\t%s\nSigCgt:\t%s\nCapInh:\t%[2]s\n",
			c.state, c.pnd, c.shdPnd, c.blocked, c.ignored, c.caught)
		if got := dyingStatus([]byte(status)); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestDying(t *testing.T) {
	if dying(uint32(os.Getpid())) {
		t.Error("this process is not dying")
	}
	if !dying(0) {
		t.Error("a caller outside our pid namespace cannot be watched")
	}
	child := sleeper(t)
	pid := uint32(child.Process.Pid)
	if dying(pid) {
		t.Error("the child is not dying")
	}
	if err := child.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if dying(pid) {
		t.Error("a stopped process is not dying")
	}
	child.Process.Kill()
	waitFor(t, "the killed child", func() bool { return dying(pid) }) // pending, then a zombie
	child.Wait()
	if !dying(pid) {
		t.Error("a process that is gone")
	}
}

// A request outlives any number of signals to its caller and ends when the
// caller does.
func TestRequestEndsWithItsCaller(t *testing.T) {
	defer goleak.VerifyNone(t)
	child := sleeper(t)
	pid := uint32(child.Process.Pid)
	interrupted := make(chan struct{})
	var looked atomic.Int32
	r := &request{Context: context.Background(), interrupted: interrupted, ended: func() bool {
		looked.Add(1)
		return dying(pid)
	}}
	defer r.finish()
	done := r.Done()
	close(interrupted)
	waitFor(t, "the watcher", func() bool { return looked.Load() >= 2 })
	if r.Err() != nil {
		t.Fatal("a signal alone ended the request")
	}
	child.Process.Kill()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("the request outlives its caller")
	}
	if !errors.Is(r.Err(), context.Canceled) {
		t.Fatal(r.Err())
	}
	if no := errno(r, os.ErrNotExist); no != syscall.EINTR {
		t.Fatal(no)
	}
	child.Wait()
}

func TestRequest(t *testing.T) {
	type fixture struct {
		*request
		interrupted chan struct{}
		dying       *atomic.Bool
	}
	make := func() fixture {
		f := fixture{interrupted: make(chan struct{}), dying: new(atomic.Bool)}
		f.request = &request{Context: context.Background(), interrupted: f.interrupted, ended: f.dying.Load}
		return f
	}
	isDone := func(r *request) bool {
		select {
		case <-r.Done():
			return true
		default:
			return false
		}
	}
	t.Run("answered", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := make()
			if isDone(f.request) || f.Err() != nil {
				t.Fatal("ended before it began")
			}
			f.finish()
			synctest.Wait() // the watcher ends, or the bubble does not
			if !isDone(f.request) || f.Err() == nil {
				t.Fatal("contexts derived from an answered request live on")
			}
		})
	})
	t.Run("answered unwatched", func(t *testing.T) {
		f := make()
		f.finish()
		if !isDone(f.request) {
			t.Fatal("not done")
		}
	})
	t.Run("derived", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := make()
			defer f.finish()
			ctx, cancel := context.WithCancel(f.request)
			defer cancel()
			close(f.interrupted)
			time.Sleep(time.Hour)
			if ctx.Err() != nil {
				t.Fatal("borrowed cancellation")
			}
			f.dying.Store(true)
			time.Sleep(watchEvery)
			synctest.Wait()
			if ctx.Err() == nil {
				t.Fatal("a dying caller is waited for")
			}
		})
	})
	t.Run("signal, then kill", func(t *testing.T) {
		f := make()
		close(f.interrupted)
		if f.Err() != nil {
			t.Fatal("a signal is not an end")
		}
		f.dying.Store(true)
		if f.Err() == nil {
			t.Fatal("dying and nobody noticed")
		}
		f.finish()
	})
}

// sleeper is a child that lives until it is killed.
func sleeper(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	pid := cmd.Process.Pid
	waitFor(t, "the child's exec", func() bool {
		// Its name changes before its files are closed, its arguments after.
		args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		return err == nil && strings.HasPrefix(string(args), "sleep\x00")
	})
	return cmd
}

// waitFor polls, and fails the test after a time that only a hang reaches.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long for %s", what)
		}
	}
}
