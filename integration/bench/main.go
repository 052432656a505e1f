// Bench measures hfmount against what the wire and the disk can do, in one
// run on one machine, and prints ratios. The Hub runs in this process, the
// mounts and every reader are subprocesses. Raw figures are curl processes
// with their URLs resolved beforehand, the best of all rounds; everything else
// is a median. What was read is hashed in a round of its own.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"hfmount/remote/hub"
	"hfmount/remote/hubtest"
)

var repo = hub.Repo{Namespace: "bench", Name: "model"}

func main() {
	var b bench
	var out, work string
	var mib, files int
	flag.StringVar(&b.hfmount, "hfmount", "hfmount", "the `program` to measure")
	flag.StringVar(&b.dir, "dir", os.TempDir(), "a `directory` on a real disk for caches")
	flag.StringVar(&out, "o", "", "also write the table to `file`")
	flag.IntVar(&b.rounds, "n", 5, "rounds of each measurement")
	flag.IntVar(&mib, "mib", 1024, "`size` of the file that is read cold, in MiB")
	flag.IntVar(&files, "files", 100_000, "`number` of files that find walks, 100 a folder")
	flag.StringVar(&b.only, "only", "", "measure only rows whose section is `name`: shaped, unshaped, warm, header, find, write, commit")
	flag.StringVar(&work, "work", "", "only do the `work` of that name in -dir, as a subprocess")
	flag.Parse()
	if work != "" {
		if err := works[work](b.dir); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	b.file = hubtest.Synthetic{Size: int64(mib) << 20, Seed: 1}
	b.files = files
	if err := b.run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	table := b.table()
	fmt.Print(table)
	if out != "" {
		if err := os.WriteFile(out, []byte(table), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
	}
}

// bench is one run.
type bench struct {
	hfmount, dir, only string
	rounds, files      int
	file               hubtest.Synthetic

	hub  *hubtest.Hub
	srv  *hubtest.Server
	rows []row
	made int // mounts, for names
}

// row is one line of the table.
type row struct{ section, what, value, ratio, note string }

func (b *bench) run() error {
	h, err := hubtest.New(hubtest.Options{URLTTL: 24 * time.Hour})
	if err != nil {
		return err
	}
	defer h.Close()
	b.hub = h
	if b.srv, err = h.Listen("127.0.0.1:0", "127.0.0.1:0"); err != nil {
		return err
	}
	defer b.srv.Close()
	if err := h.CreateRepo(repo, hubtest.RepoOptions{}); err != nil {
		return err
	}
	_, err = h.CommitSynthetic(repo, "main", "files", map[string]hubtest.Synthetic{
		"w.bin": b.file, "10g.bin": {Size: 10_000_000_000, Seed: 2},
	})
	if err != nil {
		return err
	}
	for _, s := range []struct {
		name string
		do   func() error
	}{
		{"shaped", b.shaped}, {"unshaped", b.unshaped}, {"warm", b.warm}, {"header", b.header}, {"find", b.find},
		{"write", b.write}, {"commit", b.commit},
	} {
		if b.only != "" && b.only != s.name {
			continue
		}
		fmt.Fprintln(os.Stderr, "bench:", s.name)
		if err := s.do(); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

func (b *bench) add(section, what, value, ratio, note string) {
	b.rows = append(b.rows, row{section, what, value, ratio, note})
}

// shaped and unshaped compare cold sequential reads with raw transfers.
func (b *bench) shaped() error {
	b.hub.Shape(30*time.Millisecond, 100_000_000)
	defer b.hub.Shape(0, 0)
	return b.cold("cold sequential read, 30 ms and 100 MB/s a connection")
}

func (b *bench) unshaped() error { return b.cold("cold sequential read, unshaped") }

// cold measures rounds in turn, so that a slow moment of the machine falls on
// all of them alike.
func (b *bench) cold(section string) error {
	url, err := b.signedURL("w.bin")
	if err != nil {
		return err
	}
	rclone, _ := exec.LookPath("rclone")
	var single, parallel, disk, memory, peer []time.Duration
	measure := func(to *[]time.Duration, f func() (time.Duration, error)) error {
		d, err := f()
		if err == nil {
			*to = append(*to, d)
		}
		return err
	}
	for range b.rounds {
		err := errors.Join(
			measure(&parallel, func() (time.Duration, error) { return b.curl(url, 16) }),
			measure(&disk, func() (time.Duration, error) { return b.coldRead(false) }),
			measure(&memory, func() (time.Duration, error) { return b.coldRead(false, "--cache-size", "0") }),
			measure(&single, func() (time.Duration, error) { return b.curl(url, 1) }),
		)
		if err == nil && rclone != "" {
			err = measure(&peer, func() (time.Duration, error) { return b.rclone(rclone) })
		}
		if err != nil {
			return err
		}
	}
	if _, err := b.coldRead(true); err != nil {
		return err
	}
	raw, one := slices.Min(parallel), slices.Min(single)
	b.add(section, "raw, 16 connections (curl, best)", b.rate(raw), "1", "")
	b.add(section, "raw, one connection (curl, best)", b.rate(one), ratio(raw, one), "")
	for _, r := range []struct {
		what  string
		times []time.Duration
	}{{"hfmount, cold, defaults", disk}, {"hfmount, cold, --cache-size 0", memory}} {
		d := median(r.times)
		b.add(section, r.what, b.rate(d), ratio(raw, d), fmt.Sprintf("%.1fx one connection", one.Seconds()/d.Seconds()))
	}
	if len(peer) > 0 {
		d := median(peer)
		b.add(section, "rclone mount, defaults", b.rate(d), ratio(raw, d), fmt.Sprintf("hfmount is %.1fx", d.Seconds()/median(disk).Seconds()))
	} else {
		b.add(section, "rclone mount", "not installed", "", "")
	}
	return nil
}

// coldRead mounts with an empty cache and reads the file front to back.
func (b *bench) coldRead(verify bool, flags ...string) (time.Duration, error) {
	m, err := b.mount(flags...)
	if err != nil {
		return 0, err
	}
	d, err := b.read(m.path("w.bin"), verify)
	return d, errors.Join(err, m.close())
}

// read times dd, or checks the content's hash.
func (b *bench) read(path string, verify bool) (time.Duration, error) {
	if verify {
		out, err := exec.Command("sha256sum", path).Output()
		if err == nil && !strings.HasPrefix(string(out), b.file.SHA256()) {
			err = fmt.Errorf("%s has other content", path)
		}
		return 0, err
	}
	return timed("dd", "if="+path, "of=/dev/null", "bs=1M", "status=none")
}

// warm compares a complete file, opened again and after a remount, with the
// same bytes on local disk in the page cache.
func (b *bench) warm() error {
	native := filepath.Join(b.dir, "native.bin")
	defer os.Remove(native)
	m, err := b.mount()
	if err != nil {
		return err
	}
	defer func() { m.close() }()
	if _, err := b.read(m.path("w.bin"), true); err != nil {
		return err
	}
	if _, err := timed("cp", m.path("w.bin"), native); err != nil {
		return err
	}
	var local, again, remounted []time.Duration
	var requests, cdn int64
	for range b.rounds {
		if _, err := b.read(native, false); err != nil { // into the page cache
			return err
		}
		d, err := b.read(native, false)
		if err != nil {
			return err
		}
		local = append(local, d)
		if _, err := b.read(m.path("w.bin"), false); err != nil {
			return err
		}
		if d, err = b.read(m.path("w.bin"), false); err != nil {
			return err
		}
		again = append(again, d)
		b.hub.ResetStats()
		if m, err = m.remount(); err != nil {
			return err
		}
		if d, err = b.read(m.path("w.bin"), false); err != nil {
			return err
		}
		remounted = append(remounted, d)
		s := b.hub.Stats()
		requests, cdn = max(requests, s.Total), max(cdn, s.Quota["cdn"]+s.Quota["resolvers"])
	}
	if _, err := b.read(m.path("w.bin"), true); err != nil {
		return err
	}
	n := median(local)
	b.add("complete file", "native, page cache", b.rate(n), "1", "")
	b.add("complete file", "hfmount, second open", b.rate(median(again)), ratio(n, median(again)), "")
	b.add("complete file", "hfmount, first open after a remount", b.rate(median(remounted)), ratio(n, median(remounted)),
		fmt.Sprintf("%d requests, %d for content", requests, cdn))
	return nil
}

// header counts what the first 100 KB of a 10 GB file cost.
func (b *bench) header() error {
	b.hub.Shape(30*time.Millisecond, 100_000_000)
	defer b.hub.Shape(0, 0)
	var times []time.Duration
	var stats hubtest.Stats
	for range b.rounds {
		m, err := b.mount()
		if err != nil {
			return err
		}
		if _, err := os.Stat(m.path("10g.bin")); err != nil {
			return err
		}
		b.hub.ResetStats()
		d, err := timed("dd", "if="+m.path("10g.bin"), "of=/dev/null", "bs=100000", "count=1", "status=none")
		if err != nil {
			return err
		}
		times = append(times, d)
		time.Sleep(500 * time.Millisecond) // what is read ahead counts
		stats = b.hub.Stats()
		if err := m.close(); err != nil {
			return err
		}
	}
	b.add("header of 10 GB", "first 100 KB, shaped", median(times).Round(time.Millisecond).String(), "",
		fmt.Sprintf("%.2f MB fetched; requests: api %d, resolvers %d, cdn %d", float64(stats.BytesSent)/1e6,
			stats.Quota["api"], stats.Quota["resolvers"], stats.Quota["cdn"]))
	return nil
}

// find walks many files: cold, again, after a remount; and natively.
func (b *bench) find() error {
	many := hub.Repo{Namespace: "bench", Name: "many"}
	if err := b.hub.CreateRepo(many, hubtest.RepoOptions{}); err != nil {
		return err
	}
	local := filepath.Join(b.dir, "many")
	defer os.RemoveAll(local)
	files := make(map[string][]byte, b.files)
	for i := range b.files {
		name := fmt.Sprintf("d%04d/f%02d", i/100, i%100)
		files[name] = []byte(name)
		p := filepath.Join(local, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(p, files[name], 0o644); err != nil {
			return err
		}
	}
	if _, err := b.hub.Commit(many, "main", "many files", files); err != nil {
		return err
	}
	walk := func(dir string) (time.Duration, error) {
		begin := time.Now()
		out, err := exec.Command("find", dir, "-type", "f", "-size", "-2").Output()
		d := time.Since(begin)
		if n := strings.Count(string(out), "\n"); err == nil && n < b.files {
			err = fmt.Errorf("find shows %d of %d files", n, b.files)
		}
		return d, err
	}
	var native, cold, again, remounted []time.Duration
	var api, apiAgain int64
	for range b.rounds {
		if _, err := walk(local); err != nil {
			return err
		}
		d, err := walk(local)
		if err != nil {
			return err
		}
		native = append(native, d)
		b.hub.ResetStats()
		m, err := b.mountRepo(many)
		if err != nil {
			return err
		}
		for _, to := range []*[]time.Duration{&cold, &again} {
			if d, err = walk(m.dir); err != nil {
				return errors.Join(err, m.close())
			}
			*to = append(*to, d)
			if to == &cold {
				api = b.hub.Stats().Quota["api"]
				b.hub.ResetStats()
			}
		}
		apiAgain = b.hub.Stats().Quota["api"]
		if m, err = m.remount(); err != nil {
			return err
		}
		if d, err = walk(m.dir); err != nil {
			return errors.Join(err, m.close())
		}
		remounted = append(remounted, d)
		if err := m.close(); err != nil {
			return err
		}
	}
	section, n := fmt.Sprintf("find -size over %d files", b.files), median(native)
	b.add(section, "native, warm", seconds(n), "1", "")
	b.add(section, "hfmount, cold", seconds(median(cold)), ratio(n, median(cold)), fmt.Sprintf("%d API requests, the mount's included", api))
	b.add(section, "hfmount, again", seconds(median(again)), ratio(n, median(again)), fmt.Sprintf("%d API requests", apiAgain))
	b.add(section, "hfmount, after a remount", seconds(median(remounted)), ratio(n, median(remounted)), "")
	return nil
}

// table renders the rows as Markdown.
func (b *bench) table() string {
	var s strings.Builder
	commit, _ := exec.Command("git", "rev-parse", "--short", "HEAD").Output()
	var kernel syscall.Utsname
	syscall.Uname(&kernel)
	fmt.Fprintf(&s, "# Benchmarks\n\nMade by `make bench` at commit %s: %d rounds, %d MiB, kernel %s, user id %d. Raw figures are the best round, the others medians;\nratios are speed against the first line of each section. The content was verified and the logs of the mounts were empty of warnings.\n",
		strings.TrimSpace(string(commit)), b.rounds, b.file.Size>>20, chars(kernel.Release[:]), os.Getuid())
	section := ""
	for _, r := range b.rows {
		if r.section != section {
			section = r.section
			fmt.Fprintf(&s, "\n## %s\n\n| | measured | ratio | |\n|---|--:|--:|---|\n", section)
		}
		fmt.Fprintf(&s, "| %s | %s | %s | %s |\n", r.what, r.value, r.ratio, r.note)
	}
	return s.String()
}

func chars(c []int8) string {
	var s strings.Builder
	for _, b := range c {
		if b == 0 {
			break
		}
		s.WriteByte(byte(b))
	}
	return s.String()
}

func (b *bench) rate(d time.Duration) string {
	return fmt.Sprintf("%.0f MB/s", float64(b.file.Size)/1e6/d.Seconds())
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

// ratio is how fast d is, where base is 1.
func ratio(base, d time.Duration) string { return fmt.Sprintf("%.2f", base.Seconds()/d.Seconds()) }

func median(d []time.Duration) time.Duration {
	s := slices.Sorted(slices.Values(d))
	return s[len(s)/2]
}
