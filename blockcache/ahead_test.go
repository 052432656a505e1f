package blockcache

import (
	"context"
	"errors"
	"sync"
	"testing"
)

// TestAhead has a small object brought once, behind readers, and shared with
// one who comes while it is under way.
func TestAhead(t *testing.T) {
	for _, disk := range []bool{false, true} {
		o := Options{}
		if disk {
			o.Dir, o.DiskBytes = t.TempDir(), 1<<30
		}
		c := open(t, o)
		data := randomBytes(100_000, 1)
		id := gitID(data)
		begun, goOn := make(chan struct{}), make(chan struct{})
		src := &fakeSource{data: data, gate: func(context.Context, int64, int64) error {
			close(begun)
			<-goOn
			return nil
		}}
		if c.Near(id) {
			t.Fatal("near before it was brought")
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := c.Ahead(t.Context(), id, src); err != nil {
				t.Error(err)
			}
		})
		<-begun
		f := handle(t, c, id, src)
		wg.Go(func() { mustReadAll(t, f, 4096, data) })
		close(goOn)
		wg.Wait()
		if err := c.Ahead(t.Context(), id, src); err != nil {
			t.Fatal(err)
		}
		if !c.Near(id) || src.requests.Load() != 1 || src.urgent.Load() != 0 {
			t.Errorf("near %v after %d requests, %d of them urgent", c.Near(id), src.requests.Load(), src.urgent.Load())
		}
	}
}

// TestAheadEnds has the end of the one who brings an object be nothing that a
// reader sees.
func TestAheadEnds(t *testing.T) {
	c := open(t, Options{})
	data := randomBytes(5000, 2)
	id := gitID(data)
	begun := make(chan struct{})
	src := &fakeSource{data: data, gate: func(ctx context.Context, _, _ int64) error {
		close(begun)
		<-ctx.Done()
		return ctx.Err()
	}}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := c.Ahead(ctx, id, src); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	<-begun
	own := &fakeSource{data: data}
	f := handle(t, c, id, own)
	wg.Go(func() { mustReadAll(t, f, 4096, data) })
	cancel()
	wg.Wait()
	if n := own.requests.Load(); n != 1 {
		t.Errorf("%d requests", n)
	}
}

func TestAheadErrors(t *testing.T) {
	c := open(t, Options{})
	data := randomBytes(5000, 3)
	if err := c.Ahead(t.Context(), gitID(data), &fakeSource{data: randomBytes(5000, 4)}); !errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
	id := gitID(data)
	id.Size = Whole + 1
	if err := c.Ahead(t.Context(), id, &fakeSource{data: data}); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
	if c.Near(gitID(data)) {
		t.Error("near after a failure")
	}
}
