package fs

import (
	"context"
	"errors"
	iofs "io/fs"
	"slices"
	"strings"
	"time"

	"hfmount/remote/hub"
)

// revsDir is NAME@: the revisions of a repository, each one name.
type revsDir struct {
	t    *Tree
	repo hub.Repo
}

// refsDir is NAME@refs or a directory in it, where the special refs stand
// written out (hub-protocol §2.3).
type refsDir struct {
	t    *Tree
	repo hub.Repo
	path string // "refs", "refs/pr", "refs/convert"
}

func (d *revsDir) ino() uint64 { return inoOf("revs", d.repo.String()) }
func (d *refsDir) ino() uint64 { return inoOf("refs", d.repo.String(), d.path) }

func (d *revsDir) ttl() time.Duration { return hubTTL }
func (d *refsDir) ttl() time.Duration { return hubTTL }

func (d *revsDir) mtime(context.Context) (time.Time, error) { return d.t.started, nil }
func (d *refsDir) mtime(context.Context) (time.Time, error) { return d.t.started, nil }

func (d *revsDir) xattrs(context.Context) (map[string]string, error) {
	return map[string]string{xattrRepo: d.repo.String()}, nil
}

func (d *refsDir) xattrs(context.Context) (map[string]string, error) {
	return map[string]string{xattrRepo: d.repo.String()}, nil
}

func (d *revsDir) lookup(ctx context.Context, name string) (Node, error) {
	rev, err := hub.UnescapeRevision(name)
	if err != nil || strings.HasPrefix(name, ".") {
		return nil, missing(name)
	}
	return d.t.lookupRevision(ctx, d.repo, rev, "@/"+name, name)
}

// lookupRevision shows a revision in a directory of revisions, where its place
// in the mount is alias.
func (t *Tree) lookupRevision(ctx context.Context, repo hub.Repo, rev, alias, name string) (Node, error) {
	ref := hub.Ref{Repo: repo, Revision: rev}
	key := repo.String() + "@" + hub.EscapeRevision(rev)
	if t.missed(key) {
		return nil, missing(name)
	}
	a := &anchor{view: t.view(ref), alias: alias}
	if n, ok := t.hubs.refs.Get(repo); ok && t.now().Sub(n.at) < hubTTL && a.view.cur.Load() == nil {
		if _, ok := slices.BinarySearch(n.names, rev); ok {
			// It was listed: no request until it is entered.
			d := a.dir("")
			d.kind.(*repoDir).listed = t.started
			return d, nil
		}
	}
	if _, err := a.view.use(ctx); err != nil {
		t.forget(a.view)
		if errors.Is(err, iofs.ErrNotExist) {
			t.miss(key)
			return nil, missing(name)
		}
		return nil, err
	}
	return a.dir(""), nil
}

func (d *revsDir) list(ctx context.Context) ([]DirEntry, uint64, error) {
	n, err := d.t.revisions(ctx, d.repo)
	if err != nil {
		return nil, 0, err
	}
	var entries []DirEntry
	for _, rev := range n.names {
		name := hub.EscapeRevision(rev)
		if hub.CheckName(name) != nil {
			continue // too long once encoded
		}
		a := anchor{view: &view{ref: hub.Ref{Repo: d.repo, Revision: rev}}, alias: "@/" + name}
		entries = append(entries, DirEntry{name, a.dirIno(""), iofs.ModeDir})
	}
	return listed(entries)
}

func (d *refsDir) lookup(ctx context.Context, name string) (Node, error) {
	path := d.path + "/" + name
	if path == "refs/pr" || path == "refs/convert" {
		return &Dir{&refsDir{d.t, d.repo, path}}, nil
	}
	if !hub.SpecialRef(path) {
		return nil, missing(name)
	}
	return d.t.lookupRevision(ctx, d.repo, path, "@"+path, name)
}

func (d *refsDir) list(ctx context.Context) ([]DirEntry, uint64, error) {
	if d.path == "refs" {
		return listed([]DirEntry{
			{"convert", (&refsDir{d.t, d.repo, "refs/convert"}).ino(), iofs.ModeDir},
			{"pr", (&refsDir{d.t, d.repo, "refs/pr"}).ino(), iofs.ModeDir},
		})
	}
	n, err := d.t.revisions(ctx, d.repo)
	if err != nil {
		return nil, 0, err
	}
	var entries []DirEntry
	for _, rev := range n.names {
		name, ok := strings.CutPrefix(rev, d.path+"/")
		if !ok || !hub.SpecialRef(rev) {
			continue
		}
		a := anchor{view: &view{ref: hub.Ref{Repo: d.repo, Revision: rev}}, alias: "@" + rev}
		entries = append(entries, DirEntry{name, a.dirIno(""), iofs.ModeDir})
	}
	return listed(entries)
}
