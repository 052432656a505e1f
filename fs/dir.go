package fs

import (
	"context"
	iofs "io/fs"
	"time"

	"hfmount/remote/hub"
)

// Attr is what stat shows. Owner and permission bits are the mount's affair.
type Attr struct {
	Ino   uint64
	Mode  iofs.FileMode // type bits, and 0444 or 0555
	Size  int64
	Mtime time.Time
	// Atime and Ctime are zero where nobody knows better: as Mtime.
	Atime, Ctime time.Time
	Owner        *Owner // nil: the mount's
	Writable     bool   // Mode's permission bits are to be shown as they are
	Chosen       bool   // somebody gave it its mode: no umask applies
}

// Node is a *Dir, *File or *Symlink.
type Node interface {
	Attr(ctx context.Context) (Attr, error)
	// Ino is the deterministic inode number, the same after a remount.
	Ino() uint64
	// Mode is the type bits alone.
	Mode() iofs.FileMode
	// Xattrs returns the user.hf.* attributes (cli.md).
	Xattrs(ctx context.Context) (map[string]string, error)
	// TTL is how long the kernel may keep name and attributes unasked. Where
	// Dir.NameTTL says otherwise of the name, that holds.
	TTL() time.Duration
}

// Dir is a directory. What it is a directory of is its kind's affair, so that
// further layouts of the same tree, or a layer of local changes, are further
// kinds.
type Dir struct{ kind dirKind }

// dirKind answers for one directory.
type dirKind interface {
	ino() uint64
	mtime(ctx context.Context) (time.Time, error)
	// lookup is asked only for names that could be in a directory.
	lookup(ctx context.Context, name string) (Node, error)
	list(ctx context.Context) (entries []DirEntry, version uint64, err error)
	xattrs(ctx context.Context) (map[string]string, error)
	// ttl holds for the directory and for the lack of a name in it.
	ttl() time.Duration
}

// Attr implements Node.
func (d *Dir) Attr(ctx context.Context) (Attr, error) {
	t, err := d.kind.mtime(ctx)
	if err != nil {
		return Attr{}, err
	}
	a := Attr{Ino: d.Ino(), Mode: iofs.ModeDir | 0o555, Mtime: t}
	switch k := d.kind.(type) {
	case *repoDir:
		if k.spot != nil {
			k.spot.override(&a)
		}
	case *spaceDir:
		if k.mayCreate() {
			a.Mode, a.Writable = iofs.ModeDir|0o755, true
		}
	}
	return a, nil
}

// Ino implements Node.
func (d *Dir) Ino() uint64 { return d.kind.ino() }

// Mode implements Node.
func (d *Dir) Mode() iofs.FileMode { return iofs.ModeDir }

// Xattrs implements Node.
func (d *Dir) Xattrs(ctx context.Context) (map[string]string, error) { return d.kind.xattrs(ctx) }

// TTL implements Node.
func (d *Dir) TTL() time.Duration { return d.kind.ttl() }

// Lookup returns the child, or an error that is io/fs.ErrNotExist only if the
// child is known not to exist.
func (d *Dir) Lookup(ctx context.Context, name string) (Node, error) {
	if len(name) > hub.MaxName {
		return nil, &iofs.PathError{Op: "lookup", Path: name[:32] + "…", Err: ErrNameTooLong}
	}
	if hub.CheckName(name) != nil {
		return nil, missing(name)
	}
	return d.kind.lookup(ctx, name)
}

// NameTTL is how long the kernel may believe that a name is n, or with nil that
// it does not exist. Where the Notifier hears of each change of a name, that is
// for ever. Then the directory's own TTL, which is short, makes the kernel ask
// something now and then while the view is in use: else nobody would look at
// the branch.
func (d *Dir) NameTTL(n Node) time.Duration {
	r, ok := d.kind.(*repoDir)
	fixed := ok && r.spot == nil
	switch {
	case fixed && r.a.tracks(r.path):
		return forever
	case fixed || n == nil:
		return d.kind.ttl()
	}
	return n.TTL()
}

// DirEntry is one line of a directory.
type DirEntry struct {
	Name string
	Ino  uint64
	Mode iofs.FileMode // type bits
}

// repoDir is a directory of a repository.
type repoDir struct {
	a    *anchor
	path string
	num  uint64
	spot *spot // in a writable view, and then path is unused
	// listed is when the repository was last changed, by a listing of its
	// namespace; zero if the view was resolved before the directory was shown.
	listed time.Time
}

func (a *anchor) dir(path string) *Dir {
	if o := a.view.over; o != nil {
		return o.dirNode(a, o.spotAt(path))
	}
	return &Dir{&repoDir{a: a, path: path, num: a.dirIno(path)}}
}

// child returns the node of a line of a listing.
func (a *anchor) child(st *state, dir string, l *listing, i int) Node {
	if l.items[i].kind == hub.Directory {
		return a.dir(join(dir, l.items[i].name))
	}
	return newFile(a, st, dir, l, i)
}

func (d *repoDir) ino() uint64 { return d.num }

func (d *repoDir) ttl() time.Duration { return d.a.view.ttl() }

func (d *repoDir) mtime(ctx context.Context) (t time.Time, err error) {
	if d.spot != nil {
		return d.spot.mtime(ctx, d.listed)
	}
	if d.path == "" && d.a.view.cur.Load() == nil && !d.listed.IsZero() {
		// It was only seen from afar: a long listing of a namespace is not
		// worth a request for each line.
		return d.listed, nil
	}
	err = d.a.view.afresh(ctx, func(st *state) error {
		if d.path == "" {
			t = st.date()
			return nil
		}
		l, i, err := st.lookup(ctx, d.path)
		if err == nil {
			t = time.UnixMilli(l.items[i].mtime)
		}
		return err
	})
	return t, err
}

func (d *repoDir) lookup(ctx context.Context, name string) (node Node, err error) {
	if d.spot != nil {
		return d.lookupMerged(ctx, name)
	}
	d.a.track(d.path)
	err = d.a.view.afresh(ctx, func(st *state) error {
		l, err := st.listing(ctx, d.path)
		if err != nil {
			return err
		}
		i, ok := l.find(name)
		if !ok {
			return missing(name)
		}
		node = d.a.child(st, d.path, l, i)
		return nil
	})
	return node, err
}

func (d *repoDir) list(ctx context.Context) (entries []DirEntry, version uint64, err error) {
	return d.listMerged(ctx) // Dir.Listing asks shown where nothing is merged
}

// shown is the present listing of a directory of a view that is only read.
func (d *repoDir) shown(ctx context.Context) (l *listing, err error) {
	d.a.track(d.path)
	err = d.a.view.afresh(ctx, func(st *state) error {
		l, err = st.listing(ctx, d.path)
		return err
	})
	return l, err
}
