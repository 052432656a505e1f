package hubtest

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Quotas of hub-protocol §5.3 for the anonymous (by address) and free users.
const (
	quotaWindow  = 5 * time.Minute
	commitWindow = time.Hour
	commitLimit  = 128
)

var (
	anonymousQuota = map[string]int{"api": 500, "resolvers": 3000, "pages": 100}
	freeQuota      = map[string]int{"api": 1000, "resolvers": 5000, "pages": 200}
)

type quotas struct {
	mu   sync.Mutex
	used map[quotaKey]windowUse // guarded by mu
}

type quotaKey struct{ who, quota string }

type windowUse struct {
	window int64 // number of the fixed window since 1970
	n      int
}

// take counts one use and returns how many there are in the window now.
func (q *quotas) take(k quotaKey, now time.Time, window time.Duration) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.used == nil {
		q.used = map[quotaKey]windowUse{}
	}
	number := now.UnixNano() / int64(window)
	u := q.used[k]
	if u.window != number {
		u = windowUse{window: number}
	}
	u.n++
	q.used[k] = u
	return u.n
}

func untilReset(now time.Time, window time.Duration) int {
	left := window - time.Duration(now.UnixNano()%int64(window))
	return int((left + time.Second - 1) / time.Second)
}

// limit sets the RateLimit headers and, where quotas are enforced, answers a
// request that is over them. Without enforcement nothing is ever used up:
// a client that saves its last requests should have no reason to.
func (f *front) limit(w http.ResponseWriter, rt *route, a *account, address string) bool {
	limits, who := anonymousQuota, "ip:"+address
	if a != nil {
		limits, who = freeQuota, "user:"+a.Name
	}
	q, ok := limits[rt.quota]
	if !ok {
		return true
	}
	now := f.hub.opts.Now()
	used := 1
	if f.hub.opts.Quotas {
		used = f.quotas.take(quotaKey{who, rt.quota}, now, quotaWindow)
	}
	reset := untilReset(now, quotaWindow)
	h := w.Header()
	h.Set("RateLimit", fmt.Sprintf(`"%s";r=%d;t=%d`, rt.quota, max(q-used, 0), reset))
	h.Set("RateLimit-Policy", fmt.Sprintf(`"fixed window";"%s";q=%d;w=%d`, rt.quota, q, int(quotaWindow.Seconds())))
	if used > q {
		refuse(w, http.StatusTooManyRequests, "", fmt.Sprintf(
			"We had to rate limit you, you hit the quota of %d %s requests per 5 minutes period.", q, rt.quota))
		return false
	}
	if f.hub.opts.Quotas && rt.name == "commit" && a != nil {
		if f.quotas.take(quotaKey{who, "commits"}, now, commitWindow) > commitLimit {
			// An action limit: the window above is not used up, Retry-After says when.
			h.Set("Retry-After", strconv.Itoa(untilReset(now, commitWindow)))
			refuse(w, http.StatusTooManyRequests, "", fmt.Sprintf(
				"You have exceeded the rate limit for repository commits (%d per hour). You can retry this action in about 1 hour.", commitLimit))
			return false
		}
	}
	return true
}
