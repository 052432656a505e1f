package main

import (
	"context"
	"errors"
	"strings"
	"testing"
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
