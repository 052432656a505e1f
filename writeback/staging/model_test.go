package staging

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errBase = errors.New("the base failed")

func randomBytes(g *rand.Rand, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(g.Uint32())
	}
	return p
}

// grow makes p n bytes long, with zeros.
func grow(p []byte, n int) []byte {
	if n > len(p) {
		p = append(p, make([]byte, n-len(p))...)
	}
	return p
}

// Random operations agree with a slice of bytes, step by step, while somebody
// fills the file from a base that fails now and then.
func TestModel(t *testing.T) {
	const most = 5 << 19
	for seed := range uint64(40) {
		g := rand.New(rand.NewPCG(seed, 7))
		d := openDir(t)
		base := randomBytes(g, g.IntN(most))
		var mu sync.Mutex
		src := &bytesSource{data: base}
		fails := rand.New(rand.NewPCG(seed, 8))
		src.fail = func(int64) error {
			mu.Lock()
			defer mu.Unlock()
			if fails.IntN(4) == 0 {
				return errBase
			}
			return nil
		}
		want := bytes.Clone(base)
		f, err := d.CreateOver(src, int64(len(base)))
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		fill := func() {
			wg.Go(func() {
				for ctx.Err() == nil {
					if err := f.Fill(ctx); err == nil {
						return
					} else if !errors.Is(err, errBase) && ctx.Err() == nil {
						t.Error(err)
					}
				}
			})
		}
		for step := range 60 {
			off, n := g.IntN(most), g.IntN(200_000)
			switch op := g.IntN(12); op {
			case 0, 1, 2, 3:
				p := randomBytes(g, n)
				if k, err := f.WriteAt(p, int64(off)); k != n || err != nil {
					t.Fatalf("seed %d: %d, %v", seed, k, err)
				}
				if n > 0 {
					want = grow(want, off+n)
					copy(want[off:], p)
				}
			case 4:
				if err := f.Truncate(int64(off)); err != nil {
					t.Fatal(err)
				}
				want = grow(want, off)[:off]
			case 5:
				mode := []uint32{0, unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE,
					unix.FALLOC_FL_ZERO_RANGE, unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE}[g.IntN(5)]
				if err := f.Allocate(int64(off), int64(n+1), mode); err != nil {
					t.Fatalf("seed %d: mode %#x: %v", seed, mode, err)
				}
				if mode&unix.FALLOC_FL_KEEP_SIZE == 0 {
					want = grow(want, off+n+1)
				}
				if mode&(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_ZERO_RANGE) != 0 && off < len(want) {
					clear(want[off:min(off+n+1, len(want))])
				}
			case 6:
				if step > 20 {
					fill()
				}
			case 7:
				if err := f.Idle(); err != nil {
					t.Fatal(err)
				}
			case 8:
				if g.IntN(4) > 0 {
					break
				}
				// Another process takes over, by what a journal would hold.
				stop()
				wg.Wait()
				size, filled := f.BaseSize(), f.Filled()
				complete := f.Complete()
				if err := f.Close(); err != nil {
					t.Fatal(err)
				}
				var again Source
				if !complete {
					again = &bytesSource{data: base, fail: src.fail}
				}
				if f, err = d.Open(f.ID(), again, size, filled); err != nil {
					t.Fatal(err)
				}
				ctx, stop = context.WithCancel(t.Context())
			default:
				p := make([]byte, n)
				k, err := f.ReadAt(t.Context(), p, int64(off))
				if errors.Is(err, errBase) {
					if !bytes.Equal(p[:k], want[off:off+k]) {
						t.Fatalf("seed %d: other bytes before an error", seed)
					}
					break
				}
				is := want[min(off, len(want)):min(off+n, len(want))]
				if !bytes.Equal(p[:k], is) || (k < n) != (err == io.EOF) {
					t.Fatalf("seed %d, step %d: read %d of %d at %d, %v", seed, step, k, n, off, err)
				}
			}
			if f.Size() != int64(len(want)) {
				t.Fatalf("seed %d, step %d: size %d, want %d", seed, step, f.Size(), len(want))
			}
		}
		fill()
		wg.Wait()
		stop()
		if !f.Complete() || !bytes.Equal(content(t, f), want) {
			t.Fatalf("seed %d: other bytes at the end", seed)
		}
		s, err := f.Seal(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		checkSealed(t, s, want)
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Writers of different places and a Fill at once: every write wins over it.
func TestWritesDuringFillWin(t *testing.T) {
	d := openDir(t)
	base := bytes.Repeat([]byte{'b'}, 6<<20)
	src := &bytesSource{data: base}
	f, err := d.CreateOver(src, int64(len(base)))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// Each piece of the base is overwritten while it is on its way.
	src.fail = func(off int64) error {
		for i := range int64(8) {
			if _, err := f.WriteAt([]byte("written"), off+i*100_000); err != nil {
				t.Error(err)
			}
		}
		return nil
	}
	if err := f.Fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := bytes.Clone(base)
	for off := 0; off < len(want); off += 1 << 20 {
		for i := range 8 {
			copy(want[off+i*100_000:], "written")
		}
	}
	// The pieces after the first begin where the writes left a gap, so that
	// only what was written and what was not is certain.
	got := content(t, f)
	for i := range want {
		if got[i] != 'b' && !bytes.ContainsRune([]byte("written"), rune(got[i])) {
			t.Fatalf("byte %d is %q", i, got[i])
		}
	}
	if !bytes.Equal(got[:7], []byte("written")) || bytes.Count(got, []byte("written")) < 8 {
		t.Errorf("a write was lost: %q", got[:20])
	}
}

func TestTruncateDuringFill(t *testing.T) {
	d := openDir(t)
	base := bytes.Repeat([]byte{'b'}, 3<<20)
	src := &bytesSource{data: base}
	f, err := d.CreateOver(src, int64(len(base)))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	src.fail = func(off int64) error {
		if off == 1<<20 {
			if err := errors.Join(f.Truncate(1<<20+5), f.Truncate(2<<20)); err != nil {
				t.Error(err)
			}
		}
		return nil
	}
	if err := f.Fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := grow(slices.Clone(base[:1<<20+5]), 2<<20)
	if !bytes.Equal(content(t, f), want) {
		t.Error("what was cut off came back")
	}
	if src.closed.Load() != 1 {
		t.Errorf("base closed %d times", src.closed.Load())
	}
}

func TestRanges(t *testing.T) {
	const n = 200
	for seed := range uint64(300) {
		g := rand.New(rand.NewPCG(seed, 3))
		var s ranges
		var want [n]bool
		for range 30 {
			a := g.IntN(n)
			b := a + g.IntN(n-a)
			if g.IntN(6) == 0 {
				s.cut(int64(a))
				clear(want[a:])
				continue
			}
			s.add(Range{int64(a), int64(b)})
			for i := a; i < b; i++ {
				want[i] = true
			}
		}
		for i := 1; i < len(s); i++ {
			if s[i-1].End >= s[i].Off || s[i].Off >= s[i].End {
				t.Fatalf("seed %d: %v", seed, s)
			}
		}
		for at := int64(0); at < n; {
			end, in := s.split(Range{at, n})
			if end <= at {
				t.Fatalf("seed %d: no progress at %d of %v", seed, at, s)
			}
			for ; at < end; at++ {
				if want[at] != in {
					t.Fatalf("seed %d: byte %d of %v", seed, at, s)
				}
			}
		}
	}
}
