package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hfmount/remote/hub"
)

func TestShapes(t *testing.T) {
	for _, shape := range []byte("ABC") {
		for _, lfs := range []bool{false, true} {
			s := &script{data: testData(1000), shape: shape, lfs: lfs}
			c := newTest(t, s)
			for _, r := range [][2]int64{{0, 1000}, {0, 1}, {999, 1}, {100, 300}, {1000, 0}} {
				got, err := readRange(t.Context(), c, s, r[0], r[1])
				if err != nil || !bytes.Equal(got, s.data[r[0]:r[0]+r[1]]) {
					t.Fatalf("shape %c range %v: %d bytes, %v", shape, r, len(got), err)
				}
			}
			if slices.Contains(s.auths, "cdn.test") {
				t.Errorf("shape %c: the CDN was shown the token", shape)
			}
			// One resolve, then straight to where it led.
			wantHub := map[byte]int{'A': 1 + 4, 'B': 1, 'C': 4}[shape]
			if s.hub != wantHub {
				t.Errorf("shape %c: %d requests to the Hub, want %d:\n%s", shape, s.hub, wantHub, strings.Join(s.log, "\n"))
			}
			if want := "hub.test /a/b/resolve/" + string(commit) + "/d/w%20%231.bin bytes=0-999"; s.log[0] != want {
				t.Errorf("first request %q, want %q", s.log[0], want)
			}
		}
	}
}

// TestReadFaults has every fault end in the right bytes or, where the fault
// stays, in an error of the right kind.
func TestReadFaults(t *testing.T) {
	const size = 1 << 16
	onCDN := func(req *http.Request) bool { return req.URL.Host == "cdn.test" }
	right := (&script{data: testData(size), lfs: true, shape: 'B'}).right
	for _, tt := range []struct {
		name  string
		fault func(n int, req *http.Request) *http.Response
		max   time.Duration // by when it must be over
		want  error
	}{
		{"reset mid-stream", func(n int, req *http.Request) *http.Response {
			if onCDN(req) && n <= 3 {
				return broken(right(req), req, 1000, false)
			}
			return nil
		}, 5 * time.Second, nil},
		{"stall mid-stream", func(n int, req *http.Request) *http.Response {
			if onCDN(req) && n == 1 {
				return broken(right(req), req, 100, true)
			}
			return nil
		}, 12 * time.Second, nil},
		{"503 and 429 on the CDN", func(n int, req *http.Request) *http.Response {
			if onCDN(req) && n <= 2 {
				return reply([]int{503, 429}[n-1], nil, "slow down")
			}
			return nil
		}, 5 * time.Second, nil},
		{"429 with Retry-After", func(n int, req *http.Request) *http.Response {
			if onCDN(req) && n == 1 {
				return reply(429, map[string]string{"Retry-After": "100"}, "")
			}
			return nil
		}, 101 * time.Second, nil},
		{"fresh 403 from the CDN", func(n int, req *http.Request) *http.Response {
			if onCDN(req) && n <= 2 {
				return reply(403, nil, "Auth failed: invalid range")
			}
			return nil
		}, 5 * time.Second, nil},
		{"500 from the Hub", func(n int, req *http.Request) *http.Response {
			if !onCDN(req) && n <= 2 {
				return reply(500, nil, "")
			}
			return nil
		}, 5 * time.Second, nil},
		{"wrong range once", func(n int, req *http.Request) *http.Response {
			if onCDN(req) && n == 1 {
				resp := right(req)
				resp.Header.Set("Content-Range", fmt.Sprintf("bytes 1-%d/%d", size-1, size))
				return resp
			}
			return nil
		}, 5 * time.Second, nil},
		{"wrong total always", func(n int, req *http.Request) *http.Response {
			if onCDN(req) {
				resp := right(req)
				resp.Header.Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", size-1, size+1))
				return resp
			}
			return nil
		}, 10 * time.Second, hub.ErrBadAnswer},
		{"gzip", func(n int, req *http.Request) *http.Response {
			if onCDN(req) {
				resp := right(req)
				resp.Header.Set("Content-Encoding", "gzip")
				return resp
			}
			return nil
		}, 10 * time.Second, hub.ErrBadAnswer},
		{"416", func(n int, req *http.Request) *http.Response {
			if onCDN(req) {
				return reply(416, map[string]string{"Content-Range": "bytes */3"}, "")
			}
			return nil
		}, 10 * time.Second, hub.ErrBadAnswer},
		{"lying length", func(n int, req *http.Request) *http.Response {
			if onCDN(req) {
				resp := right(req)
				resp.ContentLength = 7
				return resp
			}
			return nil
		}, 10 * time.Second, hub.ErrBadAnswer},
		{"other content", func(n int, req *http.Request) *http.Response {
			if !onCDN(req) {
				resp := right(req)
				resp.Header.Set("X-Linked-ETag", `"`+strings.Repeat("ab", 32)+`"`)
				return resp
			}
			return nil
		}, time.Second, hub.ErrBadAnswer},
		{"other size", func(n int, req *http.Request) *http.Response {
			if !onCDN(req) {
				resp := right(req)
				resp.Header.Set("X-Linked-Size", "12")
				return resp
			}
			return nil
		}, time.Second, hub.ErrBadAnswer},
		{"not there", func(n int, req *http.Request) *http.Response {
			return reply(404, map[string]string{"X-Error-Code": "EntryNotFound"}, "")
		}, time.Second, hub.ErrEntryNotFound},
		{"a proxy's 404", func(n int, req *http.Request) *http.Response {
			return reply(404, nil, "<html>")
		}, time.Second, hub.ErrBadAnswer},
		{"gated", func(n int, req *http.Request) *http.Response {
			return reply(403, map[string]string{"X-Error-Code": "GatedRepo"}, "")
		}, time.Second, hub.ErrGated},
		{"object missing on the CDN", func(n int, req *http.Request) *http.Response {
			if onCDN(req) {
				return reply(404, nil, "NoSuchKey")
			}
			return nil
		}, time.Minute, hub.ErrUnavailable},
		{"503 for ever", func(n int, req *http.Request) *http.Response {
			return reply(503, nil, "")
		}, 10 * time.Minute, hub.ErrUnavailable},
		{"no first byte", func(n int, req *http.Request) *http.Response {
			if onCDN(req) {
				<-req.Context().Done()
			}
			return nil
		}, 10 * time.Minute, hub.ErrUnavailable},
		{"a byte now and then", func(n int, req *http.Request) *http.Response {
			if onCDN(req) {
				resp := right(req)
				resp.Body = &trickle{resp.Body, req.Context()}
				return resp
			}
			return nil
		}, 10 * time.Minute, hub.ErrUnavailable},
		{"one byte for each request", func(n int, req *http.Request) *http.Response {
			if onCDN(req) {
				return broken(right(req), req, 1, false)
			}
			return nil
		}, 10 * time.Minute, hub.ErrUnavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{data: testData(size), lfs: true, shape: 'B', fault: tt.fault}
				c := newTest(t, s)
				start := time.Now()
				got, err := readRange(t.Context(), c, s, 0, size)
				if took := time.Since(start); took > tt.max {
					t.Errorf("took %v, at most %v wanted", took, tt.max)
				}
				if !errors.Is(err, tt.want) {
					t.Fatalf("error %v, want %v", err, tt.want)
				}
				if tt.want == nil && !bytes.Equal(got, s.data) {
					t.Fatalf("wrong bytes (%d)", len(got))
				}
				if !bytes.Equal(got, s.data[:len(got)]) {
					t.Error("wrong bytes before the error")
				}
				if err != nil {
					if strings.Contains(err.Error(), "topsecret") {
						t.Errorf("a secret in %q", err)
					}
					if tt.want != hub.ErrEntryNotFound && errors.Is(err, iofs.ErrNotExist) {
						t.Errorf("%v says that the file does not exist", err)
					}
				}
				if !c.Stats().Stalled.IsZero() {
					t.Error("still stalled afterwards")
				}
				if c.budget.used != 0 {
					t.Errorf("%d slots are still held", c.budget.used)
				}
			})
		})
	}
}

func TestFailsFastAndStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{data: testData(5000), lfs: true, shape: 'B'}
		down := true
		s.fault = func(int, *http.Request) *http.Response {
			if down {
				return reply(503, nil, "")
			}
			return nil
		}
		c := newTest(t, s, func(o *Options) { o.ReadTimeout = 20 * time.Second })
		done := make(chan error)
		start := time.Now()
		go func() {
			_, err := readRange(t.Context(), c, s, 1000, 1000)
			done <- err
		}()
		time.Sleep(3 * time.Second)
		if got := c.Stats().Stalled; !got.Equal(start) {
			t.Errorf("stalled since %v, want %v", got, start)
		}
		if err := <-done; !errors.Is(err, hub.ErrUnavailable) {
			t.Fatal(err)
		}
		asked, at := s.hub, time.Now()
		if _, err := readRange(t.Context(), c, s, 1500, 100); !errors.Is(err, hub.ErrUnavailable) {
			t.Fatal(err)
		}
		if s.hub != asked || time.Since(at) != 0 {
			t.Error("the same bytes did not fail at once")
		}
		if c.Stats().LastError == nil {
			t.Error("no last error")
		}
		down = false
		if _, err := readRange(t.Context(), c, s, 2000, 100); err != nil {
			t.Errorf("other bytes: %v", err)
		}
		time.Sleep(failFast)
		if _, err := readRange(t.Context(), c, s, 1500, 100); err != nil {
			t.Errorf("after five seconds: %v", err)
		}
	})
}

// TestFailsFastFromTheBlock: the range began before the byte that did not come,
// and so does the next attempt.
func TestFailsFastFromTheBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{data: testData(5000), lfs: true, shape: 'B'}
		s.fault = func(n int, req *http.Request) *http.Response {
			if req.URL.Host != "cdn.test" {
				return nil
			}
			if n == 1 {
				return broken(s.right(req), req, 700, false)
			}
			return reply(503, nil, "")
		}
		c := newTest(t, s, func(o *Options) { o.ReadTimeout = 20 * time.Second })
		got, err := readRange(t.Context(), c, s, 1000, 1000)
		if !errors.Is(err, hub.ErrUnavailable) || !bytes.Equal(got, s.data[1000:1700]) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		at := time.Now()
		if _, err := readRange(t.Context(), c, s, 1000, 1000); !errors.Is(err, hub.ErrUnavailable) || time.Since(at) != 0 {
			t.Errorf("%v after %v", err, time.Since(at))
		}
	})
}

func TestIgnoredRange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{data: testData(1 << 16), lfs: true, shape: 'B'}
		s.fault = func(_ int, req *http.Request) *http.Response {
			if req.URL.Host == "cdn.test" {
				return reply(200, nil, string(s.data))
			}
			return nil
		}
		c := newTest(t, s)
		got, err := readRange(t.Context(), c, s, 1000, 100)
		if err != nil || !bytes.Equal(got, s.data[1000:1100]) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		s.data = testData(maxSkip + 1000)
		if _, err := readRange(t.Context(), c, s, maxSkip+1, 100); !errors.Is(err, hub.ErrBadAnswer) {
			t.Errorf("a long prefix: %v", err)
		}
	})
}

func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{data: testData(100), lfs: true, shape: 'B'}
		c := newTest(t, s)
		for _, step := range []struct {
			after time.Duration
			hub   int
		}{{0, 1}, {30 * time.Minute, 1}, {29*time.Minute + 30*time.Second, 2}, {time.Second, 2}} {
			time.Sleep(step.after)
			if _, err := readRange(t.Context(), c, s, 0, 100); err != nil {
				t.Fatal(err)
			}
			if s.hub != step.hub {
				t.Errorf("after another %v: %d resolves, want %d", step.after, s.hub, step.hub)
			}
		}
		if s.cdn != 4 {
			t.Errorf("%d CDN requests, want 4: an expired URL was used", s.cdn)
		}
		// Revoked before its time: one new resolve, no pause, no throttling.
		revoked := true
		s.fault = func(_ int, req *http.Request) *http.Response {
			if req.URL.Host == "cdn.test" && revoked {
				revoked = false
				return reply(403, nil, "")
			}
			return nil
		}
		start := time.Now()
		if _, err := readRange(t.Context(), c, s, 0, 100); err != nil {
			t.Fatal(err)
		}
		if s.hub != 3 || time.Since(start) != 0 || c.Stats().Connections != 16 {
			t.Errorf("%d resolves, %v, %d connections", s.hub, time.Since(start), c.Stats().Connections)
		}
	})
}

func TestOneResolveForMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{data: testData(1000), lfs: true, shape: 'B'}
		s.fault = func(_ int, req *http.Request) *http.Response {
			select { // a slow Hub
			case <-time.After(time.Second):
			case <-req.Context().Done():
			}
			return nil
		}
		c := newTest(t, s)
		first, cancel := context.WithCancel(t.Context())
		go func() {
			time.Sleep(time.Second / 2)
			cancel() // the one who asks for all gives up
		}()
		var wg sync.WaitGroup
		for i := range int64(10) {
			wg.Go(func() {
				ctx := t.Context()
				if i == 0 {
					ctx = first
				} else {
					time.Sleep(time.Millisecond)
				}
				got, err := readRange(ctx, c, s, i*100, 100)
				if i == 0 {
					if !errors.Is(err, context.Canceled) {
						t.Errorf("the one who gave up: %v", err)
					}
				} else if err != nil || !bytes.Equal(got, s.data[i*100:i*100+100]) {
					t.Errorf("%d: %v", i, err)
				}
			})
		}
		wg.Wait()
		if s.hub != 2 {
			t.Errorf("%d resolves, want 2", s.hub)
		}
	})
}

func TestPauseOfTheReaderIsNoStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{data: testData(1000), lfs: true, shape: 'B'}
		s.fault = func(n int, req *http.Request) *http.Response {
			if req.URL.Host == "cdn.test" && n == 1 {
				return broken(s.right(req), req, 10, false)
			}
			return nil
		}
		c := newTest(t, s)
		r, err := c.OpenRange(t.Context(), snapAB, s.entry(), 0, 1000, true)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if _, err := io.ReadFull(r, make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if _, err := io.ReadFull(r, make([]byte, 990)); err != nil {
			t.Fatal(err)
		}
	})
}

func TestBadArguments(t *testing.T) {
	s := &script{data: testData(100), shape: 'C'}
	c := newTest(t, s)
	e := s.entry()
	for _, r := range [][2]int64{{-1, 1}, {0, -1}, {0, 101}, {101, 0}, {50, 1 << 62}} {
		if _, err := c.OpenRange(t.Context(), snapAB, e, r[0], r[1], true); !errors.Is(err, iofs.ErrInvalid) {
			t.Errorf("%v: %v", r, err)
		}
	}
	e.Type = hub.Directory
	if _, err := c.OpenRange(t.Context(), snapAB, e, 0, 1, true); !errors.Is(err, iofs.ErrInvalid) {
		t.Error(err)
	}
	if s.hub != 0 {
		t.Error("a request was made")
	}
}

// trickle sends a byte every nine seconds.
type trickle struct {
	io.ReadCloser
	ctx context.Context
}

func (b *trickle) Read(p []byte) (int, error) {
	if err := sleep(b.ctx, 9*time.Second); err != nil {
		return 0, err
	}
	return b.ReadCloser.Read(p[:1])
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }
func (endless) Close() error               { return nil }

func TestSteadyStreamAllocatesNothing(t *testing.T) {
	const size = 1 << 40
	c := newTest(t, roundTrip(func(req *http.Request) (*http.Response, error) {
		resp := reply(206, map[string]string{"Content-Range": fmt.Sprintf("bytes 0-%d/%d", size-1, size)}, "")
		resp.ContentLength, resp.Body, resp.Request = size, endless{}, req
		return resp, nil
	}))
	e := hub.Entry{Path: "x", Size: size, OID: strings.Repeat("a", 40), SHA256: strings.Repeat("b", 64)}
	r, err := c.OpenRange(t.Context(), snapAB, e, 0, size, true)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	buf := make([]byte, 1<<17)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := r.Read(buf); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for each Read", n)
	}
}

func BenchmarkStream(b *testing.B) {
	const size = 1 << 50
	c, err := New(Options{Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
		resp := reply(206, map[string]string{"Content-Range": fmt.Sprintf("bytes 0-%d/%d", size-1, size)}, "")
		resp.ContentLength, resp.Body, resp.Request = size, endless{}, req
		return resp, nil
	})})
	if err != nil {
		b.Fatal(err)
	}
	e := hub.Entry{Path: "x", Size: size, OID: strings.Repeat("a", 40), SHA256: strings.Repeat("b", 64)}
	r, err := c.OpenRange(b.Context(), snapAB, e, 0, size, true)
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	buf := make([]byte, 1<<17)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Read(buf); err != nil {
			b.Fatal(err)
		}
	}
}
