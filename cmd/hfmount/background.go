package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// readyEnv tells the background process that descriptor readyFD is where
	// its parent waits for one report.
	readyEnv = "HFMOUNT_READY_PID"
	readyFD  = 3
	// logEnv tells it where standard error goes, for status.
	logEnv = "HFMOUNT_READY_LOG"
	// readyPatience is longer than anything serve waits for before it is ready.
	readyPatience = resolvePatience + 30*time.Second
	// killPatience is how long a background process that is told to stop may
	// take.
	killPatience = drainPatience + 5*time.Second
)

// report is what the background process tells its parent, once.
type report struct {
	Line  string       `json:"line,omitempty"`
	Error *wireFailure `json:"error,omitempty"`
}

// readyPipe returns the pipe to the parent, if this process was started in
// the background. The variable names the parent, so that a process that
// inherited the environment from elsewhere is not taken for one.
func readyPipe() (*os.File, bool) {
	parent, err := strconv.Atoi(os.Getenv(readyEnv))
	if err != nil || parent != os.Getppid() {
		return nil, false
	}
	// Programs we start must not keep the pipe open: its end is how the parent
	// learns of our death.
	syscall.CloseOnExec(readyFD)
	return os.NewFile(readyFD, "ready"), true
}

// serveBackground is the life of the background process.
func serveBackground(ctx context.Context, cfg mountConfig, pipe *os.File, stderr io.Writer) error {
	cfg.logFile = os.Getenv(logEnv)
	for _, name := range []string{readyEnv, logEnv} {
		if err := os.Unsetenv(name); err != nil {
			return err
		}
	}
	tell := func(r report) {
		if pipe == nil {
			return
		}
		_ = json.NewEncoder(pipe).Encode(r) // a parent that is gone needs no answer
		_ = pipe.Close()
		pipe = nil
	}
	log := cfg.newLogger(stderr)
	err := serve(ctx, cfg, log, func(line string) {
		// The directory this was started in must not stay in use.
		if err := os.Chdir("/"); err != nil {
			log.Warn("cannot leave the working directory", "err", err)
		}
		tell(report{Line: line})
	})
	if err != nil {
		f := explain(err)
		log.Error("the mount ended with an error", "err", f.text)
		tell(report{Error: &wireFailure{f.text, f.hint, f.code}})
	}
	return err
}

// startBackground starts this program again as the process that serves cfg,
// and returns when that is ready or has failed. It leaves no process behind
// unless the mount answers.
func startBackground(ctx context.Context, cfg mountConfig, stdout io.Writer) error {
	logPath, err := cfg.logPath()
	if err != nil {
		return err
	}
	log, err := openLog(logPath)
	if err != nil {
		return err
	}
	defer log.Close()
	logStart, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		logStart = 0 // a log that cannot seek, such as a terminal
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("start the background process: %w", err)
	}
	cmd := exec.Command(exe)
	cmd.Args = os.Args
	cmd.Env = append(os.Environ(), readyEnv+"="+strconv.Itoa(os.Getpid()), logEnv+"="+logPath)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	_ = w.Close() // so that only the child holds the pipe open
	if err != nil {
		return fmt.Errorf("start the background process: %w", err)
	}
	died := make(chan struct{})
	go func() { // ends with the child, or with this process, which is soon
		_ = cmd.Wait() // how it died is told from its report and its log
		close(died)
	}()

	reported := make(chan report, 1)
	go func() { // ends when the child reports or dies, or r is closed
		var rep report
		if json.NewDecoder(r).Decode(&rep) == nil {
			reported <- rep
		}
		close(reported)
	}()
	patience := time.NewTimer(readyPatience)
	defer patience.Stop()
	select {
	case rep, ok := <-reported:
		switch {
		case !ok:
			stopChild(cmd.Process, died)
			return &failure{text: "the process that was to serve the mount died", code: exitFailed,
				hint: strings.TrimSpace(tail(logPath, logStart) + "\nits log is " + logPath)}
		case rep.Error != nil:
			<-died
			return rep.Error.failure()
		}
		fmt.Fprintln(stdout, rep.Line)
		return nil
	case <-patience.C:
		stopChild(cmd.Process, died)
		return &failure{text: "the mount does not answer after " + readyPatience.String(), hint: "its log is " + logPath, code: exitUnreachable}
	case <-ctx.Done():
		stopChild(cmd.Process, died)
		return context.Canceled
	}
}

// stopChild ends the background process, if need be by force, and what it
// left mounted ends with it.
func stopChild(p *os.Process, died <-chan struct{}) {
	if err := p.Signal(syscall.SIGTERM); err != nil && errors.Is(err, os.ErrProcessDone) {
		return
	}
	select {
	case <-died:
	case <-time.After(killPatience):
		_ = p.Kill() // it may just have ended
		<-died
	}
}

// tail returns the last lines written to a log since start, for an error.
func tail(path string, start int64) string {
	b, err := os.ReadFile(path)
	if err != nil || int64(len(b)) < start {
		return ""
	}
	lines := bytes.Split(bytes.TrimSpace(b[start:]), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-5):], []byte("\n")))
}
