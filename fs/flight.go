package fs

import (
	"context"
	"sync"
)

// spawner runs functions on goroutines that Close waits for.
type spawner struct {
	ctx    context.Context // ends at close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex // leaf
	closed bool
}

func newSpawner() *spawner {
	s := &spawner{}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// start runs f on its own goroutine, unless closed. f must end soon after
// s.ctx does.
func (s *spawner) start(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.wg.Go(f)
	return true
}

// close ends what runs and waits for it.
func (s *spawner) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.wg.Wait()
}

// flights lets callers that want the same thing at the same time share one
// attempt. The attempt belongs to none of them: it goes on as long as anybody
// waits for it, and is cancelled when the last one leaves.
type flights[K comparable, V any] struct {
	sp *spawner

	mu sync.Mutex // never held during an attempt
	m  map[K]*flight[V]
}

type flight[V any] struct {
	done    chan struct{}
	cancel  context.CancelFunc
	waiters int // guarded by flights.mu
	val     V   // written before done is closed
	err     error
}

func newFlights[K comparable, V any](sp *spawner) *flights[K, V] {
	return &flights[K, V]{sp: sp, m: make(map[K]*flight[V])}
}

// do waits for the attempt with this key, starting it if there is none, but
// not longer than ctx lasts. shared says that the attempt was under way
// already, so that what it saw may be older than the call.
func (g *flights[K, V]) do(ctx context.Context, key K, f func(context.Context) (V, error)) (val V, shared bool, err error) {
	g.mu.Lock()
	fl, shared := g.m[key]
	if !shared {
		fctx, cancel := context.WithCancel(g.sp.ctx)
		fl = &flight[V]{done: make(chan struct{}), cancel: cancel}
		if !g.sp.start(func() { g.run(fctx, key, fl, f) }) {
			g.mu.Unlock()
			cancel()
			return val, false, errClosed
		}
		g.m[key] = fl
	}
	fl.waiters++
	g.mu.Unlock()

	select {
	case <-fl.done:
		err = fl.err
		val = fl.val
	case <-ctx.Done():
		err = ctx.Err()
	}
	g.mu.Lock()
	fl.waiters--
	if fl.waiters == 0 && g.m[key] == fl {
		// Nobody waits and it has not ended. Whoever comes next starts anew
		// instead of joining what is being torn down.
		delete(g.m, key)
		fl.cancel()
	}
	g.mu.Unlock()
	return val, shared, err
}

func (g *flights[K, V]) run(ctx context.Context, key K, fl *flight[V], f func(context.Context) (V, error)) {
	defer fl.cancel()
	fl.val, fl.err = f(ctx)
	g.mu.Lock()
	if g.m[key] == fl {
		delete(g.m, key)
	}
	g.mu.Unlock()
	close(fl.done)
}
