package blockcache

import (
	"iter"
	"math"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	chunkSize = 128 << 10 // unit of validity and of checksums
	blockSize = 1 << 20   // unit of memory
	perBlock  = blockSize / chunkSize
	smallSize = 8 << 20 // objects up to here are verified before they are served
	minMemory = 16 << 20
)

// block is the part of an object that begins at idx*blockSize. All fields are
// guarded by Cache.mu, except that a flight writes into chunks of data that
// are not in have, and pins the block while it does; whoever pins the block
// may read the chunks in have without the lock.
type block struct {
	o       *object
	idx     int64
	data    []byte // len is the block's size
	have    uint8  // valid chunks
	queued  uint8  // chunks that are waiting for the disk writer
	pins    int    // 0 means it is in one of the lists of memory
	readTo  int    // end of what readers have seen
	hot     bool   // was read again
	list    segment
	chained bool          // pinned for the hasher
	gone    bool          // not in object.blocks any more; freed at the last unpin
	wait    chan struct{} // closed at the next change of have or end of a flight
	waiters []waiter
	sums    [perBlock]uint32 // checksums of the chunks in summed
	summed  uint8
}

// waiter is a reader that has no use for less than all chunks it needs.
type waiter struct {
	need uint8
	all  chan struct{} // closed when they are there, or a flight ended
}

type segment uint8

const (
	unlisted segment = iota
	probation
	protected
	awaited // evicted last: the hasher has yet to come to it
	spent   // evicted first: a stream has passed it, and the kernel has its bytes
)

// keepSpent is how many spent blocks stay before their buffers are used again
// rather than new ones mapped: memory that nobody has touched yet costs more
// than all that is done with a block.
const keepSpent = 16

func fullMask(size int) uint8 { return uint8(1<<((size+chunkSize-1)/chunkSize) - 1) }

// chunkMask returns the chunks that bytes [from, to) of a block touch.
func chunkMask(from, to int) uint8 {
	lo, hi := from/chunkSize, (to+chunkSize-1)/chunkSize
	return uint8(1<<hi-1) &^ uint8(1<<lo-1)
}

// chunkRuns yields the runs of consecutive chunks, each as the bytes [from, to)
// of a block of size bytes.
func chunkRuns(chunks uint8, size int) iter.Seq2[int, int] {
	return func(yield func(from, to int) bool) {
		for i := 0; i < perBlock; {
			if chunks&(1<<i) == 0 {
				i++
				continue
			}
			k := i + 1
			for k < perBlock && chunks&(1<<k) != 0 {
				k++
			}
			if !yield(i*chunkSize, min(k*chunkSize, size)) {
				return
			}
			i = k
		}
	}
}

func (b *block) complete() bool { return b.have == fullMask(len(b.data)) }

func (b *block) changed() <-chan struct{} {
	if b.wait == nil {
		b.wait = make(chan struct{})
	}
	return b.wait
}

// awaits is like changed for somebody who needs all of the chunks.
func (b *block) awaits(need uint8) <-chan struct{} {
	w := waiter{need, make(chan struct{})}
	b.waiters = append(b.waiters, w)
	return w.all
}

// wake tells everybody to look again.
func (b *block) wake() {
	b.grew()
	for _, w := range b.waiters {
		close(w.all)
	}
	b.waiters = nil
}

// grew tells those who wait for what have now holds.
func (b *block) grew() {
	if b.wait != nil {
		close(b.wait)
		b.wait = nil
	}
	left := b.waiters[:0]
	for _, w := range b.waiters {
		if b.have&w.need == w.need {
			close(w.all)
		} else {
			left = append(left, w)
		}
	}
	b.waiters = left
}

// memory is the memory tier: buffers within a ceiling, and the order in which
// idle blocks give theirs up. A block enters probation and moves to the
// protected segment when it is read again, so one long scan passes through
// probation and leaves what is in use alone. It is guarded by Cache.mu.
type memory struct {
	limit     int64
	used      int64 // in buffers of blocks
	pinned    int64 // of used: what nothing can evict
	free      [][]byte
	lists     [5]*simplelru.LRU[*block, struct{}]
	protected int64 // bytes
	hashers   int   // that run, and will unpin what they are done with
	freed     chan struct{}
}

func newMemory(limit int64) memory {
	m := memory{limit: max(limit, minMemory)}
	for _, s := range []segment{probation, protected, awaited, spent} {
		// The bound is in bytes and kept here; NewLRU fails only for size 0.
		m.lists[s], _ = simplelru.NewLRU[*block, struct{}](math.MaxInt, nil)
	}
	return m
}

// cost is what a buffer for n bytes takes: small ones come from the heap in
// their own size, others are whole blocks that are used again.
func cost(n int) int64 {
	if n <= blockSize/2 {
		return int64(n)
	}
	return blockSize
}

// reserve evicts until need more bytes fit, or says that they do not. While a
// hasher runs it is waited for rather than left without its next blocks.
func (m *memory) reserve(need int64) bool {
	for m.used+need > m.limit {
		b := m.oldest()
		if b == nil {
			return false
		}
		b.o.forget(b)
	}
	return true
}

func (m *memory) oldest() *block {
	for _, s := range []segment{spent, probation, protected, awaited} {
		if s == awaited && m.hashers > 0 {
			break
		}
		if b, _, ok := m.lists[s].GetOldest(); ok {
			return b
		}
	}
	return nil
}

func (m *memory) buffer(n int) []byte {
	if n > blockSize/2 && len(m.free) == 0 && m.lists[spent].Len() > keepSpent {
		b, _, _ := m.lists[spent].GetOldest()
		b.o.forget(b)
	}
	m.used += cost(n)
	for len(m.free) > 0 {
		b := m.free[len(m.free)-1]
		if n > blockSize/2 {
			m.free = m.free[:len(m.free)-1]
			return b[:n]
		}
		if m.used+int64(len(m.free))*blockSize <= m.limit {
			break
		}
		m.free = m.free[:len(m.free)-1]
		unmapBuffer(b)
	}
	if n > blockSize/2 {
		return mapBuffer()[:n]
	}
	return make([]byte, n)
}

func (m *memory) release(data []byte) {
	m.used -= cost(len(data))
	if len(data) > blockSize/2 {
		data = data[:blockSize]
		if m.used+int64(len(m.free)+1)*blockSize <= m.limit {
			m.free = append(m.free, data)
		} else {
			unmapBuffer(data)
		}
	}
	m.signal()
}

func (m *memory) signal() {
	if m.freed != nil {
		close(m.freed)
		m.freed = nil
	}
}

func (m *memory) waitFreed() <-chan struct{} {
	if m.freed == nil {
		m.freed = make(chan struct{})
	}
	return m.freed
}

func (m *memory) unlist(b *block) {
	if b.list == unlisted {
		return
	}
	m.lists[b.list].Remove(b)
	if b.list == protected {
		m.protected -= cost(len(b.data))
	}
	b.list = unlisted
}

func (m *memory) enlist(b *block) {
	b.list = probation
	switch {
	case b.o.awaits(b) && int64(m.lists[awaited].Len()) < m.limit/blockSize/2:
		b.list = awaited
	case b.hot:
		b.list = protected
		m.protected += cost(len(b.data))
	case b.o.passed(b):
		b.list = spent
	}
	m.lists[b.list].Add(b, struct{}{})
	for m.protected > m.limit/4*3 {
		d, _, ok := m.lists[protected].GetOldest()
		if !ok {
			break
		}
		m.unlist(d)
		d.hot, d.readTo = false, 0
		d.list = probation
		m.lists[probation].Add(d, struct{}{})
	}
	m.signal() // an idle block can be evicted by who waits for memory
}

// pin keeps b's buffer until the matching unpin.
func (m *memory) pin(b *block) {
	if b.pins == 0 {
		m.unlist(b)
		m.pinned += cost(len(b.data))
	}
	b.pins++
}

func (m *memory) unpin(b *block) {
	b.pins--
	if b.pins > 0 {
		return
	}
	m.pinned -= cost(len(b.data))
	switch {
	case b.gone:
		m.release(b.data)
		b.data = nil
	case b.have == 0:
		b.o.forget(b)
	default:
		m.enlist(b)
	}
}
