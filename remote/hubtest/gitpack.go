package hubtest

import (
	"bufio"
	"compress/zlib"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/idxfile"
)

// packOffsets counts and sums the bytes of a pack as they are written.
type packOffsets struct {
	w   io.Writer
	off uint64
	crc uint32 // of the current object
}

func (p *packOffsets) Write(b []byte) (int, error) {
	n, err := p.w.Write(b)
	p.off += uint64(n)
	p.crc = crc32.Update(p.crc, crc32.IEEETable, b[:n])
	return n, err
}

// writePack stores objects as one pack without deltas: a commit of many
// thousand files then costs two files instead of as many.
func (db *objectDB) writePack(order []plumbing.Hash, objs map[plumbing.Hash]object) (err error) {
	dir := filepath.Join(db.dir, "objects", "pack")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "tmp_pack_*")
	if err != nil {
		return err
	}
	defer func() {
		f.Close()
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	sum := sha1.New()
	buf := bufio.NewWriterSize(f, 1<<20)
	out := &packOffsets{w: io.MultiWriter(buf, sum)}
	var index idxfile.Writer
	if err := index.OnHeader(uint32(len(order))); err != nil {
		return err
	}
	head := binary.BigEndian.AppendUint32([]byte("PACK\x00\x00\x00\x02"), uint32(len(order)))
	if _, err := out.Write(head); err != nil {
		return err
	}
	z, err := zlib.NewWriterLevel(out, zlib.BestSpeed)
	if err != nil {
		return err
	}
	for _, h := range order {
		o := objs[h]
		start := out.off
		out.crc = 0
		if _, err := out.Write(packHeader(o)); err != nil {
			return err
		}
		z.Reset(out)
		if _, err := z.Write(o.data); err != nil {
			return err
		}
		if err := z.Close(); err != nil {
			return err
		}
		index.Add(h, start, out.crc)
	}
	trailer := plumbing.Hash(sum.Sum(nil))
	buf.Write(trailer[:])
	if err := errors.Join(buf.Flush(), f.Chmod(0o444)); err != nil {
		return err
	}
	if err := index.OnFooter(trailer); err != nil {
		return err
	}
	idx, err := index.Index()
	if err != nil {
		return err
	}
	return db.installPack(f.Name(), filepath.Join(dir, "pack-"+trailer.String()), idx)
}

// installPack moves a pack into place before its index, because the index is
// what makes it visible.
func (db *objectDB) installPack(tmp, base string, idx *idxfile.MemoryIndex) error {
	f, err := os.CreateTemp(filepath.Dir(base), "tmp_idx_*")
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	_, err = idxfile.NewEncoder(w).Encode(idx)
	err = errors.Join(err, w.Flush(), f.Chmod(0o444), f.Close())
	if err == nil {
		err = os.Rename(tmp, base+".pack")
	}
	if err == nil {
		err = os.Rename(f.Name(), base+".idx")
	}
	if err != nil {
		os.Remove(f.Name())
		return err
	}
	p, err := openPack(base + ".idx")
	if err != nil {
		return err
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	db.packed = append(db.packed, p)
	db.packs.Reindex()
	return nil
}

// packHeader is the type and size before each object's data.
func packHeader(o object) []byte {
	n := uint64(len(o.data))
	b := byte(o.kind)<<4 | byte(n&0x0f)
	n >>= 4
	var head []byte
	for n > 0 {
		head = append(head, b|0x80)
		b = byte(n & 0x7f)
		n >>= 7
	}
	return append(head, b)
}
