package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// daemon is a process that serves a mount, seen from outside.
type daemon struct {
	socket string
	pid    int // of the process at the other end, from the kernel
}

// statusPatience is how long a daemon may take to tell its status.
const statusPatience = 5 * time.Second

// findDaemon returns the daemon that serves the mountpoint, if it lives.
func findDaemon(mountpoint string) (daemon, bool) {
	for _, dir := range runtimeDirs() {
		if d, ok := dialDaemon(socketPath(dir, mountpoint)); ok {
			return d, true
		}
	}
	return daemon{}, false
}

// hasSocket reports whether a daemon of this user once answered, or still
// does, for the mountpoint.
func hasSocket(mountpoint string) bool {
	for _, dir := range runtimeDirs() {
		if _, err := os.Lstat(socketPath(dir, mountpoint)); err == nil && checkPrivate(dir) == nil {
			return true
		}
	}
	return false
}

// socketGrace is how old a socket is that surely has been listened on.
const socketGrace = 5 * time.Second

// listDaemons returns all daemons of this user. It removes sockets that nobody
// answers on, except those of mounts that outlived their daemon: they say
// whose mounts those are.
func listDaemons(mounts []kernelMount) []daemon {
	keep := map[string]bool{}
	for _, m := range mounts {
		keep[mountKey(m.dir)+".sock"] = true
	}
	var out []daemon
	for _, dir := range runtimeDirs() {
		if checkPrivate(dir) != nil {
			continue
		}
		paths, _ := filepath.Glob(filepath.Join(dir, "*.sock")) // the pattern is well-formed
		for _, p := range paths {
			if d, ok := dialDaemon(p); ok {
				out = append(out, d)
			} else if info, err := os.Lstat(p); err == nil && !keep[filepath.Base(p)] && time.Since(info.ModTime()) > socketGrace {
				_ = os.Remove(p) // another process may have been quicker
			}
		}
	}
	return out
}

// removeSocket removes what a daemon that was killed left for the mountpoint.
func removeSocket(mountpoint string) {
	for _, dir := range runtimeDirs() {
		if checkPrivate(dir) == nil {
			_ = os.Remove(socketPath(dir, mountpoint)) // usually there is none
		}
	}
}

// dialDaemon asks the kernel who listens on the socket. Connecting needs no
// answer, so that it tells about a process that hangs, too.
func dialDaemon(path string) (daemon, bool) {
	if checkPrivate(filepath.Dir(path)) != nil {
		return daemon{}, false
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err != nil {
		return daemon{}, false
	}
	defer c.Close()
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return daemon{}, false
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil || credErr != nil {
		return daemon{}, false
	}
	return daemon{socket: path, pid: int(cred.Pid)}, true
}

func (d daemon) status(ctx context.Context) (mountStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, statusPatience)
	defer cancel()
	var s mountStatus
	err := d.do(ctx, http.MethodGet, "/status", &s)
	return s, err
}

// waitGone waits until the process has ended.
func (d daemon) waitGone(ctx context.Context) error {
	fd, err := unix.PidfdOpen(d.pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil { // a kernel or sandbox without pidfds
		for syscall.Kill(d.pid, 0) == nil {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(20 * time.Millisecond):
			}
		}
		return nil
	}
	defer unix.Close(fd)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 100)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if n > 0 {
			return nil
		}
	}
}
