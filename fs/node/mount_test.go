package node

import (
	"bytes"
	"errors"
	"io"
	iofs "io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func asMe() serverConfig { return serverConfig{UID: -1, GID: -1} }

// TestMountReads compares the mount with the repository, every way of reading.
func TestMountReads(t *testing.T) {
	m := startMount(t, asMe())
	want := testFiles()
	got := make(map[string][]byte)
	err := filepath.WalkDir(m.dir, func(path string, d iofs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(m.dir, path)
		if err != nil {
			return err
		}
		got[rel], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if !maps.EqualFunc(got, want, bytes.Equal) {
		t.Fatalf("%d files are not the %d of the repository", len(got), len(want))
	}
	big := want["model.safetensors"]
	t.Run("pread", func(t *testing.T) {
		f := open(t, m.path("model.safetensors"))
		size := int64(len(big))
		for _, c := range []struct{ off, n int64 }{
			{0, 8}, {1<<20 - 3, 7}, {1 << 20, 1 << 20}, {5, 2<<20 + 9}, {size - 1, 10}, {size, 10}, {size + 1<<20, 1},
		} {
			buf := make([]byte, c.n)
			n, err := f.ReadAt(buf, c.off)
			if rest := max(min(c.n, size-c.off), 0); int64(n) != rest || (rest < c.n) != errors.Is(err, io.EOF) {
				t.Errorf("at %d: %d bytes of %d, %v", c.off, n, c.n, err)
			} else if n > 0 && !bytes.Equal(buf[:n], big[c.off:c.off+int64(n)]) {
				t.Errorf("at %d: wrong bytes", c.off)
			}
		}
	})
	t.Run("mmap", func(t *testing.T) {
		f := open(t, m.path("model2.safetensors"))
		want := want["model2.safetensors"]
		mem, err := syscall.Mmap(int(f.Fd()), 0, len(want), syscall.PROT_READ, syscall.MAP_SHARED)
		if err != nil {
			t.Fatal(err)
		}
		defer syscall.Munmap(mem)
		if !bytes.Equal(mem, want) {
			t.Fatal("wrong bytes")
		}
	})
	t.Run("seekdir", func(t *testing.T) { testSeekdir(t, m) })
	t.Run("missing", func(t *testing.T) {
		for range 2 { // asked, then remembered
			if _, err := os.Stat(m.path("nothing")); !errors.Is(err, iofs.ErrNotExist) {
				t.Fatal(err)
			}
		}
		if _, err := os.Stat(m.path(strings.Repeat("x", maxName+1))); !errors.Is(err, syscall.ENAMETOOLONG) {
			t.Fatal(err)
		}
		if _, err := os.Stat(m.path("README.md/x")); !errors.Is(err, syscall.ENOTDIR) {
			t.Fatal(err)
		}
	})
	t.Run("statfs", func(t *testing.T) {
		var st unix.Statfs_t
		if err := unix.Statfs(m.dir, &st); err != nil {
			t.Fatal(err)
		}
		if st.Namelen != maxName || st.Blocks == 0 || st.Bavail > st.Blocks || st.Flags&unix.ST_RDONLY == 0 {
			t.Fatalf("%+v", st)
		}
	})
	t.Run("fsync", func(t *testing.T) {
		if err := open(t, m.path("README.md")).Sync(); err != nil {
			t.Error(err)
		}
		if err := open(t, m.dir).Sync(); err != nil {
			t.Error(err)
		}
	})
	m.do("unmount")
}

func testSeekdir(t *testing.T, m *mount) {
	d := open(t, m.path("many"))
	all, err := d.Readdirnames(-1)
	if err != nil || len(all) != 1000 {
		t.Fatalf("%d names, %v", len(all), err)
	}
	if !slices.IsSorted(all) {
		t.Error("not sorted")
	}
	if _, err := d.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	again, err := d.Readdirnames(-1)
	if err != nil || !slices.Equal(all, again) {
		t.Fatalf("after rewind: %d names, %v", len(again), err)
	}
	// The dots are in the raw stream, with the numbers of what they are.
	ents := rawDir(t, m.path("many"))
	if len(ents) != 1002 {
		t.Fatalf("%d raw entries", len(ents))
	}
	for name, path := range map[string]string{".": m.path("many"), "..": m.dir, "0007.txt": m.path("many/0007.txt")} {
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if ino := st.Sys().(*syscall.Stat_t).Ino; ents[name] != ino {
			t.Errorf("%s has number %d in the directory and %d by stat", name, ents[name], ino)
		}
	}
}

func TestMountAttributes(t *testing.T) {
	uid, gid := 1234, 4321
	if os.Geteuid() != 0 {
		uid, gid = os.Getuid(), os.Getgid() // may not enter another's directory
	}
	m := startMount(t, serverConfig{UID: uid, GID: gid, Umask: 0o027})
	for name, mode := range map[string]iofs.FileMode{
		"README.md": 0o440, "dir": 0o550 | iofs.ModeDir, ".": 0o550 | iofs.ModeDir, "model.safetensors": 0o440,
	} {
		fi, err := os.Stat(m.path(name))
		if err != nil {
			t.Fatal(err)
		}
		st := fi.Sys().(*syscall.Stat_t)
		if fi.Mode() != mode || int(st.Uid) != uid || int(st.Gid) != gid || st.Blocks != (st.Size+511)/512 {
			t.Errorf("%s: %v %+v", name, fi.Mode(), st)
		}
	}
	t.Run("xattr", func(t *testing.T) {
		list := make([]byte, 4096)
		n, err := unix.Listxattr(m.path("model.safetensors"), list)
		if err != nil {
			t.Fatal(err)
		}
		names := strings.Split(strings.Trim(string(list[:n]), "\x00"), "\x00")
		for _, want := range []string{"user.hf.commit", "user.hf.oid", "user.hf.sha256", "user.hf.repo", "user.hf.url"} {
			if !slices.Contains(names, want) {
				t.Errorf("%s is missing in %q", want, names)
			}
		}
		const attr = "user.hf.sha256"
		want := fileEntry("x.bin", testFiles()["model.safetensors"]).SHA256
		size, err := unix.Getxattr(m.path("model.safetensors"), attr, nil)
		if err != nil || size != len(want) {
			t.Fatalf("size %d, %v", size, err)
		}
		buf := make([]byte, size)
		if _, err := unix.Getxattr(m.path("model.safetensors"), attr, buf); err != nil || string(buf) != want {
			t.Fatalf("%q, %v", buf, err)
		}
		if _, err := unix.Getxattr(m.path("model.safetensors"), attr, buf[1:]); !errors.Is(err, syscall.ERANGE) {
			t.Error(err)
		}
		for name, want := range map[string]syscall.Errno{
			"user.other": syscall.ENODATA, "user.hf.nothing": syscall.ENODATA,
			// ls -l asks for these of every file, unless it hears that there are none.
			"trusted.x": syscall.ENOTSUP, "security.selinux": syscall.ENOTSUP, "system.posix_acl_access": syscall.ENOTSUP,
		} {
			if _, err := unix.Getxattr(m.path("README.md"), name, buf); !errors.Is(err, want) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	t.Run("read-only", func(t *testing.T) {
		file, dir := m.path("README.md"), m.path("dir")
		for name, err := range map[string]error{
			"create":   os.WriteFile(m.path("new"), nil, 0o644),
			"write":    os.WriteFile(file, nil, 0o644),
			"mkdir":    os.Mkdir(m.path("new"), 0o755),
			"unlink":   syscall.Unlink(file),
			"rmdir":    syscall.Rmdir(dir),
			"rename":   syscall.Rename(file, m.path("other")),
			"symlink":  os.Symlink("x", m.path("new")),
			"link":     os.Link(file, m.path("new")),
			"chmod":    os.Chmod(file, 0o600),
			"truncate": os.Truncate(file, 0),
			"setxattr": unix.Setxattr(file, "user.x", []byte("y"), 0),
		} {
			if !errors.Is(err, syscall.EROFS) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// TestMountForAnother: an ordinary user may give the files to somebody else
// and so lock himself out. That is no reason to fail.
func TestMountForAnother(t *testing.T) {
	m := startMount(t, serverConfig{UID: 1234, GID: 4321, Umask: 0o077})
	_, err := os.Stat(m.path("README.md"))
	if root := os.Geteuid() == 0; (err == nil) != root || (!root && !errors.Is(err, iofs.ErrPermission)) {
		t.Fatal(err)
	}
	m.do("unmount")
}

// TestUnmountBusy: a mount in use stays, and stays usable.
func TestUnmountBusy(t *testing.T) {
	m := startMount(t, asMe())
	f := open(t, m.path("README.md"))
	if got := m.ask("unmount"); got != "busy" {
		t.Fatalf("unmount with an open file: %s", got)
	}
	if b, err := os.ReadFile(m.path("dir/sub/deep.txt")); err != nil || string(b) != "deep\n" {
		t.Fatalf("%q, %v", b, err)
	}
	f.Close()
	waitFor(t, "the last release", func() bool { return m.ask("unmount") == "ok" })
	m.do("unmount") // again
}

// TestMountMoves: the branch moves under the mount.
func TestMountMoves(t *testing.T) {
	for _, noOpen := range []bool{false, true} {
		c := asMe()
		c.NoOpen = noOpen
		m := startMount(t, c)
		read := func(name string) string {
			b, err := os.ReadFile(m.path(name))
			if err != nil {
				t.Fatal(err)
			}
			return string(b)
		}
		old := open(t, m.path("moving.bin"))
		if _, err := io.CopyN(io.Discard, old, 10); err != nil {
			t.Fatal(err)
		}
		before := read("moving.bin")
		if read("moving.txt") != "before\n" || read("gone.txt") != "soon gone\n" {
			t.Fatal("wrong from the start")
		}
		if _, err := os.Stat(m.path("new1.txt")); !errors.Is(err, iofs.ErrNotExist) {
			t.Fatal(err)
		}
		if all := names(t, m.dir); !slices.Contains(all, "gone.txt") || len(all) != len(names(t, m.dir)) {
			t.Fatal(all)
		}
		m.do("move")
		waitFor(t, "the new content", func() bool { return read("moving.txt") == "after 1 moves\n" })
		waitFor(t, "the new name", func() bool { _, err := os.Stat(m.path("new1.txt")); return err == nil })
		waitFor(t, "the new listing", func() bool {
			all := names(t, m.dir)
			return slices.Contains(all, "new1.txt") && !slices.Contains(all, "gone.txt")
		})
		waitFor(t, "the lost name", func() bool {
			_, err := os.Stat(m.path("gone.txt"))
			return errors.Is(err, iofs.ErrNotExist)
		})
		waitFor(t, "the new blob", func() bool { return read("moving.bin") == strings.Repeat("\x01", 1<<20) })
		// A file that was open keeps its bytes.
		if _, err := old.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(old); err != nil || string(b) != before {
			t.Fatalf("an open file changed: %d bytes, %v", len(b), err)
		}
		old.Close()
	}
}

func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	all, err := open(t, dir).Readdirnames(-1)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// rawDir lists what getdents returns, with inode numbers.
func rawDir(t *testing.T, dir string) map[string]uint64 {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	found := make(map[string]uint64)
	for buf := make([]byte, 8192); ; {
		n, err := unix.Getdents(fd, buf)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return found
		}
		for b := buf[:n]; len(b) > 0; {
			const header = 19 // d_ino, d_off, d_reclen, d_type
			size := int(b[16]) | int(b[17])<<8
			var ino uint64
			for i := range 8 {
				ino |= uint64(b[i]) << (8 * i)
			}
			name, _, _ := bytes.Cut(b[header:size], []byte{0})
			found[string(name)] = ino
			b = b[size:]
		}
	}
}
