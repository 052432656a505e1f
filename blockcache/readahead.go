package blockcache

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxCursors = 4
	// tolerance is how far from where a stream stands a read may be and still
	// belong to it: the kernel reads ahead in parallel and out of order.
	tolerance = 8 << 20
	// firstRead bounds what the first read of a stream fetches. A stream earns
	// more by consuming half of it, so reading a header never costs more.
	firstRead = 1 << 20

	minExtent = 2 << 20
	maxExtent = 16 << 20
)

// cursor is one stream within a handle. It is guarded by Cache.mu.
//
// Blocks it asked for are pinned and counted in Cache.ahead until the stream
// has passed them, so that memory pressure cannot undo the read-ahead.
type cursor struct {
	start, next int64 // what the stream has covered
	consumed    int64 // bytes read in it
	reads       int
	front       int64 // what is asked for
	window      int64 // how far front may be ahead of next; 0 reads nothing ahead
	stall       bool  // the last wait doubled the window; reset on progress
	used        int
	flights     []*flight
	blocks      []*block // pinned, in the order asked for
	plan        *plan    // whose flights it owns; such a cursor follows no reader
}

// pace measures what the network answers like, over all objects.
type pace struct {
	mu        sync.Mutex
	latency   time.Duration
	bandwidth float64 // bytes per second of one range

	length atomic.Int64 // what extent returns; 0 until something was measured
	rest   atomic.Int64 // what tail returns
}

func (p *pace) observe(latency, transfer time.Duration, n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.latency == 0:
		p.latency = latency
	case latency < p.latency:
		p.latency += (latency - p.latency) / 2
	default: // it may have waited for a connection
		p.latency += (latency - p.latency) / 8
	}
	if n < blockSize/2 || transfer <= 0 {
		return // too short to tell
	}
	bw := float64(n) / transfer.Seconds()
	if p.bandwidth == 0 {
		p.bandwidth = bw
	}
	p.bandwidth += (bw - p.bandwidth) / 4
	p.rest.Store(int64(min(p.latency.Seconds()*p.bandwidth, maxExtent)))
	want := int64(min(3*p.latency.Seconds()*p.bandwidth, maxExtent))
	// The nearest power of two: 1.5 rounds up.
	e := int64(1) << bits.Len64(uint64(want*2/3))
	p.length.Store(min(max(e, minExtent), maxExtent))
}

// extent is the length of one range that spends three quarters of its time
// transferring: three times latency times bandwidth, as a power of two.
func (p *pace) extent() int64 {
	if e := p.length.Load(); e != 0 {
		return e
	}
	return 8 << 20
}

// tail is how much of a range is left when the next should be asked for, so
// that its connection does not stand idle for a round trip.
func (p *pace) tail() int64 { return p.rest.Load() }

// budget bounds what all streams together hold ahead of their readers.
func (c *Cache) budget() int64 { return c.mem.limit / 2 }

// extent is the length of one range: as the pace says, if memory holds one for
// each connection and half as much again that waits for the reader.
func (c *Cache) extent() int64 {
	return min(c.pace.extent(), max(c.budget()*2/3/int64(c.opts.Connections), minExtent))
}

// fullWindow is how far ahead of a reader each connection has an extent.
func (c *Cache) fullWindow() int64 { return int64(c.opts.Connections) * c.extent() * 3 / 2 }

// crowded reports whether the stream with these flights has to wait for a
// connection. The last one is shared out rather than left to who came first.
func (c *Cache) crowded(flights []*flight) bool {
	mine, conns := int64(0), int64(c.opts.Connections)
	for _, fl := range flights {
		if !fl.ending {
			mine++
		}
	}
	return int64(c.flying) >= conns && mine >= c.share(conns) || mine >= conns
}

// share is what one of the present streams may use of n.
func (c *Cache) share(n int64) int64 { return n / int64(max(c.streams, 1)) }

// observe assigns a read of [off, end) to a cursor and moves it.
func (f *File) observe(off, end int64) *cursor {
	f.clock++
	if f.o.small {
		return nil
	}
	var cur *cursor
	slot := 0
	for i, k := range f.cursors {
		switch {
		case k == nil:
			if f.cursors[slot] != nil {
				slot = i
			}
		case off >= k.next-tolerance && off <= k.next+tolerance:
			if cur == nil || distance(k, off) < distance(cur, off) {
				cur = k
			}
		case f.cursors[slot] != nil && k.used < f.cursors[slot].used:
			slot = i
		}
	}
	if cur == nil {
		if old := f.cursors[slot]; old != nil {
			f.drop(old)
		}
		cur = &cursor{start: off, next: off, front: off}
		f.cursors[slot] = cur
	}
	cur.used = f.clock
	cur.start = min(cur.start, off)
	if end > cur.next {
		cur.next, cur.stall = end, false
	}
	cur.reads++
	cur.consumed += end - off
	f.pass(cur, off)
	f.grow(cur)
	f.touch(cur, off, end)
	return cur
}

func distance(k *cursor, off int64) int64 { return max(k.next-off, off-k.next) }

// dense tells a stream from reads that merely fall near each other.
func (k *cursor) dense() bool { return k.consumed*2 >= k.next-k.start }

// trusted says that the whole window is worth having.
func (f *File) trusted(k *cursor) bool {
	if f.o.plan.holdsBack(k) {
		return false
	}
	return k.dense() && (k.start == 0 && k.consumed > firstRead/2 || k.consumed >= 32<<20)
}

// grow decides how far ahead the stream may read. From the start of the object
// half a first read in order is enough for the whole window. A stream that
// begins elsewhere may be one column or tensor: it is trusted with half of
// what it has consumed, so that at most a third of the bytes are in vain.
func (f *File) grow(cur *cursor) {
	c := f.o.c
	was := cur.window
	full := c.fullWindow()
	switch {
	case !cur.dense(), cur.next >= f.o.size:
		cur.window = 0
	case f.trusted(cur):
		cur.window = max(cur.window, full)
	case cur.start > 0 && cur.reads > 2 && cur.consumed > firstRead/2 && !f.o.plan.holdsBack(cur):
		cur.window = max(cur.window, cur.consumed/2)
	}
	switch {
	case was == 0 && cur.window > 0:
		c.streams++
	case was > 0 && cur.window == 0:
		c.streams--
	}
	cur.window = min(cur.window, c.share(c.budget()))
	if cur.window > 0 {
		f.advance(cur)
	}
}

// stalled widens the window of a stream whose reader has to wait for it.
func (f *File) stalled(cur *cursor) {
	if cur == nil || cur.window == 0 || cur.stall || !f.trusted(cur) {
		return
	}
	cur.stall = true
	c := f.o.c
	cur.window = min(cur.window*2, max(c.fullWindow()*2, cur.window), c.share(c.budget()))
	f.advance(cur)
}

// advance starts the extents that the window, the connections and the budget
// allow. It waits until a whole extent fits, rather than nibble.
func (f *File) advance(cur *cursor) {
	o, c := f.o, f.o.c
	if cur.plan != nil {
		f.pursue(cur.plan)
		return
	}
	if cur.window == 0 || f.closed || o.dead != nil {
		return
	}
	parts := int64(2)
	if cur.window >= 4*minExtent {
		parts = 4
	}
	most := min(c.extent(), max(cur.window/parts, chunkSize)) &^ (chunkSize - 1)
	cur.front = max(cur.front, cur.next)
	for {
		// What the reader comes to first is fetched in shorter ranges, over more
		// connections.
		extent := min(most, max((cur.front-cur.next)/4, minExtent)&^(chunkSize-1))
		limit := min(cur.next+cur.window, o.size)
		if cur.front >= limit || limit < o.size && limit-cur.front < extent {
			return
		}
		if c.crowded(cur.flights) {
			return
		}
		from, to, ok := o.missingRun(cur.front, limit, extent)
		if !ok {
			cur.front = limit
			return
		}
		if c.ahead+(to-from) > c.budget() {
			return
		}
		if !c.roomAhead(to - from) {
			c.starved[f] = struct{}{}
			return
		}
		fl := o.fetch(f, from, to, false, false)
		if fl == nil {
			return // memory is short; the next read tries again
		}
		f.own(cur, fl)
		for _, b := range fl.blocks {
			if n := len(cur.blocks); n > 0 && cur.blocks[n-1] == b {
				continue
			}
			c.mem.pin(b)
			c.ahead += int64(len(b.data))
			cur.blocks = append(cur.blocks, b)
		}
		cur.front = to
	}
}

// own makes cur keep fl going even if no reader waits for it.
func (f *File) own(cur *cursor, fl *flight) {
	fl.refs++
	fl.cursor = cur
	cur.flights = append(cur.flights, fl)
}

// roomAhead says that n bytes more may be read ahead. What waits for the hasher
// and the disk is pinned, too; if read-ahead took the rest, a block that was
// read would be evicted before its turn, and the object never be verified.
func (c *Cache) roomAhead(n int64) bool { return c.mem.pinned+n <= c.mem.limit/8*7 }

// resume lets the streams go on that memory held up, once there is some again.
func (c *Cache) resume() {
	if len(c.starved) == 0 || !c.roomAhead(c.extent()) {
		return
	}
	held := c.starved
	c.starved = make(map[*File]struct{})
	for f := range held {
		for _, cur := range f.cursors {
			if cur != nil {
				f.advance(cur)
			}
		}
	}
}

// pass unpins the blocks before off: the stream has read them.
func (f *File) pass(cur *cursor, off int64) {
	n := 0
	for n < len(cur.blocks) && (cur.blocks[n].idx+1)*blockSize <= off {
		f.unpinAhead(cur.blocks[n])
		n++
	}
	if n > 0 {
		cur.blocks = append(cur.blocks[:0], cur.blocks[n:]...)
	}
}

func (f *File) unpinAhead(b *block) {
	f.o.c.ahead -= int64(len(b.data))
	f.o.c.mem.unpin(b)
}

// drop ends a stream: what it has in flight stops unless a reader waits for it.
func (f *File) drop(cur *cursor) {
	if cur.window > 0 {
		f.o.c.streams--
		cur.window = 0
	}
	for _, fl := range cur.flights {
		fl.cursor = nil
		fl.release()
	}
	cur.flights = nil
	for _, b := range cur.blocks {
		f.unpinAhead(b)
	}
	cur.blocks = nil
}

// demand starts the flight for a reader that waits at pos and asked for the
// bytes up to asked. A lone read gets just its chunks; a read at the start of
// the object, and one that continues another, is given up to firstRead.
// It returns nil when memory is short.
func (f *File) demand(cur *cursor, pos, asked int64, over bool) *flight {
	o := f.o
	if o.small {
		return o.fetch(f, 0, o.size, true, over)
	}
	asked = max(asked, pos+1)
	upto := asked
	if pos < firstRead || cur.reads > 1 && cur.dense() {
		upto = max(upto, (pos/firstRead+1)*firstRead)
	}
	// A read of many blocks is fetched in pieces that memory can surely hold.
	most := min(max(upto-pos/chunkSize*chunkSize, chunkSize), o.c.mem.limit/4, maxExtent)
	// The chunk of pos is missing: the caller has looked under this lock.
	from, to, _ := o.missingRun(pos, min(upto, o.size), most)
	fl := o.fetch(f, from, to, true, over)
	if fl != nil && to > (asked+chunkSize-1)/chunkSize*chunkSize {
		f.own(cur, fl) // the rest is read ahead
	}
	if fl != nil {
		cur.front = max(cur.front, to)
		f.advance(cur)
	}
	return fl
}
