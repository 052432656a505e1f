package integration

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func init() { roles["model-worker"] = modelWorker }

// op is one operation of the model test.
type op struct {
	Do    string `json:"do"`
	A     string `json:"a,omitempty"`
	B     string `json:"b,omitempty"`
	Slot  int    `json:"slot,omitempty"` // of an open file
	Slot2 int    `json:"slot2,omitempty"`
	Flags int    `json:"flags,omitempty"`
	Off   int64  `json:"off,omitempty"`
	N     int    `json:"n,omitempty"`
	Seed  uint64 `json:"seed,omitempty"`
}

func (o op) String() string { b, _ := json.Marshal(o); return string(b) }

// answers are what an operation did in the mount and in the plain directory.
type answers struct{ Mount, Plain string }

// modelWorker is: model-worker MOUNT PLAIN. It does what it is told, a line
// each, in both.
func modelWorker(args []string) int {
	debug.SetPanicOnFault(true)
	syscall.Umask(0o022)
	sides := []*side{{root: args[0], open: map[int]int{}}, {root: args[1], open: map[int]int{}}}
	in := bufio.NewScanner(os.Stdin)
	out := json.NewEncoder(os.Stdout)
	for in.Scan() {
		var o op
		if err := json.Unmarshal(in.Bytes(), &o); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		if err := out.Encode(answers{sides[0].do(o), sides[1].do(o)}); err != nil {
			return 1
		}
	}
	return 0
}

// side is one of the two trees, with the files open in it by slot.
type side struct {
	root string
	open map[int]int
}

func (s *side) path(name string) string { return filepath.Join(s.root, name) }

// do describes how an operation ended: an errno, or what it answered.
func (s *side) do(o op) string {
	got, err := s.try(o)
	var errno syscall.Errno
	switch {
	case errors.As(err, &errno):
		return unix.ErrnoName(errno)
	case err != nil:
		return err.Error()
	}
	return got
}

func (s *side) try(o op) (string, error) {
	a, b := s.path(o.A), s.path(o.B)
	fd, isOpen := s.open[o.Slot]
	switch o.Do {
	case "open":
		if isOpen {
			unix.Close(fd)
		}
		delete(s.open, o.Slot)
		fd, err := unix.Open(a, o.Flags, 0o644)
		if err != nil {
			return "", err
		}
		s.open[o.Slot] = fd
		return "ok", nil
	case "tmpfile":
		fd, err := unix.Open(a, unix.O_TMPFILE|unix.O_RDWR, 0o644)
		if err != nil {
			return "", err
		}
		defer unix.Close(fd)
		if _, err := unix.Pwrite(fd, noise(o.Seed, o.N), 0); err != nil {
			return "", err
		}
		return "ok", unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, b, unix.AT_SYMLINK_FOLLOW)
	case "put": // write a file whole
		return "ok", os.WriteFile(a, noise(o.Seed, o.N), 0o644)
	case "get":
		data, err := os.ReadFile(a)
		return digest(data), err
	case "mkdir":
		return "ok", unix.Mkdir(a, 0o755)
	case "rmdir":
		return "ok", unix.Rmdir(a)
	case "unlink":
		return "ok", unix.Unlink(a)
	case "rename":
		return "ok", unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, uint(o.Flags))
	case "symlink":
		return "ok", unix.Symlink(o.B, a)
	case "readlink":
		return os.Readlink(a)
	case "truncate":
		return "ok", unix.Truncate(a, o.Off)
	case "chmod":
		return "ok", unix.Chmod(a, uint32(o.N))
	case "utimes":
		t := unix.NsecToTimeval(time.Unix(o.Off, 0).UnixNano())
		if err := unix.Utimes(a, []unix.Timeval{t, t}); err != nil {
			return "", err
		}
		var st unix.Stat_t
		err := unix.Stat(a, &st)
		return fmt.Sprint(st.Mtim.Sec), err
	case "stat":
		var st unix.Stat_t
		err := unix.Lstat(a, &st)
		return described(st), err
	case "list":
		list, err := os.ReadDir(a)
		var names []string
		for _, e := range list {
			names = append(names, e.Name()+e.Type().String())
		}
		slices.Sort(names)
		return strings.Join(names, " "), err
	}
	if !isOpen {
		return "not open", nil
	}
	switch o.Do {
	case "close":
		delete(s.open, o.Slot)
		return "ok", unix.Close(fd)
	case "dup":
		if old, ok := s.open[o.Slot2]; ok {
			unix.Close(old)
		}
		two, err := unix.Dup(fd)
		if err == nil {
			s.open[o.Slot2] = two
		}
		return "ok", err
	case "write":
		n, err := unix.Write(fd, noise(o.Seed, o.N))
		return fmt.Sprint(n), err
	case "pwrite":
		n, err := unix.Pwrite(fd, noise(o.Seed, o.N), o.Off)
		return fmt.Sprint(n), err
	case "pread":
		buf := make([]byte, o.N)
		n, err := unix.Pread(fd, buf, o.Off)
		return digest(buf[:max(n, 0)]), err
	case "ftruncate":
		return "ok", unix.Ftruncate(fd, o.Off)
	case "fallocate":
		return "ok", unix.Fallocate(fd, uint32(o.Flags), o.Off, int64(o.N))
	case "fsync":
		return "ok", unix.Fsync(fd)
	case "fstat":
		var st unix.Stat_t
		err := unix.Fstat(fd, &st)
		return described(st), err
	case "map":
		return s.store(fd, o)
	case "copy":
		to, ok := s.open[o.Slot2]
		if !ok {
			return "not open", nil
		}
		from, off := o.Off, int64(o.Seed%50_000)
		n, err := unix.CopyFileRange(fd, &from, to, &off, o.N, 0)
		return fmt.Sprint(n), err
	}
	return "", fmt.Errorf("no operation %q", o.Do)
}

// described leaves out what the two file systems may differ in: numbers of
// inodes and links, sizes of directories, times.
func described(st unix.Stat_t) string {
	size := st.Size
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		size = 0
	}
	return fmt.Sprintf("%o %d", st.Mode, size)
}

// store writes through a shared mapping of what is within the file.
func (s *side) store(fd int, o op) (string, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size == 0 {
		return "nothing to map", nil
	}
	m, err := unix.Mmap(fd, 0, int(st.Size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return "", err
	}
	defer unix.Munmap(m)
	off := int(o.Off % st.Size)
	var seen string
	err = guarded(func() {
		copy(m[off:], noise(o.Seed, o.N))
		seen = digest(m)
	})
	return seen, err
}
