package hubtest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"

	"github.com/go-git/go-git/v5/plumbing"

	"hfmount/remote/hub"
)

// mergeBase finds a commit both lines have in common, the newest one; zero if
// there is none (after a super-squash).
func (r *repo) mergeBase(a, b plumbing.Hash) (plumbing.Hash, error) {
	la, err := r.log(hub.CommitID(a.String()))
	if err != nil {
		return plumbing.ZeroHash, err
	}
	lb, err := r.log(hub.CommitID(b.String()))
	if err != nil {
		return plumbing.ZeroHash, err
	}
	mine := make(map[hub.CommitID]bool, len(la))
	for _, c := range la {
		mine[c.ID] = true
	}
	for _, c := range lb {
		if mine[c.ID] {
			return plumbing.NewHash(string(c.ID)), nil
		}
	}
	return plumbing.ZeroHash, nil
}

// mergeTrees joins two changes of one tree, path by path: a file that both
// changed differently is a conflict, and its path is returned.
func (r *repo) mergeTrees(b *objectBatch, base, ours, theirs plumbing.Hash, dir string) (plumbing.Hash, []string, error) {
	var side [3]map[string]treeEntry
	names := map[string]bool{}
	for i, h := range [...]plumbing.Hash{base, ours, theirs} {
		side[i] = map[string]treeEntry{}
		if h.IsZero() {
			continue
		}
		es, err := r.tree(h)
		if err != nil {
			return h, nil, err
		}
		for _, e := range es {
			side[i][e.name] = e
			names[e.name] = true
		}
	}
	var out []treeEntry
	var conflicts []string
	for _, name := range slices.Sorted(maps.Keys(names)) {
		o, a, t := side[0][name], side[1][name], side[2][name]
		switch {
		case a == t || t == o:
			t = a
		case a == o:
		case (a.isTree() || a == treeEntry{}) && (t.isTree() || t == treeEntry{}) && (a.isTree() || t.isTree()):
			var was plumbing.Hash
			if o.isTree() {
				was = o.oid
			}
			h, more, err := r.mergeTrees(b, was, a.oid, t.oid, dir+name+"/")
			if err != nil {
				return h, nil, err
			}
			conflicts = append(conflicts, more...)
			t = treeEntry{name, modeTree, h}
			if h.IsZero() {
				t = treeEntry{}
			}
		default:
			conflicts = append(conflicts, dir+name)
		}
		if t != (treeEntry{}) {
			out = append(out, t)
		}
	}
	if len(out) == 0 && dir != "" {
		return plumbing.ZeroHash, conflicts, nil
	}
	h, err := r.addTree(b, out)
	return h, conflicts, err
}

// errMergeConflict carries the paths in its text.
var errMergeConflict = errors.New("merge conflict")

// tryMerge merges two tips without moving anything.
func (r *repo) tryMerge(b *objectBatch, ours, theirs plumbing.Hash) (tree plumbing.Hash, conflicts []string, err error) {
	at, err := r.mergeBase(ours, theirs)
	if err != nil {
		return tree, nil, err
	}
	var trees [3]plumbing.Hash
	for i, h := range [...]plumbing.Hash{at, ours, theirs} {
		if h.IsZero() {
			continue
		}
		c, err := r.readCommit(h)
		if err != nil {
			return tree, nil, err
		}
		trees[i] = c.tree
	}
	return r.mergeTrees(b, trees[0], trees[1], trees[2], "")
}

// merge brings a pull request into its base as a merge commit.
func (r *repo) merge(d discussion, author, message string) (hub.CommitID, error) {
	r.commitMu.Lock()
	defer r.commitMu.Unlock()
	ours, ok1 := r.db.ref(d.Base)
	theirs, ok2 := r.db.ref(d.ref())
	if !ok1 || !ok2 {
		return "", fmt.Errorf("%w: %s", hub.ErrRevisionNotFound, d.ref())
	}
	b := r.db.batch()
	tree, conflicts, err := r.tryMerge(b, ours, theirs)
	if err != nil {
		return "", err
	}
	if len(conflicts) > 0 {
		return "", fmt.Errorf("%w in %q", errMergeConflict, conflicts)
	}
	title := fmt.Sprintf("%s (#%d)", d.Title, d.Num)
	h, err := r.newCommit(b, d.Base, tree, []plumbing.Hash{ours, theirs}, author, title, message)
	return hub.CommitID(h.String()), err
}

// changedPath is one file that differs between two trees.
type changedPath struct {
	path     string
	old, new plumbing.Hash // zero: not there
}

// compareTrees lists the files that differ, sorted by path.
func (r *repo) compareTrees(old, new plumbing.Hash) ([]changedPath, error) {
	var out []changedPath
	err := r.compareInto(&out, old, new, "")
	sort.Slice(out, func(i, j int) bool { return out[i].path < out[j].path })
	return out, err
}

func (r *repo) compareInto(out *[]changedPath, old, new plumbing.Hash, dir string) error {
	var side [2]map[string]treeEntry
	names := map[string]bool{}
	for i, h := range [...]plumbing.Hash{old, new} {
		side[i] = map[string]treeEntry{}
		if h.IsZero() {
			continue
		}
		es, err := r.tree(h)
		if err != nil {
			return err
		}
		for _, e := range es {
			side[i][e.name] = e
			names[e.name] = true
		}
	}
	for name := range names {
		a, b := side[0][name], side[1][name]
		if a == b {
			continue
		}
		var subs, files [2]plumbing.Hash
		for i, e := range [...]treeEntry{a, b} {
			if e.isTree() {
				subs[i] = e.oid
			} else {
				files[i] = e.oid
			}
		}
		if subs != [2]plumbing.Hash{} {
			if err := r.compareInto(out, subs[0], subs[1], dir+name+"/"); err != nil {
				return err
			}
		}
		if files[0] != files[1] {
			*out = append(*out, changedPath{dir + name, files[0], files[1]})
		}
	}
	return nil
}
