package blockcache

import (
	"context"
	"errors"

	"hfmount/remote/hub"
)

// Whole is the size in bytes up to which an object is fetched in one piece,
// and so can be brought by [Cache.Ahead].
const Whole = smallSize

// ErrNoMemory is a fetch ahead of use for which nothing is left that nobody
// uses.
var ErrNoMemory = errors.New("blockcache: memory is short")

// Connections is how many ranges may be fetched at once.
func (c *Cache) Connections() int { return c.opts.Connections }

// AheadBytes bounds what should be brought by [Cache.Ahead] before it is used:
// more would push out of memory what was brought before.
func (c *Cache) AheadBytes() int64 { return min(c.mem.limit/8, 64<<20) }

// Near reports whether the object can be had without a fetch, as far as is
// known without asking the disk. The answer is for not fetching it in vain.
func (c *Cache) Near(id hub.ContentID) bool {
	if id.Size == 0 || c.tier != nil && c.tier.knows(id) {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	o := c.objects[id]
	return o != nil && o.inMemory()
}

// knows reports whether the index has the whole object.
func (t *diskTier) knows(id hub.ContentID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entries[id]
	return e != nil && e.complete
}

// inMemory says that every block is there. Cache.mu is held.
func (o *object) inMemory() bool {
	if int64(len(o.blocks)) < o.nblocks {
		return false
	}
	for _, b := range o.blocks {
		if !b.complete() {
			return false
		}
	}
	return true
}

// Ahead brings an object of at most [Whole] bytes into the cache behind all
// readers, and returns when it is there. What the cache has costs no fetch; one
// that is under way is shared. When ctx ends, the fetch does too, unless a
// reader waits for it: that one asks again through its own Source.
func (c *Cache) Ahead(ctx context.Context, id hub.ContentID, src Source) error {
	if id.Size > Whole {
		return errors.ErrUnsupported
	}
	f, err := c.File(id, src)
	if err != nil {
		return err
	}
	err = f.ahead(ctx)
	return errors.Join(err, f.Close())
}

func (f *File) ahead(ctx context.Context) error {
	o, c := f.o, f.o.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for o.size > 0 && !o.onDisk && !o.inMemory() {
		if err := f.usable(); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if o.unlooked {
			c.mu.Unlock()
			o.look()
			c.mu.Lock()
			continue
		}
		fl := o.flightOver(0)
		if fl == nil {
			fl = o.fetch(f, 0, o.size, false, false)
		}
		if fl == nil {
			return ErrNoMemory
		}
		if err := c.outlastFlight(ctx, fl); err != nil {
			return err
		}
		if fl.err == nil {
			return nil // it may have been pushed out again since
		}
	}
	return nil
}
