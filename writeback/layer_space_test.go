package writeback

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hfmount/writeback/staging"
)

func fill(l *testLayer, path string, n int) {
	l.t.Helper()
	l.write(path, string(make([]byte, n)), true)
}

func TestStagingIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTestLayer(t)
		l.o.MaxStaging = 1 << 20
		l.must(l.Layer.Close())
		l.open()
		fill(l, "a", 1<<20)
		time.Sleep(countAfter)
		// Nothing drains.
		began := time.Now()
		if _, err := l.NewFile(context.Background()); !errors.Is(err, ErrNoSpace) {
			t.Errorf("a new file: %v", err)
		}
		if d := time.Since(began); d != patience {
			t.Errorf("told after %v", d)
		}
		// Interrupted.
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := l.NewFileOver(ctx, Place{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("interrupted: %v", err)
		}
		// To cut a file short always works, to make it longer does not.
		c, _ := l.Get("a")
		h, err := c.File.Open(OpenFile{Write: true})
		l.must(err)
		l.must(h.Truncate(ctx, 1<<20-1))
		if err := h.Truncate(context.Background(), 2<<20); !errors.Is(err, ErrNoSpace) {
			t.Errorf("a longer file: %v", err)
		}
		l.must(h.Release())
		// It drains slowly: the writer waits as long as it does.
		go func() {
			for range 5 {
				time.Sleep(8 * time.Second)
				l.drained()
			}
			_, err := l.Discard("a")
			if err != nil {
				t.Error(err)
			}
		}()
		began = time.Now()
		f, err := l.NewFile(context.Background())
		if d := time.Since(began); err != nil || d != 40*time.Second {
			t.Errorf("waited %v: %v", d, err)
		} else {
			f.Abandon()
		}
	})
}

// Everything at once: writers, readers, renames, seals and commits.
func TestLayerConcurrently(t *testing.T) {
	l := newTestLayer(t)
	ctx, stop := context.WithTimeout(context.Background(), 2*time.Second)
	defer stop()
	var writers, others sync.WaitGroup
	fail := func(err error) {
		if err != nil && !errors.Is(err, ErrRaced) && !errors.Is(err, ErrLanded) {
			t.Error(err)
		}
	}
	for w := range 3 {
		writers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				path := fmt.Sprintf("w%d/f%d", w, i%5)
				f, err := l.NewFile(ctx)
				if err != nil {
					return // the time is over
				}
				h, err := f.Open(OpenFile{Write: true})
				fail(err)
				fail(l.Apply(0, Edit{Path: path, File: f}))
				for j := range 20 {
					_, err := h.WriteAt(context.Background(), fmt.Appendf(nil, "line %d\n", j), -1)
					fail(err)
				}
				fail(h.Flush())
				if i%3 == 0 {
					fail(h.Sync(context.Background()))
				}
				fail(h.Release())
				if i%2 == 0 {
					fail(l.Apply(0, Edit{Path: path + ".final", File: f, Was: path}, Edit{Path: path, Forget: true}))
				}
				if again, err := f.Open(OpenFile{Write: true}); err == nil {
					_, err = again.WriteAt(context.Background(), []byte("LINE"), 0)
					fail(err)
					fail(again.Release())
				} else if !errors.Is(err, ErrLanded) && !errors.Is(err, errClosed) {
					fail(err)
				}
			}
		})
	}
	others.Go(func() {
		for ctx.Err() == nil {
			for _, c := range l.Under("") {
				if c.File == nil {
					continue
				}
				h, err := c.File.Open(OpenFile{})
				if err != nil {
					continue
				}
				p := make([]byte, 4)
				if n, err := h.ReadAt(context.Background(), p, 0); err == nil && n == 4 && string(p) != "line" && string(p) != "LINE" {
					t.Errorf("read %q", p)
				} else if errors.Is(err, errClosed) {
					t.Error(err)
				}
				fail(h.Release())
			}
			l.Dir("w0")
		}
	})
	others.Go(func() {
		for ctx.Err() == nil {
			for _, it := range l.items() {
				if it.File == nil {
					continue
				}
				s, err := l.seal(ctx, it.File)
				if err != nil {
					if !errors.Is(err, staging.ErrWriters) && !errors.Is(err, staging.ErrChanged) && ctx.Err() == nil {
						fail(err)
					}
					continue
				}
				p := make([]byte, s.Size)
				_, _ = s.data.ReadAt(p, 0)
				if !s.content().isBytes(string(p)) {
					t.Error("sealed bytes changed")
				}
				d := landedChange{path: it.Path, seq: it.seq, gen: s.gen, base: Base{Commit: "5", Entry: s.content().entry(it.Path, false)}}
				fail(l.arriving([]landedChange{d}))
				fail(l.landed([]landedChange{d}))
				s.release()
			}
		}
	})
	writers.Wait()
	others.Wait()
	for _, c := range l.Under("") {
		if c.State != Pending {
			t.Errorf("%s is %s", c.Path, c.State)
		}
	}
	l.must(l.Sync())
	if n, m := l.staged(), len(l.Under("")); n != m {
		t.Errorf("%d staging files for %d changes", n, m)
	}
}
