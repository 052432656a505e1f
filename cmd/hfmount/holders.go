package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// holder is a process that uses something in a mount.
type holder struct {
	pid  int
	name string // of the program
	path string // one thing it uses
}

// holderPatience is how long one process may take to be looked at.
const holderPatience = time.Second

// findHolders looks through /proc for processes with an open file, a mapping,
// a working or a root directory below dir. It sees only what this user may
// see, and never touches the mount. Looking at a process that hangs can hang
// as well: such a one is passed over.
func findHolders(dir string) []holder {
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var out []holder
	for _, p := range procs {
		pid, err := strconv.Atoi(p.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		found := make(chan holder, 1)
		go func() { // ends when the kernel has answered, if ever
			defer close(found)
			if path, ok := usedBelow("/proc/"+p.Name(), dir); ok {
				found <- holder{pid, programName(pid), path}
			}
		}()
		select {
		case h, ok := <-found:
			if ok {
				out = append(out, h)
			}
		case <-time.After(holderPatience):
		}
	}
	return out
}

// programName is what a process runs, "" if it has ended.
func programName(pid int) string {
	comm, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm") // likewise
	return strings.TrimSpace(string(comm))
}

func usedBelow(proc, dir string) (string, bool) {
	links := []string{proc + "/cwd", proc + "/root", proc + "/exe"}
	if fds, err := os.ReadDir(proc + "/fd"); err == nil {
		for _, fd := range fds {
			links = append(links, filepath.Join(proc, "fd", fd.Name()))
		}
	}
	for _, l := range links {
		if target, err := os.Readlink(l); err == nil && within(target, dir) {
			return target, true
		}
	}
	maps, err := os.Open(proc + "/maps")
	if err != nil {
		return "", false
	}
	defer maps.Close()
	for sc := bufio.NewScanner(maps); sc.Scan(); {
		if i := strings.IndexByte(sc.Text(), '/'); i >= 0 && within(sc.Text()[i:], dir) {
			return sc.Text()[i:], true
		}
	}
	return "", false
}

func describeHolders(hs []holder) string {
	if len(hs) == 0 {
		return "a process that this user may not see"
	}
	var parts []string
	for _, h := range hs {
		parts = append(parts, fmt.Sprintf("%d (%s)", h.pid, h.name))
	}
	return strings.Join(parts, ", ")
}

// unmountNow unmounts dir. In use, it is EBUSY.
func unmountNow(dir string) error { return unmountWith(dir, 0) }

// detach takes dir out of the tree of files at once, whoever uses it; what is
// open goes on until it is closed.
func detach(dir string) error { return unmountWith(dir, unix.MNT_DETACH) }

func unmountWith(dir string, flags int) error {
	direct := unix.Unmount(dir, flags|unix.UMOUNT_NOFOLLOW)
	if direct == nil || errors.Is(direct, unix.EBUSY) {
		return direct
	}
	// Only root may unmount by itself; the helper may for the mount's owner.
	args := []string{"-u", "--", dir}
	if flags&unix.MNT_DETACH != 0 {
		args = append([]string{"-z"}, args...)
	}
	helper, err := exec.LookPath("fusermount3")
	if err != nil {
		if helper, err = exec.LookPath("fusermount"); err != nil {
			return fmt.Errorf("unmount %s: %w (and fusermount3 is not installed)", dir, direct)
		}
	}
	cmd := exec.Command(helper, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	text := string(bytes.TrimSpace(out))
	if strings.Contains(text, "busy") {
		return fmt.Errorf("unmount %s: %w", dir, syscall.EBUSY)
	}
	return fmt.Errorf("unmount %s: %s", dir, text)
}
