package journal

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// journalOf returns the bytes of a log with n records, and where each ends.
func journalOf(t testing.TB, n int) (raw []byte, want [][][]byte, ends []int) {
	t.Helper()
	raw = header()
	ends = []int{len(raw)}
	for i := range n {
		var err error
		if raw, err = appendFrame(raw, record(i)); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, len(raw))
		want = append(want, record(i))
	}
	return raw, want, ends
}

// mustRecover opens a log with these bytes, expects exactly want of it, and
// that it can be appended to and read again.
func mustRecover(t *testing.T, raw []byte, want [][][]byte) *Damage {
	t.Helper()
	dir, err := os.MkdirTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "journal")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	l, d, got := load(t, path, nil)
	if !equalRecords(got, want) {
		t.Fatalf("replayed %d records, want %d", len(got), len(want))
	}
	if d != nil {
		saved, err := os.ReadFile(d.Saved)
		if err != nil || !bytes.Equal(saved, raw[d.Offset:]) || d.Bytes != int64(len(saved)) {
			t.Fatalf("%v: saved %d of %d bytes, %v", d, len(saved), len(raw)-int(d.Offset), err)
		}
	}
	if err := l.Append([]byte("after")); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l, again, got := load(t, path, nil)
	defer l.Close()
	if again != nil || !equalRecords(got, append(want[:len(want):len(want)], [][]byte{[]byte("after")})) {
		t.Fatalf("after one more record: %d of %d, %v", len(got), len(want)+1, again)
	}
	return d
}

// whole is how many of the records end at or before off.
func whole(ends []int, off int) int {
	n := 0
	for n+1 < len(ends) && ends[n+1] <= off {
		n++
	}
	return n
}

func TestTruncatedAtEveryByte(t *testing.T) {
	raw, want, ends := journalOf(t, 12)
	for cut := range len(raw) {
		d := mustRecover(t, raw[:cut], want[:whole(ends, cut)])
		atEnd := cut == 0
		for _, e := range ends {
			atEnd = atEnd || e == cut
		}
		if (d == nil) != atEnd {
			t.Fatalf("cut at %d: damage %v", cut, d)
		}
		if d != nil && !d.Torn {
			t.Errorf("cut at %d: not taken for an interrupted append: %v", cut, d)
		}
	}
}

func TestEveryByteFlipped(t *testing.T) {
	raw, want, ends := journalOf(t, 12)
	for i := range raw {
		bad := bytes.Clone(raw)
		bad[i] ^= 1 << (i % 8)
		n := whole(ends, i)
		if i < headerSize {
			n = 0
		}
		d := mustRecover(t, bad, want[:n])
		if d == nil {
			t.Fatalf("byte %d: no damage", i)
		}
		if d.Torn {
			t.Errorf("byte %d of %d flipped: taken for an interrupted append", i, len(raw))
		}
	}
}

func TestZeros(t *testing.T) {
	raw, want, ends := journalOf(t, 5)
	if d := mustRecover(t, append(bytes.Clone(raw), make([]byte, 5000)...), want); d == nil || !d.Torn {
		t.Errorf("zeros at the end: %v", d)
	}
	if d := mustRecover(t, make([]byte, 4096), nil); d == nil || !d.Torn {
		t.Errorf("zeros only: %v", d)
	}
	// The length reached the disk, the later blocks did not.
	big, err := appendFrame(bytes.Clone(raw), [][]byte{bytes.Repeat([]byte("x"), 4096)})
	if err != nil {
		t.Fatal(err)
	}
	clear(big[len(raw)/512*512+1024:])
	if d := mustRecover(t, big, want); d == nil || !d.Torn {
		t.Errorf("a record without its end: %v", d)
	}
	// Zeros in the middle are another matter.
	hole := bytes.Clone(raw)
	clear(hole[ends[2]:ends[3]])
	if d := mustRecover(t, hole, want[:2]); d == nil || d.Torn {
		t.Errorf("a record is gone: %v", d)
	}
}

func TestLaterVersionIsLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	h := header()
	h[len(magic)] = 2
	sum := checksum(nil, h[:headerSize-4])
	for i := range 4 {
		h[headerSize-4+i] = byte(sum >> (8 * i))
	}
	if err := os.WriteFile(path, h, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Open(path, Options{}, nil); err == nil || !strings.Contains(err.Error(), "version 2") {
		t.Fatalf("got %v", err)
	}
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, h) {
		t.Errorf("the file changed, %v", err)
	}
}

func TestDamagedFilesDoNotOverwriteEachOther(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	for i := range 3 {
		raw, _, _ := journalOf(t, 2)
		if err := os.WriteFile(path, append(raw, byte(i), 1, 2), 0o600); err != nil {
			t.Fatal(err)
		}
		l, _, _ := load(t, path, nil)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if saved, err := filepath.Glob(path + ".damaged-*"); err != nil || len(saved) != 3 {
		t.Errorf("%q, %v", saved, err)
	}
}

func FuzzReplay(f *testing.F) {
	raw, _, _ := journalOf(f, 8)
	f.Add(raw)
	f.Add(raw[:len(raw)-3])
	f.Add([]byte{})
	f.Add(header())
	f.Fuzz(func(t *testing.T, raw []byte) {
		var again []byte
		good, reason, err := replayFile(bytes.NewReader(raw), int64(len(raw)), func(ps [][]byte) error {
			if again == nil {
				again = header()
			}
			var err error
			again, err = appendFrame(again, ps)
			return err
		})
		if err != nil {
			return // another version
		}
		if good > int64(len(raw)) || (reason == "") != (good == int64(len(raw))) {
			t.Fatalf("%d of %d good, %q", good, len(raw), reason)
		}
		// What was replayed is what a writer would have written, but for
		// lengths that are spelt with more bytes than they need.
		if again != nil && int64(len(again)) > good {
			t.Fatalf("%d bytes replayed as %d", good, len(again))
		}
		if reason != "" {
			torn(raw[good:], good)
		}
	})
}
