package journal

import (
	"bytes"
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"testing"
)

// record is what tests append: n payloads that tell which record they are of.
func record(i int) [][]byte {
	var ps [][]byte
	for k := range i % 4 {
		ps = append(ps, bytes.Repeat([]byte{byte('a' + i%26)}, i*k), fmt.Appendf(nil, "%d/%d", i, k))
	}
	return ps
}

func equalRecords(a, b [][][]byte) bool {
	return slices.EqualFunc(a, b, func(x, y [][]byte) bool { return slices.EqualFunc(x, y, bytes.Equal) })
}

// load opens the log and returns all its records.
func load(t *testing.T, path string, fs FS) (*Log, *Damage, [][][]byte) {
	t.Helper()
	var got [][][]byte
	l, d, err := Open(path, Options{FS: fs}, func(ps [][]byte) error {
		got = append(got, ps)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, d, got
}

func TestReplay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	var want [][][]byte
	for round := range 3 {
		l, d, got := load(t, path, nil)
		if d != nil || !equalRecords(got, want) {
			t.Fatalf("round %d: %d records of %d, damage %v", round, len(got), len(want), d)
		}
		for i := range 20 {
			r := record(round*20 + i)
			if err := l.Append(r...); err != nil {
				t.Fatal(err)
			}
			want = append(want, r)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRewrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	l, _, _ := load(t, path, nil)
	for i := range 100 {
		if err := l.Append(record(i)...); err != nil {
			t.Fatal(err)
		}
	}
	before := l.Size()
	want := [][][]byte{record(3), record(50)}
	if err := l.Rewrite(records(want)); err != nil {
		t.Fatal(err)
	}
	if l.Size() >= before {
		t.Errorf("%d bytes, were %d", l.Size(), before)
	}
	if err := l.Append(record(7)...); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, d, got := load(t, path, nil); d != nil || !equalRecords(got, append(want, record(7))) {
		t.Fatalf("%d records, damage %v", len(got), d)
	}
}

func records(rs [][][]byte) iter.Seq[[][]byte] { return slices.Values(rs) }
