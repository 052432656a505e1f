package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"hfmount/remote/hubtest"
)

// readings are the ways to read a complete file that the warm rows compare
// with the same bytes on local disk, in the page cache.
type reading struct {
	what string
	bar  *bar
	show func(samples) string
	do   func(b *bench, r reader, path string) (time.Duration, error)
}

func (b *bench) readings() []reading {
	ops := 200_000
	if b.quick {
		ops = 5000
	}
	mbps := func(times int64) func(samples) string {
		return func(s samples) string { return rate(times*b.file.Size, s.median()) }
	}
	return []reading{
		{"sequential", atLeast(0.95), mbps(1), func(_ *bench, r reader, path string) (time.Duration, error) { return r.dd(path) }},
		{"random pread of 4 KiB", atLeast(0.95), func(s samples) string { return perSecond(ops, s.median()) },
			func(b *bench, r reader, path string) (time.Duration, error) {
				return r.workTime(b, "pread", path, ops, 1, 1)
			}},
		{"mmap, random pages", atLeast(0.95), func(s samples) string { return perSecond(ops, s.median()) },
			func(b *bench, r reader, path string) (time.Duration, error) {
				return r.workTime(b, "mmap", path, ops, 1)
			}},
		{"mmap, copied in order", atLeast(0.95), mbps(1), func(b *bench, r reader, path string) (time.Duration, error) {
			return r.workTime(b, "mmap", path, 0, 1)
		}},
		{"4 readers at once", atLeast(0.80), mbps(4), func(_ *bench, r reader, path string) (time.Duration, error) {
			return together(4, func(int) error { _, err := r.dd(path); return err })
		}},
	}
}

// nativeCopy is the file on local disk, readable by anybody. The pages that
// writing it left in the page cache are dropped, so that those that are read
// again and again came there by being read, in folios of the read-ahead's size.
// Folios of large writes are several times faster to map, small ones slower.
func (b *bench) nativeCopy() (string, error) {
	native := filepath.Join(b.dir, "native.bin")
	f, err := os.Create(native)
	if err != nil {
		return "", err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{f}, io.NewSectionReader(b.file.ReaderAt(), 0, b.file.Size), make([]byte, 16<<20))
	if err := errors.Join(err, f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED), f.Close()); err != nil {
		return "", err
	}
	b.tidy.add(func() { os.Remove(native) })
	return native, os.Chmod(native, 0o644)
}

// compare takes a reading natively and in a mount, each after one that is not
// timed, so that the bytes are in the page cache.
func (b *bench) compare(r reading, m *mounted, native string) (local, ours samples, err error) {
	probes := make([]probe, 2)
	for i, path := range []string{native, m.path("w.bin")} {
		probes[i] = func() (time.Duration, error) {
			if _, err := m.dd(path); err != nil {
				return 0, err
			}
			b.gate()
			return r.do(b, m.reader, path)
		}
	}
	all, err := b.take(probes...)
	if err != nil {
		return nil, nil, err
	}
	return all[0], all[1], nil
}

// warm compares a complete file, opened again and after a remount, with the
// same bytes on local disk.
func (b *bench) warm() (err error) {
	if err := b.publishFiles(map[string]hubtest.Synthetic{"w.bin": b.file}); err != nil {
		return err
	}
	m, err := b.mount()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	if err := m.verify(m.path("w.bin"), b.file); err != nil {
		return err
	}
	native, err := b.nativeCopy()
	if err != nil {
		return err
	}
	var sequential time.Duration
	for _, r := range b.readings() {
		local, ours, err := b.compare(r, m, native)
		if err != nil {
			return err
		}
		n, o := local.median(), ours.median()
		if sequential == 0 {
			sequential = n
		}
		b.add(r.what+", native in the page cache", r.show(local), "1", "")
		b.check(r.what+", hfmount", r.show(ours), over(n, o), r.bar, "")
	}
	if err := b.remounted(m); err != nil {
		return err
	}
	if err := m.verify(m.path("w.bin"), b.file); err != nil {
		return err
	}
	return b.rcloneWarm(sequential)
}

// remounted measures the first open after a remount. The bytes are in the page
// cache of the disk, as those of the native file are.
func (b *bench) remounted(m *mounted) error {
	native := filepath.Join(b.dir, "native.bin")
	var total, content int64
	all, err := b.take(
		func() (time.Duration, error) {
			if _, err := m.dd(native); err != nil {
				return 0, err
			}
			b.gate()
			return m.dd(native)
		},
		func() (time.Duration, error) {
			b.hub.ResetStats()
			if err := m.remount(); err != nil {
				return 0, err
			}
			b.gate()
			d, err := m.dd(m.path("w.bin"))
			s := b.hub.Stats()
			total, content = max(total, s.Total), max(content, s.Quota["cdn"]+s.Quota["resolvers"])
			return d, err
		})
	if err != nil {
		return err
	}
	n, o := all[0].median(), all[1].median()
	b.check("sequential, first open after a remount", rate(b.file.Size, o), over(n, o), atLeast(0.90), fmt.Sprintf("%d requests in all", total))
	b.check("the same: content requests", fmt.Sprint(content), float64(content), atMost(0), "")
	return nil
}

// rcloneWarm reads a file again that rclone has in its disk cache.
func (b *bench) rcloneWarm(native time.Duration) error {
	if b.rclone == "" {
		b.add("rclone, second open", "not installed", "", "")
		return nil
	}
	p, err := b.rcloneMount(append([]string{"--vfs-cache-mode", "full"}, rcloneTuned...)...)
	if err != nil {
		return err
	}
	var second, after samples
	do := func() error {
		if _, err := (reader{}).dd(p.path("w.bin")); err != nil {
			return err
		}
		for range b.rounds {
			b.gate()
			d, err := reader{}.dd(p.path("w.bin"))
			if err != nil {
				return err
			}
			second = append(second, d)
		}
		for range b.rounds {
			if err := p.stop(); err != nil {
				return err
			}
			if err := p.start(); err != nil {
				return err
			}
			b.gate()
			d, err := reader{}.dd(p.path("w.bin"))
			if err != nil {
				return err
			}
			after = append(after, d)
		}
		return nil
	}
	if err := errors.Join(do(), p.close()); err != nil {
		return err
	}
	b.add("rclone --vfs-cache-mode full, second open", rate(b.file.Size, second.median()), ratio(native, second.median()), "")
	b.add("rclone --vfs-cache-mode full, after a remount", rate(b.file.Size, after.median()), ratio(native, after.median()), "")
	return nil
}
