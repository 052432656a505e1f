package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	iofs "io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hfmount/remote/hub"
	"hfmount/remote/hubtest"
)

var growthOnly = flag.String("growth", "", "of the section growth, measure only these `points`, separated by commas, like 10GB,1000; the others keep what they were")

// growth measures how cost grows with the size of a file and with the number
// of files, once each, and draws it. What was measured stays in a file beside
// the plates, so that a run may be of some points only.
func (b *bench) growth() error {
	dir := "docs"
	sizes, counts := []int64{1e9, 10e9, 100e9}, []int64{1e3, 1e4, 1e5, 1e6}
	if b.quick {
		dir, sizes, counts = b.dir, []int64{1e7, 1e8}, []int64{100, 1000}
	}
	kept := filepath.Join(dir, "growth.json")
	g := growthData{Size: map[int64]measures{}, Files: map[int64]measures{}}
	if text, err := os.ReadFile(kept); err == nil {
		if err := json.Unmarshal(text, &g); err != nil {
			return fmt.Errorf("%s: %w", kept, err)
		}
	} else if !errors.Is(err, iofs.ErrNotExist) {
		return err
	}
	wanted := func(name string) bool {
		return *growthOnly == "" || slices.Contains(strings.Split(*growthOnly, ","), name)
	}
	for _, n := range sizes {
		if !wanted(fmt.Sprintf("%dGB", n/1e9)) {
			continue
		}
		m, err := b.growSize(n)
		if err != nil {
			return fmt.Errorf("a file of %d bytes: %w", n, err)
		}
		g.Size[n] = m
		b.add(fmt.Sprintf("a file of %g GB", float64(n)/1e9), "", "", m.String())
		if err := g.draw(dir); err != nil { // a run that is ended has what it came to
			return err
		}
	}
	for _, n := range counts {
		if !wanted(fmt.Sprint(n)) {
			continue
		}
		m, err := b.growFiles(int(n))
		if err != nil {
			return fmt.Errorf("%d files: %w", n, err)
		}
		g.Files[n] = m
		b.add(fmt.Sprintf("%d files", n), "", "", m.String())
		if err := g.draw(dir); err != nil {
			return err
		}
	}
	return g.draw(dir)
}

// draw keeps what was measured, and draws it.
func (g growthData) draw(dir string) error {
	text, err := json.MarshalIndent(g, "", " ")
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "growth.json"), append(text, '\n'), 0o644),
		os.WriteFile(filepath.Join(dir, "growth-size.svg"), []byte(g.sizePlate().svg()), 0o644),
		os.WriteFile(filepath.Join(dir, "growth-files.svg"), []byte(g.filesPlate().svg()), 0o644),
	)
}

// measures are figures by name; the name has the unit.
type measures map[string]float64

func (m measures) String() string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		out = append(out, name+" "+number(m[name]))
	}
	return strings.Join(out, ", ")
}

// growthData is what was measured, by size in bytes and by number of files.
type growthData struct{ Size, Files map[int64]measures }

// growthWindow is how much of a file is read in order, in bytes.
const growthWindow = 10_000_000_000

// growSize measures one mount of a repository with a file of size bytes: its
// first bytes, random reads, and its last part in order.
func (b *bench) growSize(size int64) (measures, error) {
	r := hub.Repo{Namespace: "bench", Name: fmt.Sprintf("size-%d", size)}
	file := hubtest.Synthetic{Size: size, Seed: 7}
	if size > growthWindow {
		file.Sum = fmt.Sprintf("%064x", size) // it is not read to its end from its start
	}
	if err := b.hub.ensureRepo(r); err != nil {
		return nil, err
	}
	if _, err := b.hub.CommitSynthetic(r, "main", "file", map[string]hubtest.Synthetic{"w.bin": file}); err != nil {
		return nil, err
	}
	if err := b.hub.Shape(near, nearBPS); err != nil {
		return nil, err
	}
	got := measures{}
	_, err := b.fresh(r, nil, func(m *mounted) (time.Duration, error) {
		s, err := m.status()
		if err != nil {
			return 0, err
		}
		path := m.path("w.bin")
		if _, err := os.Stat(path); err != nil {
			return 0, err
		}
		sent := func() float64 {
			time.Sleep(2 * settle) // what is read ahead counts
			n := b.hub.Stats().BytesSent
			b.hub.ResetStats()
			return float64(n)
		}
		sent()
		head, err := m.work(b, "first", path)
		if err != nil {
			return 0, err
		}
		got["open, ms"], got["first byte, ms"] = ms(head.P50), ms(head.P50+head.Took)
		got["header, kB"] = sent() / 1e3
		const reads = 200
		random, err := m.work(b, "pread", path, reads, 1, 1)
		if err != nil {
			return 0, err
		}
		got["random read, ms"] = ms(random.P50)
		got["a random read, kB"] = sent() / reads / 1e3
		if err := comparePlaces(path, file.ReaderAt(), size, 20); err != nil {
			return 0, err
		}
		rss, err := memoryOf(s.PID, "VmRSS")
		if err != nil {
			return 0, err
		}
		got["RSS after random reads, MB"] = float64(rss) / 1e6
		window := min(size, growthWindow)
		sent()
		took, err := m.timed("dd", "if="+path, "of=/dev/null", "bs=1M", "status=none", "iflag=skip_bytes", fmt.Sprintf("skip=%d", size-window))
		if err != nil {
			return 0, err
		}
		got["window, MB/s"] = float64(window) / 1e6 / took.Seconds()
		got["window fetched / read"] = sent() / float64(window)
		rss, err = memoryOf(s.PID, "VmHWM")
		got["RSS at most, MB"] = float64(rss) / 1e6
		return took, err
	})
	return got, errors.Join(err, b.hub.Shape(0, 0))
}

func ms(d time.Duration) float64 { return d.Seconds() * 1e3 }

// growFiles measures one mount of a repository with n files, 100 in a folder:
// the first ls, and find -size cold and again.
func (b *bench) growFiles(n int) (measures, error) {
	r := hub.Repo{Namespace: "bench", Name: fmt.Sprintf("files-%d", n)}
	if err := b.hub.Make(r, MadeFiles{n, 100, 10}); err != nil {
		return nil, err
	}
	// The Hub prepares its listing once; that is not the mount's time.
	if _, err := timed("curl", "-sSf", "-o", os.DevNull, b.hub.URL+"/api/models/"+r.ID()+"/tree/main?recursive=true"); err != nil {
		return nil, err
	}
	m, err := b.prepare(reader{}, b.hub, r)
	if err != nil {
		return nil, err
	}
	b.gate()
	b.hub.ResetStats()
	begin := time.Now()
	if err := m.start(); err != nil {
		return nil, err
	}
	got := measures{}
	do := func() error {
		if _, err := m.timed("ls", m.dir); err != nil {
			return err
		}
		got["first ls, s"] = time.Since(begin).Seconds()
		if _, err := m.findSize(m.dir, n); err != nil {
			return err
		}
		got["find cold, s"] = time.Since(begin).Seconds()
		b.gate() // what is still being listed counts
		got["API requests"] = float64(b.hub.Stats().Quota["api"])
		b.gate()
		warm, err := m.findSize(m.dir, n)
		if err != nil {
			return err
		}
		got["find again, s"] = warm.Seconds()
		s, err := m.status()
		if err != nil {
			return err
		}
		rss, err := b.atRest(s.PID)
		if err != nil {
			return err
		}
		got["RSS, MB"], got["bytes per file"] = float64(rss)/1e6, float64(rss)/float64(n)
		return nil
	}
	return got, errors.Join(do(), m.close())
}

// curve is one measure over all points.
func curve(name string, data map[int64]measures, measure string, unit float64) line {
	l := line{name: name}
	for _, x := range slices.Sorted(maps.Keys(data)) {
		if y, ok := data[x][measure]; ok {
			l.points = append(l.points, point{float64(x) / unit, y})
		}
	}
	return l
}

func (g growthData) sizePlate() plate {
	c := func(name, measure string) line { return curve(name, g.Size, measure, 1e9) }
	return plate{
		title: "What a file costs as it grows, at 30 ms a request and 100 MB/s a connection", axis: "size of the file, GB",
		note: "Both axes are logarithmic. Dashed: in proportion to the size. Level: the same whatever the size. The window is the file, or the last 10 GB of it; a file larger than the cache is streamed, not stored.",
		plots: []plot{
			{"Open and read the first byte, ms", []line{c("first byte", "first byte, ms")}},
			{"A random read of 4 KiB, ms", []line{c("median", "random read, ms")}},
			{"Bytes fetched, kB", []line{c("first 128 KiB", "header, kB"), c("a random read", "a random read, kB")}},
			{"A window read in order, MB/s", []line{c("", "window, MB/s")}},
			{"The same: bytes fetched for each read", []line{c("", "window fetched / read")}},
			{"Memory of the process (RSS), MB", []line{c("at most", "RSS at most, MB"), c("random reads only", "RSS after random reads, MB")}},
		},
	}
}

func (g growthData) filesPlate() plate {
	c := func(name, measure string) line { return curve(name, g.Files, measure, 1) }
	return plate{
		title: "What a repository costs as its files become more, 100 in a folder", axis: "files",
		note: "Both axes are logarithmic. Dashed: in proportion to the number of files. Level: the same however many there are.",
		plots: []plot{
			{"Mount and first ls, cold, seconds", []line{c("", "first ls, s")}},
			{"Mount and find -size, cold, seconds", []line{c("", "find cold, s")}},
			{"find -size again, seconds", []line{c("", "find again, s")}},
			{"Requests to the API until then", []line{c("", "API requests")}},
			{"Memory of the process at rest, MB", []line{c("", "RSS, MB")}},
			{"The same for each file, bytes", []line{c("", "bytes per file")}},
		},
	}
}
