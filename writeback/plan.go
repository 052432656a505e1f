package writeback

import (
	"slices"
	"strings"
	"time"
)

// A unit is all changes beneath one first path component, or all changes to
// files in the root; design §4 never commits half of one. A group is one unit,
// or several that a rename from one to the other ties together: the old name
// must not leave the branch before the new one is on it. A directory that takes
// the place of a file in the root, or the other way round, ties the root's unit
// to its own: the Hub has no room for both.

// unitOf is the unit a path belongs to; "" is that of the root's files.
func unitOf(path string) string {
	if i := strings.IndexByte(path, '/'); i >= 0 {
		return path[:i]
	}
	return ""
}

// writer is one open of a file for writing.
type writer struct {
	PID    int
	Since  time.Time // of the open
	Append bool      // an open that only appends holds nothing back
}

// item is what planning knows of one change.
type item struct {
	Change
	seq     uint64    // another one after every edit of the path
	gen     uint64    // another one when the bytes may have changed
	moved   bool      // put here by the rename of a directory
	first   time.Time // since when the path waits, through later closes
	writers []writer
	copy    bool      // a sealed copy of an open file is to be committed
	copyOf  time.Time // the Mtime it had when that was decided
}

// origins are the paths whose content a Put has: what a rename took it from.
func (it *item) origins() []string {
	if it.Kind != Put {
		return nil
	}
	var from []string
	if it.Was != "" {
		from = append(from, it.Was)
	}
	if it.From != nil && it.From.Entry.Path != it.Was {
		from = append(from, it.From.Entry.Path)
	}
	return from
}

// remote reports whether a change can be on the Hub at all.
func (it *item) remote() bool {
	return it.State != LocalOnly && (it.Kind == Put || it.Kind == Delete)
}

// group is the changes that become ready together.
type group struct {
	units []string // sorted
	items []*item  // sorted by path
	has   map[string]bool
}

// groupItems makes groups of changes, sorted by their first unit.
func groupItems(items []*item) []group {
	byPath := make(map[string]*item, len(items))
	parent := make(map[string]string)
	var find func(u string) string
	find = func(u string) string {
		p, ok := parent[u]
		if !ok || p == u {
			parent[u] = u
			return u
		}
		root := find(p)
		parent[u] = root
		return root
	}
	for _, it := range items {
		byPath[it.Path] = it
		find(unitOf(it.Path))
	}
	for _, it := range items {
		if file, ok := byPath[unitOf(it.Path)]; ok && it.remote() && file.remote() {
			parent[find(unitOf(it.Path))] = find("")
		}
		for _, from := range it.origins() {
			if old, ok := byPath[from]; ok && old.Kind == Delete {
				parent[find(unitOf(old.Path))] = find(unitOf(it.Path))
			}
		}
	}
	groups := make(map[string]*group)
	for _, it := range items {
		unit := unitOf(it.Path)
		root := find(unit)
		g := groups[root]
		if g == nil {
			g = &group{has: make(map[string]bool)}
			groups[root] = g
		}
		if !g.has[unit] {
			g.has[unit] = true
			g.units = append(g.units, unit)
		}
		g.items = append(g.items, it)
	}
	out := make([]group, 0, len(groups))
	for _, g := range groups {
		slices.Sort(g.units)
		slices.SortFunc(g.items, func(a, b *item) int { return strings.Compare(a.Path, b.Path) })
		out = append(out, *g)
	}
	slices.SortFunc(out, func(a, b group) int { return strings.Compare(a.units[0], b.units[0]) })
	return out
}

// sticky are the states in which only somebody's decision moves a change. One
// of them keeps its whole unit back.
func sticky(s State) bool {
	return s == Held || s == Blocked || s == Refused || s == Conflict
}

// committable reports whether a change may be part of a commit that nobody
// asked for: closed, and not kept back.
func (it *item) committable() bool {
	return it.remote() && len(it.writers) == 0 && it.State != Open && it.State != Unclosed && it.State != InPR && !sticky(it.State)
}

// waits is since when the path has something to commit. A file that is written
// again and again waits from its first close on.
func (it *item) waits() time.Time {
	if it.first.IsZero() || it.Since.Before(it.first) {
		return it.Since
	}
	return it.first
}

// readyAt is when the group becomes ready if nothing else happens; false if
// only somebody's decision or another change makes it so.
func (g group) readyAt(p Policy) (time.Time, bool) {
	var last, oldest, held time.Time
	n, moved := 0, true
	for _, it := range g.items {
		if !it.remote() || it.State == InPR {
			continue
		}
		if sticky(it.State) {
			return time.Time{}, false
		}
		for _, w := range it.writers {
			if !w.Append {
				held = later(held, w.Since.Add(p.CommitMaxWait))
			}
		}
		if it.State == Unclosed {
			// What an earlier process left half written keeps the rest of its save
			// back as an open file would, and no longer.
			held = later(held, it.Since.Add(p.CommitMaxWait))
		}
		if !it.committable() {
			continue
		}
		n++
		if last.Before(it.Since) {
			last = it.Since
		}
		if w := it.waits(); oldest.IsZero() || w.Before(oldest) {
			oldest = w
		}
		if !it.moved && it.Kind == Put {
			moved = false
		}
	}
	if n == 0 {
		return time.Time{}, false
	}
	at := last
	if !moved || !g.hasPut() {
		at = last.Add(p.CommitAfter)
		if bound := oldest.Add(p.CommitMaxWait); bound.Before(at) {
			at = bound
		}
	}
	return later(at, held), true
}

func (g group) hasPut() bool {
	return slices.ContainsFunc(g.items, func(it *item) bool { return it.Kind == Put && it.committable() })
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// holders names the files that keep groups from being ready now.
func holders(groups []group, p Policy, now time.Time) []Holder {
	var out []Holder
	for _, g := range groups {
		if !slices.ContainsFunc(g.items, (*item).committable) {
			continue
		}
		for _, it := range g.items {
			if !it.remote() {
				continue
			}
			for _, w := range it.writers {
				if !w.Append && now.Before(w.Since.Add(p.CommitMaxWait)) {
					out = append(out, Holder{Path: it.Path, PID: w.PID})
				}
			}
		}
	}
	return out
}

// wholeSaves drops from a selection the groups in which a file is open for
// writing, but for appending, or was when its writer was ended lately: what a
// program did not finish to save must not be on the branch. Nor must a part of
// what is held or refused.
func wholeSaves(selected, all []*item, p Policy, now time.Time) []*item {
	unfinished := make(map[*item]bool)
	for _, g := range groupItems(all) {
		open := slices.ContainsFunc(g.items, func(it *item) bool {
			return it.State == Held || it.State == Refused ||
				it.State == Unclosed && now.Before(it.Since.Add(p.CommitMaxWait)) ||
				it.remote() && slices.ContainsFunc(it.writers, func(w writer) bool { return !w.Append })
		})
		for _, it := range g.items {
			unfinished[it] = open
		}
	}
	return slices.DeleteFunc(slices.Clone(selected), func(it *item) bool { return unfinished[it] })
}

// coherent drops from a selection what would make a commit show neither or both
// of two things that the layer has only one of: deletes of old names whose new
// name is in all but not selected, and files where something has to be deleted
// first, by a change that is in all but not selected.
func coherent(selected, all []*item) []*item {
	for {
		n := len(selected)
		selected = withRoom(withoutHalves(selected, all), all)
		if len(selected) == n {
			return selected
		}
	}
}

// withoutHalves is the first half of coherent.
func withoutHalves(selected, all []*item) []*item {
	chosen := pathSet(selected)
	keep := make(map[string]bool)
	for _, it := range all {
		if it.remote() && !chosen[it.Path] && it.State != InPR {
			for _, from := range it.origins() {
				keep[from] = true
			}
		}
	}
	if len(keep) == 0 {
		return selected
	}
	return slices.DeleteFunc(slices.Clone(selected), func(it *item) bool {
		return it.Kind == Delete && keep[it.Path]
	})
}

// withRoom is the second half of coherent: the Hub would have a file and a
// directory of one name.
func withRoom(selected, all []*item) []*item {
	chosen := pathSet(selected)
	stays := make(map[string]bool)  // files that the Hub has, and the layer has not
	within := make(map[string]bool) // directories that such files are in
	for _, it := range all {
		if it.Kind != Delete || it.Base.Entry == nil || chosen[it.Path] || it.State == InPR {
			continue
		}
		stays[it.Path] = true
		for dir := parentOf(it.Path); dir != "" && !within[dir]; dir = parentOf(dir) {
			within[dir] = true
		}
	}
	if len(stays) == 0 {
		return selected
	}
	return slices.DeleteFunc(slices.Clone(selected), func(it *item) bool {
		if it.Kind != Put {
			return false
		}
		if within[it.Path] {
			return true
		}
		for dir := parentOf(it.Path); dir != ""; dir = parentOf(dir) {
			if stays[dir] {
				return true
			}
		}
		return false
	})
}

func pathSet(items []*item) map[string]bool {
	set := make(map[string]bool, len(items))
	for _, it := range items {
		set[it.Path] = true
	}
	return set
}

// companions are the changes without which a commit of one would not be
// coherent, and it.
func companions(it *item, all []*item) []*item {
	selected := []*item{it}
	chosen := map[string]bool{it.Path: true}
	for i := 0; i < len(selected); i++ {
		one := selected[i]
		for _, other := range all {
			if chosen[other.Path] || !other.remote() {
				continue
			}
			old, put := other, one
			if one.Kind == Delete {
				old, put = one, other
			}
			tied := old.Kind == Delete && put.Kind == Put && slices.Contains(put.origins(), old.Path) ||
				one.Kind == Put && other.Kind == Delete && (strings.HasPrefix(one.Path, other.Path+"/") || strings.HasPrefix(other.Path, one.Path+"/"))
			if tied {
				chosen[other.Path] = true
				selected = append(selected, other)
			}
		}
	}
	return selected
}
