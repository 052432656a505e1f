package blockcache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"hfmount/remote/hub"
)

// File is a handle on one immutable object. It is safe for concurrent use.
type File struct {
	o   *object
	src Source
	wg  sync.WaitGroup // flights that use src

	// Guarded by Cache.mu.
	closed  bool
	cursors [maxCursors]*cursor
	clock   int // orders the use of cursors

	failures []failure

	nativeMu sync.Mutex
	native   *os.File // guarded by nativeMu
}

// ID returns the identity the handle was opened with.
func (f *File) ID() hub.ContentID { return f.o.id }

// ReadAt reads like io.ReaderAt: it is short only at the end, with io.EOF.
// When ctx ends it returns ctx's error at once; the shared fetch goes on for
// others that wait for it. On an error the first n bytes of p are valid.
func (f *File) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("blockcache: negative offset %d", off)
	}
	if len(p) == 0 {
		return 0, nil
	}
	var h holds
	defer func() {
		if len(h) > 0 {
			f.o.c.mu.Lock()
			h.release()
			f.o.c.mu.Unlock()
		}
	}()
	n := 0
	for n < len(p) {
		// One block at a time: whoever copies need not hold many.
		step := int(min(int64(len(p)-n), blockSize-(off+int64(n))%blockSize))
		v, err := f.view(ctx, off+int64(n), step, len(p)-n, &h)
		if err != nil {
			return n, err
		}
		if v.Len() == 0 {
			return n, io.EOF
		}
		for _, s := range v.slices {
			n += copy(p[n:], s)
		}
		v.Release()
	}
	return n, nil
}

// View pins up to n bytes at off without copying them. It is short only at the
// end; at or past the end it is empty. The caller releases it exactly once.
func (f *File) View(ctx context.Context, off int64, n int) (*View, error) {
	if off < 0 || n < 0 {
		return nil, fmt.Errorf("blockcache: view of %d bytes at %d", n, off)
	}
	var h holds
	v, err := f.view(ctx, off, n, n, &h)
	if len(h) > 0 {
		f.o.c.mu.Lock()
		h.release()
		f.o.c.mu.Unlock()
	}
	return v, err
}

// holds are the flights a read refers to, so that they go on until it ends.
type holds []*flight

func (h *holds) add(fl *flight) {
	if !slices.Contains(*h, fl) {
		fl.refs++
		*h = append(*h, fl)
	}
}

// release lets go of the flights. Cache.mu is held.
func (h *holds) release() {
	for _, fl := range *h {
		fl.release()
	}
	*h = nil
}

// View is a pinned piece of an object.
type View struct {
	c      *Cache
	slices [][]byte
	blocks []*block
	n      int
}

// Slices returns the bytes, in order. They must not be modified, nor used after Release.
func (v *View) Slices() [][]byte { return v.slices }

// Len is the number of bytes in all Slices.
func (v *View) Len() int { return v.n }

// Release gives the blocks back. Further calls do nothing.
func (v *View) Release() {
	if len(v.blocks) == 0 {
		return
	}
	v.c.mu.Lock()
	for _, b := range v.blocks {
		v.c.mem.unpin(b)
	}
	v.c.mu.Unlock()
	v.blocks, v.slices, v.n = nil, nil, 0
}

// view pins [off, off+n); want is how much the reader asked for from off on,
// so that the misses of a long read are fetched as one range.
func (f *File) view(ctx context.Context, off int64, n, want int, h *holds) (*View, error) {
	o, c := f.o, f.o.c
	v := &View{c: c}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	if err := f.usable(); err != nil {
		c.mu.Unlock()
		return nil, err
	}
	if o.followable() && time.Since(o.followed) >= followEvery {
		// Before anything is read ahead that another process has stored.
		o.followed = time.Now()
		c.mu.Unlock()
		o.follow()
		c.mu.Lock()
		if err := f.usable(); err != nil {
			c.mu.Unlock()
			return nil, err
		}
	}
	end := min(off+int64(n), o.size)
	if off >= end {
		c.mu.Unlock()
		return v, nil
	}
	asked := min(off+int64(want), o.size)
	cur := f.observe(off, end)
	for pos := off; pos < end; {
		idx := pos / blockSize
		to := min((idx+1)*blockSize, end)
		b, err := f.await(ctx, cur, pos, to, asked, len(v.blocks) > 0, h)
		if err != nil {
			for _, b := range v.blocks {
				c.mem.unpin(b)
			}
			c.mu.Unlock()
			return nil, err
		}
		lo, hi := int(pos-idx*blockSize), int(to-idx*blockSize)
		if lo < b.readTo {
			b.hot = true
		}
		b.readTo = max(b.readTo, hi)
		v.blocks = append(v.blocks, b)
		v.slices = append(v.slices, b.data[lo:hi:hi])
		v.n += hi - lo
		pos = to
	}
	err := f.judge(ctx, off, end)
	curious := o.plan.curious(off, end)
	c.mu.Unlock()
	if curious && err == nil {
		f.look(end)
	}
	if err != nil {
		v.Release()
		return nil, err
	}
	return v, nil
}

// usable says why f cannot be read. Cache.mu is held.
func (f *File) usable() error {
	if f.closed {
		return ErrClosed
	}
	return f.o.dead
}

// await returns the block of [pos, to) with those bytes in memory, pinned. It
// fetches, loads or waits as needed. Cache.mu is held, except while waiting.
// With holding set the caller has pins, and memory is not waited for.
func (f *File) await(ctx context.Context, cur *cursor, pos, to, asked int64, holding bool, h *holds) (*block, error) {
	o, c := f.o, f.o.c
	idx := pos / blockSize
	need := chunkMask(int(pos-idx*blockSize), int(to-idx*blockSize))
	hit, followed := true, false
	for {
		if err := f.usable(); err != nil {
			return nil, err
		}
		b := o.blocks[idx]
		if b != nil && b.have&need == need {
			if hit {
				c.hits.Add(1)
			} else {
				c.misses.Add(1)
			}
			c.mem.pin(b)
			return b, nil
		}
		var lack = need
		if b != nil {
			lack &^= b.have
		}
		ch := idx * perBlock
		for m := lack; m&1 == 0; m >>= 1 {
			ch++
		}
		fl := o.flightOver(ch)
		if fl == nil {
			switch {
			case o.unlooked:
				c.mu.Unlock()
				o.look()
				c.mu.Lock()
				continue
			case o.small && o.onDisk:
				fl = o.loadSmall(f, holding)
			case !o.small && o.disk.has(idx, uint8(1)<<(ch%perBlock)):
				if done, err := f.load(ctx, cur, idx, lack, holding); err != nil {
					return nil, err
				} else if done {
					continue
				}
			case !followed && o.followable():
				// Perhaps another process has stored it by now.
				followed = true
				c.mu.Unlock()
				o.follow()
				c.mu.Lock()
				continue
			default:
				if err := f.failed(ch * chunkSize); err != nil {
					return nil, err
				}
				hit = false
				fl = f.demand(cur, max(pos, ch*chunkSize), asked, holding)
			}
			if fl == nil { // memory is short
				ch := c.mem.waitFreed()
				c.mu.Unlock()
				var err error
				select {
				case <-ch:
				case <-ctx.Done():
					err = ctx.Err()
				}
				c.mu.Lock()
				if err != nil {
					return nil, err
				}
				continue
			}
		} else if fl.f != nil {
			hit = false
			f.stalled(cur)
		}
		h.add(fl)
		if err := fl.wait(ctx, o.blocks[idx], lack); err != nil {
			if fl.done && (fl.cancelled || errors.Is(err, errReload)) {
				continue // not a failure; fetch it ourselves
			}
			if errors.Is(err, ErrCorrupt) && f.usable() == nil && o.disk.has(idx, uint8(1)<<(ch%perBlock)) {
				continue // it came after the right bytes had been adopted
			}
			return nil, err
		}
	}
}

// wait returns when the chunks in lack that the flight is to bring to b have
// arrived or it has ended, with its error if it ended without any of them. The
// caller holds the flight. Cache.mu is held, except while waiting.
func (fl *flight) wait(ctx context.Context, b *block, lack uint8) error {
	c := fl.o.c
	c.mem.pin(b) // so that what arrives is still there when we look
	ch := b.awaits(lack & fl.chunks(b.idx))
	c.mu.Unlock()
	var err error
	select {
	case <-ch:
	case <-ctx.Done():
		err = ctx.Err()
	}
	c.mu.Lock()
	got := b.have & lack
	c.mem.unpin(b)
	if err != nil {
		return err
	}
	if fl.done && got == 0 {
		return fl.err
	}
	return nil
}

// Close releases the handle. It ends the flights that use the handle's Source
// and returns when none does any more; readers of other handles that waited
// for them fetch the rest through their own.
func (f *File) Close() error {
	o, c := f.o, f.o.c
	c.mu.Lock()
	if f.closed {
		c.mu.Unlock()
		return nil
	}
	f.closed = true
	delete(o.files, f)
	delete(c.starved, f)
	for i, cur := range f.cursors {
		if cur != nil {
			f.drop(cur)
			f.cursors[i] = nil
		}
	}
	o.leavePlan()
	for _, fl := range o.flights {
		if fl.f == f {
			fl.abort()
		}
	}
	c.mu.Unlock()
	f.wg.Wait()
	f.nativeMu.Lock()
	var err error
	if f.native != nil {
		err = f.native.Close()
		f.native = nil
	}
	f.nativeMu.Unlock()
	c.leave(o)
	return err
}
