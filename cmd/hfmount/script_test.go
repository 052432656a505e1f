package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"hfmount": main})
}

// TestScript runs the program as a user would, on a local Hub but without a
// mount. Beside the usual commands there are
//
//	hub ARGS…         start `hfmount hub` and set HF_ENDPOINT
//	stophub           end it by SIGTERM and want exit code 0
//	code N CMD ARGS…  run and want exit code N
//	bigfile FILE N    write N bytes of numbers
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			run, err := os.MkdirTemp("/tmp", "hfm") // short, for sockets
			if err != nil {
				return err
			}
			e.Defer(func() { os.RemoveAll(run) })
			e.Setenv("XDG_RUNTIME_DIR", run)
			e.Setenv("HF_HOME", filepath.Join(e.WorkDir, "hf"))
			e.Setenv("HOME", e.WorkDir)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"hub": scriptHub, "stophub": scriptStopHub, "code": scriptCode, "bigfile": scriptBigFile,
		},
	})
}

// program is this test binary called as hfmount, in the script's directory
// and with what matters of its environment.
func program(ts *testscript.TestScript, args ...string) *exec.Cmd {
	exe, err := os.Executable()
	ts.Check(err)
	cmd := exec.Command(exe)
	cmd.Args = append([]string{"hfmount"}, args...)
	cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "XDG_RUNTIME_DIR", "HF_HOME"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	return cmd
}

// hubs are the running Hubs by the runtime directory of their script; scripts
// run in parallel, scriptMu guards it.
type hubKey struct{ dir string }

var (
	scriptMu sync.Mutex
	hubs     = map[hubKey]*exec.Cmd{}
)

func scriptHub(ts *testscript.TestScript, neg bool, args []string) {
	cmd := program(ts, append([]string{"hub", "--listen", "127.0.0.1:0"}, args...)...)
	var log bytes.Buffer
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	ts.Defer(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // killed
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	endpoint, ok := strings.CutPrefix(strings.TrimSpace(line), "HF_ENDPOINT=http://")
	if err != nil || !ok {
		_ = cmd.Wait() // it has said all it will
		ts.Fatalf("the Hub says %q (%v) and logs %s", line, err, log.String())
	}
	ts.Setenv("HF_ENDPOINT", "http://"+endpoint)
	scriptMu.Lock()
	hubs[hubKey{ts.Getenv("XDG_RUNTIME_DIR")}] = cmd
	scriptMu.Unlock()
}

func scriptStopHub(ts *testscript.TestScript, neg bool, args []string) {
	scriptMu.Lock()
	cmd := hubs[hubKey{ts.Getenv("XDG_RUNTIME_DIR")}]
	scriptMu.Unlock()
	ts.Check(cmd.Process.Signal(syscall.SIGTERM))
	if err := cmd.Wait(); err != nil {
		ts.Fatalf("the Hub ended with %v", err)
	}
}

func scriptCode(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if err != nil {
		// Exec's error is text; the code is in it.
		if _, scanErr := fmt.Sscanf(err.Error(), "exit status %d", &got); scanErr != nil {
			ts.Fatalf("%v", err)
		}
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func scriptBigFile(ts *testscript.TestScript, neg bool, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "%d\n", i)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b.Bytes()[:n], 0o644))
}
