package blockcache

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// gated makes a source's answers wait, and reports each request.
func gated(s *fakeSource) (started chan int64, open func()) {
	started = make(chan int64, 1000)
	ch := make(chan struct{})
	s.gate = func(ctx context.Context, off, n int64) error {
		started <- off
		select {
		case <-ch:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return started, sync.OnceFunc(func() { close(ch) })
}

func (o *object) waitersOf(off int64) int {
	o.c.mu.Lock()
	defer o.c.mu.Unlock()
	if fl := o.flightOver(off / chunkSize); fl != nil {
		return fl.refs
	}
	return 0
}

// until spins on a condition that another goroutine is about to make true.
func until(t *testing.T, cond func() bool) {
	t.Helper()
	for !cond() {
		if t.Context().Err() != nil {
			t.Fatal("never happened")
		}
		pauseBriefly()
	}
}

func TestReadersShareOneFlight(t *testing.T) {
	data := randomBytes(12*blockSize, 20)
	c := open(t, Options{})
	src := &fakeSource{data: data}
	started, release := gated(src)
	const at = 6 * blockSize
	var wg sync.WaitGroup
	files := []*File{handle(t, c, sha256ID(data), src), handle(t, c, sha256ID(data), src)}
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		_, err := files[0].ReadAt(ctx, make([]byte, 100), at)
		left <- err
	}()
	<-started
	for i := range 8 {
		wg.Go(func() {
			p := make([]byte, 4096)
			if _, err := files[i%2].ReadAt(context.Background(), p, at+int64(i)*4096); err != nil || !bytes.Equal(p, data[at+i*4096:][:4096]) {
				t.Errorf("reader %d: %v", i, err)
			}
		})
	}
	until(t, func() bool { return files[0].o.waitersOf(at) == 9 })
	cancel() // the one who began it
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("the cancelled reader got %v", err)
	}
	release()
	wg.Wait()
	if n := src.requests.Load(); n != 1 {
		t.Errorf("%d requests", n)
	}
}

func TestLastReaderCancelsTheFlight(t *testing.T) {
	data := randomBytes(12*blockSize, 21)
	c := open(t, Options{})
	src := &fakeSource{data: data}
	ended := make(chan struct{})
	started := make(chan struct{})
	src.gate = func(ctx context.Context, off, n int64) error {
		close(started)
		<-ctx.Done()
		close(ended)
		return ctx.Err()
	}
	f := handle(t, c, sha256ID(data), src)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-started
		cancel()
	}()
	if _, err := f.ReadAt(ctx, make([]byte, 10), 7*blockSize); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	<-ended
	src.mu.Lock()
	src.gate = nil
	src.mu.Unlock()
	mustReadAll(t, f, blockSize, data)
}

func TestCloseHandsItsReadersOver(t *testing.T) {
	data := randomBytes(12*blockSize, 22)
	c := open(t, Options{})
	stuck := &fakeSource{data: data}
	started, release := gated(stuck)
	defer release()
	a := handle(t, c, sha256ID(data), stuck)
	src := &fakeSource{data: data}
	b := handle(t, c, sha256ID(data), src)
	const at = 6 * blockSize
	first := make(chan error)
	go func() {
		_, err := a.ReadAt(context.Background(), make([]byte, 10), at)
		first <- err
	}()
	<-started
	second := make(chan error)
	go func() {
		p := make([]byte, 10)
		_, err := b.ReadAt(context.Background(), p, at)
		if err == nil && !bytes.Equal(p, data[at:at+10]) {
			err = errors.New("wrong bytes")
		}
		second <- err
	}()
	until(t, func() bool { return a.o.waitersOf(at) == 2 })
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if err := <-first; !errors.Is(err, ErrClosed) {
		t.Errorf("the closed handle's reader got %v", err)
	}
	if err := <-second; err != nil {
		t.Errorf("the other handle's reader got %v", err)
	}
	if stuck.open.Load() != 0 || src.requests.Load() != 1 {
		t.Errorf("%d still open, %d requests of the other", stuck.open.Load(), src.requests.Load())
	}
}

// A reader is answered when its bytes are there, not when the range is.
func TestProgressWatermark(t *testing.T) {
	data := randomBytes(12*blockSize, 23)
	c := open(t, Options{})
	src := &fakeSource{data: data}
	hold := make(chan struct{})
	src.fault = func(off int64, p []byte) (int, error) {
		if off >= blockSize/2 {
			<-hold
		}
		return len(p), nil
	}
	f := handle(t, c, sha256ID(data), src)
	p := make([]byte, 1000)
	if _, err := f.ReadAt(t.Context(), p, 0); err != nil || !bytes.Equal(p, data[:1000]) {
		t.Errorf("got %v", err)
	}
	close(hold)
}

func TestConcurrentReadersOfOneFile(t *testing.T) {
	data := randomBytes(24*blockSize+100, 24)
	for _, o := range []Options{{MemoryBytes: minMemory}, {Dir: t.TempDir(), DiskBytes: 1 << 30}} {
		c := open(t, o)
		src := &fakeSource{data: data}
		var wg sync.WaitGroup
		for i := range 8 {
			f := handle(t, c, sha256ID(data), src)
			wg.Go(func() {
				got, err := readAll(context.Background(), f, 100_000*(i+1))
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("reader %d: %d bytes, %v", i, len(got), err)
				}
			})
		}
		wg.Wait()
		if s := c.Stats(); s.MemoryBytes > c.mem.limit {
			t.Errorf("memory %d over its limit %d", s.MemoryBytes, c.mem.limit)
		}
	}
}

// The kernel repeats a failed read; a deadline must not be met by each.
func TestSlowFailureIsRememberedByItsHandle(t *testing.T) {
	data := randomBytes(12*blockSize, 25)
	synctest.Test(t, func(t *testing.T) {
		c, err := Open(Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		boom := errors.New("no answer")
		src := &fakeSource{data: data, gate: func(ctx context.Context, off, n int64) error {
			time.Sleep(30 * time.Second)
			return boom
		}}
		f, _ := c.File(sha256ID(data), src)
		defer f.Close()
		start := time.Now()
		for range 4 {
			if _, err := f.ReadAt(t.Context(), make([]byte, 4096), 7<<20); !errors.Is(err, boom) {
				t.Errorf("got %v", err)
			}
		}
		if d := time.Since(start); d > 31*time.Second {
			t.Errorf("four failures took %v", d)
		}
		src.gate = nil
		g, _ := c.File(sha256ID(data), src)
		defer g.Close()
		if _, err := g.ReadAt(t.Context(), make([]byte, 4096), 7<<20); err != nil {
			t.Errorf("another handle: %v", err)
		}
		time.Sleep(failFast)
		if _, err := f.ReadAt(t.Context(), make([]byte, 4096), 8<<20); err != nil {
			t.Errorf("later: %v", err)
		}
	})
}
