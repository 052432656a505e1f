package fs

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"hfmount/remote/hub"
	"hfmount/writeback"
)

const (
	// checkLimit ends a check that gets no answer.
	checkLimit = time.Minute
	// checksAtOnce bounds the checks of different views at a time.
	checksAtOnce = 4
)

// watch looks at the branches in use, until the tree is closed.
func (t *Tree) watch() {
	tick := time.NewTicker(t.refresh)
	defer tick.Stop()
	for {
		select {
		case <-t.sp.ctx.Done():
			return
		case <-tick.C:
		}
		_ = t.checkAll(t.sp.ctx, true) // logged there
	}
}

// Refresh looks at every branch in use now, and returns when views have moved.
// The error joins those of the branches that could not be looked at, which
// keep showing what they showed.
func (t *Tree) Refresh(ctx context.Context) error { return t.checkAll(ctx, false) }

func (t *Tree) checkAll(ctx context.Context, usedOnly bool) error {
	var g errgroup.Group
	g.SetLimit(checksAtOnce)
	var mu sync.Mutex
	var errs []error
	for _, v := range t.resolved() {
		if v.pinned || t.offline || (usedOnly && !v.used.Swap(false)) {
			continue
		}
		g.Go(func() error {
			_, joined, err := t.checking.do(ctx, v, v.check)
			if joined && !usedOnly {
				// The one under way may have looked before we were called.
				_, _, err = t.checking.do(ctx, v, v.check)
			}
			if err != nil {
				mu.Lock()
				errs = append(errs, fmt.Errorf("%s: %w", hub.Location{Ref: v.ref}, err))
				mu.Unlock()
			}
			return nil
		})
	}
	_ = g.Wait()
	return errors.Join(errs...)
}

// check looks where the branch stands and moves the view there. If anything
// fails the view stays as it is.
func (v *view) check(ctx context.Context) (struct{}, error) {
	ctx, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	st := v.cur.Load()
	moved, err := v.advance(ctx, st)
	v.mu.Lock()
	first := v.failed.IsZero()
	if err == nil {
		v.checked, v.failed = v.t.now(), time.Time{}
	} else {
		v.failed = v.t.now()
	}
	v.mu.Unlock()
	switch {
	case err == nil || !first: // it was said
	case errors.Is(err, iofs.ErrNotExist) || errors.Is(err, iofs.ErrPermission):
		// Deleted, or access was taken away. What was shown stays readable as
		// far as the Hub or the cache lets it.
		v.t.log.Warn("the reference is gone, its last commit stays", "ref", hub.Location{Ref: v.ref}.String(), "commit", st.snap.Commit, "error", err)
	case ctx.Err() == nil:
		v.t.log.Info("cannot look at the branch", "ref", hub.Location{Ref: v.ref}.String(), "error", err)
	}
	if moved != nil {
		v.t.log.Info("the branch has moved", "ref", hub.Location{Ref: v.ref}.String(), "from", st.snap.Commit, "to", moved.snap.Commit)
	}
	return struct{}{}, err
}

// advance returns the state it moved to, nil if the branch stands where it did.
func (v *view) advance(ctx context.Context, st *state) (*state, error) {
	head, err := v.t.src.Head(ctx, st.snap.Ref)
	if err != nil {
		return nil, err
	}
	if !head.Valid() {
		return nil, badAnswer("%s stands at commit %q", hub.Location{Ref: v.ref}, head)
	}
	if head == st.snap.Commit {
		return nil, nil
	}
	snap, err := v.ask(ctx)
	if err != nil {
		return nil, err
	}
	if snap.Commit == st.snap.Commit {
		return nil, nil
	}
	next := newState(v, snap)
	next.prev.Store(st)
	news, err := v.compare(ctx, st, next)
	if err != nil {
		return nil, err
	}
	v.cur.Store(next)
	if v.over != nil {
		v.over.passed(snap.Commit)
	}
	st.prev.Store(nil) // or every state ever would be kept
	v.t.meta.keepRef(v.ref, snap)
	v.t.tell(news)
	return next, nil
}

// compare lists, at the new state, the directories that the kernel knows names
// of, and returns what to tell it. After it those directories cost no request.
func (v *view) compare(ctx context.Context, old, next *state) ([]note, error) {
	places, hidden := v.places(ctx)
	paths := make([]string, 0, len(places))
	for p := range places {
		paths = append(paths, p)
	}
	slices.Sort(paths)

	var news []note
	same := "" // a directory whose tree is unchanged, and so all below it
	for _, path := range paths {
		if same != "" && (path == same || strings.HasPrefix(path, same+"/")) {
			continue
		}
		was := old.local(path)
		at, err := next.key(ctx, path)
		switch {
		case errors.Is(err, iofs.ErrNotExist) || errors.Is(err, ErrNotDir):
			// The listing above says so, and that the name there has changed.
			for _, ino := range places[path] {
				news = append(news, note{kind: dirChanged, ino: ino})
			}
			continue
		case err != nil:
			return nil, err
		}
		if was != nil && was.key == at.key {
			same = path
			continue
		}
		is, err := next.load(ctx, path, at)
		if err != nil {
			return nil, err
		}
		names := hidden(path)
		for _, ino := range places[path] {
			news = append(news, differences(ino, was, is, names)...)
		}
	}
	return news, nil
}

// places returns the directories of which the kernel may know names, by path,
// with their numbers at each place of the mount, and what says which names of
// one are shown by local changes, whatever the branch has.
func (v *view) places(ctx context.Context) (places map[string][]uint64, hidden func(path string) map[string]writeback.Kind) {
	places = make(map[string][]uint64)
	hidden = func(string) map[string]writeback.Kind { return nil }
	if o := v.over; o != nil {
		o.mu.Lock()
		o.root.live(func(s *spot) {
			for _, alias := range s.shownAt {
				places[s.where()] = append(places[s.where()], s.num(&anchor{v, alias}))
			}
		})
		o.mu.Unlock()
		if layer := o.look(ctx); layer != nil {
			hidden = func(path string) map[string]writeback.Kind { return layer.Dir(path).Names }
		}
		return places, hidden
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for at := range v.dirs {
		a := &anchor{v, at.alias}
		places[at.path] = append(places[at.path], a.dirIno(at.path))
	}
	return places, hidden
}

// differences lists the names of the directory with number dir that show
// something else, but for the hidden ones. was is nil if it is not known any
// more what was shown.
func differences(dir uint64, was, is *listing, hidden map[string]writeback.Kind) []note {
	var news []note
	changed := func(name string) {
		if _, ok := hidden[name]; !ok {
			news = append(news, note{kind: entryChanged, ino: dir, name: name})
		}
	}
	if was == nil {
		// Names that are gone are only known to whoever holds them, and names
		// that are here may be believed not to exist.
		for i := range is.items {
			changed(is.items[i].name)
		}
		return append(news, note{kind: namesForgotten, ino: dir})
	}
	if was.version == is.version {
		return nil
	}
	i, j := 0, 0
	for i < len(was.items) || j < len(is.items) {
		switch {
		case j == len(is.items) || (i < len(was.items) && was.items[i].name < is.items[j].name):
			changed(was.items[i].name)
			i++
		case i == len(was.items) || is.items[j].name < was.items[i].name:
			changed(is.items[j].name)
			j++
		default:
			// A directory that stays one is the same node with other names in
			// it, which are told about there.
			if was.items[i].kind != is.items[j].kind ||
				(is.items[j].kind == hub.File && !sameContent(was, is, i, j)) {
				changed(is.items[j].name)
			}
			i, j = i+1, j+1
		}
	}
	return append(news, note{kind: dirChanged, ino: dir})
}
