package integration

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hfmount/remote/hubtest"
)

var (
	modelTime = flag.Duration("model.time", 60*time.Second, "how long TestModel goes on")
	modelSeed = flag.Uint64("model.seed", 0, "the seed of TestModel; 0 picks one")
)

const modelProcesses, modelSlots = 3, 3

// Random operations by several processes on the mount and on a plain directory
// agree, one by one, and then with a clone after a commit.
func TestModel(t *testing.T) {
	seed := *modelSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano()) % 1_000_000
	}
	for end, n := time.Now().Add(*modelTime), uint64(0); time.Now().Before(end) && !t.Failed(); n++ {
		t.Run(fmt.Sprint(seed+n), func(t *testing.T) {
			t.Logf("-model.seed %d", seed+n)
			w := newWriter(t, hubtest.Options{})
			m := &model{writer: w, r: rand.New(rand.NewPCG(seed+n, 3)), end: end}
			m.run()
		})
	}
}

type model struct {
	*writer
	r     *rand.Rand
	end   time.Time
	m     *mount
	plain string
	procs []*child
	mu    sync.Mutex
	trace []string
	flags []string // of the mount
	// readers is whether files are opened only for reading.
	readers bool
}

func (m *model) run() {
	m.seed("alice/m", writeSeed())
	m.plain = m.writer.plain("plain", "alice/m", writeSeed())
	m.flags = []string{"--commit-after", "1h", "--commit-max-wait", "10h", "--guard", "off"}
	// What a reader has open natively keeps its bytes when somebody else begins
	// to write (docs/SEMANTICS.md), unlike in a plain directory. So either nothing
	// is native, or nothing is open only for reading.
	if m.readers = m.r.IntN(2) == 0; m.readers {
		m.flags = append(m.flags, "--cache-size", "0")
	}
	m.m = m.writable("alice/m", m.flags...)
	m.begin()
	defer m.over()
	for phase := 0; phase < 12 && time.Now().Before(m.end) && !m.t.Failed(); phase++ {
		if phase%3 == 2 {
			m.burst(60)
		} else {
			for range 150 {
				if !m.step(m.r.IntN(modelProcesses), m.random("")) {
					break
				}
			}
		}
		m.compare("")
		if m.t.Failed() || phase%2 == 0 {
			continue
		}
		m.theirs(phase)
		// What is open holds its bytes back; close it all.
		for p := range modelProcesses {
			for slot := range modelSlots + 1 {
				m.step(p, op{Do: "close", Slot: slot})
			}
		}
		m.m.send()
		m.compare("after a commit: ")
		if d := differences(committable(folder(m.t, m.plain), nil), committable(m.clone("alice/m", "main"), nil)); d != "" {
			m.fail("a clone differs:\n%s", d)
		}
		if phase%4 == 3 && !m.t.Failed() {
			m.over()
			m.m.unmount()
			m.m = m.writable("alice/m", m.flags...)
			// Modes last as long as the mount.
			m.must("find", m.plain, "-type", "f", "-exec", "chmod", "644", "{}", "+")
			m.must("find", m.plain, "-type", "d", "-exec", "chmod", "755", "{}", "+")
			m.begin()
			m.compare("after a remount: ")
		}
	}
	m.checkCommits("alice/m", "main")
}

func (m *model) begin() {
	for range modelProcesses {
		m.procs = append(m.procs, m.reexec("model-worker", m.m.path, m.plain))
	}
}

// over ends the processes, and with them what they have open.
func (m *model) over() {
	for _, p := range m.procs {
		p.in.Close()
		if err := p.cmd.Wait(); err != nil && !m.t.Failed() {
			m.fail("a process ended with %v: %s", err, p.err.String())
		}
	}
	m.procs = nil
}

func (m *model) fail(format string, args ...any) {
	m.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	last := m.trace[max(0, len(m.trace)-80):]
	m.t.Errorf(format+"\nthe last operations:\n%s", append(args, strings.Join(last, "\n"))...)
}

// step has a process do one operation in both trees.
func (m *model) step(proc int, o op) bool {
	p := m.procs[proc]
	m.mu.Lock()
	m.trace = append(m.trace, fmt.Sprintf("%d: %s", proc, o))
	m.mu.Unlock()
	line, err := json.Marshal(o)
	if err == nil {
		_, err = p.in.Write(append(line, '\n'))
	}
	got := make(chan answers, 1)
	go func() {
		defer close(got)
		line, err := p.out.ReadBytes('\n')
		var a answers
		if err == nil && json.Unmarshal(line, &a) == nil {
			got <- a
		}
	}()
	select {
	case a, ok := <-got:
		if !ok || err != nil {
			m.fail("process %d ended at %s: %v: %s", proc, o, err, p.err.String())
			return false
		}
		if a.Mount != a.Plain {
			m.fail("process %d, %s: the mount says %q, a plain directory %q", proc, o, a.Mount, a.Plain)
			return false
		}
		return true
	case <-time.After(2 * time.Minute):
		p.cmd.Process.Kill()
		m.fail("process %d hangs in %s", proc, o)
		return false
	}
}

// burst lets all processes work at once, each in a directory of its own.
func (m *model) burst(ops int) {
	var wg sync.WaitGroup
	for p := range modelProcesses {
		dir := fmt.Sprintf("own%d/", p)
		m.step(p, op{Do: "mkdir", A: dir})
		// What is open is anywhere, perhaps in another's directory.
		for slot := range modelSlots + 1 {
			m.step(p, op{Do: "close", Slot: slot})
		}
		list := make([]op, ops)
		for i := range list {
			list[i] = m.random(dir)
		}
		wg.Go(func() {
			for _, o := range list {
				if !m.step(p, o) {
					return
				}
			}
		})
	}
	wg.Wait()
}

// theirs is what somebody else commits meanwhile, where nobody here writes.
func (m *model) theirs(phase int) {
	m.t.Helper()
	name, data := fmt.Sprintf("theirs/%d.txt", m.r.IntN(3)), noise(uint64(phase), 5000)
	m.seed("alice/m", map[string][]byte{name: data})
	p := filepath.Join(m.plain, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(p, data, 0o644); err != nil {
		m.t.Fatal(err)
	}
}

// compare compares all names and bytes.
func (m *model) compare(when string) {
	m.t.Helper()
	if m.t.Failed() {
		return
	}
	want, got := folder(m.t, m.plain), folder(m.t, m.m.path)
	for p := range want {
		if strings.HasPrefix(p, "theirs") {
			delete(want, p)
		}
	}
	for p := range got {
		if strings.HasPrefix(p, "theirs") {
			delete(got, p)
		}
	}
	if d := differences(want, got); d != "" {
		m.fail("%sthe mount differs from a plain directory:\n%s", when, d)
	}
}

// name picks a path: few names, so that they meet.
func (m *model) name(under string) string {
	if under == "" && m.r.IntN(4) == 0 {
		return []string{"text.txt", "other.txt", "small.bin", "big.bin", "empty", "dir/a.txt", "dir", "dir/sub", "dir/sub/c.txt", "alone", "alone/x.txt"}[m.r.IntN(11)]
	}
	return under + []string{"a", "b", "c", "d", "d/a", "d/b", "d/e", "d/e/a", "f", "f/a", "f/b.txt"}[m.r.IntN(11)]
}

func (m *model) random(under string) op {
	o := op{A: m.name(under), B: m.name(under), Slot: m.r.IntN(modelSlots), Slot2: m.r.IntN(modelSlots), Seed: m.r.Uint64() >> 8}
	o.N = 1 + m.r.IntN(30_000)
	o.Off = m.r.Int64N(60_000)
	if m.r.IntN(8) == 0 {
		o.N, o.Off = 1+m.r.IntN(2_000_000), m.r.Int64N(9_500_000)
	}
	kinds := []struct {
		weight int
		name   string
	}{
		{10, "open"}, {6, "close"}, {8, "pwrite"}, {5, "write"}, {8, "pread"}, {3, "ftruncate"}, {3, "fallocate"}, {3, "map"}, {2, "fsync"},
		{4, "fstat"}, {2, "copy"}, {2, "dup"}, {8, "put"}, {8, "get"}, {6, "mkdir"}, {4, "rmdir"}, {6, "unlink"}, {8, "rename"}, {1, "symlink"},
		{1, "readlink"}, {3, "truncate"}, {2, "chmod"}, {1, "utimes"}, {6, "stat"}, {6, "list"}, {1, "tmpfile"},
	}
	total := 0
	for _, k := range kinds {
		total += k.weight
	}
	n := m.r.IntN(total)
	for _, k := range kinds {
		if n -= k.weight; n < 0 {
			o.Do = k.name
			break
		}
	}
	switch o.Do {
	case "open":
		o.Flags = []int{unix.O_RDONLY, unix.O_RDWR, unix.O_RDWR | unix.O_CREAT, unix.O_RDWR | unix.O_CREAT | unix.O_TRUNC, unix.O_WRONLY,
			unix.O_WRONLY | unix.O_APPEND | unix.O_CREAT, unix.O_RDWR | unix.O_CREAT | unix.O_EXCL, unix.O_WRONLY | unix.O_TRUNC}[m.r.IntN(8)]
		if o.Flags == unix.O_RDONLY && !m.readers {
			o.Flags = unix.O_RDWR
		}
	case "fallocate":
		o.Flags = []int{0, unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_KEEP_SIZE | unix.FALLOC_FL_PUNCH_HOLE, unix.FALLOC_FL_ZERO_RANGE}[m.r.IntN(4)]
	case "rename":
		o.Flags = []int{0, 0, 0, unix.RENAME_NOREPLACE, unix.RENAME_EXCHANGE}[m.r.IntN(5)]
	case "chmod":
		o.N = []int{0o755, 0o700, 0o744, 0o775}[m.r.IntN(4)]
	case "symlink":
		o.B = filepath.Base(o.B)
	case "tmpfile":
		o.A = filepath.Dir(o.A)
	case "utimes":
		o.Off = 1_000_000_000 + m.r.Int64N(1_000_000)
	}
	return o
}
