package integration

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hfmount/remote/hubtest"
)

// py runs a Python script that may use testdata/write/ops.py, in a directory.
func (w *world) py(dir, script string) result {
	w.t.Helper()
	lib, err := filepath.Abs("testdata/write")
	if err != nil {
		w.t.Fatal(err)
	}
	return w.command("env", "PYTHONPATH="+lib, "PYTHONDONTWRITEBYTECODE=1", "sh", "-c",
		`cd "$0" && exec python3 -c "$1"`, dir, "from ops import *\n"+script)
}

func (w *world) mustPy(dir, script string) string {
	w.t.Helper()
	r := w.py(dir, script)
	if r.code != 0 {
		w.t.Fatalf("python: %s", r)
	}
	return r.stdout
}

// contentRequests is how often the Hub was asked for files' bytes.
func contentRequests(s hubtest.Stats) int64 { return s.Quota["cdn"] + s.Quota["resolvers"] }

// Programs that open read-write and only read, and those that change nothing
// in the end, cost no download, no staging and no commit.
func TestOpeningForWritingIsNotWriting(t *testing.T) {
	w := newWriter(t, hubtest.Options{})
	w.seed("alice/m", writeSeed())
	m := w.writable("alice/m")
	w.hub.ResetStats()
	w.mustPy(m.path, `
for name in "big.bin", "small.bin", "text.txt", "empty":
    for flags in os.O_RDWR, os.O_WRONLY, os.O_RDWR | os.O_APPEND:
        fd = os.open(name, flags); os.fstat(fd); os.close(fd)
`)
	s := w.hub.Stats()
	if contentRequests(s) != 0 || s.Commits != 0 {
		t.Errorf("opening cost %v", s.Quota)
	}
	if p := m.pending(); p.Pending != 0 || p.Staged != 0 {
		t.Errorf("opening left %d changes, %d bytes staged", p.Pending, p.Staged)
	}
	w.mustPy(m.path, `
import time
for name in "big.bin", "small.bin", "text.txt":
    fd = os.open(name, os.O_RDWR)
    m = mmap.mmap(fd, 0); m[0], m[len(m) - 1]; m.close()
    os.pread(fd, 100, 5); os.fsync(fd); os.close(fd)
    os.utime(name)
`)
	if p := m.pending(); p.Pending != 0 || p.Staged != 0 {
		t.Errorf("reading left %d changes, %d bytes staged: %+v", p.Pending, p.Staged, p.Changes)
	}
	w.mustPy(m.path, `
for name in "big.bin", "small.bin", "text.txt":
    data = open(name, "rb").read()
    with open(name, "r+b") as f: f.write(data)
    with open(name, "wb") as f: f.write(data)
`)
	m.send()
	if n := w.hub.Stats().Commits; n != 0 {
		t.Errorf("equal bytes made %d commits", n)
	}
}

// A truncating open fetches nothing, and a small edit of a large file does not
// wait for the rest of it.
func TestEditingALargeFileDoesNotWait(t *testing.T) {
	w := newWriter(t, hubtest.Options{})
	large := hubtest.Synthetic{Size: 120_000_000, Seed: 77}
	w.synthetic("alice/m", map[string]hubtest.Synthetic{"edit.bin": large, "new.bin": large, "add.bin": large})
	m := w.writable("alice/m", "--commit", "manual")
	w.hub.Shape(0, 1_000_000) // the whole file would take two minutes
	w.hub.ResetStats()
	begin := time.Now()
	w.mustPy(m.path, `
with open("new.bin", "wb") as f: f.write(b"short")
`)
	if n := contentRequests(w.hub.Stats()); n != 0 {
		t.Errorf("a truncating open cost %d requests for content", n)
	}
	w.mustPy(m.path, `
with open("add.bin", "ab") as f: f.write(b"appended")
fd = os.open("edit.bin", os.O_RDWR); os.pwrite(fd, b"edited", 60000000); os.close(fd)
print(os.path.getsize("add.bin"))
`)
	if d := time.Since(begin); d > 20*time.Second {
		t.Errorf("three small writes took %s", d)
	}
	w.hub.Shape(0, 0)
	m.send()
	want := make([]byte, large.Size)
	if _, err := large.ReaderAt().ReadAt(want, 0); err != nil {
		t.Fatal(err)
	}
	added := digest(append(want[:len(want):len(want)], "appended"...))
	copy(want[60_000_000:], "edited")
	got := w.clone("alice/m", "main")
	for name, d := range map[string]string{"edit.bin": digest(want), "add.bin": added, "new.bin": digest([]byte("short"))} {
		if got[name] != d {
			t.Errorf("%s: committed %s, want %s", name, got[name], d)
		}
	}
	w.checkCommits("alice/m", "main")
}

// What was written through the mount is not fetched after its commit, also not
// by the next mount.
func TestWrittenIsNotDownloadedAgain(t *testing.T) {
	w := newWriter(t, hubtest.Options{})
	w.seed("alice/m", writeSeed())
	m := w.writable("alice/m")
	data := noise(5, 30_000_000)
	for _, name := range []string{"n.bin", "sub/m.bin"} {
		if err := os.MkdirAll(filepath.Dir(m.join(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(m.join(name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m.send()
	w.hub.ResetStats()
	for range 2 {
		for _, name := range []string{"n.bin", "sub/m.bin"} {
			if got, err := m.read(name, time.Minute); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s differs, or %v", name, err)
			}
		}
		m.unmount()
		m = w.writable("alice/m")
	}
	if n := contentRequests(w.hub.Stats()); n != 0 {
		t.Errorf("reading it back cost %d requests for content", n)
	}
	if n := m.pending().Staged; n != 0 {
		t.Errorf("%d bytes are staged still", n)
	}
}

// Changes commit by themselves after the quiet time, in one commit that says
// what it is.
func TestCommitsByItself(t *testing.T) {
	w := newWriter(t, hubtest.Options{})
	w.seed("alice/m", writeSeed())
	m := w.writable("alice/m", "--commit-after", "1s")
	before := len(w.log("alice/m", "main"))
	for _, name := range []string{"a.txt", "b.txt", "c.txt"} {
		if err := os.WriteFile(m.join(name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if !eventually(30*time.Second, func() bool { return m.pending().Pending == 0 }) {
		t.Fatalf("still pending: %+v", m.pending())
	}
	log := w.checkCommits("alice/m", "main")
	if n := len(log) - before; n != 1 {
		t.Errorf("%d commits, want 1", n)
	}
	if log[0].Title != "Add 3 files via hfmount" {
		t.Errorf("the title is %q", log[0].Title)
	}
	if log[0].batch() == "" {
		t.Errorf("the description names no batch: %q", log[0].Body)
	}
	if d := differences(committable(folder(t, m.path), nil), committable(w.clone("alice/m", "main"), nil)); d != "" {
		t.Error(d)
	}
}

// While commits land, readers always find every file, whole and with the size
// of what they read; what others commit elsewhere appears meanwhile.
func TestCommitsDoNotFlicker(t *testing.T) {
	w := newWriter(t, hubtest.Options{})
	w.seed("alice/m", writeSeed())
	m := w.writable("alice/m", "--refresh", "1s")
	const files, rounds = 6, 12
	name := func(i int) string { return fmt.Sprintf("f/%d.bin", i) }
	valid := make([]map[string]bool, files)
	var mu sync.Mutex
	body := func(i, round int) []byte { return noise(uint64(i*1000+round), 1000+200_000*(round%3)+i) }
	if err := os.Mkdir(m.join("f"), 0o755); err != nil {
		t.Fatal(err)
	}
	put := func(i, round int) {
		b := body(i, round)
		mu.Lock()
		valid[i][digest(b)] = true
		mu.Unlock()
		tmp := m.join(name(i) + ".tmp")
		if err := os.WriteFile(tmp, b, 0o644); err != nil {
			t.Error(err)
		}
		if err := os.Rename(tmp, m.join(name(i))); err != nil {
			t.Error(err)
		}
	}
	for i := range files {
		valid[i] = map[string]bool{}
		put(i, 0)
	}
	var stop atomic.Bool
	var reads atomic.Int64
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for i := 0; !stop.Load(); i = (i + 1) % files {
				got, err := os.ReadFile(m.join(name(i)))
				if err != nil {
					t.Errorf("reading during commits: %v", err)
					return
				}
				mu.Lock()
				ok := valid[i][digest(got)]
				mu.Unlock()
				if !ok {
					t.Errorf("%s: %d bytes that nobody wrote", name(i), len(got))
					return
				}
				list, err := os.ReadDir(m.join("f"))
				n := 0
				for _, e := range list {
					if strings.HasSuffix(e.Name(), ".bin") {
						n++
					}
				}
				if err != nil || n != files {
					t.Errorf("the listing shows %d of %d files: %v", n, files, err)
					return
				}
				reads.Add(1)
			}
		})
	}
	// An open file keeps its bytes through all of it.
	held, err := os.Open(m.join(name(0)))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	for round := 1; round <= rounds && !t.Failed(); round++ {
		for i := range files {
			if (i+round)%2 == 0 {
				put(i, round)
			}
		}
		if round%4 == 0 {
			w.seed("alice/m", map[string][]byte{"theirs.txt": fmt.Appendf(nil, "%d", round)})
		}
		m.send()
	}
	stop.Store(true)
	wg.Wait()
	if reads.Load() < 50 {
		t.Errorf("only %d reads happened meanwhile", reads.Load())
	}
	got := make([]byte, len(body(0, 0)))
	if _, err := held.ReadAt(got, 0); err != nil || !bytes.Equal(got, body(0, 0)) {
		t.Errorf("the open file changed: %v", err)
	}
	want := fmt.Sprint(rounds)
	if !eventually(20*time.Second, func() bool { b, err := os.ReadFile(m.join("theirs.txt")); return err == nil && string(b) == want }) {
		t.Error("what others committed does not appear")
	}
	if d := differences(committable(folder(t, m.path), nil), committable(w.clone("alice/m", "main"), nil)); d != "" {
		t.Error(d)
	}
	w.checkCommits("alice/m", "main")
}

// A file that is written again while it is uploaded is never committed with
// bytes of two generations.
func TestWrittenWhileUploading(t *testing.T) {
	again := map[string]string{
		"by write":       `fd = os.open("w.bin", os.O_RDWR); os.pwrite(fd, b"N" * 3000000, 10000000); os.close(fd)`,
		"by replacement": `open("t", "wb").write(b"N" * 3000000); os.rename("t", "w.bin")`,
		"by a mapping":   `fd = os.open("w.bin", os.O_RDWR); m = mmap.mmap(fd, 0); os.close(fd); m[10000000:13000000] = b"N" * 3000000; m.flush(); m.close()`,
		"by truncation":  `os.truncate("w.bin", 5000000)`,
		"by append":      `open("w.bin", "ab").write(b"N" * 3000000)`,
	}
	for name, script := range again {
		t.Run(name, func(t *testing.T) {
			w := newWriter(t, hubtest.Options{})
			w.seed("alice/m", writeSeed())
			m := w.writable("alice/m")
			first := noise(31, 16_000_000) // uploaded in the background, as it is large
			w.faults(hubtest.Fault{Method: "PUT", Fault: "delay", MS: 1500})
			if err := os.WriteFile(m.join("w.bin"), first, 0o644); err != nil {
				t.Fatal(err)
			}
			if !eventually(30*time.Second, func() bool { return w.hub.Faults()[0].Fired > 0 }) {
				t.Fatal("the upload does not begin")
			}
			w.mustPy(m.path, script)
			second, err := m.read("w.bin", time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			m.send()
			w.faults()
			if got := w.clone("alice/m", "main")["w.bin"]; got != digest(second) {
				t.Errorf("committed %s, want %s", got, digest(second))
			}
			for _, c := range w.checkCommits("alice/m", "main") {
				if got, ok := w.clone("alice/m", c.ID)["w.bin"]; ok && got != digest(first) && got != digest(second) {
					t.Errorf("commit %s has %s, which nobody wrote", c.ID, got)
				}
			}
			if got, err := m.read("w.bin", time.Minute); err != nil || !bytes.Equal(got, second) {
				t.Errorf("the mount shows something else afterwards: %v", err)
			}
		})
	}
}

// Commits go where the mount was told.
func TestWhereCommitsGo(t *testing.T) {
	put := func(m *mount) {
		m.t.Helper()
		if err := os.WriteFile(m.join("new.txt"), []byte("new"), 0o644); err != nil {
			m.t.Fatal(err)
		}
	}
	check := func(t *testing.T, w *writer, repo, rev string, want bool) {
		t.Helper()
		if got := w.clone(repo, rev)["new.txt"]; (got != "") != want {
			t.Errorf("%s@%s has new.txt: %v, want %v", repo, rev, got != "", want)
		}
	}
	t.Run("branch", func(t *testing.T) {
		w := newWriter(t, hubtest.Options{})
		w.seed("alice/m", writeSeed())
		w.post("/api/models/alice/m/branch/dev", `{}`)
		m := w.writable("alice/m@dev")
		put(m)
		m.send()
		check(t, w, "alice/m", "dev", true)
		check(t, w, "alice/m", "main", false)
	})
	t.Run("--create-branch", func(t *testing.T) {
		w := newWriter(t, hubtest.Options{})
		w.seed("alice/m", writeSeed())
		m := w.writable("alice/m@fresh", "--create-branch")
		if refs := w.git("alice/m", "for-each-ref"); strings.Contains(refs, "fresh") {
			t.Error("the branch was made before anything was committed")
		}
		put(m)
		m.send()
		check(t, w, "alice/m", "fresh", true)
		check(t, w, "alice/m", "main", false)
	})
	t.Run("--create-pr", func(t *testing.T) {
		w := newWriter(t, hubtest.Options{})
		w.seed("bob/m", writeSeed())
		m := w.writable("bob/m", "--create-pr")
		for _, text := range []string{"one", "two"} {
			if err := os.WriteFile(m.join("new.txt"), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			if r := m.hfmount("commit", m.path); r.code != 0 {
				t.Fatalf("commit: %s", r)
			}
		}
		check(t, w, "bob/m", "main", false)
		if got := w.clone("bob/m", "refs/pr/1")["new.txt"]; got != digest([]byte("two")) {
			t.Errorf("the pull request has %q", got)
		}
		if refs := w.git("bob/m", "for-each-ref", "refs/pr"); strings.Count(refs, "\n") != 1 {
			t.Errorf("more than one pull request:\n%s", refs)
		}
		if p := m.pending(); p.PullURL == "" {
			t.Error("status names no pull request")
		}
	})
	t.Run("no access", func(t *testing.T) {
		w := newWriter(t, hubtest.Options{})
		w.seed("bob/m", writeSeed())
		m := w.mount("bob/m")
		if p := m.pending(); !p.ReadOnly || p.Reason == "" {
			t.Errorf("somebody else's repository: %+v", p)
		}
	})
	t.Run("an empty repository", func(t *testing.T) {
		w := newWriter(t, hubtest.Options{})
		// As the Hub makes it, with a .gitattributes, and a branch without that.
		w.repo("alice/empty", hubtest.RepoOptions{})
		w.post("/api/models/alice/empty/branch/bare", `{"emptyBranch": true}`)
		for rev, shown := range map[string]int{"main": 1, "bare": 0} {
			m := w.writable("alice/empty@" + rev)
			if list, err := os.ReadDir(m.path); err != nil || len(list) != shown {
				t.Errorf("%s shows %v, %v", rev, list, err)
			}
			put(m)
			m.send()
			check(t, w, "alice/empty", rev, true)
			m.unmount()
		}
	})
	t.Run("--create-repo", func(t *testing.T) {
		w := newWriter(t, hubtest.Options{})
		w.seed("alice/m", writeSeed())
		m := w.mount("hf://", "--rw", "--create-repo")
		if err := os.Mkdir(m.join("alice", "made"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(m.join("alice", "made", "new.txt"), []byte("new"), 0o644); err != nil {
			t.Fatal(err)
		}
		m.send()
		check(t, w, "alice/made", "main", true)
		if r := w.command("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", w.srv.URL+"/api/models/alice/made"); r.stdout != "401" {
			t.Errorf("anonymous sees the new repository with %s, so it is public", r.stdout)
		}
	})
	t.Run("a folder of a repository", func(t *testing.T) {
		w := newWriter(t, hubtest.Options{})
		w.seed("alice/m", writeSeed())
		m := w.writable("alice/m/dir")
		put(m)
		m.send()
		if got := w.clone("alice/m", "main"); got["dir/new.txt"] == "" || got["text.txt"] == "" {
			t.Errorf("the branch has %v", got)
		}
	})
}

// Hard links are refused, as docs/SEMANTICS.md says.
func TestHardLinks(t *testing.T) {
	w := newWriter(t, hubtest.Options{})
	w.seed("alice/m", writeSeed())
	m := w.writable("alice/m")
	if out := w.mustPy(m.path, `tried(os.link, "text.txt", "l")`); out != "link EPERM\n" {
		t.Errorf("link: %s", out)
	}
	if p := m.pending(); p.Pending != 0 {
		t.Errorf("it left %+v", p.Changes)
	}
}
