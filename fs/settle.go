package fs

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"hfmount/blockcache"
	"hfmount/remote/hub"
	"hfmount/writeback"
	"hfmount/writeback/staging"
)

// Content opens bytes that the Hub has, for a partial staging file. It is
// writeback.LayerOptions.Content.
func (t *Tree) Content(_ context.Context, p writeback.Place) (staging.Source, error) {
	if err := p.Entry.Check(); err != nil && p.Entry.OID != "" {
		return nil, badAnswer("%v", err)
	}
	if t.cache == nil {
		return nil, fmt.Errorf("reading %s without a cache: %w", p.Entry.Path, errors.ErrUnsupported)
	}
	return t.view(p.Snapshot.Ref).openPlace(&place{p.Snapshot, p.Entry})
}

// landWait is how long Landed waits for the branch to show a commit that the
// Hub said it made.
const landWait = 10 * time.Second

// Landed is writeback.Hooks.Landed for the view of ref: it takes the bytes into
// the cache, and moves the view to a snapshot that has the commit. It may be
// called again for the same commit. A commit to another branch, that of a pull
// request, moves nothing.
func (t *Tree) Landed(ctx context.Context, l writeback.Landing) error {
	ref := l.Ref
	ref.Revision = ref.Rev()
	t.mu.Lock()
	v := t.views[ref]
	t.mu.Unlock()
	if v == nil || v.over == nil || v.cur.Load() == nil {
		return nil // nobody looks
	}
	if l.Commit.PullRequest != nil && l.Commit.PullRequest.Ref() != ref.Revision {
		return nil
	}
	if err := v.reach(ctx, l); err != nil {
		return err
	}
	v.over.settle(ctx, l)
	return nil
}

// reach moves the view until it shows the commit or a later one.
func (v *view) reach(ctx context.Context, l writeback.Landing) error {
	ctx, cancel := context.WithTimeout(ctx, landWait)
	defer cancel()
	var ours time.Time // the date of the commit, once asked for
	pause := 100 * time.Millisecond
	for {
		if v.has(ctx, l) {
			return nil
		}
		if _, _, err := v.t.checking.do(ctx, v, v.check); err != nil {
			return fmt.Errorf("looking for commit %s: %w", l.Commit.ID.Short(), err)
		}
		if v.has(ctx, l) {
			return nil
		}
		// The branch is at another commit: a later one, or the Hub is not
		// through with ours.
		if ours.IsZero() {
			s, err := v.t.src.Resolve(ctx, hub.Ref{Repo: v.cur.Load().snap.Ref.Repo, Revision: string(l.Commit.ID)})
			switch {
			case err == nil:
				ours = s.Time
			case !errors.Is(err, iofs.ErrNotExist):
				return err
			}
		}
		// Dates have seconds: somebody else's commit on top may have ours.
		if st := v.cur.Load(); !ours.IsZero() && (st.snap.Time.After(ours) ||
			st.snap.Time.Equal(ours) && l.Parent != "" && st.snap.Commit != l.Parent) {
			return nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("the branch does not show commit %s yet: %w", l.Commit.ID.Short(), context.Cause(ctx))
		case <-timer.C:
		}
		pause = min(2*pause, 2*time.Second)
	}
}

// has reports whether the view shows the commit, or showed it before, or has
// all that it did.
func (v *view) has(ctx context.Context, l writeback.Landing) bool {
	st := v.cur.Load()
	o := v.over
	o.mu.Lock()
	shown := slices.Contains(o.past, l.Commit.ID)
	o.mu.Unlock()
	if shown || st.snap.Commit == l.Commit.ID {
		return true
	}
	if len(l.Files) == 0 || len(l.Files) < len(l.Paths) {
		return false // of the others it is not known here what became of them
	}
	for _, f := range l.Files {
		ls, i, err := st.lookup(ctx, f.Path)
		if err != nil || ls.items[i].kind != hub.File || ls.entry(i).Content() != f.Content {
			return false
		}
	}
	return true
}

// passed notes that the view shows a commit.
func (o *overlay) passed(id hub.CommitID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.past) >= maxPast {
		o.past = slices.Delete(o.past, 0, 1)
	}
	o.past = append(o.past, id)
}

// settle makes the files of a commit know that the Hub has their bytes: they
// stay what they are, number, node and times, when the layer lets go of them.
// What nobody writes to moves from staging into the cache on the way.
func (o *overlay) settle(ctx context.Context, l writeback.Landing) {
	st := o.v.cur.Load()
	o.mu.Lock()
	for _, path := range l.Paths {
		o.seen.Remove(path) // what was there before is not the base any more
	}
	o.mu.Unlock()
	layer := o.layer.Load()
	if layer == nil {
		return
	}
	for i := range l.Files {
		if ctx.Err() != nil {
			return
		}
		f := &l.Files[i]
		k := o.settleFile(layer, f, o.landed(st, l, f))
		if k == nil {
			continue
		}
		if gone := o.v.t.adoptFile(ctx, f); !gone {
			o.mu.Lock()
			k.adopted = false
			o.mu.Unlock()
			k.bytes.Add(1)
			continue
		}
		k.bytes.Add(1) // handles read from the cache from now on
	}
}

// settleFile tells the inode of a file that was committed that the Hub has its
// bytes as h. It returns the inode if its bytes may be moved away from staging:
// from then on it shows those of the cache.
func (o *overlay) settleFile(layer *writeback.Layer, f *writeback.LandedFile, h *held) *inode {
	dir, name := split(f.Path)
	o.ops.Lock()
	c, ok := layer.Get(f.Path)
	if !ok || c.Kind != writeback.Put || c.File == nil {
		o.ops.Unlock()
		return nil // it is another's by now, or nobody's
	}
	p := o.spotAt(dir)
	o.mu.Lock()
	k := o.fileAt(p, name, &thing{kind: isFile, file: c.File, since: c.Since})
	opens := k.opens
	o.mu.Unlock()
	o.ops.Unlock()
	same := sealedIn(c.File, f.Staged)
	o.mu.Lock()
	defer o.mu.Unlock()
	if !same || k.local != c.File {
		return nil
	}
	if t := c.File.Mtime(); !k.pinnedTime() {
		k.meta.mtime, k.meta.of = t, t
	}
	k.held, k.settled = h, c.File
	o.keep(k)
	if len(k.writers) > 0 || k.opens != opens {
		return nil
	}
	k.adopted = true
	return k
}

// sealedIn reports whether the present bytes of a file are those at a path. A
// path is not written to any more once it is sealed, so then they are what was
// committed.
func sealedIn(file *writeback.File, path string) bool {
	if path == "" {
		return false
	}
	h, err := file.Open(writeback.OpenFile{})
	if err != nil {
		return false
	}
	defer h.Release()
	d, _, ok := h.Native()
	if !ok {
		return false
	}
	a, err := d.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(path)
	return err == nil && os.SameFile(a, b)
}

// landed is the line of a file that was committed, from the listing if it is
// at hand.
func (o *overlay) landed(st *state, l writeback.Landing, f *writeback.LandedFile) *held {
	dir, name := split(f.Path)
	if ls := st.local(dir); ls != nil {
		if i, ok := ls.find(name); ok && ls.items[i].kind == hub.File && ls.entry(i).Content() == f.Content {
			return (&sight{o: o, st: st}).heldAt(ls, i)
		}
	}
	e := hub.Entry{Path: f.Path, Size: f.Content.Size}
	if f.Content.Algo == hub.SHA256 {
		e.SHA256 = f.Content.Hex
	} else {
		e.OID = f.Content.Hex
	}
	snap := st.snap
	snap.Commit = l.Commit.ID
	return o.v.heldOf(&writeback.Place{Snapshot: snap, Entry: e}, st.date())
}

// liveAt is the directory at a path if anybody has it. overlay.mu is held.
func (o *overlay) liveAt(path string) *spot {
	s := o.root
	for path != "" && s != nil {
		name, rest, _ := strings.Cut(path, "/")
		s, path = s.kids[name].d.Value(), rest
	}
	return s
}

// adoptFile moves what was committed from staging into the cache, so that it
// is not fetched again. What does not fit is fetched when it is read. It
// reports whether staging has it no more.
func (t *Tree) adoptFile(ctx context.Context, f *writeback.LandedFile) bool {
	if t.cache == nil {
		return false
	}
	moved, err := t.cache.Adopt(ctx, f.Content, f.Staged)
	switch {
	case errors.Is(err, blockcache.ErrCorrupt):
		t.log.Error("a file in staging is not what was committed", "path", f.Path, "content", f.Content.String(), "error", err)
	case err != nil && !errors.Is(err, errors.ErrUnsupported):
		t.log.Warn("what was committed cannot move into the cache", "path", f.Path, "error", err)
	}
	if !moved {
		// The cache may have had it, and then took the file away as well.
		_, err := os.Lstat(f.Staged)
		moved = errors.Is(err, iofs.ErrNotExist)
	}
	if moved && f.Adopted != nil {
		f.Adopted()
	}
	return moved
}

// LocalChanged drops what the kernel remembers of paths that changed in the
// layer by another way than the mount: a discard, a recovery.
func (t *Tree) LocalChanged(ref hub.Ref, paths []string) {
	ref.Revision = ref.Rev()
	t.mu.Lock()
	v := t.views[ref]
	t.mu.Unlock()
	if v == nil || v.over == nil {
		return
	}
	o := v.over
	o.late.Store(0) // there may be a layer now
	o.ops.Lock()
	o.seq.Add(1)
	o.mu.Lock()
	var news []note
	for _, path := range paths {
		// A directory on the way may be there no more, or anew.
		for path != "" {
			dir, name := split(path)
			p := o.liveAt(dir)
			if p == nil {
				path = dir
				continue
			}
			p.touch()
			if k := p.kids[name].f.Value(); k != nil {
				o.detach(k)
			}
			for _, alias := range p.shownAt {
				num := p.num(&anchor{view: v, alias: alias})
				news = append(news, note{kind: entryChanged, ino: num, name: name}, note{kind: dirChanged, ino: num})
			}
			path = dir
		}
	}
	o.mu.Unlock()
	o.seq.Add(1)
	o.ops.Unlock()
	slices.SortFunc(news, compareNotes)
	t.tell(slices.Compact(news))
}
