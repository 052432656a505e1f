package staging

import (
	"context"
	"testing"
)

// BenchmarkSmallFile is the life of one of many small files: created, written,
// closed, sealed, removed.
func BenchmarkSmallFile(b *testing.B) {
	d, err := OpenDir(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	data := make([]byte, 1000)
	for b.Loop() {
		f, err := d.Create()
		if err != nil {
			b.Fatal(err)
		}
		if _, err := f.WriteAt(data, 0); err != nil {
			b.Fatal(err)
		}
		if err := f.Idle(); err != nil {
			b.Fatal(err)
		}
		if _, err := f.Seal(context.Background()); err != nil {
			b.Fatal(err)
		}
		if err := f.Close(); err != nil {
			b.Fatal(err)
		}
		if err := d.Remove(f.ID()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWrite4K is random writes to a file that is partial, and one that is
// complete.
func BenchmarkWrite4K(b *testing.B) {
	const size = 256 << 20
	data := make([]byte, 4096)
	for _, partial := range []bool{true, false} {
		name := "complete"
		if partial {
			name = "partial"
		}
		b.Run(name, func(b *testing.B) {
			d, err := OpenDir(b.TempDir(), Options{})
			if err != nil {
				b.Fatal(err)
			}
			f, err := d.Create()
			if partial {
				f, err = d.CreateOver(&bytesSource{}, size)
			}
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			b.SetBytes(4096)
			at := int64(0)
			for b.Loop() {
				at = (at + 7919*8192) % size
				if _, err := f.WriteAt(data, at); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkSeal(b *testing.B) {
	d, err := OpenDir(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	f, err := d.Create()
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(make([]byte, 64<<20), 0); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(64 << 20)
	for b.Loop() {
		if _, err := f.Seal(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}
