package integration

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"hfmount/remote/hubtest"
)

// sample has one of everything: text, a file in LFS below and above the size
// that is verified at once, odd names, an empty file, depth.
func sample() map[string][]byte {
	return map[string][]byte{
		"README.md":         []byte("# Sample\n\nThere is a needle here.\n"),
		"config.json":       []byte(`{"hidden_size": 384}` + "\n"),
		"small.bin":         noise(1, 3<<20),
		"weights.bin":       noise(2, 21_000_001),
		"empty":             {},
		"dir/a b.txt":       []byte("two words\nneedle\n"),
		"dir/ünï-@.txt":     []byte("unicode\n"),
		"dir/deep/er/x.txt": []byte(strings.Repeat("line\n", 50_000)),
		"one.txt":           []byte("1"),
	}
}

// native lays the repository out on local disk, for comparison.
func (w *world) native(repo string, files map[string][]byte) string {
	w.t.Helper()
	dir := filepath.Join(w.dir, "native")
	for name, data := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			w.t.Fatal(err)
		}
		if err := os.WriteFile(p, data, 0o644); err != nil {
			w.t.Fatal(err)
		}
	}
	// The Hub adds this one by itself.
	attributes := w.must("curl", "-sSf", w.srv.URL+"/"+repo+"/raw/main/.gitattributes")
	if err := os.WriteFile(filepath.Join(dir, ".gitattributes"), []byte(attributes), 0o644); err != nil {
		w.t.Fatal(err)
	}
	return dir
}

// Every tool says the same of the mount as of the same files on local disk.
func TestTools(t *testing.T) {
	w := newWorld(t, hubtest.Options{PageSize: 3})
	w.commit("alice/sample", sample())
	native := w.native("alice/sample", sample())
	m := w.mount("alice/sample")

	tools := []struct{ name, script string }{
		{"ls", `ls -1A; ls -1AR dir`},
		{"ls -l sizes", `ls -lR --time-style=+ | awk '/^-/ {print $5, $6, $7}'`},
		{"stat", `stat -c '%n %s %F' *.* dir/*.txt; stat -c '%n %F' dir dir/deep`},
		{"cat", `cat README.md config.json empty one.txt`},
		{"head", `head -c 100 weights.bin | sha256sum; head -n 3 dir/deep/er/x.txt`},
		{"tail", `tail -c 100 weights.bin | sha256sum; tail -n 3 dir/deep/er/x.txt`},
		{"wc", `wc dir/deep/er/x.txt README.md`},
		{"dd across a block", `dd if=weights.bin bs=1 skip=1048570 count=12 status=none | sha256sum`},
		{"dd past the end", `dd if=weights.bin bs=1M skip=25 status=none | wc -c`},
		{"find", `find . -type f | sort; find . -type d | sort`},
		{"find -size", `find . -size +1M | sort; find . -empty -type f`},
		{"find -name", `find . -name '*.txt' | sort`},
		{"grep -r", `grep -r needle . | sort`},
		{"grep -c binary", `grep -c -a . weights.bin`},
		{"sha256sum", `find . -type f -print0 | sort -z | xargs -0 sha256sum`},
		{"cksum, two at once", `(cksum <weights.bin & cksum <weights.bin & wait)`},
		{"tar", `tar c --sort=name --owner=0 --group=0 --mode=0 --mtime=@0 . | sha256sum`},
		{"cp -r", `mkdir -p "$OUT" && chmod -R u+w "$OUT" && rm -rf "$OUT"; cp -r . "$OUT" && (cd "$OUT" && find . -type f -print0 | sort -z | xargs -0 sha256sum)`},
		{"python open", `python3 -c '
import hashlib
f = open("weights.bin", "rb")
f.seek(10_000_000)
a = f.read(5_000_000)
f.seek(-7, 2)
print(hashlib.sha256(a + f.read()).hexdigest())'`},
		{"python mmap", `python3 -c '
import mmap, hashlib
m = mmap.mmap(open("weights.bin", "rb").fileno(), 0, prot=mmap.PROT_READ)
picked = b"".join(m[i:i + 10] for i in range(0, len(m), 99_991))
print(len(m), hashlib.sha256(picked).hexdigest(), hashlib.sha256(m).hexdigest())'`},
		{"python listdir", `python3 -c '
import os
print(sorted(os.listdir(".")), os.path.getsize("weights.bin"), os.access("README.md", os.R_OK))'`},
		{"absent names", `cat nothing dir/nothing nothing/x README.md/x 2>&1 | sed 's/.*: //'`},
	}
	for round := 1; round <= 2; round++ { // cold, then warm
		for _, tool := range tools {
			t.Run(fmt.Sprintf("%s/%d", tool.name, round), func(t *testing.T) {
				shell := func(dir string) result {
					return w.command("env", "LC_ALL=C.UTF-8", "OUT="+w.dir+"/out", "sh", "-c", "cd '"+dir+"' && "+tool.script)
				}
				want, got := shell(native), shell(m.path)
				if got != want {
					t.Errorf("on the mount: %son local disk: %s", got, want)
				}
			})
		}
		t.Run(fmt.Sprintf("cmp/%d", round), func(t *testing.T) {
			w.must("cmp", native+"/weights.bin", m.join("weights.bin"))
			w.must("diff", "-r", native, m.path)
		})
	}
}

// One inode number a file, and the same after a remount; mtimes likewise.
func TestAttributesSurviveRemount(t *testing.T) {
	w := newWorld(t, hubtest.Options{})
	w.commit("alice/sample", sample())
	list := func(m *mount) string {
		return w.must("sh", "-c", "cd "+m.path+" && find . -printf '%i %p %s %T@ %m %n\\n' | sort -k2")
	}
	m := w.mount("alice/sample")
	before := list(m)
	m.unmount()
	m = w.mount("alice/sample")
	if after := list(m); after != before {
		t.Errorf("before:\n%safter:\n%s", before, after)
	}
	inodes := map[string]string{}
	for line := range strings.Lines(before) {
		ino, rest, _ := strings.Cut(line, " ")
		if other, ok := inodes[ino]; ok {
			t.Errorf("inode %s: %s and %s", ino, other, rest)
		}
		inodes[ino] = rest
	}
}

func TestNothingCanBeWritten(t *testing.T) {
	w := newWorld(t, hubtest.Options{})
	w.commit("alice/sample", map[string][]byte{"f": []byte("x"), "d/g": []byte("y")})
	m := w.mount("alice/sample")
	ops := []struct {
		name string
		do   func() error
	}{
		{"create", func() error { return os.WriteFile(m.join("new"), nil, 0o644) }},
		{"open to write", func() error { return openClose(m.join("f"), os.O_WRONLY) }},
		{"open to append", func() error { return openClose(m.join("f"), os.O_WRONLY|os.O_APPEND) }},
		{"truncate", func() error { return os.Truncate(m.join("f"), 0) }},
		{"mkdir", func() error { return os.Mkdir(m.join("newdir"), 0o755) }},
		{"remove", func() error { return syscall.Unlink(m.join("f")) }},
		{"rmdir", func() error { return syscall.Rmdir(m.join("d")) }},
		{"rename", func() error { return syscall.Rename(m.join("f"), m.join("h")) }},
		{"link", func() error { return syscall.Link(m.join("f"), m.join("h")) }},
		{"symlink", func() error { return syscall.Symlink("f", m.join("h")) }},
		{"chmod", func() error { return syscall.Chmod(m.join("f"), 0o600) }},
		{"utimes", func() error { return syscall.Utimes(m.join("f"), make([]syscall.Timeval, 2)) }},
		{"setxattr", func() error { return syscall.Setxattr(m.join("f"), "user.x", []byte("y"), 0) }},
	}
	for _, op := range ops {
		if err := op.do(); !isErrno(err, syscall.EROFS) {
			t.Errorf("%s: %v, want EROFS", op.name, err)
		}
	}
	if got, err := os.ReadFile(m.join("f")); err != nil || string(got) != "x" {
		t.Errorf("afterwards: %q, %v", got, err)
	}
}

func openClose(name string, flag int) error {
	f, err := os.OpenFile(name, flag, 0)
	if err == nil {
		f.Close()
	}
	return err
}

// A token is used where it is needed, and a private repository mounts with it.
func TestPrivateRepository(t *testing.T) {
	w := newWorld(t, hubtest.Options{})
	w.repo("alice/secret", hubtest.RepoOptions{Private: true})
	data := noise(9, 12<<20)
	w.commit("alice/secret", map[string][]byte{"w.bin": data, "t.txt": []byte("t")})
	w.login("hf_alice")
	m := w.mount("alice/secret")
	got, err := os.ReadFile(m.join("w.bin"))
	if err != nil {
		t.Fatal(err)
	}
	if sum(got) != sum(data) {
		t.Error("w.bin differs")
	}
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}
