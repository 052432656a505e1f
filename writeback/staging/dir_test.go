package staging

import (
	"bytes"
	"errors"
	iofs "io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestFilesOfAnEarlierProcess(t *testing.T) {
	d := openDir(t)
	whole := created(t, d, []byte("whole"))
	over, err := d.CreateOver(&bytesSource{data: []byte("0123456789")}, 10)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := over.WriteAt([]byte("AB"), 3); err != nil {
		t.Fatal(err)
	}
	if err := over.Truncate(8); err != nil {
		t.Fatal(err)
	}
	size, filled := over.BaseSize(), over.Filled()
	if size != 8 || !slices.Equal(filled, []Range{{3, 5}}) {
		t.Fatalf("base of %d bytes, filled %v", size, filled)
	}
	if err := errors.Join(whole.Close(), over.Close()); err != nil {
		t.Fatal(err)
	}
	d, err = OpenDir(filepath.Dir(whole.Path()), Options{})
	if err != nil {
		t.Fatal(err)
	}
	ids, err := d.IDs()
	if err != nil || len(ids) != 2 || !slices.Contains(ids, whole.ID()) || !slices.Contains(ids, over.ID()) {
		t.Fatalf("%q, %v", ids, err)
	}
	if whole, err = d.Open(whole.ID(), nil, 0, nil); err != nil {
		t.Fatal(err)
	}
	defer whole.Close()
	if over, err = d.Open(over.ID(), &bytesSource{data: []byte("0123456789")}, size, filled); err != nil {
		t.Fatal(err)
	}
	defer over.Close()
	if got := content(t, whole); string(got) != "whole" {
		t.Errorf("%q", got)
	}
	if got := content(t, over); string(got) != "012AB567" {
		t.Errorf("%q", got)
	}
}

func TestIDsAreNoPaths(t *testing.T) {
	d := openDir(t)
	for _, id := range []string{"", ".", "..", "../x", "/etc/passwd", "0123", "zz" + newID()[2:]} {
		src := &bytesSource{}
		if _, err := d.Open(id, src, 1, nil); !errors.Is(err, iofs.ErrInvalid) || src.closed.Load() != 1 {
			t.Errorf("%q opened: %v", id, err)
		}
		if err := d.Remove(id); !errors.Is(err, iofs.ErrInvalid) {
			t.Errorf("%q removed: %v", id, err)
		}
	}
	id := newID()
	if _, err := d.Open(id, nil, 0, nil); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if err := os.Symlink("/etc/passwd", d.name(id)); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Open(id, nil, 0, nil); !errors.Is(err, iofs.ErrInvalid) {
		t.Errorf("a symbolic link: %v", err)
	}
}

// Thousands of files that nobody uses hold no descriptor.
func TestIdleFilesCostNoDescriptor(t *testing.T) {
	d := openDir(t)
	count := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(fds)
	}
	before := count()
	var files []*File
	for range 300 {
		f := created(t, d, []byte("some bytes"))
		if err := f.Idle(); err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	if n := count(); n > before {
		t.Errorf("%d descriptors, were %d", n, before)
	}
	for _, f := range files {
		if f.Size() != 10 || string(content(t, f)) != "some bytes" {
			t.Fatal("an idle file lost its bytes")
		}
	}
}

func TestBytes(t *testing.T) {
	d := openDir(t)
	if d.Bytes() != 0 {
		t.Fatalf("%d bytes in an empty folder", d.Bytes())
	}
	const n = 1 << 20
	f := created(t, d, make([]byte, n))
	near := func(want int64) bool { return d.Bytes() >= want && d.Bytes() < want+n/2 }
	if !near(n) {
		t.Errorf("%d bytes, one open file of %d", d.Bytes(), n)
	}
	sparse, err := d.CreateOver(&bytesSource{}, 1<<40)
	if err != nil {
		t.Fatal(err)
	}
	defer sparse.Close()
	if !near(n) {
		t.Errorf("%d bytes with a sparse file", d.Bytes())
	}
	g := created(t, d, make([]byte, n))
	if err := errors.Join(f.Idle(), g.Close()); err != nil {
		t.Fatal(err)
	}
	if !near(2 * n) {
		t.Errorf("%d bytes, two idle files of %d", d.Bytes(), n)
	}
	again, err := OpenDir(filepath.Dir(f.Path()), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if again.Bytes() != d.Bytes() {
		t.Errorf("%d bytes after a restart, were %d", again.Bytes(), d.Bytes())
	}
	// What the cache adopted is not counted here, open or not.
	if _, err := f.ReadAt(t.Context(), make([]byte, 1), 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(f.Path(), filepath.Join(t.TempDir(), "blob")); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.Remove(f.ID()), d.Remove(g.ID())); err != nil {
		t.Fatal(err)
	}
	if !near(0) {
		t.Errorf("%d bytes after both went", d.Bytes())
	}
	if string(content(t, f)) != string(make([]byte, n)) {
		t.Error("an open file lost its bytes with its name")
	}
	if free, err := d.Free(); err != nil || free <= 0 {
		t.Errorf("%d free, %v", free, err)
	}
}

// What Sync says is durable: the bytes of the file each time, its name once.
func TestSync(t *testing.T) {
	var told []string
	d, err := OpenDir(t.TempDir(), Options{Synced: func(id string) { told = append(told, id) }})
	if err != nil {
		t.Fatal(err)
	}
	f := created(t, d, []byte("x"))
	if err := errors.Join(f.Sync(), f.Idle(), f.Sync()); err != nil {
		t.Fatal(err)
	}
	if want := []string{f.ID(), "", f.ID()}; !slices.Equal(told, want) {
		t.Errorf("%q, want %q", told, want)
	}
}

func TestCreateFrom(t *testing.T) {
	d := openDir(t)
	old := bytes.Repeat([]byte("sealed "), 300_000)
	from := created(t, d, old)
	before, err := from.Seal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f, err := d.CreateFrom(from)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !bytes.Equal(content(t, f), old) {
		t.Error("other bytes")
	}
	if _, err := f.WriteAt([]byte("edited"), 1_000_000); err != nil {
		t.Fatal(err)
	}
	if after, err := from.Print(); err != nil || after != before.Print {
		t.Errorf("the sealed file changed, %v", err)
	}
	if !bytes.Equal(content(t, from), old) {
		t.Error("the sealed file has other bytes")
	}
	// Its upload ended: it goes, the copy stays.
	if err := errors.Join(from.Close(), d.Remove(from.ID())); err != nil {
		t.Fatal(err)
	}
	if err := f.Fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	copy(old[1_000_000:], "edited")
	if !f.Complete() || !bytes.Equal(content(t, f), old) {
		t.Error("other bytes in the copy")
	}
	partial, err := d.CreateOver(&bytesSource{data: []byte("abc")}, 3)
	if err != nil {
		t.Fatal(err)
	}
	defer partial.Close()
	if _, err := d.CreateFrom(partial); err == nil {
		t.Error("a partial file was copied")
	}
}

// A copy for a scheduled commit does not disturb the writer.
func TestCopy(t *testing.T) {
	d := openDir(t)
	data := bytes.Repeat([]byte("log line\n"), 200_000)
	whole := created(t, d, data)
	w := openPath(t, whole, os.O_RDWR)
	defer w.Close()
	over, err := d.CreateOver(&bytesSource{data: data}, int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	defer over.Close()
	for name, from := range map[string]*File{"complete": whole, "partial": over} {
		before, err := from.Print()
		if err != nil {
			t.Fatal(err)
		}
		f, err := d.Copy(t.Context(), from)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if after, err := from.Print(); err != nil || after != before {
			t.Errorf("%s: the original changed, %v", name, err)
		}
		s, err := f.Seal(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		checkSealed(t, s, data)
	}
}

func TestCloseDuringFill(t *testing.T) {
	d := openDir(t)
	src := &bytesSource{data: make([]byte, 3<<20)}
	f, err := d.CreateOver(src, 3<<20)
	if err != nil {
		t.Fatal(err)
	}
	src.fail = func(off int64) error {
		if off > 0 {
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		}
		return nil
	}
	if err := f.Fill(t.Context()); !errors.Is(err, os.ErrClosed) {
		t.Errorf("got %v", err)
	}
	if src.closed.Load() != 1 {
		t.Errorf("base closed %d times", src.closed.Load())
	}
	if _, err := f.WriteAt([]byte("x"), 0); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a write after Close: %v", err)
	}
	if _, err := f.ReadAt(t.Context(), make([]byte, 1), 0); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a read after Close: %v", err)
	}
}

func TestBadArguments(t *testing.T) {
	f := created(t, openDir(t), []byte("x"))
	for name, err := range map[string]error{
		"truncate":          f.Truncate(-1),
		"allocate nothing":  f.Allocate(0, 0, 0),
		"allocate before 0": f.Allocate(-1, 5, 0),
	} {
		if !errors.Is(err, iofs.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := f.WriteAt([]byte("y"), -1); !errors.Is(err, iofs.ErrInvalid) {
		t.Errorf("got %v", err)
	}
	if err := f.Allocate(0, 4096, unix.FALLOC_FL_COLLAPSE_RANGE); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v", err)
	}
}
