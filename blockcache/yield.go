package blockcache

import (
	"time"

	"golang.org/x/sys/unix"
)

// yieldAfter is how long the writer of an object may store nothing before
// another process may be the writer. A mount that read the header of a large
// file and keeps it open would else keep everybody from completing it.
const yieldAfter = time.Second

// yieldLater makes the writer's role end when it is not used. Cache.mu is held.
func (o *object) yieldLater(d *diskFile) {
	d.stored = time.Now()
	if d.yielding {
		return
	}
	d.yielding = true
	time.AfterFunc(yieldAfter, func() { o.yield(d) })
}

// yield gives the role up, or looks again later. It is not given up while the
// object is being fetched, nor once nothing is missing: then it is about to be
// finished, and whoever comes second has to check all of it again.
func (o *object) yield(d *diskFile) {
	c := o.c
	c.mu.Lock()
	defer c.mu.Unlock()
	d.yielding = false
	if c.closed || o.disk != d || d.complete || !d.writing {
		return
	}
	if time.Since(d.stored) < yieldAfter || o.bringing > 0 || len(o.flights) > 0 || o.absent() == 0 || o.hashing {
		d.yielding = true
		time.AfterFunc(yieldAfter, func() { o.yield(d) })
		return
	}
	o.users++ // so that the descriptor is not closed under the call below
	c.wg.Go(func() {
		o.ioMu.Lock()
		if d.writer && unix.Flock(int(d.idx.Fd()), unix.LOCK_UN) == nil {
			d.writer = false
			c.mu.Lock()
			d.writing = false
			c.mu.Unlock()
		}
		o.ioMu.Unlock()
		c.leave(o)
	})
}
