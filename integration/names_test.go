package integration

import (
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hfmount/remote/hubtest"
)

func isErrno(err error, want syscall.Errno) bool { return errors.Is(err, want) }

func xattr(path, name string) (string, error) {
	buf := make([]byte, 4096)
	n, err := unix.Lgetxattr(path, name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

func xattrNames(path string) ([]string, error) {
	buf := make([]byte, 4096)
	n, err := unix.Llistxattr(path, buf)
	if err != nil {
		return nil, err
	}
	names := strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00")
	slices.Sort(names)
	return names, nil
}

func blobID(b []byte) string {
	h := sha1.Sum(fmt.Appendf(nil, "blob %d\x00%s", len(b), b))
	return hex.EncodeToString(h[:])
}

func TestExtendedAttributes(t *testing.T) {
	w := newWorld(t, hubtest.Options{})
	files := sample()
	commit := string(w.commit("alice/sample", files))
	m := w.mount("alice/sample")

	want := map[string]map[string]string{
		"README.md": {"user.hf.repo": "alice/sample", "user.hf.revision": "main", "user.hf.commit": commit,
			"user.hf.oid": blobID(files["README.md"])},
		"weights.bin": {"user.hf.repo": "alice/sample", "user.hf.revision": "main", "user.hf.commit": commit,
			"user.hf.sha256": sum(files["weights.bin"])},
		"dir": {"user.hf.repo": "alice/sample", "user.hf.revision": "main", "user.hf.commit": commit},
		".":   {"user.hf.repo": "alice/sample", "user.hf.revision": "main", "user.hf.commit": commit},
	}
	for name, attrs := range want {
		listed, err := xattrNames(m.join(name))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for attr, value := range attrs {
			if got, err := xattr(m.join(name), attr); err != nil || got != value {
				t.Errorf("%s %s: %q, %v; want %q", name, attr, got, err, value)
			}
			if !slices.Contains(listed, attr) {
				t.Errorf("%s lists %v, without %s", name, listed, attr)
			}
		}
	}
	if got, _ := xattr(m.join("weights.bin"), "user.hf.url"); !strings.HasPrefix(got, w.srv.URL+"/alice/sample/") || !strings.HasSuffix(got, "/weights.bin") {
		t.Errorf("user.hf.url: %q", got)
	}
	for _, absent := range []string{"user.hf.sha256", "user.hf.nothing", "user.other", "security.selinux"} {
		if _, err := xattr(m.join("README.md"), absent); !isErrno(err, syscall.ENODATA) && !isErrno(err, syscall.ENOTSUP) {
			t.Errorf("%s: %v, want ENODATA", absent, err)
		}
	}
	if _, err := unix.Lgetxattr(m.join("README.md"), "user.hf.commit", make([]byte, 3)); !isErrno(err, syscall.ERANGE) {
		t.Errorf("a buffer too small: %v, want ERANGE", err)
	}
	if out := w.must("getfattr", "-d", "-m", "user.hf", "--absolute-names", m.join("weights.bin")); !strings.Contains(out, sum(files["weights.bin"])) {
		t.Errorf("getfattr: %s", out)
	}
}

// hubOfNames has models, a dataset, a tag, a branch with a slash, a pull
// request, a renamed and a canonical repository.
func hubOfNames(t *testing.T) *world {
	w := newWorld(t, hubtest.Options{})
	w.commit("alice/sample", map[string][]byte{"v.txt": []byte("one\n")})
	w.post("/api/models/alice/sample/tag/main", `{"tag":"v1"}`)
	w.post("/api/models/alice/sample/branch/feature%2Fx", `{}`)
	w.post("/api/models/alice/sample/commit/main?create_pr=1",
		`{"key":"header","value":{"summary":"propose"}}`+"\n"+
			`{"key":"file","value":{"path":"v.txt","content":"cHIK","encoding":"base64"}}`+"\n")
	w.commit("alice/sample", map[string][]byte{"v.txt": []byte("two\n")})
	w.commit("datasets/bob/table", map[string][]byte{"data/t.csv": []byte("a,b\n")})
	w.commit("openai-community/gpt2", map[string][]byte{"c.json": []byte("{}\n")})
	w.commit("alice/new", map[string][]byte{"n.txt": []byte("n\n")})
	w.hub.Redirect(named("gpt2"), named("openai-community/gpt2"), true)
	w.hub.Redirect(named("alice/old"), named("alice/new"), false)
	return w
}

func TestWholeHub(t *testing.T) {
	w := hubOfNames(t)
	w.login("hf_alice")
	m := w.mount("hf://")

	for name, want := range map[string]string{
		"alice/sample/v.txt":                 "two\n",
		"alice/sample@main/v.txt":            "two\n",
		"alice/sample@v1/v.txt":              "one\n",
		"alice/sample@feature%2Fx/v.txt":     "one\n",
		"alice/sample@refs%2Fpr%2F1/v.txt":   "pr\n",
		"alice/sample@refs/pr/1/v.txt":       "pr\n",
		"datasets/bob/table/data/t.csv":      "a,b\n",
		"datasets/bob/table@main/data/t.csv": "a,b\n",
		"gpt2/c.json":                        "{}\n",
		"openai-community/gpt2/c.json":       "{}\n",
		"alice/old/n.txt":                    "n\n",
		"alice/new/n.txt":                    "n\n",
	} {
		if got, err := m.read(name, 20*time.Second); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
	for name, want := range map[string]string{"gpt2": "openai-community/gpt2", "alice/old": "../alice/new"} {
		if got, err := os.Readlink(m.join(name)); err != nil || got != want {
			t.Errorf("%s leads to %q, %v; want %q", name, got, err, want)
		}
	}
	for dir, want := range map[string][]string{
		".":              {"alice", "datasets", "spaces"},
		"alice":          {"sample", "new"},
		"alice/sample@":  {"main", "v1", "feature%2Fx", "refs%2Fpr%2F1"},
		"datasets/bob":   {"table"},
		"datasets/alice": nil,
	} {
		entries, err := os.ReadDir(m.join(dir))
		if err != nil {
			t.Errorf("%s: %v", dir, err)
		}
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		for _, name := range want {
			if !slices.Contains(names, name) {
				t.Errorf("%s lists %q, without %q", dir, names, name)
			}
			if _, err := os.Lstat(m.join(dir, name)); err != nil {
				t.Errorf("listed, but: %v", err)
			}
		}
	}
	for _, name := range []string{"nobody/nothing", "alice/nothing", "alice/sample@nothing", "alice/sample/nothing",
		".git", "alice/.DS_Store", "datasets/alice/sample", "a--b/x", "alice/sample@v1/nothing"} {
		if _, err := os.Lstat(m.join(name)); !isErrno(err, syscall.ENOENT) {
			t.Errorf("%s: %v, want ENOENT", name, err)
		}
	}
	if got, err := xattr(m.join("alice/sample@v1/v.txt"), "user.hf.revision"); err != nil || got != "v1" {
		t.Errorf("user.hf.revision: %q, %v", got, err)
	}
	// A name that does not exist is asked for once.
	w.hub.ResetStats()
	for range 5 {
		os.Lstat(m.join("alice/nothing"))
		os.Lstat(m.join("alice/.DS_Store"))
	}
	if n := w.hub.Stats().Total; n > 0 {
		t.Errorf("known absences cost %d requests", n)
	}
}

// The forms of REPO lead to the same bytes.
func TestFormsOfREPO(t *testing.T) {
	w := hubOfNames(t)
	head := strings.TrimSpace(w.must("curl", "-sSf", w.srv.URL+"/api/models/alice/sample/revision/v1"))
	_, rest, _ := strings.Cut(head, `"sha":"`)
	v1, _, _ := strings.Cut(rest, `"`)
	for _, form := range []struct {
		args []string
		want string
	}{
		{[]string{"alice/sample"}, "two\n"},
		{[]string{"hf://alice/sample"}, "two\n"},
		{[]string{"alice/sample@v1"}, "one\n"},
		{[]string{"alice/sample", "--revision", "v1"}, "one\n"},
		{[]string{"alice/sample", "--revision=feature/x"}, "one\n"},
		{[]string{"alice/sample@refs/pr/1"}, "pr\n"},
		{[]string{"alice/sample@" + v1}, "one\n"},
		{[]string{w.srv.URL + "/alice/sample/tree/v1"}, "one\n"},
	} {
		m := w.mount(form.args[0], form.args[1:]...)
		if got, err := m.read("v.txt", 20*time.Second); err != nil || string(got) != form.want {
			t.Errorf("%v: %q, %v; want %q", form.args, got, err, form.want)
		}
		m.unmount()
	}
	sub := w.mount("datasets/bob/table/data")
	if got, err := sub.read("t.csv", 20*time.Second); err != nil || string(got) != "a,b\n" {
		t.Errorf("a folder of a dataset: %q, %v", got, err)
	}
	lone := w.mount("gpt2")
	if got, err := lone.read("c.json", 20*time.Second); err != nil || string(got) != "{}\n" {
		t.Errorf("a lone name: %q, %v", got, err)
	}
}
