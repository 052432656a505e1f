package writeback

import "time"

// releaseSoon is how long after its last descriptor was closed, as far as could
// be seen, a file is given to be released. It takes a moment.
const releaseSoon = time.Second

// expected is a file of which a Release is due.
type expected struct {
	f     *File
	since time.Time
}

// expectLocked makes sure that a file is Open again if no Release of it comes.
// mu is held.
func (l *Layer) expectLocked(f *File) {
	l.expecting = append(l.expecting, expected{f, time.Now()})
	if len(l.expecting) == 1 {
		time.AfterFunc(releaseSoon, l.overdue)
	}
}

// overdue notes which files somebody still has open. It runs once for each time
// that expecting got its first file, and for a moment after Close at most.
func (l *Layer) overdue() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for !l.closed && len(l.expecting) > 0 {
		e := l.expecting[0]
		if wait := releaseSoon - now.Sub(e.since); wait > 0 {
			time.AfterFunc(wait, l.overdue)
			return
		}
		l.expecting = l.expecting[1:]
		f := e.f
		if f.open || len(f.writers) == 0 || len(f.at) == 0 || f.freed {
			continue
		}
		f.open = true
		if err := l.appendLocked(payload{File: f.recLocked()}); err != nil {
			l.log.Warn("a file that is still open counts as closed after a crash", "path", f.at[0].path, "err", err)
		}
	}
	l.expecting = nil
}
