package node

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
)

// liveNodes finds the inode the kernel holds for an inode number.
//
// A node enters when the kernel first asks something about it that leaves
// names or pages behind, not when it is made: go-fuse makes nodes that lose a
// race and are never used, nor forgotten.
type liveNodes struct {
	mu    sync.Mutex
	nodes map[uint64]liveNode // guarded by mu
}

type liveNode interface {
	gofs.InodeEmbedder
	flag() *atomic.Bool
}

func (d *dirNode) flag() *atomic.Bool  { return &d.listed }
func (f *fileNode) flag() *atomic.Bool { return &f.listed }

func (l *liveNodes) add(n liveNode) {
	if n.flag().Load() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.nodes == nil {
		l.nodes = make(map[uint64]liveNode)
	}
	l.nodes[n.EmbeddedInode().StableAttr().Ino] = n
	n.flag().Store(true)
}

func (l *liveNodes) remove(n liveNode) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n.flag().Store(false)
	ino := n.EmbeddedInode().StableAttr().Ino
	if l.nodes[ino] == n {
		delete(l.nodes, ino)
	}
}

func (l *liveNodes) find(ino uint64) liveNode {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.nodes[ino]
}

// notice is one thing for the kernel to forget. It is comparable, and one that
// already waits is not queued again.
type notice struct {
	kind noticeKind
	ino  uint64
	name string
	// again: it was sent before, but an answer from before the change may have
	// been on its way to the kernel then.
	again bool
}

type noticeKind uint8

const (
	entryChanged noticeKind = iota
	dirChanged
	namesForgotten
	contentDropped
)

// notifier tells the kernel what to forget. It is the fs.Notifier of a mount.
//
// A notification takes kernel locks that a request may hold which waits for
// us, so it is never sent from a handler, each has its own goroutine, and one
// that is stuck for longer than notifyPatience is left to itself. No more than
// maxStuck may be; then the queue waits. All end when the connection does,
// and close, which is called after that, waits for them.
type notifier struct {
	log     *slog.Logger
	send    func(notice) syscall.Errno
	patient time.Duration

	mu      sync.Mutex
	queue   []notice        // guarded by mu
	waiting map[notice]bool // what is in queue; guarded by mu
	later   []notice        // to be queued after a while; guarded by mu
	closed  bool            // guarded by mu
	pending int             // queued or under way; guarded by mu
	idle    []chan struct{} // closed when pending is 0; guarded by mu
	wake    chan struct{}   // capacity 1: there may be something in queue
	stop    chan struct{}
	ended   sync.WaitGroup
	slots   chan struct{} // one token for each notification under way
}

const (
	notifyPatience = 5 * time.Second
	maxStuck       = 8
)

func newNotifier(log *slog.Logger, patience time.Duration, send func(notice) syscall.Errno) *notifier {
	n := &notifier{
		log: log, send: send, patient: patience,
		waiting: make(map[notice]bool),
		wake:    make(chan struct{}, 1),
		stop:    make(chan struct{}),
		slots:   make(chan struct{}, maxStuck),
	}
	n.ended.Go(n.run)
	return n
}

// EntryChanged implements fs.Notifier.
func (n *notifier) EntryChanged(dir uint64, name string) {
	n.put(notice{kind: entryChanged, ino: dir, name: name})
}

// DirChanged implements fs.Notifier.
func (n *notifier) DirChanged(dir uint64) { n.put(notice{kind: dirChanged, ino: dir}) }

// NamesForgotten implements fs.Notifier.
func (n *notifier) NamesForgotten(dir uint64) { n.put(notice{kind: namesForgotten, ino: dir}) }

// ContentDropped implements fs.Notifier.
func (n *notifier) ContentDropped(ino uint64) { n.put(notice{kind: contentDropped, ino: ino}) }

func (n *notifier) put(x notice) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed || n.waiting[x] {
		return
	}
	n.waiting[x] = true
	n.pending++
	n.queue = append(n.queue, x)
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// putLater queues x after a while, with what else is to be queued then, if the
// notifier is not closed by that time.
func (n *notifier) putLater(x notice, after time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.later = append(n.later, x)
	if len(n.later) > 1 {
		return // it goes with the first
	}
	n.ended.Go(func() { // from a notification, so close has not returned
		timer := time.NewTimer(2 * after) // at least after for the last of them
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-n.stop:
			return
		}
		n.mu.Lock()
		later := n.later
		n.later = nil
		n.mu.Unlock()
		for _, x := range later {
			n.put(x)
		}
	})
}

// take empties the queue.
func (n *notifier) take() []notice {
	n.mu.Lock()
	defer n.mu.Unlock()
	q := n.queue
	n.queue = nil
	clear(n.waiting)
	return q
}

func (n *notifier) run() {
	for {
		select {
		case <-n.stop:
			return
		case <-n.wake:
		}
		for _, x := range n.take() {
			if !n.deliver(x) {
				return
			}
			n.delivered()
		}
	}
}

func (n *notifier) delivered() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.pending--; n.pending <= 0 {
		n.idleLocked()
	}
}

func (n *notifier) idleLocked() {
	n.pending = 0
	for _, c := range n.idle {
		close(c)
	}
	n.idle = nil
}

// wait returns when nothing is queued or under way, or ctx ends.
func (n *notifier) wait(ctx context.Context) {
	n.mu.Lock()
	if n.pending == 0 {
		n.mu.Unlock()
		return
	}
	done := make(chan struct{})
	n.idle = append(n.idle, done)
	n.mu.Unlock()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// Told returns when the kernel was told about all that changed in the tree
// before, or ctx ends. A request must not wait for it but briefly.
func (s *Server) Told(ctx context.Context) {
	s.tree.Told(ctx)
	s.notifier.wait(ctx)
}

// deliver sends x and waits for the kernel, but not for ever. It returns false
// when the notifier is closed.
func (n *notifier) deliver(x notice) bool {
	select {
	case n.slots <- struct{}{}:
	case <-n.stop:
		return false
	}
	sent := make(chan syscall.Errno, 1)
	n.ended.Go(func() {
		sent <- n.send(x)
		<-n.slots
	})
	timer := time.NewTimer(n.patient)
	defer timer.Stop()
	select {
	case no := <-sent:
		// ENOENT: the kernel had forgotten it already.
		if no != 0 && no != syscall.ENOENT {
			n.log.Debug("the kernel refused a notification", "ino", x.ino, "name", x.name, "errno", no.Error())
		}
		return true
	case <-timer.C:
		n.log.Warn("a notification to the kernel is stuck", "ino", x.ino, "name", x.name)
		return true
	case <-n.stop:
		return false
	}
}

// close drops what waits and waits for what is under way.
func (n *notifier) close() {
	n.mu.Lock()
	already := n.closed
	n.closed = true
	n.queue = nil
	clear(n.waiting)
	n.idleLocked()
	n.mu.Unlock()
	if !already {
		close(n.stop)
	}
	n.ended.Wait()
}

// notify performs x. Pages of a file that is open are left alone: to drop them
// the kernel waits for each page that is being read, which may be a read that
// waits for the very fetch that found the damage. Its attributes are dropped,
// and the next open drops the pages (fileNode.Open).
func (s *Server) notify(x notice) syscall.Errno {
	n := s.live.find(x.ino)
	if n == nil {
		return 0
	}
	inode := n.EmbeddedInode()
	if d, ok := n.(*dirNode); ok && !x.again && d.askedLately() {
		x.again = true
		s.notifier.putLater(x, answerPatience)
	}
	switch x.kind {
	case entryChanged:
		return inode.NotifyEntry(x.name)
	case namesForgotten:
		for name := range inode.Children() {
			if no := inode.NotifyEntry(name); no != 0 && no != syscall.ENOENT {
				return no
			}
		}
		return inode.NotifyContent(0, 0)
	case dirChanged:
		return inode.NotifyContent(0, 0)
	}
	if f, ok := n.(*fileNode); ok && f.busy() {
		return inode.NotifyContent(-1, 0)
	}
	return inode.NotifyContent(0, 0)
}
