package blockcache

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"hfmount/remote/hub"
)

// flip makes the source answer with one wrong byte, at.
func flip(at int64) func(int64, []byte) (int, error) {
	return func(off int64, p []byte) (int, error) {
		if off <= at && at < off+int64(len(p)) {
			p[at-off] ^= 0x40
		}
		return len(p), nil
	}
}

func TestCorruptObject(t *testing.T) {
	const size = 24*blockSize + 999
	big := randomBytes(size, 7)
	for _, tier := range []struct {
		name string
		o    Options
	}{
		{"memory", Options{MemoryBytes: 256 << 20}},
		{"memory smaller than the file", Options{MemoryBytes: minMemory}},
		{"disk", Options{DiskBytes: 1 << 30}},
		{"disk behind", Options{DiskBytes: 1 << 30, MemoryBytes: minMemory}},
	} {
		for _, at := range []int64{0, size / 2, size - 1} {
			for _, step := range []int{chunkSize, 5 * blockSize} {
				t.Run(fmt.Sprintf("%s/%d/%d", tier.name, at, step), func(t *testing.T) {
					o := tier.o
					if o.DiskBytes != 0 {
						o.Dir = t.TempDir()
					}
					var told atomic.Int64
					o.OnCorrupt = func(id hub.ContentID) { told.Add(1) }
					id := sha256ID(big)
					c, err := Open(o)
					if err != nil {
						t.Fatal(err)
					}
					bad := &fakeSource{data: big, fault: flip(at)}
					f, _ := c.File(id, bad)
					got, err := readAll(t.Context(), f, step)
					if !errors.Is(err, ErrCorrupt) || int64(len(got)) >= size {
						t.Fatalf("read %d of %d bytes, error %v", len(got), size, err)
					}
					for _, off := range []int64{0, size / 2, size - 10} {
						if _, err := f.ReadAt(t.Context(), make([]byte, 10), off); !errors.Is(err, ErrCorrupt) {
							t.Errorf("the handle forgot: %v", err)
						}
					}
					g, _ := c.File(id, &fakeSource{data: big})
					mustReadAll(t, g, step, big)
					f.Close()
					g.Close()
					if s := c.Stats(); s.Corrupt != 1 {
						t.Errorf("counted %d corrupt objects", s.Corrupt)
					}
					if err := c.Close(); err != nil {
						t.Error(err)
					}
					if told.Load() != 1 {
						t.Errorf("told %d times", told.Load())
					}
				})
			}
		}
	}
}

func TestCorruptObjectInAnyOrder(t *testing.T) {
	data := randomBytes(12*blockSize, 8)
	c := open(t, Options{})
	f := handle(t, c, sha256ID(data), &fakeSource{data: data, fault: flip(3*blockSize + 5)})
	var err error
	n := 0
	for _, i := range []int64{11, 0, 5, 4, 3, 2, 1, 10, 9, 8, 6, 7} {
		p := make([]byte, blockSize)
		if _, err = f.ReadAt(t.Context(), p, i*blockSize); err != nil {
			break
		}
		n++
	}
	if !errors.Is(err, ErrCorrupt) || n > 11 {
		t.Errorf("%d blocks, error %v", n, err)
	}
}

func TestCorruptSmallObject(t *testing.T) {
	data := randomBytes(2*blockSize+1, 9)
	for _, id := range []hub.ContentID{sha256ID(data), gitID(data)} {
		dir := t.TempDir()
		var told sync.WaitGroup
		told.Add(1)
		c := open(t, Options{Dir: dir, DiskBytes: 1 << 30, OnCorrupt: func(hub.ContentID) { told.Done() }})
		src := &fakeSource{data: data, fault: flip(2 * blockSize)}
		f := handle(t, c, id, src)
		if got, err := readAll(t.Context(), f, 100); !errors.Is(err, ErrCorrupt) || len(got) != 0 {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		told.Wait()
		src.mu.Lock()
		src.fault = nil
		src.mu.Unlock()
		mustReadAll(t, f, 100_000, data)
	}
}

// A block that was hashed and forgotten must come back the same.
func TestRefetchIsHeldToTheFirstPass(t *testing.T) {
	data := randomBytes(40*blockSize, 10)
	c := open(t, Options{MemoryBytes: minMemory})
	src := &fakeSource{data: data}
	f := handle(t, c, sha256ID(data), src)
	mustReadAll(t, f, blockSize, data)
	src.mu.Lock()
	src.fault = flip(3)
	src.mu.Unlock()
	if _, err := f.ReadAt(t.Context(), make([]byte, 10), 0); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("got %v", err)
	}
	src.mu.Lock()
	src.fault = nil
	src.mu.Unlock()
	mustReadAll(t, f, blockSize, data)
}

func TestCorruptObjectLeavesNoFile(t *testing.T) {
	data := randomBytes(20*blockSize, 11)
	dir := t.TempDir()
	c, err := Open(Options{Dir: dir, DiskBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	f, _ := c.File(sha256ID(data), &fakeSource{data: data, fault: flip(77)})
	if _, err := readAll(t.Context(), f, blockSize); !errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
	f.Close()
	c.Close()
	if c.Contains(sha256ID(data)) {
		t.Error("contained")
	}
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && d.Name() != "lock" {
			t.Errorf("%s is left", path)
		}
		return nil
	})
}

func TestFooterReadDoesNotWait(t *testing.T) {
	data := randomBytes(30*blockSize, 12)
	c := open(t, Options{})
	src := &fakeSource{data: data}
	f := handle(t, c, sha256ID(data), src)
	p := make([]byte, 8)
	if _, err := f.ReadAt(t.Context(), p, int64(len(data))-8); err != nil || !bytes.Equal(p, data[len(data)-8:]) {
		t.Fatal(err)
	}
	if n := src.bytes.Load(); n > chunkSize {
		t.Errorf("fetched %d bytes for a footer", n)
	}
}
