package hubtest

import (
	"context"
	"io"
	"math/bits"
	"sync"
	"time"
)

// pacer spaces the bytes of one connection, both ways together.
type pacer struct {
	mu   sync.Mutex
	next time.Time // guarded by mu; when the bytes sent so far are all through
}

type pacerKey struct{}

// Timers are late and coarse: sleeps below a millisecond are saved up, and a
// connection that is late by less than paceSlack catches up. More is idleness,
// which earns nothing.
//
// Each burst wakes both sides, which share their processors with what is
// measured: so a burst is as long as it may be for the next one to be a few
// milliseconds later.
const (
	paceEvery = 3 * time.Millisecond
	paceSlack = 5 * time.Millisecond
	minBurst  = 16 << 10
	maxBurst  = 256 << 10
)

// burst is how many bytes may pass at once at rate bytes per second: a power of
// two, so that larger writes leave no crumbs.
func burst(rate int64) int {
	n := uint(float64(rate) * paceEvery.Seconds())
	return 1 << (bits.Len(min(max(n, minBurst), maxBurst)) - 1)
}

// pace waits until n more bytes may have passed at rate bytes per second.
func (p *pacer) pace(ctx context.Context, n int, rate int64) error {
	now := time.Now()
	p.mu.Lock()
	if now.Sub(p.next) > paceSlack {
		p.next = now
	}
	p.next = p.next.Add(time.Duration(float64(n) / float64(rate) * float64(time.Second)))
	wait := p.next.Sub(now)
	p.mu.Unlock()
	if wait < time.Millisecond {
		return nil
	}
	return sleep(ctx, wait)
}

// pacedBody is a request body that arrives at a bandwidth.
type pacedBody struct {
	io.ReadCloser
	ctx  context.Context
	p    *pacer
	rate int64
}

func (b *pacedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p[:min(len(p), burst(b.rate))])
	if n > 0 {
		if perr := b.p.pace(b.ctx, n, b.rate); perr != nil {
			return n, perr
		}
	}
	return n, err
}

// sleep waits, or returns the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
