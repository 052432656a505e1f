package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestWithin(t *testing.T) {
	for _, c := range []struct {
		path, dir string
		want      bool
	}{
		{"/mnt/x", "/mnt/x", true}, {"/mnt/x/y", "/mnt/x", true}, {"/mnt/xy", "/mnt/x", false},
		{"/mnt", "/mnt/x", false}, {"/a", "/", true},
	} {
		if got := within(c.path, c.dir); got != c.want {
			t.Errorf("within(%q, %q) = %v", c.path, c.dir, got)
		}
	}
	mounts := []kernelMount{{dir: "/m", source: "old"}, {dir: "/m", source: "new"}, {dir: "/m/a/b", source: "deep"}}
	if m, ok := enclosing(mounts, "/m/a"); !ok || m.source != "new" {
		t.Errorf("got %+v, %v", m, ok)
	}
	if m, ok := enclosing(mounts, "/m/a/b/c"); !ok || m.source != "deep" {
		t.Errorf("got %+v, %v", m, ok)
	}
	if _, ok := enclosing(mounts, "/other"); ok {
		t.Error("found a mount for /other")
	}
}

func TestCheckDir(t *testing.T) {
	dir := t.TempDir()
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(dir, "empty")
	if err := os.Mkdir(empty, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("empty", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	want := filepath.Join(real, "empty")
	for _, d := range []string{empty, filepath.Join(dir, "link"), filepath.Join(dir, "x/../empty")} {
		if got, err := checkDir(d, false); err != nil || got != want {
			t.Errorf("%s: got %q, %v", d, got, err)
		}
	}
	for _, c := range []struct {
		dir  string
		err  error
		text string
	}{
		{filepath.Join(dir, "none"), os.ErrNotExist, "mkdir"},
		{file, syscall.ENOTDIR, "empty directory"},
		{dir, syscall.ENOTEMPTY, "--nonempty"},
	} {
		_, err := checkDir(c.dir, false)
		f, ok := errors.AsType[*failure](err)
		if !ok || !errors.Is(err, c.err) || !strings.Contains(f.hint, c.text) || f.code != exitFailed {
			t.Errorf("%s: %v", c.dir, err)
		}
	}
	if got, err := checkDir(dir, true); err != nil || got != real {
		t.Errorf("nonempty: got %q, %v", got, err)
	}
}

func TestRealPathKeepsWhatIsMissing(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "a"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("a", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := realPath(filepath.Join(dir, "link/gone/too")); got != filepath.Join(real, "a/gone/too") {
		t.Errorf("got %q", got)
	}
}

func TestFindHolders(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	start := func(shell string, in string) int {
		cmd := exec.Command("sh", "-c", shell)
		cmd.Dir = in
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // killed
		})
		if _, err := out.Read(make([]byte, 1)); err != nil { // it has opened what it opens
			t.Fatal(err)
		}
		return cmd.Process.Pid
	}
	want := map[int]string{
		start("echo; exec sleep 60", dir):                                             "working directory",
		start("exec 9<"+filepath.Join(dir, "f")+"; echo; exec sleep 60", t.TempDir()): "open file",
	}
	start("echo; exec sleep 60", t.TempDir()) // uses nothing here
	got := findHolders(real)
	if len(got) != len(want) {
		t.Errorf("got %+v", got)
	}
	for _, h := range got {
		if want[h.pid] == "" || !within(h.path, real) || h.name == "" {
			t.Errorf("unexpected %+v", h)
		}
	}
}
