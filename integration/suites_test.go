package integration

import (
	"flag"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/posixtest"

	"hfmount/remote/hubtest"
)

// posixExcluded are the tests of go-fuse's suite that ask for what a
// repository has no room for; docs/SEMANTICS.md has the reasons.
var posixExcluded = map[string]string{
	"Link":                "hard links",
	"LinkUnlinkRename":    "hard links",
	"XAttr":               "extended attributes of one's own",
	"XAttrLarge":          "extended attributes of one's own",
	"FcntlFlockLocksFile": "wants a process to lock itself out, which it does not on local disk",
}

// go-fuse's POSIX tests pass on a mount, but for those that SEMANTICS.md explains.
func TestPosix(t *testing.T) {
	text, err := os.ReadFile("../docs/SEMANTICS.md")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for name := range posixtest.All {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if reason, ok := posixExcluded[name]; ok {
			if !strings.Contains(string(text), "`"+name+"`") {
				t.Errorf("docs/SEMANTICS.md does not say why %s (%s) is left out", name, reason)
			}
			continue
		}
		t.Run(name, func(t *testing.T) {
			w := newWriter(t, hubtest.Options{})
			w.seed("alice/m", map[string][]byte{"f": []byte("f")})
			m := w.writable("alice/m", "--commit", "manual", "--guard", "off")
			if err := os.Mkdir(m.join("posix"), 0o755); err != nil {
				t.Fatal(err)
			}
			posixtest.All[name](t, m.join("posix"))
			if t.Failed() {
				return
			}
			// What is left can be committed, and read again.
			m.send()
			if d := differences(committable(folder(t, m.path), nil), committable(w.clone("alice/m", "main"), nil)); d != "" {
				t.Errorf("a clone differs:\n%s", d)
			}
		})
	}
}

var suiteTime = flag.Duration("suite.time", 60*time.Second, "how long TestStress goes on")

// fio writes and verifies what it wrote: buffered, through mappings, with fsync.
func TestFio(t *testing.T) {
	w := newWriter(t, hubtest.Options{})
	w.seed("alice/m", writeSeed())
	m := w.writable("alice/m", "--commit", "manual", "--guard", "off")
	for _, job := range []struct{ name, flags string }{
		{"sequential", "--ioengine=psync --rw=write --bs=64k"},
		{"random", "--ioengine=psync --rw=randwrite --bs=4k"},
		{"mixed", "--ioengine=psync --rw=randrw --bsrange=1k-64k --bs_unaligned=1"},
		{"mmap", "--ioengine=mmap --rw=randwrite --bs=4k"},
		{"fsync", "--ioengine=psync --rw=randwrite --bs=4k --fsync=32 --end_fsync=1"},
		{"fdatasync, overwrite", "--ioengine=psync --rw=randwrite --bs=8k --overwrite=1 --fdatasync=64"},
	} {
		t.Run(job.name, func(t *testing.T) {
			dir := m.join(strings.ReplaceAll(job.name, ", ", "-"))
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			args := append([]string{"--name=v", "--directory=" + dir, "--size=16M", "--numjobs=2", "--verify=crc32c",
				"--verify_fatal=1", "--do_verify=1", "--group_reporting", "--output-format=terse", "--randseed=5"}, strings.Fields(job.flags)...)
			if r := w.command("fio", args...); r.code != 0 {
				t.Errorf("fio: %s", r)
			}
		})
	}
	want := committable(folder(t, m.path), nil)
	m.send()
	if d := differences(want, committable(w.clone("alice/m", "main"), nil)); d != "" {
		t.Errorf("a clone differs:\n%s", d)
	}
}

// stressExcluded are the file system stressors of stress-ng that are left out:
// those that need a file system of their own or its internals, and those about
// what a repository has no room for; docs/SEMANTICS.md has the reasons.
var stressExcluded = []string{
	"bind-mount", "binderfs", "chattr", "fiemap", "handle", "inode-flags", "link", "mknod", "procfs", "verity", "xattr",
}

// stress-ng's file system stressors, one after the other, find nothing wrong,
// and leave a mount that works.
func TestStress(t *testing.T) {
	text, err := os.ReadFile("../docs/SEMANTICS.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range stressExcluded {
		if !strings.Contains(string(text), "`"+name+"`") {
			t.Errorf("docs/SEMANTICS.md does not say why %s is left out", name)
		}
	}
	out, _ := exec.Command("stress-ng", "--class", "filesystem?").CombinedOutput()
	_, list, ok := strings.Cut(string(out), "stressors:")
	if !ok {
		t.Fatalf("stress-ng names no stressors: %s", out)
	}
	var stressors []string
	for _, s := range strings.Fields(list) {
		if !slices.Contains(stressExcluded, s) {
			stressors = append(stressors, s)
		}
	}
	if len(stressors) < 15 {
		t.Fatalf("only %v", stressors)
	}
	w := newWriter(t, hubtest.Options{})
	w.seed("alice/m", writeSeed())
	m := w.writable("alice/m", "--commit", "manual", "--guard", "off")
	each := max(time.Second, *suiteTime/time.Duration(len(stressors)))
	for _, s := range stressors {
		t.Run(s, func(t *testing.T) {
			dir := m.join("stress-" + s)
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			r := w.command("stress-ng", "--"+s, "1", "--timeout", each.Round(time.Second).String(), "--temp-path", dir, "--verify", "--oomable")
			if r.code != 0 {
				t.Errorf("stress-ng: %s", r)
			}
			if err := os.RemoveAll(dir); err != nil {
				t.Errorf("what it left cannot be removed: %v", err)
			}
			if p := m.pending(); p.LastError != nil {
				t.Errorf("the mount reports %+v", *p.LastError)
			}
		})
	}
	m.send()
	if d := differences(committable(folder(t, m.path), nil), committable(w.clone("alice/m", "main"), nil)); d != "" {
		t.Errorf("a clone differs:\n%s", d)
	}
}
