package hubtest

import (
	"io"
	"maps"
	"sync"
	"sync/atomic"
)

// Stats counts what the Hub was asked, on both ports; its JSON form is
// cli.md's. Requests to /_hub/ and /api/agent-harnesses are not counted.
type Stats struct {
	Requests  map[string]int64 `json:"requests"` // by route
	Quota     map[string]int64 `json:"quota"`    // api, resolvers, pages, cdn
	Total     int64            `json:"total"`
	BytesSent int64            `json:"bytes_sent"` // of bodies
	Commits   int64            `json:"commits"`    // applied on request of a client
	// BytesReceived is of the bodies of requests, those of failed ones too.
	BytesReceived int64 `json:"bytes_received"`
	// LeakedTokens counts requests to the CDN that carried an Authorization header.
	LeakedTokens int64 `json:"leaked_tokens"`
}

type counters struct {
	// Outside mu: added to for every write and read.
	bytesSent, bytesReceived atomic.Int64

	mu sync.Mutex
	s  Stats // guarded by mu
}

func (c *counters) request(route, quota string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.s.Requests == nil {
		c.s.Requests, c.s.Quota = map[string]int64{}, map[string]int64{}
	}
	c.s.Requests[route]++
	c.s.Quota[quota]++
	c.s.Total++
}

func (c *counters) commit() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.s.Commits++
}

func (c *counters) leak() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.s.LeakedTokens++
}

// Stats returns the counters since New or ResetStats.
func (h *Hub) Stats() Stats {
	c := &h.front.stats
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.s
	s.Requests, s.Quota = map[string]int64{}, map[string]int64{}
	maps.Copy(s.Requests, c.s.Requests)
	maps.Copy(s.Quota, c.s.Quota)
	s.BytesSent, s.BytesReceived = c.bytesSent.Load(), c.bytesReceived.Load()
	return s
}

// ResetStats sets the counters to zero.
func (h *Hub) ResetStats() {
	c := &h.front.stats
	c.mu.Lock()
	defer c.mu.Unlock()
	c.s = Stats{}
	c.bytesSent.Store(0)
	c.bytesReceived.Store(0)
}

// countedBody counts what is read of a request.
type countedBody struct {
	io.ReadCloser
	c *counters
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.c.bytesReceived.Add(int64(n))
	return n, err
}
