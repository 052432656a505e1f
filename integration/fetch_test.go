package integration

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"hfmount/remote/hubtest"
)

// What was fetched is read offline: folders, names and bytes.
func TestFetchThenOffline(t *testing.T) {
	w := newWorld(t, hubtest.Options{})
	files := sample()
	w.commit("alice/sample", files)
	native := w.native("alice/sample", files)
	w.must(binary, "fetch", "alice/sample")
	w.hub.ResetStats()
	w.must(binary, "fetch", "alice/sample")
	if n := content(w.hub.Stats()); n != 0 {
		t.Errorf("the second fetch made %d requests for content", n)
	}
	w.srv.Close()
	m := w.mount("alice/sample", "--offline")
	w.must("diff", "-r", native, m.path)
	if s := m.status(); s.Bytes != 0 {
		t.Errorf("fetched %d bytes offline", s.Bytes)
	}
}

// A fetch that was killed goes on where it was.
func TestFetchKilled(t *testing.T) {
	w := newWorld(t, hubtest.Options{})
	big := hubtest.Synthetic{Size: 64 << 20, Seed: 3}
	w.synthetic("alice/big", map[string]hubtest.Synthetic{"w.bin": big})
	w.hub.Shape(0, 1<<20) // 16 MiB/s in all
	cmd := exec.Command(binary, "fetch", "alice/big/w.bin")
	cmd.Env = w.env
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if !eventually(time.Minute, func() bool { return w.hub.Stats().BytesSent > 24<<20 }) {
		t.Error("nothing is being fetched")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	cmd.Wait()
	w.hub.Shape(0, 0)
	if !eventually(10*time.Second, func() bool {
		before := w.hub.Stats().BytesSent
		time.Sleep(200 * time.Millisecond)
		return w.hub.Stats().BytesSent == before
	}) {
		t.Error("the Hub goes on sending")
	}
	w.hub.ResetStats()
	w.must(binary, "fetch", "alice/big/w.bin")
	// Of what had arrived, memory and the kernel's buffers lose a part.
	if n := w.hub.Stats().BytesSent; n > 56<<20 {
		t.Errorf("the second fetch took %d MiB of 64", n>>20)
	}
	w.srv.Close()
	m := w.mount("alice/big", "--offline")
	if out := w.must("sha256sum", m.join("w.bin")); !strings.HasPrefix(out, big.SHA256()) {
		t.Errorf("other content: %s", out)
	}
}

// A mount that has a file open, of which it read a little, neither keeps a
// fetch from completing it nor fetches the rest again.
func TestFetchBesideMount(t *testing.T) {
	w := newWorld(t, hubtest.Options{})
	big := hubtest.Synthetic{Size: 64 << 20, Seed: 4}
	w.synthetic("alice/big", map[string]hubtest.Synthetic{"w.bin": big})
	m := w.mount("alice/big", "--read-only")
	f, err := os.Open(m.join("w.bin"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	head := make([]byte, 4096)
	if _, err := f.ReadAt(head, 0); err != nil {
		t.Fatal(err)
	}
	w.must(binary, "fetch", "alice/big")
	w.hub.ResetStats()
	if out := w.must("sha256sum", m.join("w.bin")); !strings.HasPrefix(out, big.SHA256()) {
		t.Errorf("other content: %s", out)
	}
	f.Close()
	if out := w.must("sha256sum", m.join("w.bin")); !strings.HasPrefix(out, big.SHA256()) {
		t.Errorf("other content when opened again: %s", out)
	}
	if n := content(w.hub.Stats()); n != 0 {
		t.Errorf("the mount made %d requests for what was fetched", n)
	}
	if want := noise(4, 64<<20)[:4096]; !bytes.Equal(head, want) {
		t.Error("the header is not right")
	}
}
