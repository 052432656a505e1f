package blockcache

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/sys/unix"

	"hfmount/remote/hub"
)

const (
	// leftoverAge is how old a file without its partner must be to be removed:
	// another process may be between creating the two.
	leftoverAge = 10 * time.Minute
	touchEvery  = time.Minute
	retryDisk   = 10 * time.Second // after an error of the disk
)

// diskTier is the directory: names, sizes, and the order of eviction. An
// object enters probation when it is stored and the protected segment when it
// is opened again, so a scan over many objects evicts its own first.
type diskTier struct {
	dir     string
	bytes   int64 // as Options.DiskBytes
	log     *slog.Logger
	lock    *os.File
	lockMu  sync.Mutex // flock does not exclude within one process
	scanned chan struct{}
	evictMu sync.Mutex // one eviction at a time; taken before mu

	mu      sync.Mutex
	entries map[hub.ContentID]*diskEntry
	used    int64
	lists   [3]*simplelru.LRU[hub.ContentID, struct{}]
	hot     int64 // bytes in the protected segment
	failed  time.Time
	failure error // what failed then
	scanAt  time.Time
}

type diskEntry struct {
	bytes    int64
	complete bool
	list     segment
	touched  time.Time
}

func openTier(dir string, bytes int64, log *slog.Logger) (*diskTier, error) {
	for _, d := range []string{dir, filepath.Join(dir, "blobs"), filepath.Join(dir, "partial")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	t := &diskTier{
		dir: dir, bytes: bytes, log: log, lock: lock,
		scanned: make(chan struct{}),
		entries: make(map[hub.ContentID]*diskEntry),
	}
	for _, s := range []segment{probation, protected} {
		t.lists[s], _ = simplelru.NewLRU[hub.ContentID, struct{}](math.MaxInt, nil)
	}
	return t, nil
}

func (t *diskTier) blob(id hub.ContentID) string {
	return filepath.Join(t.dir, "blobs", id.Hex[:2], id.String())
}

func (t *diskTier) partialData(id hub.ContentID) string {
	return filepath.Join(t.dir, "partial", id.String()+".data")
}

func (t *diskTier) partialIndex(id hub.ContentID) string {
	return filepath.Join(t.dir, "partial", id.String()+".idx")
}

// parseID reads what ContentID.String wrote.
func parseID(name string) (hub.ContentID, bool) {
	part := strings.Split(name, "-")
	if len(part) != 3 {
		return hub.ContentID{}, false
	}
	id := hub.ContentID{Hex: part[1]}
	if part[0] == hub.SHA256.String() {
		id.Algo = hub.SHA256
	}
	size, err := strconv.ParseInt(part[2], 10, 64)
	id.Size = size
	return id, err == nil && id.Valid() && id.String() == name
}

// locked runs fn while no other process changes names in the directory.
func (t *diskTier) locked(fn func() error) error {
	t.lockMu.Lock()
	defer t.lockMu.Unlock()
	for {
		err := unix.Flock(int(t.lock.Fd()), unix.LOCK_EX)
		if err == unix.EINTR {
			continue
		} else if err != nil {
			return err
		}
		break
	}
	defer unix.Flock(int(t.lock.Fd()), unix.LOCK_UN)
	return fn()
}

func (t *diskTier) close() error { return t.lock.Close() }

func (t *diskTier) size() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.used
}

// contains asks the directory, which other processes change too.
func (t *diskTier) contains(id hub.ContentID) bool {
	st, err := os.Lstat(t.blob(id))
	return err == nil && st.Mode().IsRegular() && st.Size() == id.Size
}

// tooLarge says that storing the object would evict everything and not do.
func (t *diskTier) tooLarge(size int64) bool {
	if t.bytes > 0 {
		return size > t.bytes
	}
	room, err := t.room()
	return err == nil && size > room+t.size()
}

// room is how many bytes may still be stored.
func (t *diskTier) room() (int64, error) {
	if t.bytes > 0 {
		return t.bytes - t.size(), nil
	}
	var st unix.Statfs_t
	if err := unix.Statfs(t.dir, &st); err != nil {
		return 0, err
	}
	total, free := int64(st.Blocks)*st.Bsize, int64(st.Bavail)*st.Bsize
	return free - max(total/10, 20e9), nil
}

// note records that id takes bytes on disk now.
func (t *diskTier) note(id hub.ContentID, bytes int64, complete bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entries[id]
	if e == nil {
		e = &diskEntry{touched: time.Now()}
		t.entries[id] = e
		t.enlist(id, e, probation)
	}
	t.used += bytes - e.bytes
	if e.list == protected {
		t.hot += bytes - e.bytes
	}
	e.bytes, e.complete = bytes, complete
}

func (t *diskTier) enlist(id hub.ContentID, e *diskEntry, s segment) {
	if e.list != unlisted {
		t.lists[e.list].Remove(id)
	}
	if e.list == protected {
		t.hot -= e.bytes
	}
	e.list = s
	t.lists[s].Add(id, struct{}{})
	if s != protected {
		return
	}
	t.hot += e.bytes
	for t.hot > t.used/4*3 && t.lists[protected].Len() > 1 {
		old, _, _ := t.lists[protected].GetOldest()
		t.enlist(old, t.entries[old], probation)
	}
}

func (t *diskTier) gone(id hub.ContentID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.entries[id]; e != nil {
		t.dropLocked(id, e)
	}
}

func (t *diskTier) dropLocked(id hub.ContentID, e *diskEntry) {
	t.lists[e.list].Remove(id)
	if e.list == protected {
		t.hot -= e.bytes
	}
	t.used -= e.bytes
	delete(t.entries, id)
}

// touch notes a use of id, here at once and on disk at most once a minute.
func (t *diskTier) touch(id hub.ContentID) {
	now := time.Now()
	t.mu.Lock()
	e := t.entries[id]
	if e == nil {
		t.mu.Unlock()
		return
	}
	again := now.Sub(e.touched) >= touchEvery
	if again {
		e.touched = now
		t.enlist(id, e, protected)
	} else {
		t.lists[e.list].Get(id)
	}
	path := t.partialData(id)
	if e.complete {
		path = t.blob(id)
	}
	t.mu.Unlock()
	if again {
		// Only the order of eviction is lost if these fail.
		_ = os.Chtimes(path, now, now)
		_ = os.Chmod(path, 0o700)
	}
}

// scan builds the index from the directory and removes leftovers.
func (t *diskTier) scan(ctx context.Context) {
	defer close(t.scanned)
	t.rescan(ctx)
}

func (t *diskTier) rescan(ctx context.Context) {
	type found struct {
		id   hub.ContentID
		e    diskEntry
		hot  bool
		used time.Time
	}
	started := time.Now()
	var all []found
	see := func(dir string, partial bool) {
		names, err := os.ReadDir(dir)
		if err != nil {
			return
		}
		for _, de := range names {
			if ctx.Err() != nil {
				return
			}
			base := de.Name()
			info, err := de.Info()
			if err != nil {
				continue
			}
			stale := time.Since(info.ModTime()) > leftoverAge
			if strings.HasSuffix(base, ".idx") || strings.HasSuffix(base, ".tmp") {
				data := filepath.Join(dir, strings.TrimSuffix(base, ".idx"))
				if partial {
					data += ".data"
				}
				if _, err := os.Lstat(data); errors.Is(err, os.ErrNotExist) && stale {
					_ = os.Remove(filepath.Join(dir, base))
				}
				continue
			}
			id, ok := parseID(strings.TrimSuffix(base, ".data"))
			if !ok {
				continue
			}
			bytes := info.Size()
			if partial {
				bytes = allocated(info)
				if _, err := os.Lstat(t.partialIndex(id)); errors.Is(err, os.ErrNotExist) && stale {
					_ = os.Remove(filepath.Join(dir, base))
					continue
				}
			} else if info.Size() != id.Size {
				t.removeBlob(id)
				continue
			}
			all = append(all, found{id, diskEntry{bytes: bytes, complete: !partial, touched: info.ModTime()},
				info.Mode()&0o100 != 0, info.ModTime()})
		}
	}
	see(filepath.Join(t.dir, "partial"), true)
	shards, _ := os.ReadDir(filepath.Join(t.dir, "blobs"))
	for _, s := range shards {
		see(filepath.Join(t.dir, "blobs", s.Name()), false)
	}
	if ctx.Err() != nil {
		return
	}
	slices.SortFunc(all, func(a, b found) int { return a.used.Compare(b.used) })
	t.mu.Lock()
	defer t.mu.Unlock()
	t.scanAt = started
	seen := make(map[hub.ContentID]bool, len(all))
	for _, x := range all {
		seen[x.id] = true
		if e := t.entries[x.id]; e != nil {
			continue // what this process knows is newer
		}
		e := x.e
		t.entries[x.id] = &e
		t.used += e.bytes
		t.enlist(x.id, &e, probation)
		if x.hot {
			t.enlist(x.id, &e, protected)
		}
	}
	for id, e := range t.entries {
		// Another process evicted it; unless it was stored while we looked.
		if !seen[id] && e.touched.Before(started) {
			t.dropLocked(id, e)
		}
	}
}
