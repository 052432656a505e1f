package integration

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"hfmount/remote/hubtest"
)

// Each failure has its exit code, says what is wrong in one line, and mounts nothing.
func TestMountErrors(t *testing.T) {
	w := newWorld(t, hubtest.Options{})
	w.commit("alice/sample", map[string][]byte{"f.txt": []byte("x")})
	w.repo("alice/secret", hubtest.RepoOptions{Private: true})
	w.repo("alice/gated", hubtest.RepoOptions{Gated: "manual"})
	const dir = "DIR" // stands for a fresh directory
	full := mkdir(t, w, "full")
	if err := os.WriteFile(full+"/x", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	unreachable := "http://" + nobody.Addr().String()
	nobody.Close()

	for _, test := range []struct {
		name  string
		args  []string
		token string
		code  int
		says  []string // all of them, ignoring case
	}{
		{"unknown repository", []string{"alice/nothing", dir}, "hf_bob", 4, []string{"alice/nothing"}},
		{"unknown revision", []string{"alice/sample@nothing", dir}, "", 4, []string{"nothing"}},
		{"unknown path", []string{"alice/sample/nothing", dir}, "", 4, []string{"nothing"}},
		{"private, no token", []string{"alice/secret", dir}, "", 5, []string{"HF_TOKEN"}},
		{"private, another's token", []string{"alice/secret", dir}, "hf_bob", 4, []string{"alice/secret"}},
		{"unknown repository, no token", []string{"alice/nothing", dir}, "", 5, []string{"HF_TOKEN"}},
		{"gated, no token", []string{"alice/gated", dir}, "", 5, []string{"gated"}},
		{"gated", []string{"alice/gated", dir}, "hf_bob", 5, []string{"gated", "alice/gated"}},
		{"bad token", []string{"alice/sample", dir}, "hf_wrong", 5, []string{"token"}},
		{"unreachable", []string{"--endpoint", unreachable, "--read-timeout", "2s", "alice/sample", dir}, "", 6, []string{unreachable}},
		{"DIR does not exist", []string{"alice/sample", dir + "/none"}, "", 1, []string{"none"}},
		{"DIR is a file", []string{"alice/sample", full + "/x"}, "", 1, []string{"directory"}},
		{"DIR is not empty", []string{"alice/sample", full}, "", 1, []string{"empty"}},
		{"REPO is a file", []string{"alice/sample/f.txt", dir}, "", 1, []string{"directory"}},
		{"no DIR", []string{"alice/sample"}, "", 2, nil},
		{"bad flag", []string{"--no-such-flag", "alice/sample", dir}, "", 2, nil},
		{"bad size", []string{"--memory", "many", "alice/sample", dir}, "", 2, nil},
		{"bad REPO", []string{"a//b", dir}, "", 2, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newPerson(t, w.hub, w.srv, w.url)
			if test.token != "" {
				w.login(test.token)
			}
			fresh := mkdir(t, w, "m")
			args := []string{"mount"}
			for _, arg := range test.args {
				args = append(args, strings.Replace(arg, dir, fresh, 1))
			}
			begin := time.Now()
			r := w.hfmount(args...)
			if r.code != test.code {
				t.Errorf("want exit %d: %s", test.code, r)
			}
			if took := time.Since(begin); took > 100*time.Second {
				t.Errorf("took %s", took)
			}
			if test.code != 2 && !strings.Contains(r.stderr, "hfmount: ") {
				t.Errorf("no hfmount: line: %s", r)
			}
			for _, s := range test.says {
				if !strings.Contains(strings.ToLower(r.stderr), strings.ToLower(s)) {
					t.Errorf("does not say %q: %s", s, r)
				}
			}
			if strings.Contains(r.stderr, "goroutine ") {
				t.Errorf("a panic: %s", r)
			}
			if mounts(t, fresh) {
				t.Error("something was mounted")
				w.hfmount("unmount", fresh)
			}
		})
	}
}

func mounts(t *testing.T, dir string) bool {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(text), " "+dir+" ")
}

func TestAlreadyMounted(t *testing.T) {
	w := newWorld(t, hubtest.Options{})
	w.commit("alice/sample", map[string][]byte{"f": []byte("x")})
	m := w.mount("alice/sample")
	r := w.hfmount("mount", "alice/sample", m.path)
	if r.code != 1 || !strings.Contains(r.stderr, "already") || !strings.Contains(r.stderr, "hfmount unmount") {
		t.Errorf("mounting twice: %s", r)
	}
	if got, err := os.ReadFile(m.join("f")); err != nil || string(got) != "x" {
		t.Errorf("the first mount: %q, %v", got, err)
	}
	m.unmount()
	if r := w.hfmount("unmount", m.path); r.code == 0 || r.code == 3 || !strings.Contains(r.stderr, "not mounted") && !strings.Contains(r.stderr, "not a mount") && !strings.Contains(r.stderr, "nothing is mounted") {
		t.Errorf("unmounting what is not mounted: %s", r)
	}
}

// After kill -9 the mount point is dead. Mounting there names the fix, unmount
// is the fix, and status lists no ghosts.
func TestStaleMount(t *testing.T) {
	w := newWorld(t, hubtest.Options{})
	w.commit("alice/sample", map[string][]byte{"f": []byte("x")})
	m := w.mount("alice/sample")
	m.kill()
	if r := w.hfmount("mount", "alice/sample", m.path); r.code != 1 || !strings.Contains(r.stderr, "unmount") {
		t.Errorf("mounting over a dead mount: %s", r)
	}
	if r := w.hfmount("status", "--json"); r.code != 0 || strings.Contains(r.stdout, strconv.Itoa(m.pid)) {
		t.Errorf("status lists a dead daemon: %s", r)
	}
	if r := w.hfmount("unmount", m.path); r.code != 0 {
		t.Errorf("unmount of a dead mount: %s", r)
		m.detach()
	}
	m.gone = true
	if mounts(t, m.path) {
		t.Error("still mounted")
	}
	if r := w.hfmount("mount", "alice/sample", m.path); r.code != 0 {
		t.Fatalf("mounting again: %s", r)
	}
	m.must(binary, "unmount", m.path)
}

// A mount in use is not torn down; the message names who uses it.
func TestUnmountBusy(t *testing.T) {
	w := newWorld(t, hubtest.Options{})
	w.commit("alice/sample", map[string][]byte{"d/f": []byte("x")})
	m := w.mount("alice/sample")
	holder := exec.Command("sleep", "60")
	holder.Dir = m.join("d")
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	r := w.hfmount("unmount", "--timeout", "1s", m.path)
	if r.code != 1 || !strings.Contains(r.stderr, strconv.Itoa(holder.Process.Pid)) {
		t.Errorf("want exit 1 and PID %d: %s", holder.Process.Pid, r)
	}
	if got, err := os.ReadFile(m.join("d/f")); err != nil || string(got) != "x" {
		t.Errorf("a busy mount no longer works: %q, %v", got, err)
	}
	holder.Process.Kill()
	holder.Wait()
	m.unmount()
}

// Every field of cli.md is there, with its type.
func TestStatusJSON(t *testing.T) {
	w := newWorld(t, hubtest.Options{})
	commit := w.commit("alice/sample", sample())
	// Other tests may have mounts of their own.
	if r := w.hfmount("status", "--json"); r.code != 0 || !strings.HasPrefix(r.stdout, "[") || strings.Contains(r.stdout, w.dir) {
		t.Errorf("no mounts: %s", r)
	}
	m := w.mount("alice/sample")
	if _, err := os.ReadFile(m.join("weights.bin")); err != nil {
		t.Fatal(err)
	}
	r := w.hfmount("status", "--json", m.path)
	var all []map[string]any
	if err := json.Unmarshal([]byte(r.stdout), &all); err != nil || len(all) != 1 {
		t.Fatalf("%v: %s", err, r)
	}
	got := all[0]
	number, text, boolean, list, object := 0.0, "", false, []any{}, map[string]any{}
	for field, like := range map[string]any{
		"mountpoint": text, "repo": text, "revision": text, "commit": text, "read_only": boolean,
		"read_only_reason": text, "pid": number, "version": text, "endpoint": text, "online": boolean,
		"pending": number, "changes": list, "local_only": number, "held_by": list, "staged_bytes": number,
		"last_commit": nil, "pull_request": nil, "last_error": nil, "cache": object, "passthrough": boolean,
		"requests": object, "bytes_fetched": number,
	} {
		value, ok := got[field]
		if !ok {
			t.Errorf("%s is missing", field)
			continue
		}
		same := false
		switch like.(type) {
		case float64:
			_, same = value.(float64)
		case string:
			_, same = value.(string)
		case bool:
			_, same = value.(bool)
		case []any:
			_, same = value.([]any)
		case map[string]any:
			_, same = value.(map[string]any)
		case nil:
			same = value == nil
		}
		if !same {
			t.Errorf("%s is %#v", field, value)
		}
	}
	for field, want := range map[string]any{
		"mountpoint": m.path, "repo": "alice/sample", "revision": "main", "commit": string(commit),
		"read_only": true, "online": true, "endpoint": w.url,
	} {
		if got[field] != want {
			t.Errorf("%s is %v, want %v", field, got[field], want)
		}
	}
	for object, fields := range map[string][]string{
		"cache":    {"memory_bytes", "disk_bytes", "hits", "misses"},
		"requests": {"api", "resolvers", "pages", "cdn"},
	} {
		inner, _ := got[object].(map[string]any)
		for _, field := range fields {
			if _, ok := inner[field].(float64); !ok {
				t.Errorf("%s.%s is %v", object, field, inner[field])
			}
		}
	}
	if n := m.status().Bytes; n < 21_000_001 || n > 40_000_000 {
		t.Errorf("bytes_fetched is %d after reading 21 MB", n)
	}
	if out := w.must(binary, "status"); !strings.Contains(out, m.path) || !strings.Contains(out, "alice/sample") {
		t.Errorf("status for people: %s", out)
	}
}

// An error of a --json mode is one object on standard error.
func TestErrorJSON(t *testing.T) {
	w := newWorld(t, hubtest.Options{})
	r := w.hfmount("status", "--json", w.dir)
	var e struct{ Error, Hint, Code string }
	if err := json.Unmarshal([]byte(r.stderr), &e); err != nil || e.Error == "" || e.Code == "" || r.code == 0 {
		t.Errorf("%v: %s", err, r)
	}
}

// In the foreground, an interrupt unmounts and ends well.
func TestForeground(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		w := newWorld(t, hubtest.Options{})
		w.commit("alice/sample", map[string][]byte{"f": []byte("x")})
		dir := mkdir(t, w, "fg")
		cmd := exec.Command(binary, "mount", "-f", "alice/sample", dir)
		cmd.Env = w.env
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if !eventually(20*time.Second, func() bool { got, _ := os.ReadFile(dir + "/f"); return string(got) == "x" }) {
			t.Error("the mount never answered")
		}
		cmd.Process.Signal(sig)
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("%s: %v", sig, err)
			}
		case <-time.After(20 * time.Second):
			t.Errorf("%s did not end it", sig)
			cmd.Process.Kill()
			<-done
		}
		if mounts(t, dir) {
			t.Errorf("%s left the mount", sig)
			exec.Command("fusermount3", "-u", "-z", dir).Run()
		}
	}
}

// No-open mode serves the same bytes.
func TestNoOpenMode(t *testing.T) {
	w := newWorld(t, hubtest.Options{})
	w.commit("alice/sample", sample())
	native := w.native("alice/sample", sample())
	m := w.mount("alice/sample", "--open-mode", "noopen")
	for range 2 {
		w.must("diff", "-r", native, m.path)
	}
}

// Owner and mode bits follow the flags.
func TestOwnerAndMode(t *testing.T) {
	w := newWorld(t, hubtest.Options{})
	w.commit("alice/sample", map[string][]byte{"d/f": []byte("x")})
	m := w.mount("alice/sample", "--uid", "12", "--gid", "34", "--umask", "0070")
	if out := w.must("stat", "-c", "%u %g %a %F", m.join("d"), m.join("d/f")); out != "12 34 505 directory\n12 34 404 regular file\n" {
		t.Errorf("stat: %q", out)
	}
	plain := w.mount("alice/sample")
	want := strconv.Itoa(os.Getuid()) + " " + strconv.Itoa(os.Getgid())
	if out := w.must("stat", "-c", "%u %g %a", plain.join("d"), plain.join("d/f")); out != want+" 555\n"+want+" 444\n" {
		t.Errorf("stat: %q", out)
	}
	if out := w.must("findmnt", "-n", "-o", "FSTYPE", "-T", plain.path); strings.TrimSpace(out) != "fuse.hfmount" {
		t.Errorf("type: %q", out)
	}
}

// A whole-file read is complete in the cache, so a second open is native
// where the kernel allows it; the bytes are the same either way.
func TestPassthroughServesTheSameBytes(t *testing.T) {
	w := newWorld(t, hubtest.Options{})
	file := hubtest.Synthetic{Size: 50_000_001, Seed: 50}
	w.synthetic("alice/big", map[string]hubtest.Synthetic{"w.bin": file})
	m := w.mount("alice/big")
	t.Logf("passthrough: %v", m.status().Passthrough)
	for range 3 {
		if out := w.must("sha256sum", m.join("w.bin")); !strings.HasPrefix(out, file.SHA256()) {
			t.Errorf("w.bin: %s", out)
		}
	}
	w.hub.ResetStats()
	w.must("sha256sum", m.join("w.bin"))
	if n := w.hub.Stats().Quota["cdn"]; n != 0 {
		t.Errorf("a complete file cost %d requests", n)
	}
}
