package remote

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// budgetTest has waiters that note when they get a slot.
type budgetTest struct {
	t     *testing.T
	b     *budget
	order []string
}

func (x *budgetTest) wait(ctx context.Context, name string, urgent bool) {
	go func() {
		if x.b.acquire(ctx, urgent) == nil {
			x.order = append(x.order, name)
		}
	}()
	synctest.Wait()
}

func (x *budgetTest) check(want string, used int) {
	x.t.Helper()
	synctest.Wait()
	if got := fmt.Sprint(x.order); got != want || x.b.used != used {
		x.t.Errorf("%s and %d used, want %s and %d", got, x.b.used, want, used)
	}
}

func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &budgetTest{t: t, b: newBudget(4)}
		ctx := t.Context()
		for range 4 { // the background may have all of it
			if err := x.b.acquire(ctx, false); err != nil {
				t.Fatal(err)
			}
		}
		x.wait(ctx, "background", false)
		x.check("[]", 4)
		x.wait(ctx, "urgent 1", true) // one more, for the urgent alone
		x.check("[urgent 1]", 5)
		x.wait(ctx, "urgent 2", true)
		gone, cancel := context.WithCancel(ctx)
		x.wait(gone, "gone", true)
		cancel()
		x.check("[urgent 1]", 5)
		x.b.release()
		x.check("[urgent 1 urgent 2]", 5)
		x.b.release() // what was on top of the limit goes first
		x.check("[urgent 1 urgent 2]", 4)
		x.b.release()
		x.check("[urgent 1 urgent 2 background]", 4)

		x.b.throttle(time.Now())
		x.b.throttle(time.Now()) // the same burst
		if x.b.limit != 2 {
			t.Errorf("limit %d, want 2", x.b.limit)
		}
		x.wait(ctx, "urgent 3", true)
		x.b.release()
		x.b.release()
		x.check("[urgent 1 urgent 2 background]", 2) // nothing on top any more
		x.b.release()
		x.check("[urgent 1 urgent 2 background urgent 3]", 2)
		time.Sleep(throttleEvery)
		x.b.throttle(time.Now())
		time.Sleep(throttleEvery)
		x.b.throttle(time.Now())
		if x.b.limit != 1 {
			t.Errorf("limit %d, want 1", x.b.limit)
		}
		for range 100 {
			x.b.succeeded()
		}
		if x.b.limit != 4 {
			t.Errorf("limit %d, want 4 again", x.b.limit)
		}
	})
}

func TestBudgetPassedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &budgetTest{t: t, b: newBudget(4)}
		for range 4 {
			if err := x.b.acquire(t.Context(), false); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range "abcdef" {
			x.wait(t.Context(), string(name), false)
		}
		if !x.b.pass() {
			t.Error("a slot cannot be passed on")
		}
		x.check("[a]", 4)
		if !x.b.pass() || x.b.pass() {
			t.Error("not two of four may pass their slots on")
		}
		x.check("[a b]", 4)
		x.b.ended() // the tail is over, its slot was another's all the while
		x.check("[a b]", 4)
		if !x.b.pass() {
			t.Error("a tail that ended makes no room for another")
		}
		x.check("[a b c]", 4)

		// Once refused, what runs is what the limit says, tails included.
		x.b.throttle(time.Now())
		if x.b.pass() {
			t.Error("a slot was passed on within a limit that a CDN has set")
		}
		x.b.release()
		x.b.release()
		x.b.release()
		x.check("[a b c]", 1)
		x.b.ended()
		x.check("[a b c]", 1)
		x.b.ended()
		x.check("[a b c d]", 2)
	})
}

// slowHost answers after a time, and sends so many bytes a millisecond.
func slowHost(s *script, latency time.Duration, perMS int, began func(at time.Time)) roundTrip {
	return func(req *http.Request) (*http.Response, error) {
		resp, err := s.RoundTrip(req)
		if err == nil && req.URL.Host == "cdn.test" {
			began(time.Now())
			time.Sleep(latency)
			resp.Body = &slowBody{resp.Body, perMS}
		}
		return resp, err
	}
}

type slowBody struct {
	io.ReadCloser
	perMS int
}

func (b *slowBody) Read(p []byte) (int, error) {
	time.Sleep(time.Millisecond)
	return b.ReadCloser.Read(p[:min(len(p), b.perMS)])
}

// TestPassedOn has the next request leave one round trip before the end of the
// transfer whose slot it gets, and no sooner.
func TestPassedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const (
			size    = 4 << 20
			latency = 30 * time.Millisecond
			perMS   = 16 << 10
			takes   = size / perMS * time.Millisecond
		)
		s := &script{data: testData(size), lfs: true, shape: 'B'}
		var mu sync.Mutex
		var began []time.Time
		note := func(at time.Time) {
			mu.Lock()
			began = append(began, at)
			mu.Unlock()
		}
		c := newTest(t, slowHost(s, latency, perMS, note), func(o *Options) { o.Connections = 2 })
		read := func() {
			if _, err := readRange(t.Context(), c, s, 0, size); err != nil {
				t.Error(err)
			}
		}
		read() // the address is known, and the bandwidth
		read() // and the latency
		began = nil
		for range 4 {
			go read()
			time.Sleep(takes / 4)
		}
		time.Sleep(3 * takes)
		synctest.Wait()
		if len(began) != 4 {
			t.Fatalf("%d requests", len(began))
		}
		// The first two begin at once, the third as the first one ends.
		over := began[0].Add(latency + takes)
		if early := over.Sub(began[2]); early < latency/2 || early > latency+5*time.Millisecond {
			t.Errorf("the next request left %v before the end of a transfer, want %v", early, latency)
		}
		if c.budget.used != 0 || c.budget.tails != 0 {
			t.Errorf("%d slots and %d tails are left", c.budget.used, c.budget.tails)
		}
	})
}

func TestTempo(t *testing.T) {
	var p tempo
	if got := p.tail("x", 1<<20, time.Second); got != 0 {
		t.Errorf("%d bytes of a host never asked", got)
	}
	p.head("x", 100*time.Millisecond) // with a handshake
	for range 8 {
		p.head("x", 20*time.Millisecond)
	}
	if got := p.hosts["x"].latency; got > 21*time.Millisecond {
		t.Errorf("latency %v", got)
	}
	p.body("x", minSample-1, time.Millisecond) // too few to tell
	if got := p.tail("x", 0, 0); got != 0 {
		t.Errorf("%d bytes at no bandwidth", got)
	}
	p.body("x", 10<<20, 100*time.Millisecond)
	if got := p.tail("x", 0, 0); got < 2<<20 || got > 2200<<10 {
		t.Errorf("%d bytes, want those of 20 ms", got)
	}
	if got := p.tail("x", 1<<20, 100*time.Millisecond); got < 200<<10 || got > 220<<10 {
		t.Errorf("%d bytes of a transfer that is slower", got)
	}
	for i := range 200 {
		p.head(fmt.Sprint(i), time.Second)
	}
	if len(p.hosts) > maxTempo {
		t.Errorf("%d hosts", len(p.hosts))
	}
}
