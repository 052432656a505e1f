package fs

import (
	"context"
	"crypto/sha1"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"hfmount/remote/hub"
)

// maxFill bounds what a recursive listing holds in memory at a time, in
// entries.
const maxFill = 250_000

// fillAhead is how many batches of fillBatch entries are read ahead of those
// being kept, so that the next page is on its way meanwhile.
const (
	fillAhead = 4
	fillBatch = 1000
)

// filling is a recursive listing on its way into listings of directories.
//
// Of a directory that the listing has left, the lines hash to the git tree
// that its parent names, or they do not: a hash that fits proves that nothing
// is missing, and the directory can be used while the rest is still coming.
// What cannot be proven so, such as directories with executable files, whose
// modes the Hub does not tell, waits for the end.
type filling struct {
	st   *state
	dirs map[string]*builder // with lines, and neither shown nor given up
	keys map[string]gitID    // of directories that are not shown yet
	open []string            // directories from the root down to the present line
	held int                 // lines in dirs

	proven map[string]bool     // complete, but its parent is not shown yet
	below  map[string][]string // the proven ones by parent
	shown  map[string]bool     // kept, or known before
	lost   map[string]bool     // given up for lack of room
}

// fill lists everything and splits it. A failure costs nothing but time.
func (st *state) fill(ctx context.Context) {
	err := st.fillFrom(ctx)
	if err == nil || ctx.Err() != nil {
		return
	}
	st.v.t.log.Debug("recursive listing failed", "repo", st.where("").String(), "error", err)
	if errors.Is(err, hub.ErrBadAnswer) {
		st.v.t.log.Warn("recursive listing", "error", err)
	} else if !errors.Is(err, errTooMany) && !gone(err) {
		st.mu.Lock()
		st.filled = false // it may work the next time
		st.mu.Unlock()
	}
}

var errTooMany = errors.New("too many entries to list at once")

func (st *state) fillFrom(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type batch struct {
		entries []hub.Entry
		err     error
	}
	batches := make(chan batch, fillAhead)
	started := st.v.t.sp.start(func() {
		defer close(batches)
		b := batch{entries: make([]hub.Entry, 0, fillBatch)}
		for e, err := range st.v.t.src.List(ctx, st.snap, "", true) {
			if b.err = err; err == nil {
				b.entries = append(b.entries, e)
			}
			if err != nil || len(b.entries) == fillBatch {
				select {
				case batches <- b:
				case <-ctx.Done():
					return
				}
				if err != nil {
					return
				}
				b.entries = make([]hub.Entry, 0, fillBatch)
			}
		}
		select {
		case batches <- b:
		case <-ctx.Done():
		}
	})
	if !started {
		return context.Canceled
	}
	f := newFilling(st)
	for b := range batches {
		if b.err != nil {
			return b.err
		}
		for _, e := range b.entries {
			if err := f.add(e); err != nil {
				return err
			}
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return f.end(ctx)
}

func newFilling(st *state) *filling {
	return &filling{
		st: st, dirs: map[string]*builder{"": {}}, keys: map[string]gitID{"": st.root}, open: []string{""},
		proven: make(map[string]bool), below: make(map[string][]string), shown: make(map[string]bool), lost: make(map[string]bool),
	}
}

// add takes one line.
func (f *filling) add(e hub.Entry) error {
	dir, _ := split(e.Path)
	if top := f.open[len(f.open)-1]; dir != top {
		if err := f.enter(dir); err != nil {
			return err
		}
	}
	if e.Type == hub.Directory {
		path := strings.Clone(e.Path)
		f.keys[path], _ = parseID(e.OID)
	}
	if f.shown[dir] || f.lost[dir] {
		if f.shown[dir] && dir != "" {
			return badAnswer("%q is listed after the end of its directory", e.Path)
		}
		return nil
	}
	b := f.dirs[dir]
	if b == nil {
		b = &builder{dir: strings.Clone(dir)}
		f.dirs[b.dir] = b
	}
	f.held++
	if f.held > maxFill {
		if err := f.makeRoom(); err != nil {
			return err
		}
	}
	return b.add(e)
}

// enter goes to another directory, and is done with those it leaves.
func (f *filling) enter(dir string) error {
	for len(f.open) > 1 {
		top := f.open[len(f.open)-1]
		if dir == top || strings.HasPrefix(dir, top+"/") {
			break
		}
		f.open = f.open[:len(f.open)-1]
		if err := f.leave(top); err != nil {
			return err
		}
	}
	if dir != f.open[len(f.open)-1] {
		f.open = append(f.open, strings.Clone(dir))
	}
	return nil
}

// leave shows a directory if its lines are proven to be all.
func (f *filling) leave(dir string) error {
	b, key := f.dirs[dir], f.keys[dir]
	if b == nil || f.shown[dir] || f.lost[dir] || b.tree() != key {
		return nil
	}
	parent, _ := split(dir)
	f.proven[dir] = true
	f.below[parent] = append(f.below[parent], dir)
	return f.show(parent)
}

// show keeps the proven directories in one that is known. A directory comes
// before what is in it, because its listing says since when that is unchanged.
func (f *filling) show(parent string) error {
	if len(f.below[parent]) == 0 {
		return nil
	}
	key, ok := f.keys[parent]
	if !ok {
		return nil
	}
	l := f.st.onHand(parent, key)
	if l == nil {
		return nil
	}
	below := f.below[parent]
	delete(f.below, parent)
	for _, dir := range below {
		is, err := f.finish(l, dir)
		if err != nil {
			return err
		}
		if is != nil {
			f.st.keep(is)
		}
		if err := f.show(dir); err != nil {
			return err
		}
	}
	return nil
}

// finish makes the listing of a directory whose parent's is l; nil if it is on
// hand.
func (f *filling) finish(l *listing, dir string) (*listing, error) {
	st, key := f.st, f.keys[dir]
	b := f.dirs[dir]
	delete(f.dirs, dir)
	delete(f.proven, dir)
	f.shown[dir] = true
	if b == nil {
		b = &builder{dir: dir}
	}
	f.held -= len(b.items)
	if st.has(dir, key) {
		return nil, nil
	}
	at := st.rootAt()
	if l != nil {
		_, name := split(dir)
		i, ok := l.find(name)
		if !ok || l.items[i].oid != key {
			return nil, badAnswer("a recursive listing differs from that of one level at %q", dir)
		}
		at = l.treeAt(i)
	}
	return st.finish(b, at)
}

// makeRoom gives up directories that wait for the end.
func (f *filling) makeRoom() error {
	for dir, b := range f.dirs {
		if dir != "" && !f.proven[dir] && !slices.Contains(f.open, dir) {
			f.held -= len(b.items)
			f.lost[dir] = true
			delete(f.dirs, dir)
		}
	}
	if f.held > maxFill/2 {
		return errTooMany
	}
	return nil
}

// end shows what was not proven but is now complete.
func (f *filling) end(ctx context.Context) error {
	for dir := range f.dirs {
		if _, ok := f.keys[dir]; !ok {
			return badAnswer("a recursive listing has files in %q, which it has not", dir)
		}
	}
	// Without a proof, one lie makes all of it a lie: nothing is kept before
	// everything fits.
	made := make(map[string]*listing)
	for _, dir := range slices.Sorted(maps.Keys(f.keys)) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if f.shown[dir] || f.lost[dir] {
			continue
		}
		var l *listing
		if dir != "" {
			parent, _ := split(dir)
			if l = made[parent]; l == nil {
				l = f.st.onHand(parent, f.keys[parent])
			}
			if l == nil {
				continue // its own was given up, or removed by another process
			}
		}
		is, err := f.finish(l, dir)
		if err != nil {
			return err
		}
		if is != nil {
			made[dir] = is
		}
	}
	for _, l := range made {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		f.st.keep(l)
	}
	return nil
}

// tree is the id of the git tree with the lines, if all its files are plain.
func (b *builder) tree() (id gitID) {
	order := make([]int, len(b.items))
	for i := range order {
		order[i] = i
	}
	// git sorts as if the name of a directory ended in a slash.
	name := func(i int) string {
		from := uint32(0)
		if i > 0 {
			from = b.ends[i-1]
		}
		n := string(b.names[from:b.ends[i]])
		if b.items[i].kind == hub.Directory {
			n += "/"
		}
		return n
	}
	names := make([]string, len(order))
	for i := range names {
		names[i] = name(i)
	}
	slices.SortFunc(order, func(x, y int) int { return strings.Compare(names[x], names[y]) })
	body := make([]byte, 0, len(b.names)+len(order)*28)
	for _, i := range order {
		if b.items[i].kind == hub.Directory {
			body = append(body, "40000 "...)
		} else {
			body = append(body, "100644 "...)
		}
		body = append(body, strings.TrimSuffix(names[i], "/")...)
		body = append(body, 0)
		body = append(body, b.items[i].oid[:]...)
	}
	h := sha1.New()
	h.Write(append(strconv.AppendInt([]byte("tree "), int64(len(body)), 10), 0))
	h.Write(body)
	h.Sum(id[:0])
	return id
}
