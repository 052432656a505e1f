package blockcache

import (
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"hfmount/remote/hub"
)

// diskFile is one large object's files, open. data carries a shared flock, by
// which eviction in any process passes it over.
type diskFile struct {
	size int64

	// Guarded by object.ioMu; data and idx do not change once they are set.
	// data of a complete object is open for reading only: nothing in this
	// process could change a blob that the kernel serves.
	data, idx *os.File // nil until something is stored
	writer    bool     // holds the flock on the partial index
	parsed    int64    // bytes of idx that are in recs
	looked    time.Time
	restarted bool // idx was emptied: recs are void

	// Guarded by Cache.mu.
	complete bool
	writing  bool      // is writer, for those who hold only Cache.mu
	stored   time.Time // when the writer stored something
	yielding bool      // a timer runs that ends the role
	recs     map[int64]*record
	chunks   int64 // in recs
	trusted  int64
}

// The queries take a nil diskFile: nothing is on disk.

func (d *diskFile) has(idx int64, chunks uint8) bool {
	if d == nil {
		return false
	}
	r := d.recs[idx]
	return r != nil && r.chunks&chunks == chunks
}

func (d *diskFile) full(idx int64, size int) bool { return d.has(idx, fullMask(size)) }

func (d *diskFile) allChunks() int64 { return (d.size + chunkSize - 1) / chunkSize }

// add notes chunks of a record; the last word on a chunk counts.
func (d *diskFile) add(idx int64, chunks, trusted uint8, sums *[perBlock]uint32) {
	r := d.recs[idx]
	if r == nil {
		r = &record{}
		d.recs[idx] = r
	}
	for i := range perBlock {
		bit := uint8(1) << i
		if chunks&bit == 0 {
			continue
		}
		if r.chunks&bit == 0 {
			d.chunks++
		}
		if r.trusted&bit != 0 {
			d.trusted--
		}
		r.trusted = r.trusted&^bit | trusted&bit
		if trusted&bit != 0 {
			d.trusted++
		}
		r.chunks |= bit
		r.sums[i] = sums[i]
	}
}

func (d *diskFile) trust(idx int64, chunks uint8) {
	if r := d.recs[idx]; r != nil {
		d.add(idx, chunks&r.chunks, chunks&r.chunks, &r.sums)
	}
}

func (d *diskFile) drop(idx int64, chunks uint8) {
	r := d.recs[idx]
	if r == nil {
		return
	}
	for i := range perBlock {
		bit := uint8(1) << i
		if r.chunks&chunks&bit != 0 {
			d.chunks--
			if r.trusted&bit != 0 {
				d.trusted--
			}
		}
	}
	r.chunks &^= chunks
	r.trusted &^= chunks
}

// reset forgets all records.
func (d *diskFile) reset() {
	clear(d.recs)
	d.chunks, d.trusted = 0, 0
}

func (d *diskFile) close() {
	// Nothing is buffered here, and what a lost write tore fails its checksum.
	if d.data != nil {
		d.data.Close()
	}
	if d.idx != nil {
		d.idx.Close()
	}
}

// flock applies a non-blocking flock to f.
func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if err != unix.EINTR {
			return err
		}
	}
}

// sameFile reports whether path still names f.
func sameFile(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Lstat(path)
	return err == nil && os.SameFile(a, b)
}

// openShared opens a data file under a shared flock, or fails with
// os.ErrNotExist if it is being evicted.
func openShared(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, unix.O_NOFOLLOW|flags, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(f, unix.LOCK_SH); err != nil || !sameFile(f, path) {
		f.Close()
		return nil, os.ErrNotExist
	}
	return f, nil
}

// openFile opens what is stored of a large object; what is not valid counts as
// nothing. The result always has recs, if empty.
func (t *diskTier) openFile(id hub.ContentID) *diskFile {
	d := &diskFile{size: id.Size, recs: make(map[int64]*record)}
	if t.openBlob(id, d) {
		return d
	}
	data, err := openShared(t.partialData(id), os.O_RDWR)
	if err != nil {
		return d
	}
	idx, err := os.OpenFile(t.partialIndex(id), os.O_RDWR|os.O_APPEND|unix.O_NOFOLLOW, 0)
	if err != nil {
		data.Close()
		return d
	}
	d.data, d.idx = data, idx
	if st, err := data.Stat(); err != nil || st.Size() != d.size {
		// The index speaks of other data; the writer starts it anew.
		d.close()
		d.data, d.idx = nil, nil
		return d
	}
	if fresh, err := d.tail(); err == nil {
		for _, r := range fresh {
			d.add(r.idx, r.chunks, 0, &r.sums)
		}
	}
	return d
}

func (t *diskTier) openBlob(id hub.ContentID, d *diskFile) bool {
	data, err := openShared(t.blob(id), os.O_RDONLY)
	if err != nil {
		return false
	}
	raw, err := os.ReadFile(t.blob(id) + ".idx")
	if st, serr := data.Stat(); err == nil && serr == nil && st.Size() == id.Size && validHeader(raw, id.Size) {
		parseRecords(raw[recordSize:], id.Size, func(idx int64, chunks uint8, sums [perBlock]uint32) {
			d.add(idx, chunks, 0, &sums)
		})
	}
	if d.chunks != d.allChunks() {
		data.Close()
		d.reset()
		t.removeBlob(id)
		return false
	}
	d.data, d.complete = data, true
	return true
}

type freshRecord struct {
	idx    int64
	chunks uint8
	sums   [perBlock]uint32
}

var errBadIndex = errors.New("blockcache: not an index of this object")

// tail reads the records that were appended since the last call, by this
// process or another. object.ioMu is held, or d is not shared yet.
func (d *diskFile) tail() ([]freshRecord, error) {
	st, err := d.idx.Stat()
	if err != nil {
		return nil, err
	}
	n := st.Size() / recordSize * recordSize
	if n <= d.parsed {
		return nil, nil
	}
	raw := make([]byte, n-d.parsed)
	if _, err := d.idx.ReadAt(raw, d.parsed); err != nil && err != io.EOF {
		return nil, err
	}
	if d.parsed == 0 {
		if !validHeader(raw, d.size) {
			return nil, errBadIndex
		}
		raw = raw[recordSize:]
	}
	d.parsed = n
	var fresh []freshRecord
	parseRecords(raw, d.size, func(idx int64, chunks uint8, sums [perBlock]uint32) {
		fresh = append(fresh, freshRecord{idx, chunks, sums})
	})
	return fresh, nil
}

// becomeWriter makes d the one that stores the object, creating its files if
// need be. It returns the records found meanwhile. If another process is the
// writer, or the files were replaced, ok is false and nothing is to be stored.
// object.ioMu is held.
func (t *diskTier) becomeWriter(id hub.ContentID, d *diskFile) (fresh []freshRecord, ok bool, err error) {
	if d.data == nil {
		data, err := openShared(t.partialData(id), os.O_RDWR|os.O_CREATE)
		if errors.Is(err, os.ErrNotExist) {
			return nil, false, nil // being evicted this moment
		} else if err != nil {
			return nil, false, err
		}
		idx, err := os.OpenFile(t.partialIndex(id), os.O_RDWR|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			data.Close()
			return nil, false, err
		}
		d.data, d.idx = data, idx
	}
	if flock(d.idx, unix.LOCK_EX) != nil {
		return nil, false, nil
	}
	if !sameFile(d.idx, t.partialIndex(id)) || !sameFile(d.data, t.partialData(id)) {
		return nil, false, flock(d.idx, unix.LOCK_UN)
	}
	st, err := d.idx.Stat()
	if err != nil {
		return nil, false, err
	}
	if rest := st.Size() % recordSize; rest != 0 {
		// A record was torn; the next must not be appended to its stump.
		if err := d.idx.Truncate(st.Size() - rest); err != nil {
			return nil, false, err
		}
	}
	have, err := d.data.Stat()
	if err != nil {
		return nil, false, err
	}
	fresh, err = d.tail()
	if errors.Is(err, errBadIndex) || st.Size() < recordSize || have.Size() != d.size {
		fresh, d.restarted = nil, true
		if err := d.idx.Truncate(0); err != nil {
			return nil, false, err
		}
		if _, err := d.idx.Write(indexHeader(d.size)); err != nil {
			return nil, false, err
		}
		d.parsed, err = recordSize, nil
	}
	if err != nil {
		return nil, false, err
	}
	if err := d.data.Truncate(d.size); err != nil {
		return nil, false, err
	}
	d.writer = true
	return fresh, true, nil
}

// readOnly puts r in the place of d.data, under the same number: whoever reads
// from it this moment is not disturbed. It takes r over.
func (d *diskFile) readOnly(r *os.File) error {
	defer r.Close()
	for {
		err := unix.Dup3(int(r.Fd()), int(d.data.Fd()), unix.O_CLOEXEC)
		if err != unix.EINTR && err != unix.EBUSY {
			return err
		}
	}
}
