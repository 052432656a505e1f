package node

import (
	"bytes"
	"os"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// What the kernel says about a mount is read from /proc and /sys, never by
// stat of the mount: that would be a request to ourselves.

// mountDevice returns "major:minor" of the mount on top at dir, "" if none.
func mountDevice(dir string) string {
	mounts, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(dir))
	if err != nil || len(mounts) == 0 {
		return ""
	}
	m := mounts[len(mounts)-1]
	return strconv.Itoa(m.Major) + ":" + strconv.Itoa(m.Minor)
}

// mounted reports whether the device is still mounted at dir. An unknown
// device is whatever is mounted there.
func mounted(dir, device string) bool {
	mounts, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(dir))
	if err != nil {
		return true
	}
	for _, m := range mounts {
		if strings.HasPrefix(m.FSType, "fuse") &&
			(device == "" || device == strconv.Itoa(m.Major)+":"+strconv.Itoa(m.Minor)) {
			return true
		}
	}
	return false
}

// disconnected reports whether the kernel has given up the connection, by
// umount -f or an abort, after which nobody waits for any request. It is
// called from requests alone: go-fuse keeps the descriptor open until the last
// of them is answered.
func (s *Server) disconnected() bool {
	if s.fd < 0 {
		return false
	}
	p := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}
	n, err := unix.Poll(p, 0)
	return err == nil && n > 0 && p[0].Revents&unix.POLLERR != 0
}

// connectionFD finds the descriptor of the connection that serves the mount on
// the device, which go-fuse does not give away; -1 if the kernel does not tell
// which is which (it does since Linux 6.5).
func connectionFD(dev string) int {
	_, minor, ok := strings.Cut(dev, ":")
	if !ok {
		return -1
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1
	}
	for _, e := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err != nil || to != device {
			continue
		}
		info, err := os.ReadFile("/proc/self/fdinfo/" + e.Name())
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(info)) {
			id, ok := strings.CutPrefix(line, "fuse_connection:")
			if !ok || strings.TrimSpace(id) != minor {
				continue
			}
			if fd, err := strconv.Atoi(e.Name()); err == nil {
				return fd
			}
		}
	}
	return -1
}

// raiseReadAhead sets the kernel's read-ahead for the device to kb KiB, which
// takes root, and returns what it then is, 0 if unknown. FUSE itself can only
// lower it (performance.md §0.6).
func raiseReadAhead(device string, kb int) int {
	if device == "" {
		return 0
	}
	knob := "/sys/class/bdi/" + device + "/read_ahead_kb"
	if now := readNumber(knob); now >= kb {
		return now
	}
	// Without the right to, it stays what it is, which is read below.
	_ = os.WriteFile(knob, []byte(strconv.Itoa(kb)), 0)
	return readNumber(knob)
}

func readNumber(path string) int {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(string(bytes.TrimSpace(b)))
	if err != nil {
		return 0
	}
	return n
}
