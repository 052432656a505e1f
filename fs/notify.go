package fs

import (
	"cmp"
	"context"
	"sync"
	"sync/atomic"

	"hfmount/remote/hub"
)

// note is one thing to tell the kernel.
type note struct {
	kind noteKind
	ino  uint64
	name string
}

func compareNotes(a, b note) int {
	return cmp.Or(cmp.Compare(a.ino, b.ino), cmp.Compare(a.kind, b.kind), cmp.Compare(a.name, b.name))
}

type noteKind uint8

const (
	entryChanged noteKind = iota
	dirChanged
	namesForgotten
	contentDropped
)

// notes is the queue to the Notifier. Whoever has news leaves it here and goes
// on; one goroutine of the tree's delivers it, because a delivery may last
// until the kernel's own request is answered.
type notes struct {
	mu    sync.Mutex // leaf
	queue []note
	to    Notifier
	put   uint64        // how many were ever queued
	told  uint64        // how many of those were delivered or dropped
	moved chan struct{} // closed when told grows; nil while nobody waits

	wake chan struct{} // holds one token when there may be news
	news atomic.Uint64 // how many there ever were
}

// SetNotifier sets who is told about changes; nil disarms: what is queued is
// then dropped, though a call under way may not have returned yet.
func (t *Tree) SetNotifier(n Notifier) {
	t.notes.mu.Lock()
	defer t.notes.mu.Unlock()
	t.notes.to = n
	if n == nil {
		t.notes.queue = nil
		t.notes.toldLocked(t.notes.put)
	}
}

func (n *notes) toldLocked(told uint64) {
	n.told = told
	if n.moved != nil {
		close(n.moved)
		n.moved = nil
	}
}

// Told returns when the Notifier was called for all that changed before, or
// when ctx ends.
func (t *Tree) Told(ctx context.Context) {
	n := &t.notes
	n.mu.Lock()
	defer n.mu.Unlock()
	for want := n.put; n.told < want; {
		if n.moved == nil {
			n.moved = make(chan struct{})
		}
		moved := n.moved
		n.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
		case <-t.sp.ctx.Done():
		}
		n.mu.Lock()
		if ctx.Err() != nil || t.sp.ctx.Err() != nil {
			return
		}
	}
}

// News counts what the Notifier was ever to be told. Who finds another number
// than before may have an answer from before a change.
func (t *Tree) News() uint64 { return t.notes.news.Load() }

func (t *Tree) tell(news []note) {
	if len(news) == 0 {
		return
	}
	t.notes.news.Add(uint64(len(news)))
	t.notes.mu.Lock()
	if t.notes.to != nil {
		t.notes.queue = append(t.notes.queue, news...)
		t.notes.put += uint64(len(news))
	}
	t.notes.mu.Unlock()
	select {
	case t.notes.wake <- struct{}{}:
	default:
	}
}

// deliver runs until the tree is closed.
func (t *Tree) deliver() {
	for {
		select {
		case <-t.sp.ctx.Done():
			return
		case <-t.notes.wake:
		}
		for t.sp.ctx.Err() == nil {
			t.notes.mu.Lock()
			to, queue := t.notes.to, t.notes.queue
			var n note
			if len(queue) > 0 {
				n, t.notes.queue = queue[0], queue[1:]
			}
			t.notes.mu.Unlock()
			if len(queue) == 0 || to == nil {
				break
			}
			switch n.kind {
			case entryChanged:
				to.EntryChanged(n.ino, n.name)
			case dirChanged:
				to.DirChanged(n.ino)
			case namesForgotten:
				to.NamesForgotten(n.ino)
			case contentDropped:
				to.ContentDropped(n.ino)
			}
			t.notes.mu.Lock()
			t.notes.toldLocked(min(t.notes.told+1, t.notes.put)) // it may have been disarmed meanwhile
			t.notes.mu.Unlock()
		}
	}
}

// contents knows which contents went to the kernel under which inode numbers,
// and how often each was dropped.
type contents struct {
	mu     sync.Mutex                            // leaf
	shown  map[hub.ContentID]map[uint64]struct{} // by files opened
	epochs map[hub.ContentID]uint64
}

// maxShown bounds contents.shown. A content beyond it has its pages dropped at
// the next open, by its epoch, instead of at once.
const maxShown = 1 << 14

func (c *contents) open(id hub.ContentID, ino uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	inos := c.shown[id]
	if inos == nil {
		if len(c.shown) >= maxShown {
			for old := range c.shown {
				delete(c.shown, old)
				break
			}
		}
		inos = make(map[uint64]struct{}, 1)
		c.shown[id] = inos
	}
	inos[ino] = struct{}{}
}

func (c *contents) epoch(id hub.ContentID) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.epochs[id]
}

// CorruptDropped tells the tree that the cache dropped an object: nodes that
// show it drop the kernel's pages. It is blockcache.Options.OnCorrupt.
func (t *Tree) CorruptDropped(id hub.ContentID) {
	t.contents.mu.Lock()
	t.contents.epochs[id]++
	var news []note
	for ino := range t.contents.shown[id] {
		news = append(news, note{kind: contentDropped, ino: ino})
	}
	t.contents.mu.Unlock()
	t.tell(news)
}
