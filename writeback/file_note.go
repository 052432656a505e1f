package writeback

import (
	"context"
	"errors"
	iofs "io/fs"
	"sync"

	"hfmount/writeback/staging"
)

// noteLocked brings the journal up to the present bytes: closing by a close(2),
// durable (not nil) after these were synced. It costs one stat and no record
// where nothing was written. It reports whether a close ended a write, which
// is what the quiet time of a commit is counted from. last says that the caller
// sees no other descriptor of the file. Layer.mu is held.
func (f *File) noteLocked(closing, last bool, durable *staging.Print) (closed bool, err error) {
	l, s := f.l, f.cur
	p, err := s.sf.Print()
	if errors.Is(err, iofs.ErrNotExist) && s.hub != nil {
		return false, nil // in the cache, and unchanged since
	} else if err != nil {
		return false, err
	}
	wrote := f.wrote.Swap(false)
	changed := wrote || !samePrint(p, f.print)
	if f.unclosed && !changed {
		closing = false // who only looked did not finish it
	}
	synced := durable != nil && samePrint(p, *durable)
	closed = closing && (changed || !f.flushed)
	last = last && len(f.writers) == 1
	if !changed && !closed && (!synced || f.synced) {
		if last {
			return false, f.closedLocked()
		}
		return false, nil
	}
	print, flushed, wasSynced, unclosed, open, since := f.print, f.flushed, f.synced, f.unclosed, f.open, f.since
	if changed && !wrote {
		f.gen.Add(1)
	}
	f.print, f.flushed, f.synced = p, closing || f.flushed && !changed, synced || f.synced && !changed
	f.open = (f.open || changed || closed) && !last
	if closed {
		f.since, f.unclosed = l.o.Now(), false
	}
	if len(f.at) == 0 {
		return closed, nil // told when it gets a name
	}
	var payloads []payload
	if !s.whole {
		payloads = append(payloads, payload{Stage: s.recLocked()})
	}
	payloads = append(payloads, payload{File: f.recLocked()})
	var reset []*change
	for _, c := range f.at {
		if closed && c.mark != Pending && c.mark != Held {
			r := c.rec()
			r.Mark, r.Reason = 0, ""
			payloads = append(payloads, payload{Change: r})
			reset = append(reset, c)
		}
	}
	if err := l.appendLocked(payloads...); err != nil {
		f.print, f.flushed, f.synced, f.unclosed, f.open, f.since = print, flushed, wasSynced, unclosed, open, since
		f.wrote.Store(true)
		return false, err
	}
	for _, c := range reset {
		c.mark, c.reason = Pending, ""
	}
	if !s.whole && len(payloads) > 0 && payloads[0].Stage.whole() {
		s.wholeLocked()
	}
	l.compactLocked()
	return closed, nil
}

// closedLocked notes that nobody has the file open for writing any more, if the
// journal says otherwise. Layer.mu is held.
func (f *File) closedLocked() error {
	if !f.open {
		return nil
	}
	f.open = false
	if len(f.at) == 0 || f.freed {
		return nil
	}
	return f.l.appendLocked(payload{File: f.recLocked()})
}

// whole reports whether the record is that of a complete file.
func (r *stageRec) whole() bool { return r.Place == nil && r.Under == "" }

// noteCut notes that the file was truncated: what was cut off the base of a
// partial file must not show again after a crash.
func (f *File) noteCut() error {
	l := f.l
	l.mu.Lock()
	defer l.mu.Unlock()
	f.since = l.o.Now()
	if s := f.cur; !s.whole && len(f.at) > 0 {
		r := s.recLocked()
		if err := l.appendLocked(payload{Stage: r}); err != nil {
			return err
		}
		if r.whole() {
			s.wholeLocked()
		}
	}
	return nil
}

// thaw makes the present bytes ones that may be written to: by giving up a seal
// that nobody relies on, or by another staging file over the sealed one. Of
// that, only the first keep bytes are needed; -1 is all.
func (f *File) thaw(ctx context.Context, keep int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		f.l.mu.Lock()
		s := f.cur
		g := s.sealing
		free := g == nil && s.pins == 0 && !s.moved
		var err error
		if free {
			err = f.unsealLocked()
		}
		f.l.mu.Unlock()
		if free {
			return err
		}
		if g == nil || g.old() && s.sf.Complete() {
			return f.swap(s, keep)
		}
		// Hashing of much has only begun, and what is written now makes it useless.
		// That of little is over soon.
		if s.sf.Size() >= worthCancelling {
			g.cancel()
		}
		f.mu.Unlock()
		err = g.wait(ctx)
		f.mu.Lock()
		if err != nil {
			return err
		}
	}
}

// unsealLocked gives up a seal that nobody relies on. What the Hub has are not
// the bytes of the file from then on, and the journal must not say so either.
// Both locks are held.
func (f *File) unsealLocked() error {
	s := f.cur
	sealed, hub := s.sealed, s.hub
	s.sealed, s.hub = nil, nil
	if hub == nil || len(f.at) == 0 {
		return nil
	}
	if err := f.l.appendLocked(payload{Stage: s.recLocked()}); err != nil {
		s.sealed, s.hub = sealed, hub
		return err
	}
	return nil
}

// swap puts a new stage over s in its place. mu of the file is held.
func (f *File) swap(s *stage, keep int64) error {
	l := f.l
	n, err := l.newOver(s, keep)
	if err != nil {
		return full(err)
	}
	n.get()
	l.mu.Lock()
	print, flushed, synced := f.print, f.flushed, f.synced
	f.cur, f.print, f.flushed, f.synced = n, staging.Print{}, false, false
	f.touch()
	if len(f.at) > 0 {
		if err = l.appendLocked(f.payloadsLocked(nil)...); err != nil {
			f.cur, f.print, f.flushed, f.synced = s, print, flushed, synced
			n.put()
		}
	}
	if err == nil {
		s.put()
	}
	l.mu.Unlock()
	return err
}

// newOver makes a stage with the bytes of a sealed one, without a reference.
func (l *Layer) newOver(s *stage, keep int64) (*stage, error) {
	if keep == 0 {
		sf, err := l.staging.Create()
		return &stage{l: l, sf: sf, whole: true}, err
	}
	sf, err := l.staging.CreateFrom(s.sf)
	if errors.Is(err, iofs.ErrNotExist) && s.hub != nil {
		sf, err = l.staging.CreateOver(&placeSource{l: l, p: *s.hub}, s.hub.Entry.Size)
		if err != nil {
			return nil, err
		}
		return &stage{l: l, sf: sf, place: s.hub, whole: sf.Complete()}, nil
	} else if err != nil {
		return nil, err
	}
	n := &stage{l: l, sf: sf, whole: sf.Complete()}
	if !n.whole {
		s.get()
		n.under = s
	}
	return n, nil
}

// stageSource shows one stage under another, after a restart.
type stageSource struct{ s *stage }

func (b stageSource) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	return b.s.readAt(ctx, p, off)
}

func (b stageSource) Close() error {
	b.s.put()
	return nil
}

// trash is the stages that nobody needs any more.
type trash struct {
	mu  sync.Mutex
	now []*stage
	// later are those whose bytes were promised by an fsync: the journal that
	// does not need them any more has to be durable first.
	later []string
	bytes int64 // of later
}

const (
	laterFiles = 64
	laterBytes = 256 << 20
)

func (t *trash) add(s *stage) {
	if s.trashed.Swap(true) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.now = append(t.now, s)
}

// sweep deletes what nobody needs. No lock is held.
func (l *Layer) sweep() {
	t := &l.trash
	for {
		t.mu.Lock()
		list := t.now
		t.now = nil
		t.mu.Unlock()
		if len(list) == 0 {
			break
		}
		for _, s := range list {
			l.mu.Lock()
			under, synced := s.under, s.synced
			s.under = nil
			l.mu.Unlock()
			if under != nil {
				under.put()
			}
			size := s.sf.Size()
			if err := s.close(); err != nil {
				l.log.Warn("closing a staging file", "id", s.sf.ID(), "err", err)
			}
			if synced {
				t.mu.Lock()
				t.later = append(t.later, s.sf.ID())
				t.bytes += size
				t.mu.Unlock()
			} else {
				l.remove(s.sf.ID())
			}
		}
	}
	t.mu.Lock()
	due := len(t.later) > laterFiles || t.bytes > laterBytes
	t.mu.Unlock()
	if due {
		if err := l.syncJournal(); err != nil {
			l.log.Warn("old staging files stay", "err", err)
		}
	}
}

// syncJournal makes all records durable, and deletes what waited for that.
func (l *Layer) syncJournal() error {
	t := &l.trash
	t.mu.Lock()
	later, bytes := t.later, t.bytes
	t.later, t.bytes = nil, 0
	t.mu.Unlock()
	if err := l.journal.Sync(); err != nil {
		t.mu.Lock()
		t.later, t.bytes = append(t.later, later...), t.bytes+bytes
		t.mu.Unlock()
		return err
	}
	for _, id := range later {
		l.remove(id)
	}
	return nil
}

func (l *Layer) remove(id string) {
	if err := l.staging.Remove(id); err != nil {
		l.log.Warn("removing a staging file", "id", id, "err", err)
	}
	l.space.wake()
}
