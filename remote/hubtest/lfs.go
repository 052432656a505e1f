package hubtest

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// lfsStore keeps LFS objects by SHA-256, once for all repositories. Which of
// them a repository may name is the repository's own list (repo.lfs).
type lfsStore struct {
	dir string // "" keeps objects in mem

	mu   sync.RWMutex // guards the maps
	mem  map[string][]byte
	made map[string]Synthetic

	files *lru.Cache[string, *os.File] // open objects; evicting closes
}

// openFiles bounds the descriptors kept for objects.
const openFiles = 64

func openLFS(dir string) (*lfsStore, error) {
	l := &lfsStore{dir: dir, mem: map[string][]byte{}, made: map[string]Synthetic{}}
	var err error
	// Closing a file waits for the reads under way, and later ones open it again.
	l.files, err = lru.NewWithEvict(openFiles, func(_ string, f *os.File) { f.Close() })
	if err != nil || dir == "" {
		return l, err
	}
	tmp := l.tmpDir()
	if err := os.RemoveAll(tmp); err != nil { // uploads a crash cut off
		return nil, err
	}
	return l, os.MkdirAll(tmp, 0o755)
}

func (l *lfsStore) close() error {
	l.files.Purge()
	if l.dir == "" {
		return nil
	}
	return os.RemoveAll(l.tmpDir())
}

func (l *lfsStore) tmpDir() string { return filepath.Join(l.dir, "tmp") }

func (l *lfsStore) path(sha string) string {
	return filepath.Join(l.dir, sha[:2], sha[2:4], sha)
}

// madeSuffix marks the description of made content, beside the real objects.
const madeSuffix = ".synthetic"

// object opens an LFS object (or synthetic content).
func (s *store) object(sha256 string) (r io.ReaderAt, size int64, ok bool) {
	return s.lfs.object(sha256)
}

func (l *lfsStore) object(sha string) (io.ReaderAt, int64, bool) {
	if !isSHA256(sha) {
		return nil, 0, false
	}
	l.mu.RLock()
	data, inMem := l.mem[sha]
	made, isMade := l.made[sha]
	l.mu.RUnlock()
	switch {
	case inMem:
		return bytes.NewReader(data), int64(len(data)), true
	case isMade:
		return made.ReaderAt(), made.Size, true
	case l.dir == "":
		return nil, 0, false
	}
	if st, err := os.Stat(l.path(sha)); err == nil {
		return &objectFile{l, sha}, st.Size(), true
	}
	b, err := os.ReadFile(l.path(sha) + madeSuffix)
	if err != nil || json.Unmarshal(b, &made) != nil {
		return nil, 0, false
	}
	l.mu.Lock()
	l.made[sha] = made
	l.mu.Unlock()
	return made.ReaderAt(), made.Size, true
}

// addMade takes note of made content under its hash.
func (l *lfsStore) addMade(sha string, m Synthetic) error {
	if _, _, ok := l.object(sha); ok {
		return nil
	}
	l.mu.Lock()
	l.made[sha] = m
	l.mu.Unlock()
	if l.dir == "" {
		return nil
	}
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return writeFile(l.path(sha)+madeSuffix, b, 0o644)
}

// objectFile reads an object through the store's bounded set of open files.
type objectFile struct {
	l   *lfsStore
	sha string
}

func (o *objectFile) ReadAt(p []byte, off int64) (int, error) {
	for {
		f, ok := o.l.files.Get(o.sha)
		if !ok {
			var err error
			if f, err = os.Open(o.l.path(o.sha)); err != nil {
				return 0, err
			}
			if was, had, _ := o.l.files.PeekOrAdd(o.sha, f); had {
				f.Close()
				f = was
			}
		}
		n, err := f.ReadAt(p, off)
		if !errors.Is(err, os.ErrClosed) {
			return n, err
		}
		// Evicted between Get and ReadAt: open it again.
		o.l.files.Remove(o.sha)
	}
}

// staging is an object on its way in. Its parts may be written concurrently;
// after that it is ended by exactly one of keep and drop.
type staging struct {
	l    *lfsStore
	file *os.File

	mu    sync.Mutex // guards the rest
	mem   []byte
	size  int64
	ended bool // mem belongs to the store: late writes fail
}

func (l *lfsStore) stage() (*staging, error) {
	st := &staging{l: l}
	if l.dir == "" {
		return st, nil
	}
	var err error
	st.file, err = os.CreateTemp(l.tmpDir(), "upload_*")
	return st, err
}

func (st *staging) WriteAt(p []byte, off int64) (int, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.ended {
		return 0, os.ErrClosed
	}
	st.size = max(st.size, off+int64(len(p)))
	if st.file != nil {
		return st.file.WriteAt(p, off)
	}
	if grow := st.size - int64(len(st.mem)); grow > 0 {
		st.mem = append(st.mem, make([]byte, grow)...)
	}
	return copy(st.mem[off:], p), nil
}

// sum hashes what was staged.
func (st *staging) sum() (sha string, err error) {
	var r io.Reader = bytes.NewReader(st.mem)
	if st.file != nil {
		r = io.NewSectionReader(st.file, 0, st.size)
	}
	h := sha256.New()
	_, err = io.CopyBuffer(h, struct{ io.Reader }{r}, make([]byte, copyBuffer))
	return hex.EncodeToString(h.Sum(nil)), err
}

// drop forgets the staged bytes.
func (st *staging) drop() {
	if st.file != nil {
		st.file.Close()
		os.Remove(st.file.Name())
	}
}

// keep stores the staged bytes under their hash, which the caller has checked.
func (st *staging) keep(sha string) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.ended = true
	if st.file == nil {
		st.l.mu.Lock()
		defer st.l.mu.Unlock()
		st.l.mem[sha] = st.mem
		return nil
	}
	to := st.l.path(sha)
	err := errors.Join(st.file.Chmod(0o444), st.file.Close(), os.MkdirAll(filepath.Dir(to), 0o755))
	if err == nil {
		err = os.Rename(st.file.Name(), to)
	}
	if err != nil {
		os.Remove(st.file.Name())
	}
	return err
}

// copyBuffer is the unit in which content is moved.
const copyBuffer = 1 << 20

// copyHashed stages what r has, from offset off on, and hashes it on the way.
func (st *staging) copyHashed(r io.Reader) (sha string, n int64, err error) {
	h := sha256.New()
	n, err = io.CopyBuffer(io.NewOffsetWriter(st, 0), io.TeeReader(r, h), make([]byte, copyBuffer))
	return hex.EncodeToString(h.Sum(nil)), n, err
}

// put stores what r has and returns its name and size.
func (l *lfsStore) put(r io.Reader) (sha string, size int64, err error) {
	st, err := l.stage()
	if err != nil {
		return "", 0, err
	}
	sha, size, err = st.copyHashed(r)
	if err != nil {
		st.drop()
		return "", 0, err
	}
	if _, _, ok := l.object(sha); ok {
		st.drop()
		return sha, size, nil
	}
	return sha, size, st.keep(sha)
}

// lfsRecord is an LFS object that a repository holds.
type lfsRecord struct {
	size   int64
	pushed time.Time
	by     string
}

// lfsList is the file in a repository's folder that names its LFS objects, one
// "<sha256> <size> <unix seconds> <account>" a line, appended to.
const lfsList = "lfs-objects"

func (r *repo) loadLFS() error {
	dir := r.db.dir
	if dir == "" {
		return nil
	}
	f, err := os.Open(filepath.Join(dir, lfsList))
	if errors.Is(err, iofs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		var sha string
		var rec lfsRecord
		var at int64
		// A line cut off by a crash belongs to an upload that was not answered.
		if _, err := fmt.Sscan(sc.Text(), &sha, &rec.size, &at, &rec.by); err != nil || !isSHA256(sha) {
			continue
		}
		rec.pushed = time.Unix(at, 0).UTC()
		r.lfs[sha] = rec
	}
	return sc.Err()
}

// holdLFS notes that objects belong to this repository.
func (r *repo) holdLFS(by string, objects map[string]int64) error {
	at := r.st.now().UTC()
	r.lfsMu.Lock()
	defer r.lfsMu.Unlock()
	var lines strings.Builder
	for sha, size := range objects {
		if _, ok := r.lfs[sha]; !ok {
			r.lfs[sha] = lfsRecord{size, at, by}
			fmt.Fprintf(&lines, "%s %d %d %s\n", sha, size, at.Unix(), by)
		}
	}
	if lines.Len() == 0 {
		return nil
	}
	path := r.lfsListPath()
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(lines.String())
	return errors.Join(err, f.Close())
}

func (r *repo) lfsListPath() string {
	r.db.mu.RLock()
	defer r.db.mu.RUnlock()
	if r.db.dir == "" {
		return ""
	}
	return filepath.Join(r.db.dir, lfsList)
}

// heldLFS returns the size of an object of this repository.
func (r *repo) heldLFS(sha string) (int64, bool) {
	r.lfsMu.Lock()
	defer r.lfsMu.Unlock()
	rec, ok := r.lfs[sha]
	return rec.size, ok
}
