package blockcache

import (
	"hash"
	"sync"
	"time"

	"hfmount/remote/hub"
)

// object is what all handles on one identity share. It lives as long as it
// has users or blocks in memory. An object that turned out corrupt is dead:
// it is out of Cache.objects, its handles fail, new handles get a new object.
type object struct {
	c       *Cache
	id      hub.ContentID
	size    int64
	nblocks int64
	small   bool

	// ioMu serialises opening, writing and renaming the object's files.
	ioMu sync.Mutex

	// The rest is guarded by Cache.mu.
	users   int // handles, queued writes and a running hasher
	files   map[*File]struct{}
	blocks  map[int64]*block
	flights []*flight
	dead    error
	buried  chan struct{} // of a dead object: closed when its files are gone

	disk     *diskFile   // nil without users, without a tier, and for small objects
	replaced []*diskFile // what disk was before Adopt; readers may be in them
	onDisk   bool        // small objects: stored, as far as this process knows
	unlooked bool        // small objects: it did not ask the disk since they were opened
	unstored bool        // does not go to disk: no tier, or too large for it

	// beyond holds the blocks from hashed on that are complete in memory or on
	// disk; with those before hashed they are the blocks that need no fetch.
	beyond      map[int64]struct{}
	lastMissing int64 // block that became complete last

	plan *plan // nil until a handle expects one

	verified bool
	hash     hash.Hash
	hashed   int64              // blocks in hash
	sums     [][perBlock]uint32 // CRC-32C of the chunks of those blocks
	hashing  bool
	chained  int64         // blocks [hashed, chained) wait for the hasher, pinned or on disk
	verdict  chan struct{} // closed when verification ends or is given up
	filling  bool
	bringing int       // calls of Complete
	followed time.Time // when it was looked what another process had stored
}

func newObject(c *Cache, id hub.ContentID) *object {
	return &object{
		c: c, id: id, size: id.Size,
		nblocks:     (id.Size + blockSize - 1) / blockSize,
		small:       id.Size <= smallSize,
		files:       make(map[*File]struct{}),
		blocks:      make(map[int64]*block),
		beyond:      make(map[int64]struct{}),
		lastMissing: -1,
	}
}

func (o *object) blockLen(idx int64) int { return int(min(blockSize, o.size-idx*blockSize)) }

// block returns block idx with a buffer, pinned. The caller reserved memory.
func (o *object) block(idx int64) *block {
	b := o.blocks[idx]
	if b == nil {
		b = &block{o: o, idx: idx, data: o.c.mem.buffer(o.blockLen(idx))}
		o.blocks[idx] = b
	}
	o.c.mem.pin(b)
	return b
}

// forget takes b out of the object. A small object loses its idle blocks
// together, since it can only be loaded as a whole.
func (o *object) forget(b *block) {
	o.forgetOne(b)
	if o.small {
		for _, s := range o.blocks {
			if s.pins == 0 {
				o.forgetOne(s)
			}
		}
	}
	o.retire()
}

func (o *object) forgetOne(b *block) {
	if b.gone {
		return
	}
	m := &o.c.mem
	m.unlist(b)
	b.gone = true
	delete(o.blocks, b.idx)
	if b.idx >= o.hashed && !o.disk.full(b.idx, len(b.data)) {
		delete(o.beyond, b.idx)
	}
	if b.pins == 0 && b.data != nil {
		m.release(b.data)
		b.data = nil
	}
}

// retire removes the object from the cache once nothing holds it.
func (o *object) retire() {
	if o.dead == nil && o.users == 0 && len(o.blocks) == 0 && len(o.flights) == 0 && o.c.objects[o.id] == o {
		delete(o.c.objects, o.id)
	}
}

// absent is the number of blocks that would have to be fetched.
func (o *object) absent() int64 { return o.nblocks - o.hashed - int64(len(o.beyond)) }

// available notes that block idx is complete in memory or on disk.
func (o *object) available(idx int64) {
	if idx < o.hashed {
		return
	}
	if _, ok := o.beyond[idx]; !ok {
		o.beyond[idx] = struct{}{}
		o.lastMissing = idx
	}
}

// publish makes chunks of b readable.
func (o *object) publish(b *block, chunks uint8) {
	b.have |= chunks
	b.grew()
	if b.complete() && !b.gone && !o.small {
		o.available(b.idx)
		o.chain()
		if o.absent() == 0 {
			o.kickHasher()
		}
	}
}

// flightOver returns the flight that covers chunk ch, counted from the start
// of the object.
func (o *object) flightOver(ch int64) *flight {
	at := ch * chunkSize
	for _, fl := range o.flights {
		if fl.off <= at && at < fl.end {
			return fl
		}
	}
	return nil
}

// missing says that chunk ch is neither in memory, in flight nor on disk.
func (o *object) missing(ch int64) bool {
	idx, bit := ch/perBlock, uint8(1)<<(ch%perBlock)
	if b := o.blocks[idx]; b != nil && b.have&bit != 0 {
		return false
	}
	return !o.disk.has(idx, bit) && o.flightOver(ch) == nil
}

// missingRun returns the first run of missing chunks in [off, end), in bytes
// and no longer than most, or false.
func (o *object) missingRun(off, end, most int64) (int64, int64, bool) {
	ch, last := off/chunkSize, (end+chunkSize-1)/chunkSize
	for ch < last && !o.missing(ch) {
		ch++
	}
	if ch >= last {
		return 0, 0, false
	}
	first := ch
	for ch < last && (ch-first)*chunkSize < most && o.missing(ch) {
		ch++
	}
	return first * chunkSize, min(ch*chunkSize, o.size), true
}
