package writeback

import (
	"path"
	"slices"
	"strings"
	"time"
)

// The bounds of one commit (hub-protocol §6.6).
const (
	fewestFiles  = 20
	firstFiles   = 250
	mostFiles    = 1000
	mostInline   = 100 << 20        // bytes of regular files
	aimedSeconds = 40               // of the request
	inlineBelow  = 10 << 20         // larger files are never inline, bytes
	slowCommit   = 55 * time.Second // a commit that the Hub's proxy nearly cut off
)

// pace adapts the number of files of a commit to the time that commits take.
// The zero pace is one that knows nothing yet.
type pace struct{ files int }

// most is how many files the next piece of a split commit may have.
func (p *pace) most() int {
	if p.files == 0 {
		return firstFiles
	}
	return p.files
}

// whole is how many files may go in one commit without being split at all: a
// unit is cut only where the Hub leaves no choice, or was seen to be slow.
func (p *pace) whole() int {
	if p.files == 0 || p.files >= firstFiles {
		return mostFiles
	}
	return p.files
}

// took tells of a commit of n files that was answered after d, or cut off.
func (p *pace) took(n int, d time.Duration) {
	if n == 0 {
		return
	}
	if n < p.most() && d < aimedSeconds*time.Second {
		return // says nothing about larger ones
	}
	next := mostFiles
	if d > 0 {
		if f := float64(n) * aimedSeconds * float64(time.Second) / float64(d); f < mostFiles {
			next = int(f)
		}
	}
	if d >= slowCommit {
		next = min(next, n/2)
	}
	p.files = max(fewestFiles, min(mostFiles, next))
}

// part is what splitting needs to know of one line of a commit.
type part struct {
	path   string
	del    bool
	inline int64    // bytes that travel in the commit itself
	from   []string // the old names of a rename
}

// rank orders the parts of a save: what an index or a card describes comes
// before it, and what is deleted goes last.
func (p part) rank() int {
	if p.del {
		return 2
	}
	base := path.Base(p.path)
	switch {
	case strings.HasSuffix(base, ".index.json"), strings.EqualFold(base, "config.json"), base == "model_index.json",
		strings.HasPrefix(strings.ToUpper(base), "README"):
		return 1
	}
	return 0
}

// split cuts a batch into commits, as lists of indices into parts. Parts that
// make sense only together stay together: the two names of a rename, and a
// file with what was beneath the directory of its name.
func split(parts []part, p *pace) [][]int {
	if len(parts) == 0 {
		return nil
	}
	atoms := atomsOf(parts)
	total := int64(0)
	for _, a := range parts {
		total += a.inline
	}
	most := p.most()
	if len(parts) <= p.whole() && total <= mostInline {
		most = len(parts)
	}
	var out [][]int
	var cur []int
	var bytes int64
	for _, a := range atoms {
		size := int64(0)
		for _, i := range a {
			size += parts[i].inline
		}
		if len(cur) > 0 && (len(cur)+len(a) > most || bytes+size > mostInline) {
			out = append(out, cur)
			cur, bytes = nil, 0
		}
		cur = append(cur, a...)
		bytes += size
	}
	return append(out, cur)
}

// atomsOf groups indices that must not be separated and puts the groups in the
// order in which they may become visible.
func atomsOf(parts []part) [][]int {
	at := make(map[string]int, len(parts))
	parent := make([]int, len(parts))
	for i, p := range parts {
		at[p.path] = i
		parent[i] = i
	}
	find := func(i int) int {
		for parent[i] != i {
			parent[i] = parent[parent[i]]
			i = parent[i]
		}
		return i
	}
	for i, p := range parts {
		for _, from := range p.from {
			if j, ok := at[from]; ok && parts[j].del {
				parent[find(j)] = find(i)
			}
		}
		for dir := path.Dir(p.path); dir != "."; dir = path.Dir(dir) {
			if j, ok := at[dir]; ok && parts[j].del != p.del {
				parent[find(j)] = find(i)
			}
		}
	}
	byRoot := make(map[int][]int)
	for i := range parts {
		r := find(i)
		byRoot[r] = append(byRoot[r], i)
	}
	type atom struct {
		rank  int
		first string
		idx   []int
	}
	atoms := make([]atom, 0, len(byRoot))
	for _, idx := range byRoot {
		slices.SortFunc(idx, func(a, b int) int { return strings.Compare(parts[a].path, parts[b].path) })
		a := atom{idx: idx, rank: 2, first: parts[idx[0]].path}
		added := false
		for _, i := range idx {
			if parts[i].del {
				continue
			}
			// A rename ranks as the name it adds does.
			if r := parts[i].rank(); !added || r > a.rank {
				a.rank, added = r, true
			}
		}
		atoms = append(atoms, a)
	}
	slices.SortFunc(atoms, func(a, b atom) int {
		if a.rank != b.rank {
			return a.rank - b.rank
		}
		return strings.Compare(a.first, b.first)
	})
	out := make([][]int, len(atoms))
	for i, a := range atoms {
		out[i] = a.idx
	}
	return out
}
