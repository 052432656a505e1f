package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"hfmount/remote/hub"
)

// names measures one directory of many entries: listing, stat, and names that
// are not there, all warm, against the local file system.
func (b *bench) names() (err error) {
	r, made := hub.Repo{Namespace: "bench", Name: "flat"}, MadeFiles{b.files, 0, 10}
	if err := b.hub.Make(r, made); err != nil {
		return err
	}
	local := filepath.Join(b.dir, "flat")
	defer os.RemoveAll(local)
	if _, err := (reader{}).work(b, "make", local, made.Count, made.PerDir, made.Size); err != nil {
		return err
	}
	m, err := b.mountRepo(r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	const absent = 10_000
	var absentFirst [2]samples
	var absentAgain samples
	rows := []struct {
		what  string
		ops   int
		bar   *bar
		probe func(dir string, where int) (time.Duration, error)
	}{
		{"names only, repeat", b.files * passes, atLeast(2.5), func(dir string, _ int) (time.Duration, error) {
			return m.workTime(b, "names", dir)
		}},
		{"names and stat, repeat", b.files * passes, nil, func(dir string, _ int) (time.Duration, error) {
			return m.workTime(b, "list", dir)
		}},
		{"ls -l, warm", b.files, atLeast(1.2), func(dir string, _ int) (time.Duration, error) {
			if _, err := m.timed("ls", "-l", dir); err != nil {
				return 0, err
			}
			return m.timed("ls", "-l", dir)
		}},
		{"find -size, warm", b.files, atLeast(1.5), func(dir string, _ int) (time.Duration, error) {
			if _, err := m.findSize(dir, made.Count); err != nil {
				return 0, err
			}
			return m.findSize(dir, made.Count)
		}},
		{"stat, warm", b.files * passes, atLeast(0.95), func(dir string, _ int) (time.Duration, error) {
			return m.workTime(b, "stat", dir)
		}},
		{"names that are not there, again", absent * passes, nil, func(dir string, where int) (time.Duration, error) {
			res, err := m.work(b, "absent", dir, absent)
			absentFirst[where] = append(absentFirst[where], res.P50)
			if where == 1 {
				absentAgain = append(absentAgain, res.Took)
			}
			return res.Took, err
		}},
	}
	for _, row := range rows {
		run := func(dir string, where int) probe {
			return func() (time.Duration, error) { b.gate(); return row.probe(dir, where) }
		}
		all, err := b.take(run(local, 0), run(m.dir, 1))
		if err != nil {
			return err
		}
		native, ours := all[0].median(), all[1].median()
		b.add(row.what+", native", perSecond(row.ops, native), "1", "")
		if row.bar == nil {
			b.add(row.what+", hfmount", perSecond(row.ops, ours), ratio(native, ours), "")
			continue
		}
		b.check(row.what+", hfmount", perSecond(row.ops, ours), over(native, ours), row.bar, "")
	}
	// A local file system, too, remembers what is not there; the bar is against
	// what it has to look for.
	n, first, ours := absentFirst[0].median(), absentFirst[1].median(), absentAgain.median()/(absent*passes)
	b.add("names that are not there, the first time, native", perSecond(1, n), "1", "")
	b.add("names that are not there, the first time, hfmount", perSecond(1, first), ratio(n, first), "")
	b.check("names that are not there: hfmount again / native the first time", perSecond(1, ours), over(n, ours), atLeast(4), "")
	return nil
}

// passes is how often the metadata works do what they time, after once without.
const passes = 5

// again does f once, then takes the time of passes more.
func again(f func() (int, error)) (result, error) {
	if _, err := f(); err != nil {
		return result{}, err
	}
	var res result
	begin := time.Now()
	for range passes {
		n, err := f()
		if err != nil {
			return result{}, err
		}
		res.Ops += n
	}
	res.Took = time.Since(begin)
	return res, nil
}

// workNames lists a directory with the system call that libc's readdir makes.
func workNames(dir string, _ []string) (result, error) {
	buf := make([]byte, 32<<10)
	return again(func() (int, error) {
		fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return 0, err
		}
		defer unix.Close(fd)
		for entries := 0; ; {
			n, err := unix.Getdents(fd, buf)
			if err != nil || n == 0 {
				return entries, err
			}
			for at := 0; at < n; entries++ {
				at += int(buf[at+16]) | int(buf[at+17])<<8 // d_reclen
			}
		}
	})
}

func pathsIn(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	for i, n := range names {
		names[i] = filepath.Join(dir, n)
	}
	return names, err
}

// workStat looks at every file of a directory.
func workStat(dir string, _ []string) (result, error) {
	paths, err := pathsIn(dir)
	if err != nil {
		return result{}, err
	}
	return again(func() (int, error) { return len(paths), statAll(paths) })
}

func statAll(paths []string) error {
	var st unix.Stat_t
	for _, p := range paths {
		if err := unix.Lstat(p, &st); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	return nil
}

// workList lists a directory and looks at every file, as ls -l does, without
// what ls does on its own account.
func workList(dir string, _ []string) (result, error) {
	return again(func() (int, error) {
		paths, err := pathsIn(dir)
		if err != nil {
			return 0, err
		}
		return len(paths), statAll(paths)
	})
}

// workAbsent looks for N names that are not there. P50 is what one took the
// first time, Took is of the passes after that.
func workAbsent(dir string, args []string) (result, error) {
	var n int
	if err := numbers(args, &n); err != nil {
		return result{}, err
	}
	paths := make([]string, n)
	for i := range paths {
		paths[i] = filepath.Join(dir, fmt.Sprintf("absent-%d", i))
	}
	first := time.Duration(0)
	res, err := again(func() (int, error) {
		var st unix.Stat_t
		begin := time.Now()
		for _, p := range paths {
			if err := unix.Lstat(p, &st); err != unix.ENOENT {
				return 0, fmt.Errorf("%s: %w", p, err)
			}
		}
		if first == 0 {
			first = time.Since(begin)
		}
		return n, nil
	})
	res.P50 = first / time.Duration(n)
	return res, err
}
