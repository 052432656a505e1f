package node

import (
	"bytes"
	"errors"
	"fmt"
	iofs "io/fs"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// TestManyAtOnce: readers, writers and mappings of the same few files come and
// go in whatever mode the others left, names change under them, commits land in
// between, and nobody gets an error that says less than "no such file".
func TestManyAtOnce(t *testing.T) {
	for _, cachedOnly := range []bool{false, true} {
		c := writable()
		c.Blobs, c.Cached = 3, cachedOnly
		m := startMount(t, c)
		m.completeBlob(t)
		var done sync.WaitGroup
		var stale atomic.Int64
		for worker := range 6 {
			rnd := rand.New(rand.NewPCG(uint64(worker), 1))
			done.Go(func() {
				for i := range 150 {
					path := m.path(blobName(rnd.IntN(c.Blobs)))
					switch err := touchSomehow(path, rnd); {
					case errors.Is(err, syscall.ESTALE):
						stale.Add(1)
					case err != nil && !errors.Is(err, iofs.ErrNotExist):
						t.Errorf("worker %d, step %d: %v", worker, i, err)
					}
				}
			})
		}
		stop := make(chan struct{})
		committed := make(chan struct{})
		go func() {
			defer close(committed)
			for {
				select {
				case <-stop:
					return
				default:
					m.ask("commit") // what is open is left
				}
			}
		}()
		done.Wait()
		// The kernel looks again once. Who loses twice in a row is told so.
		if n := stale.Load(); n > 9 {
			t.Errorf("%d of 900 operations met another inode twice in a row", n)
		}
		close(stop)
		<-committed
		waitFor(t, "the releases", func() bool { return m.ask("handles") == "0" })
		waitFor(t, "a commit of all", func() bool { return m.ask("commit") == "ok" })
		for i := range c.Blobs {
			got, err := os.ReadFile(m.path(blobName(i)))
			want := "absent"
			if err == nil {
				want = hashOf(got)
			}
			if remote := m.ask("remote " + blobName(i)); remote != want {
				t.Errorf("%s: the Hub has %.8s, the mount %.8s (%v)", blobName(i), remote, want, err)
			}
		}
		m.blobHashes()
		waitFor(t, "unmount", func() bool { return m.ask("unmount") == "ok" })
	}
}

func touchSomehow(path string, rnd *rand.Rand) error {
	switch rnd.IntN(8) {
	case 0, 1:
		_, err := os.ReadFile(path)
		return err
	case 2:
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		mem, err := syscall.Mmap(int(f.Fd()), 0, page, syscall.PROT_READ, syscall.MAP_PRIVATE)
		if err != nil {
			return err
		}
		return syscall.Munmap(mem)
	case 3:
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := f.WriteAt([]byte("middle"), int64(rnd.IntN(page))); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		return f.Sync()
	case 4:
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteString("end")
		return err
	case 5:
		return os.WriteFile(path, bytes.Repeat([]byte("anew"), 2*page), 0o644)
	case 6:
		tmp := fmt.Sprintf("%s.%d", path, rnd.Uint64())
		if err := os.WriteFile(tmp, bytes.Repeat([]byte("over"), page), 0o644); err != nil {
			return err
		}
		return os.Rename(tmp, path)
	}
	return os.Truncate(path, int64(page+rnd.IntN(page)))
}
