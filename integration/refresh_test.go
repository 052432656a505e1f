package integration

import (
	"bytes"
	"io"
	"os"
	"syscall"
	"testing"
	"time"

	"hfmount/remote/hubtest"
)

func stat(t *testing.T, path string) (ino uint64, mtime time.Time) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Ino, info.ModTime()
}

// A branch that moves shows its new files whole; what did not change keeps
// inode number and mtime; an open file keeps its bytes.
func TestRefresh(t *testing.T) {
	w := newWorld(t, hubtest.Options{})
	old, changed := noise(21, 10<<20), noise(22, 10<<20)
	w.commit("alice/live", map[string][]byte{
		"same.txt": []byte("same\n"), "changed.bin": old, "gone.txt": []byte("gone\n"),
		"dir/same.txt": []byte("deep\n"), "dir2/x": []byte("1"),
	})
	m := w.mount("alice/live", "--refresh", "300ms")
	ino, mtime := map[string]uint64{}, map[string]time.Time{}
	for _, name := range []string{"same.txt", "changed.bin", "dir/same.txt", "dir", "gone.txt"} {
		ino[name], mtime[name] = stat(t, m.join(name))
	}
	f, err := os.Open(m.join("changed.bin"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	first := make([]byte, 1000)
	if _, err := io.ReadFull(f, first); err != nil {
		t.Fatal(err)
	}

	time.Sleep(1100 * time.Millisecond) // commits have whole seconds
	commit := w.commit("alice/live", map[string][]byte{
		"changed.bin": changed, "gone.txt": nil, "new.txt": []byte("new\n"), "dir2/x": []byte("2"),
	})
	if !eventually(15*time.Second, func() bool { _, err := os.Stat(m.join("new.txt")); return err == nil }) {
		t.Fatal("the new commit did not show")
	}
	if got := m.status().Commit; got != string(commit) {
		t.Errorf("status says commit %s, want %s", got, commit)
	}
	if got, err := os.ReadFile(m.join("changed.bin")); err != nil || !bytes.Equal(got, changed) {
		t.Errorf("changed.bin has not the new bytes: %v", err)
	}
	if got, err := os.ReadFile(m.join("dir2/x")); err != nil || string(got) != "2" {
		t.Errorf("dir2/x: %q, %v", got, err)
	}
	if _, err := os.Stat(m.join("gone.txt")); !isErrno(err, syscall.ENOENT) {
		t.Errorf("gone.txt: %v", err)
	}
	if got, err := xattr(m.join("same.txt"), "user.hf.commit"); err != nil || got != string(commit) {
		t.Errorf("user.hf.commit: %q, %v; want %s", got, err, commit)
	}
	for _, name := range []string{"same.txt", "dir/same.txt", "dir"} {
		if i, mt := stat(t, m.join(name)); i != ino[name] || !mt.Equal(mtime[name]) {
			t.Errorf("%s was %d %s, is %d %s", name, ino[name], mtime[name], i, mt)
		}
	}
	if i, mt := stat(t, m.join("changed.bin")); i == ino["changed.bin"] || !mt.After(mtime["changed.bin"]) {
		t.Errorf("changed.bin keeps inode %d or mtime %s", i, mt)
	}
	rest, err := io.ReadAll(f)
	if err != nil || !bytes.Equal(append(first, rest...), old) {
		t.Errorf("the open file lost its bytes: %d read, %v", len(rest), err)
	}
}

// hfmount refresh looks now; unchanged views cost one cheap request each.
func TestRefreshNow(t *testing.T) {
	w := newWorld(t, hubtest.Options{})
	w.commit("alice/live", map[string][]byte{"x": []byte("1"), "d/y": []byte("y")})
	m := w.mount("alice/live", "--refresh", "0")
	if got, err := os.ReadFile(m.join("x")); err != nil || string(got) != "1" {
		t.Fatalf("x: %q, %v", got, err)
	}
	w.must("ls", "-R", m.path)
	w.hub.ResetStats()
	w.must(binary, "refresh", m.path)
	if n := w.hub.Stats().Total; n > 1 {
		t.Errorf("an unchanged branch cost %d requests", n)
	}
	w.commit("alice/live", map[string][]byte{"x": []byte("2")})
	time.Sleep(500 * time.Millisecond)
	if got, _ := os.ReadFile(m.join("x")); string(got) != "1" {
		t.Errorf("--refresh 0 shows %q before it was asked", got)
	}
	w.must(binary, "refresh", m.path)
	if !eventually(5*time.Second, func() bool { got, _ := os.ReadFile(m.join("x")); return string(got) == "2" }) {
		t.Error("hfmount refresh did not show the new commit")
	}
	// A revision that cannot move is never looked at again.
	pinned := w.mount("alice/live@"+m.status().Commit, "--refresh", "100ms")
	w.must("ls", "-R", pinned.path)
	w.hub.ResetStats()
	time.Sleep(600 * time.Millisecond)
	w.must("ls", "-R", pinned.path)
	if n := w.hub.Stats().Total; n != 0 {
		t.Errorf("a pinned commit cost %d requests", n)
	}
}
