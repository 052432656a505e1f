package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"hfmount/remote/hub"
)

// rowBytes is about what a row of the Parquet file takes.
const rowBytes = 12*8 + 36

// makeParquet writes rows of an id, twelve numbers that do not compress, and a
// text, with DuckDB's own row groups.
const makeParquet = `
import duckdb, sys
duckdb.execute('SET enable_progress_bar = false')
numbers = ', '.join(f'random() AS x{i}' for i in range(12))
duckdb.execute(f"""COPY (SELECT i AS id, {numbers}, md5(i::VARCHAR) AS text FROM range({int(sys.argv[2])}) t(i))
  TO '{sys.argv[1]}' (FORMAT parquet, COMPRESSION snappy)""")
`

// scanParquet prints, for each query, its answer, what the process asked of
// read calls meanwhile, and how long it took. The process's own count is that
// of the system calls' results, so it holds for any file system.
const scanParquet = `
import duckdb, json, sys, time
con = duckdb.connect()
con.execute('SET enable_progress_bar = false')
def asked():
    with open('/proc/self/io') as f:
        return int(f.readline().split()[1])
own = asked()
own = asked() - own
for query in sys.argv[2:]:
    print('"ready"', flush=True)
    sys.stdin.readline()
    before, begin = asked(), time.perf_counter()
    answer = con.execute(query.replace('FILE', f"read_parquet('{sys.argv[1]}')")).fetchall()
    took = time.perf_counter() - begin
    print(json.dumps({'answer': repr(answer), 'asked': asked() - before - own, 'seconds': took}), flush=True)
`

var parquetQueries = []struct{ what, sql string }{
	{"count(*)", "SELECT count(*) FROM FILE"},
	{"one column of 14", "SELECT sum((x5 * 1e6)::BIGINT) FROM FILE"},
}

type scan struct {
	Answer  string
	Asked   int64
	Seconds float64

	fetched  int64
	requests map[string]int64
}

// duckdb counts what queries of a Parquet file fetch, against what DuckDB asks
// for.
func (b *bench) duckdb() error {
	if b.python == "" {
		b.add("DuckDB", "not installed", "", "")
		return nil
	}
	folder := filepath.Join(b.dir, "parquet")
	defer os.RemoveAll(folder)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	file := filepath.Join(folder, "data.parquet")
	if _, err := timed(b.python, "-c", makeParquet, file, fmt.Sprint(b.parquet/rowBytes)); err != nil {
		return err
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	want, err := b.scan(reader{}, file, nil)
	if err != nil {
		return err
	}
	r := hub.Repo{Type: hub.Dataset, Namespace: "bench", Name: "table"}
	h, end, err := b.onDisk(r, folder)
	if err != nil {
		return err
	}
	defer end()
	if err := h.Shape(near, nearBPS); err != nil {
		return err
	}
	rounds := make([][]scan, len(parquetQueries))
	for range b.rounds {
		m, err := b.prepare(reader{}, h, r)
		if err != nil {
			return err
		}
		if err := m.start(); err != nil {
			return err
		}
		b.gate()
		got, err := b.scan(m.reader, m.path("data.parquet"), h)
		if err := errors.Join(err, m.close()); err != nil {
			return err
		}
		for i, s := range got {
			if s.Answer != want[i].Answer {
				return fmt.Errorf("%s: %s through the mount, %s locally", parquetQueries[i].what, s.Answer, want[i].Answer)
			}
			rounds[i] = append(rounds[i], s)
		}
	}
	b.add("the file", fmt.Sprintf("%.2f GB", float64(info.Size())/1e9), "", "written by DuckDB; shaped 30 ms and 100 MB/s")
	for i, q := range parquetQueries {
		worst := rounds[i][0]
		var times samples
		for _, s := range rounds[i] {
			times = append(times, time.Duration(s.Seconds*float64(time.Second)))
			if float64(s.fetched)/float64(s.Asked) > float64(worst.fetched)/float64(worst.Asked) {
				worst = s
			}
		}
		b.check(q.what+": bytes fetched / asked for", fmt.Sprintf("%.2f / %.2f MB", float64(worst.fetched)/1e6, float64(worst.Asked)/1e6),
			float64(worst.fetched)/float64(worst.Asked), atMost(1.5),
			fmt.Sprintf("%s, locally %.2f s; %s; the worst round", seconds(times.median()), want[i].Seconds, quotaText(worst.requests)))
	}
	return nil
}

// scan runs the queries in one process. h, if any, counts what each fetches.
func (b *bench) scan(r reader, file string, h *hubProcess) ([]scan, error) {
	args := []string{"-c", scanParquet, file}
	for _, q := range parquetQueries {
		args = append(args, q.sql)
	}
	cmd := r.command(b.python, args...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	var all []scan
	do := func() error {
		lines := json.NewDecoder(out)
		for range parquetQueries {
			var ready string
			if err := lines.Decode(&ready); err != nil {
				return err
			}
			if h != nil {
				h.ResetStats()
			}
			if _, err := fmt.Fprintln(in); err != nil {
				return err
			}
			var s scan
			if err := lines.Decode(&s); err != nil {
				return err
			}
			if h != nil {
				time.Sleep(settle) // what is read ahead counts
				stats := h.Stats()
				s.fetched, s.requests = stats.BytesSent, stats.Quota
			}
			all = append(all, s)
		}
		return nil
	}
	err = do()
	in.Close()
	return all, errors.Join(err, cmd.Wait())
}
