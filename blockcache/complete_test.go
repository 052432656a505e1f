package blockcache

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// errLost is a source that must not be asked.
var errLost = errors.New("asked for bytes")

func refuseAll(int64, int64) error { return errLost }

// whole reads the object through a new cache on dir, without a source.
func whole(t *testing.T, dir string, data []byte) {
	t.Helper()
	c := open(t, Options{Dir: dir, DiskBytes: 1 << 30})
	f := handle(t, c, sha256ID(data), &fakeSource{data: data, refuse: refuseAll})
	if _, ok := f.Native(); !ok {
		t.Error("it does not open natively")
	}
	mustReadAll(t, f, 300_000, data)
}

func TestComplete(t *testing.T) {
	for name, data := range map[string][]byte{
		"large": randomBytes(37*blockSize+77, 1), "small": randomBytes(3*blockSize+5, 2), "tiny": randomBytes(9, 3),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c := open(t, Options{Dir: dir, DiskBytes: 1 << 30, MemoryBytes: 16 << 20})
			src := &fakeSource{data: data}
			f := handle(t, c, sha256ID(data), src)
			if err := f.Complete(t.Context()); err != nil {
				t.Fatal(err)
			}
			if !c.Contains(f.ID()) || f.Stored() != f.ID().Size {
				t.Errorf("contained: %v, stored %d of %d", c.Contains(f.ID()), f.Stored(), f.ID().Size)
			}
			if n := src.bytes.Load(); n != int64(len(data)) {
				t.Errorf("fetched %d bytes of %d", n, len(data))
			}
			if n := src.urgent.Load(); n != 0 {
				t.Errorf("%d ranges said that a reader waits", n)
			}
			asked := src.requests.Load()
			if err := f.Complete(t.Context()); err != nil || src.requests.Load() != asked {
				t.Errorf("again: %v, %d requests more", err, src.requests.Load()-asked)
			}
			whole(t, dir, data)
		})
	}
}

// Complete uses all connections, however many objects are brought at once.
func TestCompleteConnections(t *testing.T) {
	const conns = 4
	c := open(t, Options{Dir: t.TempDir(), DiskBytes: 1 << 30, Connections: conns})
	var now, most atomic.Int64
	full := make(chan struct{})
	gate := func(ctx context.Context, _, _ int64) error {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		if n == conns {
			select {
			case <-full:
			default:
				close(full)
			}
		}
		select {
		case <-full:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	var wg sync.WaitGroup
	for i := range 2 {
		data := randomBytes(70*blockSize, uint64(i))
		f := handle(t, c, sha256ID(data), &fakeSource{data: data, gate: gate})
		wg.Go(func() {
			if err := f.Complete(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := most.Load(); n != conns {
		t.Errorf("%d ranges at once, want %d", n, conns)
	}
}

// What arrived before a failure, or the end of the process, is not fetched
// again; nor is what a reader had.
func TestCompleteResumes(t *testing.T) {
	data := randomBytes(40*blockSize+9, 4)
	dir := t.TempDir()
	o := Options{Dir: dir, DiskBytes: 1 << 30, MemoryBytes: 16 << 20}
	broken := errors.New("broken")
	src := &fakeSource{data: data, refuse: func(off, _ int64) error {
		if off > 20*blockSize {
			return broken
		}
		return nil
	}}
	c, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	f, err := c.File(sha256ID(data), src)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReadAt(t.Context(), make([]byte, 1000), 39*blockSize); !errors.Is(err, broken) {
		t.Fatalf("%v, want the source's failure", err)
	}
	if err := f.Complete(t.Context()); !errors.Is(err, broken) {
		t.Fatalf("%v, want the source's failure", err)
	}
	f.Close()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	first := src.bytes.Load()
	src = &fakeSource{data: data}
	c = open(t, o)
	f = handle(t, c, sha256ID(data), src)
	stored := f.Stored()
	if stored == 0 {
		t.Fatal("nothing of the first attempt is left")
	}
	if err := f.Complete(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := src.bytes.Load(); n != int64(len(data))-stored {
		t.Errorf("fetched %d bytes, and %d before, of which %d were stored", n, first, stored)
	}
	whole(t, dir, data)
}

func TestCompleteCorrupt(t *testing.T) {
	data := randomBytes(12*blockSize, 5)
	bad := bytes.Clone(data)
	bad[7*blockSize]++
	for _, n := range []int{len(data), 4 * blockSize} {
		c := open(t, Options{Dir: t.TempDir(), DiskBytes: 1 << 30})
		if n < len(data) {
			bad[0]++
		}
		f := handle(t, c, sha256ID(data[:n]), &fakeSource{data: bad[:n]})
		if err := f.Complete(t.Context()); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%d bytes: %v, want ErrCorrupt", n, err)
		}
		if c.Contains(f.ID()) {
			t.Errorf("%d corrupt bytes are called complete", n)
		}
	}
}

// What cannot be stored is an error, before it is fetched where that is known.
func TestCompleteWithoutRoom(t *testing.T) {
	data, other := randomBytes(20*blockSize, 6), randomBytes(10*blockSize, 7)
	for name, o := range map[string]Options{
		"no disk": {}, "too large": {Dir: t.TempDir(), DiskBytes: 19 << 20},
	} {
		c := open(t, o)
		src := &fakeSource{data: data}
		f := handle(t, c, sha256ID(data), src)
		if err := f.Complete(t.Context()); !errors.Is(err, ErrNoRoom) || src.requests.Load() != 0 {
			t.Errorf("%s: %v after %d requests, want ErrNoRoom", name, err, src.requests.Load())
		}
	}
	// Of two that do not fit together the one in use stays.
	c := open(t, Options{Dir: t.TempDir(), DiskBytes: 25 << 20})
	a := handle(t, c, sha256ID(other), &fakeSource{data: other})
	b := handle(t, c, sha256ID(data), &fakeSource{data: data})
	if err := a.Complete(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.Complete(t.Context()); !errors.Is(err, ErrNoRoom) {
		t.Errorf("%v, want ErrNoRoom", err)
	}
	if !c.Contains(a.ID()) || c.Contains(b.ID()) {
		t.Error("an object in use made way")
	}
	if room, err := c.Room(t.Context()); room != 25<<20 || err != nil {
		t.Errorf("room for %d bytes, %v", room, err)
	}
}

// Another process that has the object open, and read a little of it, gives way
// and finds what is stored.
func TestCompleteBesideAnother(t *testing.T) {
	data := randomBytes(30*blockSize, 8)
	o := Options{Dir: t.TempDir(), DiskBytes: 1 << 30}
	mount, fetch := open(t, o), open(t, o)
	theirs := &fakeSource{data: data}
	f := handle(t, mount, sha256ID(data), theirs)
	if _, err := f.ReadAt(t.Context(), make([]byte, 100_000), 0); err != nil {
		t.Fatal(err)
	}
	const had = firstRead // the rest of the first piece comes by itself
	for f.Stored() < had {
		time.Sleep(time.Millisecond)
	}
	ours := &fakeSource{data: data}
	g := handle(t, fetch, sha256ID(data), ours)
	if err := g.Complete(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := ours.bytes.Load(); n != int64(len(data))-had {
		t.Errorf("fetched %d bytes, the other had %d of %d", n, had, len(data))
	}
	mustReadAll(t, f, blockSize, data)
	if n := theirs.bytes.Load(); n != had {
		t.Errorf("the other fetched %d bytes that were stored", n-had)
	}
	f.Close()
	f = handle(t, mount, sha256ID(data), &fakeSource{data: data, refuse: refuseAll})
	if _, ok := f.Native(); !ok {
		t.Error("the other does not open it natively")
	}
}

// Two that complete the same object at once fetch it once.
func TestCompleteTwice(t *testing.T) {
	data := randomBytes(30*blockSize, 9)
	o := Options{Dir: t.TempDir(), DiskBytes: 1 << 30}
	src := &fakeSource{data: data, gate: func(ctx context.Context, _, _ int64) error {
		select {
		case <-time.After(20 * time.Millisecond):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}
	var wg sync.WaitGroup
	for range 3 {
		f := handle(t, open(t, o), sha256ID(data), src)
		wg.Go(func() {
			if err := f.Complete(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := src.bytes.Load(); n != int64(len(data)) {
		t.Errorf("fetched %d bytes of %d", n, len(data))
	}
}

// The end of the context ends the transfers.
func TestCompleteInterrupted(t *testing.T) {
	data := randomBytes(30*blockSize, 10)
	c := open(t, Options{Dir: t.TempDir(), DiskBytes: 1 << 30})
	ctx, cancel := context.WithCancel(t.Context())
	src := &fakeSource{data: data, gate: func(ctx context.Context, off, _ int64) error {
		if off == 0 {
			return nil
		}
		cancel()
		<-ctx.Done()
		return ctx.Err()
	}}
	f := handle(t, c, sha256ID(data), src)
	if err := f.Complete(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("%v, want the context's end", err)
	}
	f.Close()
	if n := src.open.Load(); n != 0 {
		t.Errorf("%d transfers go on", n)
	}
}

// A reader of an object that is being brought shares its flights.
func TestCompleteWithReaders(t *testing.T) {
	data := randomBytes(30*blockSize+1, 11)
	c := open(t, Options{Dir: t.TempDir(), DiskBytes: 1 << 30})
	src := &fakeSource{data: data}
	f := handle(t, c, sha256ID(data), src)
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			g, err := c.File(f.ID(), src)
			if err != nil {
				t.Error(err)
				return
			}
			defer g.Close()
			p := make([]byte, 100_000)
			for off := int64(i) * 70_001; ; off += 300_000 {
				n, err := g.ReadAt(t.Context(), p, off)
				if !bytes.Equal(p[:n], data[min(off, int64(len(data))):][:n]) {
					t.Errorf("wrong bytes at %d", off)
				}
				if err == io.EOF {
					return
				} else if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	if err := f.Complete(t.Context()); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if n := src.bytes.Load(); n != int64(len(data)) {
		t.Errorf("fetched %d bytes of %d", n, len(data))
	}
}
