package writeback

import (
	"fmt"
	iofs "io/fs"
	"time"
)

// Edit is one part of an Apply.
type Edit struct {
	Path   string
	Kind   Kind
	File   *File  // of a Put
	From   *Place // of a Put without File
	Target string // of a Symlink
	// Base is what the snapshot has at Path. The base of a change that is there
	// already is kept instead.
	Base Base
	Was  string // the path it is renamed from
	// Moved is set where not the file but a directory above it was renamed.
	Moved bool
	// Forget takes the change at Path away, so that the snapshot shows through;
	// the fields above but Path are then not used. A file that nothing names any
	// more is deleted with its last handle.
	Forget bool
}

// Apply makes all edits or none, as one record of the journal. It fails with
// ErrRaced if the names changed since version; 0 is not to look. A Delete of a
// path with no base entry is a Forget.
//
// Two kinds of Forget leave a Delete: of a Folder or Symlink that took the place
// of a file which the Hub still has, and of a path that is part of a commit
// under way, which may bring it into the snapshot any moment.
func (l *Layer) Apply(version uint64, edits ...Edit) error {
	l.mu.Lock()
	err := l.applyLocked(version, edits)
	l.mu.Unlock()
	l.sweep()
	if err == nil {
		l.signal.raise()
	}
	return err
}

func (l *Layer) applyLocked(version uint64, edits []Edit) error {
	if l.closed {
		return errClosed
	}
	if version != 0 && version != l.version {
		return ErrRaced
	}
	d := draft{l: l, now: l.o.Now(), seq: l.seq, next: make(map[string]*change, len(edits))}
	for _, e := range edits {
		if err := d.edit(e); err != nil {
			return err
		}
	}
	return d.commit()
}

// draft is an Apply before it is journalled.
type draft struct {
	l     *Layer
	now   time.Time
	seq   uint64
	next  map[string]*change // nil: none any more
	order []string
	// files that the journal may not know yet
	files []*File
}

func (d *draft) at(p string) *change {
	if c, ok := d.next[p]; ok {
		return c
	}
	return d.l.changes[p]
}

func (d *draft) put(p string, c *change) {
	if _, ok := d.next[p]; !ok {
		d.order = append(d.order, p)
	}
	d.next[p] = c
}

func (d *draft) edit(e Edit) error {
	if !validPath(e.Path) {
		return fmt.Errorf("%q: %w", e.Path, iofs.ErrInvalid)
	}
	old := d.at(e.Path)
	d.seq++
	c := &change{
		path: e.Path, kind: e.Kind, base: e.Base, mark: Pending, since: d.now, seq: d.seq,
		local: d.l.o.LocalOnly(e.Path), moved: e.Moved,
	}
	if old != nil {
		c.base = old.base
		if old.mark == Held {
			c.mark, c.reason = Held, old.reason
		}
	}
	switch {
	case e.Forget:
		if old == nil {
			c.base = Base{}
		}
		if d.l.sending[e.Path] || old != nil && old.replaces() {
			c.kind = Delete
		} else {
			c = nil
		}
	case e.Kind == Delete:
		if c.base.Entry == nil && !d.l.sending[e.Path] {
			c = nil
		}
	case e.Kind == Put && e.File != nil:
		if e.File.l != d.l {
			return fmt.Errorf("%s: a file of another layer: %w", e.Path, iofs.ErrInvalid)
		}
		if e.File.gone != nil {
			return ErrRaced // it left the layer since the caller got it
		}
		c.file = e.File
		if len(e.File.at) == 0 {
			d.files = append(d.files, e.File)
		}
		if old != nil && old.file == e.File {
			c.landed, c.was, c.moved = old.landed, old.was, c.moved || old.moved
		}
	case e.Kind == Put && e.From != nil:
		c.from = e.From
	case e.Kind == Put:
		return fmt.Errorf("%s: a file without bytes: %w", e.Path, iofs.ErrInvalid)
	case e.Kind == Symlink:
		c.target = e.Target
	}
	if c == nil {
		if old != nil {
			d.put(e.Path, nil)
		}
		return nil
	}
	if e.Was != "" {
		d.renamed(c, e.Was)
	}
	d.put(e.Path, c)
	return nil
}

// renamed says what a change was before. People want to know the name that the
// Hub has, not one that existed for the time between two renames.
func (d *draft) renamed(c *change, was string) {
	c.was = was
	// What the edits made of the old path meanwhile does not matter.
	if old := d.l.changes[was]; old != nil && old.kind == c.kind && old.file == c.file {
		if old.base.Entry == nil || old.was != "" {
			c.was = old.was
		}
		if old.mark == Held {
			c.mark, c.reason = Held, old.reason
		}
	}
	if c.was == c.path {
		c.was = ""
	}
}

// commit journals the draft and makes it so.
func (d *draft) commit() error {
	if len(d.order) == 0 {
		return nil
	}
	l := d.l
	payloads := make([]payload, 0, len(d.order)+2*len(d.files))
	for _, f := range d.files {
		payloads = f.payloadsLocked(payloads)
	}
	for _, p := range d.order {
		if c := d.next[p]; c != nil {
			payloads = append(payloads, payload{Change: c.rec()})
		} else {
			payloads = append(payloads, payload{Gone: &goneRec{Path: p}})
		}
	}
	if err := l.appendLocked(payloads...); err != nil {
		return err
	}
	l.seq = d.seq
	// A file that is renamed has a name all along.
	for _, p := range d.order {
		if c := d.next[p]; c != nil && c.file != nil {
			c.file.handles++
		}
	}
	for _, p := range d.order {
		l.setLocked(p, d.next[p])
	}
	for _, p := range d.order {
		if c := d.next[p]; c != nil && c.file != nil {
			c.file.handles--
			c.file.dropLocked()
		}
	}
	l.compactLocked()
	return nil
}

// validPath keeps the index whole; what names the Hub takes is decided above.
func validPath(p string) bool { return p != "." && iofs.ValidPath(p) }
