package fs

import (
	"encoding/binary"
	"errors"

	"github.com/cespare/xxhash/v2"

	"hfmount/remote/hub"
)

// Files in MetaDir are a magic word, which names format and version, the
// payload, and the XXH64 of both. Whatever does not fit is as good as absent:
// the Hub is asked again.
const (
	magicListing = "hfmtree1"
	magicRef     = "hfmref_1"
)

var errCorrupt = errors.New("damaged")

func sealFile(magic string, payload []byte) []byte {
	b := make([]byte, 0, len(magic)+len(payload)+8)
	b = append(b, magic...)
	b = append(b, payload...)
	return binary.LittleEndian.AppendUint64(b, xxhash.Sum64(b))
}

func openFile(magic string, b []byte) ([]byte, error) {
	n := len(b) - 8
	if n < len(magic) || string(b[:len(magic)]) != magic || binary.LittleEndian.Uint64(b[n:]) != xxhash.Sum64(b[:n]) {
		return nil, errCorrupt
	}
	return b[len(magic):n], nil
}

const (
	flagDir = 1 << iota
	flagLFS
	flagXet
)

// encode renders a listing without its repository, which the file's place
// says. The path is included: files are found by a hash of it.
func (l *listing) encode() []byte {
	b := make([]byte, 0, 64+len(l.items)*64+len(l.exts)*64)
	b = appendString(b, l.dir)
	b = append(b, l.key[:]...)
	b = binary.AppendVarint(b, l.date)
	b = binary.AppendUvarint(b, uint64(len(l.items)))
	b = binary.AppendUvarint(b, uint64(len(l.exts)))
	for i := range l.items {
		it := &l.items[i]
		var flags byte
		if it.kind == hub.Directory {
			flags |= flagDir
		}
		x := l.extOf(i)
		if x != nil && x.lfs {
			flags |= flagLFS
		}
		if x != nil && x.hasXet {
			flags |= flagXet
		}
		b = append(b, flags)
		b = appendString(b, it.name)
		b = binary.AppendUvarint(b, uint64(it.size))
		b = binary.AppendVarint(b, it.mtime)
		b = append(b, it.oid[:]...)
		if flags&flagLFS != 0 {
			b = append(b, x.sha[:]...)
		}
		if flags&flagXet != 0 {
			b = append(b, x.xet[:]...)
		}
	}
	return sealFile(magicListing, b)
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// cursor reads a payload; after the first mistake everything is zero.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) take(n uint64) []byte {
	if c.bad || n > uint64(len(c.b)) {
		c.bad, c.b = true, nil
		return nil
	}
	out := c.b[:n]
	c.b = c.b[n:]
	return out
}

func (c *cursor) uvarint() uint64 {
	v, n := binary.Uvarint(c.b)
	if n <= 0 {
		c.bad, c.b = true, nil
		return 0
	}
	c.b = c.b[n:]
	return v
}

func (c *cursor) varint() int64 {
	v, n := binary.Varint(c.b)
	if n <= 0 {
		c.bad, c.b = true, nil
		return 0
	}
	c.b = c.b[n:]
	return v
}

// decodeListing reads what encode wrote.
func decodeListing(file []byte) (*listing, error) {
	payload, err := openFile(magicListing, file)
	if err != nil {
		return nil, err
	}
	c := &cursor{b: payload}
	l := &listing{dir: string(c.take(c.uvarint()))}
	copy(l.key[:], c.take(20))
	l.date = c.varint()
	n := c.uvarint()
	exts := c.uvarint()
	if c.bad || n > uint64(len(c.b)) || n > maxEntries || exts > n {
		return nil, errCorrupt
	}
	l.items = make([]item, n)
	l.exts = make([]ext, 0, exts)
	var names []byte
	ends := make([]uint32, n)
	for i := range l.items {
		it := &l.items[i]
		it.ext = -1
		flags := c.take(1)
		if c.bad {
			return nil, errCorrupt
		}
		if flags[0]&flagDir != 0 {
			it.kind = hub.Directory
		}
		names = append(names, c.take(c.uvarint())...)
		ends[i] = uint32(len(names))
		if it.size = int64(c.uvarint()); it.size < 0 || it.size > hub.MaxSize {
			return nil, errCorrupt
		}
		it.mtime = c.varint()
		copy(it.oid[:], c.take(20))
		if flags[0]&(flagLFS|flagXet) != 0 {
			var x ext
			if x.lfs = flags[0]&flagLFS != 0; x.lfs {
				copy(x.sha[:], c.take(32))
			}
			if x.hasXet = flags[0]&flagXet != 0; x.hasXet {
				copy(x.xet[:], c.take(32))
			}
			it.ext = int32(len(l.exts))
			l.exts = append(l.exts, x)
		}
	}
	if c.bad || len(c.b) != 0 {
		return nil, errCorrupt
	}
	all, from := string(names), uint32(0)
	for i := range l.items {
		l.items[i].name = all[from:ends[i]]
		from = ends[i]
		// What is found by binary search must be sorted, whoever wrote it.
		if hub.CheckName(l.items[i].name) != nil || (i > 0 && l.items[i-1].name >= l.items[i].name) {
			return nil, errCorrupt
		}
	}
	l.seal(len(all))
	return l, nil
}
