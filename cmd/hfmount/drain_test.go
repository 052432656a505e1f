package main

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestFinish(t *testing.T) {
	f := newFinish()
	if f.state() != stateMounted {
		t.Errorf("at first: %s", f.state())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.drained(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("before the end: %v", err)
	}
	close(f.drainStarted)
	if f.state() != stateDraining {
		t.Errorf("when the mount is gone: %s", f.state())
	}
	f.yield()
	f.yield() // a second time is no harm
	<-f.yielded
	f.result = outcome{GaveUp: "why"}
	close(f.done)
	if o, err := f.drained(t.Context()); err != nil || o.GaveUp != "why" {
		t.Errorf("at the end: %+v, %v", o, err)
	}
}

func TestLeftBehind(t *testing.T) {
	var left []changeStatus
	for range 12 {
		left = append(left, changeStatus{Path: "f", Op: "add", State: "pending"})
	}
	left = append(left, changeStatus{Path: "pr", Op: "add", State: "in-pr"})
	f := leftBehind(outcome{Left: left, GaveUp: "out of time"}, "/state")
	if f.code != exitLocal || !strings.Contains(f.text, "12 changes") || !strings.Contains(f.text, "/state") || !strings.Contains(f.text, "(out of time)") {
		t.Errorf("exit %d, %s", f.code, f.text)
	}
	if n := strings.Count(f.hint, "A  f\n"); n != listedChanges || !strings.Contains(f.hint, "… and 2 others") || strings.Contains(f.hint, "A  pr") {
		t.Errorf("%d changes are named:\n%s", n, f.hint)
	}
}

// A Hub that answers again in time is not given up, and one that never does is
// after drainGrace, not before.
func TestWatchReach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &layers{}
		var online atomic.Bool
		online.Store(true)
		gaveUp := make(chan time.Time, 1)
		go l.watchReach(t.Context(), online.Load, func() { gaveUp <- time.Now() })
		begin := func() time.Time {
			online.Store(false)
			time.Sleep(reachInterval)
			synctest.Wait()
			return time.Now()
		}
		time.Sleep(drainGrace * 2)
		begin()
		if p := l.progress(); p.Trouble == "" || p.GivesUp == nil {
			t.Errorf("unreachable, and nobody is told: %+v", p)
		}
		time.Sleep(drainGrace - 2*reachInterval)
		online.Store(true)
		time.Sleep(reachInterval)
		synctest.Wait()
		if p := l.progress(); p.Trouble != "" {
			t.Errorf("reached again, and still %q", p.Trouble)
		}
		began := begin()
		if took := (<-gaveUp).Sub(began); took < drainGrace-reachInterval || took > drainGrace+reachInterval {
			t.Errorf("given up after %s", took)
		}
	})
}

func TestProgressText(t *testing.T) {
	now := time.Now()
	soon, late := now.Add(5*time.Second), now.Add(time.Minute)
	for want, c := range map[string]struct {
		p     progress
		until time.Time
	}{
		"waiting for the Hub":                           {progress{}, time.Time{}},
		"2 changes to send, a?b":                        {progress{Pending: 2, Path: "a\nb"}, time.Time{}},
		"1 change to send, giving up in 1m0s":           {progress{Pending: 1}, late},
		"1 change to send; why, giving up in 5s":        {progress{Pending: 1, Trouble: "why", GivesUp: &soon}, late},
		"1 change to send; why not, giving up in 5s":    {progress{Pending: 1, Trouble: "why not", GivesUp: &late}, soon},
		"1 change to send; why at all, giving up in 5s": {progress{Pending: 1, Trouble: "why at all", GivesUp: &soon}, time.Time{}},
		"waiting for the Hub, giving up in 0s":          {progress{}, now.Add(-time.Hour)},
	} {
		if got := c.p.text(c.until, now); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
