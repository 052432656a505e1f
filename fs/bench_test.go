package fs

import (
	"fmt"
	"runtime"
	"testing"

	"hfmount/remote/hub"
)

// manyEntries is a directory as a listing of the Hub's gives it.
func manyEntries(n int) []hub.Entry {
	es := make([]hub.Entry, n)
	for i := range es {
		name := fmt.Sprintf("train-%06d-of-%06d.parquet", i, n)
		es[i] = hub.Entry{Path: name, Size: int64(i) << 10, OID: sha(name), SHA256: sha(name) + sha(name)[:24], XetHash: sha(name) + sha(name)[:24]}
	}
	return es
}

func bigRepo(tb testing.TB, n int) (*fakeHub, *Tree) {
	h := newFakeHub()
	h.commit(repoAB, "main", day(1), nil)
	es := manyEntries(n)
	h.mangle = func(string, []hub.Entry) []hub.Entry { return es }
	tree := newTree(tb, Options{Source: h, MetaDir: tb.TempDir()})
	if _, err := rootOf(tb, tree, "a/b").Lookup(tb.Context(), es[0].Path); err != nil {
		tb.Fatal(err)
	}
	return h, tree
}

// TestListingSize holds the promise of 250 bytes an entry.
func TestListingSize(t *testing.T) {
	const n = 100_000
	es := manyEntries(n)
	at := treeAt{date: day(1).UnixMilli()}
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	l, err := build(es, at)
	if err != nil {
		t.Fatal(err)
	}
	if got := (heap() - before) / n; got > 250 {
		t.Errorf("%d bytes an entry", got)
	}
	if got := l.bytes / n; got > 250 || got < 100 {
		t.Errorf("accounted for %d bytes an entry", got)
	}
	runtime.KeepAlive(es)
	runtime.KeepAlive(l)
}

func build(es []hub.Entry, at treeAt) (*listing, error) {
	b := &builder{}
	for _, e := range es {
		if err := b.add(e); err != nil {
			return nil, err
		}
	}
	return b.finish(repoAB, at, nil)
}

func BenchmarkBuild100k(b *testing.B) {
	es := manyEntries(100_000)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := build(es, treeAt{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode100k(b *testing.B) {
	l, err := build(manyEntries(100_000), treeAt{})
	if err != nil {
		b.Fatal(err)
	}
	file := l.encode()
	b.SetBytes(int64(len(file)))
	for b.Loop() {
		if _, err := decodeListing(file); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadDir100k(b *testing.B) {
	_, tree := bigRepo(b, 100_000)
	root := rootOf(b, tree, "a/b")
	b.ReportAllocs()
	for b.Loop() {
		if es, _, err := root.ReadDir(b.Context()); err != nil || len(es) != 100_000 {
			b.Fatal(err)
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	_, tree := bigRepo(b, 100_000)
	root := rootOf(b, tree, "a/b")
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := root.Lookup(b.Context(), fmt.Sprintf("train-%06d-of-100000.parquet", i%100_000)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLookupMissing(b *testing.B) {
	_, tree := bigRepo(b, 100_000)
	root := rootOf(b, tree, "a/b")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := root.Lookup(b.Context(), "train-050000"); err == nil {
			b.Fatal("found")
		}
	}
}
