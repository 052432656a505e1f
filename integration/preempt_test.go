package integration

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"hfmount/remote/hubtest"
)

var preemptFull = flag.Bool("preempt.full", false, "TestPreemption saves 5 GB at 100 MB/s, not a fiftieth of that")

// The node goes in the middle of a save: SIGTERM, and 30 s later the end. What
// was closed is on the Hub or in the journal, and no half of a checkpoint is
// on the branch.
func TestPreemption(t *testing.T) {
	scale := 50
	if *preemptFull {
		scale = 1
	}
	const shards = 20
	shard, rate := 250_000_000/scale, int64(100_000_000/scale)
	for _, tt := range []struct {
		name   string
		closed int  // shards that are closed when the signal comes
		open   bool // another one is being written
	}{
		{"while a shard is written", 4, true},
		{"between two shards", 6, false},
		{"early", 1, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWriter(t, hubtest.Options{Bandwidth: 4 * rate})
			w.seed("alice/m", writeSeed())
			m := w.writable("alice/m", "--guard", "off")
			// The last complete checkpoint.
			if err := os.MkdirAll(m.join("ckpt-1"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(m.join("ckpt-1", "w.bin"), noise(1, shard), 0o644); err != nil {
				t.Fatal(err)
			}
			m.send()
			if err := os.Mkdir(m.join("ckpt-2"), 0o755); err != nil {
				t.Fatal(err)
			}
			want := map[string]string{}
			write := func(i int, part int) *os.File {
				name := fmt.Sprintf("ckpt-2/shard-%02d-of-%d.bin", i, shards)
				f, err := os.Create(m.join(name))
				if err != nil {
					t.Fatal(err)
				}
				data := noise(uint64(100+i), shard)
				for off := 0; off < part; off += shard / 10 {
					if _, err := f.Write(data[off:min(part, off+shard/10)]); err != nil {
						t.Fatal(err)
					}
					time.Sleep(time.Duration(int64(time.Second) * int64(shard/10) / rate))
				}
				if part == shard {
					want[name] = digest(data)
				}
				return f
			}
			for i := range tt.closed {
				if err := write(i, shard).Close(); err != nil {
					t.Fatal(err)
				}
			}
			var open *os.File
			if tt.open {
				open = write(tt.closed, shard/2)
			}
			if err := syscall.Kill(m.pid, syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			m.gone = true
			eventually(30*time.Second, func() bool { return !alive(m.pid) })
			if alive(m.pid) {
				syscall.Kill(m.pid, syscall.SIGKILL)
				eventually(10*time.Second, func() bool { return !alive(m.pid) })
			}
			if open != nil {
				open.Close()
			}
			m.detach()

			head := w.clone("alice/m", "main")
			if head["ckpt-1/w.bin"] != digest(noise(1, shard)) {
				t.Error("the last complete checkpoint is gone from the branch")
			}
			onHub := 0
			for name, d := range head {
				if strings.HasPrefix(name, "ckpt-2/") {
					onHub++
					if d != want[name] {
						t.Errorf("the branch has %s as %s, want %s", name, d, want[name])
					}
				}
			}
			// With a shard open it is known to be half of one.
			if tt.open && onHub != 0 || onHub != 0 && onHub != tt.closed {
				t.Errorf("%d of %d shards are on the branch", onHub, tt.closed)
			}
			again := w.writable("alice/m", "--guard", "off", "--commit", "manual")
			shown := folder(t, again.path)
			for name, d := range want {
				if shown[name] != d {
					t.Errorf("%s was closed, and is %q now", name, shown[name])
				}
			}
			if tt.open {
				name := filepath.Join("ckpt-2", fmt.Sprintf("shard-%02d-of-%d.bin", tt.closed, shards))
				if s := again.pending().state(name); s != "unclosed" {
					t.Errorf("the shard that was being written is %q, want unclosed", s)
				}
				again.must(binary, "discard", "--yes", again.join(name))
				delete(shown, name)
			}
			again.send()
			if d := differences(committable(shown, nil), committable(w.clone("alice/m", "main"), nil)); d != "" {
				t.Errorf("a clone differs in the end:\n%s", d)
			}
			w.checkCommits("alice/m", "main")
		})
	}
}
