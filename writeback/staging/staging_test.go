package staging

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
)

// bytesSource is a base in memory.
type bytesSource struct {
	data   []byte
	fail   func(off int64) error // nil is never
	closed atomic.Int32
	read   atomic.Int64
}

func (s *bytesSource) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if s.closed.Load() > 0 {
		return 0, os.ErrClosed
	}
	if s.fail != nil {
		if err := s.fail(off); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.data[min(off, int64(len(s.data))):])
	s.read.Add(int64(n))
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (s *bytesSource) Close() error {
	s.closed.Add(1)
	return nil
}

func openDir(t *testing.T) *Dir {
	t.Helper()
	d, err := OpenDir(filepath.Join(t.TempDir(), "staging"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func content(t *testing.T, f *File) []byte {
	t.Helper()
	p := make([]byte, f.Size()+10)
	n, err := f.ReadAt(t.Context(), p, 0)
	if err != io.EOF {
		t.Fatalf("read %d of %d: %v", n, len(p), err)
	}
	return p[:n]
}

func TestEditOfAPartialFile(t *testing.T) {
	d := openDir(t)
	src := &bytesSource{data: bytes.Repeat([]byte("0123456789"), 300_000)}
	f, err := d.CreateOver(src, int64(len(src.data)))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := bytes.Clone(src.data)
	copy(want[1_500_000:], "edited")
	want = append(want, "appended"...)
	for off, s := range map[int64]string{1_500_000: "edited", int64(len(src.data)): "appended"} {
		if n, err := f.WriteAt([]byte(s), off); n != len(s) || err != nil {
			t.Fatal(n, err)
		}
	}
	if f.Complete() || src.read.Load() != 0 {
		t.Errorf("complete %v after reading %d bytes of the base", f.Complete(), src.read.Load())
	}
	if _, ok := f.Data(true); ok {
		t.Error("a partial file gives its descriptor away")
	}
	if !bytes.Equal(content(t, f), want) {
		t.Error("other bytes before Fill")
	}
	mtime := f.Mtime()
	if err := f.Fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !f.Complete() || f.Filled() != nil || src.closed.Load() != 1 {
		t.Errorf("complete %v, filled %v, base closed %d times", f.Complete(), f.Filled(), src.closed.Load())
	}
	if !f.Mtime().Equal(mtime) {
		t.Error("Fill changed the time of last modification")
	}
	r, ok := f.Data(false)
	if !ok {
		t.Fatal("no descriptor")
	}
	if got, err := io.ReadAll(io.NewSectionReader(r, 0, 1<<30)); err != nil || !bytes.Equal(got, want) {
		t.Errorf("other bytes on disk, %v", err)
	}
}
