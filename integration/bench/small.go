package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hfmount/remote/hub"
)

// smallSet is what the rows of small files read.
func (b *bench) smallSet() (hub.Repo, MadeFiles, error) {
	r := hub.Repo{Namespace: "bench", Name: "small"}
	made := MadeFiles{b.small, 100, page}
	return r, made, b.hub.Make(r, made)
}

// smallFiles measures many small files: warm, and cold by one reader.
func (b *bench) smallFiles() error {
	return errors.Join(b.smallCold(), b.smallWarm())
}

func (b *bench) smallCold() error {
	r, made, err := b.smallSet()
	if err != nil {
		return err
	}
	scratch := filepath.Join(b.dir, "curl")
	if err := os.MkdirAll(scratch, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	configs, err := b.resolvedAll(r, made, made.Count/aQuarter, scratch)
	if err != nil {
		return err
	}
	if err := b.hub.Shape(near, nearBPS); err != nil {
		return err
	}
	var cdn, resolvers int64
	all, err := b.take(
		times(aQuarter, func() (time.Duration, error) {
			b.gate()
			return together(len(configs), func(i int) error { _, err := timed("curl", "-sSf", "-K", configs[i]); return err })
		}),
		func() (time.Duration, error) {
			return b.fresh(r, nil, func(m *mounted) (time.Duration, error) {
				list, err := m.listFiles(made)
				if err != nil {
					return 0, err
				}
				b.hub.ResetStats()
				d, err := m.timed("xargs", "-a", list, "cat")
				s := b.hub.Stats()
				cdn, resolvers = s.Quota["cdn"], s.Quota["resolvers"]
				return d, err
			})
		})
	if err != nil {
		return err
	}
	if err := b.hub.Shape(0, 0); err != nil {
		return err
	}
	_, err = b.fresh(r, nil, func(m *mounted) (time.Duration, error) {
		return m.workTime(b, "contents", m.dir, made.Count, made.PerDir, made.Size)
	})
	if err != nil {
		return err
	}
	best, ours := all[0].best(), all[1].median()
	what := fmt.Sprintf("%d files of 4 KiB, cold, 30 ms: ", made.Count)
	b.add(what+"16 connections (curl, best)", seconds(best), "1", perSecond(made.Count, best)+", of a quarter of them")
	b.check(what+"cat by one reader", seconds(ours), over(best, ours), atLeast(0.85),
		fmt.Sprintf("%s; requests: resolvers %d, cdn %d", perSecond(made.Count, ours), resolvers, cdn))
	return nil
}

// listFiles lists the mount, and writes the files' paths in the order of their
// names, for xargs.
func (m *mounted) listFiles(made MadeFiles) (string, error) {
	out, err := m.command("find", m.dir, "-name", "f*.txt").Output()
	if err != nil {
		return "", err
	}
	if n := bytes.Count(out, []byte("\n")); n != made.Count {
		return "", fmt.Errorf("find shows %d of %d files", n, made.Count)
	}
	var s strings.Builder
	for i := range made.Count {
		fmt.Fprintln(&s, m.path(made.name(i)))
	}
	name := filepath.Join(m.home, "list")
	return name, os.WriteFile(name, []byte(s.String()), 0o644)
}

func (b *bench) smallWarm() error {
	r, made, err := b.smallSet()
	if err != nil {
		return err
	}
	local := filepath.Join(b.dir, "small-native")
	defer os.RemoveAll(local)
	args := []any{made.Count, made.PerDir, made.Size}
	if _, err := (reader{}).work(b, "make", local, args...); err != nil {
		return err
	}
	var mounts []*mounted
	defer func() {
		for _, m := range mounts {
			_ = m.close()
		}
	}()
	probes := []probe{func() (time.Duration, error) { b.gate(); return reader{}.workTime(b, "openread", local, args...) }}
	for _, flags := range [][]string{{"--refresh", b.refresh().String()}, {"--open-mode", "noopen", "--read-only"}} {
		m, err := b.mountRepo(r, flags...)
		if err != nil {
			return err
		}
		mounts = append(mounts, m)
		if _, err := m.work(b, "contents", m.dir, args...); err != nil { // verified, and warm from here
			return err
		}
		probes = append(probes, func() (time.Duration, error) { b.gate(); return m.workTime(b, "openread", m.dir, args...) })
	}
	all, err := b.take(probes...)
	if err != nil {
		return err
	}
	native := all[0].median()
	n := made.Count * passes
	what := fmt.Sprintf("open, read, close of %d files of 4 KiB, warm: ", made.Count)
	b.add(what+"native", perSecond(n, native), "1", "")
	b.check(what+"hfmount", perSecond(n, all[1].median()), over(native, all[1].median()), atLeast(0.10), "")
	b.check(what+"--open-mode noopen", perSecond(n, all[2].median()), over(native, all[2].median()), atLeast(0.65), "")
	if err := b.unchanged(mounts[0]); err != nil {
		return err
	}
	for len(mounts) > 0 {
		m := mounts[0]
		mounts = mounts[1:]
		if err := m.close(); err != nil {
			return err
		}
	}
	return nil
}

// refresh is how often the branch of a mount is looked at whose refreshing is
// counted.
func (b *bench) refresh() time.Duration {
	if b.quick {
		return 200 * time.Millisecond
	}
	return time.Second
}

// unchanged counts what looking at all of an unchanged snapshot again costs,
// ten times the refresh interval later.
func (b *bench) unchanged(m *mounted) error {
	b.hub.ResetStats()
	begin := time.Now()
	time.Sleep(10 * b.refresh())
	if _, err := m.timed("ls", "-lR", m.dir); err != nil {
		return err
	}
	if _, err := m.timed("grep", "-rq", "no file has this", m.dir); err != nil && !strings.Contains(err.Error(), "exit status 1") {
		return err
	}
	total, most := b.hub.Stats().Total, 1+time.Since(begin).Seconds()/b.refresh().Seconds()
	b.check("ls -lR and grep -r of it after 10 refresh intervals: requests", fmt.Sprint(total), float64(total),
		(&bar{want: most, most: true}).as(fmt.Sprintf("≤ 1 + %.0f", most-1)), "")
	return nil
}

func made3(args []string) (m MadeFiles, err error) {
	return m, numbers(args, &m.Count, &m.PerDir, &m.Size)
}

// workMake makes files in a directory, natively.
func workMake(dir string, args []string) (result, error) {
	m, err := made3(args)
	if err != nil {
		return result{}, err
	}
	for i := range m.Count {
		p := filepath.Join(dir, m.name(i))
		if m.PerDir == 0 && i == 0 || m.PerDir > 0 && i%m.PerDir == 0 {
			if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
				return result{}, err
			}
		}
		if err := os.WriteFile(p, m.content(i), 0o644); err != nil {
			return result{}, err
		}
	}
	return result{Ops: m.Count}, nil
}

// workContents fails unless each file has its content.
func workContents(dir string, args []string) (result, error) {
	m, err := made3(args)
	if err != nil {
		return result{}, err
	}
	for i := range m.Count {
		data, err := os.ReadFile(filepath.Join(dir, m.name(i)))
		if err != nil {
			return result{}, err
		}
		if !bytes.Equal(data, m.content(i)) {
			return result{}, fmt.Errorf("%s has other content", m.name(i))
		}
	}
	return result{Ops: m.Count}, nil
}

// workOpenRead opens, reads and closes each file.
func workOpenRead(dir string, args []string) (result, error) {
	m, err := made3(args)
	if err != nil {
		return result{}, err
	}
	paths := make([]string, m.Count)
	for i := range paths {
		paths[i] = filepath.Join(dir, m.name(i))
	}
	buf := make([]byte, m.Size)
	return again(func() (int, error) {
		for _, p := range paths {
			fd, err := unix.Open(p, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return 0, fmt.Errorf("%s: %w", p, err)
			}
			n, err := unix.Read(fd, buf)
			unix.Close(fd)
			if err != nil || n != len(buf) {
				return 0, fmt.Errorf("%s: read %d bytes: %w", p, n, err)
			}
		}
		return len(paths), nil
	})
}
