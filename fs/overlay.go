package fs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"hfmount/remote/hub"
	"hfmount/writeback"
)

// overlay shows the local changes of a branch over its view, and knows which
// directory and file of the mount is which, wherever they are moved to.
//
// Names have one order of events: whoever changes one holds ops from the look
// it decides by to the tables it changes. Whoever only looks takes no lock
// that is held across I/O: it reads the layer, then the snapshot, and uses
// what it saw only if seq says that no name changed meanwhile. The layer comes
// first because a commit is in the snapshot before it leaves the layer.
//
// Lock order: ops, Handle.mu, mu, the layer's own.
type overlay struct {
	v *view

	layer atomic.Pointer[writeback.Layer] // nil: no local changes so far
	late  atomic.Int64                    // when to ask for the layer again, Unix nanoseconds

	ops sync.Mutex
	seq atomic.Uint64 // odd while names change

	mu    sync.Mutex
	root  *spot
	moved map[uint64]weak.Pointer[inode] // whoever has a number that is not its place's; guarded by mu
	away  map[uint64]weak.Pointer[spot]  // the same for directories; guarded by mu
	sweep int                            // the size of both at which the dead are taken out; guarded by mu
	kept  *simplelru.LRU[any, struct{}]  // of *inode and *spot that are worth keeping; guarded by mu
	seen  *simplelru.LRU[string, glance] // the last open by path; guarded by mu
	count uint64                         // of fresh numbers; guarded by mu
	past  []hub.CommitID                 // the last commits shown; guarded by mu
}

const (
	// maxKept bounds what survives the kernel's memory: modes, owners, times
	// and numbers that are not the ones a new look would give.
	maxKept = 1 << 16
	// maxSeen and seenFor bound for how many files, and how long, an open
	// counts as the base of a later change (design: Conflicts).
	maxSeen = 10_000
	seenFor = 10 * time.Minute
	// layerRetry is how long a failure to get at the layer is believed.
	layerRetry = 10 * time.Second
	maxPast    = 64
)

// glance is what a path showed when it was last opened.
type glance struct {
	at   time.Time
	base writeback.Base
}

// overlayOf makes the overlay of a view that may be written, else nil.
func (t *Tree) overlayOf(v *view) *overlay {
	if t.layers == nil || v.pinned || t.offline || !t.layers.MayWrite(v.ref) {
		return nil
	}
	o := &overlay{v: v, moved: make(map[uint64]weak.Pointer[inode]), away: make(map[uint64]weak.Pointer[spot]), sweep: 1 << 10}
	o.root = newSpot(o, nil, "", seedOf{})
	// The only error is a size that is not positive.
	o.kept, _ = simplelru.NewLRU[any, struct{}](maxKept, nil)
	o.seen, _ = simplelru.NewLRU[string, glance](maxSeen, nil)
	return o
}

// look returns the layer if there are local changes.
func (o *overlay) look(ctx context.Context) *writeback.Layer {
	if l := o.layer.Load(); l != nil {
		return l
	}
	now := o.v.t.now()
	if o.late.Load() > now.UnixNano() {
		return nil
	}
	l, err := o.v.t.layers.Layer(ctx, o.v.ref, false)
	switch {
	case err == nil && l == nil:
		// From now on it is this tree that makes it, by writable.
		o.late.Store(1<<63 - 1)
	case err == nil:
		o.layer.CompareAndSwap(nil, l)
	case ctx.Err() == nil:
		o.late.Store(now.Add(layerRetry).UnixNano())
		o.v.t.log.Warn("local changes cannot be shown", "ref", hub.Location{Ref: o.v.ref}.String(), "error", err)
	}
	return o.layer.Load()
}

// writable returns the layer for a change.
func (o *overlay) writable(ctx context.Context) (*writeback.Layer, error) {
	if l := o.layer.Load(); l != nil {
		return l, nil
	}
	l, err := o.v.t.layers.Layer(ctx, o.v.ref, true)
	if err != nil {
		return nil, err
	}
	if l == nil {
		return nil, ErrReadOnly
	}
	o.layer.CompareAndSwap(nil, l)
	return o.layer.Load(), nil
}

// needed is a listing that is not at hand. It is never seen by callers.
type needed struct{ path string }

func (n *needed) Error() string { return n.path + " is not listed yet" }

// sight is one consistent look at names: the layer, then the snapshot.
type sight struct {
	o       *overlay
	layer   *writeback.Layer // nil: no changes
	version uint64           // of the layer
	st      *state
	// ctx is set where requests may be made; else what is not at hand is
	// *needed, and had holds what was loaded for this operation.
	ctx context.Context
	had map[heldAt]*listing // nil: there is no such directory
}

// heldAt names a directory of a snapshot.
type heldAt struct {
	root gitID
	path string
}

// listing returns the listing of a directory of the snapshot, nil if there is
// none.
func (s *sight) listing(path string) (*listing, error) {
	if s.ctx != nil {
		l, err := s.st.listing(s.ctx, path)
		if absent(err) {
			return nil, nil
		}
		return l, err
	}
	key := heldAt{s.st.root, path}
	if l, ok := s.had[key]; ok {
		return l, nil
	}
	at := s.st.rootAt()
	if path != "" {
		parent, name := split(path)
		l, err := s.listing(parent)
		if err != nil {
			return nil, err
		}
		i, ok := 0, false
		if l != nil {
			i, ok = l.find(name)
		}
		if !ok || l.items[i].kind != hub.Directory {
			s.had[key] = nil
			return nil, nil
		}
		at = l.treeAt(i)
	}
	l := s.st.onHand(path, at.key)
	if l == nil {
		return nil, &needed{path}
	}
	s.had[key] = l
	return l, nil
}

// begin notes what the layer is at, before the snapshot is taken.
func (s *sight) begin() {
	if s.layer != nil {
		s.version = s.layer.Version()
	}
}

// raced reports whether the layer changed since begin: what was missed in it
// may be in a later snapshot only.
func (s *sight) raced() bool { return s.layer != nil && s.layer.Version() != s.version }

// absent reports whether err says for certain that there is no such directory.
func absent(err error) bool {
	if err == nil {
		return false
	}
	var g *goneError
	return !errors.As(err, &g) && (gone(err) || errors.Is(err, ErrNotDir))
}

// change runs f with the names locked, until it has all listings that it needs
// and the layer takes its edits. f makes no request, and takes effect at once
// or not at all: it is run again when it needs a listing or was raced by the
// queue.
func (o *overlay) change(ctx context.Context, f func(*sight) error) error {
	if _, err := o.writable(ctx); err != nil {
		return err
	}
	return o.locked(ctx, f)
}

// locked is change for an f that edits nothing.
func (o *overlay) locked(ctx context.Context, f func(*sight) error) error {
	had := make(map[heldAt]*listing)
	for {
		if _, err := o.v.use(ctx); err != nil {
			return err
		}
		err := o.try(ctx, had, f)
		var need *needed
		switch {
		case errors.As(err, &need):
			err = o.v.afresh(ctx, func(st *state) error {
				l, err := st.listing(ctx, need.path)
				if absent(err) {
					l, err = nil, nil
				}
				if err == nil {
					had[heldAt{st.root, need.path}] = l
				}
				return err
			})
			if err != nil {
				return err
			}
		case errors.Is(err, writeback.ErrRaced):
			if err := ctx.Err(); err != nil {
				return err
			}
		default:
			return err
		}
	}
}

func (o *overlay) try(ctx context.Context, had map[heldAt]*listing, f func(*sight) error) error {
	layer := o.look(ctx) // may do I/O
	o.ops.Lock()
	defer o.ops.Unlock()
	s := &sight{o: o, layer: layer, had: had}
	s.begin()
	s.st = o.v.cur.Load()
	err := f(s)
	if err != nil && s.raced() {
		return writeback.ErrRaced // what it failed for may not be so
	}
	return err
}

// commit applies the edits of a change and then runs done, which brings the
// tables up to date with mu held. ops is held. Between the two nobody who
// looks believes what the tables say.
func (s *sight) commit(edits []writeback.Edit, done func()) error {
	o := s.o
	o.seq.Add(1)
	defer o.seq.Add(1)
	if len(edits) > 0 {
		if err := s.layer.Apply(s.version, edits...); err != nil {
			return err
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	done()
	return nil
}

// baseOf is what a change of a path is held against: what the path showed when
// it was last opened, if that was lately, else what it shows now.
func (s *sight) baseOf(path string) (writeback.Base, error) {
	o := s.o
	o.mu.Lock()
	g, ok := o.seen.Get(path)
	o.mu.Unlock()
	if ok && o.v.t.now().Sub(g.at) <= seenFor {
		return g.base, nil
	}
	dir, name := split(path)
	l, err := s.listing(dir)
	if err != nil {
		return writeback.Base{}, err
	}
	return s.baseIn(l, name), nil
}

// baseIn is what the snapshot has; l may be nil.
func (s *sight) baseIn(l *listing, name string) writeback.Base {
	b := writeback.Base{Commit: s.st.snap.Commit}
	if l != nil {
		if i, ok := l.find(name); ok && l.items[i].kind == hub.File {
			e := l.entry(i)
			b.Entry = &e
		}
	}
	return b
}

// opened remembers what a path showed to somebody who reads it.
func (o *overlay) opened(path string, b writeback.Base) {
	now := o.v.t.now()
	o.mu.Lock()
	o.seen.Add(path, glance{now, b})
	o.mu.Unlock()
}

// maxHubPath is the longest path of a repository, in bytes (hub-protocol §6.4).
const maxHubPath = 1000

// checkNew says why a name cannot be given.
func checkNew(dir, name string) error {
	fail := func(err error, why string) error {
		return fmt.Errorf("%s: %w: %s", join(dir, name), err, why)
	}
	switch {
	case len(name) > hub.MaxName:
		return fmt.Errorf("%s…: %w", name[:32], ErrNameTooLong)
	case len(join(dir, name)) > maxHubPath:
		return fail(ErrNameTooLong, "longer than the Hub takes")
	case strings.IndexByte(name, '\\') >= 0:
		return fail(errInvalid, "the Hub takes no backslash")
	}
	if err := hub.CheckName(name); err != nil {
		return fail(errInvalid, err.Error())
	}
	return nil
}
