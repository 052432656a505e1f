package fs

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"slices"
	"sync"

	"hfmount/blockcache"
	"hfmount/writeback"
)

// opened is one open of an inode. It reads through the inode: when that gets
// other bytes, the next read is of those.
type opened struct {
	k     *inode
	flags OpenFlags
	num   uint64 // the inode's number at this place of the mount

	mu     sync.Mutex // held while bytes are opened, never while they are read
	cur    *bytesAt   // guarded by mu
	lent   []*bytesAt // whose descriptors were given away; guarded by mu
	closed bool       // guarded by mu
}

// bytesAt is where a handle reads: the cache, or the layer.
type bytesAt struct {
	count uint64 // inode.bytes
	cache *blockcache.File
	local *writeback.Handle
	file  *writeback.File // behind local
	first firstRead       // of cache
	users int             // guarded by opened.mu; the handle itself is one
}

// open opens the inode as f shows it.
func (k *inode) open(f *File, flags OpenFlags) (*Handle, error) {
	h := &opened{k: k, flags: flags, num: f.num}
	if !flags.Trunc {
		k.glance()
	}
	h.enter() // first, so that the bytes are not moved away below it
	b, err := h.acquire()
	if err != nil {
		h.leave()
		return nil, err
	}
	h.release(b)
	return &Handle{w: h}, nil
}

// enter counts a handle for writing.
func (h *opened) enter() {
	o := h.k.o
	o.mu.Lock()
	defer o.mu.Unlock()
	if !h.flags.Write && !h.flags.Trunc {
		if h.k.readers == nil {
			h.k.readers = make(map[*opened]struct{})
		}
		h.k.readers[h] = struct{}{}
		return
	}
	if h.k.writers == nil {
		h.k.writers = make(map[*opened]struct{})
	}
	h.k.writers[h] = struct{}{}
	h.k.opens++
}

// glance remembers what the opener sees, as the base of what it may write.
func (k *inode) glance() {
	o := k.o
	o.mu.Lock()
	path := k.path()
	local, h := k.present()
	o.mu.Unlock()
	if path == "" || local != nil || h == nil {
		return // local bytes have their base
	}
	e := h.entry()
	if e.Path != path {
		return // renamed: what was at the path is in the layer
	}
	if layer := o.layer.Load(); layer != nil {
		if _, ok := layer.Get(path); ok {
			return // renamed away and back
		}
	}
	o.opened(path, writeback.Base{Commit: h.st.snap.Commit, Entry: &e})
}

// acquire returns where to read, opened anew if the inode's bytes became
// others. The caller releases it.
func (h *opened) acquire() (*bytesAt, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, iofs.ErrClosed
	}
	if err := h.renewLocked(); err != nil {
		return nil, err
	}
	h.cur.users++
	return h.cur, nil
}

func (h *opened) renewLocked() error {
	k := h.k
	for {
		count := k.bytes.Load()
		if h.cur != nil && h.cur.count == count {
			return nil
		}
		k.o.mu.Lock()
		local, held := k.present()
		k.o.mu.Unlock()
		b := &bytesAt{count: count, users: 1, file: local}
		var err error
		switch {
		case local != nil:
			b.local, err = local.Open(opening(h.flags))
		case held != nil:
			b.cache, err = k.o.v.openHeld(held, h.num)
			b.first.a, b.first.h = k.o.first(), held
		default:
			err = iofs.ErrNotExist
		}
		if err != nil {
			if k.bytes.Load() != count || errors.Is(err, writeback.ErrLanded) && k.landed() {
				continue
			}
			if h.cur == nil && local != nil && !k.shown() {
				// It was replaced between the lookup and the open, and nobody
				// keeps its bytes.
				return fmt.Errorf("%w: %w", ErrStale, err)
			}
			return err
		}
		h.setLocked(b)
	}
}

// shown reports whether the layer has the local bytes at the file's name.
func (k *inode) shown() bool {
	k.o.mu.Lock()
	defer k.o.mu.Unlock()
	return k.named()
}

// landed reports whether the bytes are the Hub's by now.
func (k *inode) landed() bool {
	k.o.mu.Lock()
	defer k.o.mu.Unlock()
	local, _ := k.present()
	return local == nil
}

// reconsider makes the next acquire open anew.
func (h *opened) reconsider() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cur != nil {
		h.cur.count = 1<<64 - 1
	}
}

// setLocked makes b what is read. Its first user is the handle.
func (h *opened) setLocked(b *bytesAt) {
	old := h.cur
	h.cur = b
	if old != nil {
		if err := h.dropLocked(old); err != nil {
			h.k.o.v.t.log.Warn("closing a file", "error", err)
		}
	}
}

// dropLocked takes a user away; the last one closes.
func (h *opened) dropLocked(b *bytesAt) error {
	if b.users--; b.users > 0 {
		return nil
	}
	if b.cache != nil {
		return b.cache.Close()
	}
	return b.local.Release()
}

func (h *opened) release(b *bytesAt) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.dropLocked(b); err != nil {
		h.k.o.v.t.log.Warn("closing a file", "error", err)
	}
}

// follow opens the inode's present bytes now, not at the next read.
func (h *opened) follow() error {
	b, err := h.acquire()
	if errors.Is(err, iofs.ErrClosed) {
		return nil
	}
	if err == nil {
		h.release(b)
	}
	return err
}

func (h *opened) readAt(ctx context.Context, p []byte, off int64) (int, error) {
	b, err := h.acquire()
	if err != nil {
		return 0, err
	}
	defer h.release(b)
	if b.local != nil {
		return b.local.ReadAt(ctx, p, off)
	}
	b.first.note()
	return b.cache.ReadAt(ctx, p, off)
}

func (h *opened) view(ctx context.Context, off int64, n int) (*blockcache.View, error) {
	b, err := h.acquire()
	if err != nil {
		return nil, err
	}
	defer h.release(b)
	if b.local != nil {
		return nil, ErrLocal
	}
	b.first.note()
	return b.cache.View(ctx, off, n)
}

func (h *opened) native() (*os.File, bool) {
	b, err := h.acquire()
	if err != nil {
		return nil, false
	}
	defer h.release(b)
	if b.local != nil {
		return nil, false
	}
	f, ok := b.cache.Native()
	if ok {
		h.lend(b)
	}
	return f, ok
}

func (h *opened) isLocal() bool {
	b, err := h.acquire()
	if err != nil {
		return false
	}
	defer h.release(b)
	return b.local != nil
}

func (h *opened) backing() (*os.File, string, bool) {
	b, err := h.acquire()
	if err != nil {
		return nil, "", false
	}
	defer h.release(b)
	var f *os.File
	var id string
	ok := false
	switch {
	case b.local != nil:
		if f, id, ok = b.local.Native(); ok {
			id = "local:" + id
		}
	case h.flags.Write || h.flags.Trunc:
	default:
		if f, ok = b.cache.Native(); ok {
			id = "cache:" + b.cache.ID().String()
		}
	}
	if ok {
		h.lend(b)
	}
	return f, id, ok
}

// lend keeps b open until the handle is closed, because somebody has its
// descriptor.
func (h *opened) lend(b *bytesAt) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed && !slices.Contains(h.lent, b) {
		b.users++
		h.lent = append(h.lent, b)
	}
}

// toWrite returns local bytes that the inode's name stands for, or that are
// without a name as it is. With empty nothing of what was is needed.
func (h *opened) toWrite(ctx context.Context, empty bool) (*bytesAt, error) {
	if !h.flags.Write && !h.flags.Trunc {
		return nil, fmt.Errorf("not open for writing: %w", iofs.ErrPermission)
	}
	for {
		b, err := h.acquire()
		if err != nil {
			return nil, err
		}
		if b.local != nil && h.k.owns(b.file) {
			return b, nil
		}
		h.release(b)
		l, err := h.k.materialise(ctx, h.flags, empty)
		if err != nil {
			return nil, err
		}
		if l == nil {
			// Others were quicker, or the bytes are elsewhere by now without
			// having changed.
			h.reconsider()
		} else {
			// This handle follows like all others.
			err = h.follow()
			if e := l.Release(); err == nil {
				err = e
			}
			if err != nil {
				return nil, err
			}
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
}

// owns reports whether file is what k's bytes are. It is not when a commit
// took them out of the layer: then a change begins anew.
func (k *inode) owns(file *writeback.File) bool {
	k.o.mu.Lock()
	defer k.o.mu.Unlock()
	local, _ := k.present()
	return local == file
}

// WriteAt writes; a negative off appends. The first write makes the change.
func (h *Handle) WriteAt(ctx context.Context, p []byte, off int64) (int, error) {
	if h.w == nil {
		return 0, ErrReadOnly
	}
	if len(p) == 0 {
		return 0, nil
	}
	b, err := h.w.toWrite(ctx, false)
	if err != nil {
		return 0, err
	}
	defer h.w.release(b)
	return b.local.WriteAt(ctx, p, off)
}

// Truncate sets the size. One that is so already changes nothing.
func (h *Handle) Truncate(ctx context.Context, size int64) error {
	if h.w == nil {
		return ErrReadOnly
	}
	if size < 0 {
		return errInvalid
	}
	if !h.w.isLocal() && h.w.k.size() == size {
		return nil
	}
	b, err := h.w.toWrite(ctx, size == 0)
	if err != nil {
		return err
	}
	defer h.w.release(b)
	if size == b.file.Size() {
		return nil
	}
	return b.local.Truncate(ctx, size)
}

// Allocate is fallocate(2).
func (h *Handle) Allocate(ctx context.Context, off, size int64, mode uint32) error {
	if h.w == nil {
		return ErrReadOnly
	}
	b, err := h.w.toWrite(ctx, false)
	if err != nil {
		return err
	}
	defer h.w.release(b)
	return b.local.Allocate(ctx, off, size, mode)
}

// Flush records the present bytes, as close(2) promises.
func (h *Handle) Flush(context.Context) error { return h.flush((*writeback.Handle).Flush) }

// FlushLast is Flush where the caller sees no other descriptor of the handle.
func (h *Handle) FlushLast(context.Context) error { return h.flush((*writeback.Handle).FlushLast) }

func (h *Handle) flush(how func(*writeback.Handle) error) error {
	if h.w == nil || !h.w.flags.Write && !h.w.flags.Trunc {
		return nil
	}
	b, err := h.w.acquire()
	if err != nil {
		return err
	}
	defer h.w.release(b)
	if b.local == nil {
		return nil
	}
	return how(b.local)
}

// Sync makes the bytes durable; with --sync=remote it returns when they are on
// the Hub.
func (h *Handle) Sync(ctx context.Context) error {
	if h.w == nil {
		return nil
	}
	b, err := h.w.acquire()
	if err != nil {
		return err
	}
	if b.local == nil {
		h.w.release(b)
		return nil
	}
	err = b.local.Sync(ctx)
	h.w.release(b)
	o := h.w.k.o
	o.mu.Lock()
	path := h.w.k.path()
	o.mu.Unlock()
	if err != nil || path == "" || o.v.t.waitFor == nil {
		return err
	}
	return o.v.t.waitFor(ctx, o.v.ref, path)
}

func (h *opened) leave() {
	h.k.o.mu.Lock()
	defer h.k.o.mu.Unlock()
	delete(h.k.writers, h)
	delete(h.k.readers, h)
}

func (h *opened) close() error {
	h.leave()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil
	}
	h.closed = true
	err := h.dropLocked(h.cur)
	for _, b := range h.lent {
		if e := h.dropLocked(b); err == nil {
			err = e
		}
	}
	return err
}
