package blockcache

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"hash/crc32"
	"strconv"

	"hfmount/remote/hub"
)

// chainGap is how far, in blocks, readers may be ahead of the first block that
// is not there, for those in between to be kept for the hasher.
const chainGap = 2 * tolerance / blockSize

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// newHash returns the hash of an identity, fed with what goes before the bytes
// (hub-protocol §4.3).
func newHash(id hub.ContentID) hash.Hash {
	if id.Algo == hub.SHA256 {
		return sha256.New()
	}
	h := sha1.New()
	h.Write([]byte("blob " + strconv.FormatInt(id.Size, 10) + "\x00"))
	return h
}

func hashIs(h hash.Hash, id hub.ContentID) bool { return hex.EncodeToString(h.Sum(nil)) == id.Hex }

// hashRight compares a whole flight's blocks with the identity.
func (fl *flight) hashRight() bool {
	h := newHash(fl.o.id)
	for _, b := range fl.blocks {
		h.Write(b.data)
	}
	return hashIs(h, fl.o.id)
}

func chunkOf(data []byte, i int) []byte {
	return data[i*chunkSize : min((i+1)*chunkSize, len(data))]
}

// chunkSums returns the checksums of the chunks of a block.
func chunkSums(data []byte, chunks uint8) (s [perBlock]uint32) {
	for i := range perBlock {
		if chunks&(1<<i) != 0 {
			s[i] = crc32.Checksum(chunkOf(data, i), castagnoli)
		}
	}
	return s
}

// blockSums returns the checksums of chunks that b has; those of others are not
// to be used. They are made once for each chunk. The caller pins b and holds no
// lock.
func (c *Cache) blockSums(b *block, chunks uint8) [perBlock]uint32 {
	c.mu.Lock()
	sums, lack := b.sums, chunks&^b.summed
	c.mu.Unlock()
	if lack == 0 {
		return sums
	}
	fresh := chunkSums(b.data, lack)
	c.mu.Lock()
	for i := range perBlock {
		if lack&(1<<i) != 0 {
			b.sums[i], sums[i] = fresh[i], fresh[i]
		}
	}
	b.summed |= lack
	c.mu.Unlock()
	return sums
}

// badChunks returns those of chunks that do not have the checksum wanted.
func badChunks(data []byte, chunks uint8, want *[perBlock]uint32) (bad uint8) {
	got := chunkSums(data, chunks)
	for i := range perBlock {
		if chunks&(1<<i) != 0 && got[i] != want[i] {
			bad |= 1 << i
		}
	}
	return bad
}

// judge makes a read that completes an object wait for its verification:
// nothing is left to fetch, and the read is of the last block by offset or of
// the one that came last. Cache.mu is held, except while waiting.
func (f *File) judge(ctx context.Context, off, end int64) error {
	o, c := f.o, f.o.c
	if o.small {
		return nil // verified before it was served
	}
	for !o.verified && o.dead == nil && o.absent() == 0 {
		last := end == o.size || off/blockSize == o.nblocks-1
		if !last && (o.lastMissing < off/blockSize || o.lastMissing > (end-1)/blockSize) {
			return nil
		}
		ch := o.ruling()
		if ch == nil {
			return nil // the cache is closing
		}
		c.mu.Unlock()
		var err error
		select {
		case <-ch:
		case <-ctx.Done():
			err = ctx.Err()
		}
		c.mu.Lock()
		if err != nil {
			return err
		}
	}
	return o.dead
}

// ruling starts the hasher where it does not run, and returns what is closed
// when it has come to its end or gives up; nil when the cache is closing.
// Cache.mu is held.
func (o *object) ruling() <-chan struct{} {
	o.kickHasher()
	if !o.hashing {
		return nil
	}
	if o.verdict == nil {
		o.verdict = make(chan struct{})
	}
	return o.verdict
}

// chain pins the complete blocks that follow what is hashed and starts the
// hasher on them. They are what memory may not forget: without a disk tier a
// block that goes unhashed ends the verification of this pass. The hasher
// needs no memory, so whoever waits for memory only waits for it to advance.
func (o *object) chain() {
	if o.verified || o.dead != nil {
		return
	}
	o.chained = max(o.chained, o.hashed)
	for {
		b := o.blocks[o.chained]
		if b == nil || !b.complete() {
			break
		}
		long := (o.chained-o.hashed)*blockSize > o.c.mem.limit/4
		if !long || !o.disk.full(b.idx, len(b.data)) {
			o.c.mem.pin(b)
			b.chained = true
		} // else it can be read again from disk
		o.chained++
	}
	if o.chained > o.hashed {
		o.kickHasher()
	}
}

// passed reports whether nobody is likely to need b in memory: a reader has
// been through all of it once, it was hashed, and it can be had from disk, or
// its object would not stay in memory anyway.
func (o *object) passed(b *block) bool {
	if o.small || b.readTo < len(b.data) || !b.complete() || !o.verified && b.idx >= o.hashed {
		return false
	}
	return o.disk.full(b.idx, len(b.data)) || (o.disk == nil || o.unstored) && o.size > o.c.mem.limit/2
}

// awaits reports whether b is soon needed by the hasher and nowhere else. A
// stream is read out of order, so that blocks are passed by readers before the
// one before them comes and chains them.
func (o *object) awaits(b *block) bool {
	return !o.small && !o.verified && o.dead == nil && b.idx >= o.hashed && b.idx-o.chained <= chainGap &&
		b.complete() && !o.disk.full(b.idx, len(b.data))
}

func (o *object) kickHasher() {
	if o.small || o.verified || o.dead != nil || o.hashing || o.c.closed {
		return
	}
	o.hashing = true
	o.c.mem.hashers++
	o.users++
	o.c.wg.Go(func() {
		o.runHasher()
		o.c.leave(o)
	})
}

// runHasher hashes blocks in order until there is no next one to be had.
func (o *object) runHasher() {
	c := o.c
	var scratch []byte
	c.mu.Lock()
	defer c.mu.Unlock()
	if o.hash == nil {
		o.hash = newHash(o.id)
	}
	for o.hashed < o.nblocks && o.dead == nil && !c.closed && !o.verified {
		i, n := o.hashed, o.blockLen(o.hashed)
		data := scratch
		b := o.blocks[i]
		switch {
		case b != nil && b.complete():
			c.mem.pin(b)
			data = b.data
			c.mu.Unlock()
		case (o.absent() == 0 || i < o.chained) && o.disk.full(i, n):
			// Only when everything is there, or a reader has been here: a
			// half-read object is not worth a pass over the disk.
			d := o.disk
			c.mu.Unlock()
			if scratch == nil {
				scratch = make([]byte, blockSize)
			}
			data, b = scratch[:n], nil
			if bad := o.readDisk(d, i, fullMask(n), data); bad != 0 {
				c.mu.Lock()
				continue // it is absent now
			}
		default:
			o.unchain() // a link may have failed its checksum
			o.endHasher()
			return
		}
		o.hash.Write(data)
		var sums [perBlock]uint32
		if b != nil {
			sums = c.blockSums(b, fullMask(n))
		} else {
			sums = chunkSums(data, fullMask(n))
		}
		c.mu.Lock()
		adopted := o.verified
		if !adopted {
			o.chained = max(o.chained, i+1)
			delete(o.beyond, i)
			o.sums = append(o.sums, sums)
			o.hashed++
		}
		o.unlink(i)
		if b != nil {
			c.mem.unpin(b)
			c.resume()
		}
		if adopted {
			break
		}
	}
	if o.hashed == o.nblocks && o.dead == nil && !o.verified {
		if hashIs(o.hash, o.id) {
			o.verified = true
			c.log.Debug("verified", "object", o.id)
			o.settle()
		} else {
			o.condemn(true)
		}
	}
	o.endHasher()
}

// unlink takes block i out of the chain.
func (o *object) unlink(i int64) {
	if b := o.blocks[i]; b != nil && b.chained {
		b.chained = false
		o.c.mem.unpin(b)
	}
}

func (o *object) endHasher() {
	o.hashing = false
	o.c.mem.hashers--
	o.c.mem.signal() // what was kept for it is there to be evicted
	if o.dead != nil || o.c.closed || o.verified {
		o.unchain()
	}
	if o.verdict != nil {
		close(o.verdict)
		o.verdict = nil
	}
}

func (o *object) unchain() {
	for i := o.hashed; i < o.chained; i++ {
		o.unlink(i)
	}
	o.chained = o.hashed
}

// condemn drops a corrupt object and everything that memory, and with files
// set the disk, has of it. The object stays in Cache.objects until its files
// are gone, so that the next handle does not find them; until then File waits
// for buried. Cache.mu is held but for the removal.
func (o *object) condemn(files bool) {
	c := o.c
	o.dead = ErrCorrupt
	o.buried = make(chan struct{})
	for _, fl := range o.flights {
		fl.abort()
	}
	o.unchain()
	for _, b := range o.blocks {
		b.wake()
		o.forgetOne(b)
	}
	if files && c.tier != nil {
		c.mu.Unlock()
		o.ioMu.Lock()
		c.tier.remove(o.id)
		o.ioMu.Unlock()
		c.mu.Lock()
	}
	if c.objects[o.id] == o {
		delete(c.objects, o.id)
	}
	close(o.buried)
	c.noteCorrupt(o.id)
}
