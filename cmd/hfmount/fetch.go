package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"
	"golang.org/x/sync/semaphore"

	"hfmount/blockcache"
	"hfmount/remote/hub"
)

func fetchCommand() *cli.Command {
	return &cli.Command{
		Name:      "fetch",
		Usage:     "download into the cache ahead of use",
		ArgsUsage: "REPO[/PATH]…",
		Description: `Brings files, folders or whole repositories into the cache, verified, so that
mounts read them at the speed of the disk, and with --offline. What is there
already is not fetched again; after an interruption the same command continues.
A pattern is one of the shell's, matched against the path in the repository;
its * matches / too, and folder/ is everything in the folder. A file is fetched
that some --include matches, or if there is none, and no --exclude does.

Example:
  hfmount fetch org/model
  hfmount fetch org/model --include '*.safetensors' --include '*.json'
  hfmount fetch datasets/org/data@v1/train org/other/config.json`,
		Flags: append([]cli.Flag{
			&cli.StringSliceFlag{Name: "include", Usage: "fetch only what a `PATTERN` matches; repeatable"},
			&cli.StringSliceFlag{Name: "exclude", Usage: "leave out what a `PATTERN` matches; repeatable"},
			jsonFlag(),
		}, fetchStoreFlags()...),
		Action: func(c *cli.Context) (err error) {
			if err := wantArgs(c, 1, -1); err != nil {
				return err
			}
			filter, err := newPathFilter(c.StringSlice("include"), c.StringSlice("exclude"))
			if err != nil {
				return err
			}
			cfg, err := readStoreConfig(c)
			if err != nil {
				return err
			}
			if cfg.cacheSize == 0 {
				return &failure{text: "there is nowhere to fetch to: --cache-size is 0", hint: "give it a size, or leave it out", code: exitFailed}
			}
			ctx, stop := signal.NotifyContext(c.Context, syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			context.AfterFunc(ctx, stop) // who asks twice does not want to wait
			st, err := openStack(cfg, cfg.newLogger(c.App.ErrWriter), nil)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, st.Close()) }()
			return fetch(ctx, treeReader{cfg, st.tree}, st.cache, filter, c.Args().Slice(), c.Bool("json"), c.App.Writer, c.App.ErrWriter)
		},
	}
}

// fetchStoreFlags are storeFlags with less memory: what was stored is not read
// again, so that more of it only costs.
func fetchStoreFlags() []cli.Flag {
	flags := storeFlags("warn")
	for _, f := range flags {
		if g, ok := f.(*cli.GenericFlag); ok && g.Name == "memory" {
			g.Value = &sizeValue{n: 256e6}
		}
	}
	return flags
}

// fetched is what a fetch did. Bytes are those of different contents: what is
// at several paths counts once.
type fetched struct {
	Files        int     `json:"files"`
	Bytes        int64   `json:"bytes"`
	FilesThere   int     `json:"files_there_before"`
	BytesThere   int64   `json:"bytes_there_before"`
	BytesFetched int64   `json:"bytes_fetched"`
	Seconds      float64 `json:"seconds"`
	CacheDir     string  `json:"cache_dir"`
}

func (f fetched) String() string {
	size := func(n int64) string { return humanize.Bytes(uint64(n)) }
	all := fmt.Sprintf("%s, %s", count(f.Files, "file"), size(f.Bytes))
	if f.FilesThere == f.Files {
		return fmt.Sprintf("%s, there already in %s", all, f.CacheDir)
	}
	return fmt.Sprintf("%s in %s: %s fetched (%s in %s), %s there already", all, f.CacheDir, count(f.Files-f.FilesThere, "file"),
		size(f.BytesFetched), time.Duration(f.Seconds*float64(time.Second)).Round(100*time.Millisecond), count(f.FilesThere, "file"))
}

func fetch(ctx context.Context, t treeReader, cache *blockcache.Cache, filter pathFilter, args []string, asJSON bool, stdout, stderr io.Writer) error {
	b := newBar(stderr)
	defer b.close()
	p := plan{t: t, filter: filter, byContent: make(map[hub.ContentID]*wanted), told: func(n int) {
		b.transfer("looking at "+count(n, "file"), 0, 0)
	}}
	for _, arg := range args {
		if err := p.add(ctx, arg); err != nil {
			return err
		}
	}
	if p.files == 0 {
		return &failure{text: "no file matches", code: exitNotFound,
			hint: "patterns are matched against the whole path in the repository; `hfmount find` lists the paths"}
	}
	began := time.Now()
	f := fetcher{plan: &p, cache: cache, result: fetched{Files: p.files, CacheDir: t.cfg.cacheDir}}
	if err := f.prepare(ctx); err != nil {
		return err
	}
	if err := f.run(ctx, b); err != nil {
		return err
	}
	f.result.BytesFetched = int64(cache.Stats().FetchedBytes)
	f.result.Seconds = time.Since(began).Seconds()
	b.close()
	if asJSON {
		return writeJSON(stdout, f.result)
	}
	_, err := fmt.Fprintln(stdout, f.result)
	return err
}

// fetcher brings what a plan names.
type fetcher struct {
	*plan
	cache  *blockcache.Cache
	result fetched
	todo   []*wanted
	lack   int64 // bytes to fetch

	mu     sync.Mutex
	done   int     // of todo
	failed []error // in the order they came
}

// prepare finds out what is there, and whether the rest has room.
func (f *fetcher) prepare(ctx context.Context) error {
	for _, w := range f.contents {
		f.result.Bytes += w.id.Size
		if f.cache.Contains(w.id) {
			f.result.FilesThere += w.paths
			f.result.BytesThere += w.id.Size
			continue
		}
		f.todo = append(f.todo, w)
		f.lack += w.id.Size
	}
	if len(f.todo) == 0 {
		return nil
	}
	room, err := f.cache.Room(ctx)
	if err != nil {
		return err
	}
	if f.result.Bytes > room {
		return &failure{code: exitFailed, err: blockcache.ErrNoRoom,
			text: fmt.Sprintf("%s do not fit into the cache, which may take %s in %s", humanize.Bytes(uint64(f.result.Bytes)), humanize.Bytes(uint64(room)), f.result.CacheDir),
			hint: "give it more with --cache-size, another disk with --cache-dir, or fetch less with --include and --exclude"}
	}
	return nil
}

const (
	// bringing bounds what is brought at once, in weights: enough small files
	// that no connection idles, and two large ones, so that one is verified
	// while the next arrives.
	bringing   = 24
	fullWeight = bringing / 2
	oneWeight  = 8 << 20 // bytes
)

// run brings everything in the order it was found, and shows how far it is.
func (f *fetcher) run(ctx context.Context, b *bar) error {
	shown := make(chan struct{})
	ended := make(chan struct{})
	go func() { // ends with run
		defer close(shown)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			f.show(b)
			select {
			case <-tick.C:
			case <-ended:
				return
			}
		}
	}()
	defer func() { close(ended); <-shown }()
	// A failure that all others would have too ends the run.
	tries, giveUp := context.WithCancel(ctx)
	defer giveUp()
	sem := semaphore.NewWeighted(bringing)
	var wg sync.WaitGroup
	for _, w := range f.todo {
		weight := min(max(w.id.Size/oneWeight, 1), fullWeight)
		if sem.Acquire(tries, weight) != nil {
			break
		}
		wg.Go(func() {
			defer sem.Release(weight)
			err := f.bring(tries, w)
			f.mu.Lock()
			defer f.mu.Unlock()
			if err == nil {
				f.done++
				return
			}
			if tries.Err() == nil || len(f.failed) == 0 {
				f.failed = append(f.failed, &repoError{w.loc, f.t.cfg.endpoint, err})
			}
			if general(err) {
				giveUp()
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return &failure{text: "interrupted", hint: "what arrived is kept; the same command continues with it", code: exitFailed, err: ctx.Err()}
	}
	if len(f.failed) > 0 {
		return f.failure()
	}
	for _, w := range f.contents {
		if !f.cache.Contains(w.id) {
			return f.explain(&repoError{w.loc, f.t.cfg.endpoint, fmt.Errorf("made way for others: %w", blockcache.ErrNoRoom)})
		}
	}
	return nil
}

// bring completes one content.
func (f *fetcher) bring(ctx context.Context, w *wanted) error {
	const tries = 3
	for try := 1; ; try++ {
		err := f.open(ctx, w)
		if try == tries || !errors.Is(err, blockcache.ErrReplaced) {
			return err
		}
	}
}

func (f *fetcher) open(ctx context.Context, w *wanted) (err error) {
	h, err := w.file.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	if there := h.Stored(); there > 0 {
		f.mu.Lock()
		f.result.BytesThere += there
		f.lack -= there
		f.mu.Unlock()
	}
	return h.Complete(ctx)
}

// general reports whether an error is not one file's own.
func general(err error) bool {
	for _, g := range []error{blockcache.ErrNoRoom, blockcache.ErrClosed, hub.ErrUnavailable, hub.ErrOffline, hub.ErrUnauthorized,
		hub.ErrBadToken, hub.ErrForbidden, hub.ErrGated, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, g) {
			return true
		}
	}
	return isLocal(err)
}

// failure is what a person is told of the files that failed.
func (f *fetcher) failure() error {
	first := f.explain(f.failed[0])
	if len(f.failed) == 1 {
		return first
	}
	const most = 10
	all := &failure{text: fmt.Sprintf("%d of %s could not be fetched", len(f.failed), count(len(f.todo), "file")), code: first.code, err: first}
	for i, err := range f.failed {
		if i == most {
			all.hint += fmt.Sprintf("\n  and %d more", len(f.failed)-most)
			break
		}
		if i > 0 {
			all.hint += "\n"
		}
		all.hint += "  " + f.explain(err).text
	}
	return all
}

// explain adds to explain what only a fetch can meet.
func (f *fetcher) explain(err error) *failure {
	e := explain(err)
	switch {
	case errors.Is(err, blockcache.ErrNoRoom):
		e.hint = "what arrived is kept; give the cache more with --cache-size, another disk with --cache-dir, or make room in " + f.result.CacheDir
	case errors.Is(err, blockcache.ErrCorrupt):
		e.hint = "it was dropped, and the same command fetches it again; if it stays so, the file on the Hub is damaged"
	}
	return e
}

func (f *fetcher) show(b *bar) {
	f.mu.Lock()
	done, lack := f.done, f.lack
	f.mu.Unlock()
	if lack == 0 {
		return
	}
	got := min(int64(f.cache.Stats().FetchedBytes), lack)
	text := fmt.Sprintf("%d of %s", done, count(len(f.todo), "file"))
	if got == lack {
		text += ", verifying"
	}
	b.transfer(text, got, lack)
}

// transfer shows done of total bytes, or while total is 0 only the text.
func (b *bar) transfer(text string, done, total int64) {
	if b.w == nil {
		return
	}
	b.begin(total > 0)
	b.p.Describe(text)
	if total == 0 {
		_ = b.p.Add(1) // turns the spinner; a bar that cannot be drawn is no failure
		return
	}
	b.p.ChangeMax64(total)
	_ = b.p.Set64(done) // likewise
}
