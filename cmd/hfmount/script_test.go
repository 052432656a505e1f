package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

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
//	api M PATH JSON   ask the Hub, and want success
//
// and, in scripts that mount on m1 and m2,
//
//	waitgone          until no process serves a mount or sends its changes
//	waitstate DIR S   until a change of the mount is in state S
//	term DIR          SIGTERM to the process that serves the mount
//	kill9 DIR         SIGKILL to it
//	waitclean DIR     until all changes of the mount are on the Hub
//	waiterror DIR T   until the last error of the mount holds the text T
//	restarthub ARGS…  hub, at the address it had
func TestScript(t *testing.T) {
	testscript.Run(t, scriptParams("testdata/script"))
}

// TestMountScript is TestScript with mounts, each of which a process of its
// own serves.
func TestMountScript(t *testing.T) {
	p := scriptParams("testdata/mount")
	setup := p.Setup
	p.Setup = func(e *testscript.Env) error {
		for _, d := range []string{"m1", "m2"} {
			dir := filepath.Join(e.WorkDir, d)
			if err := os.Mkdir(dir, 0o755); err != nil {
				return err
			}
			e.Defer(func() { _ = detach(dir) }) // what a script that failed left
		}
		if err := setup(e); err != nil {
			return err
		}
		e.Defer(func() {
			for _, pid := range served(e.Getenv("XDG_RUNTIME_DIR")) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		})
		return nil
	}
	testscript.Run(t, p)
}

func scriptParams(dir string) testscript.Params {
	return testscript.Params{
		Dir: dir,
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
			"api": scriptAPI, "waitclean": scriptWaitClean, "waiterror": scriptWaitError,
			"restarthub": scriptRestartHub, "waitgone": scriptWaitGone, "waitstate": scriptWaitState,
			"term":  func(ts *testscript.TestScript, _ bool, args []string) { signalMount(ts, args[0], syscall.SIGTERM) },
			"kill9": func(ts *testscript.TestScript, _ bool, args []string) { signalMount(ts, args[0], syscall.SIGKILL) },
		},
	}
}

// served are the processes that answer on sockets in a script's runtime
// directory.
func served(runtime string) []int {
	paths, _ := filepath.Glob(filepath.Join(runtime, "hfmount", "*.sock")) // the pattern is well-formed
	var pids []int
	for _, p := range paths {
		if d, ok := dialDaemon(p); ok {
			pids = append(pids, d.pid)
		}
	}
	return pids
}

// scriptPatience is how long a script waits for what it waits for.
const scriptPatience = 60 * time.Second

func scriptWaitGone(ts *testscript.TestScript, neg bool, args []string) {
	for end := time.Now().Add(scriptPatience); ; time.Sleep(20 * time.Millisecond) {
		pids := served(ts.Getenv("XDG_RUNTIME_DIR"))
		if len(pids) == 0 {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("still served by %v", pids)
		}
	}
}

func daemonAt(ts *testscript.TestScript, dir string) daemon {
	d, ok := dialDaemon(socketPath(filepath.Join(ts.Getenv("XDG_RUNTIME_DIR"), "hfmount"), ts.MkAbs(dir)))
	if !ok {
		ts.Fatalf("nobody serves %s", dir)
	}
	return d
}

func scriptWaitState(ts *testscript.TestScript, neg bool, args []string) {
	d := daemonAt(ts, args[0])
	for end := time.Now().Add(scriptPatience); ; time.Sleep(20 * time.Millisecond) {
		s, err := d.status(context.Background())
		ts.Check(err)
		if slices.ContainsFunc(s.Changes, func(c changeStatus) bool { return c.State == args[1] }) {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("no change is %s: %+v", args[1], s.Changes)
		}
	}
}

func signalMount(ts *testscript.TestScript, dir string, sig syscall.Signal) {
	d := daemonAt(ts, dir)
	ts.Check(syscall.Kill(d.pid, sig))
	if sig == syscall.SIGKILL {
		ts.Check(d.waitGone(context.Background()))
	}
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

func scriptHub(ts *testscript.TestScript, neg bool, args []string) { startHub(ts, "127.0.0.1:0", args) }

func scriptRestartHub(ts *testscript.TestScript, neg bool, args []string) {
	startHub(ts, strings.TrimPrefix(ts.Getenv("HF_ENDPOINT"), "http://"), args)
}

func startHub(ts *testscript.TestScript, listen string, args []string) {
	cmd := program(ts, append([]string{"hub", "--listen", listen}, args...)...)
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
