package staging

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func checkSealed(t *testing.T, s Sealed, want []byte) {
	t.Helper()
	git := sha1.Sum(append(fmt.Appendf(nil, "blob %d\x00", len(want)), want...))
	if s.GitBlob != fmt.Sprintf("%x", git) || s.SHA256 != fmt.Sprintf("%x", sha256.Sum256(want)) {
		t.Errorf("sealed as %s and %s", s.GitBlob, s.SHA256)
	}
	if s.Size != int64(len(want)) || s.Print.Size != s.Size || !bytes.Equal(s.Head, want[:min(512, len(want))]) {
		t.Errorf("size %d, print %v, head of %d bytes", s.Size, s.Print, len(s.Head))
	}
}

// created makes a file with these bytes.
func created(t *testing.T, d *Dir, data []byte) *File {
	t.Helper()
	f, err := d.Create()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := f.WriteAt(data, 0); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestSealSizes(t *testing.T) {
	d := openDir(t)
	for _, n := range []int{0, 1, 511, 512, 513, sealStep - 1, sealStep, sealStep + 1, 3*sealStep + 7} {
		data := bytes.Repeat([]byte("abcdefg"), n/7+1)[:n]
		s, err := created(t, d, data).Seal(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		checkSealed(t, s, data)
	}
}

// Every way in which somebody can still write keeps a file from being sealed,
// and only those.
func TestSealWaitsForWriters(t *testing.T) {
	data := bytes.Repeat([]byte("x"), 10_000)
	for name, c := range map[string]struct {
		// hold takes something of the file and returns what lets go of it.
		hold    func(t *testing.T, f *File) (letGo func())
		writers bool
	}{
		"a descriptor for writing": {func(t *testing.T, f *File) func() {
			w := openPath(t, f, os.O_RDWR)
			return func() { w.Close() }
		}, true},
		"a duplicate of one": {func(t *testing.T, f *File) func() {
			w := openPath(t, f, os.O_WRONLY)
			fd, err := unix.Dup(int(w.Fd()))
			if err != nil {
				t.Fatal(err)
			}
			w.Close()
			return func() { unix.Close(fd) }
		}, true},
		"a shared mapping whose descriptor is closed": {func(t *testing.T, f *File) func() {
			w := openPath(t, f, os.O_RDWR)
			m, err := unix.Mmap(int(w.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			if err != nil {
				t.Fatal(err)
			}
			w.Close()
			return func() { unix.Munmap(m) }
		}, true},
		"another process": {func(t *testing.T, f *File) func() {
			cmd := exec.Command("cat")
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			w := openPath(t, f, os.O_RDWR)
			cmd.ExtraFiles = []*os.File{w}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			w.Close()
			return func() {
				in.Close()
				cmd.Wait()
			}
		}, true},
		"a reader": {func(t *testing.T, f *File) func() {
			r := openPath(t, f, os.O_RDONLY)
			return func() { r.Close() }
		}, false},
		"a private mapping": {func(t *testing.T, f *File) func() {
			r := openPath(t, f, os.O_RDONLY)
			m, err := unix.Mmap(int(r.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
			if err != nil {
				t.Fatal(err)
			}
			r.Close()
			m[0] = 'p'
			return func() { unix.Munmap(m) }
		}, false},
		"the descriptor for the kernel": {func(t *testing.T, f *File) func() {
			if _, ok := f.Data(true); !ok {
				t.Fatal("none")
			}
			return func() {}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := created(t, openDir(t), data)
			letGo := c.hold(t, f)
			_, err := f.Seal(t.Context())
			if c.writers != errors.Is(err, ErrWriters) || !c.writers && err != nil {
				t.Errorf("while it is held: %v", err)
			}
			letGo()
			s, err := f.Seal(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			checkSealed(t, s, data)
		})
	}
}

func openPath(t *testing.T, f *File, flags int) *os.File {
	t.Helper()
	w, err := os.OpenFile(f.Path(), flags, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

// Without leases the maps of processes are what there is.
func TestNoMappings(t *testing.T) {
	f := created(t, openDir(t), make([]byte, 8192))
	r := openPath(t, f, os.O_RDWR)
	if err := noMappings(r); err != nil {
		t.Errorf("nothing is mapped: %v", err)
	}
	private, err := unix.Mmap(int(r.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(private)
	reader, err := unix.Mmap(int(r.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(reader)
	if err := noMappings(r); err != nil {
		t.Errorf("only mapped for reading: %v", err)
	}
	shared, err := unix.Mmap(int(r.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(shared)
	if err := noMappings(r); !errors.Is(err, ErrWriters) {
		t.Errorf("a shared mapping: %v", err)
	}
}

func TestSealNoticesAChange(t *testing.T) {
	d := openDir(t)
	f := created(t, d, make([]byte, 3*sealStep))
	r := openPath(t, f, os.O_RDONLY)
	before, err := statPrint(r)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func() error{
		"written":   func() error { _, err := f.WriteAt([]byte("y"), 0); return err },
		"longer":    func() error { return f.Truncate(4 * sealStep) },
		"shortened": func() error { return f.Truncate(5) },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		after, err := f.Print()
		if err != nil || after == before {
			t.Errorf("%s: same print, %v", name, err)
		}
		before = after
	}
	for _, at := range []int{1, 3} {
		// Whoever writes while the file is read is noticed, wherever it is.
		looks := 0
		_, err := f.Seal(&lookedAt{t.Context(), func() {
			if looks++; looks == at {
				if _, err := f.WriteAt([]byte{byte(at)}, 0); err != nil {
					t.Error(err)
				}
			}
		}})
		if !errors.Is(err, ErrChanged) {
			t.Errorf("written at the %d. look: %v", at, err)
		}
		if err := f.Truncate(4 * sealStep); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := f.Seal(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// lookedAt is a context that does something whenever it is asked.
type lookedAt struct {
	context.Context
	do func()
}

func (l *lookedAt) Err() error {
	l.do()
	return l.Context.Err()
}

func TestSealOfAPartialFileFillsIt(t *testing.T) {
	d := openDir(t)
	src := &bytesSource{data: []byte("hello world"), fail: func(int64) error { return errBase }}
	f, err := d.CreateOver(src, 11)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("HELLO"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Seal(t.Context()); !errors.Is(err, errBase) {
		t.Fatalf("got %v", err)
	}
	src.fail = nil
	s, err := f.Seal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	checkSealed(t, s, []byte("HELLO world"))
}

// A sealed file holds no descriptor for writing; a later write opens one.
func TestSealClosesTheWriter(t *testing.T) {
	f := created(t, openDir(t), []byte("abc"))
	if _, err := f.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := descriptors(t, f.Path(), os.O_RDWR); n != 0 {
		t.Errorf("%d descriptors for writing", n)
	}
	if _, err := f.WriteAt([]byte("d"), 3); err != nil {
		t.Fatal(err)
	}
	if got := content(t, f); string(got) != "abcd" {
		t.Errorf("%q", got)
	}
}

// descriptors counts those of this process on path that are open with mode.
func descriptors(t *testing.T, path string, mode int) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err != nil || to != path {
			continue
		}
		info, err := os.ReadFile("/proc/self/fdinfo/" + fd.Name())
		if err != nil {
			t.Fatal(err)
		}
		var flags int
		for line := range strings.Lines(string(info)) {
			if _, err := fmt.Sscanf(line, "flags: %o", &flags); err == nil && flags&unix.O_ACCMODE == mode {
				n++
			}
		}
	}
	return n
}
