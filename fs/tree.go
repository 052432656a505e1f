package fs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"hfmount/blockcache"
	"hfmount/remote/hub"
)

// Options configures [New].
type Options struct {
	// Source is asked for everything but bytes that Cache holds.
	Source Source
	// Cache holds contents. Without one, files can be looked at but not opened.
	Cache *blockcache.Cache
	// MetaDir keeps listings, references and times across mounts. It belongs
	// to one endpoint; several processes may share it. Empty: memory only.
	MetaDir string
	// Refresh is how often a branch in use is looked at; 0: never again.
	Refresh time.Duration
	// Offline answers from MetaDir and Cache alone; what they do not hold
	// fails with hub.ErrOffline.
	Offline bool
	// Layers gives branches their local changes; nil is a tree that is only read.
	Layers Layers
	// WaitFor is what fsync waits for under --sync=remote; nil is nothing.
	WaitFor func(ctx context.Context, ref hub.Ref, path string) error
	Now     func() time.Time // nil is time.Now
	Logger  *slog.Logger     // nil is silence
}

// Tree is a live view of one or more references. It is safe for concurrent use.
//
// Lock order: all mutexes of the package but those of an overlay, which says
// its own, are leaves: none is held while another is taken. None at all is
// held across a request or a call of the Notifier.
type Tree struct {
	src     Source
	cache   *blockcache.Cache
	meta    *meta
	memo    memo
	refresh time.Duration
	offline bool
	layers  Layers
	waitFor func(ctx context.Context, ref hub.Ref, path string) error
	now     func() time.Time
	started time.Time
	log     *slog.Logger

	sp        *spawner
	resolving *flights[*view, *state]
	checking  *flights[*view, struct{}]
	loading   *flights[loadKey, *listing]

	mu    sync.Mutex
	views map[hub.Ref]*view // with the revision spelt out

	hubs     hubs
	ahead    *ahead // nil without anything to fetch
	notes    notes
	contents contents
}

// New makes a tree. It does no I/O. The caller closes it.
func New(o Options) (*Tree, error) {
	if o.Source == nil {
		return nil, errors.New("fs: no Source")
	}
	t := &Tree{
		src: o.Source, cache: o.Cache, refresh: max(o.Refresh, 0), offline: o.Offline, layers: o.Layers, waitFor: o.WaitFor,
		now: o.Now, log: o.Logger, sp: newSpawner(), views: make(map[hub.Ref]*view),
	}
	if t.now == nil {
		t.now = time.Now
	}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	t.started = t.now()
	t.meta = &meta{o.MetaDir, t.log}
	var err error
	if o.MetaDir == "" {
		t.memo, err = newLRUMemo()
	} else {
		t.memo, err = newHotMemo()
	}
	if err != nil {
		return nil, err
	}
	t.resolving = newFlights[*view, *state](t.sp)
	t.checking = newFlights[*view, struct{}](t.sp)
	t.loading = newFlights[loadKey, *listing](t.sp)
	t.notes.wake = make(chan struct{}, 1)
	t.contents.shown = make(map[hub.ContentID]map[uint64]struct{})
	t.contents.epochs = make(map[hub.ContentID]uint64)
	if err := t.hubs.init(t.sp); err != nil {
		t.memo.close()
		return nil, err
	}
	t.ahead = aheadOf(t)
	t.sp.start(t.deliver)
	if t.refresh > 0 && !t.offline {
		t.sp.start(t.watch)
	}
	return t, nil
}

// Close ends background work and waits for it; a call of the Notifier under
// way is waited for as well. Open handles stay usable.
func (t *Tree) Close() error {
	t.sp.close()
	t.memo.close()
	return nil
}

// Root resolves loc and returns the directory it names; the zero Location is
// the whole Hub. A location that is a file fails with ErrNotDir.
func (t *Tree) Root(ctx context.Context, loc hub.Location) (*Dir, error) {
	n, err := t.Node(ctx, loc)
	if err != nil {
		return nil, err
	}
	d, ok := n.(*Dir)
	if !ok {
		return nil, fmt.Errorf("%s: %w", loc, ErrNotDir)
	}
	return d, nil
}

// Node resolves loc to whatever it names, a *Dir or a *File. An id that was
// renamed is followed.
func (t *Tree) Node(ctx context.Context, loc hub.Location) (Node, error) {
	if loc.Repo.IsZero() {
		return &Dir{&hubRoot{t}}, nil
	}
	a := &anchor{view: t.view(loc.Ref), alias: aliasOf(loc.Revision)}
	var node Node
	if a.view.over != nil {
		return a.walk(ctx, loc.Path)
	}
	err := a.view.afresh(ctx, func(st *state) error {
		if loc.Path == "" {
			node = a.dir("")
			return nil
		}
		l, i, err := st.lookup(ctx, loc.Path)
		if err == nil {
			dir, _ := split(loc.Path)
			node = a.child(st, dir, l, i)
		}
		return err
	})
	if err != nil {
		t.forget(a.view)
		return nil, err
	}
	return node, nil
}

// walk finds a path of a writable view.
func (a *anchor) walk(ctx context.Context, path string) (Node, error) {
	if _, err := a.view.use(ctx); err != nil {
		a.view.t.forget(a.view)
		return nil, err
	}
	dir := a.dir("")
	for path != "" {
		name, rest, _ := strings.Cut(path, "/")
		n, err := dir.Lookup(ctx, name)
		if err != nil || rest == "" {
			return n, err
		}
		var ok bool
		if dir, ok = n.(*Dir); !ok {
			return nil, fmt.Errorf("%s: %w", name, ErrNotDir)
		}
		path = rest
	}
	return dir, nil
}

// aliasOf is the alias of a revision written behind an "@".
func aliasOf(revision string) string {
	if revision == "" {
		return ""
	}
	return "@" + revision
}

// View says what a node belongs to.
type View struct {
	Snapshot hub.Snapshot
	Checked  time.Time // when the branch was last looked at with success
	Files    int64     // entries in listings held
}

// Views returns the views in use, for status.
func (t *Tree) Views() []View {
	var out []View
	for _, v := range t.resolved() {
		st := v.cur.Load()
		st.mu.Lock()
		files := st.files
		st.mu.Unlock()
		v.mu.Lock()
		checked := v.checked
		v.mu.Unlock()
		out = append(out, View{st.snap, checked, files})
	}
	return out
}

// resolved returns the views that have a state, in a fixed order.
func (t *Tree) resolved() []*view {
	t.mu.Lock()
	var out []*view
	for _, v := range t.views {
		if v.cur.Load() != nil {
			out = append(out, v)
		}
	}
	t.mu.Unlock()
	slices.SortFunc(out, func(a, b *view) int {
		return cmp.Or(cmp.Compare(a.ref.Repo.String(), b.ref.Repo.String()), cmp.Compare(a.ref.Revision, b.ref.Revision))
	})
	return out
}
