package node

import (
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"strings"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Probe says what this process could do at a mount with its cache in dir, for
// doctor.
type Probe struct {
	Device      error  // opening /dev/fuse
	Helper      string // path of fusermount3, "" if missing
	Direct      bool   // may mount without the helper
	Passthrough bool
	Reason      string // why not
	ReadAhead   bool   // may raise the kernel's read-ahead
}

const (
	device     = "/dev/fuse"
	helperName = "fusermount3"
)

// ProbeHost finds out by trying: where it may, it mounts an empty file system
// on a temporary directory and takes it down again.
func ProbeHost(cacheDir string) Probe {
	var p Probe
	if f, err := os.OpenFile(device, os.O_RDWR, 0); err != nil {
		p.Device = err
	} else {
		f.Close()
	}
	p.Helper, _ = exec.LookPath(helperName)
	if p.Device != nil {
		p.Reason = p.Device.Error()
		return p
	}
	if !hasCapability(unix.CAP_SYS_ADMIN) {
		p.Reason = needsRoot
		return p
	}
	if err := p.tryMount(cacheDir); err != nil {
		p.Reason = err.Error()
	}
	return p
}

const needsRoot = "it takes root (CAP_SYS_ADMIN)"

// tryMount fills in what a mount shows.
func (p *Probe) tryMount(cacheDir string) (err error) {
	dir, err := os.MkdirTemp("", "hfmount-probe-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(dir)) }()
	if dir, err = realPath(dir); err != nil {
		return err
	}
	srv, err := fuse.NewServer(fuse.NewDefaultRawFileSystem(), dir, &fuse.MountOptions{
		Name: fsType, DirectMountStrict: true,
		MaxStackDepth: stackDepth(cacheDir),
		Logger:        log.New(io.Discard, "", 0),
	})
	if err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	p.Direct = true
	p.Reason = probeNative(srv, Options{CacheDir: cacheDir})
	p.Passthrough = p.Reason == ""
	go srv.Serve() // ends with the mount, for which Unmount waits
	dev := mountDevice(dir)
	now := readNumber("/sys/class/bdi/" + dev + "/read_ahead_kb")
	p.ReadAhead = now > 0 && raiseReadAhead(dev, 2*now) > now
	return srv.Unmount()
}

// probeNative registers a throwaway file in the cache directory with the
// kernel and returns why that cannot be, "" if it can. INIT is answered and
// srv does not serve yet.
func probeNative(srv *fuse.Server, o Options) string {
	switch {
	case o.NoOpen:
		return "the mount has no OPEN (--open-mode noopen)"
	case o.CacheDir == "":
		return "there is no cache on disk"
	case srv.KernelSettings().Flags64()&fuse.CAP_PASSTHROUGH == 0:
		return "the kernel does not offer it (Linux 6.9 with CONFIG_FUSE_PASSTHROUGH does)"
	case !hasCapability(unix.CAP_SYS_ADMIN):
		return needsRoot
	}
	f, err := throwaway(o.CacheDir)
	if err != nil {
		return "no file in the cache directory: " + err.Error()
	}
	defer f.Close()
	id, no := srv.RegisterBackingFd(&fuse.BackingMap{Fd: int32(f.Fd())})
	if no != 0 {
		return fmt.Sprintf("the kernel refused a file in %s: %v", o.CacheDir, no)
	}
	if no := srv.UnregisterBackingFd(id); no != 0 {
		return fmt.Sprintf("the kernel does not give back a file in %s: %v", o.CacheDir, no)
	}
	return ""
}

// throwaway opens a file without a name in dir, by a name that is taken back
// where the file system knows no other way.
func throwaway(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return os.NewFile(uintptr(fd), dir+"/(unnamed)"), nil
	}
	f, err := os.CreateTemp(dir, ".probe-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// stackDepth is how many file systems may lie below one of our files. Two are
// asked for only where the cache lies on overlayfs: a mount that has two
// cannot itself be a layer of one.
func stackDepth(cacheDir string) int {
	var st unix.Statfs_t
	if cacheDir != "" && unix.Statfs(cacheDir, &st) == nil && st.Type == unix.OVERLAYFS_SUPER_MAGIC {
		return 2
	}
	return 1
}

// hasCapability reads the effective capabilities of the process.
func hasCapability(bit uint) bool {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(status)) {
		if set, ok := strings.CutPrefix(line, "CapEff:"); ok {
			return hexMask(strings.TrimSpace(set))&(1<<bit) != 0
		}
	}
	return false
}
