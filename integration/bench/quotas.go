package main

import (
	"encoding/json"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"hfmount/remote/hub"
	"hfmount/remote/hubtest"
)

// scanFor is how long the scan of small files goes on: longer than a quota's
// window of five minutes, so that it is out of it once, and goes on after.
const scanFor = 330 * time.Second

// quotas does what readers do while the Hub enforces its real limits, as an
// anonymous and as a free account at once, which share none of them.
func (b *bench) quotas() (err error) {
	if b.hub, err = b.startHub(HubArgs{Quotas: true}); err != nil {
		return err
	}
	b.section = "the Hub's real quotas"
	many := hub.Repo{Namespace: "bench", Name: "many"}
	r, made, err := b.smallSet()
	if err != nil {
		return err
	}
	if err := errors.Join(b.hub.Make(many, MadeFiles{b.files, 100, 10}), b.publishFiles(map[string]hubtest.Synthetic{"w.bin": b.file})); err != nil {
		return err
	}
	limit := scanFor
	if b.quick {
		limit = 5 * time.Second
	}
	names, tokens := []string{"anonymous", "free account"}, []string{"", "hf_local"}
	rows := make([][]row, len(names))
	_, err = together(len(names), func(i int) error {
		q := quotaRun{b: b, token: tokens[i], limit: limit}
		err := errors.Join(q.list(many), q.read(), q.scan(r, made))
		for _, r := range q.rows {
			r.what = names[i] + ": " + r.what
			rows[i] = append(rows[i], r)
		}
		return err
	})
	for _, r := range rows {
		for _, r := range r {
			b.put(r)
		}
	}
	if err != nil {
		b.failures++
		b.put(row{what: "failed", note: strings.ReplaceAll(err.Error(), "\n", " ")})
	}
	b.put(row{what: "requests, both", value: b.hub.requests()})
	return nil
}

// quotaRun is what one account does.
type quotaRun struct {
	b     *bench
	token string
	limit time.Duration
	rows  []row
}

// naming keeps two runs from making the same directories.
var naming sync.Mutex

func (q *quotaRun) mount(r hub.Repo) (*mounted, error) {
	naming.Lock()
	defer naming.Unlock()
	m, err := q.b.prepare(reader{}, q.b.hub, r, "--read-only")
	if err != nil {
		return nil, err
	}
	m.token = q.token
	return m, m.start()
}

func (q *quotaRun) add(what, value, note string) {
	q.rows = append(q.rows, row{what: what, value: value, note: note})
}

// check adds a line that passes if ok.
func (q *quotaRun) check(what, value string, ok bool, bar, note string) {
	r := row{what: what, value: value, bar: bar, pass: "pass", note: note}
	if !ok {
		r.pass = "**miss**"
	}
	q.rows = append(q.rows, r)
}

// end unmounts. A warning about the limits is no fault here, so it is counted.
func (q *quotaRun) end(m *mounted, what string) error {
	if err := m.unmount(); err != nil {
		return err
	}
	log, err := os.ReadFile(m.home + "/log")
	q.add(what+": warnings in the log", fmt.Sprint(len(warning.FindAllIndex(log, -1))), "")
	return errors.Join(err, os.RemoveAll(m.home))
}

// list finds all files of a large tree.
func (q *quotaRun) list(r hub.Repo) error {
	begin := time.Now()
	m, err := q.mount(r)
	if err != nil {
		return err
	}
	_, err = m.findSize(m.dir, q.b.files)
	took := time.Since(begin)
	q.check(fmt.Sprintf("mount and find over %d files", q.b.files), seconds(took), err == nil, "all shown", oneLine(err))
	return q.end(m, "find")
}

// read reads the large file, whose content no quota counts.
func (q *quotaRun) read() error {
	m, err := q.mount(repo)
	if err != nil {
		return err
	}
	d, err := m.dd(m.path("w.bin"))
	q.check(fmt.Sprintf("read %d MiB", q.b.file.Size>>20), rate(q.b.file.Size, d), err == nil, "to the end", oneLine(err))
	return q.end(m, "large read")
}

// scan reads small files, each of which costs a request, until the time is up.
func (q *quotaRun) scan(r hub.Repo, made MadeFiles) error {
	m, err := q.mount(r)
	if err != nil {
		return err
	}
	stop := make(chan struct{})
	var said string
	var wg sync.WaitGroup
	wg.Go(func() { said = m.watch(stop) })
	res, err := m.work(q.b, "scan", m.dir, made.Count, made.PerDir, made.Size, int(q.limit.Seconds()))
	close(stop)
	wg.Wait()
	if err != nil {
		return errors.Join(err, q.end(m, "scan"))
	}
	var s scanned
	if err := json.Unmarshal([]byte(res.Text), &s); err != nil {
		return err
	}
	q.add("small files read before the first wait", fmt.Sprintf("%d of %d", s.BeforeWait, made.Count), fmt.Sprintf("in %.1f s", s.UntilWait.Seconds()))
	q.add("longest wait for one file", seconds(s.Longest), "")
	q.add(fmt.Sprintf("small files read in %.0f s", q.limit.Seconds()), fmt.Sprint(s.Read), "")
	q.check("errors", fmt.Sprint(len(s.Errors)), len(s.Errors) == 0, "none", strings.Join(s.Errors, "; "))
	if said == "" {
		said = "nothing of it"
	}
	q.add("status says meanwhile", said, "")
	return q.end(m, "scan")
}

// watch looks at status now and then, and returns the first text that speaks
// of a limit or of a reader that waits.
func (m *mounted) watch(stop <-chan struct{}) (said string) {
	for {
		select {
		case <-stop:
			return said
		case <-time.After(2 * time.Second):
		}
		if said != "" {
			continue
		}
		out, err := m.output("status", m.dir)
		if err != nil {
			said = oneLine(err)
			continue
		}
		for line := range strings.Lines(string(out)) {
			lower := strings.ToLower(line)
			if strings.Contains(lower, "limit") || strings.Contains(lower, "quota") || strings.Contains(lower, "wait") || strings.Contains(lower, "stall") {
				said = strings.TrimSpace(line)
				break
			}
		}
	}
}

func oneLine(err error) string {
	if err == nil {
		return ""
	}
	return strings.ReplaceAll(err.Error(), "\n", " ")
}

// scanned is what a scan of small files came to.
type scanned struct {
	Read, BeforeWait   int
	UntilWait, Longest time.Duration
	Errors             []string // one of each kind
}

// aWait is longer than any file takes that need not wait for a quota.
const aWait = 2 * time.Second

// workScan reads each file once, in order, until the time is up. A read that
// is under way then is given up with the process, which counts what it took.
func workScan(dir string, args []string) (result, error) {
	var made MadeFiles
	var limit int
	if err := numbers(args, &made.Count, &made.PerDir, &made.Size, &limit); err != nil {
		return result{}, err
	}
	var mu sync.Mutex
	var s scanned // guarded by mu
	begin := time.Now()
	started := begin // of the file that is being read, guarded by mu
	finished := make(chan struct{})
	note := func(d time.Duration) {
		if d > s.Longest {
			s.Longest = d
		}
		if d > aWait && s.UntilWait == 0 {
			s.BeforeWait, s.UntilWait = s.Read, started.Sub(begin)
		}
	}
	go func() {
		defer close(finished)
		kinds := map[string]bool{}
		for i := range made.Count {
			mu.Lock()
			started = time.Now()
			mu.Unlock()
			_, err := os.ReadFile(filepath.Join(dir, made.name(i)))
			mu.Lock()
			note(time.Since(started))
			if err == nil {
				s.Read++
			} else if kind := errnoOf(err); !kinds[kind] {
				kinds[kind] = true
				s.Errors = append(s.Errors, fmt.Sprintf("%s after %d files", kind, s.Read))
			}
			mu.Unlock()
		}
	}()
	select {
	case <-finished:
	case <-time.After(time.Duration(limit) * time.Second):
	}
	mu.Lock()
	defer mu.Unlock()
	if s.Read < made.Count {
		note(time.Since(started))
	}
	if s.UntilWait == 0 {
		s.BeforeWait, s.UntilWait = s.Read, time.Since(begin)
	}
	out, err := json.Marshal(s)
	return result{Text: string(out)}, err
}

func errnoOf(err error) string {
	var number unix.Errno
	switch {
	case errors.Is(err, iofs.ErrNotExist):
		return "ENOENT"
	case errors.As(err, &number):
		return unix.ErrnoName(number)
	}
	return err.Error()
}
