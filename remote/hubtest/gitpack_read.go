package hubtest

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/idxfile"
)

// packReader reads whole objects straight from a pack, by many goroutines at
// once. Deltas, which only packs that git itself made have, are left to go-git.
type packReader struct {
	f       *os.File
	offsets map[plumbing.Hash]int64
}

func openPack(idxPath string) (*packReader, error) {
	b, err := os.ReadFile(idxPath)
	if err != nil {
		return nil, err
	}
	idx := idxfile.NewMemoryIndex()
	if err := idxfile.NewDecoder(bytes.NewReader(b)).Decode(idx); err != nil {
		return nil, fmt.Errorf("%s: %w", idxPath, err)
	}
	n, err := idx.Count()
	if err != nil {
		return nil, err
	}
	p := &packReader{offsets: make(map[plumbing.Hash]int64, n)}
	it, err := idx.Entries()
	if err != nil {
		return nil, err
	}
	defer it.Close()
	for {
		e, err := it.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", idxPath, err)
		}
		p.offsets[e.Hash] = int64(e.Offset)
	}
	p.f, err = os.Open(strings.TrimSuffix(idxPath, ".idx") + ".pack")
	return p, err
}

// openPacks opens all packs of a repository.
func openPacks(dir string) ([]*packReader, error) {
	names, err := filepath.Glob(filepath.Join(dir, "objects", "pack", "pack-*.idx"))
	if err != nil {
		return nil, err
	}
	var all []*packReader
	for _, n := range names {
		p, err := openPack(n)
		if err != nil {
			return nil, errors.Join(err, closePacks(all))
		}
		all = append(all, p)
	}
	return all, nil
}

func closePacks(all []*packReader) error {
	var errs []error
	for _, p := range all {
		errs = append(errs, p.f.Close())
	}
	return errors.Join(errs...)
}

// errDelta says that an object is stored as a change of another.
var errDelta = errors.New("object is a delta")

// get reads the object at an offset, as [objectDB.get] does.
func (p *packReader) get(off, limit int64) (object, int64, error) {
	var head [16]byte
	n, err := p.f.ReadAt(head[:], off)
	if err != nil && err != io.EOF {
		return object{}, 0, err
	}
	kind, size, used := parsePackHeader(head[:n])
	if used == 0 || size < 0 {
		return object{}, 0, fmt.Errorf("%s: broken object at %d", p.f.Name(), off)
	}
	if kind.IsDelta() {
		return object{}, 0, errDelta
	}
	if limit >= 0 && size > limit {
		return object{kind: kind}, size, nil
	}
	data := make([]byte, size)
	// Deflate adds little to what it cannot shorten, so this much surely holds it.
	src := io.NewSectionReader(p.f, off+int64(used), size+size>>8+1024)
	err = inflate(src, func(z io.Reader) error {
		_, err := io.ReadFull(z, data)
		return err
	})
	if err != nil {
		return object{}, 0, fmt.Errorf("%s: object at %d: %w", p.f.Name(), off, err)
	}
	return object{kind, data}, size, nil
}

// parsePackHeader is the inverse of packHeader; used is 0 if b is too short.
func parsePackHeader(b []byte) (kind plumbing.ObjectType, size int64, used int) {
	shift := 4
	for i, c := range b {
		if i == 0 {
			kind, size = plumbing.ObjectType(c>>4&7), int64(c&0x0f)
		} else {
			size |= int64(c&0x7f) << shift
			shift += 7
		}
		if c&0x80 == 0 {
			return kind, size, i + 1
		}
	}
	return 0, 0, 0
}

// inflaters are kept because each has a window of its own to allocate.
var inflaters sync.Pool

type inflater struct {
	br *bufio.Reader
	z  io.ReadCloser
}

// inflate runs read on the decompressed bytes of src.
func inflate(src io.Reader, read func(io.Reader) error) error {
	in, ok := inflaters.Get().(*inflater)
	if !ok {
		in = &inflater{br: bufio.NewReaderSize(nil, 4<<10)}
	}
	in.br.Reset(src)
	var err error
	if in.z == nil {
		in.z, err = zlib.NewReader(in.br)
	} else {
		err = in.z.(zlib.Resetter).Reset(in.br, nil)
	}
	if err != nil {
		return err // and let the reader go, whatever state it is in
	}
	err = read(in.z)
	in.br.Reset(nil)
	inflaters.Put(in)
	return err
}
