package blockcache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// flight brings the bytes [off, end) of an object into memory, from a Source
// or from disk. It belongs to the File whose Source it uses and ends before
// that File is closed. It has a context of its own, which ends when nobody
// refers to it any more: neither a waiting reader nor a read-ahead cursor.
type flight struct {
	o        *object
	f        *File // whose Source it uses; nil for a load from disk
	off, end int64
	urgent   bool
	whole    bool // publishes all at once, after the hash was right
	blocks   []*block
	kept     []bool // of whole: blocks that were verified before and stay as they are
	ctx      context.Context
	cancel   context.CancelFunc
	started  time.Time

	// Guarded by Cache.mu.
	refs      int
	cursor    *cursor // holds one of refs
	ending    bool    // counted in Cache.ending, not in Cache.flying
	cancelled bool
	done      bool
	err       error
}

// errReload says that what was on disk is not there or not right: fetch it.
var errReload = errors.New("blockcache: not on disk after all")

// newFlight registers a flight over [off, end) whose blocks are pinned, or
// returns nil when memory is short. With over set it exceeds the ceiling
// instead: the caller holds pins, so waiting for memory might not end.
func (o *object) newFlight(f *File, off, end int64, over bool) *flight {
	var need int64
	first, last := off/blockSize, (end-1)/blockSize
	for i := first; i <= last; i++ {
		if o.blocks[i] == nil {
			need += cost(o.blockLen(i))
		}
	}
	// Pin what is there, so that reserve does not take it.
	fl := &flight{o: o, f: f, off: off, end: end}
	var held []*block
	for i := first; i <= last; i++ {
		if b := o.blocks[i]; b != nil {
			o.c.mem.pin(b)
			held = append(held, b)
		}
	}
	ok := o.c.mem.reserve(need) || over
	if ok {
		for i := first; i <= last; i++ {
			fl.blocks = append(fl.blocks, o.block(i))
		}
	}
	for _, b := range held {
		o.c.mem.unpin(b)
	}
	if !ok {
		return nil
	}
	fl.ctx, fl.cancel = context.WithCancel(context.Background())
	o.flights = append(o.flights, fl)
	return fl
}

// fetch starts a flight that reads from f's Source.
func (o *object) fetch(f *File, off, end int64, urgent, over bool) *flight {
	fl := o.newFlight(f, off, end, over)
	if fl == nil {
		return nil
	}
	fl.urgent, fl.started = urgent, time.Now()
	if o.small {
		fl.makeWhole()
	}
	o.c.flying++
	f.wg.Add(1)
	go func() {
		defer f.wg.Done()
		fl.land(fl.run())
	}()
	return fl
}

// chunks returns those of block idx that the flight is to bring.
func (fl *flight) chunks(idx int64) uint8 {
	base := idx * blockSize
	from, to := max(fl.off-base, 0), min(fl.end-base, blockSize)
	if from >= to {
		return 0
	}
	return chunkMask(int(from), int(to))
}

func (fl *flight) makeWhole() {
	fl.whole = true
	fl.kept = make([]bool, len(fl.blocks))
	for i, b := range fl.blocks {
		fl.kept[i] = b.have != 0
	}
}

func (fl *flight) release() {
	fl.refs--
	if fl.refs == 0 && !fl.done {
		fl.abort()
	}
}

// abort ends a flight early. Its chunks stay its own until it has landed:
// until then it may still be writing to them.
func (fl *flight) abort() {
	fl.cancelled = true
	fl.cancel()
}

// run transfers the bytes. It is the only writer of the flight's chunks.
func (fl *flight) run() error {
	o, c := fl.o, fl.o.c
	var scratch []byte
	rc, err := fl.f.src.OpenRange(fl.ctx, fl.off, fl.end-fl.off, fl.urgent)
	if err != nil {
		return err
	}
	defer rc.Close()
	var first time.Time
	idle, ending := 0, false
	for pos := fl.off; pos < fl.end; {
		i := pos/blockSize - fl.off/blockSize
		b := fl.blocks[i]
		base := b.idx * blockSize
		dst := b.data[pos-base : min(int64(len(b.data)), fl.end-base)]
		if fl.whole && fl.kept[i] {
			if scratch == nil {
				scratch = make([]byte, chunkSize)
			}
			dst = scratch[:min(len(dst), chunkSize)]
		}
		n, err := rc.Read(dst)
		if n < 0 || n > len(dst) {
			return errors.New("blockcache: source returned an invalid count")
		}
		if n == 0 {
			if idle++; err == nil && idle < 100 {
				continue
			} else if err == nil {
				err = io.ErrNoProgress
			}
		} else {
			idle = 0
			if first.IsZero() {
				first = time.Now()
			}
			c.fetched.Add(uint64(n))
			if err := fl.arrived(b, int(pos-base), int(pos-base)+n); err != nil {
				return err
			}
			pos += int64(n)
			if !ending && pos < fl.end && fl.end-pos <= c.pace.tail() {
				ending = fl.yield()
			}
		}
		if err != nil && pos < fl.end {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("at byte %d of %d: %w", pos, o.size, err)
		}
	}
	c.pace.observe(first.Sub(fl.started), time.Since(first), fl.end-fl.off)
	if fl.whole && !fl.hashRight() {
		return ErrCorrupt
	}
	return nil
}

// yield gives the flight's place among the connections to the next one, whose
// first byte will not arrive before this one's last. It is false where enough
// others are about to end.
func (fl *flight) yield() bool {
	c := fl.o.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending >= max(c.opts.Connections/2, 1) {
		return false
	}
	fl.ending = true
	c.ending++
	c.flying--
	if fl.cursor != nil {
		fl.f.advance(fl.cursor)
	}
	return true
}

// arrived publishes the chunks that the bytes [from, to) of b completed.
func (fl *flight) arrived(b *block, from, to int) error {
	if fl.whole {
		return nil
	}
	lo, hi := from/chunkSize, to/chunkSize
	if to == len(b.data) {
		hi = (to + chunkSize - 1) / chunkSize
	}
	if lo == hi {
		return nil
	}
	o, c := fl.o, fl.o.c
	chunks := uint8(1<<hi-1) &^ uint8(1<<lo-1)
	sums := chunkSums(b.data, chunks) // now, while they are near the processor
	c.mu.Lock()
	defer c.mu.Unlock()
	if o.dead != nil {
		return o.dead
	}
	for i := lo; i < hi; i++ {
		// What was hashed before must be the same again.
		if b.idx < int64(len(o.sums)) && sums[i] != o.sums[b.idx][i] {
			return ErrCorrupt
		}
		b.sums[i] = sums[i]
	}
	b.summed |= chunks
	o.publish(b, chunks)
	if to == len(b.data) {
		c.enqueue(o, b)
	}
	return nil
}

// land ends the flight: it publishes a verified whole, wakes everybody who
// waits for one of its blocks, and lets go of them.
func (fl *flight) land(err error) {
	o, c := fl.o, fl.o.c
	fl.cancel()
	c.mu.Lock()
	fl.done, fl.err = true, err
	o.flights = slices.DeleteFunc(o.flights, func(g *flight) bool { return g == fl })
	cur := fl.cursor
	fl.cursor = nil
	if cur != nil {
		cur.flights = slices.DeleteFunc(cur.flights, func(g *flight) bool { return g == fl })
	}
	if err == nil && fl.whole && o.dead == nil {
		for _, b := range fl.blocks {
			o.publish(b, fullMask(len(b.data)))
		}
		if fl.f != nil {
			c.enqueueSmall(o, fl.blocks)
		}
	}
	for _, b := range fl.blocks {
		if !fl.whole && fl.f != nil {
			c.enqueue(o, b)
		}
		b.wake()
		c.mem.unpin(b)
	}
	if fl.f != nil {
		if fl.ending {
			c.ending--
		} else {
			c.flying--
		}
		if cur != nil && err == nil {
			fl.f.advance(cur)
		}
	}
	if err != nil && fl.f != nil && !fl.cancelled && time.Since(fl.started) >= failFast {
		fl.f.remember(fl)
	}
	if errors.Is(err, ErrCorrupt) && fl.whole && fl.f != nil {
		c.noteCorrupt(o.id)
	}
	o.retire()
	c.mu.Unlock()
	if err != nil && !fl.cancelled && !errors.Is(err, errReload) {
		c.log.Debug("fetch failed", "object", o.id, "offset", fl.off, "bytes", fl.end-fl.off, "error", err)
	}
}

// failFast is how long a range that was slow to fail is not asked for again
// through the same handle. The kernel repeats a failed read in smaller pieces;
// each would wait for a deadline of its own before the reader learned of it.
const failFast = 5 * time.Second

type failure struct {
	off, end int64
	err      error
	until    time.Time
}

// remember notes a failed flight. Cache.mu is held.
func (f *File) remember(fl *flight) {
	now := time.Now()
	f.failures = slices.DeleteFunc(f.failures, func(x failure) bool { return now.After(x.until) })
	f.failures = append(f.failures, failure{fl.off, fl.end, fl.err, now.Add(failFast)})
}

// failed returns the error that a fetch of off met a moment ago. Cache.mu is
// held.
func (f *File) failed(off int64) error {
	if len(f.failures) == 0 {
		return nil
	}
	now := time.Now()
	for _, x := range f.failures {
		if x.off <= off && off < x.end && now.Before(x.until) {
			return x.err
		}
	}
	return nil
}
