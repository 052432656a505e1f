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

const listPage = 1000 // entries of a listing's page

// findSize walks files and asks for the size of each.
func (r reader) findSize(dir string, want int) (time.Duration, error) {
	cmd := r.command("find", dir, "-name", "f*.txt", "-size", "-9")
	begin := time.Now()
	out, err := cmd.Output()
	d := time.Since(begin)
	if n := strings.Count(string(out), "\n"); err == nil && n != want {
		err = fmt.Errorf("find shows %d of %d files", n, want)
	}
	return d, err
}

// find walks a tree of many files: cold, again, after a remount, offline; and
// natively.
func (b *bench) find() error {
	r, made := hub.Repo{Namespace: "bench", Name: "many"}, MadeFiles{b.files, 100, 10}
	if err := b.hub.Make(r, made); err != nil {
		return err
	}
	local := filepath.Join(b.dir, "many")
	defer os.RemoveAll(local)
	if _, err := (reader{}).work(b, "make", local, made.Count, made.PerDir, made.Size); err != nil {
		return err
	}
	var again, remounted, offline, mount samples
	var cold HubStats
	var apiAgain, offlineRequests int64
	all, err := b.take(
		func() (time.Duration, error) {
			if _, err := (reader{}).findSize(local, made.Count); err != nil {
				return 0, err
			}
			b.gate()
			return reader{}.findSize(local, made.Count)
		},
		func() (d time.Duration, err error) {
			b.hub.ResetStats()
			m, err := b.prepare(reader{}, b.hub, r)
			if err != nil {
				return 0, err
			}
			b.gate()
			begin := time.Now()
			if err := m.start(); err != nil {
				return 0, err
			}
			if _, err = m.findSize(m.dir, made.Count); err != nil {
				return 0, errors.Join(err, m.close())
			}
			d = time.Since(begin)
			b.gate() // what is still being listed counts
			cold = b.hub.Stats()
			walk := func(to *samples) error {
				b.gate()
				took, err := m.findSize(m.dir, made.Count)
				*to = append(*to, took)
				return err
			}
			b.hub.ResetStats()
			err = walk(&again)
			apiAgain = b.hub.Stats().Quota["api"]
			if err == nil {
				if err = m.remount(); err == nil {
					err = walk(&remounted)
				}
			}
			if err == nil {
				err = m.unmount()
			}
			if err != nil {
				return 0, errors.Join(err, m.close())
			}
			b.hub.ResetStats()
			b.gate()
			begin = time.Now()
			if err := m.start("--offline"); err != nil {
				return 0, err
			}
			mount = append(mount, time.Since(begin))
			took, err := m.timed("ls", m.dir)
			offline = append(offline, took)
			offlineRequests = b.hub.Stats().Total
			return d, errors.Join(err, m.close())
		})
	if err != nil {
		return err
	}
	native := all[0].median()
	folders := (made.Count + made.PerDir - 1) / made.PerDir
	pages := (made.Count + folders + 1 + listPage - 1) / listPage
	b.add("find -size, native, warm", seconds(native), "1", "")
	b.add("mount and find -size, cold", seconds(all[1].median()), ratio(native, all[1].median()), "unshaped")
	most := int64(pages) + cold.Folders + 3
	b.check("the same: API requests", fmt.Sprint(cold.Quota["api"]), float64(cold.Quota["api"]),
		(&bar{want: float64(most), most: true}).as(fmt.Sprintf("≤ %d + %d + 3", pages, cold.Folders)),
		"pages, and directories asked for meanwhile")
	b.check("find -size, warm", seconds(again.median()), over(native, again.median()), atLeast(1.5), fmt.Sprintf("%d API requests", apiAgain))
	b.add("find -size, after a remount", seconds(remounted.median()), ratio(native, remounted.median()), "")
	ms := offline.median().Seconds() * 1e3
	b.check("remount offline: first ls after the mount", millis(offline.median()), ms, atMost(50).as("≤ 50 ms"), "the mount itself took "+millis(mount.median()))
	b.check("remount offline: requests", fmt.Sprint(offlineRequests), float64(offlineRequests), atMost(0), "")
	return nil
}
