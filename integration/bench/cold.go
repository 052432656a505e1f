package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"hfmount/remote/hubtest"
)

const (
	near    = 30 * time.Millisecond
	nearBPS = 100_000_000
	farAway = 100 * time.Millisecond
	farBPS  = 50_000_000
)

// shaped, far and unshaped compare cold sequential reads with raw transfers.
func (b *bench) shaped() error {
	return b.cold(near, nearBPS, coldBars{disk: atLeast(0.92), single: atLeast(10), peers: true})
}

func (b *bench) far() error {
	return b.cold(farAway, farBPS, coldBars{disk: atLeast(0.90)})
}

func (b *bench) unshaped() error {
	return b.cold(0, 0, coldBars{disk: atLeast(0.30), memory: atLeast(0.45), peers: true})
}

// coldBars are the bars of a shape. Those that are nil are rows without.
type coldBars struct {
	disk, memory, single *bar
	peers                bool // one connection and rclone are measured, too
}

func (b *bench) cold(latency time.Duration, bps int64, bars coldBars) error {
	if err := b.publishFiles(map[string]hubtest.Synthetic{"w.bin": b.file}); err != nil {
		return err
	}
	url, err := resolved(b.hub, repo, "w.bin")
	if err != nil {
		return err
	}
	if err := b.hub.Shape(latency, bps); err != nil {
		return err
	}
	probes := []probe{b.raw(shares(url, b.file.Size, connections)...), b.coldRead(), b.coldRead("--cache-size", "0"), nil, nil, nil}
	if bars.peers {
		probes[3] = times(aQuarter, b.raw(shares(url, b.file.Size/aQuarter, 1)...))
		if b.rclone != "" {
			probes[4] = times(aQuarter, b.rcloneCold(aQuarter))
			probes[5] = b.rcloneCold(1, rcloneTuned...)
		}
	}
	all, err := b.take(probes...)
	if err != nil {
		return err
	}
	if err := errAll("verify", b.verifyCold(), b.verifyCold("--cache-size", "0")); err != nil {
		return err
	}
	best := all[0].best()
	b.add("raw, 16 connections (curl, best)", rate(b.file.Size, best), "1", "")
	if bars.peers {
		b.add("raw, one connection (curl, best)", rate(b.file.Size, all[3].best()), ratio(best, all[3].best()), "of a quarter of the file, as rclone's defaults")
	}
	for _, r := range []struct {
		what  string
		times samples
		bar   *bar
	}{{"hfmount, defaults", all[1], bars.disk}, {"hfmount, --cache-size 0 (memory only)", all[2], bars.memory}} {
		d := r.times.median()
		if r.bar == nil {
			b.add(r.what, rate(b.file.Size, d), ratio(best, d), "")
			continue
		}
		b.check(r.what, rate(b.file.Size, d), over(best, d), r.bar, "")
	}
	if bars.single != nil {
		d := all[1].median()
		b.check("hfmount, defaults / one connection", rate(b.file.Size, d), over(all[3].best(), d), bars.single, "")
	}
	if bars.peers {
		b.peerRow("rclone, defaults", b.file.Size, best, all[1].median(), all[4])
		b.peerRow("rclone, 16 streams of 16 MiB", b.file.Size, best, all[1].median(), all[5])
	}
	return nil
}

// peerRow shows what rclone took, and how hfmount compares with it.
func (b *bench) peerRow(what string, bytes int64, base, ours time.Duration, times samples) {
	if len(times) == 0 {
		b.add(what, "not installed", "", "")
		return
	}
	d := times.median()
	b.add(what, rate(bytes, d), ratio(base, d), fmt.Sprintf("hfmount is %sx", ratio(d, ours)))
}

// coldRead mounts with an empty cache and reads the file front to back.
func (b *bench) coldRead(flags ...string) probe {
	return func() (time.Duration, error) {
		return b.fresh(repo, flags, func(m *mounted) (time.Duration, error) { return m.dd(m.path("w.bin")) })
	}
}

// verifyCold reads the file as coldRead does, and compares its hash.
func (b *bench) verifyCold(flags ...string) error {
	_, err := b.fresh(repo, flags, func(m *mounted) (time.Duration, error) {
		return 0, m.verify(m.path("w.bin"), b.file)
	})
	return err
}

// verify fails unless the file has that content.
func (r reader) verify(path string, want hubtest.Synthetic) error {
	out, err := r.command("sha256sum", path).Output()
	if err == nil && !strings.HasPrefix(string(out), want.SHA256()) {
		err = fmt.Errorf("%s has other content", path)
	}
	return err
}

// firstByte compares the first byte after open with that of a plain GET.
func (b *bench) firstByte() error {
	if err := b.publishFiles(map[string]hubtest.Synthetic{"w.bin": b.file}); err != nil {
		return err
	}
	url, err := resolved(b.hub, repo, "w.bin")
	if err != nil {
		return err
	}
	if err := b.hub.Shape(near, nearBPS); err != nil {
		return err
	}
	const ask = 128 << 10
	var opens samples
	all, err := b.take(
		func() (time.Duration, error) {
			b.gate()
			got, err := firstByteOf(part{url, 0, ask - 1})
			if err != nil {
				return 0, err
			}
			return got[0], nil
		},
		func() (time.Duration, error) {
			return b.fresh(repo, nil, func(m *mounted) (time.Duration, error) {
				if _, err := os.Stat(m.path("w.bin")); err != nil {
					return 0, err
				}
				res, err := m.work(b, "first", m.path("w.bin"))
				opens = append(opens, res.P50)
				return res.Took, err
			})
		})
	if err != nil {
		return err
	}
	get, ours := all[0].best(), all[1].median()
	b.add("plain GET of 128 KiB, first byte (curl, best)", millis(get), "1", "30 ms a request, a connection of its own")
	b.check("hfmount, read of the first byte after open", millis(ours), ours.Seconds()/get.Seconds(), atMost(1.15),
		fmt.Sprintf("open itself took %s; the ratio is of times", millis(opens.median())))
	return nil
}

// eight reads 8 files at once.
func (b *bench) eight() error {
	const n = 8
	size := b.file.Size / n
	files := map[string]hubtest.Synthetic{}
	name := func(i int) string { return fmt.Sprintf("part-%d.bin", i) }
	for i := range n {
		files[name(i)] = hubtest.Synthetic{Size: size, Seed: uint64(100 + i)}
	}
	if err := b.publishFiles(files); err != nil {
		return err
	}
	var parts []part
	for i := range n {
		url, err := resolved(b.hub, repo, name(i))
		if err != nil {
			return err
		}
		parts = append(parts, shares(url, size, connections/n)...)
	}
	if err := b.hub.Shape(near, nearBPS); err != nil {
		return err
	}
	all, err := b.take(
		b.raw(parts...),
		func() (time.Duration, error) {
			return b.fresh(repo, nil, func(m *mounted) (time.Duration, error) {
				return together(n, func(i int) error { _, err := m.dd(m.path(name(i))); return err })
			})
		})
	if err != nil {
		return err
	}
	_, err = b.fresh(repo, nil, func(m *mounted) (time.Duration, error) {
		return together(n, func(i int) error { return m.verify(m.path(name(i)), files[name(i)]) })
	})
	if err != nil {
		return err
	}
	best, ours := all[0].best(), all[1].median()
	b.add("raw, 2 connections a file (curl, best)", rate(b.file.Size, best), "1", "30 ms and 100 MB/s a connection")
	b.check("hfmount, 8 readers, sum", rate(b.file.Size, ours), over(best, ours), atLeast(0.90), "")
	return nil
}

// headerBytes counts what the first 100 KB of a 10 GB file cost.
func (b *bench) headerBytes() error {
	if err := b.publishFiles(map[string]hubtest.Synthetic{"10g.bin": b.header}); err != nil {
		return err
	}
	if err := b.hub.Shape(near, nearBPS); err != nil {
		return err
	}
	header := func(r reader, path string) (time.Duration, HubStats, error) {
		if _, err := os.Stat(path); err != nil {
			return 0, HubStats{}, err
		}
		b.hub.ResetStats()
		d, err := r.timed("dd", "if="+path, "of=/dev/null", "bs=100000", "count=1", "status=none")
		time.Sleep(500 * time.Millisecond) // what is read ahead counts
		return d, b.hub.Stats(), err
	}
	var stats, theirs HubStats
	probes := []probe{func() (time.Duration, error) {
		return b.fresh(repo, nil, func(m *mounted) (d time.Duration, err error) {
			d, stats, err = header(m.reader, m.path("10g.bin"))
			return d, err
		})
	}, nil}
	if b.rclone != "" {
		probes[1] = func() (d time.Duration, err error) {
			p, err := b.rcloneMount()
			if err != nil {
				return 0, err
			}
			b.gate()
			d, theirs, err = header(reader{}, p.path("10g.bin"))
			return d, errors.Join(err, p.close())
		}
	}
	all, err := b.take(probes...)
	if err != nil {
		return err
	}
	mb := float64(stats.BytesSent) / 1e6
	b.check("first 100 KB of 10 GB: bytes fetched", fmt.Sprintf("%.2f MB", mb), mb, atMost(1.2).as("≤ 1.2 MB"), millis(all[0].median())+" at 30 ms and 100 MB/s")
	b.check("requests after the lookup", fmt.Sprint(stats.Total), float64(stats.Total), atMost(2), quotaText(stats.Quota))
	if len(all[1]) > 0 {
		b.add("rclone, defaults: bytes fetched", fmt.Sprintf("%.2f MB", float64(theirs.BytesSent)/1e6), "", millis(all[1].median())+"; "+quotaText(theirs.Quota))
	} else {
		b.add("rclone", "not installed", "", "")
	}
	return nil
}
