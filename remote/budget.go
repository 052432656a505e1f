package remote

import (
	"context"
	"sync"
	"time"
)

// budget bounds how many content transfers run at once, over all files. It
// starts at its maximum, halves when a CDN says it is too much, and grows back
// by one for every eight transfers that succeed.
//
// Urgent transfers go before background ones, which may have every slot while
// nobody urgent waits: a slot kept free is bandwidth not used. So that somebody
// urgent need not wait for the end of a long range instead, a quarter of the
// limit is there on top of it for the urgent alone.
//
// A transfer near its end may pass its slot on, so that the round trip of the
// next request is spent while the rest arrives; at most half as many as the
// limit are in that state. Both extras are there only while the limit is at its
// maximum: once a CDN has refused, limit is what runs, and it adapts to that.
type budget struct {
	mu         sync.Mutex
	max        int
	limit      int // 1 to max
	used       int // slots that are held
	tails      int // transfers that have passed theirs on
	successes  int
	throttled  time.Time // of the last halving
	urgent     []*waiter // oldest first
	background []*waiter
}

type waiter struct {
	ready chan struct{} // closed when the slot is the waiter's
}

const (
	growAfter     = 8           // successes for one more connection
	throttleEvery = time.Second // one burst of refusals is one sign
)

func newBudget(n int) *budget { return &budget{max: n, limit: n} }

// acquire waits for a slot. It must be given back with release.
func (b *budget) acquire(ctx context.Context, urgent bool) error {
	b.mu.Lock()
	if b.freeLocked(urgent) && len(b.queueLocked(urgent)) == 0 && (urgent || len(b.urgent) == 0) {
		b.used++
		b.mu.Unlock()
		return nil
	}
	w := &waiter{ready: make(chan struct{})}
	if urgent {
		b.urgent = append(b.urgent, w)
	} else {
		b.background = append(b.background, w)
	}
	b.mu.Unlock()
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-w.ready: // both at once: the slot goes on to the next
		b.used--
		b.wakeLocked()
	default:
		b.urgent = without(b.urgent, w)
		b.background = without(b.background, w)
	}
	return ctx.Err()
}

func (b *budget) queueLocked(urgent bool) []*waiter {
	if urgent {
		return b.urgent
	}
	return b.background
}

func (b *budget) freeLocked(urgent bool) bool {
	n := b.limit
	switch {
	case b.limit < b.max:
		// What ends a transfer that passed its slot on counts again.
		n -= b.tails
	case urgent:
		n += b.limit / 4
	}
	return b.used < max(n, 1)
}

func (b *budget) release() {
	b.mu.Lock()
	b.used--
	b.wakeLocked()
	b.mu.Unlock()
}

// pass gives a slot on whose transfer is almost over. If it returns true, ended
// is to be called in place of release.
func (b *budget) pass() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.limit < b.max || b.tails >= b.limit/2 {
		return false
	}
	b.tails++
	b.used--
	b.wakeLocked()
	return true
}

// ended is the end of a transfer that passed its slot on.
func (b *budget) ended() {
	b.mu.Lock()
	b.tails--
	b.wakeLocked()
	b.mu.Unlock()
}

func (b *budget) wakeLocked() {
	for len(b.urgent) > 0 && b.freeLocked(true) {
		b.used++
		close(b.urgent[0].ready)
		b.urgent = b.urgent[1:]
	}
	for len(b.urgent) == 0 && len(b.background) > 0 && b.freeLocked(false) {
		b.used++
		close(b.background[0].ready)
		b.background = b.background[1:]
	}
}

// succeeded counts a transfer that went well.
func (b *budget) succeeded() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.successes++; b.successes >= growAfter {
		b.successes = 0
		if b.limit < b.max {
			b.limit++
			b.wakeLocked()
		}
	}
}

// throttle halves the budget: a CDN refused for the number of connections.
func (b *budget) throttle(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.throttled.IsZero() && now.Sub(b.throttled) < throttleEvery {
		return
	}
	b.throttled, b.successes = now, 0
	b.limit = max(b.limit/2, 1)
}

func without(ws []*waiter, w *waiter) []*waiter {
	for i, x := range ws {
		if x == w {
			return append(ws[:i:i], ws[i+1:]...)
		}
	}
	return ws
}
