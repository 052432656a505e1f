package remote

import (
	"sync"
	"time"

	"hfmount/remote/hub"
)

const (
	// failFast is how long a range that was given up fails without a request,
	// so that one dead fault is not waited for by every reader in turn.
	failFast = 5 * time.Second
	// failBefore is how many bytes before the one that did not come belong to
	// the failure.
	failBefore  = 8 << 20
	maxFailures = 1024
)

// failures remembers ranges that were given up not long ago.
type failures struct {
	mu sync.Mutex
	m  map[hub.ContentID][]failure
	n  int
}

type failure struct {
	from, to int64
	until    time.Time
	err      error
}

func (f *failures) add(id hub.ContentID, from, to int64, err error, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n >= maxFailures || f.m == nil {
		f.pruneLocked(now)
	}
	f.m[id] = append(f.m[id], failure{from, to, now.Add(failFast), err})
	f.n++
}

// recent returns the error of a failed range that off lies in.
func (f *failures) recent(id hub.ContentID, off int64, now time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, x := range f.m[id] {
		if x.from <= off && off < x.to && now.Before(x.until) {
			return x.err
		}
	}
	return nil
}

// pruneLocked drops what is over, and all of it if that is not enough.
func (f *failures) pruneLocked(now time.Time) {
	old := f.m
	f.m, f.n = map[hub.ContentID][]failure{}, 0
	for id, xs := range old {
		for _, x := range xs {
			if now.Before(x.until) && f.n < maxFailures/2 {
				f.m[id] = append(f.m[id], x)
				f.n++
			}
		}
	}
}
