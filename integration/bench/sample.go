package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// probe takes one sample.
type probe func() (time.Duration, error)

// take samples the probes in turn, round by round, so that a slow moment of
// the machine falls on all of them alike. A nil probe has no samples.
func (b *bench) take(probes ...probe) ([]samples, error) {
	all := make([]samples, len(probes))
	for range b.rounds {
		for i, p := range probes {
			if p == nil {
				continue
			}
			d, err := p()
			if err != nil {
				return nil, err
			}
			all[i] = append(all[i], d)
		}
	}
	return all, nil
}

// gate waits until the machine is idle for a moment, but not for long. Probes
// call it when all is prepared.
func (b *bench) gate() {
	b.gates++
	const look = 100 * time.Millisecond
	end := time.Now().Add(b.gateLimit)
	for {
		busy, total := cpuTicks()
		time.Sleep(look)
		busy2, total2 := cpuTicks()
		if total2 > total && float64(busy2-busy)/float64(total2-total) < 0.1 {
			return
		}
		if time.Now().After(end) {
			b.noisy++
			return
		}
	}
}

// cpuTicks reads how long all processors were busy, and both.
func cpuTicks() (busy, total int64) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 1
	}
	line, _, _ := bytes.Cut(data, []byte("\n"))
	for i, f := range strings.Fields(string(line))[1:] {
		var n int64
		fmt.Sscan(f, &n)
		if i < 8 {
			total += n
			if i != 3 && i != 4 { // idle, iowait
				busy += n
			}
		}
	}
	return busy, total
}

// reader is who does the reading: the machine's account for a mount of an
// ordinary user, else this one.
type reader struct{ cred *syscall.Credential }

func (r reader) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	if r.cred != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: r.cred}
		cmd.Dir = "/"
	}
	return cmd
}

// used is what a process took.
type used struct{ wall, cpu time.Duration }

// run runs a program, output thrown away, and says what it took.
func (r reader) run(name string, args ...string) (used, error) {
	cmd := r.command(name, args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	begin := time.Now()
	err := cmd.Run()
	u := used{wall: time.Since(begin)}
	if err != nil {
		return u, fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, errs.String())
	}
	u.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return u, nil
}

func (r reader) timed(name string, args ...string) (time.Duration, error) {
	u, err := r.run(name, args...)
	return u.wall, err
}

// timed runs a program and says how long it took.
func timed(name string, args ...string) (time.Duration, error) {
	return reader{}.timed(name, args...)
}

// together runs f n times at once and says how long all of them took.
func together(n int, f func(i int) error) (time.Duration, error) {
	errs := make([]error, n)
	var wg sync.WaitGroup
	begin := time.Now()
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	return time.Since(begin), errors.Join(errs...)
}

// dd reads a file front to back.
func (r reader) dd(path string) (time.Duration, error) {
	return r.timed("dd", "if="+path, "of=/dev/null", "bs=1M", "status=none")
}

// result is what a work says on its standard output. A work that starts its
// own clock leaves the start of the process out of the time.
type result struct {
	Took     time.Duration
	Ops      int
	Bytes    int64
	P50, P95 time.Duration // of one operation
	Text     string
}

// work does a work of this program in a process of its own.
func (r reader) work(b *bench, name, dir string, args ...any) (res result, err error) {
	line := []string{"-work", name, "-dir", dir, "--"}
	for _, a := range args {
		line = append(line, fmt.Sprint(a))
	}
	cmd := r.command(b.self, line...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return res, fmt.Errorf("work %s in %s: %w: %s", name, dir, err, errs.String())
	}
	return res, json.Unmarshal(out, &res)
}

// workTime is work for what only takes time.
func (r reader) workTime(b *bench, name, dir string, args ...any) (time.Duration, error) {
	res, err := r.work(b, name, dir, args...)
	return res.Took, err
}

// runWork is the subprocess's side of work.
func runWork(name, dir string, args []string) error {
	f, ok := works[name]
	if !ok {
		return fmt.Errorf("there is no work %q", name)
	}
	begin := time.Now()
	res, err := f(dir, args)
	if err != nil || name == "hub" {
		return err
	}
	if res.Took == 0 {
		res.Took = time.Since(begin)
	}
	return json.NewEncoder(os.Stdout).Encode(res)
}
