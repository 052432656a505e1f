package hubtest

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// Fault is a rule of misbehaviour; its JSON form is cli.md's.
//
// A rule counts the requests it matches from when it is set. A fault of the
// body counts only those whose answer it can spoil: truncate and stall one
// with more than After bytes, corrupt one that holds byte At of the file,
// wrong-range a 206, ignore-range a request with a range. In the same way
// commit faults count commits and lfs-403 counts uploads. An answer without
// a 2xx status or body is stalled before its headers.
type Fault struct {
	Method      string            `json:"method,omitempty"`
	Path        string            `json:"path,omitempty"` // glob; * matches / too
	Host        string            `json:"host,omitempty"` // "hub" or "cdn"
	Nth         int               `json:"nth,omitempty"`
	Every       int               `json:"every,omitempty"`
	Probability float64           `json:"probability,omitempty"`
	Times       int               `json:"times,omitempty"` // 0: no limit
	Fault       string            `json:"fault"`
	Status      int               `json:"status,omitempty"` // of "status"; 0 is 503
	Headers     map[string]string `json:"headers,omitempty"`
	Body        string            `json:"body,omitempty"`
	MS          int               `json:"ms,omitempty"`
	After       int64             `json:"after,omitempty"`
	At          int64             `json:"at,omitempty"`
	N           int               `json:"n,omitempty"`
	Fired       int               `json:"fired"`
}

var faultNames = []string{
	"status", "delay", "reset", "truncate", "stall", "corrupt", "wrong-range", "ignore-range",
	"conflict", "precondition", "apply-then-500", "apply-late", "lfs-403", "max-connections",
}

func (r *Fault) check() error {
	switch {
	case !slices.Contains(faultNames, r.Fault):
		return fmt.Errorf("unknown fault %q; there are %s", r.Fault, strings.Join(faultNames, ", "))
	case r.Host != "" && r.Host != "hub" && r.Host != "cdn":
		return fmt.Errorf("fault %s: host is %q, not hub or cdn", r.Fault, r.Host)
	case r.Nth < 0 || r.Every < 0 || r.Times < 0 || r.MS < 0 || r.After < 0 || r.At < 0 || r.N < 0:
		return fmt.Errorf("fault %s: a number is negative", r.Fault)
	case r.Probability < 0 || r.Probability > 1:
		return fmt.Errorf("fault %s: probability %v is outside 0…1", r.Fault, r.Probability)
	case r.Status != 0 && (r.Status < 200 || r.Status > 599):
		return fmt.Errorf("fault %s: no such status as %d", r.Fault, r.Status)
	case r.Fault == "max-connections" && r.N == 0:
		return fmt.Errorf("fault %s: n is missing", r.Fault)
	}
	when := 0
	for _, set := range []bool{r.Nth > 0, r.Every > 0, r.Probability > 0} {
		if set {
			when++
		}
	}
	if when > 1 {
		return fmt.Errorf("fault %s: only one of nth, every and probability", r.Fault)
	}
	return nil
}

// faults is the set of rules in force.
type faults struct {
	mu    sync.Mutex
	rules []*rule    // guarded by mu
	dice  *rand.Rand // guarded by mu; seeded, so that runs can be compared
}

type rule struct {
	Fault
	seen   int            // guarded by faults.mu
	active map[string]int // guarded by faults.mu; of max-connections, by address
}

// SetFaults replaces the rules; their Fired counts start at 0.
func (h *Hub) SetFaults(rules ...Fault) error {
	compiled := make([]*rule, len(rules))
	for i, r := range rules {
		if err := r.check(); err != nil {
			return err
		}
		r.Fired = 0
		compiled[i] = &rule{Fault: r, active: map[string]int{}}
	}
	f := &h.front.faults
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = compiled
	f.dice = rand.New(rand.NewPCG(1, 2))
	return nil
}

// Faults returns the rules with their Fired counts.
func (h *Hub) Faults() []Fault {
	f := &h.front.faults
	f.mu.Lock()
	defer f.mu.Unlock()
	rules := make([]Fault, len(f.rules))
	for i, r := range f.rules {
		rules[i] = r.Fault
	}
	return rules
}

// match returns the rules whose method, path and host fit.
func (f *faults) match(r *http.Request, cdn bool) []*rule {
	host := "hub"
	if cdn {
		host = "cdn"
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var fit []*rule
	for _, rl := range f.rules {
		if (rl.Method == "" || strings.EqualFold(rl.Method, r.Method)) && (rl.Host == "" || rl.Host == host) &&
			(rl.Path == "" || glob(rl.Path, r.URL.Path)) {
			fit = append(fit, rl)
		}
	}
	return fit
}

// fire counts one matching request and reports whether the rule hits it.
func (f *faults) fire(r *rule) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	r.seen++
	if r.Times > 0 && r.Fired >= r.Times {
		return false
	}
	switch {
	case r.Nth > 0 && r.seen != r.Nth:
		return false
	case r.Every > 0 && r.seen%r.Every != 0:
		return false
	case r.Probability > 0 && f.dice.Float64() >= r.Probability:
		return false
	}
	r.Fired++
	return true
}

// arrive counts a request as one of its address's connections until leave
// and reports whether it is one too many.
func (f *faults) arrive(r *rule, address string) bool {
	f.mu.Lock()
	r.active[address]++
	over := r.active[address] > r.N
	f.mu.Unlock()
	return over && f.fire(r)
}

// leave ends what arrive counted.
func (f *faults) leave(rules []*rule, address string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range rules {
		if r.active[address]--; r.active[address] == 0 {
			delete(r.active, address)
		}
	}
}

// glob matches s with a pattern in which * stands for any characters.
func glob(pattern, s string) bool {
	parts := strings.Split(pattern, "*")
	s, ok := strings.CutPrefix(s, parts[0])
	if !ok || len(parts) == 1 {
		return ok && s == ""
	}
	last := len(parts) - 1
	for _, p := range parts[1:last] {
		i := strings.Index(s, p)
		if i < 0 {
			return false
		}
		s = s[i+len(p):]
	}
	return strings.HasSuffix(s, parts[last])
}
