package fs

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"time"
	"weak"

	"hfmount/remote/hub"
	"hfmount/writeback"
)

// attr is what stat shows of an inode with the number num.
func (k *inode) attr(num uint64) Attr {
	o := k.o
	o.mu.Lock()
	a := Attr{Ino: num, Mode: 0o644, Writable: true}
	m := k.meta
	local, h := k.present()
	switch {
	case k.link:
		a.Mode, a.Size, a.Mtime = iofs.ModeSymlink|0o777, int64(len(k.target)), k.since
	case local == nil:
		a.Size, a.Mtime = h.line.size, time.UnixMilli(h.line.mtime)
	}
	o.mu.Unlock()
	if local != nil {
		// Asks the disk: the kernel may write by itself.
		a.Size, a.Mtime = local.Stat()
		if !m.of.Equal(a.Mtime) {
			m.mtime = time.Time{}
		}
	}
	m.apply(&a)
	return a
}

// apply shows what was set.
func (m *overrides) apply(a *Attr) {
	if m.mode != nil {
		a.Mode, a.Chosen = a.Mode.Type()|m.mode.Perm(), true
	}
	a.Owner = m.owner
	if !m.mtime.IsZero() {
		a.Mtime = m.mtime
	}
	if !m.atime.IsZero() {
		a.Atime = m.atime
	}
	a.Ctime = a.Mtime
}

// change takes what SetAttr says but the size. now is the mtime of local
// bytes, zero for others.
func (m *overrides) change(s SetAttr, now time.Time) {
	if s.Mode != nil {
		mode := s.Mode.Perm()
		m.mode = &mode
	}
	if s.UID != nil || s.GID != nil {
		if m.owner == nil {
			m.owner = &Owner{UID: NoOwner, GID: NoOwner}
		}
		owner := *m.owner
		if s.UID != nil {
			owner.UID = *s.UID
		}
		if s.GID != nil {
			owner.GID = *s.GID
		}
		m.owner = &owner
	}
	if s.Atime != nil {
		m.atime = *s.Atime
	}
	if s.Mtime != nil {
		m.mtime, m.of = *s.Mtime, now
	}
}

func (k *inode) size() int64 {
	k.o.mu.Lock()
	local, h := k.present()
	k.o.mu.Unlock()
	if local != nil {
		return local.Size()
	}
	if h == nil {
		return 0
	}
	return h.line.size
}

func (k *inode) content() hub.ContentID {
	k.o.mu.Lock()
	defer k.o.mu.Unlock()
	if local, h := k.present(); local == nil && h != nil {
		return h.content()
	}
	return hub.ContentID{}
}

// OpenWith opens the file. Opening for writing changes nothing and fetches
// nothing, but for Trunc.
func (f *File) OpenWith(ctx context.Context, o OpenFlags) (*Handle, error) {
	h, err := f.openWith(ctx, o)
	return h, again(err)
}

// again makes a file whose bytes went to the Hub under an operation that
// begins with a name one that begins anew.
func again(err error) error {
	if errors.Is(err, writeback.ErrLanded) {
		return fmt.Errorf("%w: %w", ErrStale, err)
	}
	return err
}

func (f *File) openWith(ctx context.Context, o OpenFlags) (*Handle, error) {
	if !o.Write && !o.Trunc {
		return f.Open(ctx)
	}
	if f.w == nil {
		return nil, ErrReadOnly
	}
	if _, err := f.w.o.writable(ctx); err != nil {
		return nil, err
	}
	h, err := f.w.open(f, o)
	if err == nil && o.Trunc {
		if err = h.Truncate(ctx, 0); err != nil {
			_ = h.Close()
			return nil, err
		}
	}
	return h, err
}

// SetAttr changes size, times, mode and owner.
func (f *File) SetAttr(ctx context.Context, s SetAttr) (Attr, error) {
	if f.w == nil {
		return Attr{}, ErrReadOnly
	}
	if s.Size != nil && *s.Size != f.w.size() {
		h, err := f.OpenWith(ctx, OpenFlags{Write: true})
		if err != nil {
			return Attr{}, err
		}
		err = h.Truncate(ctx, *s.Size)
		if err == nil {
			err = h.Flush(ctx)
		}
		if e := h.Close(); err == nil {
			err = e
		}
		if err != nil {
			return Attr{}, again(err)
		}
	} else if s.Size != nil && s.Mtime == nil {
		now := f.w.o.v.t.now()
		s.Mtime = &now
	}
	f.w.setMeta(s)
	return f.w.attr(f.num), nil
}

// SetAttr changes times and owner.
func (l *Symlink) SetAttr(_ context.Context, s SetAttr) (Attr, error) {
	if l.w == nil {
		return Attr{}, ErrReadOnly
	}
	s.Mode = nil
	l.w.setMeta(s)
	return l.w.attr(l.num), nil
}

func (k *inode) setMeta(s SetAttr) {
	if s.Mode == nil && s.UID == nil && s.GID == nil && s.Atime == nil && s.Mtime == nil {
		return
	}
	k.o.mu.Lock()
	defer k.o.mu.Unlock()
	now := time.Time{}
	if local, _ := k.present(); local != nil {
		now = local.Mtime()
	}
	k.meta.change(s, now)
	if k.parent != nil {
		k.o.keep(k)
	}
}

// Detach makes the path another inode, with the same number and another Gen,
// so that readers which the kernel serves natively keep what they have. The
// caller answers ErrStale to the open.
func (f *File) Detach() {
	if f.w == nil {
		return
	}
	k, o := f.w, f.w.o
	o.ops.Lock()
	defer o.ops.Unlock()
	o.seq.Add(1)
	defer o.seq.Add(1)
	o.mu.Lock()
	defer o.mu.Unlock()
	if k.parent == nil || k.frozen {
		return
	}
	next := &inode{
		o: o, num: k.num, gen: o.freshGen(), parent: k.parent, name: k.name, since: k.since,
		local: k.local, held: k.held, adopted: k.adopted, settled: k.settled, meta: k.meta,
	}
	k.frozen, k.parent = true, nil
	o.kept.Remove(k)
	next.parent.put(next.name, kid{f: weak.Make(next)})
	// The number is that of two now, so the next to want it has to look.
	o.stray(next)
	o.keep(next)
}

// Forgotten tells the tree that the kernel forgot the file's inode. What was
// not set by anybody is forgotten with it.
func (f *File) Forgotten() {
	if f.w == nil {
		return
	}
	o := f.w.o
	o.mu.Lock()
	defer o.mu.Unlock()
	if !f.w.meta.set() && f.w.local == nil && !f.w.link {
		o.kept.Remove(f.w)
	}
}

// materialise makes the bytes of k local, so that they can be changed. With
// empty it starts with none of them. The handle is open for writing on what
// it returns, which the caller releases.
func (k *inode) materialise(ctx context.Context, f OpenFlags, empty bool) (*writeback.Handle, error) {
	o := k.o
	layer, err := o.writable(ctx)
	if err != nil {
		return nil, err
	}
	o.mu.Lock()
	_, h := k.present()
	o.mu.Unlock()
	if h == nil {
		return nil, nil // somebody else did
	}
	var file *writeback.File
	if empty {
		file, err = layer.NewFile(ctx)
	} else {
		file, err = layer.NewFileOver(ctx, writeback.Place{Snapshot: h.st.snap, Entry: h.entry()})
	}
	if err != nil {
		return nil, err
	}
	b, err := file.Open(opening(f))
	if err != nil {
		file.Abandon()
		return nil, err
	}
	done := false
	err = o.change(ctx, func(s *sight) error {
		o.mu.Lock()
		path := k.path()
		local, now := k.present()
		o.mu.Unlock()
		if local != nil {
			return nil // raced by another handle
		}
		if !now.same(h) {
			return nil // it is another's now: the caller looks again
		}
		var edits []writeback.Edit
		if path != "" {
			base, err := s.baseOf(path)
			if err != nil {
				return err
			}
			if old := now.entry(); !empty && old.Path == path {
				// What is changed is what was there, whatever was read before.
				base = writeback.Base{Commit: now.st.snap.Commit, Entry: &old}
			}
			e := writeback.Edit{Path: path, Kind: writeback.Put, File: file, Base: base}
			if c, ok := s.layer.Get(path); ok {
				e.Was = c.Was
			}
			edits = append(edits, e)
		}
		return s.commit(edits, func() {
			k.local, k.adopted = file, false
			k.bytes.Add(1)
			if k.parent != nil {
				o.keep(k)
			}
			done = true
		})
	})
	if err != nil || !done {
		_ = b.Release() // the last one of a file without a name: it is deleted
		return nil, err
	}
	// Whoever has it open for writing holds it back from being committed, and
	// who only reads keeps the bytes when they lose their name.
	for _, h := range k.handles() {
		if err := h.follow(); err != nil {
			o.v.t.log.Warn("a handle cannot follow its file", "error", err)
		}
	}
	return b, nil
}

func opening(o OpenFlags) writeback.OpenFile {
	return writeback.OpenFile{Write: o.Write || o.Trunc, Append: o.Append, PID: o.PID}
}

// handles returns all of the inode.
func (k *inode) handles() []*opened {
	k.o.mu.Lock()
	defer k.o.mu.Unlock()
	out := make([]*opened, 0, len(k.writers)+len(k.readers))
	for h := range k.writers {
		out = append(out, h)
	}
	for h := range k.readers {
		out = append(out, h)
	}
	return out
}
