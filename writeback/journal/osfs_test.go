package journal

import (
	"path/filepath"
	"syscall"
	"testing"
)

// TestReserve looks at the disk space that a log has beyond its end.
func TestReserve(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	ahead := func() int64 {
		t.Helper()
		var st syscall.Stat_t
		if err := syscall.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		return st.Blocks*512 - st.Size
	}
	l, _, _ := load(t, path, nil)
	check := func(when string) {
		t.Helper()
		if n := ahead(); n < reserve-4096 || n > 2*reserve+64<<10 {
			t.Errorf("%s: %d bytes are reserved", when, n)
		}
	}
	check("new")
	big := make([]byte, 300<<10)
	for range 20 {
		if err := l.Append(big); err != nil {
			t.Fatal(err)
		}
		check("appended")
	}
	if err := l.Rewrite(records([][][]byte{record(3)})); err != nil {
		t.Fatal(err)
	}
	check("rewritten")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if n := ahead(); n > 8192 {
		t.Errorf("%d bytes are reserved by a closed log", n)
	}
	l, _, got := load(t, path, nil)
	if len(got) != 1 {
		t.Errorf("%d records", len(got))
	}
	check("opened again")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
