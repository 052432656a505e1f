package node

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const readerEnv = "NODE_TEST_READER"

// readDirect reads the file without the kernel's page cache, so that each read
// is a request of the reader's own, which signals interrupt. It handles
// SIGUSR1, ignores nothing else, and prints the hash.
func readDirect(path string) int {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGUSR1)
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	mem, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("reading")
	h := sha256.New()
	for off := int64(0); ; {
		// The raw call: package os would retry an EINTR, which must not come.
		n, _, no := unix.Syscall6(unix.SYS_PREAD64, uintptr(fd), uintptr(unsafe.Pointer(&mem[0])), uintptr(len(mem)), uintptr(off), 0, 0)
		if no != 0 {
			fmt.Println(no)
			return 1
		}
		if n == 0 {
			break
		}
		h.Write(mem[:n])
		off += int64(n)
	}
	fmt.Println(hex.EncodeToString(h.Sum(nil)))
	return 0
}

// reader is a process that reads a file of a stalled mount.
type reader struct {
	cmd *exec.Cmd
	out strings.Builder
	end chan error
}

func (m *mount) startReader(cmd *exec.Cmd) *reader {
	m.t.Helper()
	r := &reader{cmd: cmd, end: make(chan error, 1)}
	cmd.Stdout = &r.out
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	go func() { r.end <- cmd.Wait() }()
	m.t.Cleanup(func() { cmd.Process.Kill() })
	waitFor(m.t, "the stall", func() bool { return m.ask("stalled") != "0" })
	return r
}

func (m *mount) directReader(name string) *reader {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), readerEnv+"="+m.path(name))
	return m.startReader(cmd)
}

func (r *reader) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-r.end:
		return err
	case <-time.After(20 * time.Second):
		t.Fatal("the reader hangs")
		return nil
	}
}

// A reader that dies of a signal is gone at once, though its read stalls.
func TestKilledReaderIsGone(t *testing.T) {
	m := startMount(t, asMe())
	m.do("stall")
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGINT} {
		for _, start := range []func() *reader{
			func() *reader { return m.startReader(exec.Command("cat", m.path("stall.bin"))) },
			func() *reader { return m.directReader("stall.bin") },
		} {
			r := start()
			if err := r.cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			var exit *exec.ExitError
			if err := r.wait(t); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != sig {
				t.Fatalf("%v: %v", sig, err)
			}
		}
	}
	// Also one that had signals before.
	r := m.directReader("stall.bin")
	for range 20 {
		r.cmd.Process.Signal(syscall.SIGURG)
	}
	r.cmd.Process.Kill()
	r.wait(t)
	// The kernel's read-ahead still waits, without a process to kill.
	m.do("go")
	waitFor(t, "the last release", func() bool { return m.ask("handles") == "0" })
	if b, err := os.ReadFile(m.path("stall.bin")); err != nil || len(b) != 20<<20 {
		t.Fatalf("after all that: %d bytes, %v", len(b), err)
	}
}

// A reader that handles its signals reads on, and never sees EINTR.
func TestSignalsDoNotFailReads(t *testing.T) {
	m := startMount(t, asMe())
	m.do("stall")
	r := m.directReader("stall.bin")
	for i := range 300 {
		sig := syscall.SIGURG
		if i%3 == 0 {
			sig = syscall.SIGUSR1
		}
		if err := r.cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	m.do("go")
	if err := r.wait(t); err != nil {
		t.Fatalf("%v: %s", err, r.out.String())
	}
	sum := sha256.Sum256(testFiles()["stall.bin"])
	if got := strings.Fields(r.out.String()); len(got) != 2 || got[1] != hex.EncodeToString(sum[:]) {
		t.Fatalf("the reader says %q", got)
	}
}

// umount -f, or without root an abort by the owner, ends requests that wait,
// and with them the server.
func TestForcedUnmountEndsRequests(t *testing.T) {
	m := startMount(t, asMe())
	m.do("stall")
	r := m.directReader("stall.bin")
	if os.Geteuid() == 0 {
		if err := syscall.Unmount(m.dir, syscall.MNT_FORCE|syscall.MNT_DETACH); err != nil {
			t.Fatal(err)
		}
	} else {
		_, minor, _ := strings.Cut(mountDevice(m.dir), ":")
		if err := os.WriteFile("/sys/fs/fuse/connections/"+minor+"/abort", []byte("1"), 0); err != nil {
			t.Fatalf("%v (run as root, or mount fusectl)", err)
		}
	}
	if err := r.wait(t); err == nil {
		t.Fatal("a read through an aborted connection succeeded")
	}
	m.do("unmount") // returns when the server has no request left, stalled as it is
	if got := m.ask("handles"); got != "0" {
		t.Fatalf("%s handles left", got)
	}
}
