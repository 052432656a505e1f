package blockcache

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"hfmount/remote/hub"
)

// allocated is what a sparse file takes.
func allocated(info fs.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return info.Size()
}

// makeRoom evicts until need more bytes may be stored, or says that they may
// not.
func (t *diskTier) makeRoom(ctx context.Context, need int64) bool {
	if t.failing() {
		return false
	}
	if t.hasRoom(need) {
		return true
	}
	t.evictMu.Lock()
	defer t.evictMu.Unlock()
	select {
	case <-t.scanned:
	case <-ctx.Done():
		return false
	}
	t.mu.Lock()
	old := time.Since(t.scanAt) > 30*time.Second
	t.mu.Unlock()
	if old {
		t.rescan(ctx) // other processes store and evict as well
	}
	tried := make(map[hub.ContentID]bool)
	for {
		room, err := t.room()
		if err != nil {
			return false
		}
		if room >= need {
			return true
		}
		id, ok := t.victim(tried)
		if !ok {
			return false
		}
		tried[id] = true
		t.evict(id)
	}
}

// shrink evicts about n bytes: the disk is fuller than the bound allows for.
func (t *diskTier) shrink(n int64) {
	t.evictMu.Lock()
	defer t.evictMu.Unlock()
	tried := make(map[hub.ContentID]bool)
	for target := t.size() - n; t.size() > target; {
		id, ok := t.victim(tried)
		if !ok {
			return
		}
		tried[id] = true
		t.evict(id)
	}
}

func (t *diskTier) failing() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return time.Since(t.failed) < retryDisk
}

func (t *diskTier) hasRoom(need int64) bool {
	room, err := t.room()
	return err == nil && room >= need
}

// victim returns the object that was not used for longest, probation first.
func (t *diskTier) victim(tried map[hub.ContentID]bool) (hub.ContentID, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range []segment{probation, protected} {
		l := t.lists[s]
		for range l.Len() {
			id, _, _ := l.GetOldest()
			if !tried[id] {
				return id, true
			}
			l.Get(id) // in use: it is young again
		}
	}
	return hub.ContentID{}, false
}

// evict removes an object that nobody has open. Unlinking a file that somebody
// opens this moment is harmless: they see that it has lost its name.
func (t *diskTier) evict(id hub.ContentID) {
	ok := true
	for _, path := range []string{t.blob(id), t.partialData(id)} {
		f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
		if err != nil {
			ok = ok && errors.Is(err, os.ErrNotExist)
			continue
		}
		err = flock(f, unix.LOCK_EX)
		if err == unix.EBADF {
			// NFS locks exclusively only what is open for writing. It has no
			// passthrough, so that nobody reads through this descriptor.
			f.Close()
			if f, err = os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0); err != nil {
				ok = false
				continue
			}
			err = flock(f, unix.LOCK_EX)
		}
		if err != nil {
			ok = false
		} else if err := t.locked(func() error { return t.unlink(f, path) }); err != nil {
			ok = false
		}
		f.Close()
	}
	if ok {
		t.gone(id)
	}
}

// unlink removes path and its index if path still names f.
func (t *diskTier) unlink(f *os.File, path string) error {
	if f != nil && !sameFile(f, path) {
		return nil
	}
	idx := path + ".idx"
	if ext := ".data"; len(path) > len(ext) && path[len(path)-len(ext):] == ext {
		idx = path[:len(path)-len(ext)] + ".idx"
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	// An index without data is a leftover that the next scan removes.
	_ = os.Remove(idx)
	return nil
}

// removeBlob drops a complete object that is not what it should be.
func (t *diskTier) removeBlob(id hub.ContentID) {
	if err := t.locked(func() error { return t.unlink(nil, t.blob(id)) }); err != nil {
		t.log.Warn("cannot remove a bad cache file", "object", id, "error", err)
	}
	t.gone(id)
}

// remove drops everything of an object, whoever has it open.
func (t *diskTier) remove(id hub.ContentID) {
	t.removeBlob(id)
	if err := t.locked(func() error { return t.unlink(nil, t.partialData(id)) }); err != nil {
		t.log.Warn("cannot remove a bad cache file", "object", id, "error", err)
	}
}

// fail makes the cache do without the disk for a while: it has no room, or is
// broken. One line is logged for each such time.
func (t *diskTier) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Since(t.failed) >= retryDisk {
		t.log.Warn("cache disk failed; reading without it", "dir", t.dir, "error", err)
	}
	t.failed, t.failure = time.Now(), err
}

// lastFailure is the error of a disk that is done without at the moment.
func (t *diskTier) lastFailure() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Since(t.failed) >= retryDisk {
		return nil
	}
	return t.failure
}
