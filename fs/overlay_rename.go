package fs

import (
	"context"
	"fmt"
	iofs "io/fs"
	"strings"

	"hfmount/writeback"
)

// Rename moves a name, with everything beneath it, and replaces what is there
// as rename(2) does. What was moved keeps its inode number.
func (d *Dir) Rename(ctx context.Context, name string, to *Dir, newName string, flags RenameFlags) error {
	from, err := d.writable()
	if err != nil {
		return err
	}
	dst, err := to.writable()
	if err != nil {
		return err
	}
	o := from.spot.o
	switch {
	case dst.spot.o != o || dst.a.alias != from.a.alias:
		return ErrCrossDevice
	case flags.NoReplace && flags.Exchange:
		return errInvalid
	}
	if err := checkNew(dst.spot.where(), newName); err != nil {
		return err
	}
	if flags.Exchange {
		if err := checkNew(from.spot.where(), name); err != nil {
			return err
		}
	}
	m := &move{o: o, from: from.spot, to: dst.spot, name: name, newName: newName, flags: flags}
	if err := o.change(ctx, m.run); err != nil {
		return fmt.Errorf("rename %s to %s: %w", name, newName, err)
	}
	o.tellOthers(from.a, from.spot, name)
	o.tellOthers(dst.a, dst.spot, newName)
	return nil
}

// move is one rename.
type move struct {
	o             *overlay
	from, to      *spot
	name, newName string
	flags         RenameFlags
}

// run is the rename with the names locked.
func (m *move) run(s *sight) error {
	if m.from.gone.Load() || m.to.gone.Load() {
		return iofs.ErrNotExist
	}
	dir, newDir := m.from.where(), m.to.where()
	path, newPath := join(dir, m.name), join(newDir, m.newName)
	src, err := s.at(dir, m.name)
	if err != nil {
		return err
	}
	if src.kind == isNone {
		return iofs.ErrNotExist
	}
	dst, err := s.at(newDir, m.newName)
	if err != nil {
		return err
	}
	if path == newPath {
		if m.flags.NoReplace {
			return iofs.ErrExist
		}
		return nil
	}
	if err := m.allowed(s, &src, &dst, path, newPath); err != nil {
		return err
	}

	p := s.plan()
	var moved, back tree
	if err := moved.collect(s, path, &src); err != nil {
		return err
	}
	if m.flags.Exchange {
		if err := back.collect(s, newPath, &dst); err != nil {
			return err
		}
	}
	// First everything leaves, then it arrives, maybe at the same paths.
	for _, t := range []*tree{&moved, &back} {
		if err := t.leave(p); err != nil {
			return err
		}
	}
	if dst.kind == isDir && !m.flags.Exchange {
		p.unmark(newPath)
	}
	if err := moved.arrive(p, newPath); err != nil {
		return err
	}
	if err := back.arrive(p, path); err != nil {
		return err
	}
	if !m.flags.Exchange && dir != newDir {
		p.gained(newDir)
		if !under(newPath, dir) {
			if err := p.lost(dir, m.name); err != nil {
				return err
			}
		}
	}
	return s.commit(p.edits, func() { m.tables(src.kind == isDir, dst.kind == isDir) })
}

// allowed is what rename(2) says of the two things.
func (m *move) allowed(s *sight, src, dst *thing, path, newPath string) error {
	switch {
	case m.flags.NoReplace && dst.kind != isNone:
		return iofs.ErrExist
	case m.flags.Exchange && dst.kind == isNone:
		return iofs.ErrNotExist
	case src.kind == isDir && under(newPath, path),
		m.flags.Exchange && dst.kind == isDir && under(path, newPath):
		return errInvalid
	case m.flags.Exchange || dst.kind == isNone:
		return nil
	case src.kind == isDir && dst.kind != isDir:
		return ErrNotDir
	case src.kind != isDir && dst.kind == isDir:
		return ErrIsDir
	case dst.kind == isDir:
		kids, _, _, err := s.list(newPath)
		if err == nil && len(kids) > 0 {
			err = ErrNotEmpty
		}
		return err
	case under(path, newPath):
		return ErrNotEmpty // what is at newPath is a directory
	}
	return nil
}

// under reports whether path is beneath dir.
func under(path, dir string) bool {
	return dir == "" || strings.HasPrefix(path, dir+"/")
}

// tables is what a rename does to identities. overlay.mu is held.
func (m *move) tables(srcDir, dstDir bool) {
	o := m.o
	m.from.touch()
	m.to.touch()
	var f, g *inode
	var a, b *spot
	if srcDir {
		a = o.dirAt(m.from, m.name)
	} else {
		f = m.from.kids[m.name].f.Value()
	}
	if dstDir {
		b = m.to.kids[m.newName].d.Value()
	} else {
		g = m.to.kids[m.newName].f.Value()
	}
	delete(m.from.kids, m.name)
	if !m.flags.Exchange {
		switch {
		case g != nil:
			o.detach(g)
		case b != nil:
			o.removeDir(m.to, m.newName)
		}
	}
	delete(m.to.kids, m.newName)
	hang := func(dir bool, s *spot, k *inode, to *spot, name string) {
		switch {
		case dir && s != nil:
			o.rehang(s, to, name)
		case k != nil:
			k.parent = nil // its name there is gone already
			o.rename(k, to, name)
		}
	}
	hang(srcDir, a, f, m.to, m.newName)
	if m.flags.Exchange {
		hang(dstDir, b, g, m.from, m.name)
	}
}

// tree is what is at and beneath a path.
type tree struct {
	root  string
	files []leaf
	// empty directories, which are there by their mark alone
	empty []string
	// marks of directories that hold something
	marks []string
}

// leaf is a file or link.
type leaf struct {
	path string
	th   thing
}

func (t *tree) collect(s *sight, path string, th *thing) error {
	t.root = path
	return t.walk(s, path, th)
}

func (t *tree) walk(s *sight, path string, th *thing) error {
	if th.kind != isDir {
		t.files = append(t.files, leaf{path, *th})
		return nil
	}
	kids, l, _, err := s.list(path)
	if err != nil {
		return err
	}
	if len(kids) == 0 {
		t.empty = append(t.empty, path)
		return nil
	}
	if th.change != nil && th.change.Kind == writeback.Folder {
		t.marks = append(t.marks, path)
	}
	for _, c := range kids {
		var th thing
		if c.line >= 0 && c.kind == writeback.Put {
			th = thing{kind: isFile, held: s.heldAt(l, c.line)}
		} else if th, err = s.at(path, c.name); err != nil {
			return err
		}
		if err := t.walk(s, join(path, c.name), &th); err != nil {
			return err
		}
	}
	return nil
}

// leave takes everything away from where it is.
func (t *tree) leave(p *plan) error {
	for i := range t.files {
		if err := p.take(t.files[i].path); err != nil {
			return err
		}
	}
	for _, dir := range t.empty {
		p.unmark(dir)
	}
	for _, dir := range t.marks {
		p.unmark(dir)
	}
	return nil
}

// arrive puts everything at and beneath path.
func (t *tree) arrive(p *plan, path string) error {
	for i := range t.files {
		f := &t.files[i]
		to := t.moved(f.path, path)
		if err := p.put(to, &f.th, f.path); err != nil {
			return err
		}
		p.edits[p.at[to]].Moved = f.path != t.root
	}
	for _, dir := range t.empty {
		if err := p.mark(t.moved(dir, path)); err != nil {
			return err
		}
	}
	return nil
}

// moved is where a path of the tree is when its root is at path.
func (t *tree) moved(p, path string) string { return path + strings.TrimPrefix(p, t.root) }
