package remote

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"hfmount/remote/hub"
)

const (
	maxPlaces = 4096
	// An address without a date is asked for again after this.
	placeAge = 10 * time.Minute
	// earlier than its expiry a signed URL is renewed (hub-protocol §4.4).
	renewEarly = time.Minute
)

// placeKey is what a signed URL is for. The commit is no part of it: equal
// content of one repository is equal bytes.
type placeKey struct {
	repo    hub.Repo
	content hub.ContentID
}

// places remembers where the Hub sends readers of a content: a signed URL on a
// CDN, its own cache, or the resolve URL itself. One resolve serves every range
// until the URL expires; for several readers at once one asks and the others wait.
type places struct {
	mu      sync.Mutex
	known   map[placeKey]place
	flights map[placeKey]chan struct{} // closed when the one who asks is done
}

type place struct {
	url   *url.URL
	until time.Time
}

// lead is the duty to find a place and to tell the others.
type lead struct {
	p    *places
	key  placeKey
	done bool
}

// has reports whether a place is known.
func (p *places) has(key placeKey, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	pl, ok := p.known[key]
	return ok && now.Before(pl.until)
}

// get returns the known place, or makes the caller the one who finds it: then
// the lead is not nil and must be published or abandoned. If a leader abandons,
// its failure is its own, and the next in line asks again.
func (p *places) get(ctx context.Context, key placeKey) (*url.URL, *lead, error) {
	for {
		p.mu.Lock()
		if pl, ok := p.known[key]; ok {
			if time.Now().Before(pl.until) {
				p.mu.Unlock()
				return pl.url, nil, nil
			}
			delete(p.known, key)
		}
		flight, ok := p.flights[key]
		if !ok {
			if p.flights == nil {
				p.flights = map[placeKey]chan struct{}{}
			}
			p.flights[key] = make(chan struct{})
			p.mu.Unlock()
			return nil, &lead{p: p, key: key}, nil
		}
		p.mu.Unlock()
		select {
		case <-flight:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
}

// drop forgets the place if it is still u.
func (p *places) drop(key placeKey, u *url.URL) {
	p.mu.Lock()
	if p.known[key].url == u {
		delete(p.known, key)
	}
	p.mu.Unlock()
}

// publish stores the place and lets the others go on.
func (l *lead) publish(u *url.URL, until time.Time) {
	if l.done {
		return
	}
	p := l.p
	p.mu.Lock()
	if p.known == nil {
		p.known = map[placeKey]place{}
	}
	if len(p.known) >= maxPlaces {
		p.pruneLocked(time.Now())
	}
	p.known[l.key] = place{u, until}
	p.mu.Unlock()
	l.abandon()
}

// abandon lets the others go on without a place. After publish it does nothing.
func (l *lead) abandon() {
	if l.done {
		return
	}
	l.done = true
	l.p.mu.Lock()
	close(l.p.flights[l.key])
	delete(l.p.flights, l.key)
	l.p.mu.Unlock()
}

// pruneLocked makes room: what has expired goes, and if nothing has, a half.
func (p *places) pruneLocked(now time.Time) {
	for k, pl := range p.known {
		if !now.Before(pl.until) {
			delete(p.known, k)
		}
	}
	for k := range p.known {
		if len(p.known) <= maxPlaces/2 {
			break
		}
		delete(p.known, k)
	}
}

// goodUntil says how long u may be used, by the clock of the server that gave
// it: only the difference between its Date and the expiry counts, so that a
// wrong clock here does no harm (hub-protocol §13, 16).
func goodUntil(u *url.URL, h http.Header, now time.Time) time.Time {
	expires, ok := urlExpiry(u)
	if !ok {
		return now.Add(placeAge)
	}
	then := now
	if d, err := http.ParseTime(h.Get("Date")); err == nil {
		then = d
	}
	life := expires.Sub(then)
	return now.Add(life - min(renewEarly, life/2))
}

// urlExpiry reads when a signed URL ends: CloudFront's Expires, or the date and
// life that S3 and GCS write.
func urlExpiry(u *url.URL) (time.Time, bool) {
	q := u.Query()
	if n, err := strconv.ParseInt(q.Get("Expires"), 10, 64); err == nil && n > 0 {
		return time.Unix(n, 0), true
	}
	for _, vendor := range []string{"X-Amz-", "X-Goog-"} {
		at, err := time.Parse("20060102T150405Z", q.Get(vendor+"Date"))
		if err != nil {
			continue
		}
		if n, err := strconv.ParseInt(q.Get(vendor+"Expires"), 10, 32); err == nil {
			return at.Add(time.Duration(n) * time.Second), true
		}
	}
	return time.Time{}, false
}
