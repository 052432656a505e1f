package fs

import (
	"sync"

	"github.com/cespare/xxhash/v2"
	"github.com/dgraph-io/ristretto/v2"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/hashicorp/golang-lru/v2/simplelru"

	"hfmount/remote/hub"
)

// memoBytes bounds the listings held in memory, in bytes.
const memoBytes = 32 << 20

// memo holds parsed listings. get may miss at any time: a listing is then
// read from disk again, or asked for.
type memo interface {
	get(key uint64) (*listing, bool)
	put(key uint64, l *listing)
	close()
}

// memoKey names a listing in memory. The listing says what it is, so that
// two with one hash are told apart.
func memoKey(r hub.Repo, path string, key gitID) uint64 {
	var buf [256]byte
	b := append(buf[:0], byte(r.Type))
	b = append(b, r.Namespace...)
	b = append(b, '/')
	b = append(b, r.Name...)
	b = append(b, 0)
	b = append(b, path...)
	b = append(b, 0)
	b = append(b, key[:]...)
	return xxhash.Sum64(b)
}

// hotMemo is for listings that are on disk as well: it may drop what it likes
// in favour of what is asked for most. A huge one is held apart, the last few
// exactly, because reading it again for every name in it would be slow.
type hotMemo struct {
	c    *ristretto.Cache[uint64, *listing]
	huge *lru.Cache[uint64, *listing]
}

const (
	hugeBytes = memoBytes / 8
	hugeOnes  = 2
)

func newHotMemo() (*hotMemo, error) {
	c, err := ristretto.NewCache(&ristretto.Config[uint64, *listing]{
		NumCounters: 1 << 17,
		MaxCost:     memoBytes,
		BufferItems: 64,
	})
	if err != nil {
		return nil, err
	}
	huge, err := lru.New[uint64, *listing](hugeOnes)
	if err != nil {
		c.Close()
		return nil, err
	}
	return &hotMemo{c, huge}, nil
}

func (m *hotMemo) get(key uint64) (*listing, bool) {
	if l, ok := m.c.Get(key); ok {
		return l, true
	}
	return m.huge.Get(key)
}

func (m *hotMemo) put(key uint64, l *listing) {
	if l.bytes > hugeBytes {
		m.huge.Add(key, l)
		return
	}
	m.c.Set(key, l, l.bytes)
}

func (m *hotMemo) close() { m.c.Close() }

// lruMemo is for listings that are nowhere else: exact, least recently used
// first. One listing is held however large it is, or it could not be worked on
// without a request for every name in it.
type lruMemo struct {
	mu    sync.Mutex // leaf
	c     *simplelru.LRU[uint64, *listing]
	bytes int64
}

func newLRUMemo() (*lruMemo, error) {
	m := &lruMemo{}
	var err error
	m.c, err = simplelru.NewLRU(1<<17, func(_ uint64, l *listing) { m.bytes -= l.bytes })
	return m, err
}

func (m *lruMemo) get(key uint64) (*listing, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.c.Get(key)
}

func (m *lruMemo) put(key uint64, l *listing) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.c.Remove(key)
	m.c.Add(key, l)
	m.bytes += l.bytes
	for m.bytes > memoBytes && m.c.Len() > 1 {
		m.c.RemoveOldest()
	}
}

func (m *lruMemo) close() {}
