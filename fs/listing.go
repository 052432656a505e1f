package fs

import (
	"encoding/hex"
	"slices"
	"strings"
	"unsafe"

	"github.com/cespare/xxhash/v2"

	"hfmount/remote/hub"
)

// maxEntries bounds one listing, in entries, so that a server cannot fill the
// memory.
const maxEntries = 2_000_000

// gitID is a git object id.
type gitID [20]byte

// parseID reads 40 hexadecimal digits; false if they are not that.
func parseID(s string) (id gitID, ok bool) {
	if len(s) != 2*len(id) {
		return id, false
	}
	_, err := hex.Decode(id[:], []byte(s))
	return id, err == nil
}

func (id gitID) String() string { return hex.EncodeToString(id[:]) }

// item is one line of a listing. The name is part of one string that all
// lines share; the path is the listing's.
type item struct {
	name  string
	size  int64
	mtime int64 // milliseconds since 1970
	oid   gitID
	ext   int32 // index into listing.exts, -1 for none
	kind  hub.EntryType
}

// ext is what LFS and Xet files have beside.
type ext struct {
	sha, xet    [32]byte
	lfs, hasXet bool
}

// listing is a directory of a repository, complete and immutable.
type listing struct {
	repo    hub.Repo
	dir     string // path from the root of the repository
	key     gitID  // the git tree; for the root, the commit
	date    int64  // since when it is so, milliseconds since 1970
	items   []item // sorted by name
	exts    []ext
	version uint64 // a hash of names, types and contents
	bytes   int64  // memory it takes
}

// find returns the index of name.
func (l *listing) find(name string) (int, bool) {
	return slices.BinarySearchFunc(l.items, name, func(it item, name string) int {
		return strings.Compare(it.name, name)
	})
}

func (l *listing) extOf(i int) *ext {
	if n := l.items[i].ext; n >= 0 {
		return &l.exts[n]
	}
	return nil
}

// entry returns a line as the Hub gave it.
func (l *listing) entry(i int) hub.Entry { return entryOf(l.dir, &l.items[i], l.extOf(i)) }

func entryOf(dir string, it *item, x *ext) hub.Entry {
	e := hub.Entry{Path: join(dir, it.name), Type: it.kind, Size: it.size, OID: it.oid.String()}
	if x != nil && x.lfs {
		e.SHA256 = hex.EncodeToString(x.sha[:])
	}
	if x != nil && x.hasXet {
		e.XetHash = hex.EncodeToString(x.xet[:])
	}
	return e
}

// sameContent reports whether two lines show the same file or directory.
func sameContent(a, b *listing, i, j int) bool {
	x, y := &a.items[i], &b.items[j]
	if x.kind != y.kind || x.oid != y.oid || x.size != y.size {
		return false
	}
	p, q := a.extOf(i), b.extOf(j)
	pl, ql := p != nil && p.lfs, q != nil && q.lfs
	return pl == ql && (!pl || p.sha == q.sha)
}

// builder collects the lines of one directory. It copies what it keeps.
type builder struct {
	dir   string
	items []item
	exts  []ext
	names []byte
	ends  []uint32 // where the name of each item ends in names
}

// add checks and takes one line, which must be directly in the directory. Any
// line that cannot be what it says spoils the whole listing.
func (b *builder) add(e hub.Entry) error {
	if err := e.Check(); err != nil {
		return badAnswer("%v", err)
	}
	dir, name := split(e.Path)
	if dir != b.dir {
		return badAnswer("%q listed in %q", e.Path, b.dir)
	}
	if len(b.items) >= maxEntries || len(b.names)+len(name) > 1<<31 {
		return badAnswer("more than %d entries in %q", maxEntries, b.dir)
	}
	if e.Type != hub.File && e.Type != hub.Directory {
		return nil
	}
	it := item{size: e.Size, kind: e.Type, ext: -1}
	it.oid, _ = parseID(e.OID) // by Check
	if e.Type == hub.File && (e.SHA256 != "" || e.XetHash != "") {
		var x ext
		if e.SHA256 != "" {
			x.lfs = decode32(&x.sha, e.SHA256)
		}
		// A Xet hash is only shown, never relied on: a bad one is none.
		x.hasXet = decode32(&x.xet, e.XetHash)
		if x.lfs || x.hasXet {
			it.ext = int32(len(b.exts))
			b.exts = append(b.exts, x)
		}
	}
	if e.Type == hub.Directory {
		it.size = 0
	}
	b.items = append(b.items, it)
	b.names = append(b.names, name...)
	b.ends = append(b.ends, uint32(len(b.names)))
	return nil
}

func decode32(dst *[32]byte, s string) bool {
	if len(s) != 64 {
		return false
	}
	_, err := hex.Decode(dst[:], []byte(s))
	return err == nil
}

// finish makes the listing. A line that shows the same as the line of that
// name in one of earlier (best first) has its time, any other has that of the
// directory: what it holds is as old as it is.
func (b *builder) finish(repo hub.Repo, at treeAt, earlier []*listing) (*listing, error) {
	l := &listing{repo: repo, dir: b.dir, key: at.key, date: at.date, items: slices.Clone(b.items), exts: slices.Clone(b.exts)}
	all, from := string(b.names), uint32(0)
	for i := range l.items {
		l.items[i].name = all[from:b.ends[i]]
		from = b.ends[i]
	}
	slices.SortFunc(l.items, func(a, b item) int { return strings.Compare(a.name, b.name) })
	for i := range l.items {
		if i > 0 && l.items[i].name == l.items[i-1].name {
			return nil, badAnswer("%q is listed twice", join(l.dir, l.items[i].name))
		}
		l.items[i].mtime = l.date
		for _, old := range earlier {
			if j, ok := old.find(l.items[i].name); ok && sameContent(l, old, i, j) {
				l.items[i].mtime = old.items[j].mtime
				break
			}
		}
	}
	l.seal(len(all))
	return l, nil
}

// seal computes what follows from the lines.
func (l *listing) seal(names int) {
	d := xxhash.New()
	for i := range l.items {
		it := &l.items[i]
		_, _ = d.WriteString(it.name)
		_, _ = d.Write([]byte{0, byte(it.kind)})
		_, _ = d.Write(it.oid[:])
	}
	l.version = d.Sum64()
	l.bytes = int64(unsafe.Sizeof(*l)) + int64(len(l.dir)+names) +
		int64(cap(l.items))*int64(unsafe.Sizeof(item{})) + int64(cap(l.exts))*int64(unsafe.Sizeof(ext{}))
}

// join puts a name behind a path, either of which may be empty.
func join(dir, name string) string {
	if dir == "" {
		return name
	}
	if name == "" {
		return dir
	}
	return dir + "/" + name
}

// split cuts a path before its last component.
func split(path string) (dir, name string) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return "", path
}
