package blockcache

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"hfmount/remote/hub"
)

// readOnce reads an object through c and returns what was fetched for it.
func readOnce(t *testing.T, c *Cache, data []byte) int64 {
	t.Helper()
	src := &fakeSource{data: data}
	f, err := c.File(sha256ID(data), src)
	if err != nil {
		t.Fatal(err)
	}
	mustReadAll(t, f, blockSize, data)
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	c.waitQueue()
	return src.bytes.Load()
}

func diskUsage(t *testing.T, dir string) (sum int64) {
	t.Helper()
	for _, pattern := range []string{"blobs/*/*", "partial/*"} {
		names, _ := filepath.Glob(filepath.Join(dir, pattern))
		for _, n := range names {
			if st, err := os.Stat(n); err == nil {
				sum += allocated(st)
			}
		}
	}
	return sum
}

func TestDiskTierIsBounded(t *testing.T) {
	dir := t.TempDir()
	const limit = 30 << 20
	c := open(t, Options{Dir: dir, DiskBytes: limit})
	pinnedData := randomBytes(10<<20, 100)
	pinned := handle(t, c, sha256ID(pinnedData), &fakeSource{data: pinnedData})
	mustReadAll(t, pinned, blockSize, pinnedData)
	for i := range 12 {
		readOnce(t, c, randomBytes(3<<20, uint64(i)))
		if s := c.Stats().DiskBytes; s > limit {
			t.Fatalf("after %d objects %d bytes", i, s)
		}
	}
	if n := diskUsage(t, dir); n > limit+1<<20 {
		t.Errorf("%d bytes on disk", n)
	}
	if !c.Contains(pinned.ID()) {
		t.Error("an open object was evicted")
	}
	if c.Contains(sha256ID(randomBytes(3<<20, 0))) || !c.Contains(sha256ID(randomBytes(3<<20, 11))) {
		t.Error("not the oldest was evicted")
	}
}

func TestScanDoesNotEvictWhatIsUsed(t *testing.T) {
	dir := t.TempDir()
	used := randomBytes(2<<20, 50)
	store(t, dir, used, len(used))
	name := find(t, dir, sha256ID(used).String())
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(name, old, old); err != nil {
		t.Fatal(err)
	}
	for range 2 { // in this process, and remembered by the next
		c, err := Open(Options{Dir: dir, DiskBytes: 10 << 20})
		if err != nil {
			t.Fatal(err)
		}
		<-c.tier.scanned
		if n := readOnce(t, c, used); n != 0 {
			t.Fatalf("fetched %d bytes", n)
		}
		for i := range 6 {
			readOnce(t, c, randomBytes(3<<20, uint64(60+i)))
		}
		if !c.Contains(sha256ID(used)) {
			t.Error("a scan evicted what is in use")
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestScanRebuildsTheIndex(t *testing.T) {
	dir := t.TempDir()
	data := randomBytes(9<<20, 70)
	store(t, dir, data, len(data))
	store(t, dir, randomBytes(20<<20, 71), 5<<20)
	store(t, dir, randomBytes(1<<20, 72), 1<<20)
	stale := filepath.Join(dir, "partial", "123.tmp")
	fresh := filepath.Join(dir, "partial", "456.tmp")
	for _, f := range []string{stale, fresh} {
		if err := os.WriteFile(f, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(stale, old, old); err != nil {
		t.Fatal(err)
	}
	c := open(t, Options{Dir: dir, DiskBytes: 1 << 30})
	<-c.tier.scanned
	st, err := os.Stat(find(t, dir, ".data"))
	if err != nil {
		t.Fatal(err)
	}
	if n, want := c.Stats().DiskBytes, 10<<20+allocated(st); n != want {
		t.Errorf("%d bytes, want %d", n, want)
	}
	if _, err := os.Stat(stale); err == nil {
		t.Error("a stale temporary file is left")
	}
	if _, err := os.Stat(fresh); err != nil {
		t.Error("the file of another process was removed")
	}
}

func TestObjectLargerThanTheTierIsStreamed(t *testing.T) {
	dir := t.TempDir()
	c := open(t, Options{Dir: dir, DiskBytes: 10 << 20})
	data := randomBytes(20<<20, 80)
	readOnce(t, c, data)
	if n := diskUsage(t, dir); n != 0 {
		t.Errorf("%d bytes on disk", n)
	}
}

func TestDiskErrorDegrades(t *testing.T) {
	dir := t.TempDir()
	c := open(t, Options{Dir: dir, DiskBytes: 1 << 30})
	<-c.tier.scanned
	for _, d := range []string{"partial", "blobs"} {
		if err := os.RemoveAll(filepath.Join(dir, d)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, d), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	readOnce(t, c, randomBytes(1<<20, 81))
	if !c.tier.failing() {
		t.Error("the failure went unnoticed")
	}
	readOnce(t, c, randomBytes(12<<20, 82))
}

func TestFreeSpaceFloor(t *testing.T) {
	c := open(t, Options{Dir: t.TempDir(), DiskBytes: -1})
	var st syscall.Statfs_t
	if err := syscall.Statfs(c.tier.dir, &st); err != nil {
		t.Fatal(err)
	}
	floor := max(int64(st.Blocks)*st.Bsize/10, 20e9)
	room, err := c.tier.room()
	if free := int64(st.Bavail) * st.Bsize; err != nil || room > free-floor+1<<30 || room < free-floor-1<<30 {
		t.Errorf("room %d with %d free and a floor of %d: %v", room, free, floor, err)
	}
}

// Two caches on one directory stand for two processes.
func TestSharedDirectory(t *testing.T) {
	dir := t.TempDir()
	objects := [][]byte{randomBytes(20<<20+5, 90), randomBytes(3<<20, 91), randomBytes(9<<20, 92)}
	var wg sync.WaitGroup
	for p := range 2 {
		c, err := Open(Options{Dir: dir, DiskBytes: 1 << 30})
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			defer c.Close()
			for i := range objects {
				data := objects[(i*(p+1)+p)%len(objects)]
				f, err := c.File(sha256ID(data), &fakeSource{data: data})
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := readAll(context.Background(), f, 200_000); err != nil || !bytes.Equal(got, data) {
					t.Errorf("process %d, object %d: %d bytes, %v", p, i, len(got), err)
				}
				f.Close()
			}
		})
	}
	wg.Wait()
	c := open(t, Options{Dir: dir, DiskBytes: 1 << 30})
	for i, data := range objects {
		if n := readOnce(t, c, data); n != 0 {
			t.Errorf("object %d: fetched %d bytes", i, n)
		}
		if !c.Contains(sha256ID(data)) {
			t.Errorf("object %d is not stored", i)
		}
	}
}

func TestSecondProcessReadsTheLogOfTheFirst(t *testing.T) {
	dir := t.TempDir()
	data := randomBytes(20<<20, 93)
	id := sha256ID(data)
	a := open(t, Options{Dir: dir, DiskBytes: 1 << 30})
	b := open(t, Options{Dir: dir, DiskBytes: 1 << 30})
	fa := handle(t, a, id, &fakeSource{data: data})
	if _, err := fa.ReadAt(t.Context(), make([]byte, blockSize), 7<<20); err != nil {
		t.Fatal(err)
	}
	a.waitQueue()
	src := &fakeSource{data: data}
	fb := handle(t, b, id, src)
	p := make([]byte, blockSize)
	if _, err := fb.ReadAt(t.Context(), p, 7<<20); err != nil || !bytes.Equal(p, data[7<<20:8<<20]) {
		t.Fatal(err)
	}
	// What a stores from here on, b has to find in the log.
	if _, err := fa.ReadAt(t.Context(), make([]byte, blockSize), 12<<20); err != nil {
		t.Fatal(err)
	}
	a.waitQueue()
	if _, err := fb.ReadAt(t.Context(), p, 12<<20); err != nil || !bytes.Equal(p, data[12<<20:13<<20]) {
		t.Fatal(err)
	}
	if src.urgent.Load() != 0 { // either may read ahead of the other
		t.Errorf("%d requests", src.urgent.Load())
	}
	// Eviction by one passes by what the other has open.
	b.tier.evict(id)
	if _, err := os.Stat(a.tier.partialData(id)); err != nil {
		t.Error("evicted under an open handle")
	}
}

func TestMemoryKeepsWhatIsReadAgain(t *testing.T) {
	c := open(t, Options{MemoryBytes: 32 << 20})
	hot := randomBytes(4<<20, 94)
	for range 2 {
		readOnce(t, c, hot)
	}
	for i := range 20 {
		readOnce(t, c, randomBytes(4<<20, uint64(200+i)))
	}
	if n := readOnce(t, c, hot); n != 0 {
		t.Errorf("a scan evicted what is read again: fetched %d bytes", n)
	}
}

func TestParseID(t *testing.T) {
	for _, id := range []hub.ContentID{sha256ID([]byte("x")), gitID(nil)} {
		if got, ok := parseID(id.String()); !ok || got != id {
			t.Errorf("%s: %v", id, got)
		}
		for _, bad := range []string{id.String() + "0x", "x" + id.String(), fmt.Sprintf("%s.idx", id), "", "a-b-c"} {
			if _, ok := parseID(bad); ok {
				t.Errorf("%q parsed", bad)
			}
		}
	}
}
