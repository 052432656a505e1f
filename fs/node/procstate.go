package node

import (
	"bufio"
	"bytes"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// dying reports whether the thread is about to end because of a signal, has
// ended, or cannot be seen. pid is as in a FUSE request: a thread id in our
// pid namespace, 0 for a caller outside of it.
func dying(pid uint32) bool {
	if pid == 0 {
		return true
	}
	status, err := os.ReadFile("/proc/" + strconv.FormatUint(uint64(pid), 10) + "/status")
	return err != nil || dyingStatus(status)
}

// survived are the signals whose default action does not end a process.
const survived = 1<<(syscall.SIGCHLD-1) | 1<<(syscall.SIGCONT-1) | 1<<(syscall.SIGURG-1) |
	1<<(syscall.SIGWINCH-1) | 1<<(syscall.SIGSTOP-1) | 1<<(syscall.SIGTSTP-1) |
	1<<(syscall.SIGTTIN-1) | 1<<(syscall.SIGTTOU-1)

// dyingStatus reads a /proc/PID/status. A thread is dying if it is a zombie or
// dead, if SIGKILL is pending (the kernel turns most deadly signals into it),
// or if a signal is pending that nothing blocks, ignores or handles and whose
// default action is to end the process, as SIGQUIT is before it dumps core.
func dyingStatus(status []byte) bool {
	var pending, shielded uint64
	for sc := bufio.NewScanner(bytes.NewReader(status)); sc.Scan(); {
		key, value, ok := strings.Cut(sc.Text(), ":")
		if !ok {
			continue
		}
		value = strings.TrimSpace(value)
		switch key {
		case "State":
			if strings.HasPrefix(value, "Z") || strings.HasPrefix(value, "X") {
				return true
			}
		case "SigPnd", "ShdPnd":
			pending |= hexMask(value)
		case "SigBlk", "SigIgn", "SigCgt":
			shielded |= hexMask(value)
		}
	}
	const kill = 1 << (syscall.SIGKILL - 1)
	return pending&kill != 0 || pending&^shielded&^survived != 0
}

// hexMask reads a set as /proc shows it: hexadecimal. Bit n-1 is signal n, bit n
// is capability n.
func hexMask(s string) uint64 {
	n, err := strconv.ParseUint(s, 16, 64)
	if err != nil {
		return 0
	}
	return n
}
