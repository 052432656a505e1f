package node

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func writable() serverConfig { return serverConfig{UID: -1, GID: -1, Write: true, Umask: 0o022} }

// startWriting mounts the test repository for writing.
func startWriting(t *testing.T) *mount { return startMount(t, writable()) }

func (m *mount) write(name, text string) {
	m.t.Helper()
	if err := os.WriteFile(m.path(name), []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

func (m *mount) wantText(name, want string) {
	m.t.Helper()
	got, err := os.ReadFile(m.path(name))
	if err != nil || string(got) != want {
		m.t.Fatalf("%s: %.60q, %v, want %.60q", name, got, err, want)
	}
	if st, err := os.Stat(m.path(name)); err != nil || st.Size() != int64(len(want)) {
		m.t.Fatalf("%s: %v, %v", name, st, err)
	}
}

func (m *mount) wantNone(name string) {
	m.t.Helper()
	if _, err := os.Lstat(m.path(name)); !errors.Is(err, iofs.ErrNotExist) {
		m.t.Fatalf("%s: %v", name, err)
	}
}

func openFlags(t *testing.T, path string, flags int) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, flags, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

// wantStates waits for the changes to be so: the kernel sends a RELEASE after
// close(2) has returned.
func (m *mount) wantStates(want string) {
	m.t.Helper()
	waitFor(m.t, "changes that are "+want, func() bool { return m.ask("states") == want })
}

// TestWrites goes through what a program can do to names and bytes, then
// compares the Hub.
func TestWrites(t *testing.T) {
	m := startWriting(t)
	m.write("new.txt", "one\n")
	m.wantText("new.txt", "one\n")
	m.write("new.txt", "two, longer\n") // O_TRUNC
	m.wantText("new.txt", "two, longer\n")

	f := openFlags(t, m.path("new.txt"), os.O_WRONLY|os.O_APPEND)
	for i := range 3 {
		if _, err := fmt.Fprintf(f, "line %d\n", i); err != nil {
			t.Fatal(err)
		}
	}
	f.Close()
	m.wantText("new.txt", "two, longer\nline 0\nline 1\nline 2\n")
	must(t, os.Truncate(m.path("new.txt"), 3))
	m.wantText("new.txt", "two")

	must(t, os.MkdirAll(m.path("a/b"), 0o750))
	m.write("a/b/c.txt", "c\n")
	must(t, os.Rename(m.path("a"), m.path("z")))
	m.wantText("z/b/c.txt", "c\n")
	m.wantNone("a")
	must(t, os.Rename(m.path("README.md"), m.path("z/readme")))
	m.wantText("z/readme", "hello\n")
	m.write("dir/over.txt", "over\n")
	must(t, os.Rename(m.path("dir/over.txt"), m.path("dir/sub/deep.txt")))
	m.wantText("dir/sub/deep.txt", "over\n")
	must(t, os.Remove(m.path("gone.txt")))
	m.wantNone("gone.txt")
	m.write("gone.txt", "again\n")
	m.wantText("gone.txt", "again\n")

	wantErr(t, "rmdir of a full directory", syscall.Rmdir(m.path("z")), syscall.ENOTEMPTY)
	wantErr(t, "mkdir of what is there", os.Mkdir(m.path("z"), 0o755), iofs.ErrExist)
	wantErr(t, "unlink of a directory", syscall.Unlink(m.path("z")), syscall.EISDIR)
	wantErr(t, "rename into itself", os.Rename(m.path("z"), m.path("z/b/z")), syscall.EINVAL)
	at := func(a, b string, flags uint) error {
		return unix.Renameat2(unix.AT_FDCWD, m.path(a), unix.AT_FDCWD, m.path(b), flags)
	}
	wantErr(t, "rename without replacing", at("new.txt", "gone.txt", unix.RENAME_NOREPLACE), iofs.ErrExist)
	must(t, at("new.txt", "gone.txt", unix.RENAME_EXCHANGE))
	m.wantText("new.txt", "again\n")
	m.wantText("gone.txt", "two")
	wantErr(t, "whiteout", at("new.txt", "x", unix.RENAME_WHITEOUT), syscall.EINVAL)
	wantErr(t, "link", os.Link(m.path("new.txt"), m.path("hard")), syscall.EPERM)
	wantErr(t, "fifo", syscall.Mkfifo(m.path("fifo"), 0o644), syscall.EPERM)
	must(t, syscall.Mknod(m.path("node.txt"), syscall.S_IFREG|0o644, 0))
	m.wantText("node.txt", "")
	wantErr(t, "user xattr", unix.Setxattr(m.path("new.txt"), "user.x", []byte("y"), 0), syscall.ENOTSUP)
	wantErr(t, "own xattr", unix.Setxattr(m.path("new.txt"), "user.hf.oid", []byte("y"), 0), syscall.EPERM)

	must(t, os.Symlink("new.txt", m.path("link")))
	m.wantText("link", "again\n")
	times := []unix.Timespec{{Sec: 1000}, {Sec: 2000}}
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, m.path("link"), times, unix.AT_SYMLINK_NOFOLLOW))
	if st, err := os.Lstat(m.path("link")); err != nil || st.ModTime().Unix() != 2000 {
		t.Errorf("the link: %v, %v", st, err)
	}
	must(t, open(t, m.dir).Sync())
	m.do("commit")
	for name, want := range map[string]string{
		"new.txt": "again\n", "gone.txt": "two", "z/b/c.txt": "c\n", "z/readme": "hello\n",
		"dir/sub/deep.txt": "over\n", "node.txt": "",
	} {
		if got := m.ask("remote " + name); got != hashOf([]byte(want)) {
			t.Errorf("%s on the Hub: %s", name, got)
		}
		m.wantText(name, want)
	}
	for _, name := range []string{"README.md", "dir/over.txt", "a/b/c.txt", "link"} {
		if got := m.ask("remote " + name); got != "absent" {
			t.Errorf("%s is on the Hub", name)
		}
	}
}

// What has no name any more works on, and says that it has none.
func TestUnlinkedStaysOpen(t *testing.T) {
	m := startWriting(t)
	for _, name := range []string{"model.safetensors", "fresh.bin"} {
		if name == "fresh.bin" {
			m.write(name, "0123456789")
		}
		f := openFlags(t, m.path(name), os.O_RDWR)
		must(t, os.Remove(m.path(name)))
		m.wantNone(name)
		if _, err := f.WriteAt([]byte("abc"), 1); err != nil {
			t.Fatal(err)
		}
		must(t, f.Truncate(6))
		st, err := f.Stat()
		if err != nil || st.Size() != 6 || st.Sys().(*syscall.Stat_t).Nlink != 0 {
			t.Fatalf("%s: %+v, %v", name, st, err)
		}
		got := make([]byte, 6)
		if _, err := f.ReadAt(got, 0); err != nil || string(got[1:4]) != "abc" {
			t.Fatalf("%s: %q, %v", name, got, err)
		}
		// Another of that name is another file.
		m.write(name, "other")
		m.wantText(name, "other")
		if _, err := f.ReadAt(got, 0); err != nil || string(got[1:4]) != "abc" {
			t.Fatalf("%s: %q, %v", name, got, err)
		}
		must(t, f.Close())
		m.wantText(name, "other")
	}
	// The same by a rename over it.
	f := openFlags(t, m.path("README.md"), os.O_RDWR)
	m.write("tmp", "newer\n")
	must(t, os.Rename(m.path("tmp"), m.path("README.md")))
	if _, err := f.WriteString("XXXXX"); err != nil {
		t.Fatal(err)
	}
	m.wantText("README.md", "newer\n")
	must(t, f.Close())
	m.wantText("README.md", "newer\n")
}

// Renaming what is open does not disturb it.
func TestRenamedStaysOpen(t *testing.T) {
	m := startWriting(t)
	must(t, os.Mkdir(m.path("d"), 0o755))
	w := openFlags(t, m.path("d/log"), os.O_CREATE|os.O_RDWR)
	r := open(t, m.path("dir/sub/deep.txt"))
	if _, err := w.WriteString("one "); err != nil {
		t.Fatal(err)
	}
	ino := func(f *os.File) uint64 {
		st, err := f.Stat()
		must(t, err)
		return st.Sys().(*syscall.Stat_t).Ino
	}
	was, wasR := ino(w), ino(r)
	must(t, os.Rename(m.path("d"), m.path("e")))
	must(t, os.Rename(m.path("dir"), m.path("e/dir")))
	if _, err := w.WriteString("two"); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(r); err != nil || string(b) != "deep\n" {
		t.Fatalf("%q, %v", b, err)
	}
	m.wantText("e/log", "one two")
	m.wantText("e/dir/sub/deep.txt", "deep\n")
	// The kernel still has the names beneath: they open what they mean.
	x := openFlags(t, m.path("e/dir/sub/deep.txt"), os.O_RDWR|os.O_APPEND)
	if _, err := x.WriteString("er\n"); err != nil {
		t.Fatal(err)
	}
	must(t, x.Close())
	m.wantText("e/dir/sub/deep.txt", "deep\ner\n")
	if ino(w) != was || ino(r) != wasR || ino(open(t, m.path("e/log"))) != was {
		t.Error("a rename changed inode numbers")
	}
	must(t, w.Close())
	r.Close()
	m.do("commit")
	if got := m.ask("remote e/dir/sub/deep.txt"); got != hashOf([]byte("deep\ner\n")) {
		t.Error("the Hub has something else")
	}
	if got := m.ask("remote dir/sub/deep.txt"); got != "absent" {
		t.Error("the old name is still on the Hub")
	}
	if ino(open(t, m.path("e/log"))) != was {
		t.Error("a commit changed an inode number")
	}
}

func TestTmpfile(t *testing.T) {
	m := startWriting(t)
	fd, err := unix.Open(m.dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o640)
	must(t, err)
	f := os.NewFile(uintptr(fd), "tmpfile")
	defer f.Close()
	if _, err := f.WriteString("hidden"); err != nil {
		t.Fatal(err)
	}
	all := names(t, m.dir)
	must(t, unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, m.path("shown"), unix.AT_SYMLINK_FOLLOW))
	m.wantText("shown", "hidden")
	if got := names(t, m.dir); len(got) != len(all)+1 || !slices.Contains(got, "shown") {
		t.Errorf("%d names, then %d", len(all), len(got))
	}
	if _, err := f.WriteString(", then shown"); err != nil {
		t.Fatal(err)
	}
	m.wantText("shown", "hidden, then shown")
	if st, err := f.Stat(); err != nil || st.Sys().(*syscall.Stat_t).Nlink != 1 || st.Mode().Perm() != 0o640 {
		t.Errorf("%+v, %v", st, err)
	}
	// And one that never gets a name leaves nothing.
	fd, err = unix.Open(m.dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	must(t, err)
	if _, err := unix.Write(fd, []byte("x")); err != nil {
		t.Fatal(err)
	}
	must(t, unix.Close(fd))
	must(t, f.Close())
	waitFor(t, "the release", func() bool { return m.ask("handles") == "0" })
	m.wantStates("pending:1")
}

// chmod, chown and utimes are kept, and change nothing on the Hub.
func TestAttributesAreKept(t *testing.T) {
	m := startWriting(t)
	m.write("new.txt", "text")
	for _, name := range []string{"README.md", "new.txt", "dir"} {
		must(t, os.Chmod(m.path(name), 0o767))
		when := time.Unix(1_234_567_890, 123_000_000)
		must(t, os.Chtimes(m.path(name), when.Add(time.Hour), when))
		if os.Geteuid() == 0 {
			must(t, os.Chown(m.path(name), 12, 34))
		}
		st, err := os.Stat(m.path(name))
		must(t, err)
		sys := st.Sys().(*syscall.Stat_t)
		if st.Mode().Perm() != 0o767 || !st.ModTime().Equal(when) || sys.Atim.Sec != when.Add(time.Hour).Unix() {
			t.Errorf("%s: %v %+v", name, st.Mode(), sys)
		}
		if os.Geteuid() == 0 && (sys.Uid != 12 || sys.Gid != 34) {
			t.Errorf("%s belongs to %d:%d", name, sys.Uid, sys.Gid)
		}
	}
	if st, err := os.Stat(m.path("small.bin")); err != nil || st.Mode().Perm() != 0o644 {
		t.Errorf("an untouched file: %v, %v", st.Mode(), err)
	}
	if st, err := os.Stat(m.path("many")); err != nil || st.Mode().Perm() != 0o755 {
		t.Errorf("an untouched directory: %v, %v", st.Mode(), err)
	}
	m.wantStates("pending:1")
	// The mode of a create is the caller's, less its own umask alone.
	old := syscall.Umask(0o007)
	err := os.WriteFile(m.path("mine"), nil, 0o666)
	syscall.Umask(old)
	must(t, err)
	if st, err := os.Stat(m.path("mine")); err != nil || st.Mode().Perm() != 0o660 {
		t.Errorf("a new file: %v, %v", st.Mode(), err)
	}
}

// Opening for writing changes nothing, and fetches nothing.
func TestOpenForWritingIsNotWriting(t *testing.T) {
	m := startWriting(t)
	m.do("stall")
	f := openFlags(t, m.path("model.safetensors"), os.O_RDWR)
	m.wantPID("writers", "model.safetensors")
	must(t, f.Close())
	waitFor(t, "the release", func() bool { return m.ask("handles") == "0" })
	if got := m.ask("writers"); got != "" {
		t.Errorf("writers: %s", got)
	}
	// A truncating open and a small change wait for nothing either.
	m.write("stall.bin", "short")
	m.wantText("stall.bin", "short")
	f = openFlags(t, m.path("model2.safetensors"), os.O_WRONLY|os.O_APPEND)
	if _, err := f.WriteString("tail"); err != nil {
		t.Fatal(err)
	}
	if st, err := f.Stat(); err != nil || st.Size() != int64(len(testFiles()["model2.safetensors"])+4) {
		t.Errorf("%+v, %v", st, err)
	}
	must(t, f.Close())
	if got := m.ask("stalled"); got != "0" {
		t.Errorf("%s requests wait", got)
	}
	m.do("go")
	want := append(bytes.Clone(testFiles()["model2.safetensors"]), "tail"...)
	if got, err := os.ReadFile(m.path("model2.safetensors")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("wrong bytes or %v", err)
	}
	m.wantStates("pending:2")
}

func (m *mount) wantPID(command, path string) {
	m.t.Helper()
	if got, want := m.ask(command), fmt.Sprintf("%s:%d", path, os.Getpid()); got != want {
		m.t.Errorf("%s: %s, want %s", command, got, want)
	}
}

// A directory shows what was just made in it, also to those who have it open
// and who listed it before.
func TestListingsAreFresh(t *testing.T) {
	m := startWriting(t)
	d := open(t, m.path("dir"))
	list := func() []string {
		t.Helper()
		if _, err := d.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		all, err := d.Readdirnames(-1)
		must(t, err)
		return all
	}
	want := []string{"sub"}
	check := func(what string) {
		t.Helper()
		slices.Sort(want)
		if got := list(); !slices.Equal(got, want) {
			t.Fatalf("%s: the open directory has %q, want %q", what, got, want)
		}
		if got := names(t, m.path("dir")); !slices.Equal(got, want) {
			t.Fatalf("%s: the directory has %q, want %q", what, got, want)
		}
		out, err := exec.Command("ls", m.path("dir")).Output()
		if got := strings.Fields(string(out)); err != nil || !slices.Equal(got, want) {
			t.Fatalf("%s: ls says %q, %v, want %q", what, got, err, want)
		}
	}
	check("at first")
	for i := range 5 {
		name := fmt.Sprintf("f%d", i)
		// Opened before, read after.
		early := open(t, m.path("dir"))
		m.write("dir/"+name, name)
		want = append(want, name)
		all, err := early.Readdirnames(-1)
		if err != nil || !slices.Contains(all, name) {
			t.Fatalf("a directory opened before and read after: %q, %v", all, err)
		}
		check("create")
	}
	must(t, os.Rename(m.path("dir/f0"), m.path("dir/g0")))
	want[slices.Index(want, "f0")] = "g0"
	check("rename")
	must(t, os.Rename(m.path("dir/f1"), m.path("f1")))
	want = slices.DeleteFunc(want, func(s string) bool { return s == "f1" })
	check("rename away")
	must(t, os.Remove(m.path("dir/f2")))
	want = slices.DeleteFunc(want, func(s string) bool { return s == "f2" })
	check("unlink")
	must(t, os.Mkdir(m.path("dir/h"), 0o755))
	want = append(want, "h")
	check("mkdir")
	must(t, os.Remove(m.path("dir/h")))
	want = slices.DeleteFunc(want, func(s string) bool { return s == "h" })
	check("rmdir")
	m.do("commit")
	check("commit")
}

// A create meets what others made since the kernel looked.
func TestCreateOverTheirs(t *testing.T) {
	m := startWriting(t)
	for _, name := range []string{"x1", "x2"} {
		m.wantNone(name)
		m.do("add " + name)
	}
	must(t, refresh(m))
	f, err := os.OpenFile(m.path("x1"), os.O_RDWR|os.O_CREATE, 0o644)
	must(t, err)
	defer f.Close()
	if b, err := io.ReadAll(f); err != nil || string(b) != "theirs\n" {
		t.Errorf("%q, %v", b, err)
	}
	_, err = os.OpenFile(m.path("x2"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	wantErr(t, "an exclusive create", err, iofs.ErrExist)
}

func refresh(m *mount) error {
	if got := m.ask("refresh"); got != "ok" {
		return errors.New(got)
	}
	return nil
}

func TestCopyFileRange(t *testing.T) {
	m := startWriting(t)
	want := testFiles()["model.safetensors"]
	src := open(t, m.path("model.safetensors"))
	dst := openFlags(t, m.path("copy.safetensors"), os.O_RDWR|os.O_CREATE)
	for done := 0; done < len(want); {
		n, err := unix.CopyFileRange(int(src.Fd()), nil, int(dst.Fd()), nil, len(want), 0)
		if err != nil || n == 0 {
			t.Fatalf("%d of %d bytes, %v", done, len(want), err)
		}
		done += n
	}
	got, err := os.ReadFile(m.path("copy.safetensors"))
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("wrong bytes or %v", err)
	}
	// Within a file.
	in, out := int64(0), int64(100)
	if n, err := unix.CopyFileRange(int(dst.Fd()), &in, int(dst.Fd()), &out, 50, 0); n != 50 || err != nil {
		t.Fatal(n, err)
	}
	if _, err := dst.ReadAt(got[:50], 100); err != nil || !bytes.Equal(got[:50], want[:50]) {
		t.Errorf("wrong bytes or %v", err)
	}
}

func TestFallocate(t *testing.T) {
	m := startWriting(t)
	f := openFlags(t, m.path("f"), os.O_RDWR|os.O_CREATE)
	if _, err := f.WriteString(strings.Repeat("x", 8192)); err != nil {
		t.Fatal(err)
	}
	fd := int(f.Fd())
	size := func(want int64) {
		t.Helper()
		if st, err := f.Stat(); err != nil || st.Size() != want {
			t.Fatalf("%d bytes, %v, want %d", st.Size(), err, want)
		}
	}
	must(t, unix.Fallocate(fd, 0, 0, 10000))
	size(10000)
	must(t, unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 0, 20000))
	size(10000)
	must(t, unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 4096, 100))
	want := strings.Repeat("x", 4096) + strings.Repeat("\x00", 100) + strings.Repeat("x", 8192-4196) + strings.Repeat("\x00", 10000-8192)
	must(t, f.Close())
	m.wantText("f", want)
}

// Locks are the kernel's own.
func TestLocks(t *testing.T) {
	m := startWriting(t)
	m.write("lock", "")
	a, b := openFlags(t, m.path("lock"), os.O_RDWR), openFlags(t, m.path("lock"), os.O_RDWR)
	must(t, unix.Flock(int(a.Fd()), unix.LOCK_EX|unix.LOCK_NB))
	wantErr(t, "a second flock", unix.Flock(int(b.Fd()), unix.LOCK_EX|unix.LOCK_NB), syscall.EWOULDBLOCK)
	must(t, unix.Flock(int(a.Fd()), unix.LOCK_UN))
	must(t, unix.Flock(int(b.Fd()), unix.LOCK_EX|unix.LOCK_NB))
	lk := unix.Flock_t{Type: unix.F_WRLCK, Len: 10}
	must(t, unix.FcntlFlock(a.Fd(), unix.F_OFD_SETLK, &lk))
	lk = unix.Flock_t{Type: unix.F_WRLCK, Len: 1}
	wantErr(t, "a second fcntl lock", unix.FcntlFlock(b.Fd(), unix.F_OFD_SETLK, &lk), syscall.EAGAIN)
	lk = unix.Flock_t{Type: unix.F_WRLCK, Start: 10, Len: 1}
	must(t, unix.FcntlFlock(b.Fd(), unix.F_OFD_SETLK, &lk))
}

// What a process wrote before it was killed is there, and complete: the kernel
// closed the file.
func TestKilledWriter(t *testing.T) {
	m := startWriting(t)
	cmd := exec.Command("sh", "-c", `exec 3>"$1"; echo kept >&3; echo ready; exec sleep 1000`, "sh", m.path("killed.txt"))
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	if _, err := out.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	m.wantStates("open:1")
	if got := m.ask("unmount"); got != "busy" {
		t.Errorf("unmount: %s", got)
	}
	if got, want := m.ask("writers"), fmt.Sprintf("killed.txt:%d", cmd.Process.Pid); got != want {
		t.Errorf("writers: %s, want %s", got, want)
	}
	must(t, cmd.Process.Kill())
	cmd.Wait()
	m.wantText("killed.txt", "kept\n")
	m.wantStates("pending:1")
	m.do("commit")
	if got := m.ask("remote killed.txt"); got != hashOf([]byte("kept\n")) {
		t.Error("the Hub has something else")
	}
}

// While somebody writes past the server, everybody sees the present size.
func TestSizeWhileWriting(t *testing.T) {
	m := startWriting(t)
	f := openFlags(t, m.path("log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND)
	r := open(t, m.path("log"))
	var want int64
	for range 20 {
		n, err := f.WriteString("a line of a log\n")
		must(t, err)
		want += int64(n)
		out, err := exec.Command("stat", "-c", "%s", m.path("log")).Output()
		if err != nil || strings.TrimSpace(string(out)) != fmt.Sprint(want) {
			t.Fatalf("stat says %q, %v, want %d", out, err, want)
		}
		if b, err := io.ReadAll(io.NewSectionReader(r, 0, 1<<20)); err != nil || int64(len(b)) != want {
			t.Fatalf("a reader has %d bytes of %d, %v", len(b), want, err)
		}
	}
}

// execve(2) closes files while nobody may look at the process.
func TestCloseOnExec(t *testing.T) {
	m := startWriting(t)
	cmd := exec.Command("timeout", "-s", "KILL", "20", "python3", "-c", `
import os, sys
f = open(sys.argv[1], "w")
f.write("before exec")
f.flush()
os.execv("/bin/cat", ["cat", sys.argv[1]])`, m.path("exec"))
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "before exec" {
		t.Errorf("%q, %v", out, err)
	}
}

// blobHashes hashes the complete objects of the cache, and checks their names.
func (m *mount) blobHashes() map[string]string {
	m.t.Helper()
	found := make(map[string]string)
	err := filepath.WalkDir(filepath.Join(m.cache, "blobs"), func(path string, d iofs.DirEntry, err error) error {
		if errors.Is(err, iofs.ErrNotExist) {
			return nil
		}
		if err != nil || !d.Type().IsRegular() || strings.HasSuffix(path, ".idx") {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		sha, git := hashOf(data), gitOID(data)
		if !strings.Contains(d.Name(), sha) && !strings.Contains(d.Name(), git) {
			m.t.Errorf("the blob %s has become %s", d.Name(), sha)
		}
		found[d.Name()] = sha
		return nil
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return found
}

// TestCutConnection: what was open when the connection was cut is there after
// a remount, and not committed unasked.
func TestCutConnection(t *testing.T) {
	c := writable()
	c.CacheDir = t.TempDir()
	m := startMount(t, c)
	m.write("whole.txt", "whole\n")
	f := openFlags(t, m.path("part.txt"), os.O_WRONLY|os.O_CREATE)
	must(t, errOf(f.WriteString("half of it")))
	m.wantStates("open:1 pending:1")
	must(t, m.cut()) // the mount stays
	// Writing through the descriptor fails or, past the server, goes nowhere
	// that matters.
	waitFor(t, "the end of the mount", func() bool { return m.ask("ended") == "true" })
	m.wantStates("open:1 pending:1")
	f.Close()
	must(t, unmount(m.dir))
	m.in.Close()
	if err := <-m.ended; err != nil {
		t.Fatal(err)
	}
	m.ended <- nil

	m = startMount(t, c)
	m.wantStates("pending:1 unclosed:1")
	m.wantText("part.txt", "half of it")
	m.ask("commit")
	if got := m.ask("remote part.txt"); got != "absent" {
		t.Error("half a file was committed")
	}
	if got := m.ask("remote whole.txt"); got != hashOf([]byte("whole\n")) {
		t.Errorf("the whole file: %s", got)
	}
}

// TestUmountAfterClose: a plain umount right after close(2) loses no file,
// whether or not the kernel still sends its RELEASE.
func TestUmountAfterClose(t *testing.T) {
	c := writable()
	c.CacheDir = t.TempDir()
	m := startMount(t, c)
	for i := range 50 {
		m.write(fmt.Sprintf("f%02d", i), "closed")
	}
	waitFor(t, "unmount", func() bool { return m.ask("unmount") == "ok" })
	m.wantStates("pending:50")
	m.do("commit")
	if got := m.ask("remote f49"); got != hashOf([]byte("closed")) {
		t.Errorf("the last: %s", got)
	}
}

// cut aborts the connection, as umount -f does of a mount in use.
func (m *mount) cut() error {
	if os.Geteuid() == 0 {
		if err := syscall.Unmount(m.dir, syscall.MNT_FORCE); !errors.Is(err, syscall.EBUSY) {
			return fmt.Errorf("umount -f of a mount in use: %w", err)
		}
		return nil
	}
	_, minor, _ := strings.Cut(mountDevice(m.dir), ":")
	if err := os.WriteFile("/sys/fs/fuse/connections/"+minor+"/abort", []byte("1"), 0); err != nil {
		return fmt.Errorf("%w (run as root, or mount fusectl)", err)
	}
	return nil
}

// TestFullStaging: who waits for room ends when he is killed, and a commit makes
// room.
func TestFullStaging(t *testing.T) {
	c := writable()
	c.MaxStaging = 1 << 20
	m := startMount(t, c)
	must(t, os.WriteFile(m.path("full"), make([]byte, 2<<20), 0o644))
	time.Sleep(200 * time.Millisecond) // a count of what is staged is good for half of that
	waiter := func() *exec.Cmd {
		cmd := exec.Command("sh", "-c", `echo x > "$1"`, "sh", m.path("more"))
		must(t, cmd.Start())
		waitFor(t, "a create", func() bool { return m.ask("asked create") > "1" })
		return cmd
	}
	killed := waiter()
	must(t, killed.Process.Kill())
	var exit *exec.ExitError
	if err := killed.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("the killed one: %v", err)
	}
	m.wantNone("more")
	// Room for the next who asks.
	m.do("commit")
	m.write("more", "x")
	m.wantText("more", "x")
}

// What a program asks of a file that it just made, the kernel knows.
func TestCreateIsKnown(t *testing.T) {
	m := startWriting(t)
	m.write("first", "x")
	asked := func() int {
		n, err := strconv.Atoi(m.ask("asked getattr"))
		must(t, err)
		return n
	}
	before := asked()
	f := openFlags(t, m.path("new"), os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if st, err := f.Stat(); err != nil || st.Size() != 0 {
		t.Fatalf("%v, %v", st, err)
	}
	// One for the directory, of which a name changed.
	if n := asked() - before; n > 1 {
		t.Errorf("%d requests for attributes", n)
	}
	_, err := f.WriteString("more")
	must(t, err)
	if st, err := f.Stat(); err != nil || st.Size() != 4 {
		t.Errorf("after a write: %v, %v", st, err)
	}
	must(t, f.Truncate(4096))
	if st, err := f.Stat(); err != nil || st.Size() != 4096 {
		t.Errorf("after a truncate: %v, %v", st, err)
	}
}
