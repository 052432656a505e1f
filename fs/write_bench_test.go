package fs

import (
	"fmt"
	"testing"

	"hfmount/remote/hub"
)

// writableRepo is bigRepo as it is where one may write.
func writableRepo(b *testing.B, n int) *desk {
	d := newDesk(b, nil)
	es := manyEntries(n)
	d.hub.mangle = func(dir string, es2 []hub.Entry) []hub.Entry {
		if dir != "" {
			return es2
		}
		return es
	}
	return d
}

func BenchmarkLookupWritable(b *testing.B) {
	d := writableRepo(b, 100_000)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := d.root.Lookup(b.Context(), fmt.Sprintf("train-%06d-of-100000.parquet", i%100_000)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadDirWritable100k(b *testing.B) {
	d := writableRepo(b, 100_000)
	b.ReportAllocs()
	for b.Loop() {
		if es, _, err := d.root.ReadDir(b.Context()); err != nil || len(es) != 100_000 {
			b.Fatal(err)
		}
	}
}

// BenchmarkCreate makes 10,000 files in one directory, as cp -r does.
func BenchmarkCreate(b *testing.B) {
	d := newDesk(b, nil)
	dir := d.mkdir("dir")
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		_, h, err := dir.Create(b.Context(), fmt.Sprint(i), 0o644, OpenFlags{Write: true})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := h.WriteAt(b.Context(), []byte("x"), 0); err != nil {
			b.Fatal(err)
		}
		closeHandle(b, h)
	}
}

// BenchmarkRemove removes 10,000 files of the Hub's one by one, as rm -r does.
func BenchmarkRemove(b *testing.B) {
	const n = 10_000
	files := make(map[string]string, n)
	for i := range n {
		files[fmt.Sprintf("dir/%d", i)] = "x"
	}
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		d := newDesk(b, files)
		dir := d.dir("dir")
		b.StartTimer()
		for i := range n {
			if err := dir.Unlink(b.Context(), fmt.Sprint(i)); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*n), "µs/file")
}

// BenchmarkRenameTree moves a directory of 10,000 files to and fro.
func BenchmarkRenameTree(b *testing.B) {
	files := make(map[string]string)
	for i := range 10_000 {
		files[fmt.Sprintf("a/%d/%d", i%100, i)] = "x"
	}
	d := newDesk(b, files)
	names := [2]string{"a", "b"}
	for i := 0; b.Loop(); i++ {
		if err := d.rename(names[i%2], names[1-i%2], RenameFlags{}); err != nil {
			b.Fatal(err)
		}
	}
}
