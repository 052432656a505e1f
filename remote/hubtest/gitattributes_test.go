package hubtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
)

func TestInitialAttributes(t *testing.T) {
	for _, tt := range []struct {
		dataset bool
		size    int
		oid     string
	}{
		{false, 1519, "a6344aac8c09253b3b630fb776ae94478aa0275b"},
		{true, 2461, "1ef325f1b111266a6b26e0196871bd78baa8c2f3"},
	} {
		data := initialAttributes(tt.dataset)
		if got := hashObject(plumbing.BlobObject, data).String(); len(data) != tt.size || got != tt.oid {
			t.Errorf("dataset %v: %d bytes, blob %s; want %d, %s", tt.dataset, len(data), got, tt.size, tt.oid)
		}
	}
}

// TestAttributesAsGit asks git the same questions.
func TestAttributesAsGit(t *testing.T) {
	files := map[string]string{
		"model":   string(initialAttributes(false)),
		"dataset": string(initialAttributes(true)),
		"mixed": strings.Join([]string{
			"# comment", "*.bin filter=lfs diff=lfs merge=lfs -text", "small.bin -filter", "raw/*.bin !filter",
			"/top.txt filter=lfs", "deep/**/x.dat filter=lfs", "**/any.dat filter=lfs", "all/** filter=lfs",
			`"with space.txt" filter=lfs`, "a[[:space:]]b.txt filter=lfs", "[!a]q.txt filter=lfs", "q?.md filter=lfs",
			"*.txt text", "dir/ filter=lfs", "!neg filter=lfs", "other.bin filter=other", `back\*slash filter=lfs`, "x/*/y filter=lfs",
		}, "\n"),
	}
	var added strings.Builder
	names := []string{"plain", "sp ace", "st*r", "q?m", "br[ack]et", "sub/sp ace.bin", "#hash", "!bang", "tab\there", "ünï", `quo"te`, "sub/#x"}
	for _, n := range names {
		added.WriteString(attributesLine(n))
	}
	files["added"] = added.String()
	paths := append([]string{
		"a.bin", "sub/a.bin", "small.bin", "raw/a.bin", "raw/deeper/a.bin", "top.txt", "sub/top.txt", "deep/x.dat", "deep/a/b/x.dat",
		"any.dat", "p/any.dat", "all/x", "all/x/y", "all", "with space.txt", "a b.txt", "a_b.txt", "bq.txt", "aq.txt", "q1.md", "q.md",
		"dir/x", "neg", "other.bin", "back*slash", "backXslash", "x/1/y", "x/1/2/y", "saved_model/v.pb", "saved_model/a/b", "x.lfs.y", "events.out.tfevents.1",
		"a.safetensors", "README.md", "tfevents", "a.tar.gz", "img.PNG", "img.png", "x.mds", "star", "stXr",
	}, names...)
	for name, content := range files {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			git(t, dir, "init", "-q")
			if err := os.WriteFile(filepath.Join(dir, attributesName), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
			rules := parseAttributes([]byte(content))
			cmd := exec.Command("git", "check-attr", "-z", "--stdin", "filter")
			cmd.Dir = dir
			cmd.Stdin = strings.NewReader(strings.Join(paths, "\x00") + "\x00")
			out, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			answers := strings.Split(string(out), "\x00")
			for i, p := range paths {
				if got, want := rules.lfs(p), answers[3*i+2] == "lfs"; got != want {
					t.Errorf("%q: lfs %v, git says %v", p, got, want)
				}
			}
		})
	}
	for _, n := range names {
		if !parseAttributes([]byte(added.String())).lfs(n) {
			t.Errorf("%q is not matched by its own line", n)
		}
	}
}

func TestWantsLFS(t *testing.T) {
	rules := parseAttributes([]byte("*.dat filter=lfs\n"))
	for _, tt := range []struct {
		path   string
		size   int64
		sample string
		want   bool
	}{
		{"a.dat", 4, "abcd", true},
		{"a.dat", 0, "", false},
		{"a.txt", 10 << 20, "text", false},
		{"a.txt", 10<<20 + 1, "text", true},
		{"a.x", 1 << 20, "\x00", false},
		{"a.x", 1<<20 + 1, "\x00", true},
		{"a.x", 1<<20 + 1, "text", false},
	} {
		if got := rules.wantsLFS(tt.path, tt.size, []byte(tt.sample), 1<<20); got != tt.want {
			t.Errorf("%s of %d bytes: %v", tt.path, tt.size, got)
		}
	}
}

// git runs git without the configuration of whoever runs the test.
func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}
