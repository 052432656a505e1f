package blockcache

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"hfmount/remote/hub"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeSource serves data with faults, and counts.
type fakeSource struct {
	data []byte

	requests, urgent, bytes, open atomic.Int64

	mu     sync.Mutex
	log    [][2]int64                                      // ranges, in order
	gate   func(ctx context.Context, off, n int64) error   // before the answer
	fault  func(off int64, p []byte) (keep int, err error) // on each piece read
	refuse func(off, n int64) error
}

func (s *fakeSource) OpenRange(ctx context.Context, off, n int64, urgent bool) (io.ReadCloser, error) {
	s.requests.Add(1)
	if urgent {
		s.urgent.Add(1)
	}
	if off < 0 || n <= 0 || off+n > int64(len(s.data)) {
		panic(fmt.Sprintf("range %d+%d outside of %d", off, n, len(s.data)))
	}
	s.mu.Lock()
	s.log = append(s.log, [2]int64{off, n})
	gate, fault, refuse := s.gate, s.fault, s.refuse
	s.mu.Unlock()
	if gate != nil {
		if err := gate(ctx, off, n); err != nil {
			return nil, err
		}
	}
	if refuse != nil {
		if err := refuse(off, n); err != nil {
			return nil, err
		}
	}
	s.open.Add(1)
	return &fakeReader{s: s, ctx: ctx, off: off, end: off + n, fault: fault}, nil
}

type fakeReader struct {
	s        *fakeSource
	ctx      context.Context
	off, end int64
	fault    func(int64, []byte) (int, error)
}

func (r *fakeReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	if r.off == r.end {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), 100_000)], r.s.data[r.off:r.end])
	var err error
	if r.fault != nil {
		n, err = r.fault(r.off, p[:n])
	}
	r.off += int64(n)
	r.s.bytes.Add(int64(n))
	return n, err
}

func (r *fakeReader) Close() error {
	r.s.open.Add(-1)
	return nil
}

func randomBytes(n int, seed uint64) []byte {
	b := make([]byte, n+8)
	g := rand.NewPCG(seed, 1)
	for i := 0; i < n; i += 8 {
		v := g.Uint64()
		for j := range 8 {
			b[i+j] = byte(v >> (8 * j))
		}
	}
	return b[:n]
}

func sha256ID(b []byte) hub.ContentID {
	h := sha256.Sum256(b)
	return hub.ContentID{Algo: hub.SHA256, Hex: hex.EncodeToString(h[:]), Size: int64(len(b))}
}

func gitID(b []byte) hub.ContentID {
	h := sha1.New()
	fmt.Fprintf(h, "blob %d\x00", len(b))
	h.Write(b)
	return hub.ContentID{Algo: hub.GitBlob, Hex: hex.EncodeToString(h.Sum(nil)), Size: int64(len(b))}
}

func open(t testing.TB, o Options) *Cache {
	t.Helper()
	c, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// handle opens a File that is closed before the cache is.
func handle(t testing.TB, c *Cache, id hub.ContentID, src Source) *File {
	t.Helper()
	f, err := c.File(id, src)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// readAll reads the whole file in steps.
func readAll(ctx context.Context, f *File, step int) ([]byte, error) {
	var out bytes.Buffer
	p := make([]byte, step)
	for off := int64(0); ; {
		n, err := f.ReadAt(ctx, p, off)
		out.Write(p[:n])
		off += int64(n)
		if err == io.EOF {
			return out.Bytes(), nil
		} else if err != nil {
			return out.Bytes(), err
		}
	}
}

func mustReadAll(t testing.TB, f *File, step int, want []byte) {
	t.Helper()
	got, err := readAll(t.Context(), f, step)
	if err != nil {
		t.Fatalf("after %d bytes: %v", len(got), err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("got %d wrong bytes, want %d", len(got), len(want))
	}
}
