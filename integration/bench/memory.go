package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"hfmount/remote/hub"
	"hfmount/remote/hubtest"
)

// memory measures the process that serves a mount: while it streams, and for
// each file that it knows of.
func (b *bench) memory() error {
	return errors.Join(b.memoryStreaming(), b.memoryFiles())
}

func (b *bench) memoryStreaming() error {
	if err := b.publishFiles(map[string]hubtest.Synthetic{"w.bin": b.file}); err != nil {
		return err
	}
	if err := b.hub.Shape(near, nearBPS); err != nil {
		return err
	}
	for _, tier := range []struct {
		mib   int
		flags []string
	}{{512, nil}, {128, []string{"--memory", "128M"}}} {
		var peaks []float64
		for range b.rounds {
			_, err := b.fresh(repo, tier.flags, func(m *mounted) (time.Duration, error) {
				s, err := m.status()
				if err != nil {
					return 0, err
				}
				if _, err := m.dd(m.path("w.bin")); err != nil {
					return 0, err
				}
				peak, err := memoryOf(s.PID, "VmHWM")
				peaks = append(peaks, float64(peak)/(1<<20))
				return 0, err
			})
			if err != nil {
				return err
			}
		}
		peak := middle(peaks)
		b.check(fmt.Sprintf("peak RSS over --memory %dM while streaming", tier.mib), fmt.Sprintf("%.0f MiB", peak-float64(tier.mib)),
			peak-float64(tier.mib), atMost(64).as("≤ 64 MiB"), fmt.Sprintf("peak %.0f MiB", peak))
	}
	return b.hub.Shape(0, 0)
}

// middle is the median of an odd number, or the upper of the two.
func middle(x []float64) float64 {
	s := make(samples, len(x))
	for i, v := range x {
		s[i] = time.Duration(v * 1e6)
	}
	return float64(s.median()) / 1e6
}

// memoryFiles compares the process of a mount of one small repository with that
// of a huge one: listed, then with every file looked at. Once is enough: the
// figure is a quotient by a large number.
func (b *bench) memoryFiles() error {
	few, many := hub.Repo{Namespace: "bench", Name: "few"}, hub.Repo{Namespace: "bench", Name: "huge"}
	if err := errors.Join(b.hub.Make(few, MadeFiles{10, 10, 10}), b.hub.Make(many, MadeFiles{b.many, 1000, 10})); err != nil {
		return err
	}
	resting := func(r hub.Repo, n int) (listed, looked int64, err error) {
		m, err := b.mountRepo(r)
		if err != nil {
			return 0, 0, err
		}
		do := func() error {
			s, err := m.status()
			if err != nil {
				return err
			}
			if err := b.listed(m, n); err != nil {
				return err
			}
			if listed, err = b.atRest(s.PID); err != nil {
				return err
			}
			if _, err := m.findSize(m.dir, n); err != nil {
				return err
			}
			looked, err = b.atRest(s.PID)
			return err
		}
		err = do()
		return listed, looked, errors.Join(err, m.close())
	}
	base, _, err := resting(few, 10)
	if err != nil {
		return err
	}
	listed, looked, err := resting(many, b.many)
	if err != nil {
		return err
	}
	each := float64(listed-base) / float64(b.many)
	b.check(fmt.Sprintf("bytes per file merely listed, of %d", b.many), fmt.Sprintf("%.0f", each), each, atMost(250),
		fmt.Sprintf("RSS %d MiB, with ten files %d MiB", listed>>20, base>>20))
	inode := float64(looked-listed) / float64(b.many)
	b.check("bytes per inode that the kernel holds, on top", fmt.Sprintf("%.0f", inode), inode, atMost(1024).as("≤ 1 KiB"),
		fmt.Sprintf("RSS %d MiB after find -size", looked>>20))
	return nil
}

// listed waits until the mount knows all names: a walk that looks at no file
// shows them, and the Hub is asked nothing more.
func (b *bench) listed(m *mounted, n int) error {
	before := int64(-1)
	for end := time.Now().Add(3 * time.Minute); time.Now().Before(end); {
		now := b.hub.Stats().Total
		if now == before {
			out, err := m.command("find", m.dir, "-name", "f*.txt", "-printf", "x").Output()
			if err == nil && len(out) != n {
				err = fmt.Errorf("find shows %d of %d files", len(out), n)
			}
			return err
		}
		before = now
		time.Sleep(2 * time.Second)
	}
	return errors.New("the listing takes more than three minutes")
}

// atRest is the RSS when it falls no more: garbage goes back to the system
// with a delay.
func (b *bench) atRest(pid int) (int64, error) {
	calm := 8 * time.Second
	if b.quick {
		calm = time.Second
	}
	least, since := int64(0), time.Now()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
		now, err := memoryOf(pid, "VmRSS")
		if err != nil {
			return 0, err
		}
		if least == 0 || now < least-least/200 {
			least, since = now, time.Now()
		}
		if time.Since(since) > calm {
			break
		}
	}
	return least, nil
}

// memoryOf reads a line of a process's status, in bytes.
func memoryOf(pid int, what string) (int64, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), what+":"); ok {
			var kb int64
			_, err := fmt.Sscan(rest, &kb)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("process %d has no %s", pid, what)
}
