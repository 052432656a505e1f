package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hfmount/remote/hubtest"
)

var (
	crashKills = flag.Int("crash.kills", 300, "how often TestCrashLosesNothing kills the daemon")
	crashSeed  = flag.Uint64("crash.seed", 0, "the seed of TestCrashLosesNothing; 0 picks one")
)

// crashStates are what the daemon is doing with its journal when it is killed.
// The daemon is not asked: what it holds open, what arrived at the Hub, and
// what is left afterwards tell.
var crashStates = []string{"open", "sealed", "uploading", "committing", "recovering", "compacting"}

// crashWorlds are mounts that are killed side by side.
const crashWorlds = 3

// The daemon is killed at several hundred random points of a workload. Every
// file whose close returned is there after the next mount, or was committed;
// nothing is committed twice, and no commit holds a file that was not finished.
func TestCrashLosesNothing(t *testing.T) {
	seed := *crashSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano()) % 1_000_000
	}
	t.Logf("-crash.seed %d -crash.kills %d", seed, *crashKills)
	var mu sync.Mutex
	total := map[string]int{}
	t.Run("worlds", func(t *testing.T) {
		for i := range crashWorlds {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				c := newCrash(t, seed+uint64(i))
				defer func() {
					mu.Lock()
					defer mu.Unlock()
					for s, n := range c.kills {
						total[s] += n
					}
				}()
				c.run(*crashKills / crashWorlds)
			})
		}
	})
	sum := 0
	for _, s := range crashStates {
		t.Logf("kills while %-10s %d", s, total[s])
		sum += total[s]
		if want := min(20, *crashKills/15); total[s] < want {
			t.Errorf("only %d kills while %s, want %d", total[s], s, want)
		}
	}
	t.Logf("kills in all        %d", sum+total["other"])
}

// ledger is what the workers of a mount said, and hence what may be seen.
type ledger struct {
	mu       sync.Mutex
	done     map[string]string          // path to digest: what is there
	begun    map[string]string          // what the call under way makes so
	dirty    map[string]bool            // open for writing: anything may be seen
	wild     map[string]bool            // was open at a crash, and nobody finished it since
	loose    map[string]bool            // was stored to after its close
	loosens  bool                       // the call under way is such a store
	declared map[string]map[string]bool // all digests a path ever had when closed
	failed   string
}

// hear takes a line of a worker in.
func (l *ledger) hear(s step) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case s.Dirty != "":
		l.dirty[s.Dirty] = true
	case s.Begin != nil:
		l.begun, l.loosens = s.Begin, s.Loose
		for p, d := range s.Begin {
			if d == "" {
				continue
			}
			if l.declared[p] == nil {
				l.declared[p] = map[string]bool{}
			}
			l.declared[p][d] = true
		}
	case s.Done:
		for p, d := range l.begun {
			delete(l.dirty, p)
			delete(l.wild, p)
			if l.loosens {
				l.loose[p] = true
			} else {
				delete(l.loose, p)
			}
			if d == "" {
				delete(l.done, p)
			} else {
				l.done[p] = d
			}
		}
		l.begun = nil
	default:
		l.failed = s.Error
	}
}

// crash is a mount that is killed again and again, and all it must remember.
type crash struct {
	*writer
	r      *rand.Rand
	dir    string
	log    *os.File
	cmd    *exec.Cmd
	led    ledger
	kills  map[string]int
	flags  []string
	rounds int
	last   bool // the last rounds
	worker *child
	ended  chan struct{} // of the worker's output
}

func newCrash(t *testing.T, seed uint64) *crash {
	w := newWriter(t, hubtest.Options{})
	w.seed("alice/c", writeSeed())
	c := &crash{writer: w, r: rand.New(rand.NewPCG(seed, 7)), dir: w.dir + "/m", kills: map[string]int{},
		flags: []string{"--commit-after", "10m", "--commit-max-wait", "1h", "--guard", "off"}}
	c.led = ledger{done: map[string]string{}, dirty: map[string]bool{}, wild: map[string]bool{}, loose: map[string]bool{},
		declared: map[string]map[string]bool{}}
	if err := os.Mkdir(c.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(w.dir + "/log")
	if err != nil {
		t.Fatal(err)
	}
	c.log = log
	t.Cleanup(func() {
		if c.cmd != nil {
			c.kill()
		}
		c.detach()
		log.Close()
		if text, _ := os.ReadFile(log.Name()); bytes.Contains(text, []byte("panic:")) || bytes.Contains(text, []byte("DATA RACE")) {
			t.Errorf("the daemon's log has a panic:\n%s", tail(text, 60))
		} else if t.Failed() {
			t.Logf("the daemon's log ends\n%s", tail(text, 40))
		}
	})
	return c
}

func tail(text []byte, lines int) string {
	all := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// start begins a mount in the foreground, as a child of ours.
func (c *crash) start() {
	args := append([]string{"mount", "--foreground"}, c.flags...)
	c.cmd = exec.Command(binary, append(args, "alice/c", c.dir)...)
	c.cmd.Env, c.cmd.Dir = c.env, c.world.dir
	c.cmd.Stdout, c.cmd.Stderr = c.log, c.log
	if err := c.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
}

func (c *crash) mounted() bool { return listed(c.dir) }

// ready waits until the mount answers.
func (c *crash) ready() {
	c.t.Helper()
	var err error
	if !eventually(30*time.Second, func() bool {
		if !c.mounted() {
			return false
		}
		_, err = c.mount().tryPending()
		return err == nil
	}) {
		text, _ := os.ReadFile(c.log.Name())
		c.t.Fatalf("round %d: the mount does not answer: %v\n%s", c.rounds, err, tail(text, 30))
	}
}

func (c *crash) mount() *mount {
	return &mount{world: c.world, path: c.dir, log: c.log.Name(), gone: true}
}

// kill ends the daemon and waits for its end.
func (c *crash) kill() {
	c.cmd.Process.Kill()
	c.cmd.Wait()
	c.cmd = nil
}

// detach takes the dead mount away; what still uses it keeps only itself busy.
func (c *crash) detach() {
	for range 5 {
		if !c.mounted() {
			return
		}
		exec.Command("fusermount3", "-u", "-z", c.dir).Run()
	}
	c.t.Errorf("cannot detach %s", c.dir)
}

// work starts a worker, and keeps the ledger until it ends.
func (c *crash) work() {
	c.led.failed = ""
	c.worker = c.reexec("crash-worker", c.dir, fmt.Sprint(c.rounds), fmt.Sprint(c.r.Uint64()))
	c.ended = make(chan struct{})
	go func(out *child, ended chan struct{}) {
		defer close(ended)
		for {
			line, err := out.out.ReadBytes('\n')
			if err != nil {
				return
			}
			var s step
			if json.Unmarshal(line, &s) == nil {
				c.led.hear(s)
			}
		}
	}(c.worker, c.ended)
}

// rest waits for the worker, which a dead mount ends.
func (c *crash) rest() {
	c.t.Helper()
	if c.worker == nil {
		return
	}
	select {
	case <-c.ended:
	case <-time.After(60 * time.Second):
		c.worker.cmd.Process.Kill()
		c.t.Errorf("round %d: the worker did not notice that the daemon is gone", c.rounds)
	}
	c.worker.cmd.Wait()
	if msg := c.led.failed; msg == "" {
		c.t.Errorf("round %d: the worker died: %s", c.rounds, c.worker.err.String())
	} else if !strings.Contains(msg, "not connected") && !strings.Contains(msg, "connection abort") && !strings.Contains(msg, "fault") &&
		!strings.Contains(msg, "input/output error") && !strings.Contains(msg, "no such device") {
		c.t.Errorf("round %d: the worker failed with %s", c.rounds, msg)
	}
	c.worker = nil
}

// stop lets the worker finish what it does, so that all its files are closed:
// the kernel closes those of a process that is killed, and who is to know.
func (c *crash) stop() {
	if c.worker == nil {
		return
	}
	c.worker.in.Close()
	select {
	case <-c.ended:
	case <-time.After(60 * time.Second):
		c.worker.cmd.Process.Kill()
		c.t.Errorf("round %d: the worker does not finish", c.rounds)
	}
	c.worker.cmd.Wait()
	if c.led.failed != "stopped" {
		c.t.Errorf("round %d: the worker failed with %q: %s", c.rounds, c.led.failed, c.worker.err.String())
	}
	c.worker = nil
}

func (c *crash) pause(atMost time.Duration) {
	time.Sleep(time.Duration(c.r.Int64N(int64(atMost) + 1)))
}

func (c *crash) run(kills int) {
	c.start()
	c.ready()
	least := min(20, kills*crashWorlds/15)
	for (c.killed() < kills || c.killed() < 2*kills && c.missed(least)) && !c.t.Failed() {
		c.rounds++
		c.last = c.killed() >= kills-4
		state := c.next()
		c.work()
		c.pause(400 * time.Millisecond)
		var stateThen string
		switch state {
		case "open":
			stateThen = c.killAny()
		case "sealed":
			stateThen = c.killSealed()
		case "uploading":
			stateThen = c.killAtHub("uploading", hubtest.Fault{Method: "PUT", Fault: "delay", MS: 1500})
		case "committing":
			stateThen = c.killAtHub("committing", c.commitFault())
		case "compacting":
			stateThen = c.killCompacting()
		case "recovering":
			stateThen = c.killAny()
			c.after(stateThen)
			for range c.r.IntN(3) {
				c.after(c.killRecovering())
			}
			stateThen = c.killRecovering()
		}
		c.after(stateThen)
		c.faults()
		c.start()
		c.ready()
		c.verify()
		if c.r.IntN(4) == 0 && !c.t.Failed() {
			c.commit()
		}
	}
	c.finish()
}

// next picks a state at random, more often the one that was hit least.
func (c *crash) next() string {
	state := crashStates[c.r.IntN(len(crashStates))]
	if c.r.IntN(3) > 0 {
		for _, s := range crashStates {
			if c.kills[s] < c.kills[state] {
				state = s
			}
		}
	}
	return state
}

// missed reports whether some state was hit less often than the worlds have to
// together to reach least.
func (c *crash) missed(least int) bool {
	for _, s := range crashStates {
		if c.kills[s]*crashWorlds < least {
			return true
		}
	}
	return false
}

func (c *crash) killed() int {
	n := 0
	for _, k := range c.kills {
		n += k
	}
	return n
}

// after counts a kill and clears up.
func (c *crash) after(state string) {
	c.t.Helper()
	c.kills[state]++
	c.rest()
	c.detach()
}

// killAny kills the daemon under the worker.
func (c *crash) killAny() string {
	c.kill()
	c.led.mu.Lock()
	defer c.led.mu.Unlock()
	if len(c.led.dirty) > 0 {
		return "open"
	}
	return "other"
}

// killSealed ends the worker first, so that the files are closed.
func (c *crash) killSealed() string {
	c.stop()
	p, err := c.mount().tryPending()
	c.pause(30 * time.Millisecond)
	c.kill()
	if err == nil && p.has("pending") {
		return "sealed"
	}
	return "other"
}

// commitFault is one way for the answer to a commit to get lost, applied or not.
//
// One that was never applied keeps the next process from committing for more
// than a minute, as it cannot know: that comes last.
func (c *crash) commitFault() hubtest.Fault {
	f := hubtest.Fault{Method: "POST", Path: "/api/*/commit/*"}
	if c.last {
		f.Fault, f.MS = "delay", 3000
		return f
	}
	switch c.r.IntN(3) {
	case 0:
		f.Fault, f.MS = "apply-late", 200
	case 1:
		f.Fault = "apply-then-500"
	default:
		f.Fault = "stall"
	}
	return f
}

// killAtHub kills when a request has arrived at the Hub, which keeps it there.
func (c *crash) killAtHub(state string, f hubtest.Fault) string {
	if c.r.IntN(2) == 0 {
		c.stop()
	}
	c.faults(f)
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Second)
	defer cancel()
	commit := exec.CommandContext(ctx, binary, "commit", "--yes", c.dir)
	commit.Env, commit.Dir = c.env, c.world.dir
	if err := commit.Start(); err != nil {
		c.t.Fatal(err)
	}
	fired := false
	for ctx.Err() == nil && !fired {
		time.Sleep(time.Millisecond)
		fired = c.hub.Faults()[0].Fired > 0
	}
	c.pause(100 * time.Millisecond)
	c.kill()
	commit.Wait()
	if fired {
		return state
	}
	return "other"
}

// journalDir is the folder of the layer.
func (c *crash) journalDir() string {
	found, _ := filepath.Glob(c.world.dir + "/home/hf/hfmount/state/*/journal")
	if len(found) == 0 {
		c.t.Fatal("no journal is found in the state directory")
	}
	return filepath.Dir(found[0])
}

// killCompacting kills when the journal is being written anew, which its
// temporary file shows.
func (c *crash) killCompacting() string {
	c.stop()
	in, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		c.t.Fatal(err)
	}
	defer unix.Close(in)
	if _, err := unix.InotifyAddWatch(in, c.journalDir(), unix.IN_CREATE); err != nil {
		c.t.Fatal(err)
	}
	c.cmd.Process.Signal(syscall.SIGTERM)
	buf := make([]byte, 4096)
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end) && alive(c.cmd.Process.Pid); {
		if n, _ := unix.Read(in, buf); n > 0 && bytes.Contains(buf[:n], []byte("journal.tmp")) {
			time.Sleep(time.Duration(c.r.IntN(150)) * time.Microsecond)
			_, err := os.Stat(c.journalDir() + "/journal.tmp")
			c.kill()
			if err == nil {
				return "compacting"
			}
			return "other" // it was done already
		}
	}
	c.kill()
	return "other"
}

// killRecovering kills a new daemon after it has taken the journal and before
// it has mounted.
func (c *crash) killRecovering() string {
	var st unix.Stat_t
	if err := unix.Stat(c.journalDir()+"/lock", &st); err != nil {
		c.t.Fatal(err)
	}
	mark := fmt.Sprintf(":%d ", st.Ino)
	c.start()
	held := func() bool {
		locks, _ := os.ReadFile("/proc/locks")
		for line := range strings.Lines(string(locks)) {
			if strings.Contains(line, mark) && strings.Contains(line, fmt.Sprintf(" %d ", c.cmd.Process.Pid)) {
				return true
			}
		}
		return false
	}
	taken := false
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end) && !taken; {
		taken = held()
	}
	time.Sleep(time.Duration(c.r.IntN(1500)) * time.Microsecond)
	mounted := c.mounted()
	c.kill()
	if taken && !mounted {
		return "recovering"
	}
	return "other"
}

// verify compares what the mount shows with what was promised, and takes what
// a crash left of unfinished calls into the ledger.
func (c *crash) verify() {
	c.t.Helper()
	l := &c.led
	l.mu.Lock()
	defer l.mu.Unlock()
	shown := committable(folder(c.t, c.dir), nil)
	for _, ch := range c.mount().pending().Changes {
		_, finished := l.done[ch.Path]
		_, under := l.begun[ch.Path]
		if ch.State == "unclosed" && finished && !under && !l.dirty[ch.Path] && !l.wild[ch.Path] && !l.loose[ch.Path] {
			c.t.Errorf("round %d: the close of %s returned, and it counts as unclosed: %s", c.rounds, ch.Path, ch.Reason)
		}
	}
	paths := map[string]bool{}
	for _, m := range []map[string]string{l.done, l.begun, shown} {
		for p := range m {
			paths[p] = true
		}
	}
	for _, p := range slices.Sorted(maps.Keys(paths)) {
		if seed, ok := writeSeed()[p]; ok {
			if shown[p] != digest(seed) {
				c.t.Errorf("round %d: %s of the repository changed", c.rounds, p)
			}
			continue
		}
		got, had := shown[p], l.done[p]
		next, under := l.begun[p]
		switch {
		case (l.dirty[p] || l.wild[p]) && (got != "" || had == ""):
			// Open when it happened: what is there stays nobody's business
			// until somebody finishes the file.
		case got == had, under && got == next:
			if got == "" {
				delete(l.done, p)
			} else {
				l.done[p] = got
			}
		default:
			c.t.Errorf("round %d: %s is %q, want %q (or %q: %v)", c.rounds, p, got, had, next, under)
		}
	}
	// A directory is renamed whole.
	sides := map[bool]int{}
	for p, next := range l.begun {
		if len(l.begun) > 2 {
			sides[shown[p] == next]++
		}
	}
	if len(sides) > 1 {
		c.t.Errorf("round %d: a rename was done in part: %v", c.rounds, l.begun)
	}
	for p := range l.dirty {
		delete(l.done, p)
		l.wild[p] = true
	}
	clear(l.dirty)
	l.begun = nil
}

// commit sends what may be sent; what was open when the daemon died stays.
func (c *crash) commit() {
	c.t.Helper()
	r := c.hfmount("commit", "--yes", c.dir)
	if r.code != 0 && r.code != 3 {
		c.t.Errorf("round %d: commit: %s", c.rounds, r)
	}
}

// finish commits everything, and reads what the Hub has from first to last.
func (c *crash) finish() {
	if c.t.Failed() {
		return
	}
	var p pending
	if !eventually(4*time.Minute, func() bool {
		c.commit()
		p = c.mount().pending()
		for _, ch := range p.Changes {
			if ch.State != "unclosed" {
				return c.t.Failed()
			}
		}
		return true
	}) {
		c.t.Fatalf("it does not come to an end: %+v", p)
	}
	c.verify()
	got := c.clone("alice/c", "main")
	for path, want := range c.led.done {
		if got[path] != want && !(c.led.loose[path] && p.state(path) == "unclosed") {
			c.t.Errorf("the Hub has %s as %q, want %q", path, got[path], want)
		}
	}
	c.history()
	c.kill()
	c.detach()
}

var saveDir = regexp.MustCompile(`^(s\d{4}-\d+)/part\d\.bin$`)

// history checks every commit: it holds only finished files, and no half of a
// save.
func (c *crash) history() {
	log := c.checkCommits("alice/c", "main")
	c.t.Logf("%d commits", len(log))
	seen := map[string]string{} // blob to digest
	saves := map[string]bool{}
	for _, commit := range slices.Backward(log) {
		if len(commit.Parents) == 0 {
			continue
		}
		parts := map[string]int{}
		for _, line := range strings.Split(c.git("alice/c", "diff-tree", "-r", "--no-renames", commit.Parents[0], commit.ID), "\n") {
			meta, path, _ := strings.Cut(line, "\t")
			f := strings.Fields(meta)
			if len(f) < 5 || f[4] == "D" || path == ".gitattributes" {
				continue
			}
			d, ok := seen[f[3]]
			if !ok {
				d = c.blob("alice/c", f[3])
				seen[f[3]] = d
			}
			if _, ok := writeSeed()[path]; !ok && !c.led.declared[path][d] {
				c.t.Errorf("commit %s holds %s as %s, which was never finished", commit.ID, path, d)
			}
			if m := saveDir.FindStringSubmatch(path); m != nil && !saves[m[1]] {
				parts[m[1]]++
			}
		}
		for save, n := range parts {
			saves[save] = true
			if n != 3 {
				c.t.Errorf("commit %s has %d of 3 parts of %s", commit.ID, n, save)
			}
		}
	}
}
