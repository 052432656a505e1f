package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hfmount/blockcache"
	"hfmount/remote/hub"
	"hfmount/writeback"
)

// slowHub answers every read after a round trip, so many at once.
type slowHub struct {
	*fakeHub
	slots chan struct{}
	deaf  bool // for what nobody waits for

	mu      sync.Mutex
	paths   map[string]int // reads
	refused int
}

const roundTrip = 30 * time.Millisecond

func newSlowHub(files map[string]string) *slowHub {
	h := &slowHub{fakeHub: newFakeHub(), slots: make(chan struct{}, 16), paths: make(map[string]int)}
	h.commit(repoAB, "main", day(1), files)
	return h
}

func (h *slowHub) OpenRange(ctx context.Context, s hub.Snapshot, e hub.Entry, off, n int64, urgent bool) (io.ReadCloser, error) {
	h.mu.Lock()
	h.paths[e.Path]++
	if h.deaf && !urgent {
		h.refused++
		h.mu.Unlock()
		return nil, hub.ErrUnavailable
	}
	h.mu.Unlock()
	select {
	case h.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-h.slots }()
	select {
	case <-time.After(roundTrip):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return h.fakeHub.OpenRange(ctx, s, e, off, n, urgent)
}

// fetched is how many reads there were, and of how many files.
func (h *slowHub) fetched() (reads, files int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, n := range h.paths {
		reads += n
	}
	return reads, len(h.paths)
}

// library has dirs directories of n small files, and one large file in each.
func library(dirs, n int) map[string]string {
	files := make(map[string]string)
	for d := range dirs {
		for i := range n {
			path := fmt.Sprintf("d%02d/f%03d", d, i)
			files[path] = path + " holds this"
		}
		files[fmt.Sprintf("d%02d/f0005.empty", d)] = ""
	}
	return files
}

// inOrder lists all small files as they lie in the tree.
func inOrder(files map[string]string) []string {
	var out []string
	for p, c := range files {
		if c != "" {
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return out
}

// readEach opens, checks and closes each, one after the other.
func readEach(t *testing.T, root *Dir, files map[string]string, paths []string) {
	t.Helper()
	for _, p := range paths {
		if got := content(t, at(t, root, p)); got != files[p] {
			t.Fatalf("%s holds %q", p, got)
		}
	}
}

// byNumbers is the order in which cp takes the files: by inode number, in
// every directory.
func byNumbers(t *testing.T, root *Dir, dir string) []string {
	t.Helper()
	d := root
	if dir != "" {
		d = at(t, root, dir).(*Dir)
	}
	es, _, err := d.ReadDir(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	es = slices.Clone(es)
	slices.SortFunc(es, func(a, b DirEntry) int {
		if a.Ino < b.Ino {
			return -1
		}
		return 1
	})
	var out []string
	for _, e := range es {
		path := join(dir, e.Name)
		if e.Mode.IsDir() {
			out = append(out, byNumbers(t, root, path)...)
		} else if f := at(t, root, path).(*File); f.Size() > 0 {
			out = append(out, path)
		}
	}
	return out
}

// TestAheadOrders has a lone reader get nearly what all connections together
// can do, in every order it knows, without a read that nobody asked for.
func TestAheadOrders(t *testing.T) {
	many := library(1, 600)
	tree := library(8, 60)
	for name := range library(2, 30) { // directories within the first, before, between and behind its files
		for _, below := range []string{"d00/a/", "d00/f030x/", "d00/z/"} {
			tree[below+name] = below + name
		}
	}
	for _, tt := range []struct {
		name  string
		files map[string]string
		order func(t *testing.T, root *Dir) []string
	}{
		{"one directory", many, func(*testing.T, *Dir) []string { return inOrder(many) }},
		{"by inode number", many, func(t *testing.T, root *Dir) []string { return byNumbers(t, root, "") }},
		{"a walk", tree, func(*testing.T, *Dir) []string { return inOrder(tree) }},
		{"files before directories", tree, func(*testing.T, *Dir) []string {
			out := inOrder(tree)
			slices.SortFunc(out, func(a, b string) int { return compareFilesFirst(a, b) })
			return out
		}},
	} {
		for _, writable := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%v", tt.name, writable), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h := newSlowHub(tt.files)
					o := Options{Source: h}
					if writable {
						o.Layers = noLayers{}
					}
					root := rootOf(t, newTree(t, o), "a/b")
					paths := tt.order(t, root)
					started := time.Now()
					readEach(t, root, tt.files, paths)
					took, floor := time.Since(started), time.Duration(len(paths))*roundTrip/16
					t.Logf("took %v floor %v", took, floor)
					if took > floor*5/4+8*roundTrip {
						t.Errorf("%d files took %v, and all connections together %v", len(paths), took, floor)
					}
					if reads, files := h.fetched(); reads != len(paths) || files != len(paths) {
						t.Errorf("%d reads of %d files for %d", reads, files, len(paths))
					}
				})
			})
		}
	}
}

// noLayers may be written to, and never was.
type noLayers struct{}

func (noLayers) MayWrite(hub.Ref) bool { return true }
func (noLayers) Layer(context.Context, hub.Ref, bool) (*writeback.Layer, error) {
	return nil, nil
}
func (noLayers) MayCreate() bool                            { return false }
func (noLayers) CreateRepo(context.Context, hub.Repo) error { return ErrReadOnly }

// compareFilesFirst is the order of os.walk.
func compareFilesFirst(a, b string) int {
	for {
		x, y := slices.Index([]byte(a), '/'), slices.Index([]byte(b), '/')
		switch {
		case x < 0 && y < 0:
			return strings.Compare(a, b)
		case x < 0:
			return -1
		case y < 0:
			return 1
		case a[:x] != b[:y]:
			return strings.Compare(a[:x], b[:y])
		}
		a, b = a[x+1:], b[y+1:]
	}
}

// TestAheadWorkers has several readers, each in order, take turns.
func TestAheadWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		files := library(4, 200)
		h := newSlowHub(files)
		root := rootOf(t, newTree(t, Options{Source: h}), "a/b")
		paths := inOrder(files)
		started := time.Now()
		for i := range 200 {
			for w := range 4 {
				readEach(t, root, files, paths[w*200+i:w*200+i+1])
			}
		}
		took, floor := time.Since(started), 800*roundTrip/16
		if took > floor*5/4+16*roundTrip {
			t.Errorf("took %v, and all connections together %v", took, floor)
		}
		if reads, _ := h.fetched(); reads != 800 {
			t.Errorf("%d reads", reads)
		}
	})
}

// TestAheadRandom has a reader in no order cost nothing but what it reads.
func TestAheadRandom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		files := library(1, 2000)
		h := newSlowHub(files)
		root := rootOf(t, newTree(t, Options{Source: h}), "a/b")
		paths := inOrder(files)
		r := rand.New(rand.NewPCG(1, 2))
		r.Shuffle(len(paths), func(i, j int) { paths[i], paths[j] = paths[j], paths[i] })
		readEach(t, root, files, paths[:400])
		synctest.Wait()
		if reads, _ := h.fetched(); reads > 400+2*firstWindow {
			t.Errorf("%d reads for 400 files", reads)
		}
	})
}

// TestAheadStops has a reader that goes elsewhere be followed no further than
// it has shown to go, and one of every third file not at all.
func TestAheadStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		files := library(1, 2000)
		h := newSlowHub(files)
		root := rootOf(t, newTree(t, Options{Source: h}), "a/b")
		paths := inOrder(files)
		readEach(t, root, files, paths[:10])
		time.Sleep(time.Minute)
		if reads, _ := h.fetched(); reads <= 10 || reads > 10+16 {
			t.Errorf("%d reads for the first 10 files", reads)
		}
		before, _ := h.fetched()
		for i := 500; i < 800; i += 3 {
			readEach(t, root, files, paths[i:i+1])
		}
		time.Sleep(time.Minute)
		if reads, _ := h.fetched(); reads != before+100 {
			t.Errorf("%d reads for 100 files", reads-before)
		}
	})
}

// TestAheadCached has nothing fetched that is there, in memory or on disk, and
// none of it again after a restart.
func TestAheadCached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		files := library(2, 100)
		h := newSlowHub(files)
		dir := t.TempDir()
		paths := inOrder(files)
		for round := range 3 {
			c, err := blockcache.Open(blockcache.Options{Dir: dir, DiskBytes: 1 << 30, MemoryBytes: 16 << 20})
			if err != nil {
				t.Fatal(err)
			}
			tree, err := New(Options{Source: h, Cache: c})
			if err != nil {
				t.Fatal(err)
			}
			root := rootOf(t, tree, "a/b")
			readEach(t, root, files, paths)
			readEach(t, root, files, paths)
			if reads, _ := h.fetched(); reads != len(paths) {
				t.Errorf("round %d: %d reads of %d files", round, reads, len(paths))
			}
			if err := errors.Join(tree.Close(), c.Close()); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestAheadRefused has a Hub that says no to what nobody waits for be left
// alone for a while, and readers served.
func TestAheadRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		files := library(1, 100)
		h := newSlowHub(files)
		h.deaf = true
		root := rootOf(t, newTree(t, Options{Source: h}), "a/b")
		readEach(t, root, files, inOrder(files))
		synctest.Wait()
		if h.refused == 0 || h.refused > 16 {
			t.Errorf("%d refusals in %v", h.refused, 100*roundTrip)
		}
	})
}
