package fs

import (
	iofs "io/fs"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"weak"

	"github.com/cespare/xxhash/v2"

	"hfmount/remote/hub"
	"hfmount/writeback"
)

// A spot is one directory of a writable view and an inode one file or link of
// it, as long as anybody has it: the kernel through a node, a handle, or kept.
// The tables hold them weakly, so that they are as many as the kernel's.
//
// A number belongs to one of them at a time. Most have the number of their
// place, a hash, as in a view that is only read; whoever is moved keeps what
// it has, and then the next at that place gets a fresh one.

// seedOf is what a number is made of.
type seedOf struct {
	path  string // of a directory, where its number is from
	fresh uint64 // not 0: of none
}

// spot is a directory.
type spot struct {
	o    *overlay
	seed seedOf
	path atomic.Pointer[string] // where it is, or was
	gone atomic.Bool            // it was removed

	// Guarded by overlay.mu.
	parent  *spot // nil for the root, and for one that was removed
	name    string
	kids    map[string]kid
	grown   int       // the size of kids at which the dead are taken out
	shownAt []string  // the aliases at which the kernel may know names
	since   time.Time // of the last change of a name in it
	meta    overrides
}

// kid is what a name of a directory is; one of the two.
type kid struct {
	d weak.Pointer[spot]
	f weak.Pointer[inode]
}

// overrides are what chmod, chown and utimes said.
type overrides struct {
	mode         *iofs.FileMode
	owner        *Owner
	atime, mtime time.Time
	// of is the time the local bytes had when mtime was set: a later write
	// overrides it again.
	of time.Time
}

func (m *overrides) set() bool {
	return m.mode != nil || m.owner != nil || !m.mtime.IsZero() || !m.atime.IsZero()
}

func newSpot(o *overlay, parent *spot, name string, seed seedOf) *spot {
	s := &spot{o: o, seed: seed, parent: parent, name: name, kids: make(map[string]kid), grown: 64}
	path := name
	if parent != nil {
		path = join(*parent.path.Load(), name)
	}
	s.path.Store(&path)
	return s
}

func (s *spot) where() string { return *s.path.Load() }

// num is the inode number at one place of the mount.
func (s *spot) num(a *anchor) uint64 {
	if s.seed.fresh == 0 {
		return a.dirIno(s.seed.path)
	}
	return numAt(s.seed.fresh, a.alias)
}

// numAt is a number at another place of the mount than the first.
func numAt(num uint64, alias string) uint64 {
	if alias == "" {
		return num
	}
	return inoOf(strconv.FormatUint(num, 16), alias)
}

// put sets a name. overlay.mu is held.
func (s *spot) put(name string, k kid) {
	if len(s.kids) >= s.grown {
		for n, k := range s.kids {
			if k.d.Value() == nil && k.f.Value() == nil {
				delete(s.kids, n)
			}
		}
		s.grown = max(64, 2*len(s.kids))
	}
	s.kids[name] = k
}

// fresh makes a number that nobody has. overlay.mu is held.
func (o *overlay) fresh() uint64 {
	for {
		o.count++
		n := inoOf("new", o.v.ref.Repo.String(), o.v.ref.Revision, strconv.FormatInt(o.v.t.started.UnixNano(), 36), strconv.FormatUint(o.count, 36))
		if o.moved[n].Value() == nil && o.away[n].Value() == nil {
			return n
		}
	}
}

// stray notes that an inode has a number that is not its place's. overlay.mu
// is held.
func (o *overlay) stray(k *inode) {
	o.clean()
	o.moved[k.num] = weak.Make(k)
}

// astray is stray for a directory.
func (o *overlay) astray(s *spot) {
	o.clean()
	o.away[s.num(o.first())] = weak.Make(s)
}

func (o *overlay) first() *anchor { return &anchor{view: o.v} }

func (o *overlay) clean() {
	if len(o.moved)+len(o.away) < o.sweep {
		return
	}
	for n, w := range o.moved {
		if w.Value() == nil {
			delete(o.moved, n)
		}
	}
	for n, w := range o.away {
		if w.Value() == nil {
			delete(o.away, n)
		}
	}
	o.sweep = max(1<<10, 2*(len(o.moved)+len(o.away)))
}

// keep holds on to an *inode or *spot which is worth more than what a new
// look at its name would make. overlay.mu is held.
func (o *overlay) keep(x any) { o.kept.Add(x, struct{}{}) }

// dirAt returns the directory that name is. overlay.mu is held.
func (o *overlay) dirAt(p *spot, name string) *spot {
	if s := p.kids[name].d.Value(); s != nil {
		return s
	}
	if old := p.kids[name].f.Value(); old != nil {
		o.detach(old)
	}
	path := join(p.where(), name)
	seed := seedOf{path: path}
	if x := o.away[o.first().dirIno(path)].Value(); x != nil {
		seed = seedOf{fresh: o.fresh()}
	}
	s := newSpot(o, p, name, seed)
	if seed.fresh != 0 {
		o.astray(s)
		o.keep(s)
	}
	p.put(name, kid{d: weak.Make(s)})
	return s
}

// spotAt returns the directory at a path.
func (o *overlay) spotAt(path string) *spot {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.root
	for path != "" {
		name := path
		if i := strings.IndexByte(path, '/'); i >= 0 {
			name, path = path[:i], path[i+1:]
		} else {
			path = ""
		}
		s = o.dirAt(s, name)
	}
	return s
}

// removeDir takes a directory out of the tables. overlay.mu is held.
func (o *overlay) removeDir(p *spot, name string) {
	s := p.kids[name].d.Value()
	delete(p.kids, name)
	if s != nil {
		s.gone.Store(true)
		s.parent = nil
		o.astray(s)
		o.kept.Remove(s)
	}
}

// rehang moves a directory with all beneath it. overlay.mu is held.
func (o *overlay) rehang(s, to *spot, name string) {
	s.parent, s.name = to, name
	to.put(name, kid{d: weak.Make(s)})
	o.astray(s)
	o.keep(s)
	s.repath(join(to.where(), name))
	o.strayBelow(s)
}

// repath sets where s and all beneath it are.
func (s *spot) repath(path string) {
	s.path.Store(&path)
	for name, k := range s.kids {
		if d := k.d.Value(); d != nil {
			d.repath(join(path, name))
		}
	}
}

// strayBelow notes that no number beneath s is its place's any more.
func (o *overlay) strayBelow(s *spot) {
	for _, k := range s.kids {
		if d := k.d.Value(); d != nil {
			o.astray(d)
			o.keep(d)
			o.strayBelow(d)
		}
		if f := k.f.Value(); f != nil {
			o.stray(f)
			o.keep(f)
		}
	}
}

// inode is a file or symbolic link: one identity, whatever its name and bytes
// become.
type inode struct {
	o        *overlay
	num, gen uint64
	// bytes counts how often they became another's: the Hub's, or those of
	// another writeback.File. A handle with an older count opens anew.
	bytes atomic.Uint64

	// Guarded by overlay.mu.
	parent *spot // nil: it has no name
	name   string
	tmp    bool // never had a name, may get one
	frozen bool // another inode has its name, see File.Detach
	link   bool
	target string // of a link
	since  time.Time
	local  *writeback.File // bytes that are not the Hub's, or were not
	held   *held           // bytes that the Hub has; nil for none
	// adopted: the bytes of local were committed as held, and are in the cache.
	adopted bool
	// settled is the local file whose bytes were committed as held.
	settled *writeback.File
	opens   uint64 // for writing, so far
	meta    overrides
	writers map[*opened]struct{}
	readers map[*opened]struct{}
}

// held is bytes that the Hub has: a line of a listing, without the listing, so
// that a file does not keep that of a large directory in memory.
type held struct {
	st   *state // what it was found in
	dir  string
	line item
	more *ext // nil for a file in git
}

func (h *held) entry() hub.Entry       { return entryOf(h.dir, &h.line, h.more) }
func (h *held) content() hub.ContentID { return h.entry().Content() }

// same reports whether two have the same bytes.
func (h *held) same(b *held) bool {
	if h.line.size != b.line.size || h.lfs() != b.lfs() {
		return false
	}
	if h.lfs() {
		return h.more.sha == b.more.sha
	}
	return h.line.oid == b.line.oid
}

func (h *held) lfs() bool { return h.more != nil && h.more.lfs }

// heldOf takes a place of a change for a line.
func (v *view) heldOf(p *writeback.Place, mtime time.Time) *held {
	e := p.Entry
	dir, name := split(e.Path)
	h := &held{st: newState(v, p.Snapshot), dir: dir, line: item{name: name, size: e.Size, kind: hub.File, ext: -1, mtime: mtime.UnixMilli()}}
	h.line.oid, _ = parseID(e.OID)
	var x ext
	x.lfs = e.SHA256 != "" && decode32(&x.sha, e.SHA256)
	x.hasXet = decode32(&x.xet, e.XetHash)
	if x.lfs || x.hasXet {
		h.more = &x
	}
	return h
}

// num is the number a file of these bytes has at its place.
func (h *held) num(a *anchor, path string) uint64 {
	dir, name := split(path)
	l := listing{items: []item{h.line}}
	l.items[0].name, l.items[0].ext = name, -1
	if h.more != nil {
		l.items[0].ext, l.exts = 0, []ext{*h.more}
	}
	return a.fileIno(dir, &l, 0)
}

// gen tells contents apart: the start of the hash.
func (h *held) gen() uint64 { return genOf(h.content()) }

func genOf(id hub.ContentID) uint64 {
	gen, err := strconv.ParseUint(id.Hex[:min(16, len(id.Hex))], 16, 64)
	if err != nil {
		return 0 // no hash, no promise
	}
	return gen
}

// freshGen tells an inode from all others of its number.
func (o *overlay) freshGen() uint64 {
	o.count++
	return xxhash.Sum64String(strconv.FormatUint(o.count, 36) + "/" + strconv.FormatInt(o.v.t.started.UnixNano(), 36))
}

// fileAt returns the file or link that name is, as th says. overlay.mu is held.
func (o *overlay) fileAt(p *spot, name string, th *thing) *inode {
	if k := p.kids[name].f.Value(); k != nil {
		if k.take(th) {
			return k
		}
		o.detach(k)
	}
	if d := p.kids[name].d.Value(); d != nil {
		o.removeDir(p, name)
	}
	k := &inode{o: o, parent: p, name: name, local: th.file, held: th.held, link: th.kind == isLink, target: th.target, since: th.since}
	path := join(p.where(), name)
	natural := uint64(0)
	switch {
	case k.local != nil || k.link:
		natural = inoOf("local", o.v.ref.Repo.String(), o.v.ref.Revision, path)
		k.gen = o.freshGen()
	case th.from:
		// It was moved here by an earlier mount, or the kernel forgot it.
		natural = k.held.num(o.first(), k.held.entry().Path)
		k.gen = k.held.gen()
	default:
		natural = k.held.num(o.first(), path)
		k.gen = k.held.gen()
	}
	k.num = natural
	if o.moved[natural].Value() != nil {
		k.num, k.gen = o.fresh(), o.freshGen()
		o.keep(k)
	}
	if k.num != natural || th.from {
		o.stray(k)
	}
	p.put(name, kid{f: weak.Make(k)})
	return k
}

// take reports whether k is what th says its name is, and takes the news of
// where the bytes are. overlay.mu is held.
func (k *inode) take(th *thing) bool {
	switch {
	case th.kind == isLink || k.link:
		return th.kind == isLink && k.link && th.target == k.target
	case th.file != nil:
		return th.file == k.local
	case k.held == nil || !k.held.same(th.held):
		return false
	}
	if k.local != nil {
		// They are on the Hub, and the layer has let go of them.
		if !k.adopted && !k.pinnedTime() {
			if t := k.local.Mtime(); !t.IsZero() {
				k.meta.mtime = t
			}
		}
		// Handles stay with the local bytes, which are the same.
		k.local, k.adopted = nil, false
		k.o.keep(k)
	}
	if !th.from && k.held.st != th.held.st {
		k.held = th.held
	}
	return true
}

// pinnedTime reports whether utimes was called after the last write.
func (k *inode) pinnedTime() bool {
	return !k.meta.mtime.IsZero() && (k.local == nil || k.local.Mtime().Equal(k.meta.of))
}

// detach takes a file's name away from it; whoever has it open goes on.
// overlay.mu is held.
func (o *overlay) detach(k *inode) {
	if k.parent != nil && k.parent.kids[k.name].f.Value() == k {
		delete(k.parent.kids, k.name)
	}
	k.parent = nil
	o.stray(k)
	o.kept.Remove(k)
}

// rename gives a file another name. overlay.mu is held.
func (o *overlay) rename(k *inode, to *spot, name string) {
	if k.parent != nil && k.parent.kids[k.name].f.Value() == k {
		delete(k.parent.kids, k.name)
	}
	k.parent, k.name = to, name
	to.put(name, kid{f: weak.Make(k)})
	o.stray(k)
	o.keep(k)
}

// path is where the file is, "" for one without a name. overlay.mu is held.
func (k *inode) path() string {
	if k.parent == nil {
		return ""
	}
	return join(k.parent.where(), k.name)
}

// present says what the bytes are now: local ones, or the Hub's. overlay.mu is
// held.
func (k *inode) present() (*writeback.File, *held) {
	if k.local == nil || k.adopted {
		return nil, k.held
	}
	if k.settled == k.local && k.local.Landed() {
		return nil, k.held
	}
	// Not what the layer has at the name: that may be another's already, while
	// this inode is about to lose it. Bytes that the layer let go of for any
	// other reason cannot be opened, and a new look at the name finds others.
	return k.local, nil
}

// named reports whether the layer has the local bytes at the file's name.
// overlay.mu is held.
func (k *inode) named() bool {
	layer := k.o.layer.Load()
	if k.local == nil || k.parent == nil || layer == nil {
		return false
	}
	c, ok := layer.Get(k.path())
	return ok && c.File == k.local
}

// track remembers that the kernel may know names of the directory.
// overlay.mu is held.
func (s *spot) track(alias string) {
	if !slices.Contains(s.shownAt, alias) {
		s.shownAt = append(s.shownAt, alias)
	}
}

// live walks over all directories that anybody has. overlay.mu is held.
func (s *spot) live(f func(*spot)) {
	f(s)
	for _, k := range s.kids {
		if d := k.d.Value(); d != nil {
			d.live(f)
		}
	}
}
