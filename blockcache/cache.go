package blockcache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"

	"hfmount/remote/hub"
)

// Source opens byte ranges of one immutable object.
type Source interface {
	// OpenRange returns a reader of exactly the bytes [off, off+n). The range
	// lies within the object and n > 0. urgent says that a reader is waiting;
	// without it the range is read ahead and may be queued behind others. The
	// reader fails with an error, never with a short io.EOF, if the bytes do
	// not all arrive; retries are the Source's own affair. Closing the reader
	// early aborts the transfer. ctx governs the reader's whole life: both
	// OpenRange and Read return soon after it ends.
	OpenRange(ctx context.Context, off, n int64, urgent bool) (io.ReadCloser, error)
}

// ErrCorrupt is content whose hash is not what its identity says.
var ErrCorrupt = errors.New("content does not match its hash")

// ErrClosed is a read through a closed [File].
var ErrClosed = errors.New("blockcache: file is closed")

// Options configures [Open]. The zero value is a memory-only cache.
type Options struct {
	// Dir holds the disk tier; empty means none. It may be shared by several
	// processes of one user.
	Dir string
	// DiskBytes bounds the disk tier: > 0 in bytes, 0 no disk tier, < 0 as much
	// as leaves 10 % or 20 GB of the disk free, whichever is more. An object
	// larger than that is streamed and not stored.
	DiskBytes int64
	// MemoryBytes bounds the memory tier; 0 means 512 MB, and less than 16 MiB
	// is taken as that.
	MemoryBytes int64
	// Connections is how many ranges may be fetched at once; 0 means 16. Only
	// reading ahead is held to it: a reader that waits is never queued here.
	Connections int
	// OnCorrupt is told when a whole object turned out corrupt and was dropped.
	// It is called with no lock held, on a goroutine of the cache's.
	OnCorrupt func(hub.ContentID)
	Logger    *slog.Logger // nil is silence
}

// Stats is a moment's view of a [Cache].
type Stats struct {
	MemoryBytes, DiskBytes int64
	Hits, Misses           uint64 // blocks
	Corrupt                uint64 // objects dropped
	FetchedBytes           uint64
}

// Cache holds blocks of immutable objects. It is safe for concurrent use.
type Cache struct {
	opts  Options
	log   *slog.Logger
	tier  *diskTier // nil without a disk tier
	pace  pace
	wg    sync.WaitGroup // hashers, fillers, writers, the scan, OnCorrupt
	stop  context.CancelFunc
	ctx   context.Context
	queue chan writeJob
	slots chan struct{} // connections that Complete may use

	hits, misses, fetched, corrupt atomic.Uint64

	mu       sync.Mutex
	objects  map[hub.ContentID]*object
	mem      memory
	flying   int   // fetches in flight, but for
	ending   int   // those that have given their place to the next
	ahead    int64 // bytes pinned for read-ahead
	streams  int   // cursors and plans that read ahead
	plans    []*plan
	proof    proof
	queued   int64 // bytes that wait for the disk writer
	jobs     int   // entries of queue
	drained  chan struct{}
	starved  map[*File]struct{} // those with a stream that memory held up
	closed   bool
	shutdown bool // queue is closed
}

// Open opens or creates a cache. It fails if Dir cannot be created.
func Open(o Options) (*Cache, error) {
	if o.MemoryBytes <= 0 {
		o.MemoryBytes = 512e6
	}
	if o.Connections <= 0 {
		o.Connections = 16
	}
	c := &Cache{
		opts: o, log: o.Logger,
		objects: make(map[hub.ContentID]*object),
		starved: make(map[*File]struct{}),
		mem:     newMemory(o.MemoryBytes),
		slots:   make(chan struct{}, o.Connections),
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.ctx, c.stop = context.WithCancel(context.Background())
	if o.Dir != "" && o.DiskBytes != 0 {
		t, err := openTier(o.Dir, o.DiskBytes, c.log)
		if err != nil {
			return nil, fmt.Errorf("cache directory: %w", err)
		}
		c.tier = t
		c.queue = make(chan writeJob, maxJobs)
		c.wg.Go(func() { t.scan(c.ctx) })
		for range writers {
			c.wg.Go(c.writeLoop)
		}
	}
	return c, nil
}

// Close writes what waits for the disk, and returns when all background work
// has ended. All Files must be closed before.
func (c *Cache) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	c.mu.Unlock()
	c.stop()
	if c.queue != nil {
		c.waitQueue()
		c.mu.Lock()
		c.shutdown = true
		close(c.queue)
		c.mu.Unlock()
	}
	c.wg.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range c.objects {
		for _, b := range o.blocks {
			o.forgetOne(b)
		}
	}
	clear(c.objects)
	for _, b := range c.mem.free {
		unmapBuffer(b)
	}
	c.mem.free = nil
	if c.tier != nil {
		return c.tier.close()
	}
	return nil
}

// waitQueue returns when no write is queued or under way.
func (c *Cache) waitQueue() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.jobs > 0 {
		ch := c.drainedChan()
		c.mu.Unlock()
		<-ch
		c.mu.Lock()
	}
}

func (c *Cache) drainedChan() <-chan struct{} {
	if c.drained == nil {
		c.drained = make(chan struct{})
	}
	return c.drained
}

// Stats returns counters since Open and the present sizes.
func (c *Cache) Stats() Stats {
	s := Stats{
		Hits: c.hits.Load(), Misses: c.misses.Load(),
		Corrupt: c.corrupt.Load(), FetchedBytes: c.fetched.Load(),
	}
	if c.tier != nil {
		s.DiskBytes = c.tier.size()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.MemoryBytes = c.mem.used
	return s
}

// Contains reports whether the whole object is on disk (or empty) and verified.
func (c *Cache) Contains(id hub.ContentID) bool {
	if !id.Valid() {
		return false
	}
	return id.Size == 0 || c.tier != nil && c.tier.contains(id)
}

// File returns a new handle on the object. Handles on one id share blocks and
// flights, each has its own read-ahead state. src answers misses; it is used
// until the handle is closed. The caller closes the handle.
func (c *Cache) File(id hub.ContentID, src Source) (*File, error) {
	if !id.Valid() {
		return nil, fmt.Errorf("%q is no content id", id)
	}
	c.mu.Lock()
	o, err := c.enter(id)
	if err != nil {
		c.mu.Unlock()
		return nil, err
	}
	f := &File{o: o, src: src}
	o.files[f] = struct{}{}
	c.mu.Unlock()
	if c.tier != nil && id.Size > 0 {
		o.openDisk()
		c.tier.touch(id)
	}
	return f, nil
}

// enter returns the object, with one more of o.users. c.mu is held, except
// while waiting.
func (c *Cache) enter(id hub.ContentID) (*object, error) {
	if c.closed {
		return nil, errors.New("blockcache: cache is closed")
	}
	o := c.objects[id]
	for o != nil && o.dead != nil {
		buried := o.buried
		c.mu.Unlock()
		<-buried // the removal of a few files
		c.mu.Lock()
		o = c.objects[id]
	}
	if o == nil {
		o = newObject(c, id)
		c.objects[id] = o
	}
	o.users++
	return o, nil
}

// leave gives up one of o.users. No lock is held.
func (c *Cache) leave(o *object) {
	c.mu.Lock()
	o.users--
	var open []*diskFile
	if o.users == 0 {
		open = o.replaced
		if o.disk != nil {
			open = append(open, o.disk)
		}
		o.disk, o.replaced = nil, nil
		o.retire()
	}
	c.mu.Unlock()
	for _, d := range open {
		d.close()
	}
}

// noteCorrupt counts a corrupt object and tells the owner. c.mu is held.
func (c *Cache) noteCorrupt(id hub.ContentID) {
	c.corrupt.Add(1)
	c.log.Warn("content does not match its hash; dropped", "object", id)
	if c.opts.OnCorrupt != nil && !c.closed {
		c.wg.Go(func() { c.opts.OnCorrupt(id) })
	}
}
