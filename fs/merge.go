package fs

import (
	"context"
	iofs "io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"hfmount/remote/hub"
	"hfmount/writeback"
)

// thing is what the local changes and the snapshot together have at a name.
type thing struct {
	kind   kindOf
	file   *writeback.File // local bytes of an isFile
	held   *held           // or those of the Hub
	from   bool            // held is of another path: the file was renamed
	target string          // of an isLink
	// change is the change at exactly this path, nil for none.
	change *writeback.Change
	since  time.Time // of a change
	mtime  int64     // of a directory of the snapshot, milliseconds since 1970
}

type kindOf uint8

const (
	isNone kindOf = iota
	isFile
	isDir
	isLink
)

// at looks at a name in a directory.
func (s *sight) at(dir, name string) (thing, error) {
	var path string
	deletes := false // something beneath is deleted
	if s.layer != nil {
		var kind writeback.Kind
		var decided bool
		kind, decided, deletes = s.layer.Name(dir, name)
		if decided {
			th, ok := s.decided(join(dir, name), kind)
			if ok {
				return th, nil
			}
		}
		path = join(dir, name)
	}
	l, err := s.listing(dir)
	if err != nil || l == nil {
		return thing{}, err
	}
	i, ok := l.find(name)
	switch {
	case !ok:
		return thing{}, nil
	case l.items[i].kind != hub.Directory:
		return thing{kind: isFile, held: s.heldAt(l, i)}, nil
	}
	th := thing{kind: isDir, mtime: l.items[i].mtime}
	if deletes {
		shown, err := s.shows(path)
		if err != nil {
			return thing{}, err
		}
		if !shown {
			th.kind = isNone
		}
	}
	return th, nil
}

// decided is what the layer says of a path. ok is false if it went meanwhile,
// and then the snapshot says.
func (s *sight) decided(path string, kind writeback.Kind) (th thing, ok bool) {
	c, found := s.layer.Get(path)
	if found {
		th = thing{change: &c, since: c.Since}
	}
	switch {
	case kind == writeback.Folder:
		th.kind = isDir
		return th, true
	case !found:
		return thing{}, false
	}
	switch c.Kind {
	case writeback.Put:
		th.kind, th.file = isFile, c.File
		if c.File == nil {
			th.held, th.from = s.o.v.heldOf(c.From, s.fromTime(c.From)), true
		}
	case writeback.Symlink:
		th.kind, th.target = isLink, c.Target
	case writeback.Folder:
		th.kind = isDir
	}
	return th, true
}

// fromTime is the time of a renamed file: that of its old line, if it is known.
func (s *sight) fromTime(p *writeback.Place) time.Time {
	dir, name := split(p.Entry.Path)
	if l := s.st.local(dir); l != nil {
		if i, ok := l.find(name); ok && l.entry(i).Content() == p.Entry.Content() {
			return time.UnixMilli(l.items[i].mtime)
		}
	}
	return p.Snapshot.Time
}

func (s *sight) heldAt(l *listing, i int) *held {
	h := &held{st: s.st, dir: l.dir, line: l.items[i]}
	h.line.name = strings.Clone(h.line.name)
	if x := l.extOf(i); x != nil {
		c := *x
		h.more = &c
	}
	return h
}

// shows reports whether a directory of the snapshot has anything to show, or
// was empty without our doing.
func (s *sight) shows(path string) (bool, error) {
	return s.showsBeside(path, "")
}

// showsBeside is shows, with one name left out of account.
func (s *sight) showsBeside(path, but string) (bool, error) {
	shown, deletes := 0, 0
	if s.layer != nil {
		shown, deletes = s.layer.Beneath(path)
	}
	if shown+deletes == 0 && but == "" {
		return true, nil
	}
	l, err := s.listing(path)
	if err != nil {
		return false, err
	}
	// Without a look at each: no change hides more than one line.
	if l != nil && len(l.items) > shown+deletes+1 {
		return true, nil
	}
	var d writeback.DirChanges
	if shown+deletes > 0 {
		if but != "" && shown > 1 {
			if k, decided, _ := s.layer.Name(path, but); decided && k != writeback.Folder {
				return true, nil // but is only one of them
			}
		}
		d = s.layer.Dir(path)
	}
	for n, k := range d.Names {
		if k != writeback.Delete && n != but {
			return true, nil
		}
	}
	if l == nil {
		return false, nil
	}
	for i := range l.items {
		name := l.items[i].name
		if _, ok := d.Names[name]; ok || name == but {
			continue
		}
		if l.items[i].kind == hub.Directory && d.Deletes[name] {
			shown, err := s.shows(join(path, name))
			if err != nil {
				return false, err
			}
			if !shown {
				continue
			}
		}
		return true, nil
	}
	return false, nil
}

// child is one line of a merged directory. line is that of the snapshot,
// negative if a change decides.
type child struct {
	name string
	kind writeback.Kind // of a change; Put and Folder of the snapshot's
	line int
}

// list merges a directory. l is its listing in the snapshot, nil if it has
// none.
func (s *sight) list(path string) (out []child, l *listing, d writeback.DirChanges, err error) {
	if s.layer != nil {
		d = s.layer.Dir(path)
	}
	if l, err = s.listing(path); err != nil {
		return nil, nil, d, err
	}
	names := slices.Sorted(maps.Keys(d.Names))
	n := len(names)
	if l != nil {
		n += len(l.items)
	}
	out = make([]child, 0, n)
	local := func(name string) {
		if k := d.Names[name]; k != writeback.Delete {
			out = append(out, child{name, k, -1})
		}
	}
	if l != nil {
		for i := range l.items {
			name := l.items[i].name
			for len(names) > 0 && names[0] < name {
				local(names[0])
				names = names[1:]
			}
			if len(names) > 0 && names[0] == name {
				local(name)
				names = names[1:]
				continue
			}
			c := child{name, writeback.Put, i}
			if l.items[i].kind == hub.Directory {
				c.kind = writeback.Folder
				if d.Deletes[name] {
					shown, err := s.shows(join(path, name))
					if err != nil {
						return nil, nil, d, err
					}
					if !shown {
						continue
					}
				}
			}
			out = append(out, c)
		}
	}
	for _, name := range names {
		local(name)
	}
	return out, l, d, nil
}

// glimpse runs look on what is there now, without locks, and then take, with
// overlay.mu held, if no name changed between the two; else it does it again
// with the names locked. What a commit takes out of the layer counts: look may
// have missed it there, and have a snapshot from before.
func (o *overlay) glimpse(ctx context.Context, look func(*sight) error, take func()) error {
	layer := o.look(ctx)
	seq := o.seq.Load()
	if seq%2 == 0 {
		s := sight{o: o, layer: layer, ctx: ctx}
		s.begin()
		err := o.v.afresh(ctx, func(st *state) error {
			s.st = st
			return look(&s)
		})
		o.mu.Lock()
		if o.seq.Load() == seq && !s.raced() {
			if err == nil {
				take()
			}
			o.mu.Unlock()
			return err
		}
		o.mu.Unlock()
	}
	return o.locked(ctx, func(s *sight) error {
		if err := look(s); err != nil {
			return err
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		if s.raced() {
			return writeback.ErrRaced
		}
		take()
		return nil
	})
}

// lookupMerged finds a name in a directory of a writable view.
func (d *repoDir) lookupMerged(ctx context.Context, name string) (node Node, err error) {
	o, th := d.spot.o, thing{}
	err = o.glimpse(ctx, func(s *sight) error {
		var err error
		if d.spot.gone.Load() {
			return missing(name)
		}
		if th, err = s.at(d.spot.where(), name); err == nil && th.kind == isNone {
			err = missing(name)
		}
		return err
	}, func() {
		d.spot.track(d.a.alias)
		node = o.nodeAt(d.a, d.spot, name, &th)
	})
	if err != nil {
		// The kernel may remember that there is no such name.
		o.mu.Lock()
		d.spot.track(d.a.alias)
		o.mu.Unlock()
	}
	return node, err
}

// nodeAt makes the node of what is at a name. overlay.mu is held.
func (o *overlay) nodeAt(a *anchor, p *spot, name string, th *thing) Node {
	if th.kind == isDir {
		return o.dirNode(a, o.dirAt(p, name))
	}
	return o.fileAt(p, name, th).node(a)
}

// node shows an inode at one place of the mount. overlay.mu is held.
func (k *inode) node(a *anchor) Node {
	if k.link {
		return &Symlink{num: numAt(k.num, a.alias), target: k.target, since: k.since, a: a, w: k}
	}
	return &File{a: a, num: numAt(k.num, a.alias), w: k}
}

func (o *overlay) dirNode(a *anchor, s *spot) *Dir {
	return &Dir{&repoDir{a: a, num: s.num(a), spot: s}}
}

// listMerged lists a directory of a writable view.
func (d *repoDir) listMerged(ctx context.Context) (entries []DirEntry, version uint64, err error) {
	o := d.spot.o
	var kids []child
	var l *listing
	var changes writeback.DirChanges
	err = o.glimpse(ctx, func(s *sight) error {
		var err error
		if d.spot.gone.Load() {
			kids, l, changes = nil, nil, writeback.DirChanges{}
			return nil
		}
		kids, l, changes, err = s.list(d.spot.where())
		return err
	}, func() {
		d.spot.track(d.a.alias)
		entries = make([]DirEntry, len(kids))
		path := d.spot.where()
		for i, c := range kids {
			entries[i] = o.entry(d.a, d.spot, path, c, l)
		}
	})
	if err != nil {
		return nil, 0, err
	}
	if l != nil {
		version = l.version
	}
	if changes.Version != 0 {
		version = xxhash.Sum64(appendUint64s(nil, version, changes.Version))
	}
	return entries, version, nil
}

func appendUint64s(b []byte, vs ...uint64) []byte {
	for _, v := range vs {
		for range 8 {
			b = append(b, byte(v))
			v >>= 8
		}
	}
	return b
}

// entry says what a lookup of the name will say. overlay.mu is held.
func (o *overlay) entry(a *anchor, p *spot, path string, c child, l *listing) DirEntry {
	e := DirEntry{Name: c.name}
	kid := p.kids[c.name]
	switch c.kind {
	case writeback.Folder:
		e.Mode = iofs.ModeDir
		if s := kid.d.Value(); s != nil {
			e.Ino = s.num(a)
		} else if e.Ino = a.dirIno(join(path, c.name)); o.away[o.first().dirIno(join(path, c.name))].Value() != nil {
			e.Ino = o.dirAt(p, c.name).num(a)
		}
		return e
	case writeback.Symlink:
		e.Mode = iofs.ModeSymlink
	}
	k := kid.f.Value()
	if c.line < 0 {
		layer := o.layer.Load()
		if ch, ok := layer.Get(join(path, c.name)); ok && (k == nil || ch.File == nil || ch.File != k.local) {
			k = o.localAt(p, c.name, &ch)
		}
	} else if k != nil {
		h := heldLine(l, c.line)
		if k.held == nil || !k.held.same(&h) {
			k = nil
		}
	}
	switch {
	case k != nil:
		e.Ino = numAt(k.num, a.alias)
	case c.line >= 0:
		num := o.first().fileIno(l.dir, l, c.line)
		if o.moved[num].Value() != nil {
			h := heldLine(l, c.line)
			h.st, h.line.name = o.v.cur.Load(), strings.Clone(h.line.name)
			num = o.fileAt(p, c.name, &thing{kind: isFile, held: &h}).num
		}
		e.Ino = numAt(num, a.alias)
	default:
		// It went while it was listed: a lookup will say so.
		e.Ino = inoOf("local", o.v.ref.Repo.String(), o.v.ref.Revision, join(path, c.name))
	}
	return e
}

// localAt is the file or link of a change. overlay.mu is held.
func (o *overlay) localAt(p *spot, name string, c *writeback.Change) *inode {
	switch c.Kind {
	case writeback.Put:
		th := &thing{kind: isFile, file: c.File, since: c.Since}
		if c.File == nil {
			th.held, th.from = o.v.heldOf(c.From, c.From.Snapshot.Time), true
		}
		return o.fileAt(p, name, th)
	case writeback.Symlink:
		return o.fileAt(p, name, &thing{kind: isLink, target: c.Target, since: c.Since})
	}
	return nil
}

func heldLine(l *listing, i int) held {
	h := held{dir: l.dir, line: l.items[i]}
	if x := l.extOf(i); x != nil {
		h.more = x
	}
	return h
}
