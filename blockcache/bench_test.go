package blockcache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"sync"
	"testing"

	"hfmount/remote/hub"
)

// zeroID is the identity of size zero bytes, which a hugeSource has.
func zeroID(size int64) hub.ContentID {
	h := sha256.New()
	io.CopyN(h, zeros{}, size)
	return hub.ContentID{Algo: hub.SHA256, Hex: hex.EncodeToString(h.Sum(nil)), Size: size}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func benchFile(b *testing.B, o Options, size int) *File {
	b.Helper()
	return handle(b, open(b, o), hugeID(int64(size)), &hugeSource{})
}

func BenchmarkHit(b *testing.B) {
	f := benchFile(b, Options{}, 64<<20)
	for name, n := range map[string]int{"4K": 4 << 10, "128K": 128 << 10, "1M": 1 << 20} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				v, err := f.View(context.Background(), 8<<20, n)
				if err != nil {
					b.Fatal(err)
				}
				v.Release()
			}
		})
	}
}

func BenchmarkMiss(b *testing.B) {
	f := benchFile(b, Options{MemoryBytes: minMemory}, 1<<40)
	b.SetBytes(4096)
	b.ReportAllocs()
	off := int64(0)
	for b.Loop() {
		off = (off*6364136223846793005 + 1442695040888963407) & (1<<40 - 1)
		v, err := f.View(context.Background(), off&^4095, 4096)
		if err != nil {
			b.Fatal(err)
		}
		v.Release()
	}
}

func stream(f *File, size int64) error {
	for off := int64(0); off < size; off += chunkSize {
		v, err := f.View(context.Background(), off, chunkSize)
		if err != nil {
			return err
		}
		v.Release()
	}
	return nil
}

func BenchmarkColdSequential(b *testing.B) {
	const size = 256 << 20
	id := zeroID(size)
	for _, x := range []struct {
		name string
		o    Options
	}{{"memory", Options{MemoryBytes: 128 << 20}}, {"disk", Options{DiskBytes: 1 << 40}}} {
		b.Run(x.name, func(b *testing.B) {
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				o := x.o
				if o.DiskBytes != 0 {
					o.Dir = b.TempDir()
				}
				c, err := Open(o)
				if err != nil {
					b.Fatal(err)
				}
				f, err := c.File(id, &hugeSource{})
				if err != nil {
					b.Fatal(err)
				}
				if err := stream(f, size); err != nil {
					b.Fatal(err)
				}
				f.Close()
				c.Close()
			}
		})
	}
}

func BenchmarkEightReadersOfOneFile(b *testing.B) {
	const size = 128 << 20
	id := zeroID(size)
	b.SetBytes(8 * size)
	b.ReportAllocs()
	for b.Loop() {
		c, err := Open(Options{})
		if err != nil {
			b.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 8 {
			f, err := c.File(id, &hugeSource{})
			if err != nil {
				b.Fatal(err)
			}
			wg.Go(func() {
				if err := stream(f, size); err != nil {
					b.Error(err)
				}
				f.Close()
			})
		}
		wg.Wait()
		c.Close()
	}
}
