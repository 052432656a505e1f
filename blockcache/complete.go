package blockcache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// ErrNoRoom is content that the disk tier cannot hold: it has none, the object
// is larger than all of it, or what else is there is in use.
var ErrNoRoom = errors.New("no room in the cache on disk")

// ErrReplaced is a [File] whose place on disk was taken from it by another
// process. A new handle on the same object finds what is there now.
var ErrReplaced = errors.New("blockcache: the files of the object were replaced")

const (
	// followEvery is how often what another process stores is looked at.
	followEvery = 100 * time.Millisecond
	// completeRounds is how often in a row storing may get nowhere before
	// Complete gives up: another process may be in the way for a moment.
	completeRounds = 3
)

// Room is how many bytes the disk tier could hold if nothing else were in it,
// 0 without one. It waits until the directory is known.
func (c *Cache) Room(ctx context.Context) (int64, error) {
	switch {
	case c.tier == nil:
		return 0, nil
	case c.tier.bytes > 0:
		return c.tier.bytes, nil
	}
	select {
	case <-c.tier.scanned:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	room, err := c.tier.room()
	return max(room, 0) + c.tier.size(), err
}

// Stored is how many bytes of the object are on disk.
func (f *File) Stored() int64 {
	o, c := f.o, f.o.c
	switch {
	case o.size == 0 || c.tier == nil:
		return 0
	case o.small:
		if c.tier.contains(o.id) {
			return o.size
		}
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if o.disk == nil {
		return 0
	}
	return min(o.disk.chunks*chunkSize, o.size)
}

// Complete brings the whole object to disk, and returns when it is verified
// and stored, so that from then on it opens natively and needs no [Source].
// What is there is not fetched again; what arrived before an error stays.
// It fetches behind all readers, in as many ranges at once as
// Options.Connections over all objects together. Where another process is
// storing the object it waits and goes on from what that one left.
//
// A wrong hash is [ErrCorrupt], too little disk [ErrNoRoom]; with
// [ErrReplaced] a new handle may have more luck.
func (f *File) Complete(ctx context.Context) error {
	o, c := f.o, f.o.c
	switch {
	case o.size == 0:
		return nil
	case c.tier == nil || c.tier.tooLarge(o.size) && !c.tier.contains(o.id):
		return ErrNoRoom
	case o.small:
		return f.completeSmall(ctx)
	}
	c.mu.Lock()
	o.bringing++
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		o.bringing--
		c.mu.Unlock()
	}()
	had := int64(-1)
	for idle := 0; idle < completeRounds; idle++ {
		stored, err := f.succeed(ctx)
		if err == nil && !stored {
			if err = f.bring(ctx); err == nil {
				stored, err = f.conclude(ctx)
			}
		}
		if stored || err != nil {
			return err
		}
		if now := f.Stored(); now > had {
			had, idle = now, -1
		}
	}
	return c.unstorable(ctx)
}

// unstorable says why nothing more can be stored.
func (c *Cache) unstorable(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := c.tier.lastFailure(); err != nil {
		return fmt.Errorf("storing in %s: %w", c.tier.dir, err)
	}
	return ErrNoRoom
}

// succeed makes this process the one that stores the object. stored says that
// another has stored all of it.
func (f *File) succeed(ctx context.Context) (stored bool, err error) {
	o, c := f.o, f.o.c
	for {
		c.mu.Lock()
		d, err := o.disk, f.usable()
		done := err == nil && d.complete && o.verified
		damaged := o.unstored
		c.mu.Unlock()
		if done || err != nil {
			return done, err
		}
		if c.tier.contains(o.id) {
			return true, nil // by another process: the next handle has it
		}
		if damaged {
			return false, ErrReplaced
		}
		o.ioMu.Lock()
		ok, err := o.claim(d)
		lost := !ok && err == nil && d.data != nil && !sameFile(d.data, c.tier.partialData(o.id))
		o.ioMu.Unlock()
		switch {
		case ok:
			return false, nil
		case err != nil:
			return false, fmt.Errorf("storing in %s: %w", c.tier.dir, err)
		case lost && !c.tier.contains(o.id):
			return false, ErrReplaced
		}
		o.follow()
		select {
		case <-time.After(followEvery):
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// extents is how what is missing is divided: so many ranges at once, of so
// many bytes each, that they take no more than half of the memory.
func (c *Cache) extents() (workers int, length int64) {
	share := c.mem.limit / 2
	workers = int(min(int64(c.opts.Connections), max(share/minExtent, 1)))
	return workers, min(c.pace.extent(), share/int64(workers)) &^ (chunkSize - 1)
}

// bring fetches what is missing, and hands all of it to the disk writers.
func (f *File) bring(ctx context.Context) error {
	workers, _ := f.o.c.extents()
	next := int64(0) // guarded by Cache.mu
	g, ctx := errgroup.WithContext(ctx)
	for range workers {
		g.Go(func() error {
			for {
				if more, err := f.bringOne(ctx, &next); err != nil || !more {
					return err
				}
			}
		})
	}
	return g.Wait()
}

// bringOne fetches the next missing range; more is false if there is none.
func (f *File) bringOne(ctx context.Context, next *int64) (more bool, err error) {
	o, c := f.o, f.o.c
	release, err := c.slot(ctx)
	if err != nil {
		return false, err
	}
	defer release()
	workers, length := c.extents()
	if !c.tier.makeRoom(ctx, length) {
		// Near the end there may be room for less.
		if !c.tier.makeRoom(ctx, min(length, o.size-f.Stored())) {
			return false, c.unstorable(ctx)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := f.usable(); err != nil {
		return false, err
	}
	// The last ones are shorter, so that all connections end together.
	piece := min(length, max((o.size-*next)/int64(2*workers), minExtent)) &^ (chunkSize - 1)
	from, to, ok := o.missingRun(*next, o.size, piece)
	if !ok {
		*next = o.size
		return false, nil
	}
	fl := o.fetch(f, from, to, false, false)
	if fl == nil {
		return true, c.await(ctx, c.mem.waitFreed())
	}
	*next = to
	// What arrives stays in memory until a writer has it.
	blocks := slices.Clone(fl.blocks)
	for _, b := range blocks {
		c.mem.pin(b)
	}
	defer func() {
		for _, b := range blocks {
			c.mem.unpin(b)
		}
	}()
	if err := c.outlastFlight(ctx, fl); err != nil {
		return false, err
	}
	for _, b := range blocks {
		for !c.enqueue(o, b) {
			if err := c.await(ctx, c.drainedChan()); err != nil {
				return false, err
			}
		}
	}
	return true, nil
}

// outlastFlight waits for the end of a flight and returns its error, but for
// one that was given up by those who wanted it. Cache.mu is held, except while
// waiting.
func (c *Cache) outlastFlight(ctx context.Context, fl *flight) error {
	b := fl.blocks[len(fl.blocks)-1]
	c.mem.pin(b)
	fl.refs++
	defer func() {
		fl.release()
		c.mem.unpin(b)
	}()
	for !fl.done {
		if err := c.await(ctx, b.changed()); err != nil {
			return err
		}
	}
	if fl.cancelled || errors.Is(fl.err, errReload) {
		return nil
	}
	return fl.err
}

// await waits for ch without Cache.mu.
func (c *Cache) await(ctx context.Context, ch <-chan struct{}) error {
	c.mu.Unlock()
	defer c.mu.Lock()
	select {
	case <-ch:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-c.ctx.Done():
		return ErrClosed
	}
}

// slot takes one of the connections that all calls of Complete share.
func (c *Cache) slot(ctx context.Context) (release func(), err error) {
	select {
	case c.slots <- struct{}{}:
		return func() { <-c.slots }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// conclude waits until the disk has what memory has, verifies the object and
// gives it its final name. false says that there is more to fetch.
func (f *File) conclude(ctx context.Context) (stored bool, err error) {
	o, c := f.o, f.o.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range o.nblocks {
		if err := o.settleBlock(ctx, i); err != nil {
			return false, err
		}
	}
	for !o.verified && o.absent() == 0 {
		if err := f.usable(); err != nil {
			return false, err
		}
		ruling := o.ruling()
		if ruling == nil {
			return false, ErrClosed // the cache is closing
		}
		if err := c.await(ctx, ruling); err != nil {
			return false, err
		}
	}
	if err := f.usable(); err != nil {
		return false, err
	}
	if d := o.disk; !o.verified || !d.complete && d.chunks != d.allChunks() {
		return false, nil
	}
	c.mu.Unlock()
	err = o.finish() // the hasher has a writer do it as well: whoever is first
	c.mu.Lock()
	if err != nil {
		return false, fmt.Errorf("storing in %s: %w", c.tier.dir, err)
	}
	return o.disk.complete, nil
}

// settleBlock returns when what memory has of a block is on disk, or cannot be
// stored. Cache.mu is held, except while waiting.
func (o *object) settleBlock(ctx context.Context, idx int64) error {
	c := o.c
	for tried := false; !o.disk.full(idx, o.blockLen(idx)); {
		b := o.blocks[idx]
		if b == nil {
			return nil
		}
		if b.queued == 0 {
			if tried {
				return nil // the writer passed it over
			}
			if tried = c.enqueue(o, b); tried && b.queued == 0 {
				return nil
			}
		}
		if err := c.await(ctx, c.drainedChan()); err != nil {
			return err
		}
	}
	return nil
}

// completeSmall is Complete for an object that is fetched and verified whole.
func (f *File) completeSmall(ctx context.Context) error {
	o, c := f.o, f.o.c
	release, err := c.slot(ctx)
	if err != nil {
		return err
	}
	defer release()
	for range completeRounds {
		if c.tier.contains(o.id) {
			return nil
		}
		if !c.tier.makeRoom(ctx, o.size) {
			return c.unstorable(ctx)
		}
		blocks, err := f.wholeSmall(ctx)
		if err != nil {
			return err
		}
		err = c.storeSmall(writeJob{o: o, blocks: blocks})
		c.mu.Lock()
		for _, b := range blocks {
			c.mem.unpin(b)
		}
		c.mu.Unlock()
		if err != nil {
			return fmt.Errorf("storing in %s: %w", c.tier.dir, err)
		}
	}
	if c.tier.contains(o.id) {
		return nil
	}
	return c.unstorable(ctx)
}

// wholeSmall returns the blocks of a small object, verified and pinned.
func (f *File) wholeSmall(ctx context.Context) ([]*block, error) {
	o, c := f.o, f.o.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if err := f.usable(); err != nil {
			return nil, err
		}
		var blocks []*block
		for i := range o.nblocks {
			if b := o.blocks[i]; b != nil && b.complete() {
				blocks = append(blocks, b)
			}
		}
		if int64(len(blocks)) == o.nblocks {
			for _, b := range blocks {
				c.mem.pin(b)
			}
			return blocks, nil
		}
		fl := o.flightIn(0)
		if fl == nil {
			fl = o.fetch(f, 0, o.size, false, false)
		}
		if fl == nil {
			if err := c.await(ctx, c.mem.waitFreed()); err != nil {
				return nil, err
			}
			continue
		}
		held := slices.Clone(fl.blocks)
		for _, b := range held {
			c.mem.pin(b)
		}
		err := c.outlastFlight(ctx, fl)
		if err == nil && fl.err == nil {
			return held, nil
		}
		for _, b := range held {
			c.mem.unpin(b)
		}
		if err != nil {
			return nil, err
		}
	}
}
