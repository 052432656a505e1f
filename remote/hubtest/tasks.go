package hubtest

import (
	"context"
	"sync"
)

// tasks knows the requests being handled, so that closing can end them and
// wait. It uses no sync.WaitGroup because starting and closing may race.
type tasks struct {
	ctx    context.Context // done when closing
	cancel context.CancelFunc

	mu     sync.Mutex
	n      int           // guarded by mu
	closed bool          // guarded by mu; no task starts any more
	idle   chan struct{} // guarded by mu; made by the first close, closed at n == 0
}

func newTasks() *tasks {
	t := new(tasks)
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t
}

// begin reports whether a task may start; if so, the caller calls end.
func (t *tasks) begin() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.n++
	return true
}

func (t *tasks) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n--
	if t.closed && t.n == 0 {
		close(t.idle)
	}
}

// close lets no task start, cancels the context and waits for the rest.
func (t *tasks) close() {
	t.mu.Lock()
	if !t.closed {
		t.closed = true
		t.idle = make(chan struct{})
		if t.n == 0 {
			close(t.idle)
		}
	}
	idle := t.idle
	t.mu.Unlock()
	t.cancel()
	<-idle
}
