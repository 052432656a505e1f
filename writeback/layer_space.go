package writeback

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// patience is how long a full staging may make no progress before writers
	// are told.
	patience = 10 * time.Second
	// countAfter is how long a count of the staged bytes is good enough while
	// there is plenty of room.
	countAfter = 100 * time.Millisecond
)

// space is what is left of staging, and who waits for more.
type space struct {
	mu      sync.Mutex
	ch      chan struct{} // closed when some was freed, or is about to be; nil while nobody waits
	counted time.Time
	plenty  bool // as of counted
}

func (s *space) wait() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch == nil {
		s.ch = make(chan struct{})
	}
	return s.ch
}

// wake tells waiting writers to look again: something was freed, or sent.
func (s *space) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch != nil {
		close(s.ch)
		s.ch = nil
	}
}

// admit waits until there is room for need more bytes in staging. It gives up
// when nothing was freed or sent for a while: a full disk is better told than
// waited for.
func (l *Layer) admit(ctx context.Context, need int64) error {
	var timer *time.Timer
	for {
		freed := l.space.wait()
		used, limit, err := l.room(need)
		if err != nil {
			return err
		}
		if used+need < limit {
			return nil
		}
		if timer == nil {
			timer = time.NewTimer(patience)
			defer timer.Stop()
		}
		select {
		case <-freed:
			timer.Reset(patience)
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return fmt.Errorf("%w: %d bytes are staged, --max-staging is %d", ErrNoSpace, used, limit)
		}
		l.mu.RLock()
		closed := l.closed
		l.mu.RUnlock()
		if closed {
			return errClosed
		}
	}
}

// full makes a disk without space known as such.
func full(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}

// room counts what is staged. With plenty left, a count is not repeated for
// each of many files.
func (l *Layer) room(need int64) (used, limit int64, err error) {
	s := &l.space
	s.mu.Lock()
	fresh := s.plenty && need == 0 && time.Since(s.counted) < countAfter
	s.mu.Unlock()
	if fresh {
		return 0, 1, nil
	}
	used, limit = l.staging.Bytes(), l.o.MaxStaging
	if limit <= 0 {
		free, err := l.staging.Free()
		if err != nil {
			return 0, 0, err
		}
		limit = (free + used) / 2
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counted, s.plenty = time.Now(), used < limit/2
	return used, limit, nil
}
