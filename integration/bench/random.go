package main

import (
	"errors"
	"fmt"
	"time"

	"hfmount/remote/hubtest"
)

// random reads 4 KiB at random places of a file too large for luck, with its
// signed URL known, and counts what that fetches.
func (b *bench) random() error {
	if err := b.publishFiles(map[string]hubtest.Synthetic{"10g.bin": b.header}); err != nil {
		return err
	}
	url, err := resolved(b.hub, repo, "10g.bin")
	if err != nil {
		return err
	}
	if err := b.hub.Shape(near, nearBPS); err != nil {
		return err
	}
	ops, faults := 100, 60
	if b.quick {
		ops, faults = 16, 10
	}
	// One round trip: what curl waits for the first byte of such a range, on a
	// connection that is there.
	var trips samples
	trip := func() (time.Duration, error) {
		b.gate()
		var parts []part
		for i := range int64(11) {
			at := (b.header.Size / 12 * i) &^ (page - 1)
			parts = append(parts, part{url, at, at + page - 1})
		}
		got, err := firstByteOf(parts...)
		if err != nil {
			return 0, err
		}
		trips = append(trips, got[1:]...)
		return got[1:].median(), nil
	}
	var perRead [4]float64
	var worst [4]samples
	cold := func(which int, name string, n int, args ...any) probe {
		return func() (time.Duration, error) {
			return b.fresh(repo, nil, func(m *mounted) (time.Duration, error) {
				// The URL becomes known with the first page, whose read-ahead is
				// not what is counted: a work of its own reads it.
				if _, err := m.work(b, "first", m.path("10g.bin")); err != nil {
					return 0, err
				}
				time.Sleep(settle)
				b.hub.ResetStats()
				res, err := m.work(b, name, m.path("10g.bin"), args...)
				if err != nil {
					return 0, err
				}
				time.Sleep(settle) // what is read ahead counts
				perRead[which] = max(perRead[which], float64(b.hub.Stats().BytesSent)/float64(n))
				worst[which] = append(worst[which], res.P95)
				return res.P50, nil
			})
		}
	}
	probes := []probe{trip, cold(0, "pread", ops, ops, 1, 1), cold(1, "pread", ops*2, ops*2, 16, 1), cold(2, "mmap", faults, faults, 1), nil}
	if b.rclone != "" {
		probes[4] = func() (time.Duration, error) {
			p, err := b.rcloneMount()
			if err != nil {
				return 0, err
			}
			do := func() (time.Duration, error) {
				if _, err := (reader{}).work(b, "first", p.path("10g.bin")); err != nil {
					return 0, err
				}
				b.gate()
				b.hub.ResetStats()
				res, err := reader{}.work(b, "pread", p.path("10g.bin"), ops/4, 1, 1)
				perRead[3] = float64(b.hub.Stats().BytesSent) / float64(ops/4)
				return res.P50, err
			}
			d, err := do()
			return d, errors.Join(err, p.close())
		}
	}
	all, err := b.take(probes...)
	if err != nil {
		return err
	}
	if err := b.hub.Shape(0, 0); err != nil {
		return err
	}
	if err := b.verifyPlaces(); err != nil {
		return err
	}
	one := all[0].median()
	b.add("one round trip (curl, 4 KiB on a connection that is there)", millis(one), "1", "ratios are of times here")
	kib := func(x float64) string { return fmt.Sprintf("%.0f KiB", x/1024) }
	for i, what := range []string{"pread by 1 reader", "pread by 16 readers"} {
		d := all[i+1].median()
		b.check(what+", median latency", millis(d), d.Seconds()/one.Seconds(), atMost(1.15), "95 % are under "+millis(worst[i].median()))
		b.check(what+", bytes fetched per read", kib(perRead[i]), perRead[i]/1024, atMost(128).as("≤ 128 KiB"), "")
	}
	d := all[3].median()
	b.add("mmap, median latency of a fault", millis(d), number(d.Seconds()/one.Seconds()), "95 % are under "+millis(worst[2].median()))
	b.check("mmap, bytes fetched per fault", kib(perRead[2]), perRead[2]/1024, atMost(1024).as("≤ 1 MiB"), "")
	b.rcloneRandom(all[4], one, kib(perRead[3]))
	return nil
}

func (b *bench) rcloneRandom(times samples, one time.Duration, fetched string) {
	if len(times) == 0 {
		b.add("rclone, pread by 1 reader", "not installed", "", "")
		return
	}
	d := times.median()
	b.add("rclone, defaults, pread by 1 reader", millis(d), number(d.Seconds()/one.Seconds()), fetched+" fetched per read")
}

// verifyPlaces compares some places of the large file with what they hold.
func (b *bench) verifyPlaces() error {
	_, err := b.fresh(repo, nil, func(m *mounted) (time.Duration, error) {
		return m.workTime(b, "places", m.path("10g.bin"), b.header.Size, b.header.Seed)
	})
	return err
}

// workPlaces reads pages of a synthetic file at random, and compares them.
func workPlaces(file string, args []string) (result, error) {
	var size, seed int
	if err := numbers(args, &size, &seed); err != nil {
		return result{}, err
	}
	return result{}, comparePlaces(file, hubtest.Synthetic{Size: int64(size), Seed: uint64(seed)}.ReaderAt(), int64(size), 100)
}
