package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"hfmount/remote/hub"
	"hfmount/remote/hubtest"
)

const (
	writeMiB    = 512
	smallWrites = 65_536 // of 4 KiB
	syncWrites  = 500    // of 4 KiB, each with fsync
	copied      = 10_000 // files of cp -r
	renamed     = 2_000  // files, five times each
	committed   = 1_000  // files of one commit
)

// works are what the program does as a subprocess of itself, in a directory:
// what no command does.
var works = map[string]func(dir string) error{
	"fsync": func(dir string) error {
		f, err := os.Create(filepath.Join(dir, "sync.bin"))
		if err != nil {
			return err
		}
		defer f.Close()
		block := make([]byte, 4096)
		for range syncWrites {
			if _, err := f.Write(block); err != nil {
				return err
			}
			if err := f.Sync(); err != nil {
				return err
			}
		}
		return nil
	},
	"rename": func(dir string) error {
		name := func(round, i int) string { return filepath.Join(dir, fmt.Sprintf("r%d-%d", round, i)) }
		for i := range renamed {
			if err := os.WriteFile(name(0, i), []byte("x"), 0o644); err != nil {
				return err
			}
		}
		for round := range 5 {
			for i := range renamed {
				if err := os.Rename(name(round, i), name(round+1, i)); err != nil {
					return err
				}
			}
		}
		return nil
	},
}

// write compares writing into a mount with writing to local disk. Nothing is
// committed meanwhile.
func (b *bench) write() error {
	r := hub.Repo{Namespace: "local", Name: "write"}
	if err := b.hub.CreateRepo(r, hubtest.RepoOptions{}); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	many := filepath.Join(b.dir, "many-small")
	defer os.RemoveAll(many)
	if err := smallFiles(many, copied); err != nil {
		return err
	}
	rows := []struct {
		what string
		run  func(dir string) (time.Duration, error)
		show func(time.Duration) string
	}{
		{fmt.Sprintf("write %d MiB, fsync", writeMiB), func(dir string) (time.Duration, error) {
			return timed("dd", "if=/dev/zero", "of="+dir+"/big.bin", "bs=1M", fmt.Sprint("count=", writeMiB), "conv=fsync", "status=none")
		}, func(d time.Duration) string { return fmt.Sprintf("%.0f MB/s", writeMiB*1.048576/d.Seconds()) }},
		{"writes of 4 KiB", func(dir string) (time.Duration, error) {
			return timed("dd", "if=/dev/zero", "of="+dir+"/small.bin", "bs=4k", fmt.Sprint("count=", smallWrites), "status=none")
		}, func(d time.Duration) string { return fmt.Sprintf("%.0f a second", smallWrites/d.Seconds()) }},
		{"write 4 KiB and fsync", func(dir string) (time.Duration, error) {
			return timed(self, "-work", "fsync", "-dir", dir)
		}, func(d time.Duration) string { return fmt.Sprintf("%.0f a second", syncWrites/d.Seconds()) }},
		{fmt.Sprintf("cp -r of %d files", copied), func(dir string) (time.Duration, error) {
			return timed("cp", "-r", many, dir+"/copy")
		}, seconds},
		{fmt.Sprintf("%d renames", 5*renamed), func(dir string) (time.Duration, error) {
			return timed(self, "-work", "rename", "-dir", dir)
		}, seconds},
	}
	for _, row := range rows {
		var native, mounted []time.Duration
		for range b.rounds {
			local := filepath.Join(b.dir, "native-write")
			if err := os.Mkdir(local, 0o755); err != nil {
				return err
			}
			d, err := row.run(local)
			if err = errors.Join(err, os.RemoveAll(local)); err != nil {
				return err
			}
			native = append(native, d)
			m, err := b.mountAs("hf_local", r, "--commit", "manual", "--guard", "off")
			if err != nil {
				return err
			}
			if d, err = row.run(m.dir); err != nil {
				return errors.Join(err, m.abandon())
			}
			mounted = append(mounted, d)
			if err := m.abandon(); err != nil {
				return err
			}
		}
		n, m := median(native), median(mounted)
		b.add("writing, against local disk", row.what+", native", row.show(n), "1", "")
		b.add("writing, against local disk", row.what+", hfmount", row.show(m), ratio(n, m), "")
	}
	return nil
}

// commit compares the commit of many files with what hf upload takes.
func (b *bench) commit() error {
	b.hub.Shape(30*time.Millisecond, 100_000_000)
	defer b.hub.Shape(0, 0)
	src := filepath.Join(b.dir, "to-commit")
	defer os.RemoveAll(src)
	if err := smallFiles(src, committed); err != nil {
		return err
	}
	hf, _ := exec.LookPath("hf")
	var ours, theirs []time.Duration
	for i := range b.rounds {
		r := hub.Repo{Namespace: "local", Name: fmt.Sprint("commit", i)}
		if err := b.hub.CreateRepo(r, hubtest.RepoOptions{}); err != nil {
			return err
		}
		m, err := b.mountAs("hf_local", r, "--commit", "manual", "--guard", "off")
		if err != nil {
			return err
		}
		if _, err := timed("cp", "-r", src, m.dir+"/files"); err != nil {
			return errors.Join(err, m.abandon())
		}
		begin := time.Now()
		if err := m.hfmount("commit", m.dir); err != nil {
			return errors.Join(err, m.abandon())
		}
		ours = append(ours, time.Since(begin))
		if err := m.close(); err != nil {
			return err
		}
		if hf == "" {
			continue
		}
		r.Name = fmt.Sprint("upload", i)
		if err := b.hub.CreateRepo(r, hubtest.RepoOptions{}); err != nil {
			return err
		}
		home := filepath.Join(b.dir, "hf")
		begin = time.Now()
		cmd := exec.Command(hf, "upload", r.ID(), src, "files")
		cmd.Env = append(os.Environ(), "HF_ENDPOINT="+b.srv.URL, "HF_HOME="+home, "HF_TOKEN=hf_local", "HF_HUB_DISABLE_XET=1", "HF_HUB_DISABLE_TELEMETRY=1")
		out, err := cmd.CombinedOutput()
		if err = errors.Join(err, os.RemoveAll(home)); err != nil {
			return fmt.Errorf("hf upload: %w: %s", err, out)
		}
		theirs = append(theirs, time.Since(begin))
	}
	section := fmt.Sprintf("commit of %d files, 30 ms and 100 MB/s a connection", committed)
	if len(theirs) > 0 {
		b.add(section, "hf upload", seconds(median(theirs)), "1", "its own start included")
		b.add(section, "hfmount commit", seconds(median(ours)), ratio(median(theirs), median(ours)), "")
		return nil
	}
	b.add(section, "hf upload", "not installed", "", "")
	b.add(section, "hfmount commit", seconds(median(ours)), "", "")
	return nil
}

// smallFiles makes n text files, a hundred a folder.
func smallFiles(dir string, n int) error {
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
