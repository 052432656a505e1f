package writeback

import (
	"context"
	"errors"
	"fmt"
	"path"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Hold is the transaction of `hfmount run`.
type Hold struct {
	q      *Queue
	key    string
	before map[string]uint64 // the changes there were, by path
	once   sync.Once
	err    error
}

// holdRecord lets a later process see that the transaction did not end.
type holdRecord struct {
	Since time.Time `json:"since"`
}

// Hold starts a transaction: until Release no change is committed by itself.
func (q *Queue) Hold() (*Hold, error) {
	h := &Hold{q: q, key: "hold/" + uuid.NewString(), before: make(map[string]uint64)}
	for _, it := range q.items() {
		h.before[it.Path] = it.seq
	}
	if err := q.l.keep(h.key, holdRecord{Since: q.now()}, false); err != nil {
		return nil, err
	}
	q.mu.Lock()
	q.holds[h] = true
	q.mu.Unlock()
	return h, nil
}

// End ends it: with ok, its changes are as any others, else they are held
// until Commit or Discard.
func (h *Hold) End(ok bool) error {
	h.once.Do(func() { h.err = h.end(ok) })
	return h.err
}

func (h *Hold) end(ok bool) error {
	q := h.q
	var errs []error
	var held []string
	if !ok {
		for _, it := range q.items() {
			if !it.remote() || h.before[it.Path] == it.seq {
				continue
			}
			held = append(held, it.Path)
			errs = append(errs, q.l.mark(it.seq, it.Path, Held, "hfmount run failed"))
		}
	}
	errs = append(errs, q.l.keep(h.key, nil, false))
	q.mu.Lock()
	delete(q.holds, h)
	q.mu.Unlock()
	if len(held) > 0 {
		q.event(Event{Kind: "held", Text: "hfmount run failed", Hint: "`hfmount commit` commits its changes, `hfmount discard` drops them", Paths: held})
	}
	q.Kick()
	return errors.Join(errs...)
}

// Discard drops the changes at and beneath paths. It fails for open files. The
// old name of a rename comes back with it.
func (q *Queue) Discard(paths ...string) error {
	// A commit that is being built is given up; one that was sent is waited
	// for, since it cannot be taken back.
	ctx, cancel := context.WithTimeout(context.Background(), 2*settleWait)
	defer cancel()
	beneath := below(paths)
	for {
		q.mu.Lock()
		if q.abort != nil && !q.posted {
			for p := range q.flight {
				if beneath(p) {
					q.abort(errDiscarded)
					break
				}
			}
		}
		q.mu.Unlock()
		try, stop := context.WithTimeout(ctx, 100*time.Millisecond)
		err := q.acquire(try)
		stop()
		if err == nil {
			break
		}
		q.mu.Lock()
		touches := false
		for p := range q.flight {
			touches = touches || beneath(p)
		}
		q.mu.Unlock()
		if !touches {
			return q.discard(paths)
		}
		if ctx.Err() != nil {
			return errors.New("the changes are being committed")
		}
	}
	defer q.release()
	return q.discard(paths)
}

func (q *Queue) discard(paths []string) error {
	items := q.items()
	drop := make(map[string]bool)
	named := make(map[string]bool)
	above := make(map[string]bool) // something that has changes beneath it
	beneath := below(paths)
	for _, it := range items {
		for dir := path.Dir(it.Path); dir != "." && !above[dir]; dir = path.Dir(dir) {
			above[dir] = true
		}
		if !beneath(it.Path) {
			continue
		}
		named[it.Path] = true
		if len(it.writers) > 0 {
			return fmt.Errorf("%s is open for writing, by process %d", it.Path, it.writers[0].PID)
		}
		drop[it.Path] = true
		for _, from := range it.origins() {
			drop[from] = true
		}
	}
	var gone []string
	for _, it := range items {
		if !drop[it.Path] {
			continue
		}
		// An old name that is a directory with other changes by now stays gone:
		// they are not to be dropped with it.
		if named[it.Path] || it.Kind == Delete && !above[it.Path] {
			gone = append(gone, it.Path)
		}
	}
	gone, err := q.layer.Discard(gone...)
	if err != nil || len(gone) == 0 {
		return err
	}
	q.mu.Lock()
	for _, p := range gone {
		delete(q.guarded, p)
	}
	q.mu.Unlock()
	q.l.drained()
	q.Kick() // what is left may be free of what kept all of it back
	return nil
}

// below returns what tells paths at and beneath any of dirs.
func below(dirs []string) func(string) bool {
	set := make(map[string]bool, len(dirs))
	for _, d := range dirs {
		set[d] = true
	}
	return func(p string) bool {
		for ; p != "."; p = path.Dir(p) {
			if set[p] {
				return true
			}
		}
		return set[""]
	}
}
