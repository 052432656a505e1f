package blockcache

import (
	"bytes"
	"context"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// openDisk opens what is stored of the object, once for all its users.
func (o *object) openDisk() {
	c := o.c
	if o.small {
		c.mu.Lock()
		o.unlooked = !o.onDisk
		c.mu.Unlock()
		return
	}
	o.ioMu.Lock()
	defer o.ioMu.Unlock()
	c.mu.Lock()
	open := o.disk != nil
	c.mu.Unlock()
	if open {
		return
	}
	d := c.tier.openFile(o.id)
	unstored := !d.complete && c.tier.tooLarge(o.size)
	c.mu.Lock()
	defer c.mu.Unlock()
	o.disk, o.unstored = d, unstored
	if d.complete {
		o.verified = true
	}
	o.onlyMemory() // what was on disk the last time may have been evicted since
	for i := range d.recs {
		if d.full(i, o.blockLen(i)) {
			o.available(i)
		}
	}
}

// look asks the directory for a small object. That waits for the first read: an
// open whose pages the kernel has kept never comes to one. No lock is held.
func (o *object) look() {
	stored := o.c.tier.contains(o.id)
	o.c.mu.Lock()
	defer o.c.mu.Unlock()
	o.unlooked = false
	o.onDisk = o.onDisk || stored
}

// followable says that another process may be storing the object. Cache.mu is
// held.
func (o *object) followable() bool {
	return !o.small && o.disk != nil && !o.disk.complete && !o.unstored && !o.disk.writing
}

// follow takes over what another process has stored since. No lock is held.
func (o *object) follow() {
	if !o.ioMu.TryLock() {
		return // being written or opened: by us
	}
	defer o.ioMu.Unlock()
	o.c.mu.Lock()
	d := o.disk
	o.c.mu.Unlock()
	if d == nil {
		return
	}
	if d.idx == nil {
		if time.Since(d.looked) < time.Second {
			return
		}
		d.looked = time.Now()
		e := o.c.tier.openFile(o.id)
		if e.complete || e.data == nil {
			e.close() // complete: the next handle has it
			return
		}
		d.data, d.idx, d.parsed = e.data, e.idx, 0
	}
	if fresh, err := d.tail(); err == nil && len(fresh) > 0 {
		o.merge(d, fresh)
	}
}

// void forgets what was on disk. Cache.mu is held.
func (o *object) void(d *diskFile) {
	d.reset()
	o.onlyMemory()
}

// onlyMemory leaves in beyond what memory holds. Cache.mu is held.
func (o *object) onlyMemory() {
	for i := range o.beyond {
		if b := o.blocks[i]; b == nil || !b.complete() {
			delete(o.beyond, i)
		}
	}
}

// readDisk reads chunks of block idx into data and returns those that are not
// what their record says; they are absent from then on. No lock is held.
func (o *object) readDisk(d *diskFile, idx int64, chunks uint8, data []byte) (bad uint8) {
	c := o.c
	c.mu.Lock()
	var want [perBlock]uint32
	if r := d.recs[idx]; r != nil {
		want = r.sums
		bad = chunks &^ r.chunks
	} else {
		bad = chunks
	}
	var hashed *[perBlock]uint32
	if idx < int64(len(o.sums)) {
		s := o.sums[idx]
		hashed = &s
	}
	c.mu.Unlock()
	for from, to := range chunkRuns(chunks&^bad, len(data)) {
		if _, err := d.data.ReadAt(data[from:to], idx*blockSize+int64(from)); err != nil {
			bad |= chunkMask(from, to)
		}
	}
	good := chunks &^ bad
	torn := badChunks(data, good, &want)
	if hashed != nil {
		torn |= badChunks(data, good, hashed)
	}
	bad |= torn
	c.mu.Lock()
	d.trust(idx, chunks&^bad)
	if bad != 0 {
		c.log.Warn("cached data is damaged; fetching it again", "object", o.id, "block", idx)
		d.drop(idx, bad)
		if b := o.blocks[idx]; idx >= o.hashed && (b == nil || !b.complete()) {
			delete(o.beyond, idx)
		}
	}
	wasComplete := bad != 0 && d.complete
	if wasComplete {
		d.complete = false
		o.void(d)
		o.unstored = true // for this session: the files are gone
		if o.hashed < o.nblocks {
			o.verified = false
		}
	}
	c.mu.Unlock()
	if wasComplete {
		c.tier.removeBlob(o.id)
	}
	return bad
}

// load brings the chunks of block idx that are on disk into memory: those in
// lack, or all for a stream. It works on the reader's own goroutine. It is
// false if memory is short. Cache.mu is held, except during I/O.
func (f *File) load(ctx context.Context, cur *cursor, idx int64, lack uint8, over bool) (bool, error) {
	o, c := f.o, f.o.c
	d := o.disk
	n := o.blockLen(idx)
	chunks := lack
	if cur.reads > 1 && cur.dense() {
		chunks = fullMask(n)
	}
	if b := o.blocks[idx]; b != nil {
		chunks &^= b.have
	}
	chunks &= d.recs[idx].chunks
	// A flight claims a run: take the first.
	first := 0
	for chunks&(1<<first) == 0 || lack&(1<<first) == 0 {
		first++
	}
	last := first
	for last < perBlock && chunks&(1<<last) != 0 && o.flightOver(idx*perBlock+int64(last)) == nil {
		last++
	}
	base := idx * blockSize
	from, to := first*chunkSize, min(last*chunkSize, n)
	fl := o.newFlight(nil, base+int64(from), base+int64(to), over)
	if fl == nil {
		return false, nil
	}
	b := fl.blocks[0]
	chunks = chunkMask(from, to)
	c.mu.Unlock()
	bad := o.readDisk(d, idx, chunks, b.data)
	c.mu.Lock()
	o.publish(b, chunks&^bad)
	c.mu.Unlock()
	fl.land(nil)
	c.mu.Lock()
	return true, ctx.Err()
}

// loadSmall starts a flight that loads a small object from disk. It returns
// nil when memory is short. Cache.mu is held.
func (o *object) loadSmall(f *File, over bool) *flight {
	fl := o.newFlight(nil, 0, o.size, over)
	if fl == nil {
		return nil
	}
	fl.makeWhole()
	f.wg.Go(func() { fl.land(fl.readSmall()) })
	return fl
}

func (fl *flight) readSmall() error {
	o, c := fl.o, fl.o.c
	err := func() error {
		r, err := os.OpenFile(c.tier.blob(o.id), os.O_RDONLY|unix.O_NOFOLLOW, 0)
		if err != nil {
			return errReload
		}
		defer r.Close()
		for i, b := range fl.blocks {
			dst := b.data
			if fl.kept[i] {
				dst = make([]byte, len(b.data))
			}
			if _, err := io.ReadFull(r, dst); err != nil || fl.kept[i] && !bytes.Equal(dst, b.data) {
				return errReload
			}
		}
		if n, _ := r.Read(make([]byte, 1)); n != 0 || !fl.hashRight() {
			return errReload
		}
		return nil
	}()
	if err != nil {
		c.log.Warn("cached file is damaged or gone; fetching it again", "object", o.id)
		c.tier.removeBlob(o.id)
		c.mu.Lock()
		o.onDisk = false
		c.mu.Unlock()
	}
	return err
}

// Native returns a read-only descriptor of the complete, verified object on
// local disk, or false. The File owns it; it is valid until Close.
func (f *File) Native() (*os.File, bool) {
	o, c := f.o, f.o.c
	if c.tier == nil || o.size == 0 {
		return nil, false
	}
	c.mu.Lock()
	if o.unlooked {
		c.mu.Unlock()
		o.look()
		c.mu.Lock()
	}
	ok := f.usable() == nil && (o.small && o.onDisk || o.disk != nil && o.disk.complete && o.verified)
	c.mu.Unlock()
	if !ok {
		return nil, false
	}
	f.nativeMu.Lock()
	defer f.nativeMu.Unlock()
	if f.native != nil {
		return f.native, true
	}
	n, err := os.OpenFile(c.tier.blob(o.id), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, false
	}
	st, err := n.Stat()
	if err != nil || st.Size() != o.size || flock(n, unix.LOCK_SH) != nil || !sameFile(n, c.tier.blob(o.id)) ||
		o.small && !hashesTo(n, o) || !o.small && !o.disk.isOpen(n) {
		n.Close()
		return nil, false
	}
	c.mu.Lock()
	closed := f.closed
	c.mu.Unlock()
	if closed {
		n.Close()
		return nil, false
	}
	f.native = n
	return n, true
}

// hashesTo checks a small file: it was stored without a sync.
func hashesTo(r io.ReaderAt, o *object) bool {
	h := newHash(o.id)
	_, err := io.Copy(h, io.NewSectionReader(r, 0, o.size))
	return err == nil && hashIs(h, o.id)
}

// isOpen reports whether n is the file whose verification d stands for.
func (d *diskFile) isOpen(n *os.File) bool {
	a, err := n.Stat()
	if err != nil {
		return false
	}
	b, err := d.data.Stat()
	return err == nil && os.SameFile(a, b)
}
