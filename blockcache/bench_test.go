package blockcache

import (
	"context"
	"io"
	"sync"
	"testing"
)

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

// stream reads size bytes but the last block, whose hash would not be right.
func stream(f *File, size int64) error {
	for off := int64(0); off < size-blockSize; off += chunkSize {
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
				f, err := c.File(hugeID(size), &hugeSource{})
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
	b.SetBytes(8 * size)
	b.ReportAllocs()
	for b.Loop() {
		c, err := Open(Options{})
		if err != nil {
			b.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 8 {
			f, err := c.File(hugeID(size), &hugeSource{})
			if err != nil {
				b.Fatal(err)
			}
			wg.Go(func() {
				if err := stream(f, size); err != nil && err != io.EOF {
					b.Error(err)
				}
				f.Close()
			})
		}
		wg.Wait()
		c.Close()
	}
}
