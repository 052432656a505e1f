package blockcache

import (
	"math/rand/v2"
	"testing"
)

// tensors is a format: a header of base bytes and parts of equal length.
type tensors struct{ base, part int64 }

func (t tensors) Head(head []byte, size int64) (int64, []int64) {
	if int64(len(head)) < t.base {
		return t.base, nil
	}
	var parts []int64
	for at := t.base; at < size; at += t.part {
		parts = append(parts, at)
	}
	return 0, parts
}

func (t tensors) Tail(_ []byte, size int64) int64 { return size - 3<<20 }

// faults reads [from, to) as the kernel does for page faults, in MiB.
func faults(t *testing.T, f *File, from, to int64) {
	t.Helper()
	for off := from; off < to; off += blockSize {
		if _, err := f.ReadAt(t.Context(), make([]byte, min(blockSize, to-off)), off); err != nil {
			t.Fatal(err)
		}
	}
}

// idle waits until nothing is in flight.
func idle(c *Cache) {
	for {
		c.mu.Lock()
		n := c.flying
		c.mu.Unlock()
		if n == 0 {
			return
		}
		pauseBriefly()
	}
}

func planned(t *testing.T, c *Cache, size int64, fm Formats) (*File, *hugeSource) {
	t.Helper()
	src := &hugeSource{}
	f := handle(t, c, hugeID(size), src)
	f.Expect(fm, true)
	return f, src
}

func TestHeaderReadByPageFaultsIsNoStream(t *testing.T) {
	c := open(t, Options{})
	f, src := planned(t, c, 10<<30, tensors{300 << 10, 64 << 20})
	defer f.Close()
	faults(t, f, 0, kernelAhead)
	idle(c)
	if n := src.bytes.Load(); n > 3*kernelAhead { // a stream of as much would get 128 MiB
		t.Errorf("%d bytes", n)
	}
}

func TestOneTensorCostsItself(t *testing.T) {
	c := open(t, Options{})
	const part = 48 << 20
	f, src := planned(t, c, 10<<30+1, tensors{blockSize, part})
	defer f.Close()
	faults(t, f, 0, blockSize)
	from := int64(blockSize + 20*part)
	faults(t, f, from, from+part)
	idle(c)
	if n := src.bytes.Load(); n > part+2*blockSize {
		t.Errorf("%d bytes for a tensor of %d", n, part)
	}
	// Nearly all of it came ahead of the reads.
	if n := src.requests.Load(); n > 2+part/minExtent+4 {
		t.Errorf("%d requests", n)
	}
}

func TestRandomReadsBehindAHeaderFetchNothingMore(t *testing.T) {
	c := open(t, Options{})
	f, src := planned(t, c, 10<<30+2, tensors{blockSize, 8 << 20})
	defer f.Close()
	faults(t, f, 0, blockSize)
	g := rand.New(rand.NewPCG(1, 2))
	const reads = 200
	for range reads {
		if _, err := f.ReadAt(t.Context(), make([]byte, 4096), 2<<20+g.Int64N(10<<30/4096-1024)*4096); err != nil {
			t.Fatal(err)
		}
	}
	idle(c)
	if n := (src.bytes.Load() - blockSize) / reads; n > chunkSize*105/100 {
		t.Errorf("%d bytes for each read", n)
	}
}

func TestShuffledTensorsAreFetchedInFileOrder(t *testing.T) {
	c := open(t, Options{})
	const part, n = 4 << 20, 40
	size := int64(blockSize + n*part)
	f, src := planned(t, c, size+blockSize, tensors{blockSize, part})
	faults(t, f, 0, blockSize)
	order := rand.New(rand.NewPCG(3, 4)).Perm(n)
	for i, k := range order[:n/2] {
		from := blockSize + int64(k)*part
		faults(t, f, from, from+part)
		if i == n/4 {
			idle(c)
			read := int64(i+1) * part
			if got := src.bytes.Load(); got < read*3/2 || got > 2*read+2*part+2*blockSize {
				t.Errorf("%d bytes fetched when %d were read", got, read)
			}
		}
	}
	idle(c)
	c.mu.Lock()
	missing := f.o.absent()
	c.mu.Unlock()
	if missing > 2 {
		t.Errorf("%d of %d MiB were not fetched when half was read", missing, size>>20)
	}
	if got := src.bytes.Load(); got > size+blockSize {
		t.Errorf("%d bytes of %d", got, size)
	}
	f.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ahead != 0 || c.streams != 0 || len(c.plans) != 0 || c.proof.due != 0 {
		t.Errorf("left: %d ahead, %d streams, %d plans, %d due", c.ahead, c.streams, len(c.plans), c.proof.due)
	}
}

func TestLoadedShardTrustsTheNextUntilOneIsGivenUp(t *testing.T) {
	c := open(t, Options{})
	const part = 4 << 20
	shard := func(i int64) (*File, *hugeSource) {
		f, src := planned(t, c, blockSize+10*part+i, tensors{blockSize, part})
		faults(t, f, 0, blockSize)
		return f, src
	}
	f, _ := shard(0)
	c.mu.Lock()
	c.proof.loads = 1
	c.mu.Unlock()
	f.Close()
	f, src := shard(1)
	idle(c)
	if n := src.bytes.Load(); n < 10*part {
		t.Errorf("%d bytes of the next shard after its header", n)
	}
	f.Close() // unread
	f, src = shard(2)
	idle(c)
	if n := src.bytes.Load(); n > 2*blockSize {
		t.Errorf("%d bytes after a shard was given up", n)
	}
	f.Close()
}

func TestFooterComesInOneRequest(t *testing.T) {
	c := open(t, Options{})
	f, src := planned(t, c, 1<<30, tensors{1 << 40, 1})
	defer f.Close()
	if _, err := f.ReadAt(t.Context(), make([]byte, 8), 1<<30-8); err != nil {
		t.Fatal(err)
	}
	faults(t, f, 1<<30-3<<20, 1<<30-blockSize)
	idle(c)
	if r, n := src.requests.Load(), src.bytes.Load(); r != 2 || n != 3<<20 {
		t.Errorf("%d bytes in %d requests", n, r)
	}
}
