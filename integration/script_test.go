package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"hfmount/remote/hubtest"
)

// TestScripts runs testdata/script/*.txtar. Each has a Hub of its own with a
// small repository alice/tiny, hfmount in PATH, and directories m1 and m2; the
// command commit publishes local files: commit REPO NAME=FILE...
func TestScripts(t *testing.T) {
	scripts, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, script := range scripts {
		t.Run(filepath.Base(script), func(t *testing.T) { runScript(t, script) })
	}
}

func runScript(t *testing.T, script string) {
	w := newWorld(t, hubtest.Options{})
	w.commit("alice/tiny", map[string][]byte{"README.md": []byte("# tiny\n"), "data/x.txt": []byte("x\n")})
	testscript.Run(t, testscript.Params{
		Files: []string{script},
		Setup: func(env *testscript.Env) error {
			for _, e := range w.env[len(w.env)-4:] {
				name, value, _ := strings.Cut(e, "=")
				env.Setenv(name, value)
			}
			env.Setenv("PATH", filepath.Dir(binary)+":"+os.Getenv("PATH"))
			for _, d := range []string{"m1", "m2"} {
				dir := filepath.Join(env.WorkDir, d)
				if err := os.Mkdir(dir, 0o755); err != nil {
					return err
				}
				// What a script that failed has left mounted.
				env.Defer(func() {
					if mounts(t, dir) {
						w.command(binary, "unmount", "--timeout", "5s", dir)
						w.command("fusermount3", "-u", "-z", dir)
					}
				})
			}
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"commit": func(ts *testscript.TestScript, _ bool, args []string) {
				files := map[string][]byte{}
				for _, arg := range args[1:] {
					name, file, _ := strings.Cut(arg, "=")
					files[name] = []byte(ts.ReadFile(file))
				}
				if _, err := w.hub.Commit(named(args[0]), "main", "commit", files); err != nil {
					ts.Fatalf("commit: %v", err)
				}
			},
		},
	})
}
