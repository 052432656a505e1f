package fs

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"sync"
	"sync/atomic"
	"time"

	"hfmount/remote/hub"
)

// view is what stands behind a reference: a snapshot that moves whole.
type view struct {
	t      *Tree
	ref    hub.Ref // as asked; Revision is Rev()
	pinned bool
	over   *overlay // nil where nothing may be written

	cur  atomic.Pointer[state] // nil until resolved
	used atomic.Bool           // since the last check

	mu      sync.Mutex // leaf
	checked time.Time  // the last check that got an answer
	failed  time.Time  // the last check that did not, zero after one that did
	// dirs are the directories of which the kernel may remember names, by the
	// place in the mount that shows them. guarded by mu
	dirs map[dirAt]struct{}
}

// dirAt is a directory as shown at one place of the mount.
type dirAt struct {
	alias, path string
}

// maxDirs bounds view.dirs. Names in directories beyond it are believed for
// a TTL, instead of until they change.
const maxDirs = 1 << 16

// anchor is a place in the mount where a view is shown. One view may be shown
// at several, as NAME and NAME@main are, and each has inode numbers of its
// own: no directory may be in two places.
type anchor struct {
	view  *view
	alias string
}

// state is a view at one commit. All but the bookkeeping is fixed.
type state struct {
	v    *view
	snap hub.Snapshot
	root gitID // the commit

	// prev is the state before, from which unchanged files have their times.
	prev atomic.Pointer[state]

	mu     sync.Mutex          // leaf
	held   map[uint64]struct{} // listings counted in files
	files  int64
	leaves []string // directories asked for one by one, none above another
	filled bool     // a recursive listing was started
}

// fillAfter is how many directories, none above another, are listed one by one
// before it is taken for a walk over everything.
const fillAfter = 3

func newState(v *view, s hub.Snapshot) *state {
	st := &state{v: v, snap: s, held: make(map[uint64]struct{})}
	st.root, _ = parseID(string(s.Commit)) // callers checked it
	return st
}

// view returns the view of ref, which need not exist on the Hub.
func (t *Tree) view(ref hub.Ref) *view {
	ref.Revision = ref.Rev()
	t.mu.Lock()
	v := t.views[ref]
	t.mu.Unlock()
	if v != nil {
		return v
	}
	mine := &view{t: t, ref: ref, pinned: ref.Pinned(), dirs: make(map[dirAt]struct{})}
	mine.over = t.overlayOf(mine) // asks Layers, so without the lock
	t.mu.Lock()
	defer t.mu.Unlock()
	if v = t.views[ref]; v == nil {
		v = mine
		t.views[ref] = v
	}
	return v
}

// forget drops a view that could not be resolved, so that names that do not
// exist are not kept for ever.
func (t *Tree) forget(v *view) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if v.cur.Load() == nil && t.views[v.ref] == v {
		delete(t.views, v.ref)
	}
}

// adopt takes back a view that was forgotten while a node still had it.
func (t *Tree) adopt(v *view) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.views[v.ref] == nil {
		t.views[v.ref] = v
	}
}

// use returns the state to work on: the one call on it serves a request. A
// branch that nobody looked at for long is looked at first.
func (v *view) use(ctx context.Context) (*state, error) {
	st := v.cur.Load()
	if st == nil {
		var err error
		if st, _, err = v.t.resolving.do(ctx, v, v.resolve); err != nil {
			return nil, err
		}
	}
	v.used.Store(true)
	if v.stale() {
		wait, cancel := context.WithTimeout(ctx, idleCheck)
		_, _, err := v.t.checking.do(wait, v, v.check)
		cancel()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			// What is known is served. That it failed keeps others from
			// waiting as long.
			v.mu.Lock()
			v.failed = v.t.now()
			v.mu.Unlock()
		}
		st = v.cur.Load()
	}
	return st, nil
}

// idleCheck is how long a request waits for news of a branch that was idle.
const idleCheck = 5 * time.Second

func (v *view) moves() bool { return !v.pinned && !v.t.offline && v.t.refresh > 0 }

func (v *view) stale() bool {
	if !v.moves() {
		return false
	}
	now := v.t.now()
	v.mu.Lock()
	defer v.mu.Unlock()
	return now.Sub(v.checked) > 2*v.t.refresh && now.Sub(v.failed) > max(v.t.refresh, 2*idleCheck)
}

// resolve finds the first state: with one request, or none for a commit that
// was seen before.
func (v *view) resolve(ctx context.Context) (*state, error) {
	if st := v.cur.Load(); st != nil {
		return st, nil
	}
	saved, known := v.t.meta.snapshot(v.ref)
	if !known && v.pinned {
		saved, known = v.listedCommit()
	}
	if v.t.offline && !known {
		return nil, fmt.Errorf("%s: %w", hub.Location{Ref: v.ref}, hub.ErrOffline)
	}
	snap := saved
	if !v.t.offline && !(known && v.pinned) {
		var err error
		if snap, err = v.ask(ctx); err != nil {
			return nil, err
		}
		if !known || saved.Commit != snap.Commit || saved.Ref.Repo != snap.Ref.Repo || saved.Private != snap.Private || saved.Gated != snap.Gated {
			v.t.meta.keepRef(v.ref, snap)
		}
	}
	st := newState(v, snap)
	if known && saved.Commit != snap.Commit {
		st.prev.Store(newState(v, saved))
	}
	v.mu.Lock()
	v.checked = v.t.now()
	v.mu.Unlock()
	v.cur.Store(st)
	v.t.adopt(v)
	return st, nil
}

// listedCommit finds a commit whose root was listed under another revision.
func (v *view) listedCommit() (hub.Snapshot, bool) {
	key, ok := parseID(v.ref.Revision)
	if !ok {
		return hub.Snapshot{}, false
	}
	l := v.t.meta.listing(v.ref.Repo, "", key)
	if l == nil {
		return hub.Snapshot{}, false
	}
	return hub.Snapshot{Ref: v.ref, Commit: hub.CommitID(v.ref.Revision), Time: time.UnixMilli(l.date)}, true
}

// ask resolves the reference on the Hub, and believes nothing impossible.
func (v *view) ask(ctx context.Context) (hub.Snapshot, error) {
	snap, err := v.t.src.Resolve(ctx, v.ref)
	if err != nil {
		return hub.Snapshot{}, err
	}
	if !snap.Commit.Valid() || (v.pinned && string(snap.Commit) != v.ref.Revision) {
		return hub.Snapshot{}, badAnswer("%s stands at commit %q", hub.Location{Ref: v.ref}, snap.Commit)
	}
	if err := hub.CheckRepo(snap.Ref.Repo); err != nil {
		return hub.Snapshot{}, badAnswer("%s is called %q: %v", v.ref.Repo, snap.Ref.Repo.ID(), err)
	}
	snap.Ref.Revision = v.ref.Revision
	return snap, nil
}

// track remembers that the kernel may know names of the directory.
func (a *anchor) track(path string) {
	v := a.view
	at := dirAt{a.alias, path}
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, ok := v.dirs[at]; !ok && len(v.dirs) < maxDirs {
		v.dirs[at] = struct{}{}
	}
}

// tracks reports whether the kernel is told when names of the directory change.
func (a *anchor) tracks(path string) bool {
	if !a.view.moves() {
		return true // they do not
	}
	a.view.mu.Lock()
	defer a.view.mu.Unlock()
	_, ok := a.view.dirs[dirAt{a.alias, path}]
	return ok
}

// gone reports whether err says that the commit itself is lost, as after a
// super-squash. It is about things that were listed, so "not found" is news.
func gone(err error) bool {
	return errors.Is(err, iofs.ErrNotExist)
}

// afresh runs f on the current state, and once more if the commit turned out
// to be gone and the branch stands elsewhere.
func (v *view) afresh(ctx context.Context, f func(*state) error) error {
	st, err := v.use(ctx)
	if err != nil {
		return err
	}
	err = f(st)
	var g *goneError
	if !errors.As(err, &g) || v.pinned || v.t.offline {
		return err
	}
	if _, _, cerr := v.t.checking.do(ctx, v, v.check); cerr != nil {
		return err
	}
	if now := v.cur.Load(); now != st {
		return f(now)
	}
	return err
}

// ttl is how long the kernel may keep what the view shows.
func (v *view) ttl() time.Duration {
	if v.moves() {
		return v.t.refresh
	}
	return forever
}

const forever = 365 * 24 * time.Hour
