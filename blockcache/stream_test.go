package blockcache

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
)

// tailSource answers all but the last bytes of a range, until it is let go.
type tailSource struct {
	hugeSource
	tail int64
	hold chan struct{}
	open atomic.Int64
}

func (s *tailSource) OpenRange(ctx context.Context, off, n int64, urgent bool) (io.ReadCloser, error) {
	rc, err := s.hugeSource.OpenRange(ctx, off, n, urgent)
	s.open.Add(1)
	return &tailReader{rc, s, ctx, n}, err
}

type tailReader struct {
	io.ReadCloser
	s   *tailSource
	ctx context.Context
	n   int64
}

func (r *tailReader) Read(p []byte) (int, error) {
	if left := r.n - r.s.tail; left > 0 {
		p = p[:min(int64(len(p)), left)]
	} else {
		select {
		case <-r.s.hold:
		case <-r.ctx.Done():
			return 0, r.ctx.Err()
		}
	}
	n, err := r.ReadCloser.Read(p)
	r.n -= int64(n)
	return n, err
}

// While ranges wait for their last bytes, half as many more are asked for.
func TestNextRangeBeginsBeforeTheLastEnds(t *testing.T) {
	const conns = 4
	c := open(t, Options{Connections: conns})
	c.pace.rest.Store(chunkSize)
	src := &tailSource{tail: chunkSize, hold: make(chan struct{})}
	f := handle(t, c, hugeID(10<<30), src)
	got := make(chan error)
	go func() {
		_, err := f.ReadAt(context.Background(), make([]byte, blockSize), 0)
		got <- err
	}()
	for src.open.Load() < conns+conns/2 {
		pauseBriefly()
	}
	c.mu.Lock()
	if c.flying > conns+1 || c.ending > conns/2 {
		t.Errorf("%d flying, %d ending", c.flying, c.ending)
	}
	c.mu.Unlock()
	close(src.hold)
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	f.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.flying != 0 || c.ending != 0 {
		t.Errorf("%d flying, %d ending after the end", c.flying, c.ending)
	}
}

// What comes first for the reader comes in the shortest ranges.
func TestFirstRangesAreShort(t *testing.T) {
	src := &fakeSource{data: make([]byte, 128<<20)}
	c := open(t, Options{})
	f := handle(t, c, hugeID(int64(len(src.data))), src)
	if _, err := f.ReadAt(t.Context(), make([]byte, blockSize), 0); err != nil {
		t.Fatal(err)
	}
	src.mu.Lock()
	defer src.mu.Unlock()
	near, far := int64(0), int64(0)
	for _, r := range src.log {
		if r[0] < 8<<20 {
			near = max(near, r[1])
		}
		far = max(far, r[1])
	}
	if near > minExtent || far < 2*minExtent {
		t.Errorf("ranges of up to %d bytes near the reader, %d away from it", near, far)
	}
}

func TestWaiterIsWokenOnce(t *testing.T) {
	b := &block{data: make([]byte, blockSize)}
	some, all := b.awaits(1), b.awaits(0b111)
	isClosed := func(ch <-chan struct{}) bool {
		select {
		case <-ch:
			return true
		default:
			return false
		}
	}
	b.have = 0b011
	b.grew()
	if !isClosed(some) || isClosed(all) {
		t.Error("a part woke the wrong one")
	}
	b.wake()
	if !isClosed(all) || len(b.waiters) != 0 {
		t.Error("the end of a flight woke nobody")
	}
}

// A chunk's checksum is made when it arrives, and never again.
func TestChunksAreSummedOnArrival(t *testing.T) {
	data := randomBytes(9<<20+5, 1)
	c := open(t, Options{})
	f := handle(t, c, sha256ID(data), &fakeSource{data: data})
	mustReadAll(t, f, blockSize, data)
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, b := range f.o.blocks {
		if b.summed != b.have || b.sums != chunkSums(b.data, b.have) || b.sums != f.o.sums[i] {
			t.Errorf("block %d: %08b of %08b", i, b.summed, b.have)
		}
	}
}

func TestBuffersStayWithinTheLimit(t *testing.T) {
	m := newMemory(minMemory)
	var held [][]byte
	for range minMemory / blockSize {
		b := m.buffer(blockSize)
		if b[0] != 0 || len(b) != blockSize {
			t.Fatal("not a fresh block")
		}
		b[0], b[blockSize-1] = 1, 1
		held = append(held, b)
		if total := m.used + int64(len(m.free))*blockSize; total > m.limit {
			t.Fatalf("%d bytes of %d", total, m.limit)
		}
	}
	for _, b := range held {
		m.release(b)
	}
	if m.used != 0 || len(m.free) != minMemory/blockSize {
		t.Errorf("%d used, %d free", m.used, len(m.free))
	}
	for _, b := range m.free {
		unmapBuffer(b)
	}
}

// Reads that come out of order within a few blocks, as the kernel's do, get the
// verdict with the last of them, however little memory there is.
func TestStreamOutOfOrderIsVerified(t *testing.T) {
	const size, together = 6 * minMemory, 4
	for range 5 {
		c := open(t, Options{MemoryBytes: minMemory})
		f := handle(t, c, hugeID(size), &hugeSource{}) // which is not the hash of zeros
		var corrupt atomic.Bool
		for off := int64(0); off < size && !corrupt.Load(); off += together * blockSize {
			var wg sync.WaitGroup
			for i := range int64(together) {
				wg.Go(func() {
					_, err := f.ReadAt(context.Background(), make([]byte, blockSize), off+(together-1-i)*blockSize)
					if errors.Is(err, ErrCorrupt) {
						corrupt.Store(true)
					} else if err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
		}
		if !corrupt.Load() {
			c.mu.Lock()
			t.Errorf("not verified: %d blocks hashed, %d chained, %d absent of %d", f.o.hashed, f.o.chained, f.o.absent(), f.o.nblocks)
			c.mu.Unlock()
		}
		f.Close()
	}
}

// What a stream has passed gives its memory to what comes next, though the
// ceiling would allow more.
func TestPassedBlocksAreUsedAgain(t *testing.T) {
	data := randomBytes(96<<20, 7)
	for _, tt := range []struct {
		name string
		o    Options
		most int
	}{
		{"on disk", Options{Dir: t.TempDir(), DiskBytes: -1}, 80},
		{"larger than memory", Options{MemoryBytes: 128 << 20}, 48},
		{"worth keeping", Options{MemoryBytes: 256 << 20}, 96},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.o.Connections = 1
			c := open(t, tt.o)
			f := handle(t, c, sha256ID(data), &fakeSource{data: data})
			for off := int64(0); off < int64(len(data)); off += blockSize {
				if _, err := f.ReadAt(t.Context(), make([]byte, blockSize), off); err != nil {
					t.Fatal(err)
				}
				for { // the hasher and the disk are done with it
					c.mu.Lock()
					b := f.o.blocks[off/blockSize-1] // read-ahead keeps the present one
					idle := b == nil || b.pins == 0
					c.mu.Unlock()
					if idle {
						break
					}
					pauseBriefly()
				}
			}
			used := int(c.Stats().MemoryBytes / blockSize)
			if kept := tt.most == 96; kept && used != 96 || !kept && used > tt.most {
				t.Errorf("%d blocks in memory, want %d", used, tt.most)
			}
		})
	}
}
