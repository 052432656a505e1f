package fs

import (
	"context"
	"fmt"
	iofs "io/fs"
	"strings"
	"time"

	"hfmount/remote/hub"
)

// loadKey names a listing to load. Two states may share it.
type loadKey struct {
	repo hub.Repo
	dir  string
	key  gitID
}

// listing returns the listing of a directory. io/fs.ErrNotExist is certain.
func (st *state) listing(ctx context.Context, path string) (*listing, error) {
	at, err := st.key(ctx, path)
	if err != nil {
		return nil, err
	}
	return st.load(ctx, path, at)
}

// treeAt is what the listing above says of a directory.
type treeAt struct {
	key  gitID // the git tree; for the root, the commit
	date int64 // since when it is so, as far as this cache knows
}

func (st *state) rootAt() treeAt { return treeAt{st.root, st.date().UnixMilli()} }

func (l *listing) treeAt(i int) treeAt { return treeAt{l.items[i].oid, l.items[i].mtime} }

// key finds a directory. io/fs.ErrNotExist is certain.
func (st *state) key(ctx context.Context, path string) (treeAt, error) {
	if path == "" {
		return st.rootAt(), nil
	}
	parent, name := split(path)
	l, err := st.listing(ctx, parent)
	if err != nil {
		return treeAt{}, err
	}
	i, ok := l.find(name)
	if !ok {
		return treeAt{}, missing(path)
	}
	if l.items[i].kind != hub.Directory {
		return treeAt{}, fmt.Errorf("%s: %w", path, ErrNotDir)
	}
	return l.treeAt(i), nil
}

// local returns the listing if no request is needed for it, or nil.
func (st *state) local(path string) *listing {
	key := st.root
	if path != "" {
		parent, name := split(path)
		l := st.local(parent)
		if l == nil {
			return nil
		}
		i, ok := l.find(name)
		if !ok || l.items[i].kind != hub.Directory {
			return nil
		}
		key = l.items[i].oid
	}
	return st.onHand(path, key)
}

// onHand looks for one listing in memory and on disk.
func (st *state) onHand(path string, key gitID) *listing {
	t, repo := st.v.t, st.snap.Ref.Repo
	mk := memoKey(repo, path, key)
	l, ok := t.memo.get(mk)
	if ok && l.repo == repo && l.dir == path && l.key == key {
		return l
	}
	if l = t.meta.listing(repo, path, key); l != nil {
		t.memo.put(mk, l)
	}
	return l
}

// has reports whether onHand would find something, without reading it.
func (st *state) has(path string, key gitID) bool {
	t, repo := st.v.t, st.snap.Ref.Repo
	if l, ok := t.memo.get(memoKey(repo, path, key)); ok && l.repo == repo && l.dir == path && l.key == key {
		return true
	}
	return t.meta.has(repo, path, key)
}

func (st *state) load(ctx context.Context, path string, at treeAt) (*listing, error) {
	t, repo, key := st.v.t, st.snap.Ref.Repo, at.key
	mk := memoKey(repo, path, key)
	if l, ok := t.memo.get(mk); ok && l.repo == repo && l.dir == path && l.key == key {
		st.count(mk, l)
		return l, nil
	}
	l, _, err := t.loading.do(ctx, loadKey{repo, path, key}, func(ctx context.Context) (*listing, error) {
		if l := st.onHand(path, key); l != nil {
			return l, nil
		}
		if t.offline {
			return nil, fmt.Errorf("%s: %w", st.where(path), hub.ErrOffline)
		}
		st.asked(path)
		return st.fetch(ctx, path, at)
	})
	if err != nil {
		return nil, err
	}
	st.count(mk, l)
	return l, nil
}

func (st *state) where(path string) hub.Location {
	return hub.Location{Ref: hub.Ref{Repo: st.snap.Ref.Repo, Revision: st.snap.Ref.Revision}, Path: path}
}

// count keeps the number that status shows.
func (st *state) count(mk uint64, l *listing) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if _, ok := st.held[mk]; !ok {
		st.held[mk] = struct{}{}
		st.files += int64(len(l.items))
	}
}

// fetch asks the Hub for one level. Only a complete listing without a flaw is
// kept.
func (st *state) fetch(ctx context.Context, path string, at treeAt) (*listing, error) {
	b := &builder{dir: path}
	for e, err := range st.v.t.src.List(ctx, st.snap, path, false) {
		if gone(err) {
			return nil, &goneError{st.where(path).String(), err}
		}
		if err == nil {
			err = b.add(e)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", st.where(path), err)
		}
	}
	l, err := st.finish(b, at)
	if err == nil {
		st.keep(l)
	}
	return l, err
}

// finish turns lines into a listing.
func (st *state) finish(b *builder, at treeAt) (*listing, error) {
	l, err := b.finish(st.snap.Ref.Repo, at, st.earlier(b.dir))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", st.where(b.dir), err)
	}
	return l, nil
}

// keep makes a listing stay.
func (st *state) keep(l *listing) {
	st.v.t.meta.keep(l)
	st.v.t.memo.put(memoKey(l.repo, l.dir, l.key), l)
}

// date is the time of what is first seen in this state.
func (st *state) date() time.Time {
	if st.snap.Time.IsZero() {
		return time.Unix(0, 0)
	}
	return st.snap.Time
}

// earlier returns listings of the path from which times are inherited: what
// the view showed before, then what any view of the repository did lately.
func (st *state) earlier(path string) []*listing {
	var out []*listing
	if prev := st.prev.Load(); prev != nil {
		if l := prev.local(path); l != nil {
			out = append(out, l)
		}
	}
	return append(out, st.v.t.meta.recent(st.snap.Ref.Repo, path, 3)...)
}

// asked notes that a directory had to be asked for by itself. After a few that
// are not on one way down, everything is fetched at once in the background,
// which costs fewer requests; those who ask meanwhile do not wait for it.
func (st *state) asked(path string) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.filled {
		return
	}
	for i, leaf := range st.leaves {
		if leaf == "" || strings.HasPrefix(path, leaf+"/") {
			st.leaves[i] = path
			return
		}
		if path == leaf || path == "" || strings.HasPrefix(leaf, path+"/") {
			return
		}
	}
	st.leaves = append(st.leaves, path)
	if len(st.leaves) < fillAfter {
		return
	}
	st.filled, st.leaves = true, nil
	st.v.t.sp.start(func() { st.fill(st.v.t.sp.ctx) })
}

// lookup finds the listing that holds path, and its line there. path is not
// the root.
func (st *state) lookup(ctx context.Context, path string) (*listing, int, error) {
	dir, name := split(path)
	l, err := st.listing(ctx, dir)
	if err != nil {
		return nil, 0, err
	}
	i, ok := l.find(name)
	if !ok {
		return nil, 0, &iofs.PathError{Op: "lookup", Path: path, Err: iofs.ErrNotExist}
	}
	return l, i, nil
}
