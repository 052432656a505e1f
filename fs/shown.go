package fs

import (
	"context"
	iofs "io/fs"

	"hfmount/remote/hub"
)

// Listing is what a directory showed at one moment. It never changes and may
// be shared; taking one costs nothing for each name in it, unless local
// changes had to be merged in.
type Listing struct {
	version uint64
	entries []DirEntry // or, if from is not nil, its lines
	a       *anchor
	from    *listing
}

// Len is the number of names.
func (l *Listing) Len() int {
	if l.from != nil {
		return len(l.from.items)
	}
	return len(l.entries)
}

// At returns line i, in the order of names.
func (l *Listing) At(i int) DirEntry {
	if l.from == nil {
		return l.entries[i]
	}
	e := DirEntry{Name: l.from.items[i].name, Ino: l.a.childIno(l.from.dir, l.from, i)}
	if l.from.items[i].kind == hub.Directory {
		e.Mode = iofs.ModeDir
	}
	return e
}

// Version changes whenever the list of names may have changed.
func (l *Listing) Version() uint64 { return l.version }

// Listing lists the directory, sorted by name.
func (d *Dir) Listing(ctx context.Context) (*Listing, error) {
	if r, ok := d.kind.(*repoDir); ok && r.spot == nil {
		l, err := r.shown(ctx)
		if err != nil {
			return nil, err
		}
		return &Listing{version: l.version, a: r.a, from: l}, nil
	}
	entries, version, err := d.kind.list(ctx)
	if err != nil {
		return nil, err
	}
	return &Listing{version: version, entries: entries}, nil
}

// ReadDir is Listing with all lines at once. version is that of the Listing.
// The slice is shared: do not modify it.
func (d *Dir) ReadDir(ctx context.Context) (entries []DirEntry, version uint64, err error) {
	l, err := d.Listing(ctx)
	if err != nil {
		return nil, 0, err
	}
	if l.from == nil {
		return l.entries, l.version, nil
	}
	entries = make([]DirEntry, l.Len())
	for i := range entries {
		entries[i] = l.At(i)
	}
	return entries, l.version, nil
}

// Told reports whether the Notifier hears of every change of the names in this
// directory and all below it. What is above repositories changes with time
// alone.
func (d *Dir) Told() bool {
	_, ok := d.kind.(*repoDir)
	return ok
}
