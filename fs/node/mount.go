package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"log"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"hfmount/fs"
)

// Options configures [Mount].
type Options struct {
	FSName     string // shown as the source in /proc/mounts, e.g. "hf://org/model"
	AllowOther bool
	UID, GID   int // -1: the caller's
	Umask      uint32
	// ReadOnly is a mount in which nothing can ever be written: the kernel says
	// so by itself. Elsewhere fs.Dir.Writable says it for each directory.
	ReadOnly bool
	NoOpen   bool // --open-mode noopen; only of a mount that is ReadOnly
	// CacheDir is where complete files lie that the kernel may read by itself.
	// Whether it can is tried there; empty means no such files.
	CacheDir string
	// ReadAheadKB is what the kernel's read-ahead is raised to where that is
	// allowed, in KiB; 0 means 896.
	ReadAheadKB int
	Logger      *slog.Logger // nil is silence

	wrap func(fuse.RawFileSystem) fuse.RawFileSystem // for tests that look at requests
}

const (
	fsType        = "hfmount"
	maxTransfer   = 1 << 20 // bytes in one READ
	maxBackground = 64      // READs of the kernel's read-ahead in flight
	// readAheadKB is what the kernel reads around a page fault, wherever that is
	// in a file, so it is most of what a random access to a mapping costs: this
	// much touches at most 1 MiB of the cache's 128 KiB chunks. Reading far ahead
	// is the cache's part, which knows a stream from a lone read.
	readAheadKB = 896
)

// writeCapabilities: O_TRUNC arrives with its OPEN, so that a file which is
// written anew can be native from the start; and no write needs to ask for
// security.capability first, because we never keep the bits that a write would
// have to clear.
const writeCapabilities = fuse.CAP_ATOMIC_O_TRUNC | fuse.CAP_HANDLE_KILLPRIV_V2

// Server is a mounted tree.
type Server struct {
	tree     *fs.Tree
	raw      *fuse.Server
	dir      string // absolute, without symlinks
	device   string // "major:minor" of the mount, "" if not known
	fd       int    // of the connection, -1 if not known
	owner    owner
	readOnly bool
	noOpen   bool
	// noOpendir: the kernel keeps listings until it is told that they changed,
	// and sends neither OPENDIR nor RELEASEDIR.
	noOpendir bool
	log       *slog.Logger
	complaints

	readAhead int
	notifier  *notifier
	live      liveNodes
	shared    sharedHandles
	given     givenListings
	writerDue dueWriters
	threads   threads
	tables    descriptorTables
	replies   sync.Map      // of *openReply, by the request's cancel channel
	ended     chan struct{} // closed when all of the mount is gone

	mu       sync.Mutex
	open     map[*openFile]struct{} // guarded by mu
	nameless map[*fileNode]struct{} // those with a lastOpen; guarded by mu
	noNative string                 // why complete files are not native, "" if they are; guarded by mu
	native   atomic.Bool            // noNative == ""
}

// Mount mounts root at dir and returns when the kernel can use it.
//
// The caller keeps tree open until [Server.Wait] has returned, which is when
// the last handle is closed.
func Mount(dir string, tree *fs.Tree, root *fs.Dir, o Options) (*Server, error) {
	dir, err := realPath(dir)
	if err != nil {
		return nil, err
	}
	// Without OPEN nobody would say who writes, nor when it is done.
	o.NoOpen = o.NoOpen && o.ReadOnly
	if o.AllowOther && os.Geteuid() != 0 && !userAllowOther() {
		// The helper says so on a stderr that nobody may be reading.
		return nil, fmt.Errorf("mount %s: user_allow_other is not set in %s: %w", dir, fuseConf, syscall.EPERM)
	}
	logger := o.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		tree: tree, dir: dir, readOnly: o.ReadOnly, noOpen: o.NoOpen, log: logger,
		complaints: complaints{log: logger, now: time.Now},
		owner:      owner{uid: idOr(o.UID, os.Getuid()), gid: idOr(o.GID, os.Getgid()), umask: o.Umask & 0o777},
		ended:      make(chan struct{}),
		open:       make(map[*openFile]struct{}),
		noNative:   "not probed yet",
		noOpendir:  root.Told(),
	}
	top := newDirNode(s, root)
	opts := s.fuseOptions(o, root)
	var raw fuse.RawFileSystem = &bridge{gofs.NewNodeFS(top, opts), s}
	if o.wrap != nil {
		raw = o.wrap(raw)
	}
	s.raw, err = fuse.NewServer(raw, dir, &opts.MountOptions)
	if err != nil {
		return nil, fmt.Errorf("mount %s: %s", dir, strings.TrimSpace(err.Error()))
	}
	// INIT is answered and nothing else yet: no open can race with the probe.
	s.setNoNative(probeNative(s.raw, o))
	s.live.add(top)
	s.device = mountDevice(dir)
	s.fd = connectionFD(s.device)
	s.notifier = newNotifier(logger, notifyPatience, s.notify)
	go s.serve()
	// Not WaitMount: there is nothing to wait for, and it opens a file of the
	// mount, for the sake of servers that use their own. One that is killed in
	// that moment waits for itself for ever, and the mount with it.
	want := o.ReadAheadKB
	if want == 0 {
		want = readAheadKB
	}
	s.readAhead = raiseReadAhead(s.device, want)
	s.tree.SetNotifier(s.notifier)
	return s, nil
}

func (s *Server) fuseOptions(o Options, root *fs.Dir) *gofs.Options {
	plain := log.New(io.Discard, "", 0)
	if o.Logger != nil {
		plain = slog.NewLogLogger(o.Logger.Handler(), slog.LevelWarn)
	}
	// The kernel then checks permissions by mode and owner, without an ACCESS
	// request for each.
	options := []string{"default_permissions"}
	if o.ReadOnly {
		options = append(options, "ro")
	}
	return &gofs.Options{
		// Zero permissions are what a umask of 0777 asks for.
		NullPermissions: true,
		RootStableAttr:  &gofs.StableAttr{Ino: root.Ino()},
		Logger:          plain,
		MountOptions: fuse.MountOptions{
			FsName:      o.FSName,
			Name:        fsType,
			AllowOther:  o.AllowOther,
			Options:     options,
			DirectMount: os.Geteuid() == 0,

			MaxBackground: maxBackground,
			MaxWrite:      maxTransfer, // also the largest READ
			// Content of an inode changes by writes alone, so the kernel must
			// not drop pages because of a new mtime.
			ExplicitDataCacheControl: true,
			EnableSymlinkCaching:     true,
			ExtraCapabilities:        fuse.CAP_READDIRPLUS_AUTO | writeCapabilities,
			// Never CAP_WRITEBACK_CACHE: it turns passthrough off.
			DisableSplice: true, // viewResult is written as it lies
			MaxStackDepth: stackDepth(o.CacheDir),
			Logger:        plain,
			PanicHandler:  s.panicked,
		},
	}
}

// panicked keeps a fault in one handler from taking all of the mount with it.
func (s *Server) panicked(what any) fuse.Status {
	s.log.Error("panic in a request", "panic", fmt.Sprint(what), "stack", string(debug.Stack()))
	return fuse.EIO
}

// serve answers the kernel until the file system is unmounted, by whomever,
// then releases what the kernel did not.
func (s *Server) serve() {
	defer close(s.ended)
	s.raw.Serve()
	s.tree.SetNotifier(nil)
	s.notifier.close()
	s.shared.close()
	s.tables.close()
	s.mu.Lock()
	left := make([]*openFile, 0, len(s.open))
	for o := range s.open {
		left = append(left, o)
	}
	clear(s.open)
	nameless := slices.Collect(maps.Keys(s.nameless))
	s.mu.Unlock()
	for _, f := range nameless {
		f.forgetLast()
	}
	// What is gone from the table of mounts was not in use: each writer has
	// closed his file, though the kernel may have kept the RELEASE to itself.
	// Else the connection was cut while files were open, and they are not
	// complete.
	gone := !mounted(s.dir, s.device)
	for _, o := range left {
		if o.write && !(gone && o.flushed.Load()) && o.h.Local() {
			s.log.Warn("a file was open for writing when the connection ended", "path", o.node.name(), "pid", o.pid)
			o.cut()
			continue
		}
		o.close()
	}
}

// Wait returns when the file system is unmounted, by whomever, and all of its
// handles are closed.
func (s *Server) Wait() { <-s.ended }

// Unmount unmounts and waits for the end; it fails with an error that is
// syscall.EBUSY while the mount is in use, and then leaves all as it was.
func (s *Server) Unmount() error {
	select {
	case <-s.ended:
		return nil
	default:
	}
	// A notification under way can hold the mount busy.
	s.tree.SetNotifier(nil)
	err := unmount(s.dir)
	if err != nil && mounted(s.dir, s.device) {
		s.tree.SetNotifier(s.notifier)
		return fmt.Errorf("unmount %s: %w", s.dir, err)
	}
	<-s.ended
	return nil
}

// unmount asks the kernel, and where that takes a privilege, fusermount3.
func unmount(dir string) error {
	err := syscall.Unmount(dir, 0)
	if err == nil || !errors.Is(err, syscall.EPERM) {
		return err
	}
	helper, err := exec.LookPath(helperName)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, helper, "-u", "--", dir)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	switch {
	case err == nil:
		return nil
	case bytes.Contains(out, []byte(syscall.EBUSY.Error())) || bytes.Contains(out, []byte("Device or resource busy")):
		return syscall.EBUSY
	}
	return fmt.Errorf("%s: %s: %w", helperName, bytes.TrimSpace(out), err)
}

// Passthrough reports whether complete files are served natively, and if not, why.
func (s *Server) Passthrough() (bool, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.noNative == "", s.noNative
}

// ReadAheadKB is the kernel's read-ahead in KiB after the mount tried to raise
// it, 0 if it is not known.
func (s *Server) ReadAheadKB() int { return s.readAhead }

func (s *Server) setNoNative(reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noNative = reason
	s.native.Store(reason == "")
}

func (s *Server) mayPassThrough() bool { return s.native.Load() }

// register makes file known to the kernel as one to read by itself, and
// returns 0 where that fails. The kernel keeps its own reference. A failure
// that the probe did not foresee ends passthrough for later opens; present
// ones go on.
func (s *Server) register(file *os.File) int32 {
	id, no := s.raw.RegisterBackingFd(&fuse.BackingMap{Fd: int32(file.Fd())})
	if no != 0 {
		s.log.Warn("passthrough ends: the kernel refused a file", "file", file.Name(), "errno", no.Error())
		s.setNoNative("the kernel refused a file: " + no.Error())
		return 0
	}
	return id
}

func (s *Server) unregister(id int32) {
	if no := s.raw.UnregisterBackingFd(id); no != 0 && no != syscall.EBADF {
		s.log.Warn("a file stays registered with the kernel", "errno", no.Error())
	}
}

func (s *Server) track(o *openFile) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[o] = struct{}{}
}

func (s *Server) untrack(o *openFile) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, o)
}

// tracked notes whether f has a lastOpen, which the end of the mount closes:
// the kernel forgets nothing then.
func (s *Server) tracked(f *fileNode, yes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !yes {
		delete(s.nameless, f)
		return
	}
	if s.nameless == nil {
		s.nameless = make(map[*fileNode]struct{})
	}
	s.nameless[f] = struct{}{}
}

const fuseConf = "/etc/fuse.conf"

// userAllowOther reports whether ordinary users may let others in, as far as
// that can be read.
func userAllowOther() bool {
	conf, err := os.ReadFile(fuseConf)
	if err != nil {
		return !errors.Is(err, iofs.ErrNotExist)
	}
	for line := range strings.Lines(string(conf)) {
		if strings.TrimSpace(line) == "user_allow_other" {
			return true
		}
	}
	return false
}

func idOr(id, fallback int) uint32 {
	if id < 0 {
		id = fallback
	}
	return uint32(id)
}

// realPath is dir as /proc/self/mountinfo will show it.
func realPath(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(dir)
}
