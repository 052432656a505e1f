package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"hfmount/remote/hub"
)

type fakeMount struct {
	writing   // none, unless a test gives one
	s         mountStatus
	refreshed int
	err       error
}

func (f *fakeMount) status() mountStatus { return f.s.normal() }
func (f *fakeMount) refresh(context.Context) error {
	f.refreshed++
	return f.err
}

// shortTempDir is a directory whose name leaves room for a socket's.
func shortTempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "hfm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestControl(t *testing.T) {
	defer goleak.VerifyNone(t)
	t.Setenv("XDG_RUNTIME_DIR", shortTempDir(t))
	dir, err := makeRuntimeDir()
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Fatalf("%s: %v, %v", dir, info.Mode(), err)
	}
	m := &fakeMount{s: mountStatus{Mountpoint: "/mnt/x", Commit: "abc"}}
	path := socketPath(dir, "/mnt/x")
	ctl, err := listenControl(path, m, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	d, ok := findDaemon("/mnt/x")
	if !ok || d.pid != os.Getpid() {
		t.Fatalf("found %v, %+v", ok, d)
	}
	if _, ok := findDaemon("/mnt/y"); ok {
		t.Error("found a daemon for another directory")
	}
	s, err := d.status(t.Context())
	if err != nil || s.Commit != "abc" || s.Changes == nil {
		t.Errorf("got %+v, %v", s, err)
	}
	if err := d.do(t.Context(), http.MethodPost, "/refresh", &s); err != nil || m.refreshed != 1 {
		t.Errorf("refresh: %v, %d", err, m.refreshed)
	}
	m.err = &repoError{hub.Location{}, "http://x", hub.ErrUnavailable}
	if f, ok := errors.AsType[*failure](d.do(t.Context(), http.MethodPost, "/refresh", &s)); !ok || f.code != exitUnreachable || f.hint == "" {
		t.Errorf("a failed refresh: %+v", f)
	}
	if err := d.do(t.Context(), http.MethodGet, "/nothing", &s); err == nil {
		t.Error("an unknown path: no error")
	}
	if _, err := listenControl(path, m, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a second control on the same path: no error")
	}
	if err := ctl.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
}

// leaveSocket leaves a socket that nobody listens on.
func leaveSocket(t *testing.T, path string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Minute)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
}

func TestDeadSockets(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", shortTempDir(t))
	dir, err := makeRuntimeDir()
	if err != nil {
		t.Fatal(err)
	}
	path := socketPath(dir, "/mnt/x")
	leaveSocket(t, path)
	// A new mount takes the name over.
	ctl, err := listenControl(path, &fakeMount{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := ctl.Close(); err != nil {
		t.Fatal(err)
	}
	// Whoever looks cleans up.
	leaveSocket(t, path)
	listDaemons([]kernelMount{{dir: "/mnt/x"}})
	if !hasSocket("/mnt/x") {
		t.Error("the socket of a mount that outlived its daemon was removed")
	}
	for _, d := range listDaemons(nil) {
		if d.socket == path {
			t.Error("a dead socket was listed")
		}
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the dead socket is still there: %v", err)
	}
}

func TestRuntimeDirDistrust(t *testing.T) {
	base := shortTempDir(t)
	open := filepath.Join(base, "hfmount")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o755); err != nil {
		t.Fatal(err)
	}
	if checkPrivate(open) == nil {
		t.Error("a directory that others can enter is trusted")
	}
	if err := os.Symlink(base, filepath.Join(base, "link")); err != nil {
		t.Fatal(err)
	}
	if checkPrivate(filepath.Join(base, "link")) == nil {
		t.Error("a symbolic link is trusted")
	}
	t.Setenv("XDG_RUNTIME_DIR", filepath.Join(base, strings.Repeat("x", 100)))
	dir, err := makeRuntimeDir()
	if err != nil || strings.HasPrefix(dir, base) {
		t.Errorf("a path too long for a socket: %q, %v", dir, err)
	}
}

func TestWaitGone(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d := daemon{pid: cmd.Process.Pid}
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
	defer cancel()
	if err := d.waitGone(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while it runs: %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	if err := d.waitGone(t.Context()); err != nil {
		t.Errorf("when it is gone: %v", err)
	}
}
