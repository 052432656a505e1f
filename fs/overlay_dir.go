package fs

import (
	"context"
	"fmt"
	iofs "io/fs"
	"time"

	"hfmount/remote/hub"
	"hfmount/writeback"
)

// mtime is the later of what the snapshot says and of the last change.
func (s *spot) mtime(ctx context.Context, listed time.Time) (t time.Time, err error) {
	o := s.o
	o.mu.Lock()
	set, since := s.meta.mtime, s.since
	o.mu.Unlock()
	path := s.where()
	switch {
	case !set.IsZero():
		return set, nil
	case path == "" && o.v.cur.Load() == nil && !listed.IsZero():
		// It was only seen from afar: a long listing of a namespace is not
		// worth a request for each line.
		return listed, nil
	}
	if layer := o.look(ctx); layer != nil {
		if c, ok := layer.Get(path); ok && c.Kind == writeback.Folder && c.Since.After(since) {
			since = c.Since
		}
	}
	err = o.v.afresh(ctx, func(st *state) error {
		if path == "" {
			t = st.date()
			return nil
		}
		l, i, err := st.lookup(ctx, path)
		switch {
		case absent(err):
			t = o.v.t.started
			if !since.IsZero() {
				t = since
			}
		case err == nil:
			t = time.UnixMilli(l.items[i].mtime)
		default:
			return err
		}
		return nil
	})
	if since.After(t) {
		t = since
	}
	return t, err
}

// override shows what was set.
func (s *spot) override(a *Attr) {
	s.o.mu.Lock()
	m := s.meta
	s.o.mu.Unlock()
	a.Mode, a.Writable = iofs.ModeDir|0o755, true
	m.apply(a)
}

// SetAttr changes what lasts for the life of the mount.
func (d *Dir) SetAttr(ctx context.Context, s SetAttr) (Attr, error) {
	r, err := d.writable()
	if err != nil {
		return Attr{}, err
	}
	if s.Size != nil {
		return Attr{}, ErrIsDir
	}
	o := r.spot.o
	o.mu.Lock()
	r.spot.meta.change(s, time.Time{})
	o.keep(r.spot)
	o.mu.Unlock()
	return d.Attr(ctx)
}

// Writable reports whether the mount writes here at all.
func (d *Dir) Writable() bool {
	_, err := d.writable()
	return err == nil
}

func (d *Dir) writable() (*repoDir, error) {
	if r, ok := d.kind.(*repoDir); ok && r.spot != nil {
		return r, nil
	}
	return nil, ErrReadOnly
}

// Sync makes all names durable.
func (d *Dir) Sync(context.Context) error {
	r, err := d.writable()
	if err != nil {
		return nil
	}
	if l := r.spot.o.layer.Load(); l != nil {
		return l.Sync()
	}
	return nil
}

// plan collects the edits of one change: one of each path.
type plan struct {
	s     *sight
	edits []writeback.Edit
	at    map[string]int // index into edits
}

func (s *sight) plan() *plan { return &plan{s: s, at: make(map[string]int)} }

func (p *plan) add(e writeback.Edit) {
	if i, ok := p.at[e.Path]; ok {
		p.edits[i] = e
		return
	}
	p.at[e.Path] = len(p.edits)
	p.edits = append(p.edits, e)
}

// put gives path its bytes, or its link, as th says.
func (p *plan) put(path string, th *thing, was string) error {
	base, err := p.s.baseOf(path)
	if err != nil {
		return err
	}
	e := writeback.Edit{Path: path, Kind: writeback.Put, Base: base, Was: was}
	switch {
	case th.kind == isLink:
		e.Kind, e.Target = writeback.Symlink, th.target
	case th.file != nil:
		e.File = th.file
	case th.change != nil && th.change.From != nil:
		from := *th.change.From
		e.From = &from
	default:
		e.From = &writeback.Place{Snapshot: th.held.st.snap, Entry: th.held.entry()}
	}
	p.add(e)
	return nil
}

// take takes path away; with nothing at it on the Hub that is a Forget.
func (p *plan) take(path string) error {
	base, err := p.s.baseOf(path)
	if err != nil {
		return err
	}
	p.add(writeback.Edit{Path: path, Kind: writeback.Delete, Base: base})
	return nil
}

// unmark takes the mark of a directory away that needs none any more.
func (p *plan) unmark(path string) {
	c, ok := p.s.layer.Get(path)
	if !ok || c.Kind != writeback.Folder {
		return
	}
	if c.Base.Entry != nil {
		// A file of the Hub's was there, and is to be deleted still.
		p.add(writeback.Edit{Path: path, Kind: writeback.Delete, Base: c.Base})
		return
	}
	p.add(writeback.Edit{Path: path, Forget: true})
}

// mark makes a directory stay that holds nothing.
func (p *plan) mark(path string) error {
	base, err := p.s.baseOf(path)
	if err != nil {
		return err
	}
	p.add(writeback.Edit{Path: path, Kind: writeback.Folder, Base: base})
	return nil
}

// gained is told that a directory holds something from now on.
func (p *plan) gained(dir string) {
	if dir != "" {
		p.unmark(dir)
	}
}

// lost is told that name leaves a directory, which stays even if it was the
// last.
func (p *plan) lost(dir, name string) error {
	if dir == "" {
		return nil
	}
	if c, ok := p.s.layer.Get(dir); ok && c.Kind == writeback.Folder {
		return nil
	}
	more, err := p.s.showsBeside(dir, name)
	if err != nil || more {
		return err
	}
	return p.mark(dir)
}

// add makes name in the directory: edit says what, if nothing is there, and
// then done brings the tables up to date.
func (d *repoDir) add(ctx context.Context, name string, edit func(p *plan, path string) error, done func()) error {
	if d.spot == nil {
		return ErrReadOnly
	}
	o := d.spot.o
	if err := checkNew(d.spot.where(), name); err != nil {
		return err
	}
	err := o.change(ctx, func(s *sight) error {
		if d.spot.gone.Load() {
			return missing(name)
		}
		dir := d.spot.where()
		th, err := s.at(dir, name)
		if err != nil {
			return err
		}
		if th.kind != isNone {
			return &iofs.PathError{Op: "create", Path: name, Err: iofs.ErrExist}
		}
		p := s.plan()
		p.gained(dir)
		if err := edit(p, join(dir, name)); err != nil {
			return err
		}
		return s.commit(p.edits, func() {
			d.spot.touch()
			if old := d.spot.kids[name].f.Value(); old != nil {
				o.detach(old)
			}
			if d.spot.kids[name].d.Value() != nil {
				o.removeDir(d.spot, name)
			}
			done()
		})
	})
	if err == nil {
		o.tellOthers(d.a, d.spot, name)
	}
	return err
}

// touch notes that a name changed. overlay.mu is held.
func (s *spot) touch() { s.since = s.o.v.t.now() }

// tellOthers lets the kernel forget a name at the other places of the mount
// that show the directory.
func (o *overlay) tellOthers(a *anchor, s *spot, name string) {
	o.mu.Lock()
	var news []note
	for _, alias := range s.shownAt {
		if alias != a.alias {
			num := s.num(&anchor{view: o.v, alias: alias})
			news = append(news, note{kind: entryChanged, ino: num, name: name}, note{kind: dirChanged, ino: num})
		}
	}
	o.mu.Unlock()
	o.v.t.tell(news)
}

// newFile makes an inode of its own bytes, open. overlay.mu is not held.
func (o *overlay) newFile(ctx context.Context, a *anchor, mode iofs.FileMode, flags OpenFlags) (*inode, *File, *Handle, error) {
	layer, err := o.writable(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	file, err := layer.NewFile(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	flags.Write = true
	local, err := file.Open(opening(flags))
	if err != nil {
		file.Abandon()
		return nil, nil, nil, err
	}
	o.mu.Lock()
	k := &inode{o: o, num: o.fresh(), gen: o.freshGen(), local: file}
	if perm := mode.Perm(); perm != 0o644 {
		k.meta.mode = &perm
	}
	o.mu.Unlock()
	f := &File{a: a, num: numAt(k.num, a.alias), w: k}
	h := &opened{k: k, flags: flags, num: f.num, cur: &bytesAt{local: local, file: file, users: 1}}
	h.enter()
	return k, f, &Handle{w: h}, nil
}

// Create makes an empty file and opens it for reading and writing.
func (d *Dir) Create(ctx context.Context, name string, mode iofs.FileMode, flags OpenFlags) (*File, *Handle, error) {
	r, err := d.writable()
	if err != nil {
		return nil, nil, err
	}
	if err := checkNew(r.spot.where(), name); err != nil {
		return nil, nil, err
	}
	o := r.spot.o
	k, f, h, err := o.newFile(ctx, r.a, mode, flags)
	if err != nil {
		return nil, nil, err
	}
	err = r.add(ctx, name, func(p *plan, path string) error {
		return p.put(path, &thing{kind: isFile, file: k.local}, "")
	}, func() { o.rename(k, r.spot, name) })
	if err != nil {
		_ = h.Close() // the last one of a file without a name
		return nil, nil, err
	}
	return f, h, nil
}

// Tmpfile makes a file without a name; Link gives it one.
func (d *Dir) Tmpfile(ctx context.Context, mode iofs.FileMode, flags OpenFlags) (*File, *Handle, error) {
	r, err := d.writable()
	if err != nil {
		return nil, nil, err
	}
	k, f, h, err := r.spot.o.newFile(ctx, r.a, mode, flags)
	if err == nil {
		r.spot.o.mu.Lock()
		k.tmp = true
		r.spot.o.stray(k)
		r.spot.o.mu.Unlock()
	}
	return f, h, err
}

// Link gives a name to a file that has none, and fails with ErrNoLinks for
// one that has.
func (d *Dir) Link(ctx context.Context, name string, f *File) (*File, error) {
	r, err := d.writable()
	if err != nil {
		return nil, err
	}
	if f.w == nil {
		return nil, ErrReadOnly
	}
	k, o := f.w, r.spot.o
	if k.o != o {
		return nil, ErrCrossDevice
	}
	o.mu.Lock()
	tmp := k.tmp && k.parent == nil
	o.mu.Unlock()
	if !tmp {
		return nil, ErrNoLinks
	}
	err = r.add(ctx, name, func(p *plan, path string) error {
		o.mu.Lock()
		tmp := k.tmp && k.parent == nil
		o.mu.Unlock()
		if !tmp {
			return ErrNoLinks
		}
		return p.put(path, &thing{kind: isFile, file: k.local}, "")
	}, func() {
		k.tmp = false
		o.rename(k, r.spot, name)
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Mkdir makes a directory, which is local until a file is in it. In a listing
// of a namespace it makes a repository, where the mount may.
func (d *Dir) Mkdir(ctx context.Context, name string, mode iofs.FileMode) (*Dir, error) {
	if s, ok := d.kind.(*spaceDir); ok {
		return s.mkdir(ctx, name)
	}
	r, err := d.writable()
	if err != nil {
		return nil, err
	}
	o := r.spot.o
	var s *spot
	err = r.add(ctx, name, func(p *plan, path string) error { return p.mark(path) }, func() {
		s = newSpot(o, r.spot, name, seedOf{fresh: o.fresh()})
		if perm := mode.Perm(); perm != 0o755 {
			s.meta.mode = &perm
		}
		s.touch()
		o.rehang(s, r.spot, name)
	})
	if err != nil {
		return nil, err
	}
	return o.dirNode(r.a, s), nil
}

// mayCreate reports whether a directory made here may become a repository.
func (d *spaceDir) mayCreate() bool {
	return d.t.layers != nil && !d.t.offline && d.t.layers.MayCreate()
}

// mkdir makes a repository.
func (d *spaceDir) mkdir(ctx context.Context, name string) (*Dir, error) {
	repo := hub.Repo{Type: d.s.t, Namespace: d.s.name, Name: name}
	if !d.mayCreate() {
		return nil, ErrReadOnly
	}
	if err := hub.CheckRepo(repo); err != nil {
		return nil, fmt.Errorf("%w: %w", errInvalid, err)
	}
	if err := d.t.layers.CreateRepo(ctx, repo); err != nil {
		return nil, err
	}
	d.t.hubs.misses.Remove(repo.Type.Prefix() + join(repo.Namespace, name))
	d.t.hubs.spaces.Remove(d.s)
	n, err := d.lookup(ctx, name)
	if err != nil {
		return nil, err
	}
	made, ok := n.(*Dir)
	if !ok {
		return nil, fmt.Errorf("%s: %w", repo, ErrNotDir)
	}
	return made, nil
}

// Symlink makes a symbolic link, which is local.
func (d *Dir) Symlink(ctx context.Context, name, target string) (*Symlink, error) {
	r, err := d.writable()
	if err != nil {
		return nil, err
	}
	if target == "" {
		return nil, fmt.Errorf("an empty link: %w", iofs.ErrNotExist)
	}
	o := r.spot.o
	o.mu.Lock()
	k := &inode{o: o, num: o.fresh(), gen: o.freshGen(), link: true, target: target, since: o.v.t.now()}
	o.mu.Unlock()
	err = r.add(ctx, name, func(p *plan, path string) error {
		return p.put(path, &thing{kind: isLink, target: target}, "")
	}, func() { o.rename(k, r.spot, name) })
	if err != nil {
		return nil, err
	}
	return k.node(r.a).(*Symlink), nil
}

// Unlink removes a file or symbolic link. Handles go on.
func (d *Dir) Unlink(ctx context.Context, name string) error {
	return d.remove(ctx, name, func(p *plan, r *repoDir, th *thing, path string) error {
		if th.kind == isDir {
			return &iofs.PathError{Op: "unlink", Path: name, Err: ErrIsDir}
		}
		return p.take(path)
	})
}

// Rmdir removes an empty directory.
func (d *Dir) Rmdir(ctx context.Context, name string) error {
	return d.remove(ctx, name, func(p *plan, r *repoDir, th *thing, path string) error {
		if th.kind != isDir {
			return &iofs.PathError{Op: "rmdir", Path: name, Err: ErrNotDir}
		}
		kids, _, _, err := p.s.list(path)
		if err != nil {
			return err
		}
		if len(kids) > 0 || th.change == nil || th.change.Kind != writeback.Folder {
			// One that is empty without a mark holds what cannot be shown.
			return &iofs.PathError{Op: "rmdir", Path: name, Err: ErrNotEmpty}
		}
		p.unmark(path)
		return nil
	})
}

func (d *Dir) remove(ctx context.Context, name string, edit func(p *plan, r *repoDir, th *thing, path string) error) error {
	r, err := d.writable()
	if err != nil {
		return err
	}
	o := r.spot.o
	err = o.change(ctx, func(s *sight) error {
		if r.spot.gone.Load() {
			return missing(name)
		}
		dir := r.spot.where()
		th, err := s.at(dir, name)
		if err == nil && th.kind == isNone {
			err = missing(name)
		}
		if err != nil {
			return err
		}
		p := s.plan()
		if err := edit(p, r, &th, join(dir, name)); err != nil {
			return err
		}
		if err := p.lost(dir, name); err != nil {
			return err
		}
		return s.commit(p.edits, func() {
			r.spot.touch()
			if th.kind == isDir {
				o.removeDir(r.spot, name)
			} else if k := r.spot.kids[name].f.Value(); k != nil {
				o.detach(k)
			}
		})
	})
	if err == nil {
		o.tellOthers(r.a, r.spot, name)
	}
	return err
}
