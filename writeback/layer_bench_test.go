package writeback

import (
	"context"
	"fmt"
	"testing"
)

// BenchmarkCreateFiles is what the layer adds to `cp -r` of many small files:
// create, write, close.
func BenchmarkCreateFiles(b *testing.B) {
	l, err := OpenLayer(LayerOptions{StateDir: b.TempDir(), Key: testKey, LocalOnly: NewLocalOnly(LocalOnlyOptions{})})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	ctx := context.Background()
	data := make([]byte, 4096)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		f, err := l.NewFile(ctx)
		if err != nil {
			b.Fatal(err)
		}
		if err := l.Apply(0, Edit{Path: fmt.Sprintf("d%02d/f%06d", i%100, i), File: f}); err != nil {
			b.Fatal(err)
		}
		h, err := f.Open(OpenFile{Write: true})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := h.WriteAt(ctx, data, 0); err != nil {
			b.Fatal(err)
		}
		if err := h.Flush(); err != nil {
			b.Fatal(err)
		}
		if err := h.Release(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(l.journal.Size())/float64(i), "journal-B/op")
}

// BenchmarkName is a lookup of a name that the layer says nothing of, in a
// directory with many local files.
func BenchmarkName(b *testing.B) {
	l, err := OpenLayer(LayerOptions{StateDir: b.TempDir(), Key: testKey})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	var edits []Edit
	for i := range 10_000 {
		edits = append(edits, Edit{Path: fmt.Sprintf("d/f%06d", i), Kind: Folder})
	}
	if err := l.Apply(0, edits...); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, ok, _ := l.Name("d", "none"); ok {
			b.Fatal("there is one")
		}
	}
}
