package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// maxSocketPath is what fits into a sockaddr_un with its final NUL.
const maxSocketPath = 107

// runtimeDirs are the places a mount's socket may be, the preferred first.
// Two sessions of one user can disagree about the environment, so whoever
// looks for a socket looks in all of them.
func runtimeDirs() []string {
	uid := strconv.Itoa(os.Getuid())
	var dirs []string
	if x := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(x) {
		dirs = append(dirs, filepath.Join(x, "hfmount"))
	}
	if run := "/run/user/" + uid; len(dirs) == 0 || dirs[0] != run+"/hfmount" {
		if _, err := os.Stat(run); err == nil {
			dirs = append(dirs, run+"/hfmount")
		}
	}
	return append(dirs, "/tmp/hfmount-"+uid)
}

// makeRuntimeDir returns the first runtime directory that can be had, private
// to the user: who can reach a socket in it can control the mount.
func makeRuntimeDir() (string, error) {
	var last error
	for _, dir := range runtimeDirs() {
		if len(socketPath(dir, "")) > maxSocketPath {
			last = fmt.Errorf("%s: too long for a socket", dir)
			continue
		}
		if err := os.Mkdir(dir, 0o700); err != nil && !os.IsExist(err) {
			last = err
			continue
		}
		if last = checkPrivate(dir); last == nil {
			return dir, nil
		}
	}
	return "", fmt.Errorf("no runtime directory: %w", last)
}

// checkPrivate says why dir cannot be trusted, which matters in /tmp, where
// anybody could have made it first.
func checkPrivate(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !ok || int(st.Uid) != os.Getuid() || info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s is not a directory of this user's alone (mode 0700)", dir)
	}
	return nil
}

// mountKey is the file name, without extension, of what belongs to a mount.
func mountKey(mountpoint string) string {
	sum := sha256.Sum256([]byte(mountpoint))
	return hex.EncodeToString(sum[:8])
}

func socketPath(dir, mountpoint string) string {
	return filepath.Join(dir, mountKey(mountpoint)+".sock")
}
