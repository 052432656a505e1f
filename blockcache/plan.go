package blockcache

import (
	"sort"
	"time"
)

// Formats tells what the bytes of an object say of how it will be read. Its
// methods are pure and called with no lock held.
type Formats interface {
	// Head is given the first bytes of an object. It returns the offsets at
	// which the parts begin that are read whole, ascending, the first where the
	// header ends; nil if there are none. With more > len(head) it wants that
	// many bytes to tell.
	Head(head []byte, size int64) (more int64, parts []int64)
	// Tail is given the last 8 bytes and returns where the footer begins that a
	// reader of them will read next; 0 if there is none.
	Tail(tail []byte, size int64) int64
}

// Expect says that the object may be of one of the formats. With header set,
// by its name, it is taken to begin with one until its bytes say otherwise, so
// that the kernel's read-ahead of a header is not mistaken for a stream.
// Nothing is fetched to find out: only what a reader has fetched is looked at.
func (f *File) Expect(fm Formats, header bool) {
	o, c := f.o, f.o.c
	if o.small {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if o.plan == nil {
		o.plan = &plan{o: o, formats: fm, named: header, want: 1}
		o.plan.cur = &cursor{plan: o.plan}
	}
}

// plan is how an object is loaded whose header says what its parts are. It is
// shared by all handles, since a model is often loaded through several. It is
// guarded by Cache.mu.
//
// Loaders read each tensor from one end to the other, but tensors in any
// order, and of several files by turns, by page faults. So once a part is read
// in order its rest is fetched. Once some parts have been read whole, of
// whatever files, the reader is taken for a loader, and the files it reads in
// are fetched in file order, past what is there, as long as what was fetched
// and not yet read is no more than what was read in whole parts: what is in
// vain is at most what was wanted. A file that was loaded to its end makes the
// next ones trusted from their header on, for a window or as much as was read
// of them. A file that is closed with more fetched than read ends all trust.
//
// What is fetched ahead is pinned and counted in Cache.ahead until a reader
// comes to it or it is on disk.
type plan struct {
	o       *object
	formats Formats
	named   bool
	gamble  bool  // was read ahead from its first byte, as another was loaded
	early   int64 // end of what was read before there was a plan
	want    int64 // bytes of the head that would tell; 0 when it is settled
	looking bool
	footer  bool // was looked for

	parts []int64 // nil without a plan
	left  []int32 // chunks of each part that were not read yet
	seen  []uint8 // by block: chunks read
	asked []uint8 // by block: chunks fetched ahead and not read yet

	read int64 // bytes read of the data
	due  int64 // bytes of asked

	front   int64    // of the file order
	turn    int64    // plan.read when front was last at the end
	part    [2]int64 // the part being read in order and not fetched, [from, to)
	cur     *cursor  // owns flights
	blocks  map[int64]*block
	touched time.Time
	active  bool
	loaded  bool // was counted in proof.loads
}

const (
	// provenParts and provenBytes of whole parts make a loader; what the kernel
	// reads around a few page faults must not.
	provenParts = 3
	provenBytes = 3 * kernelAhead
	// idlePlan is how long a plan that nobody reads keeps memory from others.
	idlePlan = 2 * time.Second
	// kernelAhead is what the kernel may read at once around a page fault.
	kernelAhead = 4 << 20
	maxFooter   = 64 << 20
)

// proof is what all plans of a cache have seen of their readers.
type proof struct {
	whole  int64 // bytes of the parts read whole
	wholes int
	due    int64 // of all plans
	loads  int   // files loaded to their end
}

// holdsBack reports whether k is not to be read ahead: its reads may be of the
// header alone, as the kernel reads it, up to kernelAhead more than it was asked
// for, or of a part that the plan takes care of.
func (p *plan) holdsBack(k *cursor) bool {
	switch {
	case p == nil:
		return false
	case k.start == 0 && p.o.c.proof.loads > 0:
		p.gamble = true // the next shard of a model
		return false
	case p.parts != nil:
		return k.start > 0 || k.next <= p.parts[0]+kernelAhead || !p.o.c.proof.proven() && k.consumed < 32<<20
	default:
		return p.named && p.want > 0 && k.next <= kernelAhead
	}
}

// touch notes a read of [off, end) through f and fetches what it calls for.
func (f *File) touch(cur *cursor, off, end int64) {
	p := f.o.plan
	if p == nil {
		return
	}
	if p.parts == nil {
		if off <= p.early {
			p.early = max(p.early, end)
		}
		return
	}
	p.touched = time.Now()
	from := max(off, p.parts[0])
	if from >= end {
		return
	}
	first, last := from/chunkSize, (end-1)/chunkSize
	i := p.partAt(end - 1)
	begin, _ := p.bounds(i)
	ordered := first > begin/chunkSize && p.answered(first-1)
	for ch := first; ch <= last; ch++ {
		p.see(ch)
	}
	for idx := off / blockSize; idx <= (end-1)/blockSize; idx++ {
		p.unpin(idx)
	}
	if cur.window > 0 {
		return // a stream over the whole file: it is read ahead as one
	}
	if ordered || f.o.c.proof.proven() {
		p.part[0], p.part[1] = end, p.end(i)
	}
	if (ordered || f.o.c.proof.proven()) && !p.active {
		p.activate()
	}
	if p.active {
		f.pursue(p)
	}
}

// answered reports whether ch was read and has arrived: what follows it is
// asked for by who has seen it. The requests of one page fault come together.
func (p *plan) answered(ch int64) bool {
	idx, bit := ch/perBlock, uint8(1)<<(ch%perBlock)
	if p.seen[idx]&bit == 0 {
		return false
	}
	b := p.o.blocks[idx]
	return b != nil && b.have&bit != 0 || p.o.disk.has(idx, bit)
}

// see marks chunk ch as read.
func (p *plan) see(ch int64) {
	idx, bit := ch/perBlock, uint8(1)<<(ch%perBlock)
	n := min(chunkSize, p.o.size-ch*chunkSize)
	if p.asked[idx]&bit != 0 {
		p.asked[idx] &^= bit
		p.owe(-n)
	}
	if p.seen[idx]&bit != 0 {
		return
	}
	p.seen[idx] |= bit
	p.read += n
	// A chunk at the border of parts counts for each.
	for i := max(p.partAt(ch*chunkSize), 0); i < len(p.parts) && p.parts[i] < ch*chunkSize+n; i++ {
		if p.left[i]--; p.left[i] == 0 {
			from, to := p.bounds(i)
			// Small ones come along with others and say nothing.
			if to-from >= 2*chunkSize {
				p.o.c.proof.wholes++
				p.o.c.proof.whole += to - from
			}
		}
	}
	if base := p.parts[0]; !p.loaded && p.read >= (p.o.size-base)/16*15 {
		p.loaded = true
		p.o.c.proof.loads++
	}
}

func (p *plan) owe(n int64) {
	p.due += n
	p.o.c.proof.due += n
}

// partAt returns the part that off is in, -1 before the first.
func (p *plan) partAt(off int64) int {
	return sort.Search(len(p.parts), func(i int) bool { return p.parts[i] > off }) - 1
}

func (p *plan) bounds(i int) (from, to int64) { return p.parts[i], p.end(i) }

func (p *plan) end(i int) int64 {
	if i+1 < len(p.parts) {
		return p.parts[i+1]
	}
	return p.o.size
}

// proven says that files are loaded rather than looked into.
func (p *proof) proven() bool {
	return p.loads > 0 || p.wholes >= provenParts && p.whole >= provenBytes
}

// credit is how much more may be fetched.
func (p *plan) credit() int64 {
	c := p.o.c
	most := max(p.read, int64(c.opts.Connections)*c.pace.extent()) - p.due
	switch {
	case c.proof.loads > 0:
		return most
	case c.proof.proven():
		return min(most, c.proof.whole-c.proof.due)
	default:
		return max(2*p.read, minExtent) - p.due
	}
}

func (p *plan) activate() {
	c := p.o.c
	p.active, p.front, p.touched = true, p.parts[0], time.Now()
	p.blocks = make(map[int64]*block)
	c.plans = append(c.plans, p)
	c.streams++
}

// pursue starts what the plan, the connections and the budget allow, through f.
func (f *File) pursue(p *plan) {
	o, c := p.o, p.o.c
	if !p.active || f.closed || o.dead != nil {
		return
	}
	for {
		mine, conns := int64(len(p.cur.flights)), int64(c.opts.Connections)
		if int64(c.flying) >= conns && mine >= c.share(conns) || mine >= conns {
			return
		}
		owed, room := p.credit(), c.budget()-c.ahead
		least := int64(minExtent)
		if rest := p.part[1] - p.part[0]; rest > 0 {
			least = min(least, rest)
		}
		if owed < least {
			return
		}
		if room < least {
			if !c.relieve(p) {
				return
			}
			continue
		}
		room = min(room, owed)
		// Every connection gets a piece of a file that is not large.
		extent := min(c.pace.extent(), max(o.size/conns, minExtent)) &^ (chunkSize - 1)
		from, to, ok := p.next(min(room, extent))
		if !ok {
			return
		}
		fl := o.fetch(f, from, to, false, false)
		if fl == nil {
			return // memory is short; the next read tries again
		}
		f.own(p.cur, fl)
		for ch := from / chunkSize; ch*chunkSize < to; ch++ {
			if bit := uint8(1) << (ch % perBlock); (p.seen[ch/perBlock]|p.asked[ch/perBlock])&bit == 0 {
				p.asked[ch/perBlock] |= bit
				p.owe(min(chunkSize, o.size-ch*chunkSize))
			}
		}
		for _, b := range fl.blocks {
			if p.blocks[b.idx] == nil {
				c.mem.pin(b)
				c.ahead += int64(len(b.data))
				p.blocks[b.idx] = b
			}
		}
	}
}

// next returns what to fetch, at most n bytes: the rest of the part that is
// being read, in pieces that come over several connections; and then, for a
// loader, what is missing in file order.
func (p *plan) next(n int64) (from, to int64, ok bool) {
	if p.part[0] < p.part[1] {
		if conns := int64(p.o.c.opts.Connections); p.part[1]-p.part[0] < conns*n {
			n = min(n, minExtent)
		}
		from, to, ok = p.o.missingRun(p.part[0], p.part[1], n)
		if ok {
			p.part[0] = to
			return from, to, true
		}
		p.part[0] = p.part[1]
	}
	if !p.o.c.proof.proven() {
		return 0, 0, false
	}
	for {
		if from, to, ok = p.o.missingRun(p.front, p.o.size, n); ok {
			p.front = to
			return from, to, true
		}
		p.front = p.o.size
		if p.turn == p.read || p.o.absent() == 0 {
			return 0, 0, false
		}
		// Once more over what was given up or evicted, if it is being read.
		p.turn, p.front = p.read, p.parts[0]
	}
}

// unpin gives up block idx: a reader has come to it, or it is on disk.
func (p *plan) unpin(idx int64) {
	if b := p.blocks[idx]; b != nil {
		delete(p.blocks, idx)
		p.o.c.ahead -= int64(len(b.data))
		p.o.c.mem.unpin(b)
	}
}

// relieve makes room in the budget for p: blocks of plans that are on disk
// need not be pinned, nor any of a plan that nobody reads. It reports whether
// there was one.
func (c *Cache) relieve(p *plan) bool {
	before := c.ahead
	for _, q := range c.plans {
		idle := q != p && time.Since(q.touched) > idlePlan
		for idx, b := range q.blocks {
			if idle || q.o.disk.full(idx, len(b.data)) {
				q.unpin(idx)
			}
		}
	}
	return c.ahead < before
}

// leavePlan ends what the plan holds when its last handle is closed.
func (o *object) leavePlan() {
	p := o.plan
	if p == nil || len(o.files) > 0 {
		return
	}
	for _, fl := range p.cur.flights {
		fl.cursor = nil
		fl.release()
	}
	p.cur.flights = nil
	c := o.c
	if p.due > p.read || p.gamble && p.read < o.size/2 {
		c.proof = proof{due: c.proof.due}
	}
	p.gamble = false
	if !p.active {
		return
	}
	for idx := range p.blocks {
		p.unpin(idx)
	}
	p.active = false
	c.streams--
	for i, q := range c.plans {
		if q == p {
			c.plans = append(c.plans[:i], c.plans[i+1:]...)
			break
		}
	}
	clear(p.asked)
	p.owe(-p.due)
}

// curious reports whether a read of [off, end) brought bytes that may tell
// what the object is. Cache.mu is held.
func (p *plan) curious(off, end int64) bool {
	if p == nil || p.looking {
		return false
	}
	return p.want > 0 && off < p.want || !p.footer && end == p.o.size
}

// look reads the header or footer if it is in memory. No lock is held.
func (f *File) look(end int64) {
	o, c := f.o, f.o.c
	p := o.plan
	c.mu.Lock()
	if p.looking {
		c.mu.Unlock()
		return
	}
	p.looking = true
	for p.want > 0 && p.want <= o.size {
		head := o.copyOf(0, p.want)
		if head == nil {
			break
		}
		c.mu.Unlock()
		more, parts := p.formats.Head(head, o.size)
		c.mu.Lock()
		if more <= int64(len(head)) || more > o.size {
			p.want = 0
			if o.dead == nil {
				p.settle(parts)
				if p.parts != nil && c.proof.loads > 0 && p.named {
					p.activate()
					f.pursue(p) // the next shard of a model
				}
			}
			break
		}
		p.want = more
	}
	if !p.footer && end == o.size {
		if tail := o.copyOf(o.size-8, o.size); tail != nil {
			p.footer = true
			c.mu.Unlock()
			at := p.formats.Tail(tail, o.size)
			c.mu.Lock()
			if at > 0 && at < o.size {
				f.fetchFooter(at)
			}
		}
	}
	p.looking = false
	c.mu.Unlock()
}

// copyOf returns the bytes [from, to), nil if they are not all in memory.
// Cache.mu is held.
func (o *object) copyOf(from, to int64) []byte {
	for ch := from / chunkSize; ch*chunkSize < to; ch++ {
		if b := o.blocks[ch/perBlock]; b == nil || b.have&(1<<(ch%perBlock)) == 0 {
			return nil
		}
	}
	p := make([]byte, 0, to-from)
	for from < to {
		b := o.blocks[from/blockSize]
		n := min(to, (b.idx+1)*blockSize) - from
		at := from - b.idx*blockSize
		p = append(p, b.data[at:at+n]...)
		from += n
	}
	return p
}

// settle makes a plan of parts. Cache.mu is held.
func (p *plan) settle(parts []int64) {
	for i, at := range parts {
		if at <= 0 || at >= p.o.size || i > 0 && at <= parts[i-1] {
			return // not what Formats promised
		}
	}
	if len(parts) == 0 {
		return
	}
	p.parts = parts
	p.left = make([]int32, len(parts))
	for i := range parts {
		from, to := p.bounds(i)
		p.left[i] = int32((to+chunkSize-1)/chunkSize - from/chunkSize)
	}
	p.seen = make([]uint8, p.o.nblocks)
	p.asked = make([]uint8, p.o.nblocks)
	// What came along with the header is not asked for again, nor was it asked
	// for by who read the header.
	was := p.o.c.proof
	for ch := parts[0] / chunkSize; ch*chunkSize < p.early; ch++ {
		p.see(ch)
	}
	p.read, p.o.c.proof = 0, was
}

// fetchFooter fetches what is missing of a footer in one piece. Cache.mu is held.
func (f *File) fetchFooter(at int64) {
	o := f.o
	if f.closed || o.dead != nil {
		return
	}
	from, to, ok := o.missingRun(at, o.size, maxFooter)
	if !ok {
		return
	}
	if fl := o.fetch(f, from, to, true, false); fl != nil {
		f.own(o.plan.cur, fl)
	}
}
