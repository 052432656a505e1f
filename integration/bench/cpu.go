package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"time"

	"hfmount/remote/hubtest"
)

// tick is what /proc counts processors' time in; Linux shows 100 a second to
// programs on every machine.
const tick = time.Second / 100

// cpu compares the processors' time of the process that serves a mount with
// that of curl on the same bytes. It counts what follows the last byte, too:
// hashing and writing to disk.
func (b *bench) cpu() error {
	if err := b.publishFiles(map[string]hubtest.Synthetic{"w.bin": b.file}); err != nil {
		return err
	}
	url, err := resolved(b.hub, repo, "w.bin")
	if err != nil {
		return err
	}
	gb := float64(b.file.Size) / 1e9
	perGB := func(d time.Duration) string { return fmt.Sprintf("%.2f s/GB", d.Seconds()/gb) }
	for _, shape := range []struct {
		what    string
		latency time.Duration
		bps     int64
	}{{"30 ms and 100 MB/s", near, nearBPS}, {"unshaped", 0, 0}} {
		if err := b.hub.Shape(shape.latency, shape.bps); err != nil {
			return err
		}
		var readers, after samples
		daemon := func(flags ...string) probe {
			disk := len(flags) == 0
			return func() (time.Duration, error) {
				return b.fresh(repo, flags, func(m *mounted) (time.Duration, error) {
					s, err := m.status()
					if err != nil {
						return 0, err
					}
					before, err := cpuOf(s.PID)
					if err != nil {
						return 0, err
					}
					u, err := m.run("dd", "if="+m.path("w.bin"), "of=/dev/null", "bs=1M", "status=none")
					if err != nil {
						return 0, err
					}
					total, rest, err := cpuAtRest(s.PID)
					if disk {
						readers, after = append(readers, u.cpu), append(after, rest)
					}
					return total - before, err
				})
			}
		}
		all, err := b.take(
			func() (time.Duration, error) {
				b.gate()
				u, err := curlOne(shares(url, b.file.Size, connections)...)
				return u.cpu, err
			},
			daemon("--cache-size", "0"), daemon())
		if err != nil {
			return err
		}
		best, memory, disk := all[0].best(), all[1].median(), all[2].median()
		b.add(shape.what+": one curl, 16 connections (best)", perGB(best), "1", "ratios are of time here")
		b.check(shape.what+": hfmount --cache-size 0", perGB(memory), memory.Seconds()/best.Seconds(), atMost(2.5), "")
		b.check(shape.what+": hfmount, disk tier and hashing", perGB(disk), disk.Seconds()/best.Seconds(), atMost(5), "the reader (dd) took "+perGB(readers.median()))
		lag := after.median().Seconds() / (float64(b.file.Size) / (1 << 30))
		b.check(shape.what+": work after the last byte", fmt.Sprintf("%.2f s/GiB", lag), lag, atMost(2).as("≤ 2 s/GiB"), "")
	}
	return nil
}

// cpuOf is the processors' time that a process has used.
func cpuOf(pid int) (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, ok := bytes.Cut(data, []byte(") ")) // its name may hold spaces
	fields := strings.Fields(string(rest))
	if !ok || len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat is %q", pid, data)
	}
	var user, system int64
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		return 0, err
	}
	return time.Duration(user+system) * tick, nil
}

// cpuAtRest waits until a process works no more, and says how much it has used
// and when that was.
func cpuAtRest(pid int) (total, after time.Duration, err error) {
	begin, last := time.Now(), time.Now()
	for time.Since(last) < time.Second && time.Since(begin) < time.Minute {
		now, err := cpuOf(pid)
		if err != nil {
			return 0, 0, err
		}
		if now >= total+2*tick { // less is what an idle process uses
			last = time.Now()
			total = now
		}
		time.Sleep(50 * time.Millisecond)
	}
	total, err = cpuOf(pid)
	return total, last.Sub(begin), err
}
