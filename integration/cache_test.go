package integration

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"hfmount/remote/hubtest"
)

// content counts requests that carry the bytes of files.
func content(s hubtest.Stats) int64 { return s.Quota["cdn"] + s.Quota["resolvers"] }

// What was read to its end is read again after a remount without a request
// for content, and with the Hub gone it is read with --offline.
func TestWarmAfterRemount(t *testing.T) {
	w := newWorld(t, hubtest.Options{})
	files := sample()
	w.commit("alice/sample", files)
	native := w.native("alice/sample", files)
	m := w.mount("alice/sample")
	w.must("diff", "-r", native, m.path)
	m.unmount()

	m = w.mount("alice/sample")
	w.hub.ResetStats()
	w.must("diff", "-r", native, m.path)
	stats := w.hub.Stats()
	if n := content(stats); n != 0 {
		t.Errorf("the second mount made %d requests for content: %v", n, stats.Requests)
	}
	if n := stats.Requests["tree"]; n != 0 {
		t.Errorf("the second mount listed %d times", n)
	}
	if s := m.status(); s.Bytes > 64<<10 {
		t.Errorf("the second mount fetched %d bytes", s.Bytes)
	}
	m.unmount()

	w.srv.Close()
	w.hub.ResetStats()
	m = w.mount("alice/sample", "--offline")
	w.must("diff", "-r", native, m.path)
	if _, err := os.Lstat(m.join("nothing")); !isErrno(err, syscall.ENOENT) {
		t.Errorf("a name that the listing lacks: %v, want ENOENT", err)
	}
	if s := m.status(); s.Online {
		t.Error("status says online")
	}
	if n := w.hub.Stats().Total; n != 0 {
		t.Errorf("offline, and %d requests", n)
	}
}

// Offline, what was never read is an error of its own, never an absence.
func TestOfflineMiss(t *testing.T) {
	w := newWorld(t, hubtest.Options{})
	w.commit("alice/sample", sample())
	m := w.mount("alice/sample")
	w.must("ls", "-R", m.path)
	m.unmount()
	m = w.mount("alice/sample", "--offline")
	m.allow = anyLog
	if _, err := os.ReadFile(m.join("weights.bin")); !isErrno(err, syscall.ENETUNREACH) {
		t.Errorf("never read: %v, want ENETUNREACH", err)
	}
	m.unmount()
	if r := w.hfmount("mount", "--offline", "alice/other", mkdir(t, w, "o")); r.code == 0 {
		t.Errorf("a repository never seen mounts offline: %s", r)
	}
}

func mkdir(t *testing.T, w *world, name string) string {
	t.Helper()
	p := filepath.Join(w.dir, name)
	if err := os.MkdirAll(p, 0o755); err != nil {
		t.Fatal(err)
	}
	return p
}

// Two mounts of one person share a cache, at the same time and across
// repositories that hold the same content.
func TestTwoMountsShareACache(t *testing.T) {
	w := newWorld(t, hubtest.Options{})
	same := hubtest.Synthetic{Size: 64 << 20, Seed: 7}
	w.synthetic("alice/a", map[string]hubtest.Synthetic{"w.bin": same})
	w.synthetic("alice/b", map[string]hubtest.Synthetic{"other.bin": same})
	a, b := w.mount("alice/a"), w.mount("alice/b")
	paths := []string{a.join("w.bin"), b.join("other.bin")}

	var wg sync.WaitGroup
	results := make([]string, 2)
	for i, p := range paths {
		wg.Go(func() {
			out, _ := exec.Command("sha256sum", p).Output()
			results[i] = string(out)
		})
	}
	wg.Wait()
	for i, r := range results {
		if !strings.HasPrefix(r, same.SHA256()) {
			t.Errorf("%s: %s", paths[i], r)
		}
	}
	a.unmount()
	b.unmount()
	b = w.mount("alice/b")
	w.hub.ResetStats()
	if out := w.must("sha256sum", b.join("other.bin")); !strings.HasPrefix(out, same.SHA256()) {
		t.Error("after a remount the bytes differ")
	}
	if n := w.hub.Stats().Quota["cdn"]; n != 0 {
		t.Errorf("content that the cache holds cost %d requests", n)
	}
}

// A daemon killed at any moment of filling its cache leaves nothing that a
// later mount would serve wrongly.
func TestCrash(t *testing.T) {
	w := newWorld(t, hubtest.Options{Bandwidth: 0})
	file := hubtest.Synthetic{Size: 96 << 20, Seed: 11}
	w.synthetic("alice/big", map[string]hubtest.Synthetic{"w.bin": file})
	w.commit("alice/big", map[string][]byte{"s.bin": noise(12, 4<<20)})
	random := rand.New(rand.NewPCG(1, 2))
	for range 5 {
		m := w.mount("alice/big")
		reader := exec.Command("sha256sum", m.join("s.bin"), m.join("w.bin"))
		if err := reader.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(20+random.IntN(300)) * time.Millisecond)
		m.kill()
		reader.Wait()
		// The dead mount says so; it does not hang.
		if _, err := os.ReadDir(m.path); !isErrno(err, syscall.ENOTCONN) {
			t.Errorf("a dead mount: %v, want ENOTCONN", err)
		}
		m.detach()
	}
	m := w.mount("alice/big")
	for range 2 {
		if out := w.must("sha256sum", m.join("w.bin")); !strings.HasPrefix(out, file.SHA256()) {
			t.Errorf("w.bin after crashes: %s", out)
		}
		if got, err := os.ReadFile(m.join("s.bin")); err != nil || !bytes.Equal(got, noise(12, 4<<20)) {
			t.Errorf("s.bin after crashes: %v", err)
		}
	}
}

// Damage to the cache on disk is noticed, fetched again, and never served.
func TestDamagedCache(t *testing.T) {
	w := newWorld(t, hubtest.Options{})
	file := hubtest.Synthetic{Size: 40 << 20, Seed: 13}
	w.synthetic("alice/big", map[string]hubtest.Synthetic{"w.bin": file})
	w.commit("alice/big", map[string][]byte{"s.bin": noise(14, 2<<20)})
	m := w.mount("alice/big")
	w.must("head", "-c", "30000000", m.join("w.bin")) // incomplete
	w.must("cat", m.join("s.bin"))
	m.unmount()

	damaged := 0
	err := filepath.Walk(w.dir+"/home/hf/hfmount", func(p string, info os.FileInfo, err error) error {
		if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
			return err
		}
		f, err := os.OpenFile(p, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		for off := info.Size() / 3; off < info.Size(); off += max(1, info.Size()/3) {
			var b [1]byte
			f.ReadAt(b[:], off)
			b[0] ^= 0x40
			if _, err := f.WriteAt(b[:], off); err != nil {
				return err
			}
			damaged++
		}
		return nil
	})
	if err != nil || damaged < 4 {
		t.Fatalf("damaged %d places, %v", damaged, err)
	}
	m = w.mount("alice/big")
	m.allow = anyLog
	if out := w.must("sha256sum", m.join("w.bin")); !strings.HasPrefix(out, file.SHA256()) {
		t.Errorf("w.bin: %s", out)
	}
	if got, err := os.ReadFile(m.join("s.bin")); err != nil || !bytes.Equal(got, noise(14, 2<<20)) {
		t.Errorf("s.bin: %v", err)
	}
}

// A disk tier smaller than the files: everything is still right, and the
// directory stays near its bound.
func TestSmallDiskTier(t *testing.T) {
	w := newWorld(t, hubtest.Options{})
	files := map[string]hubtest.Synthetic{}
	for _, name := range []string{"a", "b", "c", "d"} {
		files[name] = hubtest.Synthetic{Size: 24 << 20, Seed: uint64(name[0])}
	}
	files["large"] = hubtest.Synthetic{Size: 80 << 20, Seed: 99}
	w.synthetic("alice/big", files)
	m := w.mount("alice/big", "--cache-size", "50M", "--memory", "32M")
	for range 2 {
		for name, f := range files {
			if out := w.must("sha256sum", m.join(name)); !strings.HasPrefix(out, f.SHA256()) {
				t.Errorf("%s: %s", name, out)
			}
		}
	}
	onDisk := func() int64 {
		kb := strings.Fields(w.must("du", "-sk", w.dir+"/home/hf/hfmount"))[0]
		var n int64
		for _, c := range kb {
			n = n*10 + int64(c-'0')
		}
		return n << 10
	}
	if !eventually(10*time.Second, func() bool { return onDisk() <= 60_000_000 }) {
		t.Errorf("the cache takes %d bytes of 50 MB", onDisk())
	}
}
