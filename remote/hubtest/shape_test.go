package hubtest

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestPace has a connection be as fast as it should on average, whatever the
// size of the writes, and never earn anything by idleness.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, rate := range []int64{1_000_000, 50_000_000, 100_000_000, 2_000_000_000} {
			var p pacer
			const total = 200 << 20
			start := time.Now()
			for range 3 {
				for left := total; left > 0; {
					n := min(left, burst(rate))
					if err := p.pace(t.Context(), n, rate); err != nil {
						t.Fatal(err)
					}
					left -= n
				}
			}
			want := time.Duration(3 * total / float64(rate) * float64(time.Second))
			if got := time.Since(start); got < want-paceSlack || got > want+paceSlack {
				t.Errorf("%d B/s: %v, want %v", rate, got, want)
			}
			time.Sleep(time.Hour)
			start = time.Now()
			for range 100 {
				p.pace(t.Context(), int(rate/100), rate)
			}
			if got := time.Since(start); got < time.Second-paceSlack {
				t.Errorf("%d B/s: a second's worth in %v after a pause", rate, got)
			}
		}
	})
	for rate, want := range map[int64]int{1: minBurst, 10_000_000: 16 << 10, 50_000_000: 128 << 10, 100_000_000: 256 << 10, 1 << 40: maxBurst} {
		if got := burst(rate); got != want {
			t.Errorf("%d at once at %d B/s, want %d", got, rate, want)
		}
	}
}
