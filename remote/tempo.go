package remote

import (
	"sync"
	"time"
)

// tempo is what content hosts answer like: how long until the head of an
// answer, and how fast its body then comes over one connection. It says when a
// transfer is so near its end that the next one should be asked for.
type tempo struct {
	mu    sync.Mutex
	hosts map[string]*hostTempo
}

type hostTempo struct {
	latency   time.Duration
	bandwidth float64 // bytes per second of one connection; 0 is unknown
}

const (
	// maxTempo bounds the hosts that are remembered: CDNs have many names.
	maxTempo = 64
	// minSample is how many bytes say something about a bandwidth: fewer may
	// all have been in a buffer already.
	minSample = 512 << 10
)

func (t *tempo) ofLocked(host string) *hostTempo {
	h := t.hosts[host]
	if h == nil {
		if t.hosts == nil || len(t.hosts) >= maxTempo {
			t.hosts = map[string]*hostTempo{}
		}
		h = new(hostTempo)
		t.hosts[host] = h
	}
	return h
}

// head notes how long the head of an answer took. What is shorter is believed
// sooner: a handshake or a busy moment makes it longer, nothing makes it shorter.
func (t *tempo) head(host string, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.ofLocked(host)
	switch {
	case h.latency == 0:
		h.latency = took
	case took < h.latency:
		h.latency += (took - h.latency) / 2
	default:
		h.latency += (took - h.latency) / 8
	}
}

// body notes how long n bytes took.
func (t *tempo) body(host string, n int64, took time.Duration) {
	if n < minSample || took <= 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.ofLocked(host)
	bw := float64(n) / took.Seconds()
	if h.bandwidth == 0 {
		h.bandwidth = bw
	}
	h.bandwidth += (bw - h.bandwidth) / 4
}

// tail is how many bytes of a host's answer arrive while the next request is
// under way: a transfer with no more than that left need not be waited for.
// n bytes of the present one have come in took.
func (t *tempo) tail(host string, n int64, took time.Duration) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.hosts[host]
	if h == nil {
		return 0
	}
	bw := h.bandwidth
	if n >= minSample && took > 0 {
		bw = float64(n) / took.Seconds()
	}
	return int64(h.latency.Seconds() * bw)
}
