package node

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The process that is looked at is the test's own.
func TestLastDescriptor(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	mount := filepath.Join(dir, "mnt")
	for _, d := range []string{"mnt/a", "mnt/b", "else/a"} {
		must(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	var d descriptorTables
	defer d.close()
	holding := func(name string) *os.File {
		f, err := os.Create(filepath.Join(dir, name))
		must(t, err)
		t.Cleanup(func() { f.Close() })
		return f
	}
	check := func(what, name string, want bool) {
		t.Helper()
		if got := d.last(os.Getpid(), mount, name); got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	check("nothing open", "a/f.txt", true)
	holding("else/a/g.txt")
	check("a file of the same name elsewhere", "b/g.txt", true)
	check("what may be the same file, seen at another mount point", "a/g.txt", false)
	f := holding("mnt/a/f.txt")
	check("a second descriptor", "a/f.txt", false)
	check("while its directory is renamed", "b/f.txt", false)
	must(t, os.Remove(f.Name()))
	check("one of a file without a name", "a/f.txt", false)
	must(t, f.Close())
	check("closed", "a/f.txt", true)
	for range maxDescriptors {
		f, err := os.Open(os.DevNull)
		must(t, err)
		t.Cleanup(func() { f.Close() })
	}
	check("too many to look at", "a/f.txt", false)
}

// Tables of processes are kept, not more than a few, and none that ended.
func TestDescriptorTablesKept(t *testing.T) {
	var d descriptorTables
	start := func() *exec.Cmd {
		cmd := sleeper(t)
		if !d.last(cmd.Process.Pid, "/mnt", "f") {
			t.Errorf("%d has no file of this name open", cmd.Process.Pid)
		}
		return cmd
	}
	first := start()
	if d.kept[0].pid != first.Process.Pid {
		t.Error("its table is not kept")
	}
	must(t, first.Process.Kill())
	first.Wait()
	if d.last(first.Process.Pid, "/mnt", "f") || len(d.kept) != 0 {
		t.Errorf("of a process that ended, %d tables are kept", len(d.kept))
	}
	for range maxTables + 1 {
		start()
	}
	if len(d.kept) != maxTables {
		t.Errorf("%d tables are kept, want %d", len(d.kept), maxTables)
	}
	d.close()
	start()
	if len(d.kept) != 0 {
		t.Error("a table is kept after the end")
	}
}
