package node

import (
	"bytes"
	"io"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPassthrough follows a file from its first read to native opens and back.
func TestPassthrough(t *testing.T) {
	m := startMount(t, asMe())
	if os.Geteuid() == 0 && !m.ready.Passthrough {
		t.Logf("no passthrough here: %s", m.ready.Reason)
	}
	const name = "model.safetensors"
	want := testFiles()[name]
	opens := func() string { return m.ask("opens " + name) }
	check := func(f *os.File) {
		t.Helper()
		got := make([]byte, len(want))
		if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("wrong bytes or %v", err)
		}
	}

	first := open(t, m.path(name))
	if got := opens(); got != "{cached:1 native:0}" {
		t.Fatalf("an absent file: %s", got)
	}
	check(first)
	// Complete by now or soon, but the first open binds the others, also as
	// nothing more than a mapping.
	mem, err := syscall.Mmap(int(first.Fd()), 0, len(want), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	first.Close()
	second := open(t, m.path(name))
	check(second)
	second.Close()
	if !bytes.Equal(mem, want) {
		t.Fatal("wrong bytes in the mapping")
	}
	waitFor(t, "the release of the second", func() bool { return opens() == "{cached:1 native:0}" })
	if err := syscall.Munmap(mem); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the release of the mapping", func() bool { return opens() == "{cached:0 native:0}" })

	wantOpen := "{cached:1 native:0}"
	if m.ready.Passthrough {
		wantOpen = "{cached:0 native:1}"
	}
	var third *os.File
	waitFor(t, "the verified copy on disk", func() bool {
		third = open(t, m.path(name))
		if opens() == wantOpen {
			return true
		}
		third.Close()
		waitFor(t, "a release", func() bool { return opens() == "{cached:0 native:0}" })
		return false
	})
	// Without the pages of the earlier opens, bytes can only come from the
	// server or past it.
	if err := unix.Fadvise(int(third.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
	blocks := m.ask("blocks")
	check(third)
	if got := m.ask("blocks"); (got == blocks) != m.ready.Passthrough {
		t.Errorf("passthrough is %v, and the server served %s blocks, then %s", m.ready.Passthrough, blocks, got)
	}
	for range 3 {
		f := open(t, m.path(name))
		check(f)
		mem, err := syscall.Mmap(int(f.Fd()), 0, len(want), syscall.PROT_READ, syscall.MAP_SHARED)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(mem, want) {
			t.Fatal("wrong bytes in a mapping")
		}
		f.Close()
		if err := syscall.Munmap(mem); err != nil {
			t.Fatal(err)
		}
	}
	third.Close()
	waitFor(t, "the last release", func() bool { return opens() == "{cached:0 native:0}" })
	if got := m.ask("handles"); got != "0" {
		t.Fatalf("%s handles left", got)
	}

	// Small complete files are not worth it.
	if _, err := os.ReadFile(m.path("small.bin")); err != nil {
		t.Fatal(err)
	}
	open(t, m.path("small.bin"))
	if got := m.ask("opens small.bin"); got[:len("{cached:0")] == "{cached:0" {
		t.Fatalf("a small file: %s", got)
	}
}

// TestPassthroughAfterRemount: what one mount read, the next one serves
// natively from its first open.
func TestPassthroughAfterRemount(t *testing.T) {
	const name = "model.safetensors"
	want := testFiles()[name]
	c := asMe()
	c.CacheDir = t.TempDir()
	for round := range 2 {
		m := startMount(t, c)
		f := open(t, m.path(name))
		opens := m.ask("opens " + name)
		if round == 1 && m.ready.Passthrough && opens != "{cached:0 native:1}" {
			t.Errorf("a file read to its end by another mount: %s", opens)
		}
		got, err := io.ReadAll(f)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("wrong bytes or %v", err)
		}
		f.Close()
		waitFor(t, "unmount", func() bool { return m.ask("unmount") == "ok" })
		m.in.Close() // the cache is written out when the server ends
		if err := <-m.ended; err != nil {
			t.Fatal(err)
		}
		m.ended <- nil
	}
}

func TestNoOpen(t *testing.T) {
	c := asMe()
	c.NoOpen = true
	m := startMount(t, c)
	if m.ready.Passthrough {
		t.Error("passthrough without OPEN")
	}
	for range 2 {
		for name, want := range testFiles() { // more files than handles are kept
			got, err := os.ReadFile(m.path(name))
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%s: wrong bytes or %v", name, err)
			}
		}
	}
	if got := m.ask("handles"); got != "0" {
		t.Fatalf("%s opens", got)
	}
	m.do("unmount")
}

func TestProbeHost(t *testing.T) {
	dir := t.TempDir()
	p := ProbeHost(dir)
	if p.Device != nil {
		t.Fatal(p.Device)
	}
	if (p.Reason == "") != p.Passthrough {
		t.Errorf("%+v", p)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	m := startMount(t, serverConfig{UID: -1, GID: -1, CacheDir: dir})
	if m.ready.Passthrough != p.Passthrough {
		t.Errorf("the probe says %+v, the mount %+v", p, m.ready)
	}
	if raised := m.ready.ReadAheadKB >= readAheadKB; raised != p.ReadAhead {
		t.Errorf("the probe says %+v, the mount %+v", p, m.ready)
	}
}
