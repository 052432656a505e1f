package remote

import (
	"errors"
	"sync"
	"time"

	"hfmount/remote/hub"
)

// Stats counts requests by quota and bytes.
type Stats struct {
	API, Resolvers, Pages, CDN uint64
	// BytesFetched is of file contents, those thrown away included.
	BytesFetched uint64
	// BytesSent is of uploads and commits, what was sent again included.
	BytesSent uint64
	// Connections is how many content transfers may run at once just now.
	Connections int
	// Online is false after a request failed for want of an answer, until one succeeds.
	Online bool
	// Stalled says since when some read has made no progress; zero if none.
	Stalled       time.Time
	LastError     error
	LastErrorTime time.Time
}

// Stats returns counters since New.
func (c *Client) Stats() Stats {
	s := Stats{
		API: c.stats.requests[quotaAPI].Load(), Resolvers: c.stats.requests[quotaResolvers].Load(),
		Pages: c.stats.requests[quotaPages].Load(), CDN: c.stats.requests[quotaCDN].Load(),
		BytesFetched: c.stats.bytes.Load(), BytesSent: c.stats.sent.Load(),
		Online:  c.stats.online.Load() && !c.o.Offline,
		Stalled: c.stats.stalls.oldest(),
	}
	c.budget.mu.Lock()
	s.Connections = c.budget.limit
	c.budget.mu.Unlock()
	if l := c.stats.last.Load(); l != nil {
		s.LastError, s.LastErrorTime = l.err, l.time
	}
	return s
}

// failed remembers an error that the caller gets to see. That something does
// not exist, or that the caller gave up, says nothing about the Hub.
func (s *stats) failed(err error) {
	switch {
	case errors.Is(err, hub.ErrUnavailable), errors.Is(err, hub.ErrBadAnswer),
		errors.Is(err, hub.ErrBadToken), errors.Is(err, hub.ErrUnauthorized),
		errors.Is(err, hub.ErrGated), errors.Is(err, hub.ErrForbidden):
		s.last.Store(&lastError{err, time.Now()})
	}
}

// stalls knows the reads that wait for a retry.
type stalls struct {
	mu    sync.Mutex
	since map[*stream]time.Time
}

func (s *stalls) add(r *stream, since time.Time) {
	s.mu.Lock()
	if s.since == nil {
		s.since = map[*stream]time.Time{}
	}
	if _, ok := s.since[r]; !ok {
		s.since[r] = since
	}
	s.mu.Unlock()
}

func (s *stalls) remove(r *stream) {
	s.mu.Lock()
	delete(s.since, r)
	s.mu.Unlock()
}

func (s *stalls) oldest() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	var t time.Time
	for _, at := range s.since {
		if t.IsZero() || at.Before(t) {
			t = at
		}
	}
	return t
}
