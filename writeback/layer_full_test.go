package writeback

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const fullDiskEnv = "HFMOUNT_TEST_FULL_DISK"

// TestFullDisk runs itself in a process that has a small disk of its own, which
// ends with it.
func TestFullDisk(t *testing.T) {
	if dir := os.Getenv(fullDiskEnv); dir != "" {
		// What is mounted here must not show elsewhere.
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
			t.Fatal(err)
		}
		commitOnFullDisk(t, dir)
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFullDisk$", "-test.v")
	cmd.Env = append(os.Environ(), fullDiskEnv+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Start()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) {
		t.Log("no process may have a disk of its own here; journal.TestReserve is what is left:", err)
		return
	}
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		t.Errorf("%v\n%s", err, out.Bytes())
	}
}

func commitOnFullDisk(t *testing.T, dir string) {
	l := &testLayer{t: t, hub: hubBytes{}}
	l.o = LayerOptions{StateDir: filepath.Join(dir, "state"), Key: testKey, Content: l.hub.content}
	l.open()
	defer func() { _ = l.Layer.Close() }()
	l.write("kept", "kept", true)
	l.write("sent", "sent", true)
	if err := os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 8<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatal("the disk is not full:", err)
	}
	done, release := l.send("sent")
	l.arrive(done, release)
	if _, ok := l.Get("sent"); ok {
		t.Error("what landed stays")
	}
	for range 1000 {
		l.must(l.keep("value", bytes.Repeat([]byte("v"), 500), false))
	}
	l.must(l.Apply(0, Edit{Path: "kept", Forget: true}))
	l.crash()
	if n := len(l.Under("")); n != 0 {
		t.Errorf("%d changes are left", n)
	}
}
