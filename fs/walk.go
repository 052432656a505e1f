package fs

import (
	"cmp"
	"slices"

	"hfmount/blockcache"
	"hfmount/remote/hub"
)

// walkOrder is in which order a reader takes the files of a directory.
type walkOrder uint8

const (
	// byName: as listed, and as a shell expands patterns.
	byName walkOrder = iota
	// byNumber: by inode number. On a disk that is where the files lie, and cp
	// and large walks of fts(3) rely on it.
	byNumber
)

// descent is what a reader does with the directories in a directory.
type descent uint8

const (
	stays   descent = iota // passes them over, as far as is known
	inPlace                // goes into each where it stands among the files
	after                  // goes into them after all the files
)

// maxSteps bounds how many lines are passed over to find the next file, so
// that a walk over what is not worth fetching costs little.
const maxSteps = 4096

// trail is a position in a walk over a tree, at a file. It is a value: a copy
// walks on by itself. It asks for no listing, and ends where one is not at hand.
type trail struct {
	st      *state
	a       *anchor
	order   walkOrder
	descent descent

	dir  string
	l    *listing
	perm *ranks // nil in byName
	at   int    // position in the order of the directory; -1 before all
	dirs bool   // of after: the files are done with
}

// item is the index in the listing.
func (w *trail) item() int {
	if w.perm != nil {
		return int(w.perm.order[w.at])
	}
	return w.at
}

func (w *trail) name() string     { return w.l.items[w.item()].name }
func (w *trail) entry() hub.Entry { return w.l.entry(w.item()) }
func (w *trail) size() int64      { return w.l.items[w.item()].size }

// worth says that a file may be brought whole, and holds something.
func worth(size int64) bool { return size > 0 && size <= blockcache.Whole }

// enter goes to a directory, before its first line.
func (w *trail) enter(r *rankings, dir string) bool {
	l := w.st.local(dir)
	if l == nil {
		return false
	}
	w.dir, w.l, w.perm, w.at, w.dirs = dir, l, nil, -1, false
	if w.order == byNumber {
		w.perm = r.of(w.a, dir, l)
		return w.perm != nil
	}
	return true
}

// stand goes to a name in a directory.
func (w *trail) stand(r *rankings, dir, name string) bool {
	if !w.enter(r, dir) {
		return false
	}
	i, ok := w.l.find(name)
	if !ok {
		return false
	}
	if w.at = i; w.perm != nil {
		w.at = int(w.perm.rank[i])
	}
	return true
}

// next walks on to the next file worth fetching; false at the end.
func (w *trail) next(r *rankings) bool {
	for range maxSteps {
		if w.at++; w.at >= len(w.l.items) {
			if w.descent == after && !w.dirs {
				w.at, w.dirs = -1, true
				continue
			}
			if w.descent == stays || !w.leave(r) {
				return false
			}
			continue
		}
		switch it := &w.l.items[w.item()]; {
		case it.kind == hub.Directory:
			if w.descent == inPlace || w.dirs {
				if !w.enter(r, join(w.dir, it.name)) {
					return false
				}
			}
		case !w.dirs && worth(it.size):
			return true
		}
	}
	return false
}

// leave goes to where the directory stands in the one above.
func (w *trail) leave(r *rankings) bool {
	if w.dir == "" {
		return false
	}
	parent, name := split(w.dir)
	if !w.stand(r, parent, name) {
		return false
	}
	w.dirs = w.descent == after
	return true
}

// ranks is a directory in the order of inode numbers.
type ranks struct {
	order []int32 // lines in that order
	rank  []int32 // where a line is in order
}

// maxRanked bounds the directories that are put into that order.
const maxRanked = 200_000

// rankings keeps the last few, since one is asked for again and again.
type rankings struct {
	last [8]struct {
		l     *listing
		alias string
		r     *ranks
	}
	next int
}

// of returns nil for a directory that is too large.
func (c *rankings) of(a *anchor, dir string, l *listing) *ranks {
	for i := range c.last {
		if x := &c.last[i]; x.l == l && x.alias == a.alias {
			return x.r
		}
	}
	if len(l.items) > maxRanked {
		return nil
	}
	r := &ranks{order: make([]int32, len(l.items)), rank: make([]int32, len(l.items))}
	nums := make([]uint64, len(l.items))
	for i := range l.items {
		nums[i] = a.childIno(dir, l, i)
		r.order[i] = int32(i)
	}
	slices.SortFunc(r.order, func(x, y int32) int { return cmp.Compare(nums[x], nums[y]) })
	for k, i := range r.order {
		r.rank[i] = int32(k)
	}
	x := &c.last[c.next]
	x.l, x.alias, x.r = l, a.alias, r
	c.next = (c.next + 1) % len(c.last)
	return r
}
