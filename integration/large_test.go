package integration

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"hfmount/remote/hubtest"
)

// rssSlack is what a daemon may use beyond its memory tier, beside 1 KiB for
// each inode the kernel holds.
const rssSlack = 64 << 20

// A 5 GB file mounts at once and reads with the right hash, in little memory.
func TestFiveGigabytes(t *testing.T) {
	w := newWorld(t, hubtest.Options{})
	file := hubtest.Synthetic{Size: 5_000_000_003, Seed: 5}
	w.synthetic("alice/huge", map[string]hubtest.Synthetic{"model.safetensors": file})
	const memory = 128 << 20
	begin := time.Now()
	m := w.mount("alice/huge", "--memory", "128MiB", "--cache-size", "0")
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("the mount took %s", took)
	}
	info, err := os.Stat(m.join("model.safetensors"))
	if err != nil || info.Size() != file.Size {
		t.Fatalf("size %v, %v", info, err)
	}
	// The header alone costs little.
	w.hub.ResetStats()
	f, err := os.Open(m.join("model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 100_000)
	file.ReaderAt().ReadAt(want, 0)
	got := make([]byte, len(want))
	if _, err := f.ReadAt(got, 0); err != nil || string(got) != string(want) {
		t.Errorf("the header differs: %v", err)
	}
	f.Close()
	time.Sleep(300 * time.Millisecond)
	stats := w.hub.Stats()
	t.Logf("100 KB header: %d bytes, %v", stats.BytesSent, stats.Requests)
	if stats.BytesSent > 20_000_000 {
		t.Errorf("reading a 100 KB header fetched %d bytes", stats.BytesSent)
	}

	for _, off := range []int64{0, 1 << 20, 2_500_000_001, 4_999_999_999, file.Size - 1} {
		n := min(4096, file.Size-off)
		want := make([]byte, n)
		file.ReaderAt().ReadAt(want, off)
		got := w.must("sh", "-c", fmt.Sprintf("tail -c +%d %s | head -c %d", off+1, m.join("model.safetensors"), n))
		if got != string(want) {
			t.Errorf("the bytes at %d differ", off)
		}
	}
	begin = time.Now()
	if out := w.must("sha256sum", m.join("model.safetensors")); !strings.HasPrefix(out, file.SHA256()) {
		t.Errorf("want %s, got %s", file.SHA256(), out)
	}
	now, peak := m.memory()
	t.Logf("read in %s; RSS %d MiB, at most %d MiB", time.Since(begin).Round(time.Millisecond), now>>20, peak>>20)
	if peak > memory+rssSlack {
		t.Errorf("the daemon used %d MiB, tier %d MiB", peak>>20, memory>>20)
	}
}

// 100,000 files in 1,000 folders: mounts, lists, reads, in bounded memory and
// few requests.
func TestHundredThousandFiles(t *testing.T) {
	w := newWorld(t, hubtest.Options{})
	const folders, each = 1000, 100
	files := make(map[string][]byte, folders*each)
	for d := range folders {
		for i := range each {
			files[fmt.Sprintf("folder-%03d/file-%02d.txt", d, i)] = fmt.Appendf(nil, "%d/%d\n", d, i)
		}
	}
	w.commit("alice/many", files)
	const memory = 64 << 20
	m := w.mount("alice/many", "--memory", "64MiB")
	before, _ := m.memory()

	w.hub.ResetStats()
	begin := time.Now()
	out := w.must("sh", "-c", "find "+m.path+" -type f -name 'file-*' -size -1k -o -type f -name 'file-*' | wc -l")
	if strings.TrimSpace(out) != fmt.Sprint(folders*each) {
		t.Errorf("find shows %s files", strings.TrimSpace(out))
	}
	stats := w.hub.Stats()
	now, peak := m.memory()
	t.Logf("find in %s: %d API requests; RSS %d MiB, before %d MiB, at most %d MiB",
		time.Since(begin).Round(time.Millisecond), stats.Quota["api"], now>>20, before>>20, peak>>20)
	// A page holds 1,000 entries; one request per folder would be the naive way.
	if n := stats.Quota["api"]; n > 400 {
		t.Errorf("find cost %d API requests", n)
	}
	const inodes = folders*each + folders + 2
	if peak > memory+rssSlack+inodes<<10 {
		t.Errorf("the daemon used %d MiB; tier %d MiB and %d inodes", peak>>20, memory>>20, inodes)
	}

	w.hub.ResetStats()
	if out := w.must("sh", "-c", "find "+m.path+" -type d | wc -l"); strings.TrimSpace(out) != fmt.Sprint(folders+1) {
		t.Errorf("the second find shows %s folders", strings.TrimSpace(out))
	}
	if n := w.hub.Stats().Total; n > 1 {
		t.Errorf("the second find cost %d requests", n)
	}
	for _, d := range []int{0, 1, 500, 998, 999} {
		for _, i := range []int{0, 57, 99} {
			name := fmt.Sprintf("folder-%03d/file-%02d.txt", d, i)
			if got, err := os.ReadFile(m.join(name)); err != nil || string(got) != string(files[name]) {
				t.Errorf("%s: %q, %v", name, got, err)
			}
		}
	}
	m.unmount()

	// Seen before: nothing is listed again.
	m = w.mount("alice/many")
	w.hub.ResetStats()
	if out := w.must("sh", "-c", "ls -R "+m.path+" | grep -c file-"); strings.TrimSpace(out) != fmt.Sprint(folders*each) {
		t.Errorf("after a remount ls shows %s files", strings.TrimSpace(out))
	}
	if n := w.hub.Stats().Requests["tree"]; n != 0 {
		t.Errorf("after a remount %d listings were asked for", n)
	}
}

// Streaming through the disk tier stays within the memory tier too.
func TestMemoryWhileStreaming(t *testing.T) {
	w := newWorld(t, hubtest.Options{})
	files := map[string]hubtest.Synthetic{}
	for i := range 4 {
		files[fmt.Sprintf("%d.bin", i)] = hubtest.Synthetic{Size: 300 << 20, Seed: uint64(i)}
	}
	w.synthetic("alice/shards", files)
	const memory = 64 << 20
	m := w.mount("alice/shards", "--memory", "64MiB")
	out := w.must("sh", "-c", "cd "+m.path+" && for f in *.bin; do sha256sum $f & done; wait")
	for name, f := range files {
		if !strings.Contains(out, f.SHA256()+"  "+name) {
			t.Errorf("%s differs: %s", name, out)
		}
	}
	now, peak := m.memory()
	t.Logf("RSS %d MiB, at most %d MiB", now>>20, peak>>20)
	if peak > memory+rssSlack {
		t.Errorf("the daemon used %d MiB, tier %d MiB", peak>>20, memory>>20)
	}
}
