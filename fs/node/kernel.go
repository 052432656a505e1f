package node

import (
	"bytes"
	"os"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
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

// disconnected reports whether the kernel has given up the connection, after
// which nobody waits for any request. An abort through fusectl shows there as
// no request waiting, while the one that asks still runs; umount -f as a mount
// that is gone.
func (s *Server) disconnected() bool {
	_, minor, ok := strings.Cut(s.device, ":")
	if !ok {
		return false
	}
	waiting, err := os.ReadFile(connections + "/" + minor + "/waiting")
	if err == nil {
		return string(bytes.TrimSpace(waiting)) == "0"
	}
	return !mounted(s.dir, s.device)
}

const connections = "/sys/fs/fuse/connections"

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
