package staging

import (
	"slices"
	"sort"
)

// Range is [Off, End) in bytes.
type Range struct {
	Off int64 `json:"o"`
	End int64 `json:"e"`
}

// ranges is a sorted set of bytes: no two of them touch.
type ranges []Range

// add puts r into the set.
func (s *ranges) add(r Range) {
	if r.Off >= r.End {
		return
	}
	// The ranges in [i, j) touch r.
	i := sort.Search(len(*s), func(i int) bool { return (*s)[i].End >= r.Off })
	j := i
	for j < len(*s) && (*s)[j].Off <= r.End {
		j++
	}
	if i < j {
		r.Off = min(r.Off, (*s)[i].Off)
		r.End = max(r.End, (*s)[j-1].End)
	}
	*s = slices.Replace(*s, i, j, r)
}

// cut takes everything from end on out of the set.
func (s *ranges) cut(end int64) {
	i := sort.Search(len(*s), func(i int) bool { return (*s)[i].End > end })
	if i < len(*s) && (*s)[i].Off < end {
		(*s)[i].End = end
		i++
	}
	*s = (*s)[:i]
}

// split says of the first bytes of r whether they are in the set, and where
// that changes, r.End at most.
func (s ranges) split(r Range) (end int64, in bool) {
	i := sort.Search(len(s), func(i int) bool { return s[i].End > r.Off })
	switch {
	case i == len(s):
		return r.End, false
	case s[i].Off <= r.Off:
		return min(s[i].End, r.End), true
	}
	return min(s[i].Off, r.End), false
}
