package blockcache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"hfmount/remote/hub"
)

// errWritable is a file that is not safe to adopt.
var errWritable = errors.New("blockcache: the file is open for writing, or changed while it was read")

// Adopt takes the file at path into the disk tier as the complete object id,
// after reading it once and comparing its hash. It is renamed where that is
// possible, else cloned or copied, and path is gone afterwards. Nobody may have
// it open for writing. moved is false, and the file untouched, where there is
// no room for it or the object is there already (path is then deleted). A wrong
// hash is ErrCorrupt and leaves the file. It returns before Close is called.
func (c *Cache) Adopt(ctx context.Context, id hub.ContentID, path string) (moved bool, err error) {
	if !id.Valid() {
		return false, fmt.Errorf("%q is no content id", id)
	}
	if c.Contains(id) {
		return false, os.Remove(path)
	}
	if c.tier == nil || c.tier.tooLarge(id.Size) {
		return false, nil
	}
	need := id.Size
	if c.tier.bytes < 0 && sameDevice(path, c.tier.dir) {
		need = 0 // it takes its place on this disk already
	}
	if !c.tier.makeRoom(ctx, need) {
		return false, ctx.Err()
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return false, err
	}
	defer f.Close()
	sums, err := verifyFile(ctx, f, id)
	if err != nil {
		return false, err
	}
	c.mu.Lock()
	o, err := c.enter(id)
	c.mu.Unlock()
	if err != nil {
		return false, err
	}
	defer c.leave(o)
	o.ioMu.Lock()
	defer o.ioMu.Unlock()
	if moved, err = c.tier.place(ctx, id, f, path, sums); err != nil {
		return false, fmt.Errorf("taking %s into the cache: %w", id, err)
	}
	if moved {
		c.tier.note(id, id.Size, true)
		o.adopted(sums)
	}
	return moved, nil
}

func sameDevice(a, b string) bool {
	var x, y unix.Stat_t
	return unix.Stat(a, &x) == nil && unix.Stat(b, &y) == nil && x.Dev == y.Dev
}

// verifyFile compares the file with the identity and returns the checksums of
// its chunks.
func verifyFile(ctx context.Context, f *os.File, id hub.ContentID) ([][perBlock]uint32, error) {
	before, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !before.Mode().IsRegular() || before.Size() != id.Size {
		return nil, fmt.Errorf("%s: %w", f.Name(), ErrCorrupt)
	}
	// A read lease is refused while anybody could write, mappings included;
	// where there are none the times must do.
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK); err == unix.EAGAIN {
		return nil, errWritable
	} else if err == nil {
		if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK); err != nil {
			return nil, err
		}
	}
	h := newHash(id)
	sums := make([][perBlock]uint32, 0, (id.Size+blockSize-1)/blockSize)
	buf := make([]byte, min(blockSize, id.Size))
	for off := int64(0); off < id.Size; off += blockSize {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b := buf[:min(blockSize, id.Size-off)]
		if _, err := f.ReadAt(b, off); errors.Is(err, io.EOF) {
			return nil, errWritable // shorter than it was
		} else if err != nil {
			return nil, err
		}
		h.Write(b)
		sums = append(sums, chunkSums(b, fullMask(len(b))))
	}
	if !hashIs(h, id) {
		return nil, fmt.Errorf("%s: %w", f.Name(), ErrCorrupt)
	}
	after, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !after.ModTime().Equal(before.ModTime()) || after.Size() != before.Size() || changed(after) != changed(before) {
		return nil, errWritable
	}
	return sums, nil
}

func changed(info os.FileInfo) syscall.Timespec {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Ctim
	}
	return syscall.Timespec{}
}

// place gives the verified file f at path the name of the object. It is false
// if another process was faster; path is then deleted. object.ioMu is held.
func (t *diskTier) place(ctx context.Context, id hub.ContentID, f *os.File, path string, sums [][perBlock]uint32) (bool, error) {
	blob, from := t.blob(id), path
	if !sameDevice(path, t.dir) {
		tmp, err := t.copyIn(ctx, f)
		if err != nil {
			return false, err
		}
		defer os.Remove(tmp)
		from = tmp
	} else if err := os.Chmod(path, 0o600); err != nil { // no sign of use yet
		return false, err
	}
	idx := ""
	if id.Size > smallSize {
		// As finish does: whole and durable before it has the name.
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return false, err
		}
		var err error
		if idx, err = t.writeIndex(id, sums); err != nil {
			return false, err
		}
		defer os.Remove(idx)
	}
	moved := false
	err := t.locked(func() error {
		if t.contains(id) {
			return nil
		}
		if err := os.MkdirAll(filepath.Dir(blob), 0o700); err != nil {
			return err
		}
		if idx != "" {
			// The index first: a blob is never without one.
			if err := os.Rename(idx, blob+".idx"); err != nil {
				return err
			}
		}
		if err := os.Rename(from, blob); err != nil {
			return err
		}
		moved = true
		return t.unlink(nil, t.partialData(id))
	})
	if err != nil && !moved {
		return false, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.log.Warn("cannot remove a file that the cache has", "path", path, "error", err)
	}
	return moved, nil
}

// copyIn copies f into the tier, durably, and returns the name.
func (t *diskTier) copyIn(ctx context.Context, f *os.File) (string, error) {
	tmp, err := os.CreateTemp(filepath.Join(t.dir, "partial"), "*.tmp")
	if err != nil {
		return "", err
	}
	if unix.IoctlFileClone(int(tmp.Fd()), int(f.Fd())) != nil {
		if _, err = f.Seek(0, io.SeekStart); err == nil {
			_, err = io.Copy(tmp, &untilDone{ctx, f})
		}
	}
	if err == nil {
		err = unix.Fdatasync(int(tmp.Fd()))
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
		return "", err
	}
	return tmp.Name(), nil
}

// untilDone ends a copy with its context.
type untilDone struct {
	ctx context.Context
	r   io.Reader
}

func (u *untilDone) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}

// writeIndex writes the index of a complete object beside its place, durably.
func (t *diskTier) writeIndex(id hub.ContentID, sums [][perBlock]uint32) (string, error) {
	raw := indexHeader(id.Size)
	for i := range sums {
		n := int(min(blockSize, id.Size-int64(i)*blockSize))
		raw = appendRecord(raw, int64(i), fullMask(n), &sums[i])
	}
	tmp, err := os.CreateTemp(filepath.Join(t.dir, "partial"), "*.tmp")
	if err != nil {
		return "", err
	}
	if _, err = tmp.Write(raw); err == nil {
		err = unix.Fdatasync(int(tmp.Fd()))
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
		return "", err
	}
	return tmp.Name(), nil
}

// adopted makes the object one that is complete on disk, for the handles that
// it has too: what they have fetched is compared with what was adopted, and
// what is still on its way will be when it arrives. object.ioMu is held.
func (o *object) adopted(sums [][perBlock]uint32) {
	c := o.c
	if o.small {
		c.mu.Lock()
		o.onDisk = true // what memory has of it was verified
		c.mu.Unlock()
		return
	}
	d := c.tier.openFile(o.id)
	if !d.complete {
		d.close() // evicted this moment
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if o.disk != nil {
		o.replaced = append(o.replaced, o.disk)
	}
	o.disk, o.unstored = d, false
	if o.dead != nil {
		return
	}
	if !o.verified && o.contradicts(sums) {
		o.condemn(false)
		return
	}
	o.unchain()
	o.verified = true
	o.sums = sums
	o.hashed, o.chained = o.nblocks, o.nblocks
	clear(o.beyond)
	for _, b := range o.blocks {
		b.wake()
	}
}

// contradicts reports whether memory holds anything else than sums say.
// Cache.mu is held.
func (o *object) contradicts(sums [][perBlock]uint32) bool {
	for i, s := range o.sums {
		if s != sums[i] {
			return true
		}
	}
	for i, b := range o.blocks {
		if badChunks(b.data, b.have, &sums[i]) != 0 {
			return true
		}
	}
	return false
}
