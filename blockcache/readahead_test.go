package blockcache

import (
	"context"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hfmount/remote/hub"
)

func pauseBriefly() { runtime.Gosched(); time.Sleep(50 * time.Microsecond) }

// hugeSource is size bytes of nothing.
type hugeSource struct {
	requests, bytes atomic.Int64
	max             atomic.Int64
}

func hugeID(size int64) hub.ContentID {
	return hub.ContentID{Algo: hub.SHA256, Hex: strings.Repeat("ab", 32), Size: size}
}

func (s *hugeSource) OpenRange(ctx context.Context, off, n int64, urgent bool) (io.ReadCloser, error) {
	s.requests.Add(1)
	s.bytes.Add(n)
	for m := s.max.Load(); n > m && !s.max.CompareAndSwap(m, n); m = s.max.Load() {
	}
	return &hugeReader{ctx, n}, nil
}

type hugeReader struct {
	ctx context.Context
	n   int64
}

func (r *hugeReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n := min(int64(len(p)), r.n)
	clear(p[:n])
	r.n -= n
	if n == 0 {
		return 0, io.EOF
	}
	return int(n), nil
}

func (r *hugeReader) Close() error { return nil }

func TestHeaderCostsOneRange(t *testing.T) {
	c := open(t, Options{})
	for _, steps := range [][]int{{8, 100_000}, {128 << 10}, {128 << 10, 128 << 10, 256 << 10}, {512 << 10}} {
		src := &hugeSource{}
		f := handle(t, c, hugeID(10<<30+int64(len(steps))), src)
		off := int64(0)
		for _, n := range steps {
			if _, err := f.ReadAt(t.Context(), make([]byte, n), off); err != nil {
				t.Fatal(err)
			}
			off += int64(n)
		}
		if src.requests.Load() > 2 || src.bytes.Load() > 1_200_000 {
			t.Errorf("%v: %d bytes in %d requests", steps, src.bytes.Load(), src.requests.Load())
		}
		f.Close()
	}
}

func TestRandomReadsFetchOneChunk(t *testing.T) {
	c := open(t, Options{})
	src := &hugeSource{}
	f := handle(t, c, hugeID(10<<30), src)
	g := rand.New(rand.NewPCG(1, 1))
	const reads = 300
	for range reads {
		if _, err := f.ReadAt(t.Context(), make([]byte, 4096), g.Int64N(10<<30/4096-1)*4096); err != nil {
			t.Fatal(err)
		}
	}
	if n := src.bytes.Load() / reads; n > chunkSize*102/100 {
		t.Errorf("%d bytes for each read", n)
	}
}

func TestStreamIsReadAheadInLongRanges(t *testing.T) {
	const size, memory = 512 << 20, 256 << 20
	c := open(t, Options{MemoryBytes: memory})
	src := &hugeSource{}
	// What is read ahead must not reach the end, where the hash is found wrong.
	f := handle(t, c, hugeID(size+memory+64<<20), src)
	p := make([]byte, chunkSize)
	peak := int64(0)
	for off := int64(0); off < size; off += chunkSize {
		if _, err := f.ReadAt(t.Context(), p, off); err != nil {
			t.Fatal(err)
		}
		peak = max(peak, c.Stats().MemoryBytes)
	}
	if n := src.requests.Load(); n > (size+memory)/minExtent+20 {
		t.Errorf("%d requests", n)
	}
	if n := src.bytes.Load(); n > size+memory {
		t.Errorf("fetched %d for %d bytes", n, int64(size))
	}
	if peak > memory {
		t.Errorf("memory reached %d", peak)
	}
}

func TestRangeInTheMiddleIsTrustedWithHalf(t *testing.T) {
	c := open(t, Options{})
	src := &hugeSource{}
	f := handle(t, c, hugeID(10<<30), src)
	asked := int64(0)
	for col := range int64(20) {
		base := 100<<20 + col*64<<20
		for off := int64(0); off < 3<<20; off += chunkSize {
			if _, err := f.ReadAt(t.Context(), make([]byte, chunkSize), base+off); err != nil {
				t.Fatal(err)
			}
			asked += chunkSize
		}
	}
	if n := src.bytes.Load(); n*2 > asked*3+2*20<<20 {
		t.Errorf("fetched %d bytes for %d", n, asked)
	}
}

func TestClosedStreamGivesItsMemoryBack(t *testing.T) {
	c := open(t, Options{})
	f := handle(t, c, hugeID(10<<30), &hugeSource{})
	for off := int64(0); off < 4<<20; off += blockSize {
		if _, err := f.ReadAt(t.Context(), make([]byte, blockSize), off); err != nil {
			t.Fatal(err)
		}
	}
	f.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ahead != 0 || c.streams != 0 || c.flying != 0 {
		t.Errorf("%d bytes ahead, %d streams, %d flights", c.ahead, c.streams, c.flying)
	}
}

func TestExtentFollowsThePace(t *testing.T) {
	for _, x := range []struct {
		latency time.Duration
		bw      float64
		want    int64
	}{
		{30 * time.Millisecond, 100e6, 8 << 20},
		{100 * time.Millisecond, 50e6, 16 << 20},
		{200 * time.Microsecond, 2e9, minExtent},
		{time.Second, 1e9, maxExtent},
	} {
		var p pace
		p.observe(x.latency, time.Duration(4e6/x.bw*1e9), 4e6)
		if got := p.extent(); got != x.want {
			t.Errorf("%v, %.0f B/s: %d, want %d", x.latency, x.bw, got, x.want)
		}
	}
	var p pace
	if p.extent() != 8<<20 {
		t.Error("no guess")
	}
}
