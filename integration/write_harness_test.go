package integration

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"hfmount/remote/hub"
	"hfmount/remote/hubtest"
)

// writer is a world whose Hub is on disk, so that git has the last word on
// what was committed, and whose person is logged in as alice.
type writer struct {
	*world
	data string // the Hub's data directory
}

func newWriter(t *testing.T, o hubtest.Options) *writer {
	t.Helper()
	dir, err := os.MkdirTemp("", "hub")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	o.Dir = dir
	w := &writer{newWorld(t, o), dir}
	w.login("hf_alice")
	return w
}

// person is somebody else at the same Hub: another cache, the same account.
func (w *writer) person() *writer {
	p := &writer{newPerson(w.t, w.hub, w.srv, w.url), w.data}
	p.login("hf_alice")
	return p
}

// seed publishes the first files of a repository.
func (w *writer) seed(repo string, files map[string][]byte) hub.CommitID {
	w.t.Helper()
	return w.world.commit(repo, files)
}

// pending is what a writable mount says of itself beyond what a reader asks.
type pending struct {
	Commit     string `json:"commit"`
	ReadOnly   bool   `json:"read_only"`
	Reason     string `json:"read_only_reason"`
	Pending    int    `json:"pending"`
	LocalOnly  int    `json:"local_only"`
	Staged     int64  `json:"staged_bytes"`
	PID        int    `json:"pid"`
	Fetched    int64  `json:"bytes_fetched"`
	PullURL    string `json:"pull_request"`
	LastCommit *struct {
		ID      string `json:"id"`
		Message string `json:"message"`
	} `json:"last_commit"`
	LastError *struct {
		Path, Text, Hint string
	} `json:"last_error"`
	HeldBy []struct {
		Path string `json:"path"`
		PID  int    `json:"pid"`
	} `json:"held_by"`
	Changes []struct {
		Path   string `json:"path"`
		Op     string `json:"op"`
		Size   int64  `json:"size"`
		State  string `json:"state"`
		Reason string `json:"reason"`
	} `json:"changes"`
}

// state is the state of a path, "" if it has no change.
func (p pending) state(path string) string {
	for _, c := range p.Changes {
		if c.Path == path {
			return c.State
		}
	}
	return ""
}

// has reports whether some change is in a state.
func (p pending) has(state string) bool {
	for _, c := range p.Changes {
		if c.State == state {
			return true
		}
	}
	return false
}

// tryPending asks a mount that may be gone.
func (m *mount) tryPending() (pending, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "status", "--json", m.path)
	cmd.Env, cmd.Dir = m.env, m.dir
	out, err := cmd.Output()
	if err != nil {
		return pending{}, err
	}
	var all []pending
	if err := json.Unmarshal(out, &all); err != nil {
		return pending{}, err
	}
	if len(all) != 1 {
		return pending{}, fmt.Errorf("%d mounts at %s", len(all), m.path)
	}
	return all[0], nil
}

func (m *mount) pending() pending {
	m.t.Helper()
	p, err := m.tryPending()
	if err != nil {
		m.t.Fatalf("status --json %s: %v", m.path, err)
	}
	return p
}

// writable mounts and checks that it may be written to.
func (w *writer) writable(repo string, flags ...string) *mount {
	w.t.Helper()
	m := w.mount(repo, flags...)
	if p := m.pending(); p.ReadOnly {
		w.t.Fatalf("%s is mounted read-only: %s", repo, p.Reason)
	}
	return m
}

// send runs "hfmount commit", which must leave nothing behind.
func (m *mount) send(flags ...string) {
	m.t.Helper()
	r := m.hfmount(append(append([]string{"commit", "--yes"}, flags...), m.path)...)
	if r.code != 0 {
		m.t.Fatalf("commit: %s\n%+v", r, m.pending())
	}
	if p := m.pending(); p.Pending != 0 {
		m.t.Fatalf("after commit %d changes are pending: %+v", p.Pending, p.Changes)
	}
}

// git runs git on a repository of the Hub.
func (w *writer) git(repo string, args ...string) string {
	w.t.Helper()
	dir := filepath.Join(w.data, "repos", named(repo).Type.Plural(), filepath.FromSlash(named(repo).ID())+".git")
	return w.must("git", append([]string{"--git-dir=" + dir}, args...)...)
}

var pointer = regexp.MustCompile(`^version https://git-lfs.github.com/spec/v1\noid sha256:([0-9a-f]{64})\nsize (\d+)\n$`)

// clone is what a fresh clone of a branch holds, by path, as [digest] writes it.
func (w *writer) clone(repo, rev string) map[string]string {
	w.t.Helper()
	got := map[string]string{}
	for _, line := range strings.Split(w.git(repo, "ls-tree", "-r", "-z", rev), "\x00") {
		if line == "" {
			continue
		}
		meta, path, _ := strings.Cut(line, "\t")
		f := strings.Fields(meta)
		got[path] = w.blob(repo, f[2])
	}
	return got
}

// blob is the digest of a git blob; of an LFS pointer that of its object, which
// must be in the store and have the hash that the pointer says.
func (w *writer) blob(repo, oid string) string {
	w.t.Helper()
	data := []byte(w.git(repo, "cat-file", "blob", oid))
	m := pointer.FindSubmatch(data)
	if m == nil {
		return digest(data)
	}
	sha := string(m[1])
	f, err := os.Open(filepath.Join(w.data, "lfs", sha[:2], sha[2:4], sha))
	if err != nil {
		w.t.Fatalf("the object of a pointer: %v", err)
	}
	defer f.Close()
	d, err := digestOf(f)
	if err != nil {
		w.t.Fatal(err)
	}
	if want := string(m[2]) + " " + sha; d != want {
		w.t.Fatalf("the pointer says %s, the object is %s", want, d)
	}
	return d
}

// digest is size and hash of bytes.
func digest(b []byte) string { return strconv.Itoa(len(b)) + " " + sum(b) }

func digestOf(r io.Reader) (string, error) {
	h := sha256.New()
	n, err := io.Copy(h, r)
	return strconv.FormatInt(n, 10) + " " + hex.EncodeToString(h.Sum(nil)), err
}

// folder describes everything beneath a directory: files by digest,
// directories as "dir", symbolic links by target. Left out are .gitattributes,
// which the Hub itself edits, and git's index, which holds inode numbers.
func folder(t *testing.T, dir string) map[string]string {
	t.Helper()
	got := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d iofs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil || rel == "." || rel == ".gitattributes" || rel == ".git/index" {
			return err
		}
		switch {
		case d.IsDir():
			got[rel] = "dir"
		case d.Type()&iofs.ModeSymlink != 0:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			got[rel] = "-> " + target
		default:
			f, err := os.Open(p)
			if err != nil {
				return err
			}
			defer f.Close()
			if got[rel], err = digestOf(f); err != nil {
				return fmt.Errorf("%s: %w", rel, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("reading %s: %v", dir, err)
	}
	return got
}

// committable is the part of a folder that belongs on the Hub.
func committable(files map[string]string, local *regexp.Regexp) map[string]string {
	got := map[string]string{}
	for p, d := range files {
		if d == "dir" || strings.HasPrefix(d, "-> ") || p == ".gitattributes" || local != nil && local.MatchString(p) {
			continue
		}
		got[p] = d
	}
	return got
}

// differences lists what two descriptions disagree on, in order.
func differences(want, got map[string]string) string {
	var paths []string
	for p := range want {
		paths = append(paths, p)
	}
	for p := range got {
		if _, ok := want[p]; !ok {
			paths = append(paths, p)
		}
	}
	slices.Sort(paths)
	var b strings.Builder
	for _, p := range paths {
		a, b1 := want[p], got[p]
		if a != b1 {
			if a == "" {
				a = "nothing"
			}
			if b1 == "" {
				b1 = "nothing"
			}
			fmt.Fprintf(&b, "%s: want %s, got %s\n", p, a, b1)
		}
	}
	return b.String()
}

// logged is one commit as git shows it.
type logged struct {
	ID, Tree, Title, Body string
	Parents               []string
}

// batch is the marker that makes a commit of ours recognisable.
var batchLine = regexp.MustCompile(`(?m)^Hfmount-Batch: (\S+)$`)

func (c logged) batch() string {
	if m := batchLine.FindStringSubmatch(c.Body); m != nil {
		return m[1]
	}
	return ""
}

// log returns the commits of a branch, newest first.
func (w *writer) log(repo, rev string) []logged {
	w.t.Helper()
	var all []logged
	for _, rec := range strings.Split(w.git(repo, "log", "-z", "--format=%H%x01%T%x01%P%x01%s%x01%b", rev), "\x00") {
		f := strings.SplitN(rec, "\x01", 5)
		if len(f) == 5 {
			all = append(all, logged{ID: f[0], Tree: f[1], Parents: strings.Fields(f[2]), Title: f[3], Body: f[4]})
		}
	}
	return all
}

// checkLog fails the test for commits that changed nothing, and for batches
// that were committed twice.
func (w *writer) checkCommits(repo, rev string) []logged {
	w.t.Helper()
	all := w.log(repo, rev)
	trees, batches := map[string]string{}, map[string]string{}
	for _, c := range all {
		trees[c.ID] = c.Tree
	}
	for _, c := range all {
		b := c.batch()
		if b == "" {
			continue
		}
		if other, ok := batches[b]; ok {
			w.t.Errorf("batch %s was committed twice: %s and %s", b, c.ID, other)
		}
		batches[b] = c.ID
		if len(c.Parents) == 1 && trees[c.Parents[0]] == c.Tree {
			w.t.Errorf("commit %s (%s) changed nothing", c.ID, c.Title)
		}
	}
	return all
}

// child is a long-lived subprocess that is spoken to in lines.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	err bytes.Buffer
}

// reexec starts this test program in one of its other roles.
func (w *world) reexec(role string, args ...string) *child {
	w.t.Helper()
	self, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	c := &child{cmd: exec.Command(self, args...)}
	c.cmd.Env, c.cmd.Dir = append(w.env[:len(w.env):len(w.env)], "HFMOUNT_TEST_ROLE="+role), w.dir
	c.cmd.Stderr = &c.err
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		w.t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	c.out = bufio.NewReaderSize(out, 1<<20)
	if err := c.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	return c
}
