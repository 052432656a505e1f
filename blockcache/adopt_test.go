package blockcache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"hfmount/remote/hub"
)

// staged writes data beside the cache.
func staged(t *testing.T, dir string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, "staged")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// noSource fails the test when it is asked.
func noSource(t *testing.T, data []byte) *fakeSource {
	return &fakeSource{data: data, refuse: func(off, n int64) error {
		t.Errorf("fetched %d bytes at %d", n, off)
		return errors.New("must not be fetched")
	}}
}

func mustBeNative(t *testing.T, f *File, data []byte) {
	t.Helper()
	n, ok := f.Native()
	if !ok {
		t.Fatal("no native file")
	}
	got, err := io.ReadAll(io.NewSectionReader(n, 0, int64(len(data))+1))
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("the native file differs: %d bytes, %v", len(got), err)
	}
}

// writable lists the descriptors of this process that could change a blob.
func writable(t *testing.T, dir string) []string {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, fd := range fds {
		to, err := os.Readlink("/proc/self/fd/" + fd.Name())
		if err != nil || !strings.HasPrefix(to, filepath.Join(dir, "blobs")) || strings.Contains(to, ".idx") {
			continue
		}
		info, err := os.ReadFile("/proc/self/fdinfo/" + fd.Name())
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(info)) {
			var flags int
			if _, err := fmt.Sscanf(line, "flags: %o", &flags); err == nil && flags&unix.O_ACCMODE != os.O_RDONLY {
				found = append(found, to)
			}
		}
	}
	return found
}

func TestAdopt(t *testing.T) {
	for _, size := range []int{1, 5000, smallSize, smallSize + 1, 20*blockSize + 77} {
		data := randomBytes(size, uint64(size))
		for _, id := range []hub.ContentID{sha256ID(data), gitID(data)} {
			dir := t.TempDir()
			c := open(t, Options{Dir: filepath.Join(dir, "cache"), DiskBytes: 1 << 30})
			path := staged(t, dir, data)
			moved, err := c.Adopt(t.Context(), id, path)
			if !moved || err != nil {
				t.Fatalf("size %d: %v, %v", size, moved, err)
			}
			if exists(path) || !c.Contains(id) {
				t.Errorf("size %d: still there %v, in the cache %v", size, exists(path), c.Contains(id))
			}
			if n := c.Stats().DiskBytes; n != int64(size) {
				t.Errorf("%d bytes on disk, want %d", n, size)
			}
			f := handle(t, c, id, noSource(t, data))
			mustBeNative(t, f, data)
			mustReadAll(t, f, blockSize, data)
			if w := writable(t, dir); len(w) > 0 {
				t.Errorf("open for writing: %q", w)
			}
		}
	}
}

// What was adopted is there after a restart, and checked chunk by chunk.
func TestAdoptedAfterRestart(t *testing.T) {
	dir := t.TempDir()
	data := randomBytes(12*blockSize+5, 3)
	id := sha256ID(data)
	func() {
		c, err := Open(Options{Dir: filepath.Join(dir, "cache"), DiskBytes: 1 << 30})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if moved, err := c.Adopt(t.Context(), id, staged(t, dir, data)); !moved || err != nil {
			t.Fatal(moved, err)
		}
	}()
	c := open(t, Options{Dir: filepath.Join(dir, "cache"), DiskBytes: 1 << 30})
	f := handle(t, c, id, noSource(t, data))
	mustBeNative(t, f, data)
	f.Close()
	blob, err := os.OpenFile(find(t, filepath.Join(dir, "cache", "blobs"), id.String()), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer blob.Close()
	if _, err := blob.WriteAt([]byte{data[5*blockSize] ^ 1}, 5*blockSize); err != nil {
		t.Fatal(err)
	}
	src := &fakeSource{data: data}
	mustReadAll(t, handle(t, c, id, src), blockSize, data)
	if src.requests.Load() == 0 {
		t.Error("a damaged chunk was served")
	}
}

func TestAdoptRefusals(t *testing.T) {
	data := randomBytes(9*blockSize, 4)
	id := sha256ID(data)
	other := bytes.Clone(data)
	other[5*blockSize] ^= 1
	for name, c := range map[string]struct {
		o    Options
		data []byte
		hold func(t *testing.T, path string)
		want error
	}{
		"no disk tier":  {o: Options{}, data: data},
		"no room":       {o: Options{DiskBytes: 4 * blockSize}, data: data},
		"other bytes":   {o: Options{DiskBytes: 1 << 30}, data: other, want: ErrCorrupt},
		"shorter":       {o: Options{DiskBytes: 1 << 30}, data: data[1:], want: ErrCorrupt},
		"being written": {o: Options{DiskBytes: 1 << 30}, data: data, want: errWritable, hold: holdOpen},
		"mapped":        {o: Options{DiskBytes: 1 << 30}, data: data, want: errWritable, hold: holdMapped},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if c.o.DiskBytes != 0 {
				c.o.Dir = filepath.Join(dir, "cache")
			}
			cache := open(t, c.o)
			path := staged(t, dir, c.data)
			if c.hold != nil {
				c.hold(t, path)
			}
			moved, err := cache.Adopt(t.Context(), id, path)
			if moved || !errors.Is(err, c.want) {
				t.Errorf("got %v, %v", moved, err)
			}
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, c.data) {
				t.Errorf("the file was touched: %v", err)
			}
			if cache.Contains(id) {
				t.Error("it is in the cache")
			}
			mustReadAll(t, handle(t, cache, id, &fakeSource{data: data}), blockSize, data)
		})
	}
}

func holdOpen(t *testing.T, path string) {
	w, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
}

func holdMapped(t *testing.T, path string) {
	w, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	m, err := unix.Mmap(int(w.Fd()), 0, 4096, unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	t.Cleanup(func() { unix.Munmap(m) })
}

func TestAdoptWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	for _, size := range []int{0, 5000, 9 * blockSize} {
		data := randomBytes(size, 5)
		c := open(t, Options{Dir: filepath.Join(dir, "cache"), DiskBytes: 1 << 30})
		if size > 0 {
			if moved, err := c.Adopt(t.Context(), sha256ID(data), staged(t, dir, data)); !moved || err != nil {
				t.Fatal(moved, err)
			}
		}
		before := c.Stats().DiskBytes
		path := staged(t, dir, data)
		if moved, err := c.Adopt(t.Context(), sha256ID(data), path); moved || err != nil {
			t.Errorf("size %d: %v, %v", size, moved, err)
		}
		if exists(path) || c.Stats().DiskBytes != before {
			t.Errorf("size %d: still there %v, %d bytes on disk, were %d", size, exists(path), c.Stats().DiskBytes, before)
		}
	}
}

func TestAdoptFromAnotherFileSystem(t *testing.T) {
	other, err := os.MkdirTemp("/dev/shm", "adopt")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(other) })
	dir := t.TempDir()
	if sameDevice(dir, other) {
		dir = "." // where temporary files are in memory too
		if dir, err = os.MkdirTemp(".", "adopt"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
	}
	c := open(t, Options{Dir: filepath.Join(dir, "cache"), DiskBytes: 1 << 30})
	for _, size := range []int{5000, 9*blockSize + 1} {
		data := randomBytes(size, 6)
		path := staged(t, other, data)
		if moved, err := c.Adopt(t.Context(), sha256ID(data), path); !moved || err != nil {
			t.Fatal(moved, err)
		}
		if exists(path) {
			t.Error("the file is still there")
		}
		mustBeNative(t, handle(t, c, sha256ID(data), noSource(t, data)), data)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "cache", "partial", "*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}

// An object of which something is cached, by handles that stay open, becomes
// complete for them as well.
func TestAdoptOfAnOpenObject(t *testing.T) {
	data := randomBytes(24*blockSize+9, 7)
	id := sha256ID(data)
	dir := t.TempDir()
	c := open(t, Options{Dir: filepath.Join(dir, "cache"), DiskBytes: 1 << 30, Connections: 1})
	src := &fakeSource{data: data}
	f := handle(t, c, id, src)
	for _, off := range []int64{0, 7 * blockSize, 20 * blockSize} {
		if _, err := f.ReadAt(t.Context(), make([]byte, blockSize), off); err != nil {
			t.Fatal(err)
		}
	}
	c.waitQueue()
	if !exists(c.tier.partialData(id)) {
		t.Fatal("nothing is stored yet: this tests nothing")
	}
	if moved, err := c.Adopt(t.Context(), id, staged(t, dir, data)); !moved || err != nil {
		t.Fatal(moved, err)
	}
	before := src.requests.Load()
	mustBeNative(t, f, data)
	mustReadAll(t, f, blockSize, data)
	mustBeNative(t, handle(t, c, id, noSource(t, data)), data)
	if n := src.requests.Load() - before; n != 0 {
		t.Errorf("%d requests after it was adopted", n)
	}
	if exists(c.tier.partialData(id)) || exists(c.tier.partialIndex(id)) {
		t.Error("the partial files are still there")
	}
	if n := c.Stats().DiskBytes; n != id.Size {
		t.Errorf("%d bytes on disk, want %d", n, id.Size)
	}
}

// The Hub answered something else before: who has read that is told.
func TestAdoptContradictsWhatWasFetched(t *testing.T) {
	data := randomBytes(24*blockSize, 8)
	id := sha256ID(data)
	wrong := bytes.Clone(data)
	wrong[blockSize/2] ^= 1
	dir := t.TempDir()
	c := open(t, Options{Dir: filepath.Join(dir, "cache"), DiskBytes: 1 << 30, Connections: 1})
	f := handle(t, c, id, &fakeSource{data: wrong})
	if _, err := f.ReadAt(t.Context(), make([]byte, blockSize), 0); err != nil {
		t.Fatal(err)
	}
	if moved, err := c.Adopt(t.Context(), id, staged(t, dir, data)); !moved || err != nil {
		t.Fatal(moved, err)
	}
	if _, err := f.ReadAt(t.Context(), make([]byte, blockSize), 0); !errors.Is(err, ErrCorrupt) {
		t.Errorf("the handle that read it: %v", err)
	}
	g := handle(t, c, id, noSource(t, data))
	mustBeNative(t, g, data)
	mustReadAll(t, g, blockSize, data)
	if n := c.Stats().Corrupt; n != 1 {
		t.Errorf("%d corrupt objects", n)
	}
}

// A range that arrives wrong after the object was adopted is not served.
func TestWrongBytesArriveAfterAdopt(t *testing.T) {
	data := randomBytes(24*blockSize, 9)
	id := sha256ID(data)
	wrong := bytes.Clone(data)
	for i := range wrong {
		wrong[i] ^= 1
	}
	dir := t.TempDir()
	c := open(t, Options{Dir: filepath.Join(dir, "cache"), DiskBytes: 1 << 30})
	entered, hold := make(chan struct{}, 100), make(chan struct{})
	f := handle(t, c, id, &fakeSource{data: wrong, gate: func(ctx context.Context, off, n int64) error {
		entered <- struct{}{}
		<-hold
		return nil
	}})
	var wg sync.WaitGroup
	wg.Go(func() {
		p := make([]byte, blockSize)
		if n, err := f.ReadAt(context.Background(), p, 3*blockSize); err == nil && !bytes.Equal(p[:n], data[3*blockSize:4*blockSize]) {
			t.Error("wrong bytes were served")
		}
	})
	<-entered
	if moved, err := c.Adopt(t.Context(), id, staged(t, dir, data)); !moved || err != nil {
		t.Fatal(moved, err)
	}
	close(hold)
	wg.Wait()
	mustReadAll(t, f, blockSize, data)
	mustBeNative(t, f, data)
}

// Readers, fetches and Adopt of the same objects at once.
func TestAdoptAmongReaders(t *testing.T) {
	for seed := range uint64(6) {
		data := randomBytes(14*blockSize+int(seed), seed)
		id := sha256ID(data)
		dir := t.TempDir()
		c := open(t, Options{Dir: filepath.Join(dir, "cache"), DiskBytes: 1 << 30, MemoryBytes: minMemory})
		path := staged(t, dir, data)
		src := &fakeSource{data: data}
		var wg sync.WaitGroup
		for range 4 {
			f := handle(t, c, id, src)
			wg.Go(func() {
				for range 3 {
					if got, err := readAll(context.Background(), f, blockSize/2); err != nil || !bytes.Equal(got, data) {
						t.Errorf("%d bytes, %v", len(got), err)
					}
				}
			})
		}
		wg.Go(func() {
			if _, err := c.Adopt(t.Context(), id, path); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		if exists(path) {
			t.Error("the file is still there")
		}
		mustBeNative(t, handle(t, c, id, noSource(t, data)), data)
		if w := writable(t, dir); len(w) > 0 {
			t.Errorf("open for writing: %q", w)
		}
	}
}

// Adopt died between its steps: what it left is valid or ignored.
func TestAdoptLeftovers(t *testing.T) {
	data := randomBytes(10*blockSize+3, 11)
	id := sha256ID(data)
	whole := filepath.Join(t.TempDir(), "cache")
	func() {
		c, err := Open(Options{Dir: whole, DiskBytes: 1 << 30})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if moved, err := c.Adopt(t.Context(), id, staged(t, t.TempDir(), data)); !moved || err != nil {
			t.Fatal(moved, err)
		}
	}()
	blob := func(dir string) string { return filepath.Join(dir, "blobs", id.Hex[:2], id.String()) }
	for name, leave := range map[string]func(dir string) error{
		"the index is written": func(dir string) error {
			return errors.Join(os.Rename(blob(dir)+".idx", filepath.Join(dir, "partial", "1.tmp")), os.Remove(blob(dir)))
		},
		"the index has its name": func(dir string) error { return os.Remove(blob(dir)) },
		"both have their names":  func(dir string) error { return nil },
		"a partial object is left": func(dir string) error {
			part := filepath.Join(dir, "partial", id.String())
			return errors.Join(os.WriteFile(part+".data", make([]byte, len(data)), 0o600),
				os.WriteFile(part+".idx", indexHeader(id.Size), 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "cache")
			copyDir(t, whole, dir)
			if err := leave(dir); err != nil {
				t.Fatal(err)
			}
			c := open(t, Options{Dir: dir, DiskBytes: 1 << 30})
			mustReadAll(t, handle(t, c, id, &fakeSource{data: data}), blockSize, data)
			path := staged(t, t.TempDir(), data)
			if _, err := c.Adopt(t.Context(), id, path); err != nil {
				t.Fatal(err)
			}
			if exists(path) || !c.Contains(id) {
				t.Error("not adopted after all")
			}
		})
	}
}

// An object that was fetched is held by descriptors for reading only from the
// moment on in which it is complete, and stays readable through all of that.
func TestCompleteObjectsAreOpenForReading(t *testing.T) {
	data := randomBytes(20*blockSize+1, 12)
	id := sha256ID(data)
	dir := t.TempDir()
	c := open(t, Options{Dir: dir, DiskBytes: 1 << 30, MemoryBytes: minMemory})
	f := handle(t, c, id, &fakeSource{data: data})
	for !c.Contains(id) {
		mustReadAll(t, f, blockSize, data)
		c.waitQueue()
	}
	mustBeNative(t, f, data)
	if w := writable(t, dir); len(w) > 0 {
		t.Errorf("open for writing: %q", w)
	}
	mustReadAll(t, f, blockSize, data)
	// It is still locked against eviction.
	c.tier.evict(id)
	if !c.Contains(id) {
		t.Error("an open object was evicted")
	}
	f.Close()
	c.tier.evict(id)
	if c.Contains(id) {
		t.Error("an idle object was not evicted")
	}
}
