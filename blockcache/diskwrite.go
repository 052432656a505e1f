package blockcache

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	writers  = 2
	maxJobs  = 4096
	maxQueue = 128 << 20 // bytes that may wait for the disk
)

// writeJob is something to store. Its blocks are pinned, its object has a user
// for it. Without blocks it only completes the object.
type writeJob struct {
	o      *object
	blocks []*block
	chunks uint8 // of the one block of a large object
}

// enqueue hands the chunks of b that are not on disk to the writer. When the
// writer is behind, they are skipped rather than waited for: a fill comes back
// for them. c.mu is held.
func (c *Cache) enqueue(o *object, b *block) bool {
	if o.disk == nil || o.disk.complete || o.unstored || o.dead != nil || c.shutdown || b.gone {
		return true
	}
	chunks := b.have &^ b.queued
	if r := o.disk.recs[b.idx]; r != nil {
		chunks &^= r.chunks
	}
	if chunks == 0 {
		return true
	}
	if !c.push(writeJob{o, []*block{b}, chunks}, cost(len(b.data))) {
		return false
	}
	b.queued |= chunks
	return true
}

// enqueueSmall hands a verified small object to the writer. c.mu is held.
func (c *Cache) enqueueSmall(o *object, blocks []*block) {
	if c.tier == nil || o.onDisk || o.unstored || c.shutdown {
		return
	}
	c.push(writeJob{o: o, blocks: blocks}, o.size)
}

func (c *Cache) push(j writeJob, bytes int64) bool {
	if c.jobs >= maxJobs || bytes > 0 && c.jobs > 0 && c.queued+bytes > min(maxQueue, c.mem.limit/4) {
		return false
	}
	c.jobs++
	c.queued += bytes
	j.o.users++
	for _, b := range j.blocks {
		c.mem.pin(b)
	}
	c.queue <- j // has room for maxJobs
	return true
}

// settle completes a verified object on disk. c.mu is held.
func (o *object) settle() {
	c := o.c
	if o.disk == nil || o.disk.complete || o.unstored || c.shutdown {
		return
	}
	if o.disk.chunks == o.disk.allChunks() {
		c.push(writeJob{o: o}, 0)
		return
	}
	o.startFill()
}

func (c *Cache) writeLoop() {
	for j := range c.queue {
		err := c.store(j)
		if err != nil {
			c.tier.fail(err)
			if errors.Is(err, unix.ENOSPC) {
				c.tier.shrink(maxQueue)
			}
		}
		c.mu.Lock()
		bytes := int64(0)
		for _, b := range j.blocks {
			bytes += cost(len(b.data))
			b.queued &^= j.chunks
			c.mem.unpin(b)
		}
		if j.o.small {
			bytes = 0
			if j.blocks != nil {
				bytes = j.o.size
			}
		}
		c.jobs--
		c.queued -= bytes
		c.resume()
		if err == nil && j.blocks != nil && j.o.verified {
			j.o.settle()
		}
		if c.drained != nil {
			close(c.drained)
			c.drained = nil
		}
		c.mu.Unlock()
		c.leave(j.o)
	}
}

func (c *Cache) store(j writeJob) error {
	o := j.o
	switch {
	case o.small:
		return c.storeSmall(j)
	case len(j.blocks) == 0:
		return o.finish()
	}
	b := j.blocks[0]
	if !c.tier.makeRoom(c.ctx, cost(len(b.data))) {
		return nil
	}
	o.ioMu.Lock()
	defer o.ioMu.Unlock()
	c.mu.Lock()
	d := o.disk
	ok := d != nil && !d.complete && !o.unstored && o.dead == nil
	c.mu.Unlock()
	if !ok {
		return nil
	}
	if ok, err := o.claim(d); err != nil || !ok {
		return err
	}
	sums := c.blockSums(b, j.chunks)
	for from, to := range chunkRuns(j.chunks, len(b.data)) {
		if _, err := d.data.WriteAt(b.data[from:to], b.idx*blockSize+int64(from)); err != nil {
			return err
		}
	}
	n, err := d.idx.Write(appendRecord(nil, b.idx, j.chunks, &sums))
	if err != nil {
		if n > 0 {
			// Half a record: the log must stay aligned for the next one.
			_ = d.idx.Truncate(d.parsed)
		}
		return err
	}
	d.parsed += recordSize
	c.mu.Lock()
	d.add(b.idx, j.chunks, j.chunks, &sums)
	d.stored = time.Now()
	if d.full(b.idx, len(b.data)) {
		o.available(b.idx)
	}
	bytes := d.chunks * chunkSize
	c.mu.Unlock()
	c.tier.note(o.id, min(bytes, o.size), false)
	return nil
}

// claim makes this process the one that stores the object, if it is not yet,
// with what another had stored; false if another still is. object.ioMu is held.
func (o *object) claim(d *diskFile) (ok bool, err error) {
	if d.writer {
		return true, nil
	}
	fresh, ok, err := o.c.tier.becomeWriter(o.id, d)
	if err != nil || !ok {
		return false, err
	}
	o.merge(d, fresh)
	return true, nil
}

// merge takes over records that another writer left. object.ioMu is held.
func (o *object) merge(d *diskFile, fresh []freshRecord) {
	o.c.mu.Lock()
	defer o.c.mu.Unlock()
	d.writing = d.writer
	if d.writing {
		o.yieldLater(d)
	}
	if d.restarted {
		d.restarted = false
		o.void(d)
	}
	for _, r := range fresh {
		d.add(r.idx, r.chunks, 0, &r.sums)
		if d.full(r.idx, o.blockLen(r.idx)) {
			o.available(r.idx)
		}
	}
}

// finish gives a large object that was verified in memory its final name.
// Everything under that name was compared with the hash by this process:
// chunks it neither wrote nor read are compared now.
func (o *object) finish() error {
	c := o.c
	o.ioMu.Lock()
	defer o.ioMu.Unlock()
	c.mu.Lock()
	d := o.disk
	ready := d != nil && !d.complete && d.chunks == d.allChunks() && o.verified && o.dead == nil && !o.unstored
	doubtful := ready && d.trusted != d.allChunks()
	c.mu.Unlock()
	if !ready {
		return nil
	}
	if !d.writer {
		if ok, err := o.claim(d); err != nil || !ok {
			return err
		}
		doubtful = true
	}
	if doubtful {
		buf := make([]byte, blockSize)
		bad := false
		for i := range o.nblocks {
			n := o.blockLen(i)
			if c.ctx.Err() != nil {
				return nil
			}
			bad = o.readDisk(d, i, fullMask(n), buf[:n]) != 0 || bad
		}
		if bad {
			c.mu.Lock()
			o.settle() // now with chunks to fill
			c.mu.Unlock()
			return nil
		}
	}
	if err := unix.Fdatasync(int(d.data.Fd())); err != nil {
		return err
	}
	if err := unix.Fdatasync(int(d.idx.Fd())); err != nil {
		return err
	}
	r, err := openShared(c.tier.partialData(o.id), os.O_RDONLY)
	if errors.Is(err, os.ErrNotExist) {
		return nil // somebody dropped it
	} else if err != nil {
		return err
	}
	blob := c.tier.blob(o.id)
	err = c.tier.locked(func() error {
		if !sameFile(d.data, c.tier.partialData(o.id)) || !sameFile(d.idx, c.tier.partialIndex(o.id)) {
			return os.ErrNotExist
		}
		if err := os.MkdirAll(filepath.Dir(blob), 0o700); err != nil {
			return err
		}
		// The index first: a blob is never without one.
		if err := os.Rename(c.tier.partialIndex(o.id), blob+".idx"); err != nil {
			return err
		}
		return os.Rename(c.tier.partialData(o.id), blob)
	})
	if err != nil {
		r.Close()
		if errors.Is(err, os.ErrNotExist) {
			return nil // somebody dropped it
		}
		return err
	}
	if err := d.readOnly(r); err != nil {
		return err
	}
	c.mu.Lock()
	d.complete = true
	c.mu.Unlock()
	c.tier.note(o.id, o.size, true)
	c.log.Debug("stored", "object", o.id)
	return flock(d.idx, unix.LOCK_UN)
}

// storeSmall writes a small object beside its place and renames it. There is
// no sync: it is hashed whenever it is loaded.
func (c *Cache) storeSmall(j writeJob) error {
	o := j.o
	if c.tier.tooLarge(o.size) || !c.tier.makeRoom(c.ctx, o.size) {
		return nil
	}
	o.ioMu.Lock()
	defer o.ioMu.Unlock()
	if !c.tier.contains(o.id) {
		f, err := os.CreateTemp(filepath.Join(c.tier.dir, "partial"), "*.tmp")
		if err != nil {
			return err
		}
		for _, b := range j.blocks {
			if _, err = f.Write(b.data); err != nil {
				break
			}
		}
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		blob := c.tier.blob(o.id)
		if err == nil {
			err = os.Rename(f.Name(), blob)
			if errors.Is(err, os.ErrNotExist) {
				if err = os.MkdirAll(filepath.Dir(blob), 0o700); err == nil {
					err = os.Rename(f.Name(), blob)
				}
			}
		}
		if err != nil {
			_ = os.Remove(f.Name())
			return err
		}
	}
	c.tier.note(o.id, o.size, true)
	c.mu.Lock()
	o.onDisk = true
	c.mu.Unlock()
	return nil
}
