package writeback

import (
	"context"
	"errors"
	"sync"
	"time"

	"hfmount/writeback/staging"
)

// worthCancelling is the size, in bytes, of files whose seal a writer cancels
// rather than wait for.
const worthCancelling = 32 << 20

// worthKeeping is how long a seal has to have run for a writer to leave it
// alone and pay for a second staging file instead.
const worthKeeping = 10 * time.Second

// rehashBelow is the size, in bytes, of files whose hashes are not worth a
// record.
const rehashBelow = 1 << 20

// sealing is a seal under way.
type sealing struct {
	done   chan struct{}
	cancel context.CancelFunc
	began  time.Time
	ctx    context.Context // of who seals, and cancelled by a writer
}

func (g *sealing) old() bool { return time.Since(g.began) >= worthKeeping }

func (g *sealing) wait(ctx context.Context) error {
	select {
	case <-g.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// seal fixes the present bytes of a file that has no writers, and hashes them
// unless they are already. It fails with staging.ErrWriters while somebody can
// write, and when a writer came while it hashed.
func (l *Layer) seal(ctx context.Context, f *File) (sealedBytes, error) {
	for {
		s, g, gen, err := f.beginSeal(ctx)
		switch {
		case err != nil:
			return sealedBytes{}, err
		case g == nil:
			return l.pinned(f, s, gen), nil
		case s == nil: // somebody else's
			if err := g.wait(ctx); err != nil {
				return sealedBytes{}, err
			}
			continue
		}
		return f.endSeal(ctx, s, g, gen)
	}
}

// beginSeal returns a sealed stage, pinned; or one to seal with its sealing; or
// the sealing to wait for.
func (f *File) beginSeal(ctx context.Context) (*stage, *sealing, uint64, error) {
	l := f.l
	f.mu.Lock()
	defer f.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	s := f.cur
	switch {
	case l.closed:
		return nil, nil, 0, errClosed
	case f.gone != nil || f.freed:
		return nil, nil, 0, ErrRaced
	case len(f.writers) > 0 || f.unclosed:
		return nil, nil, 0, staging.ErrWriters
	case s.sealed != nil:
		s.pins++
		s.get()
		return s, nil, f.gen.Load(), nil
	case s.sealing != nil:
		return nil, s.sealing, 0, nil
	}
	sctx, cancel := context.WithCancel(ctx)
	s.sealing = &sealing{done: make(chan struct{}), cancel: cancel, began: time.Now(), ctx: sctx}
	s.get()
	return s, s.sealing, f.gen.Load(), nil
}

func (f *File) endSeal(ctx context.Context, s *stage, g *sealing, gen uint64) (sealedBytes, error) {
	l := f.l
	sum, err := s.sf.Seal(g.ctx)
	cancelled := g.ctx.Err() != nil && ctx.Err() == nil
	g.cancel()
	f.mu.Lock()
	l.mu.Lock()
	s.sealing = nil
	close(g.done)
	if err == nil {
		gen = f.sealedLocked(s, sum, gen)
	}
	l.mu.Unlock()
	f.mu.Unlock()
	if err != nil {
		s.put()
		l.sweep()
		if cancelled && errors.Is(err, context.Canceled) {
			err = staging.ErrWriters
		}
		return sealedBytes{}, err
	}
	return l.pinned(f, s, gen), nil
}

// sealedLocked takes a seal over and pins it. Both locks are held.
func (f *File) sealedLocked(s *stage, sum staging.Sealed, gen uint64) uint64 {
	l := f.l
	s.sealed = &sum
	s.pins++
	note := sum.Size >= rehashBelow || !s.whole
	if f.cur == s {
		if !samePrint(sum.Print, f.print) { // by a mapping, after the last close
			gen = f.gen.Add(1)
			f.synced = false
			note = true
		}
		f.print = sum.Print
		f.wrote.Store(false)
		if f.handles == 0 {
			_ = s.sf.Idle() // it was only read
		}
	}
	if !note || f.cur != s || len(f.at) == 0 || l.closed {
		return gen
	}
	r := s.recLocked()
	if err := l.appendLocked(payload{Stage: r}, payload{File: f.recLocked()}); err != nil {
		l.log.Warn("the hash of a file is not kept", "id", s.sf.ID(), "err", err)
		return gen
	}
	if r.whole() {
		s.wholeLocked()
	}
	return gen
}

// pinned hands out a sealed stage of a file, nil for a copy of its own, with a
// reference and a pin.
func (l *Layer) pinned(f *File, s *stage, gen uint64) sealedBytes {
	var once sync.Once
	return sealedBytes{
		Sealed: *s.sealed, gen: gen, path: s.sf.Path(), data: stageReader{s},
		idle: func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			if f == nil || f.cur == s && f.handles == 0 {
				_ = s.sf.Idle() // it was only read
			}
		},
		moved: func() {
			if f != nil {
				f.mu.Lock()
				defer f.mu.Unlock()
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			s.moved = true
		},
		release: func() {
			once.Do(func() {
				l.mu.Lock()
				s.pins--
				l.mu.Unlock()
				s.put()
				l.sweep()
			})
		},
	}
}

// sealCopy is seal of a copy of what a file that is open has now.
func (l *Layer) sealCopy(ctx context.Context, f *File) (sealedBytes, error) {
	l.mu.Lock()
	if l.closed || f.gone != nil || f.freed {
		l.mu.Unlock()
		return sealedBytes{}, ErrRaced
	}
	// Whatever is written from here on raises the generation.
	_, err := f.noteLocked(false, false, nil)
	gen, s := f.gen.Load(), f.cur
	s.get()
	l.mu.Unlock()
	defer l.sweep()
	defer s.put()
	if err != nil {
		return sealedBytes{}, err
	}
	sf, err := l.staging.Copy(ctx, s.sf)
	if err != nil {
		return sealedBytes{}, err
	}
	c := &stage{l: l, sf: sf, whole: true}
	c.get()
	sum, err := sf.Seal(ctx)
	if err != nil {
		c.put()
		return sealedBytes{}, err
	}
	c.sealed = &sum
	c.pins++
	return l.pinned(nil, c, gen), nil
}

// stageReader reads sealed bytes, which are local.
type stageReader struct{ s *stage }

func (r stageReader) ReadAt(p []byte, off int64) (int, error) {
	return r.s.readAt(context.Background(), p, off)
}
