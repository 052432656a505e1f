package writeback

import (
	"path"
	"slices"
	"strings"
	"time"
)

// change is what is different at one path; guarded by Layer.mu. What Change
// says of state, size and bytes is made when it is asked for.
type change struct {
	path   string
	kind   Kind
	file   *File
	from   *Place
	target string
	base   Base
	was    string
	moved  bool
	mark   State // Pending, or what the queue said
	reason string
	since  time.Time
	seq    uint64
	local  string // why it is never committed, "" if it may be
	// landed is the generation of file that the base has already: the change is
	// there only because somebody has the file open for writing. 0 is none.
	landed uint64
}

// replaces reports whether what stays local is in the place of a file that the
// Hub has.
func (c *change) replaces() bool {
	return (c.kind == Folder || c.kind == Symlink) && c.base.Entry != nil
}

// dirNode is what the index knows of one directory: what lies directly in it,
// and what lies beneath its subdirectories.
type dirNode struct {
	own     map[string]Kind
	shown   map[string]int // by subdirectory: changes beneath that show something
	deletes map[string]int // by subdirectory: deletes beneath
	version uint64
}

func (n *dirNode) empty() bool { return len(n.own) == 0 && len(n.shown) == 0 && len(n.deletes) == 0 }

// parentOf is the directory of a path, "" for the root's names.
func parentOf(p string) string {
	if i := strings.LastIndexByte(p, '/'); i >= 0 {
		return p[:i]
	}
	return ""
}

func baseOf(p string) string { return p[strings.LastIndexByte(p, '/')+1:] }

func (l *Layer) nodeLocked(dir string) *dirNode {
	n := l.dirs[dir]
	if n == nil {
		n = &dirNode{own: make(map[string]Kind)}
		l.dirs[dir] = n
	}
	return n
}

// setLocked puts c at its path, or nothing if c is nil, in place of what is
// there, and keeps index and versions. Versions come from one counter, so
// that a directory that is forgotten and comes back is never taken for its
// former self.
func (l *Layer) setLocked(p string, c *change) {
	old := l.changes[p]
	l.version++
	if old != nil && old.file != nil {
		old.file.unnameLocked(old)
	}
	if c == nil {
		delete(l.changes, p)
	} else {
		l.changes[p] = c
		if c.file != nil {
			c.file.at = append(c.file.at, c)
			c.file.fresh = false
		}
	}
	dir := parentOf(p)
	n := l.nodeLocked(dir)
	n.version = l.version
	if c == nil {
		delete(n.own, baseOf(p))
	} else {
		n.own[baseOf(p)] = c.kind
	}
	shown, deletes := weight(c, false)-weight(old, false), weight(c, true)-weight(old, true)
	for dir != "" {
		up, name := parentOf(dir), baseOf(dir)
		n := l.nodeLocked(up)
		crossed := count(&n.shown, name, shown)
		// What a directory of the Hub still shows changes with each delete.
		if count(&n.deletes, name, deletes) || deletes != 0 || crossed {
			n.version = l.version
		}
		l.trimLocked(dir)
		dir = up
	}
	l.trimLocked("")
}

func (l *Layer) trimLocked(dir string) {
	if n := l.dirs[dir]; n != nil && n.empty() {
		delete(l.dirs, dir)
	}
}

func weight(c *change, del bool) int {
	if c != nil && (c.kind == Delete) == del {
		return 1
	}
	return 0
}

// count adds to a counter and reports whether it became zero or ceased to be.
func count(m *map[string]int, name string, by int) bool {
	if by == 0 {
		return false
	}
	if *m == nil {
		*m = make(map[string]int)
	}
	was := (*m)[name]
	if was+by == 0 {
		delete(*m, name)
	} else {
		(*m)[name] = was + by
	}
	return (was == 0) != (was+by == 0)
}

// DirChanges is what the layer says of one directory.
type DirChanges struct {
	// Names are the names directly in it that the layer decides: a Put, Delete,
	// Symlink, or a Folder, the last also for a directory that exists only
	// because something local is beneath it.
	Names map[string]Kind
	// Deletes reports, by name, directories beneath which something is deleted:
	// whether the directory still shows anything must be looked at.
	Deletes map[string]bool
	// Version changes with Names and Deletes, and with each delete beneath.
	Version uint64
}

// Dir returns the changes directly in a directory ("" is the root). Ask it
// before the snapshot, never after: what a commit took out of the layer is in
// the snapshot by then.
func (l *Layer) Dir(dir string) DirChanges {
	l.mu.RLock()
	defer l.mu.RUnlock()
	n := l.dirs[dir]
	if n == nil {
		return DirChanges{}
	}
	d := DirChanges{Version: n.version, Names: make(map[string]Kind, len(n.own)+len(n.shown))}
	for name, k := range n.own {
		d.Names[name] = k
	}
	for name := range n.shown {
		if k, ok := d.Names[name]; !ok || k == Delete {
			d.Names[name] = Folder
		}
	}
	if len(n.deletes) > 0 {
		d.Deletes = make(map[string]bool, len(n.deletes))
		for name := range n.deletes {
			d.Deletes[name] = true
		}
	}
	return d
}

// Name is what [Layer.Dir] says of one name, without looking at the others.
// decided is false where the layer says nothing of it, and deletes reports
// that something beneath it is deleted.
func (l *Layer) Name(dir, name string) (k Kind, decided, deletes bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	n := l.dirs[dir]
	if n == nil {
		return 0, false, false
	}
	k, decided = n.own[name]
	if n.shown[name] > 0 && (!decided || k == Delete) {
		k, decided = Folder, true
	}
	return k, decided, n.deletes[name] > 0
}

// DirVersion is the Version that [Layer.Dir] would return.
func (l *Layer) DirVersion(dir string) uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if n := l.dirs[dir]; n != nil {
		return n.version
	}
	return 0
}

// Get returns the change at exactly p. A path beneath which something was put,
// without being a Folder itself, is not one.
func (l *Layer) Get(p string) (Change, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	c := l.changes[p]
	if c == nil {
		return Change{}, false
	}
	return l.showLocked(c), true
}

// Under returns all changes at and beneath a path, sorted by path; "" is all.
func (l *Layer) Under(p string) []Change {
	l.mu.RLock()
	defer l.mu.RUnlock()
	found := l.underLocked(p)
	out := make([]Change, len(found))
	for i, c := range found {
		out[i] = l.showLocked(c)
	}
	return out
}

func (l *Layer) underLocked(p string) []*change {
	var out []*change
	if c := l.changes[p]; c != nil {
		out = append(out, c)
	}
	var walk func(dir string)
	walk = func(dir string) {
		n := l.dirs[dir]
		if n == nil {
			return
		}
		for name := range n.own {
			out = append(out, l.changes[path.Join(dir, name)])
		}
		for name := range n.shown {
			walk(path.Join(dir, name))
		}
		for name := range n.deletes {
			if n.shown[name] == 0 {
				walk(path.Join(dir, name))
			}
		}
	}
	walk(p)
	slices.SortFunc(out, func(a, b *change) int { return strings.Compare(a.path, b.path) })
	return out
}

// showLocked is the change as others see it.
func (l *Layer) showLocked(c *change) Change {
	out := Change{
		Path: c.path, Kind: c.kind, File: c.file, From: c.from, Target: c.target, Base: c.base, Was: c.was,
		Since: c.since,
	}
	out.State, out.Reason = c.stateLocked()
	switch {
	case c.file != nil:
		out.Size = c.file.sizeLocked()
		if out.Since.Before(c.file.since) {
			out.Since = c.file.since
		}
	case c.from != nil:
		out.Size = c.from.Entry.Size
	}
	return out
}

// stateLocked is the state status names: what keeps a change from ever being
// sent comes before what only delays it.
func (c *change) stateLocked() (State, string) {
	switch {
	case c.local != "":
		return LocalOnly, c.local
	case c.kind == Folder:
		return LocalOnly, "empty directory"
	case c.kind == Symlink:
		return LocalOnly, "symbolic link"
	case c.file != nil && len(c.file.writers) > 0:
		return Open, ""
	case c.file != nil && c.file.unclosed:
		if c.file.doubt {
			return Unclosed, "the machine stopped before it was on disk for certain"
		}
		return Unclosed, "it was open for writing when the mount ended"
	}
	return c.mark, c.reason
}
