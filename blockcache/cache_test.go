package blockcache

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"hfmount/remote/hub"
)

func TestReadSizes(t *testing.T) {
	for _, tier := range []string{"memory", "disk"} {
		for _, size := range []int{0, 1, 4096, chunkSize, chunkSize + 1, blockSize, 3*blockSize - 7, smallSize, smallSize + 1, 40*blockSize + 12345} {
			data := randomBytes(size, uint64(size))
			o := Options{MemoryBytes: minMemory}
			if tier == "disk" {
				// Enough memory that the writer never falls behind.
				o.Dir, o.DiskBytes, o.MemoryBytes = t.TempDir(), 1<<30, 0
			}
			c := open(t, o)
			for _, id := range []hub.ContentID{sha256ID(data), gitID(data)} {
				src := &fakeSource{data: data}
				for _, step := range []int{chunkSize, 3*blockSize + 1} {
					f, err := c.File(id, src)
					if err != nil {
						t.Fatal(err)
					}
					mustReadAll(t, f, step, data)
					if err := f.Close(); err != nil {
						t.Error(err)
					}
				}
				if tier == "disk" && src.bytes.Load() != int64(size) {
					t.Errorf("size %d: fetched %d bytes", size, src.bytes.Load())
				}
				if n := src.open.Load(); n != 0 {
					t.Errorf("%d readers left open", n)
				}
			}
		}
	}
}

func TestRandomReads(t *testing.T) {
	data := randomBytes(30*blockSize+777, 3)
	c := open(t, Options{MemoryBytes: minMemory, Dir: t.TempDir(), DiskBytes: 1 << 30})
	src := &fakeSource{data: data}
	var wg sync.WaitGroup
	for w := range 4 {
		f := handle(t, c, sha256ID(data), src)
		wg.Go(func() {
			g := rand.New(rand.NewPCG(uint64(w), 5))
			for range 150 {
				off := g.Int64N(int64(len(data)) + 10)
				p := make([]byte, 1+g.IntN(3*blockSize))
				n, err := f.ReadAt(context.Background(), p, off)
				want := data[min(off, int64(len(data))):min(off+int64(len(p)), int64(len(data)))]
				if !bytes.Equal(p[:n], want) || (n < len(p)) != (err == io.EOF) {
					t.Errorf("read %d at %d: %d bytes, %v", len(p), off, n, err)
					return
				}
				v, err := f.View(context.Background(), off, len(p))
				if err != nil || v.Len() != len(want) || !bytes.Equal(bytes.Join(v.Slices(), nil), want) {
					t.Errorf("view %d at %d: %v", len(p), off, err)
					return
				}
				v.Release()
			}
		})
	}
	wg.Wait()
}

func TestFailedFetchIsRetriedByTheNextRead(t *testing.T) {
	data := randomBytes(10*blockSize, 4)
	boom := errors.New("boom")
	for name, fault := range map[string]func(s *fakeSource){
		"refused": func(s *fakeSource) { s.refuse = func(int64, int64) error { return boom } },
		"broken": func(s *fakeSource) {
			s.fault = func(off int64, p []byte) (int, error) { return len(p) / 2, boom }
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := open(t, Options{})
			src := &fakeSource{data: data}
			fault(src)
			f := handle(t, c, sha256ID(data), src)
			p := make([]byte, chunkSize)
			if _, err := f.ReadAt(t.Context(), p, 5*blockSize); !errors.Is(err, boom) {
				t.Fatalf("got %v", err)
			}
			src.mu.Lock()
			src.fault, src.refuse = nil, nil
			src.mu.Unlock()
			mustReadAll(t, f, blockSize, data)
		})
	}
}

func TestShortSourceIsAnError(t *testing.T) {
	data := randomBytes(4*blockSize, 5)
	c := open(t, Options{})
	src := &fakeSource{data: data, fault: func(off int64, p []byte) (int, error) { return 0, io.EOF }}
	f := handle(t, c, sha256ID(data), src)
	if _, err := f.ReadAt(t.Context(), make([]byte, 10), 0); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("got %v", err)
	}
}

func TestWarmAfterReopen(t *testing.T) {
	dir := t.TempDir()
	for _, size := range []int{5000, 20*blockSize + 9} {
		data := randomBytes(size, 6)
		id := sha256ID(data)
		func() {
			c, err := Open(Options{Dir: dir, DiskBytes: 1 << 30})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			f, err := c.File(id, &fakeSource{data: data})
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			mustReadAll(t, f, blockSize, data)
		}()
		c := open(t, Options{Dir: dir, DiskBytes: 1 << 30})
		if !c.Contains(id) {
			t.Fatalf("size %d: not stored", size)
		}
		src := &fakeSource{data: data}
		f := handle(t, c, id, src)
		mustReadAll(t, f, blockSize, data)
		n, ok := f.Native()
		if !ok {
			t.Fatal("no native file")
		}
		got, err := io.ReadAll(io.NewSectionReader(n, 0, int64(size)))
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("native file differs: %v", err)
		}
		if _, err := n.Write([]byte("x")); err == nil {
			t.Error("the native descriptor is writable")
		}
		if src.requests.Load() != 0 {
			t.Errorf("%d requests for a stored object", src.requests.Load())
		}
	}
}
