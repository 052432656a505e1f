package blockcache

// startFill completes what the disk writer skipped of a verified object, while
// somebody has it open. Cache.mu is held.
func (o *object) startFill() {
	if o.filling || o.c.closed || len(o.files) == 0 {
		return
	}
	o.filling = true
	o.users++
	o.c.wg.Go(func() {
		o.fill()
		o.c.leave(o)
	})
}

// fill goes through the object once, and gives up at the first block that will
// not go to disk: no room, another process is the writer, or an error.
func (o *object) fill() {
	c := o.c
	c.mu.Lock()
	defer c.mu.Unlock()
	defer func() { o.filling = false }()
	for i := range o.nblocks {
		if !o.fillBlock(i) {
			return
		}
	}
	if d := o.disk; !d.complete && !c.shutdown && d.chunks == d.allChunks() {
		c.push(writeJob{o: o}, 0)
	}
}

// fillBlock gets one block onto the disk: from memory once the queue has room
// for it, or fetched behind everybody who waits for something. Cache.mu is
// held, except while waiting.
func (o *object) fillBlock(idx int64) bool {
	c, d := o.c, o.disk
	n := o.blockLen(idx)
	for range 2 * perBlock {
		if d.full(idx, n) {
			return true
		}
		var f *File
		for f = range o.files {
			break
		}
		if f == nil || c.closed || o.dead != nil || o.unstored || d.complete {
			return false
		}
		from, to, missing := o.missingRun(idx*blockSize, idx*blockSize+int64(n), blockSize)
		var fl *flight
		if missing {
			if fl = o.fetch(f, from, to, false, false); fl == nil {
				if !c.pause(c.mem.waitFreed()) {
					return false
				}
				continue
			}
		} else {
			fl = o.flightIn(idx)
		}
		if fl != nil {
			if !o.outlast(fl, idx) {
				return false
			}
			continue
		}
		b := o.blocks[idx]
		if b == nil {
			return false // lost to eviction between the checks: not worth a fight
		}
		c.mem.pin(b)
		ok := true
		for ok && !c.enqueue(o, b) {
			ok = c.pause(c.drainedChan())
		}
		for ok && b.queued != 0 {
			ok = c.pause(c.drainedChan())
		}
		c.mem.unpin(b)
		if !ok || !d.full(idx, n) {
			return false
		}
	}
	return false
}

// outlast waits for the end of a flight over block idx.
func (o *object) outlast(fl *flight, idx int64) bool {
	b := o.blocks[idx]
	o.c.mem.pin(b)
	fl.refs++
	ok := true
	for ok && !fl.done {
		ok = o.c.pause(b.changed())
	}
	fl.release()
	o.c.mem.unpin(b)
	return ok && (fl.err == nil || fl.cancelled)
}

func (o *object) flightIn(idx int64) *flight {
	for ch := idx * perBlock; ch < (idx+1)*perBlock; ch++ {
		if fl := o.flightOver(ch); fl != nil {
			return fl
		}
	}
	return nil
}

// pause waits for ch without Cache.mu; false means the cache is closing.
func (c *Cache) pause(ch <-chan struct{}) bool { return c.await(c.ctx, ch) == nil }
