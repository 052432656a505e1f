package hubtest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
)

// Modes of tree entries, as git writes them.
const (
	modeFile = 0o100644
	modeTree = 0o040000
	modeLink = 0o120000
	modeSub  = 0o160000
)

type treeEntry struct {
	name string
	mode uint32
	oid  plumbing.Hash
}

func (e treeEntry) isTree() bool { return e.mode == modeTree }

// sortKey is the order git keeps trees in: directories as if they ended in a slash.
func (e treeEntry) sortKey() string {
	if e.isTree() {
		return e.name + "/"
	}
	return e.name
}

func decodeTree(data []byte) ([]treeEntry, error) {
	var es []treeEntry
	for len(data) > 0 {
		sp := bytes.IndexByte(data, ' ')
		nul := bytes.IndexByte(data, 0)
		if sp < 0 || nul < sp || len(data) < nul+21 {
			return nil, errors.New("broken tree object")
		}
		mode, err := strconv.ParseUint(string(data[:sp]), 8, 32)
		if err != nil {
			return nil, fmt.Errorf("broken tree object: %w", err)
		}
		e := treeEntry{name: string(data[sp+1 : nul]), mode: uint32(mode)}
		copy(e.oid[:], data[nul+1:])
		es = append(es, e)
		data = data[nul+21:]
	}
	return es, nil
}

// encodeTree sorts es in place.
func encodeTree(es []treeEntry) []byte {
	slices.SortFunc(es, func(a, b treeEntry) int { return strings.Compare(a.sortKey(), b.sortKey()) })
	var buf bytes.Buffer
	for _, e := range es {
		fmt.Fprintf(&buf, "%o %s\x00", e.mode, e.name)
		buf.Write(e.oid[:])
	}
	return buf.Bytes()
}

// edit is what a commit does at one path and below. The zero edit does nothing.
type edit struct {
	drop     bool       // forget what stood here before
	leaf     *treeEntry // the new file
	children map[string]*edit
}

// at returns the edit for a path below e, making it if need be.
func (e *edit) at(path string) *edit {
	for path != "" {
		var name string
		name, path, _ = strings.Cut(path, "/")
		if e.children == nil {
			e.children = map[string]*edit{}
		}
		next := e.children[name]
		if next == nil {
			next = &edit{}
			e.children[name] = next
		}
		e = next
	}
	return e
}

// find returns the edit for a path, or nil.
func (e *edit) find(path string) *edit {
	for path != "" && e != nil {
		var name string
		name, path, _ = strings.Cut(path, "/")
		e = e.children[name]
	}
	return e
}

// errFileAndDir says that a path would have to be both a file and a directory.
var errFileAndDir = errors.New("would be both a file and a directory")

// applyEdit rewrites the tree root (the zero hash is the empty one) and every
// tree the edit touches, and leaves all others as they are. Adds win over
// deletes of the same path or of a parent (hub-protocol §16).
func (r *repo) applyEdit(b *objectBatch, root plumbing.Hash, e *edit) (plumbing.Hash, error) {
	es, err := r.editTree(b, root, e, "")
	if err != nil {
		return plumbing.ZeroHash, err
	}
	return r.addTree(b, es)
}

func (r *repo) addTree(b *objectBatch, es []treeEntry) (plumbing.Hash, error) {
	return b.add(plumbing.TreeObject, encodeTree(es))
}

func (r *repo) editTree(b *objectBatch, old plumbing.Hash, e *edit, dir string) ([]treeEntry, error) {
	var before []treeEntry
	if !old.IsZero() && !e.drop {
		var err error
		if before, err = r.tree(old); err != nil {
			return nil, err
		}
	}
	after := make([]treeEntry, 0, len(before)+len(e.children))
	stood := map[string]treeEntry{}
	for _, t := range before {
		if c := e.children[t.name]; c == nil {
			after = append(after, t)
		} else if !c.drop {
			stood[t.name] = t
		}
	}
	for name, c := range e.children {
		t, ok := stood[name]
		switch {
		case c.leaf != nil:
			if len(c.children) > 0 && c.hasLeaf() || ok && t.isTree() && !r.emptied(b, t.oid, c) {
				return nil, fmt.Errorf("%s%s %w", dir, name, errFileAndDir)
			}
			after = append(after, treeEntry{name, c.leaf.mode, c.leaf.oid})
		case len(c.children) > 0:
			if ok && !t.isTree() {
				return nil, fmt.Errorf("%s%s %w", dir, name, errFileAndDir)
			}
			below, err := r.editTree(b, t.oid, c, dir+name+"/")
			if err != nil {
				return nil, err
			}
			if len(below) == 0 {
				break // git has no empty directories
			}
			h, err := r.addTree(b, below)
			if err != nil {
				return nil, err
			}
			after = append(after, treeEntry{name, modeTree, h})
		case ok:
			after = append(after, t)
		}
	}
	return after, nil
}

// hasLeaf reports whether an edit adds a file anywhere below.
func (e *edit) hasLeaf() bool {
	for _, c := range e.children {
		if c.leaf != nil || c.hasLeaf() {
			return true
		}
	}
	return false
}

// emptied reports whether the deletes below c leave nothing of a directory,
// so that a file may take its name.
func (r *repo) emptied(b *objectBatch, tree plumbing.Hash, c *edit) bool {
	below, err := r.editTree(b, tree, &edit{children: c.children}, "")
	return err == nil && len(below) == 0
}

// lookup finds a path below a tree.
func (r *repo) lookup(tree plumbing.Hash, path string) (treeEntry, bool, error) {
	e := treeEntry{mode: modeTree, oid: tree}
	for path != "" {
		var name string
		name, path, _ = strings.Cut(path, "/")
		if !e.isTree() {
			return treeEntry{}, false, nil
		}
		es, err := r.tree(e.oid)
		if err != nil {
			return treeEntry{}, false, err
		}
		var ok bool
		if e, ok = findEntry(es, name); !ok {
			return treeEntry{}, false, nil
		}
	}
	return e, true, nil
}

// findEntry finds a name in a sorted tree; a file and a directory of one name
// would sort apart.
func findEntry(es []treeEntry, name string) (treeEntry, bool) {
	for _, key := range [...]string{name, name + "/"} {
		i, ok := slices.BinarySearchFunc(es, key, func(e treeEntry, key string) int {
			return strings.Compare(e.sortKey(), key)
		})
		if ok {
			return es[i], true
		}
	}
	return treeEntry{}, false
}
