package hubtest

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

var errNoObject = errors.New("no such git object")

// object is a decoded git object. Its data is shared and never written to.
type object struct {
	kind plumbing.ObjectType
	data []byte
}

// objectDB is one bare git repository: its objects and its references. Objects
// are read and written here, concurrently; references, and the deltas git
// makes when it repacks, go through go-git, whose storage is not safe for
// concurrent use and therefore stays behind mu.
type objectDB struct {
	dir string // "" keeps everything in mem; changed under mu and repo.commitMu

	mu    sync.RWMutex // guards all below; nothing else is locked under it
	mem   map[plumbing.Hash]object
	packs *filesystem.Storage
	// packed are the packs once more, for reading without mu.
	packed []*packReader
	// heads is every reference but HEAD, loaded once: nothing else writes to
	// the repository while it is open.
	heads map[plumbing.ReferenceName]plumbing.Hash
}

// openObjectDB opens the bare repository at dir, making it if it is missing.
func openObjectDB(dir string) (*objectDB, error) {
	db := &objectDB{dir: dir, heads: map[plumbing.ReferenceName]plumbing.Hash{}}
	if dir == "" {
		db.mem = map[plumbing.Hash]object{}
		return db, nil
	}
	db.packs = filesystem.NewStorageWithOptions(osfs.New(dir), cache.NewObjectLRU(16<<20),
		filesystem.Options{KeepDescriptors: true})
	if _, err := os.Stat(filepath.Join(dir, "HEAD")); errors.Is(err, iofs.ErrNotExist) {
		if err := db.init(); err != nil {
			return nil, fmt.Errorf("make repository %s: %w", dir, err)
		}
	} else if err != nil {
		return nil, err
	}
	var err error
	if db.packed, err = openPacks(dir); err != nil {
		return nil, fmt.Errorf("read packs of %s: %w", dir, err)
	}
	it, err := db.packs.IterReferences()
	if err != nil {
		return nil, fmt.Errorf("read references of %s: %w", dir, err)
	}
	defer it.Close()
	err = it.ForEach(func(r *plumbing.Reference) error {
		if r.Type() == plumbing.HashReference && r.Name() != plumbing.HEAD {
			db.heads[r.Name()] = r.Hash()
		}
		return nil
	})
	return db, err
}

func (db *objectDB) init() error {
	if err := db.packs.Init(); err != nil {
		return err
	}
	cfg := config.NewConfig()
	cfg.Core.IsBare = true
	if err := db.packs.SetConfig(cfg); err != nil {
		return err
	}
	return db.packs.SetReference(plumbing.NewSymbolicReference(plumbing.HEAD, "refs/heads/main"))
}

func (db *objectDB) close() error {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.packs == nil {
		return nil
	}
	return errors.Join(db.packs.ObjectStorage.Close(), closePacks(db.packed))
}

// inPack finds a pack that holds an object.
func (db *objectDB) inPack(h plumbing.Hash) (p *packReader, off int64, ok bool) {
	db.mu.RLock()
	defer db.mu.RUnlock()
	for _, p := range db.packed {
		if off, ok := p.offsets[h]; ok {
			return p, off, true
		}
	}
	return nil, 0, false
}

// ref returns what a full reference name points at.
func (db *objectDB) ref(name string) (plumbing.Hash, bool) {
	db.mu.RLock()
	defer db.mu.RUnlock()
	h, ok := db.heads[plumbing.ReferenceName(name)]
	return h, ok
}

// refs returns a copy of all references.
func (db *objectDB) refs() map[string]plumbing.Hash {
	db.mu.RLock()
	defer db.mu.RUnlock()
	m := make(map[string]plumbing.Hash, len(db.heads))
	for n, h := range db.heads {
		m[string(n)] = h
	}
	return m
}

// setRef writes a reference. The objects it leads to are already stored.
func (db *objectDB) setRef(name string, h plumbing.Hash) error {
	db.mu.Lock()
	defer db.mu.Unlock()
	n := plumbing.ReferenceName(name)
	if db.packs != nil {
		if err := db.packs.SetReference(plumbing.NewHashReference(n, h)); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	db.heads[n] = h
	return nil
}

func (db *objectDB) removeRef(name string) error {
	db.mu.Lock()
	defer db.mu.Unlock()
	n := plumbing.ReferenceName(name)
	if db.packs != nil {
		if err := db.packs.RemoveReference(n); err != nil {
			return fmt.Errorf("remove %s: %w", name, err)
		}
	}
	delete(db.heads, n)
	return nil
}

func hashObject(kind plumbing.ObjectType, data []byte) plumbing.Hash {
	h := sha1.New()
	fmt.Fprintf(h, "%s %d\x00", kind, len(data))
	h.Write(data)
	return plumbing.Hash(h.Sum(nil))
}

func (db *objectDB) loosePath(h plumbing.Hash) string {
	db.mu.RLock()
	defer db.mu.RUnlock()
	s := h.String()
	return filepath.Join(db.dir, "objects", s[:2], s[2:])
}

// has reports whether an object is stored.
func (db *objectDB) has(h plumbing.Hash) bool {
	if db.mem == nil {
		if _, _, ok := db.inPack(h); ok {
			return true
		}
		_, err := os.Stat(db.loosePath(h))
		return err == nil
	}
	db.mu.RLock()
	defer db.mu.RUnlock()
	_, ok := db.mem[h]
	return ok
}

// get reads an object; one that is longer than limit (if limit ≥ 0) comes
// without its data. The size is always that of the whole.
func (db *objectDB) get(h plumbing.Hash, limit int64) (o object, size int64, err error) {
	if db.mem != nil {
		db.mu.RLock()
		defer db.mu.RUnlock()
		o, ok := db.mem[h]
		if !ok {
			return o, 0, fmt.Errorf("%w: %s", errNoObject, h)
		}
		return o, int64(len(o.data)), nil
	}
	if p, off, ok := db.inPack(h); ok {
		if o, size, err = p.get(off, limit); !errors.Is(err, errDelta) {
			return o, size, err
		}
		return db.getDelta(h, limit)
	}
	o, size, err = readLoose(db.loosePath(h), limit)
	if errors.Is(err, iofs.ErrNotExist) {
		err = fmt.Errorf("%w: %s", errNoObject, h)
	}
	return o, size, err
}

// getDelta reads an object that git stored as a delta.
func (db *objectDB) getDelta(h plumbing.Hash, limit int64) (o object, size int64, err error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if limit >= 0 {
		size, err := db.packs.EncodedObjectSize(h)
		if err == nil && size > limit {
			return object{}, size, nil
		}
	}
	e, err := db.packs.EncodedObject(plumbing.AnyObject, h)
	if err != nil {
		return object{}, 0, fmt.Errorf("%w: %s", errNoObject, h)
	}
	rd, err := e.Reader()
	if err != nil {
		return object{}, 0, err
	}
	defer rd.Close()
	data, err := io.ReadAll(rd)
	return object{e.Type(), data}, e.Size(), err
}

func readLoose(path string, limit int64) (o object, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return object{}, 0, err
	}
	defer f.Close()
	err = inflate(f, func(z io.Reader) error {
		br := bufio.NewReaderSize(z, 512)
		head, err := br.ReadString(0)
		if err != nil {
			return err
		}
		kind, num, _ := strings.Cut(strings.TrimSuffix(head, "\x00"), " ")
		if o.kind, err = plumbing.ParseObjectType(kind); err != nil {
			return err
		}
		if size, err = strconv.ParseInt(num, 10, 64); err != nil || size < 0 {
			return fmt.Errorf("bad size %q", num)
		}
		if limit >= 0 && size > limit {
			return nil
		}
		o.data = make([]byte, size)
		_, err = io.ReadFull(br, o.data)
		return err
	})
	if err != nil {
		return object{}, 0, fmt.Errorf("%s: %w", path, err)
	}
	return o, size, nil
}

// packFrom is the number of objects from which a batch becomes a pack:
// below, opening one more pack on every read would cost more than the files.
const packFrom = 256

// batchBytes is how much a batch may hold in memory before it is written out.
const batchBytes = 256 << 20

// objectBatch collects new objects and stores them together.
type objectBatch struct {
	db    *objectDB
	objs  map[plumbing.Hash]object
	order []plumbing.Hash
	bytes int64
}

func (db *objectDB) batch() *objectBatch {
	return &objectBatch{db: db, objs: map[plumbing.Hash]object{}}
}

// add takes an object, which the caller must not change afterwards.
func (b *objectBatch) add(kind plumbing.ObjectType, data []byte) (plumbing.Hash, error) {
	h := hashObject(kind, data)
	if _, ok := b.objs[h]; ok || b.db.has(h) {
		return h, nil
	}
	b.objs[h] = object{kind, data}
	b.order = append(b.order, h)
	if b.bytes += int64(len(data)); b.bytes > batchBytes {
		return h, b.flush()
	}
	return h, nil
}

// flush stores what was added. Nothing refers to it yet.
func (b *objectBatch) flush() error {
	if len(b.order) == 0 {
		return nil
	}
	var err error
	switch {
	case b.db.mem != nil:
		b.db.mu.Lock()
		for h, o := range b.objs {
			b.db.mem[h] = o
		}
		b.db.mu.Unlock()
	case len(b.order) >= packFrom:
		err = b.db.writePack(b.order, b.objs)
	default:
		for _, h := range b.order {
			if err = b.db.writeLoose(h, b.objs[h]); err != nil {
				break
			}
		}
	}
	b.objs, b.order, b.bytes = map[plumbing.Hash]object{}, nil, 0
	return err
}

func (db *objectDB) writeLoose(h plumbing.Hash, o object) error {
	var buf bytes.Buffer
	z, err := zlib.NewWriterLevel(&buf, zlib.BestSpeed)
	if err != nil {
		return err
	}
	fmt.Fprintf(z, "%s %d\x00", o.kind, len(o.data))
	z.Write(o.data)
	if err := z.Close(); err != nil {
		return err
	}
	return writeFile(db.loosePath(h), buf.Bytes(), 0o444)
}

// writeFile puts a whole file in place by a rename, making its folder.
func writeFile(path string, data []byte, mode os.FileMode) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "tmp_*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// moved says that the folder of the repository is now dir. The caller makes
// sure that nothing is being written.
func (db *objectDB) moved(dir string) error {
	next, err := openObjectDB(dir)
	if err != nil {
		return err
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	err = errors.Join(db.packs.ObjectStorage.Close(), closePacks(next.packed)) // ours are open still
	db.dir, db.packs, db.heads = dir, next.packs, next.heads
	return err
}
