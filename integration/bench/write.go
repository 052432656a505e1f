package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"hfmount/remote/hub"
)

const (
	writeMiB   = 512
	syncWrites = 500    // of 4 KiB, each with fsync
	copied     = 10_000 // files of cp -r
	renamed    = 2_000  // files, five times each
	committed  = 1_000  // files of one commit
)

// workFsync writes 4 KiB and syncs, again and again.
func workFsync(dir string, _ []string) (result, error) {
	f, err := os.Create(filepath.Join(dir, "sync.bin"))
	if err != nil {
		return result{}, err
	}
	defer f.Close()
	block := make([]byte, 4096)
	for range syncWrites {
		if _, err := f.Write(block); err != nil {
			return result{}, err
		}
		if err := f.Sync(); err != nil {
			return result{}, err
		}
	}
	return result{}, nil
}

// workRename renames many files again and again.
func workRename(dir string, _ []string) (result, error) {
	name := func(round, i int) string { return filepath.Join(dir, fmt.Sprintf("r%d-%d", round, i)) }
	for i := range renamed {
		if err := os.WriteFile(name(0, i), []byte("x"), 0o644); err != nil {
			return result{}, err
		}
	}
	for round := range 5 {
		for i := range renamed {
			if err := os.Rename(name(round, i), name(round+1, i)); err != nil {
				return result{}, err
			}
		}
	}
	return result{}, nil
}

// write compares writing into a mount with writing to local disk. Nothing is
// committed meanwhile.
func (b *bench) write() error {
	r := hub.Repo{Namespace: "local", Name: "write"}
	if err := b.hub.ensureRepo(r); err != nil {
		return err
	}
	mib, copies := writeMiB, copied
	if b.quick {
		mib, copies = 16, 500
	}
	many := filepath.Join(b.dir, "many-small")
	defer os.RemoveAll(many)
	if err := textFiles(many, copies); err != nil {
		return err
	}
	dd := func(name, block string, count int) func(string) (time.Duration, error) {
		return func(dir string) (time.Duration, error) {
			return timed("dd", "if=/dev/zero", "of="+dir+"/"+name, "bs="+block, fmt.Sprint("count=", count), "conv=fsync", "status=none")
		}
	}
	speed := func(d time.Duration) string { return rate(int64(mib)<<20, d) }
	rows := []struct {
		what string
		run  func(dir string) (time.Duration, error)
		show func(time.Duration) string
		bar  *bar
	}{
		{fmt.Sprintf("write %d MiB in 1 MiB, one fsync", mib), dd("big.bin", "1M", mib), speed, atLeast(0.93)},
		{fmt.Sprintf("write %d MiB in 4 KiB, one fsync", mib), dd("small.bin", "4k", mib<<8), speed, atLeast(0.93)},
		{"write 4 KiB and fsync", func(dir string) (time.Duration, error) {
			return reader{}.workTime(b, "fsync", dir)
		}, func(d time.Duration) string { return perSecond(syncWrites, d) }, atLeast(0.45)},
		{fmt.Sprintf("cp -r of %d files", copies), func(dir string) (time.Duration, error) {
			return timed("cp", "-r", many, dir+"/copy")
		}, seconds, atLeast(0.25).as("≤ 4x")},
		{fmt.Sprintf("%d renames", 5*renamed), func(dir string) (time.Duration, error) {
			return reader{}.workTime(b, "rename", dir)
		}, seconds, nil},
	}
	for _, row := range rows {
		all, err := b.take(
			func() (time.Duration, error) {
				b.made++
				local := filepath.Join(b.dir, fmt.Sprint("native-write", b.made))
				if err := os.Mkdir(local, 0o755); err != nil {
					return 0, err
				}
				b.gate()
				d, err := row.run(local)
				return d, errors.Join(err, os.RemoveAll(local))
			},
			func() (time.Duration, error) {
				m, err := b.mountAs("hf_local", r, "--commit", "manual", "--guard", "off")
				if err != nil {
					return 0, err
				}
				b.gate()
				d, err := row.run(m.dir)
				return d, errors.Join(err, m.abandon())
			})
		if err != nil {
			return err
		}
		n, m := all[0].median(), all[1].median()
		b.add(row.what+", native", row.show(n), "1", "")
		if row.bar == nil {
			b.add(row.what+", hfmount", row.show(m), ratio(n, m), "")
			continue
		}
		b.check(row.what+", hfmount", row.show(m), over(n, m), row.bar, fmt.Sprintf("%sx the time", ratio(m, n)))
	}
	return nil
}

// commit compares the commit of many files with what hf upload takes.
func (b *bench) commit() error {
	n := committed
	if b.quick {
		n = 50
	}
	src := filepath.Join(b.dir, "to-commit")
	defer os.RemoveAll(src)
	if err := textFiles(src, n); err != nil {
		return err
	}
	if err := b.hub.Shape(near, nearBPS); err != nil {
		return err
	}
	made := 0
	fresh := func() (hub.Repo, error) {
		made++
		r := hub.Repo{Namespace: "local", Name: fmt.Sprint("commit", made)}
		return r, b.hub.ensureRepo(r)
	}
	probes := []probe{nil, func() (time.Duration, error) {
		r, err := fresh()
		if err != nil {
			return 0, err
		}
		m, err := b.mountAs("hf_local", r, "--commit", "manual", "--guard", "off")
		if err != nil {
			return 0, err
		}
		if _, err := timed("cp", "-r", src, m.dir+"/files"); err != nil {
			return 0, errors.Join(err, m.abandon())
		}
		b.gate()
		begin := time.Now()
		if err := m.hfmount("commit", m.dir); err != nil {
			return 0, errors.Join(err, m.abandon())
		}
		return time.Since(begin), m.close()
	}}
	if b.hf != "" {
		probes[0] = func() (time.Duration, error) {
			r, err := fresh()
			if err != nil {
				return 0, err
			}
			b.gate()
			return b.hfClient(b.hub, "upload", r.ID(), src, "files")
		}
	}
	all, err := b.take(probes...)
	if err != nil {
		return err
	}
	what, ours := fmt.Sprintf("commit of %d files, 30 ms: ", n), all[1].median()
	if b.hf == "" {
		b.add(what+"hf upload", "not installed", "", "")
		b.add(what+"hfmount commit", seconds(ours), "", "")
		return nil
	}
	b.add(what+"hf upload", seconds(all[0].median()), "1", "its own start included")
	b.add(what+"hfmount commit", seconds(ours), ratio(all[0].median(), ours), "")
	return nil
}

// textFiles makes n text files, a hundred a folder.
func textFiles(dir string, n int) error {
	for i := range n {
		p := filepath.Join(dir, fmt.Sprintf("d%03d", i/100), fmt.Sprintf("f%02d.txt", i%100))
		if i%100 == 0 {
			if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
				return err
			}
		}
		if err := os.WriteFile(p, []byte(strings.Repeat(fmt.Sprintf("line of file %d\n", i), 20)), 0o644); err != nil {
			return err
		}
	}
	return nil
}
