package integration

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"hfmount/remote/hubtest"
)

const (
	cdn     = "*/xet-bridge-us/*" // signed URLs
	resolve = "*/resolve/*"
)

// anyLog allows warnings where a test provokes them.
var anyLog = regexp.MustCompile(`(?i)warn|error`)

// bigFile is what the fault table reads.
var bigFile = hubtest.Synthetic{Size: 200_000_001, Seed: 200}

// Each fault that a read can meet, during sha256sum of a 200 MB file: the
// right bytes, or EIO within the deadline.
func TestFaults(t *testing.T) {
	tests := []struct {
		name   string
		rules  []hubtest.Fault
		flags  []string
		expire bool // all signed URLs, while the file is being read
		fails  bool // EIO, and the next read is right
		within time.Duration
	}{
		{name: "status 503 from the CDN", within: time.Minute,
			rules: []hubtest.Fault{{Host: "cdn", Path: cdn, Fault: "status", Status: 503, Every: 5, Times: 4}}},
		{name: "status 500 from resolve", within: time.Minute,
			rules: []hubtest.Fault{{Host: "hub", Path: resolve, Fault: "status", Status: 500, Times: 2}}},
		{name: "status 429 from the CDN", within: time.Minute,
			rules: []hubtest.Fault{{Host: "cdn", Path: cdn, Fault: "status", Status: 429, Every: 4, Times: 3}}},
		{name: "status 429 with Retry-After from resolve", within: time.Minute,
			rules: []hubtest.Fault{{Host: "hub", Path: resolve, Fault: "status", Status: 429, Times: 1,
				Headers: map[string]string{"Retry-After": "1"}}}},
		{name: "status 403 from the CDN", within: time.Minute,
			rules: []hubtest.Fault{{Host: "cdn", Path: cdn, Fault: "status", Status: 403, Every: 6, Times: 2}}},
		{name: "delay", within: time.Minute,
			rules: []hubtest.Fault{{Host: "cdn", Path: cdn, Fault: "delay", MS: 400, Every: 3}}},
		{name: "reset", within: time.Minute,
			rules: []hubtest.Fault{{Host: "cdn", Path: cdn, Fault: "reset", Every: 4, Times: 4}}},
		{name: "reset from resolve", within: time.Minute,
			rules: []hubtest.Fault{{Host: "hub", Path: resolve, Fault: "reset", Times: 2}}},
		{name: "truncate", within: time.Minute,
			rules: []hubtest.Fault{{Host: "cdn", Path: cdn, Fault: "truncate", After: 300_000, Every: 3, Times: 5}}},
		{name: "truncate at once", within: time.Minute,
			rules: []hubtest.Fault{{Host: "cdn", Path: cdn, Fault: "truncate", After: 0, Times: 2}}},
		{name: "stall", within: 2 * time.Minute,
			rules: []hubtest.Fault{{Host: "cdn", Path: cdn, Fault: "stall", After: 300_000, Nth: 3}}},
		{name: "corrupt", fails: true, within: time.Minute,
			rules: []hubtest.Fault{{Host: "cdn", Path: cdn, Fault: "corrupt", At: 123_456_789, Times: 1}}},
		{name: "corrupt in the last block", fails: true, within: time.Minute,
			rules: []hubtest.Fault{{Host: "cdn", Path: cdn, Fault: "corrupt", At: 200_000_000, Times: 1}}},
		{name: "corrupt without a disk tier", fails: true, within: time.Minute,
			flags: []string{"--cache-size", "0", "--memory", "64M"},
			rules: []hubtest.Fault{{Host: "cdn", Path: cdn, Fault: "corrupt", At: 1_000_000, Times: 1}}},
		{name: "wrong-range", within: time.Minute,
			rules: []hubtest.Fault{{Host: "cdn", Path: cdn, Fault: "wrong-range", Every: 4, Times: 3}}},
		{name: "ignore-range", within: time.Minute,
			rules: []hubtest.Fault{{Host: "cdn", Path: cdn, Fault: "ignore-range", Nth: 3}}},
		{name: "max-connections", within: time.Minute,
			rules: []hubtest.Fault{{Host: "cdn", Path: cdn, Fault: "max-connections", N: 2}}},
		{name: "expired URLs", expire: true, within: time.Minute},
		{name: "several at once", within: 2 * time.Minute,
			rules: []hubtest.Fault{
				{Host: "cdn", Path: cdn, Fault: "status", Status: 503, Every: 7, Times: 3},
				{Host: "cdn", Path: cdn, Fault: "reset", Every: 5, Times: 3},
				{Host: "cdn", Path: cdn, Fault: "truncate", After: 100_000, Every: 3, Times: 3},
			}},
	}
	want := bigFile.SHA256()
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, hubtest.Options{})
			w.synthetic("alice/big", map[string]hubtest.Synthetic{"w.bin": bigFile})
			m := w.mount("alice/big", test.flags...)
			m.allow = anyLog
			w.faults(test.rules...)
			var resolved int64
			if test.expire {
				// Some of it is read, so that a signed URL is known and then useless.
				w.must("head", "-c", "100000", m.join("w.bin"))
				resolved = w.hub.Stats().Quota["resolvers"]
				w.hub.ExpireURLs()
			}
			begin := time.Now()
			r := w.command("sha256sum", m.join("w.bin"))
			if took := time.Since(begin); took > test.within {
				t.Errorf("took %s, allowed %s", took, test.within)
			}
			switch {
			case test.fails && (r.code == 0 || !strings.Contains(r.stderr, "Input/output error")):
				t.Errorf("want EIO: %s", r)
			case !test.fails && (r.code != 0 || !strings.HasPrefix(r.stdout, want)):
				t.Errorf("want %s: %s", want, r)
			}
			if !test.expire {
				w.mustHaveFired(1)
			} else if w.hub.Stats().Quota["resolvers"] == resolved {
				t.Error("no new URL was asked for after the old ones had expired")
			}
			if r := w.command("sha256sum", m.join("w.bin")); r.code != 0 || !strings.HasPrefix(r.stdout, want) {
				t.Errorf("the next read: want %s: %s", want, r)
			}
		})
	}
}

// Faults of metadata during a first look at a repository.
func TestFaultsOfListings(t *testing.T) {
	for _, fault := range []hubtest.Fault{
		{Host: "hub", Path: "*/tree/*", Fault: "status", Status: 503, Every: 2, Times: 3},
		{Host: "hub", Path: "*/tree/*", Fault: "status", Status: 429, Times: 1, Headers: map[string]string{"Retry-After": "1"}},
		{Host: "hub", Path: "*/tree/*", Fault: "reset", Every: 2, Times: 3},
		{Host: "hub", Path: "*/tree/*", Fault: "truncate", After: 20, Times: 2},
		{Host: "hub", Path: "*/tree/*", Fault: "delay", MS: 300, Times: 3},
		{Host: "hub", Path: "*/revision/*", Fault: "status", Status: 502, Times: 1},
		{Host: "hub", Path: "*/revision/*", Fault: "reset", Times: 1},
	} {
		t.Run(fmt.Sprintf("%s %d %s", fault.Fault, fault.Status, strings.Trim(fault.Path, "*/")), func(t *testing.T) {
			w := newWorld(t, hubtest.Options{PageSize: 3})
			w.commit("alice/sample", sample())
			w.faults(fault)
			m := w.mount("alice/sample")
			m.allow = anyLog
			out := w.must("find", m.path, "-type", "f")
			if n := strings.Count(out, "\n"); n != len(sample())+1 {
				t.Errorf("found %d files, want %d:\n%s", n, len(sample())+1, out)
			}
			w.mustHaveFired(1)
		})
	}
}

// A Hub that never recovers: EIO at the deadline, not ENOENT, not a hang; and
// reads work again when it does.
func TestDeadline(t *testing.T) {
	for _, fault := range []hubtest.Fault{
		{Path: cdn, Host: "cdn", Fault: "status", Status: 503},
		{Path: cdn, Host: "cdn", Fault: "stall", After: 1000},
		{Path: cdn, Host: "cdn", Fault: "reset"},
		{Path: cdn, Host: "cdn", Fault: "wrong-range"},
	} {
		t.Run(fault.Fault, func(t *testing.T) {
			w := newWorld(t, hubtest.Options{})
			w.synthetic("alice/big", map[string]hubtest.Synthetic{"w.bin": bigFile})
			m := w.mount("alice/big", "--read-timeout", "3s")
			m.allow = anyLog
			w.faults(fault)
			begin := time.Now()
			r := w.command("head", "-c", "1000000", m.join("w.bin"))
			if r.code == 0 || !strings.Contains(r.stderr, "Input/output error") {
				t.Errorf("want EIO: %s", r)
			}
			if took := time.Since(begin); took > 45*time.Second {
				t.Errorf("EIO came after %s", took)
			}
			w.mustHaveFired(1)
			ok := eventually(30*time.Second, func() bool {
				r := w.command("sha256sum", m.join("w.bin"))
				return r.code == 0 && strings.HasPrefix(r.stdout, bigFile.SHA256())
			})
			if !ok {
				t.Error("no right read after the fault had gone")
			}
		})
	}
}

// A reader that is killed while the Hub stalls is gone at once, and so is one
// that is interrupted; the mount unmounts.
func TestKilledReader(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			w := newWorld(t, hubtest.Options{})
			w.synthetic("alice/big", map[string]hubtest.Synthetic{"w.bin": bigFile})
			m := w.mount("alice/big")
			m.allow = anyLog
			w.faults(hubtest.Fault{Host: "cdn", Path: cdn, Fault: "stall", After: 0})
			reader := exec.Command("sha256sum", m.join("w.bin"))
			var out bytes.Buffer
			reader.Stdout, reader.Stderr = &out, &out
			if err := reader.Start(); err != nil {
				t.Fatal(err)
			}
			if !eventually(20*time.Second, func() bool { return w.hub.Faults()[0].Fired > 0 }) {
				reader.Process.Kill()
				t.Fatal("the reader never met the fault")
			}
			time.Sleep(200 * time.Millisecond) // it is in its read by now, or dies before
			reader.Process.Signal(sig)
			begin := time.Now()
			done := make(chan error, 1)
			go func() { done <- reader.Wait() }()
			select {
			case <-done:
				if took := time.Since(begin); took > 2*time.Second {
					t.Errorf("the reader was gone after %s", took)
				}
			case <-time.After(30 * time.Second):
				t.Errorf("the reader survives %s", sig)
			}
			w.mustHaveFired(1)
			m.unmount()
		})
	}
}

// A small file is verified before its first byte is served.
func TestCorruptSmallFile(t *testing.T) {
	w := newWorld(t, hubtest.Options{})
	data := noise(3, 5<<20)
	w.commit("alice/small", map[string][]byte{"s.bin": data})
	m := w.mount("alice/small")
	m.allow = anyLog
	w.faults(hubtest.Fault{Fault: "corrupt", At: 4 << 20, Path: cdn, Host: "cdn", Times: 1})
	f, err := os.Open(m.join("s.bin"))
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, err := f.ReadAt(buf, 0)
	if err == nil && !bytes.Equal(buf[:n], data[:n]) || err != nil && !isErrno(err, syscall.EIO) {
		t.Errorf("the first bytes: %d, %v", n, err)
	}
	f.Close()
	w.mustHaveFired(1)
	if got, err := os.ReadFile(m.join("s.bin")); err != nil || !bytes.Equal(got, data) {
		t.Errorf("the next read: %d bytes, %v", len(got), err)
	}
}
