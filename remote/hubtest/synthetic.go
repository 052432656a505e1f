package hubtest

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
)

// Synthetic describes content that is made on the fly: size bytes of
// deterministic noise from a seed, tiled, at no cost in memory or disk.
//
// Block i of a MiB is the seed's tile turned by an amount that depends on i,
// with i itself in its first eight bytes: a block read from the wrong place
// never looks right, and making one costs no more than copying it.
//
// Sum, if it is set, is what the Hub says is the SHA-256 of it, in hexadecimal.
// It is for files so large that a pass over them takes too long, of which only
// ranges are read: whoever reads all of one finds that its hash is wrong.
type Synthetic struct {
	Size int64  `json:"size"`
	Seed uint64 `json:"seed"`
	Sum  string `json:"sum,omitempty"`
}

const tileSize = 1 << 20

var errNegativeOffset = errors.New("negative offset")

// tiles holds the noise of recent seeds, twice in a row so that a turned tile
// is one piece.
var tiles = cacheOf[uint64, []byte](8)

func tile(seed uint64) []byte {
	if t, ok := tiles.Get(seed); ok {
		return t
	}
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	t := make([]byte, 2*tileSize)
	rand.NewChaCha8(key).Read(t[:tileSize])
	copy(t[tileSize:], t[:tileSize])
	tiles.Add(seed, t)
	return t
}

// ReaderAt returns the bytes. It is safe for concurrent use.
func (s Synthetic) ReaderAt() io.ReaderAt { return noise{s, tile(s.Seed)} }

type noise struct {
	s    Synthetic
	tile []byte
}

// turn is where block i begins in the tile (the mixing of splitmix64).
func (n noise) turn(i uint64) uint64 {
	x := (i+1)*0x9e3779b97f4a7c15 ^ n.s.Seed
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return (x ^ x>>31) % tileSize
}

// piece returns up to most bytes from off on as they lie in the tile, or nil if
// they are not all there: at a block's stamp, and at the end. Sending them costs
// no copy of our own.
func (n noise) piece(off int64, most int) []byte {
	i, in := uint64(off)/tileSize, uint64(off)%tileSize
	if off < 0 || off >= n.s.Size || in < 8 {
		return nil
	}
	start := n.turn(i) + in
	return n.tile[start:][:min(int64(most), int64(tileSize-in), n.s.Size-off)]
}

func (n noise) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errNegativeOffset
	}
	done := 0
	for done < len(p) && off < n.s.Size {
		i, in := uint64(off)/tileSize, uint64(off)%tileSize
		want := min(int64(len(p)-done), int64(tileSize-in), n.s.Size-off)
		start := n.turn(i) + in
		part := p[done : done+int(want)]
		copy(part, n.tile[start:])
		if in < 8 {
			var stamp [8]byte
			binary.LittleEndian.PutUint64(stamp[:], i)
			copy(part, stamp[in:])
		}
		done += int(want)
		off += want
	}
	if done < len(p) {
		return done, io.EOF
	}
	return done, nil
}

// sums remembers hashes; whoever asks first computes, the others wait.
var (
	sumsMu sync.Mutex
	sums   = cacheOf[Synthetic, func() string](1 << 12)
)

// SHA256 returns the hash of the bytes; it costs a pass over them the first
// time it is asked for in a process.
func (s Synthetic) SHA256() string {
	if s.Sum != "" {
		return s.Sum
	}
	sumsMu.Lock()
	f, ok := sums.Get(s)
	if !ok {
		f = sync.OnceValue(s.sum)
		sums.Add(s, f)
	}
	sumsMu.Unlock()
	return f()
}

func (s Synthetic) sum() string {
	h := sha256.New()
	// Nothing can fail: the source is memory and a hash takes every byte.
	io.CopyBuffer(h, struct{ io.Reader }{io.NewSectionReader(s.ReaderAt(), 0, s.Size)}, make([]byte, tileSize))
	return hex.EncodeToString(h.Sum(nil))
}
