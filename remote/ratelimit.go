package remote

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"hfmount/remote/hub"
)

// Quotas of hub-protocol §5.3, and what is counted beside them.
type quota uint8

const (
	quotaAPI quota = iota
	quotaResolvers
	quotaPages
	quotaCDN // not limited by the Hub
	quotaCount
)

var quotaNames = [quotaCount]string{"api", "resolvers", "pages", "cdn"}

// quotaOf says which quota a request to the Hub's own origin is charged to.
func quotaOf(u *url.URL) quota {
	p := u.Path
	switch {
	case strings.Contains(p, "/resolve/"), strings.HasPrefix(p, "/api/resolve-cache/"):
		return quotaResolvers
	case strings.Contains(p, "/api/"), strings.Contains(p, ".git/info/lfs/"):
		return quotaAPI
	}
	return quotaPages
}

// window is what the Hub last said about one quota.
type window struct {
	known     bool
	remaining int64
	limit     int64 // 0 if not said
	reset     time.Time
}

// low reports whether so little is left that background work should slow down.
func (w window) low() bool {
	if w.limit > 0 {
		return w.remaining < max(w.limit/10, 2)
	}
	return w.remaining < 20
}

// pacer keeps requests from running into an empty quota: when it is empty all
// wait for the next window, when it is low the background slows down.
type pacer struct {
	mu      sync.Mutex
	windows [quotaCount]window // guarded by mu
}

// observe takes the headers of an answer from the Hub.
func (p *pacer) observe(h http.Header, now time.Time) {
	limits := parseRateLimit(h.Values("RateLimit"))
	if len(limits) == 0 {
		return
	}
	policies := parseRateLimit(h.Values("RateLimit-Policy"))
	p.mu.Lock()
	defer p.mu.Unlock()
	for q, name := range quotaNames {
		if item, ok := limits[name]; ok {
			p.windows[q] = window{
				known: true, remaining: item["r"], limit: policies[name]["q"],
				reset: now.Add(time.Duration(item["t"]) * time.Second),
			}
		}
	}
}

// spend counts a request that is about to be sent.
func (p *pacer) spend(q quota) {
	p.mu.Lock()
	if w := &p.windows[q]; w.remaining > 0 {
		w.remaining--
	}
	p.mu.Unlock()
}

// delay says how long a request of q should wait before it is sent.
func (p *pacer) delay(q quota, urgent bool, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := &p.windows[q]
	if !w.known {
		return 0
	}
	if !now.Before(w.reset) {
		*w = window{} // a new window has begun; its first answer says how it stands
		return 0
	}
	left := w.reset.Sub(now)
	switch {
	case w.remaining <= 0:
		return left + time.Second
	case !urgent && w.low():
		// Spread what is left over the time that is left.
		return left / time.Duration(w.remaining+1)
	}
	return 0
}

// wait sleeps until a request of q may be sent, and says how long that was. It
// fails at once if that is longer than most.
func (p *pacer) wait(ctx context.Context, k call, q quota, urgent bool, most time.Duration) (time.Duration, error) {
	start := time.Now()
	for {
		d := p.delay(q, urgent, time.Now())
		if d <= 0 {
			return time.Since(start), nil
		}
		if time.Since(start)+d > most {
			return 0, k.fail(hub.ErrUnavailable, "the quota %q is used up for %v", quotaNames[q], d.Round(time.Second))
		}
		if sleep(ctx, d) != nil {
			return 0, k.gaveUp(ctx)
		}
		if !urgent && p.delay(q, true, time.Now()) <= 0 {
			return time.Since(start), nil // it has waited its share
		}
	}
}

// maxWindow bounds what a server may make us wait for a window: the real one
// is five minutes.
const maxWindow = 3600

// parseRateLimit reads `"api";r=489;t=271` and `"fixed window";"api";q=500;w=300`:
// per item, the last quoted string is its name. Negative and absurd numbers
// are dropped.
func parseRateLimit(values []string) map[string]map[string]int64 {
	var out map[string]map[string]int64
	for _, v := range values {
		for item := range strings.SplitSeq(v, ",") {
			var name string
			params := map[string]int64{}
			for part := range strings.SplitSeq(item, ";") {
				part = strings.TrimSpace(part)
				if len(part) >= 2 && part[0] == '"' && part[len(part)-1] == '"' {
					name = part[1 : len(part)-1]
				} else if k, v, ok := strings.Cut(part, "="); ok {
					if n, err := strconv.ParseInt(v, 10, 64); err == nil && n >= 0 {
						if k == "t" {
							n = min(n, maxWindow)
						}
						params[k] = n
					}
				}
			}
			if name == "" {
				continue
			}
			if out == nil {
				out = map[string]map[string]int64{}
			}
			out[name] = params
		}
	}
	return out
}

// retryAfter reads when to come back. Only an empty window makes RateLimit
// count (window is true then); an action limit has r > 0 and Retry-After
// (hub-protocol §5.3).
func retryAfter(resp *http.Response, now time.Time) (after time.Duration, window bool) {
	if resp.StatusCode == http.StatusTooManyRequests {
		for _, item := range parseRateLimit(resp.Header.Values("RateLimit")) {
			r, ok := item["r"]
			if t, has := item["t"]; ok && has && r == 0 {
				return time.Duration(t+1) * time.Second, true
			}
		}
	}
	v := strings.TrimSpace(resp.Header.Get("Retry-After"))
	if n, err := strconv.ParseInt(v, 10, 32); err == nil && n >= 0 {
		return time.Duration(min(n, maxWindow)) * time.Second, false
	}
	if at, err := http.ParseTime(v); err == nil {
		return min(max(at.Sub(now), 0), maxWindow*time.Second), false
	}
	return 0, false
}
