package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"

	"hfmount/remote/hub"
	"hfmount/remote/hubtest"
)

// commandTimeout bounds every subprocess: nothing here may hang.
const commandTimeout = 3 * time.Minute

// named reads "ns/name", "datasets/ns/name" or a canonical "name".
func named(id string) hub.Repo {
	var r hub.Repo
	if rest, ok := strings.CutPrefix(id, "datasets/"); ok {
		r.Type, id = hub.Dataset, rest
	}
	if ns, name, ok := strings.Cut(id, "/"); ok {
		r.Namespace, r.Name = ns, name
	} else {
		r.Name = id
	}
	return r
}

// world is a Hub and one person's directories: home, cache, runtime.
type world struct {
	t    *testing.T
	hub  *hubtest.Hub
	srv  *hubtest.Server
	url  string // what HF_ENDPOINT is; srv.URL unless something stands in front
	dir  string // short, so that sockets below it have valid names
	env  []string
	made map[string]bool
	seen int // mounts made, for names
}

// newWorld starts a Hub with the accounts alice and bob. Nobody is logged in.
func newWorld(t *testing.T, o hubtest.Options) *world {
	t.Helper()
	if o.Users == nil {
		o.Users = []hubtest.User{{Name: "alice", Token: "hf_alice"}, {Name: "bob", Token: "hf_bob"}}
	}
	h, err := hubtest.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	srv, err := h.Listen("127.0.0.1:0", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { srv.Close() })
	t.Cleanup(func() {
		if n := h.Stats().LeakedTokens; n > 0 {
			t.Errorf("%d requests carried a token to the CDN", n)
		}
	})
	return newPerson(t, h, srv, srv.URL)
}

func newPerson(t *testing.T, h *hubtest.Hub, srv *hubtest.Server, url string) *world {
	t.Helper()
	dir, err := os.MkdirTemp("", "hfm")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, hub: h, srv: srv, url: url, dir: dir}
	t.Cleanup(func() {
		if t.Failed() && os.Getenv("HFMOUNT_TEST_KEEP") != "" {
			t.Logf("kept %s", dir)
			return
		}
		// Copies of a mount have its mode bits: folders that cannot be changed.
		exec.Command("chmod", "-R", "u+rwX", dir).Run()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	for _, d := range []string{"home", "run"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	w.env = append(os.Environ(), "HOME="+dir+"/home", "HF_HOME="+dir+"/home/hf",
		"XDG_RUNTIME_DIR="+dir+"/run", "HF_ENDPOINT="+url)
	return w
}

// login makes what follows use a token.
func (w *world) login(token string) { w.env = append(w.env, "HF_TOKEN="+token) }

// commit publishes files on main, making the repository if need be.
func (w *world) commit(repo string, files map[string][]byte) hub.CommitID {
	w.t.Helper()
	w.repo(repo, hubtest.RepoOptions{})
	id, err := w.hub.Commit(named(repo), "main", "commit", files)
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

// synthetic publishes made-up files on main, making the repository if need be.
func (w *world) synthetic(repo string, files map[string]hubtest.Synthetic) hub.CommitID {
	w.t.Helper()
	w.repo(repo, hubtest.RepoOptions{})
	id, err := w.hub.CommitSynthetic(named(repo), "main", "synthetic", files)
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

// repo makes a repository where it is missing.
func (w *world) repo(repo string, o hubtest.RepoOptions) {
	w.t.Helper()
	if w.made == nil {
		w.made = map[string]bool{}
	}
	if w.made[repo] {
		return
	}
	w.made[repo] = true
	if err := w.hub.CreateRepo(named(repo), o); err != nil {
		w.t.Fatal(err)
	}
}

// faults replaces the Hub's rules.
func (w *world) faults(rules ...hubtest.Fault) {
	w.t.Helper()
	if err := w.hub.SetFaults(rules...); err != nil {
		w.t.Fatal(err)
	}
}

// mustHaveFired takes the rules away and checks that each fired at least n times.
func (w *world) mustHaveFired(n int) {
	w.t.Helper()
	rules := w.hub.Faults()
	if len(rules) == 0 {
		w.t.Error("no fault was set")
	}
	for _, r := range rules {
		if r.Fired < n {
			w.t.Errorf("fault %s (%s %s) fired %d times, want at least %d", r.Fault, r.Method, r.Path, r.Fired, n)
		}
	}
	if err := w.hub.SetFaults(); err != nil {
		w.t.Fatal(err)
	}
}

// result is what a subprocess did.
type result struct {
	stdout, stderr string
	code           int
}

func (r result) String() string {
	return fmt.Sprintf("exit %d\n--- stdout\n%s--- stderr\n%s", r.code, r.stdout, r.stderr)
}

// command runs a program to its end in the person's environment.
func (w *world) command(name string, args ...string) result {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env, cmd.Dir = w.env, w.dir
	cmd.WaitDelay = 5 * time.Second
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if ctx.Err() != nil {
		w.t.Fatalf("%s %s: still running after %s\n%s", name, strings.Join(args, " "), commandTimeout, errs.String())
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		w.t.Fatalf("%s: %v", name, err)
	}
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// hfmount runs the program under test.
func (w *world) hfmount(args ...string) result {
	w.t.Helper()
	return w.command(binary, args...)
}

// must runs a program that has to succeed, and returns its standard output.
func (w *world) must(name string, args ...string) string {
	w.t.Helper()
	r := w.command(name, args...)
	if r.code != 0 {
		w.t.Fatalf("%s %s: %s", name, strings.Join(args, " "), r)
	}
	return r.stdout
}

// post sends JSON, or the lines of a commit, to the Hub as alice.
func (w *world) post(path, body string) string {
	w.t.Helper()
	kind := "application/json"
	if strings.Contains(path, "/commit/") {
		kind = "application/x-ndjson"
	}
	return w.must("curl", "-sS", "--fail-with-body", "-X", "POST", "-H", "Authorization: Bearer hf_alice",
		"-H", "Content-Type: "+kind, "--data-binary", body, w.srv.URL+path)
}

// mount is a mounted directory and its daemon.
type mount struct {
	*world
	path string
	log  string // file
	pid  int
	gone bool // unmounted or killed: nothing to clean up
	// allow are log lines at level WARN or ERROR that the test provokes.
	allow *regexp.Regexp
}

// mount mounts repo on a new directory. At the end of the test it is
// unmounted, and its log must be free of warnings.
func (w *world) mount(repo string, flags ...string) *mount {
	w.t.Helper()
	w.seen++
	m := &mount{world: w, path: fmt.Sprintf("%s/m%d", w.dir, w.seen), log: fmt.Sprintf("%s/m%d.log", w.dir, w.seen)}
	if err := os.Mkdir(m.path, 0o755); err != nil {
		w.t.Fatal(err)
	}
	args := append([]string{"mount", "--log-file", m.log}, flags...)
	r := w.hfmount(append(args, repo, m.path)...)
	if r.code != 0 {
		logged, _ := os.ReadFile(m.log)
		w.t.Fatalf("mount %s %v: %s--- log\n%s", repo, flags, r, logged)
	}
	w.t.Cleanup(m.cleanup)
	m.pid = m.status().PID
	return m
}

// status is what "status --json" says of one mount.
type status struct {
	Mountpoint string `json:"mountpoint"`
	Repo       string `json:"repo"`
	Revision   string `json:"revision"`
	Commit     string `json:"commit"`
	ReadOnly   bool   `json:"read_only"`
	PID        int    `json:"pid"`
	Online     bool   `json:"online"`
	Cache      struct {
		MemoryBytes int64 `json:"memory_bytes"`
		DiskBytes   int64 `json:"disk_bytes"`
		Hits        int64 `json:"hits"`
		Misses      int64 `json:"misses"`
	} `json:"cache"`
	Passthrough bool             `json:"passthrough"`
	Requests    map[string]int64 `json:"requests"`
	Bytes       int64            `json:"bytes_fetched"`
	LastError   *struct {
		Text string `json:"text"`
	} `json:"last_error"`
}

func (m *mount) status() status {
	m.t.Helper()
	r := m.hfmount("status", "--json", m.path)
	var all []status
	if err := json.Unmarshal([]byte(r.stdout), &all); err != nil || len(all) != 1 || r.code != 0 {
		m.t.Fatalf("status --json %s: %v: %s", m.path, err, r)
	}
	return all[0]
}

// unmount unmounts and waits until the daemon has ended.
func (m *mount) unmount() {
	m.t.Helper()
	if r := m.hfmount("unmount", "--timeout", "30s", m.path); r.code != 0 {
		m.t.Fatalf("unmount: %s", r)
	}
	if mounted, _ := mountinfo.Mounted(m.path); mounted {
		m.t.Fatal("still mounted after unmount")
	}
	m.gone = true
	if !eventually(10*time.Second, func() bool { return !alive(m.pid) }) {
		m.t.Errorf("the daemon %d lives on after unmount", m.pid)
	}
	m.checkLog()
}

// kill ends the daemon as a crash would; the mount point stays, dead.
func (m *mount) kill() {
	m.t.Helper()
	if err := syscall.Kill(m.pid, syscall.SIGKILL); err != nil {
		m.t.Fatal(err)
	}
	if !eventually(10*time.Second, func() bool { return !alive(m.pid) }) {
		m.t.Fatalf("the daemon %d survived SIGKILL", m.pid)
	}
}

// detach takes a dead mount away.
func (m *mount) detach() {
	m.gone = true
	for range 3 {
		if !listed(m.path) {
			return
		}
		exec.Command("fusermount3", "-u", "-z", m.path).Run()
	}
	m.t.Errorf("cannot detach %s", m.path)
}

// listed asks the kernel's list whether dir is a mount: the directory of a dead
// one cannot be asked.
func listed(dir string) bool {
	list, _ := os.ReadFile("/proc/self/mountinfo")
	return bytes.Contains(list, []byte(" "+dir+" "))
}

func (m *mount) cleanup() {
	if m.gone {
		return
	}
	if r := m.hfmount("unmount", "--timeout", "20s", m.path); r.code != 0 {
		m.t.Errorf("unmount at the end: %s", r)
		syscall.Kill(m.pid, syscall.SIGKILL)
		m.detach()
	}
	if !eventually(10*time.Second, func() bool { return !alive(m.pid) }) {
		m.t.Errorf("the daemon %d lives on after unmount", m.pid)
		syscall.Kill(m.pid, syscall.SIGKILL)
	}
	m.checkLog()
}

var badLog = regexp.MustCompile(`(?i)level=(warn|error)|\b(WARN|ERROR)\b|panic|DATA RACE|"level":"(WARN|ERROR)"`)

// checkLog fails the test for lines it did not provoke.
func (m *mount) checkLog() {
	m.t.Helper()
	logged, err := os.ReadFile(m.log)
	if err != nil {
		m.t.Errorf("the log: %v", err)
	}
	for line := range strings.Lines(string(logged)) {
		if badLog.MatchString(line) && (m.allow == nil || !m.allow.MatchString(line)) {
			m.t.Errorf("logged: %s", strings.TrimSpace(line))
		}
	}
	if bytes.Contains(logged, []byte("hf_alice")) || bytes.Contains(logged, []byte("Signature=")) {
		m.t.Error("the log holds a secret")
	}
}

// join names a path inside the mount.
func (m *mount) join(elem ...string) string {
	return filepath.Join(append([]string{m.path}, elem...)...)
}

// read reads a file of the mount; within is how long that may take.
func (m *mount) read(name string, within time.Duration) ([]byte, error) {
	type answer struct {
		data []byte
		err  error
	}
	got := make(chan answer, 1)
	go func() {
		data, err := os.ReadFile(m.join(name))
		got <- answer{data, err}
	}()
	select {
	case a := <-got:
		return a.data, a.err
	case <-time.After(within):
		return nil, fmt.Errorf("no answer within %s", within)
	}
}

// alive reports whether pid runs; a zombie does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

// memory returns the present and the highest resident set in bytes.
func (m *mount) memory() (now, peak int64) {
	m.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.pid))
	if err != nil {
		m.t.Fatal(err)
	}
	field := func(name string) int64 {
		for line := range strings.Lines(string(text)) {
			if rest, ok := strings.CutPrefix(line, name+":"); ok {
				kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
				if err != nil {
					m.t.Fatal(err)
				}
				return kb << 10
			}
		}
		m.t.Fatalf("no %s of the daemon", name)
		return 0
	}
	return field("VmRSS"), field("VmHWM")
}

// eventually polls until f is true, at most for d.
func eventually(d time.Duration, f func() bool) bool {
	for end := time.Now().Add(d); ; time.Sleep(20 * time.Millisecond) {
		if f() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

// noise is deterministic content that does not compress.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	if _, err := io.ReadFull(io.NewSectionReader(hubtest.Synthetic{Size: int64(n), Seed: seed}.ReaderAt(), 0, int64(n)), b); err != nil {
		panic(err)
	}
	return b
}
