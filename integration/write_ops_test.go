package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"hfmount/remote/hubtest"
)

// writeSeed is what the repository of every case holds at first: text, a file
// in LFS, one that is bigger than what is verified at once, depth.
func writeSeed() map[string][]byte {
	return map[string][]byte{
		"text.txt":      []byte("one\ntwo\nthree\n"),
		"other.txt":     []byte("other\n"),
		"small.bin":     noise(11, 1_500_000),
		"big.bin":       noise(12, 9_000_001),
		"empty":         {},
		"dir/a.txt":     []byte("a\n"),
		"dir/b.txt":     []byte("b\n"),
		"dir/sub/c.txt": []byte("c\n"),
		"alone/x.txt":   []byte("x\n"),
	}
}

// way is an ordinary way to write. The script runs in the mount and in a plain
// directory with the same files, and both must print the same and look the
// same afterwards; then, but for local matches, so must a clone.
type way struct {
	name   string
	script string
	local  string // a regular expression of paths that stay local
	commit bool   // false: nothing of it is for the Hub
}

const python = `python3 -c '
from ops import *
`

var ways = []way{
	{"create", `printf hello >new.txt; mkdir -p n/m; echo x >n/m/c.txt; : >n/nothing; head -c 3000000 big.bin >n/copy.bin`, "", true},
	{"create exclusively", `set -C; echo x >text.txt; echo y >n.txt; cat n.txt text.txt`, "", true},
	{"overwrite", `echo new >text.txt; cat text.txt; head -c 2000000 big.bin | tail -c 700000 >small.bin; wc -c *`, "", true},
	{"overwrite in place", `printf XX | dd of=text.txt bs=1 seek=4 conv=notrunc status=none; cat text.txt
		printf YYYY | dd of=big.bin bs=1 seek=8999999 conv=notrunc status=none; cksum big.bin`, "", true},
	{"truncate", `truncate -s 5 text.txt; truncate -s 100 other.txt; truncate -s 0 small.bin; truncate -s 5000000 big.bin; truncate -s 30 empty; cksum *.txt *.bin empty`, "", true},
	{"truncate and grow again", `truncate -s 4000000 big.bin; truncate -s 9000001 big.bin; cksum big.bin; truncate -s 4 text.txt; echo more >>text.txt; cat text.txt`, "", true},
	{"append", `echo four >>text.txt; echo x >>empty; tail -c 3 text.txt >>big.bin; cat text.txt empty; cksum big.bin; tail -c 8 big.bin`, "", true},
	{"append from two", python + `
a, b = (os.open("log.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644) for _ in "ab")
for i in range(200):
    os.write(a, b"a%d\n" % i); os.write(b, b"b%d\n" % i)
os.close(a); print(os.path.getsize("log.txt")); os.close(b)
show("log.txt")'`, "", true},
	{"write at random", python + `
r = random.Random(5)
for name in "big.bin", "small.bin", "new.bin":
    fd = os.open(name, os.O_RDWR | os.O_CREAT, 0o644)
    for _ in range(150):
        os.pwrite(fd, r.randbytes(r.randrange(1, 9000)), r.randrange(0, 9_500_000))
        off = r.randrange(0, 9_500_000)
        print(hashlib.sha256(os.pread(fd, 5000, off)).hexdigest()[:6], end="")
    os.close(fd)
    show(name)'`, "", true},
	{"write vectors", python + `
fd = os.open("v.bin", os.O_RDWR | os.O_CREAT, 0o644)
os.writev(fd, [b"one", b"", b"two", noise(1, 70000)])
os.pwritev(fd, [b"XX", b"YY"], 1)
print(os.pread(fd, 9, 0)); os.close(fd); show("v.bin")'`, "", true},
	{"shared mapping", python + `
for name in "big.bin", "text.txt":
    fd = os.open(name, os.O_RDWR)
    m = mmap.mmap(fd, 0)
    m[3:7] = b"mmap"
    m[len(m)-2:] = b"ZZ"
    print(os.pread(fd, 8, 2)); m.flush(); m.close(); os.close(fd); show(name)
fd = os.open("m.bin", os.O_RDWR | os.O_CREAT, 0o644)
os.ftruncate(fd, 300000)
m = mmap.mmap(fd, 0)
for i in range(0, 300000, 4096):
    m[i:i+3] = b"abc"
print(os.pread(fd, 5, 4095)); m.close(); os.close(fd); show("m.bin")'`, "", true},
	{"mapping that outlives close", python + `
fd = os.open("m.bin", os.O_RDWR | os.O_CREAT, 0o644)
os.ftruncate(fd, 100000)
m = mmap.mmap(fd, 0)
os.close(fd)
m[50000:50005] = b"later"
m.flush(); print(open("m.bin", "rb").read()[50000:50005]); m.close(); show("m.bin")'`, "", true},
	{"private mapping", python + `
fd = os.open("text.txt", os.O_RDWR)
m = mmap.mmap(fd, 0, access=mmap.ACCESS_COPY)
m[0:3] = b"ZZZ"; m.close(); os.close(fd); show("text.txt")'`, "", false},
	{"write through a reader's eyes", python + `
r = os.open("text.txt", os.O_RDONLY); os.pread(r, 3, 0)
w = os.open("text.txt", os.O_RDWR)
os.pwrite(w, b"NEW", 0); print(os.pread(w, 13, 0), os.fstat(w).st_size)
os.close(w); os.close(r); print(open("text.txt").read())'`, "", true},
	{"rename", `mv text.txt moved.txt; mv moved.txt dir/in.txt; mv dir/sub/c.txt .; ls -R; cat dir/in.txt c.txt`, "", true},
	{"rename over", `echo tmp >t; mv t text.txt; mv other.txt small.bin; cat text.txt small.bin; ls`, "", true},
	{"rename a large file", `mv big.bin dir/huge.bin; cksum dir/huge.bin; ls -R`, "", true},
	{"rename while open", python + `
fd = os.open("text.txt", os.O_RDWR)
os.write(fd, b"first"); os.rename("text.txt", "t2.txt"); os.pwrite(fd, b"then", 14)
print(open("t2.txt").read(), os.path.exists("text.txt")); os.close(fd)
fd = os.open("new.tmp", os.O_WRONLY | os.O_CREAT, 0o644)
os.write(fd, b"abc"); os.rename("new.tmp", "new.txt"); os.write(fd, b"def"); os.close(fd)
show("t2.txt", "new.txt"); print(sorted(os.listdir(".")))'`, "", true},
	{"rename over an open file", python + `
fd = os.open("text.txt", os.O_RDWR)
open("t", "w").write("new"); os.rename("t", "text.txt")
print(os.pread(fd, 20, 0), open("text.txt").read()); os.pwrite(fd, b"old", 0); os.close(fd)
print(open("text.txt").read())'`, "", true},
	{"rename directories", `mv dir moved; ls -R; cat moved/sub/c.txt; mkdir e; mv moved e/; mv alone e/moved/sub/; find . -type f | sort`, "", true},
	{"rename directories onto others", python + `
os.mkdir("empty.d"); os.rename("dir", "empty.d"); print(sorted(os.listdir("empty.d")))
tried(os.rename, "empty.d", "alone"); tried(os.rename, "empty.d", "empty.d/sub/x"); tried(os.rename, "empty.d", "text.txt")
tried(os.rename, "text.txt", "alone"); tried(os.rename, "text.txt", "text.txt"); tried(os.rename, "nothing", "x")
print(sorted(os.listdir(".")))'`, "", true},
	{"a checkpoint directory", python + `
for n in range(3):
    d = "save-%d.tmp" % n
    os.mkdir(d)
    for i in range(4):
        with open(d + "/part-%d.bin" % i, "wb") as f:
            f.write(noise(n * 10 + i, 400000)); f.flush(); os.fsync(f.fileno())
    os.rename(d, "save-%d" % n)
    if n:
        for i in range(4): os.unlink("save-%d/part-%d.bin" % (n - 1, i))
        os.rmdir("save-%d" % (n - 1))
print(sorted(os.listdir(".")), sorted(os.listdir("save-2")))'`, "", true},
	{"RENAME_NOREPLACE", python + `
tried(rename2, "text.txt", "other.txt", NOREPLACE); tried(rename2, "text.txt", "new", NOREPLACE)
tried(rename2, "dir", "alone", NOREPLACE); tried(rename2, "dir", "dir2", NOREPLACE)
print(sorted(os.listdir(".")))'`, "", true},
	{"RENAME_EXCHANGE", python + `
tried(rename2, "text.txt", "other.txt", EXCHANGE); show("text.txt", "other.txt")
tried(rename2, "dir", "alone", EXCHANGE); print(sorted(os.listdir("dir")), sorted(os.listdir("alone")))
tried(rename2, "dir", "big.bin", EXCHANGE); print(os.path.isdir("big.bin"), os.path.getsize("dir"))
tried(rename2, "text.txt", "nothing", EXCHANGE)'`, "", true},
	{"unlink", `rm text.txt dir/a.txt; ls -R; cat text.txt; echo again >text.txt; cat text.txt; rm -r alone; ls`, "", true},
	{"unlink while open", python + `
fd = os.open("big.bin", os.O_RDWR); os.unlink("big.bin")
os.pwrite(fd, b"gone", 5); print(os.pread(fd, 8, 3), os.fstat(fd).st_size)
os.ftruncate(fd, 100); print(os.fstat(fd).st_size); os.close(fd)
fd = os.open("n.txt", os.O_RDWR | os.O_CREAT, 0o644); os.write(fd, b"x"); os.unlink("n.txt"); os.write(fd, b"y")
print(os.pread(fd, 5, 0), os.fstat(fd).st_nlink); os.close(fd)
tried(os.unlink, "dir"); tried(os.unlink, "nothing"); print(sorted(os.listdir(".")))'`, "", true},
	{"mkdir and rmdir", python + `
os.makedirs("p/q/r"); tried(os.rmdir, "p"); os.rmdir("p/q/r"); tried(os.mkdir, "p/q"); tried(os.mkdir, "text.txt"); tried(os.mkdir, "dir")
tried(os.rmdir, "dir"); tried(os.rmdir, "text.txt"); tried(os.mkdir, "no/where"); tried(os.mkdir, "text.txt/x")
os.unlink("alone/x.txt"); print(os.listdir("alone"), os.listdir("p/q"))'`, "", true},
	{"an emptied directory stays until removed", `rm alone/x.txt; ls -d alone; rmdir alone; ls; mkdir alone; echo n >alone/y.txt; ls alone`, "", true},
	{"fallocate", python + `
fd = os.open("f.bin", os.O_RDWR | os.O_CREAT, 0o644)
os.write(fd, b"x" * 10000)
fallocate(fd, 0, 5000, 20000); print(os.fstat(fd).st_size)
fallocate(fd, KEEP, 0, 1 << 20); print(os.fstat(fd).st_size)
fallocate(fd, PUNCH | KEEP, 100, 5000); print(os.pread(fd, 3, 99), os.pread(fd, 3, 5098))
fallocate(fd, ZERO, 9000, 40000); print(os.fstat(fd).st_size, os.pread(fd, 3, 8998))
os.close(fd); show("f.bin")
fd = os.open("big.bin", os.O_RDWR)
fallocate(fd, PUNCH | KEEP, 1000000, 3000000); fallocate(fd, 0, 9000000, 100); os.close(fd); show("big.bin")'`, "", true},
	{"copy_file_range", python + `
a, b = os.open("big.bin", os.O_RDONLY), os.open("c.bin", os.O_RDWR | os.O_CREAT, 0o644)
n = 0
while n < 9000001:
    k = os.copy_file_range(a, b, 9000001 - n)
    if k == 0: break
    n += k
print(n, os.copy_file_range(a, b, 100, 50, 20)); os.close(a); os.close(b); show("c.bin")
fd = os.open("text.txt", os.O_RDWR); print(os.copy_file_range(fd, fd, 3, 0, 8)); os.close(fd); show("text.txt")'`, "", true},
	{"sendfile", python + `
a, b = os.open("small.bin", os.O_RDONLY), os.open("s.bin", os.O_WRONLY | os.O_CREAT, 0o644)
off = 0
while off < 1500000: off += os.sendfile(b, a, off, 1 << 20)
os.close(a); os.close(b); show("s.bin")'`, "", true},
	{"cp -a", `cp -a dir copy; mkdir -p "$TMP/x"; cp -a . "$TMP/x/all"; cp -a "$TMP/x/all/dir" from; touch -d @1000000000 from/a.txt; chmod 600 from/a.txt
		cp -a from again; stat -c '%a %Y %s' again/a.txt; find . -type f | sort | xargs cksum`, "", true},
	{"cp flags", `cp --reflink=auto big.bin r.bin; cp --sparse=always big.bin s.bin; cp -u text.txt r.txt; cp -b text.txt other.txt; install -m 755 text.txt i.sh; stat -c %a i.sh; cksum *`, "~$", true},
	{"rsync", `mkdir "$TMP/src"; cp -r dir big.bin "$TMP/src/"; rsync -a --exclude .gitattributes "$TMP/src/" sub/; rsync -ai "$TMP/src/" sub/; echo more >>"$TMP/src/dir/a.txt"; rm "$TMP/src/dir/b.txt"
		rsync -a --delete --exclude .gitattributes "$TMP/src/" sub/; rsync -a --inplace --no-whole-file "$TMP/src/big.bin" text.txt; find sub text.txt -type f | sort | xargs cksum`, "", true},
	{"tar", `tar cf "$TMP/t.tar" dir big.bin text.txt; mkdir x; tar xf "$TMP/t.tar" -C x; tar cf a.tar --sort=name --mtime=@0 --owner=0 --group=0 x; tar tf a.tar; rm -r x; tar xf a.tar; find . -name '*.txt' | sort | xargs cksum`, "", true},
	{"git", `export GIT_AUTHOR_DATE="1000000000 +0000" GIT_COMMITTER_DATE="1000000000 +0000" GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1; rm -f .gitattributes
		git init -q -b main .; git config user.name a; git config user.email a@b
		git add . && git commit -q -m first; git status --short; git log --format=%T; echo x >>text.txt; git status --short; git commit -qam second; git gc -q; git fsck --strict 2>&1 | grep -v ^notice; git log --format=%T; git checkout -q HEAD~1 -- text.txt; cat text.txt; git stash -q; cat text.txt`, `^\.git/`, true},
	{"git inside only", `export GIT_CONFIG_GLOBAL=/dev/null; git init -q -b main . && git add text.txt && git -c user.name=a -c user.email=a@b commit -q -m m; git log --format=%s`, `^\.git/`, false},
	{"vim's save", python + `
# backupcopy=no: a probe, a swap file, the old file aside, the new one, away with the old.
fd = os.open(".text.txt.swp", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600); os.write(fd, b"b0VIM")
p = os.open("4913", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o100644)
os.fchown(p, os.getuid(), os.getgid()); os.close(p); os.unlink("4913")
os.rename("text.txt", "text.txt~")
w = os.open("text.txt", os.O_WRONLY | os.O_CREAT, 0o644); os.write(w, b"edited\n"); os.fsync(w); os.close(w)
os.chmod("text.txt", 0o644); os.unlink("text.txt~")
os.close(fd); os.unlink(".text.txt.swp"); show("text.txt"); print(sorted(os.listdir(".")))
# backupcopy=yes: a copy aside, the file truncated and written.
open("other.txt~", "wb").write(open("other.txt", "rb").read())
w = os.open("other.txt", os.O_WRONLY | os.O_TRUNC, 0o644); os.write(w, b"edited\n"); os.fsync(w); os.close(w)
os.unlink("other.txt~"); show("other.txt")'`, "", true},
	{"a swap file stays local", `printf b0VIM >.text.txt.swp; printf x >.DS_Store; mkdir __pycache__ .cache; echo c >__pycache__/m.pyc; echo c >.cache/x; ls -A`,
		`\.swp$|\.DS_Store|__pycache__|\.cache`, false},
	{"nano's save", python + `
w = os.open("text.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666); os.write(w, b"nano\n"); os.close(w)
show("text.txt")'`, "", true},
	{"emacs' save", python + `
os.symlink("me@host.1:2", ".#text.txt"); print(os.readlink(".#text.txt"))
open("#text.txt#", "w").write("auto"); os.rename("text.txt", "text.txt~")
w = os.open("text.txt", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644); os.write(w, b"emacs\n"); os.fsync(w); os.close(w)
os.unlink("#text.txt#"); os.unlink(".#text.txt"); os.unlink("text.txt~"); show("text.txt")'`, "", true},
	{"sed -i", `sed -i s/two/2/ text.txt; cat text.txt; sed -i '$d' other.txt; ls -A; wc -c other.txt`, "", true},
	{"sqlite, rollback journal", python + `
import sqlite3, subprocess
db = sqlite3.connect("r.db"); db.execute("pragma journal_mode=delete")
db.execute("create table t(a integer primary key, b blob)")
for i in range(30):
    with db: db.executemany("insert into t(b) values(?)", [(noise(i * 50 + j, 300),) for j in range(50)])
try:
    with db:
        db.execute("delete from t"); raise KeyError
except KeyError: pass
other = sqlite3.connect("r.db"); print(other.execute("select count(*), sum(length(b)) from t").fetchone()); other.close()
with db: db.execute("delete from t where a % 3 = 0")
db.execute("vacuum"); print(db.execute("pragma integrity_check").fetchone(), db.execute("select count(*) from t").fetchone()); db.close()
print(sorted(os.listdir(".")), os.path.getsize("r.db"))'`, "", true},
	{"sqlite, write-ahead log", python + `
import sqlite3
db = sqlite3.connect("w.db"); print(db.execute("pragma journal_mode=wal").fetchone())
db.execute("create table t(a integer primary key, b blob)")
reader = sqlite3.connect("w.db")
for i in range(30):
    with db: db.executemany("insert into t(b) values(?)", [(noise(i * 50 + j, 300),) for j in range(50)])
    assert reader.execute("select count(*) from t").fetchone()[0] == (i + 1) * 50
print(sorted(os.listdir("."))); reader.close()
print(db.execute("pragma integrity_check").fetchone()); db.close(); print(sorted(os.listdir(".")))'`, "", true},
	{"O_TMPFILE", python + `
fd = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o644)
os.write(fd, b"unnamed"); print(os.fstat(fd).st_nlink, os.path.exists("named.txt"))
linkfd(fd, "named.txt"); os.write(fd, b" no more"); os.close(fd); show("named.txt")
fd = os.open("dir", os.O_TMPFILE | os.O_RDWR, 0o644); os.write(fd, b"lost"); os.close(fd); print(sorted(os.listdir("dir")))'`, "", true},
	{"locks", python + `
import subprocess
probe = """
import fcntl, sys
f = open("text.txt", "r+")
for lock in fcntl.flock, fcntl.lockf:
    try: lock(f, fcntl.LOCK_EX | fcntl.LOCK_NB); print("free"); lock(f, fcntl.LOCK_UN)
    except OSError as e: print("taken")
"""
f = open("text.txt", "r+")
def ask(): sys.stdout.flush(); subprocess.run([sys.executable, "-c", probe], check=True)
ask(); fcntl.flock(f, fcntl.LOCK_EX); ask(); fcntl.flock(f, fcntl.LOCK_UN); fcntl.lockf(f, fcntl.LOCK_EX, 2, 1); ask(); f.close(); ask()'`, "", false},
	{"dup and fork", python + `
a = os.open("d.txt", os.O_WRONLY | os.O_CREAT, 0o644); b = os.dup(a)
os.write(a, b"a"); os.write(b, b"b"); os.close(a)
if os.fork() == 0:
    os.write(b, b"c"); os._exit(0)
os.wait(); os.write(b, b"d"); os.close(b); print(open("d.txt").read())'`, "", true},
	{"mode, owner and times", `chmod 600 text.txt; chmod 755 dir other.txt; touch -d @1234567890 text.txt; touch -d @1234567891 dir; stat -c '%n %a %Y' text.txt dir; stat -c '%n %a' other.txt; chown "$(id -u):$(id -g)" text.txt; stat -c '%U %G' text.txt`, "", false},
	{"touch", `touch text.txt big.bin dir; cat text.txt; touch new; stat -c %s new`, "", true},
	{"symbolic links", `ln -s text.txt l; ln -s dir ld; ln -s /nowhere broken; cat l ld/a.txt; readlink l ld broken; mv l l2; readlink l2; rm ld; ls; test -L broken && echo link`, "", false},
	{"sparse", python + `
fd = os.open("s.bin", os.O_RDWR | os.O_CREAT, 0o644)
os.pwrite(fd, b"end", 5_000_000); print(os.pread(fd, 3, 4_000_000)); os.close(fd); show("s.bin")'`, "", true},
	{"direct and synchronous", `head -c 65536 big.bin | dd of=d.bin bs=4096 oflag=direct iflag=fullblock status=none; dd if=d.bin bs=4096 iflag=direct status=none | cksum; echo s | dd of=sync.txt oflag=sync status=none; cat sync.txt`, "", true},
	{"fsync of everything", python + `
fd = os.open("f.txt", os.O_WRONLY | os.O_CREAT, 0o644); os.write(fd, b"x"); os.fsync(fd); os.fdatasync(fd); os.rename("f.txt", "g.txt")
d = os.open(".", os.O_RDONLY); os.fsync(d); os.close(d); os.write(fd, b"y"); os.close(fd); show("g.txt")'`, "", true},
	{"names", `mkdir 'a b'; echo 1 >'a b/c d.txt'; echo 2 >'ünï.txt'; echo 3 >'!#%&=@.txt'; echo 4 >-dash; n=$(printf 'x%.0s' $(seq 250)); echo 5 >$n.txt; ls | wc -l; touch $n$n 2>&1 | sed 's/.*: //'; cat 'a b/c d.txt' ünï.txt`, "", true},
	{"many small files", `for d in 1 2 3; do mkdir n$d; for i in $(seq 100); do echo $d $i >n$d/f$i.txt; done; done; cat n*/f*.txt | cksum; rm n2/f1*; ls n2 | wc -l`, "", true},
	{"split, sort, tee", `split -b 1000000 big.bin part-; cat part-* | cmp - big.bin; sort -r text.txt -o text.txt; echo t | tee t1 t2; cat text.txt t1 t2; rm part-*`, "", true},
	{"python's atomic replace", python + `
import tempfile
for i in range(20):
    with tempfile.NamedTemporaryFile("w", dir=".", delete=False) as f:
        f.write("state %d" % i); f.flush(); os.fsync(f.fileno())
    os.chmod(f.name, 0o644); os.replace(f.name, "state.json")
print(open("state.json").read(), sorted(os.listdir(".")))'`, "", true},
	{"equal bytes", `cp big.bin t; cat t >big.bin; cp text.txt t; cat t >text.txt; rm t; cat text.txt`, "", false},
	{"there and back", `mv text.txt t; mv t text.txt; mv dir d; mv d dir; echo x >n; rm n; mkdir e; rmdir e; truncate -s 14 text.txt; ls -R`, "", false},
	{"errors", python + `
tried(os.open, "text.txt/x", os.O_RDONLY); tried(os.open, "dir", os.O_WRONLY); tried(os.open, "nothing/x", os.O_CREAT | os.O_WRONLY); tried(os.open, "dir", os.O_CREAT | os.O_WRONLY)
tried(os.open, "text.txt", os.O_CREAT | os.O_EXCL); tried(os.truncate, "dir", 0); tried(os.truncate, "nothing", 0); tried(os.truncate, "text.txt", -1)
fd = os.open("text.txt", os.O_RDONLY); tried(os.write, fd, b"x"); tried(os.ftruncate, fd, 1)
tried(os.mkdir, "dir/"); tried(os.rmdir, "nothing"); tried(os.readlink, "text.txt"); tried(os.listdir, "text.txt")'`, "", false},
}

// Every ordinary way to write does on the mount what it does on local disk,
// and what comes of it is what a clone has after a commit.
func TestWaysToWrite(t *testing.T) {
	scripts, err := filepath.Abs("testdata/write")
	if err != nil {
		t.Fatal(err)
	}
	w := newWriter(t, hubtest.Options{})
	for i, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			inner := *w.world
			inner.t, inner.seen = t, 10*i
			w := &writer{&inner, w.data}
			repo := fmt.Sprintf("alice/way%d", i)
			w.seed(repo, writeSeed())
			native := w.plain(fmt.Sprintf("plain%d", i), repo, writeSeed())
			// A directory renamed into place would be committed at once.
			m := w.writable(repo, "--commit", "manual")
			before := w.log(repo, "main")

			shell := func(kind, dir string) string {
				tmp := fmt.Sprintf("%s/tmp-%s%d", w.dir, kind, i)
				if err := os.Mkdir(tmp, 0o755); err != nil {
					t.Fatal(err)
				}
				r := w.command("env", "LC_ALL=C.UTF-8", "PYTHONPATH="+scripts, "PYTHONDONTWRITEBYTECODE=1", "TMP="+tmp,
					"sh", "-c", "umask 022; cd '"+dir+"' && "+way.script)
				return strings.NewReplacer(dir, "DIR", tmp, "TMP").Replace(r.String())
			}
			want, got := shell("plain", native), shell("mount", m.path)
			if got != want {
				t.Errorf("on the mount: %s\non local disk: %s", got, want)
			}
			files := folder(t, native)
			if d := differences(files, folder(t, m.path)); d != "" {
				t.Errorf("the mount differs from local disk:\n%s", d)
			}
			m.send()
			if d := differences(files, folder(t, m.path)); d != "" {
				t.Errorf("after the commit the mount differs from local disk:\n%s", d)
			}
			var local *regexp.Regexp
			if way.local != "" {
				local = regexp.MustCompile(way.local)
			}
			if d := differences(committable(files, local), committable(w.clone(repo, "main"), nil)); d != "" {
				t.Errorf("a clone differs from local disk:\n%s", d)
			}
			made := len(w.checkCommits(repo, "main")) - len(before)
			if want := 1; way.commit && made != want || !way.commit && made != 0 {
				t.Errorf("%d commits were made; is one wanted: %v", made, way.commit)
			}
			m.unmount()
			if way.local == "" {
				return
			}
			m = w.writable(repo)
			if d := differences(files, folder(t, m.path)); d != "" {
				t.Errorf("after a remount the mount differs from local disk:\n%s", d)
			}
			m.unmount()
		})
	}
}

// plain lays a repository out in a directory of the given name.
func (w *writer) plain(name, repo string, files map[string][]byte) string {
	w.t.Helper()
	dir := filepath.Join(w.dir, name)
	for name, data := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			w.t.Fatal(err)
		}
		if err := os.WriteFile(p, data, 0o644); err != nil {
			w.t.Fatal(err)
		}
	}
	attributes := w.git(repo, "show", "main:.gitattributes")
	if err := os.WriteFile(filepath.Join(dir, ".gitattributes"), []byte(attributes), 0o644); err != nil {
		w.t.Fatal(err)
	}
	return dir
}
