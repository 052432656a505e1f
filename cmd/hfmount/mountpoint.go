package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

const fsType = "fuse.hfmount"

// kernelMount is one of our mounts as the kernel lists it.
type kernelMount struct {
	dir    string
	source string
	owner  string // numeric user id
}

// kernelMounts lists the mounts of our type, whoever made them, in the order
// they were made: of two on one directory the later hides the earlier.
func kernelMounts() ([]kernelMount, error) {
	infos, err := mountinfo.GetMounts(func(i *mountinfo.Info) (skip, stop bool) { return i.FSType != fsType, false })
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	var out []kernelMount
	for _, i := range infos {
		m := kernelMount{dir: i.Mountpoint, source: i.Source}
		for o := range strings.SplitSeq(i.VFSOptions, ",") {
			if v, ok := strings.CutPrefix(o, "user_id="); ok {
				m.owner = v
			}
		}
		out = append(out, m)
	}
	return out, nil
}

// findKernelMount returns the mount that path lies in, if it is one of ours.
// It asks nothing of the mount itself, which may be dead.
func findKernelMount(path string) (kernelMount, bool, error) {
	mounts, err := kernelMounts()
	if err != nil {
		return kernelMount{}, false, err
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return kernelMount{}, false, err
	}
	if m, ok := enclosing(mounts, abs); ok {
		return m, true, nil
	}
	m, ok := enclosing(mounts, realPath(abs))
	return m, ok, nil
}

func enclosing(mounts []kernelMount, path string) (best kernelMount, ok bool) {
	for _, m := range mounts {
		if within(path, m.dir) && len(m.dir) >= len(best.dir) {
			best, ok = m, true
		}
	}
	return best, ok
}

// within reports whether path is dir or below it; both are clean.
func within(path, dir string) bool {
	rest, ok := strings.CutPrefix(path, dir)
	return ok && (rest == "" || rest[0] == '/' || dir == "/")
}

// realPath resolves symbolic links as far as they can be; what cannot be
// looked at, such as a dead mount, is kept by name.
func realPath(abs string) string {
	if p, err := filepath.EvalSymlinks(abs); err == nil {
		return p
	}
	parent := filepath.Dir(abs)
	if parent == abs {
		return abs
	}
	return filepath.Join(realPath(parent), filepath.Base(abs))
}

// realDir is the real path of what a person calls dir.
func realDir(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return realPath(abs), nil
}

// statPatience is how long a mount may take to answer before it counts as
// hanging.
const statPatience = 3 * time.Second

// stale reports whether the process that served the mount at dir is gone. It
// asks for what the kernel never answers from its own memory, as it does stat.
func stale(dir string) bool {
	result := make(chan error, 1)
	// A dead mount answers at once; one whose Hub hangs may not. The goroutine
	// then ends when the mount does.
	go func() {
		var st unix.Statfs_t
		result <- unix.Statfs(dir, &st)
	}()
	select {
	case err := <-result:
		return errors.Is(err, syscall.ENOTCONN)
	case <-time.After(statPatience):
		return false
	}
}

// checkDir makes sure that dir can be mounted on and returns its real path.
func checkDir(dir string, nonEmpty bool) (string, error) {
	real, err := realDir(dir)
	if err != nil {
		return "", err
	}
	mounts, err := kernelMounts()
	if err != nil {
		return "", err
	}
	for _, m := range mounts {
		if m.dir != real {
			continue
		}
		if stale(real) {
			return "", &failure{
				text: dir + ": a mount of " + m.source + " whose process is gone is in the way",
				hint: fmt.Sprintf("clear it with `hfmount unmount %s` (or: fusermount3 -u -z %s), then try again", dir, dir),
				code: exitFailed, err: syscall.ENOTCONN,
			}
		}
		return "", &failure{
			text: dir + ": already mounted (" + m.source + ")",
			hint: fmt.Sprintf("unmount it with `hfmount unmount %s`, or choose another directory", dir),
			code: exitFailed, err: syscall.EBUSY,
		}
	}
	info, err := os.Stat(real)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "", &failure{text: dir + ": no such directory", hint: "make it with `mkdir -p " + dir + "`", code: exitFailed, err: err}
	case errors.Is(err, syscall.ENOTCONN):
		return "", &failure{text: dir + ": a file system whose process is gone is in the way", hint: "clear it with `fusermount3 -u -z " + dir + "`, then try again", code: exitFailed, err: err}
	case err != nil:
		return "", err
	case !info.IsDir():
		return "", &failure{text: dir + ": not a directory", hint: "a mountpoint is an empty directory", code: exitFailed, err: syscall.ENOTDIR}
	}
	if !nonEmpty {
		d, err := os.Open(real)
		if err != nil {
			return "", err
		}
		names, _ := d.Readdirnames(1) // an unreadable directory counts as empty; the mount will say
		if err := d.Close(); err != nil {
			return "", err
		}
		if len(names) > 0 {
			return "", &failure{text: dir + ": not empty", hint: "choose an empty directory, or hide its contents with --nonempty", code: exitFailed, err: syscall.ENOTEMPTY}
		}
	}
	return real, nil
}
