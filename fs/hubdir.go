package fs

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"slices"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"hfmount/remote/hub"
)

// The directories of a whole-Hub mount above repositories (design.md §2):
//
//	/                     hubRoot, models by namespace
//	/datasets, /spaces    hubRoot of another type
//	/NS                   spaceDir
//	/NS/NAME[@REV]        repoDir, or a Symlink if the id leads elsewhere
//	/NS/NAME@             revsDir
//	/NS/NAME@refs[/pr]    refsDir

// hubRoot lists namespaces, and for models the other types as well.
type hubRoot struct{ t *Tree }

// typeRoot lists the namespaces of datasets or spaces.
type typeRoot struct {
	t   *Tree
	typ hub.RepoType
}

func (d *hubRoot) ino() uint64  { return inoOf("hub") }
func (d *typeRoot) ino() uint64 { return inoOf("hub", d.typ.String()) }

func (d *hubRoot) ttl() time.Duration  { return hubTTL }
func (d *typeRoot) ttl() time.Duration { return hubTTL }

func (d *hubRoot) mtime(context.Context) (time.Time, error)  { return d.t.started, nil }
func (d *typeRoot) mtime(context.Context) (time.Time, error) { return d.t.started, nil }

func (d *hubRoot) xattrs(context.Context) (map[string]string, error)  { return nil, nil }
func (d *typeRoot) xattrs(context.Context) (map[string]string, error) { return nil, nil }

func (d *hubRoot) lookup(ctx context.Context, name string) (Node, error) {
	switch name {
	case "datasets":
		return &Dir{&typeRoot{d.t, hub.Dataset}}, nil
	case "spaces":
		return &Dir{&typeRoot{d.t, hub.Space}}, nil
	}
	return d.t.lookupSpace(ctx, hub.Model, name)
}

func (d *typeRoot) lookup(ctx context.Context, name string) (Node, error) {
	return d.t.lookupSpace(ctx, d.typ, name)
}

func (d *hubRoot) list(ctx context.Context) ([]DirEntry, uint64, error) {
	entries := []DirEntry{
		{"datasets", (&typeRoot{d.t, hub.Dataset}).ino(), iofs.ModeDir},
		{"spaces", (&typeRoot{d.t, hub.Space}).ino(), iofs.ModeDir},
	}
	for _, n := range d.t.spacesOf(ctx, hub.Model) {
		if n != "datasets" && n != "spaces" {
			entries = append(entries, DirEntry{n, (&spaceDir{d.t, space{hub.Model, n}}).ino(), iofs.ModeDir})
		}
	}
	return listed(entries)
}

func (d *typeRoot) list(ctx context.Context) ([]DirEntry, uint64, error) {
	var entries []DirEntry
	for _, n := range d.t.spacesOf(ctx, d.typ) {
		entries = append(entries, DirEntry{n, (&spaceDir{d.t, space{d.typ, n}}).ino(), iofs.ModeDir})
	}
	return listed(entries)
}

// listed sorts, and hashes what it lists.
func listed(entries []DirEntry) ([]DirEntry, uint64, error) {
	slices.SortFunc(entries, func(a, b DirEntry) int { return strings.Compare(a.Name, b.Name) })
	h := xxhash.New()
	for _, e := range entries {
		_, _ = h.WriteString(e.Name)
		_, _ = h.Write([]byte{0})
	}
	return entries, h.Sum64(), nil
}

// lookupSpace finds a namespace, or else a canonical id such as "gpt2". Names
// that no namespace can have cost no request.
func (t *Tree) lookupSpace(ctx context.Context, typ hub.RepoType, name string) (Node, error) {
	base, _, hasRev := strings.Cut(name, "@")
	if strings.HasPrefix(name, ".") || hub.CheckRepo(hub.Repo{Type: typ, Name: base}) != nil {
		return nil, missing(name)
	}
	if t.missed(typ.Prefix() + name) {
		return nil, missing(name)
	}
	if !hasRev {
		ok, err := t.exists(ctx, space{typ, name})
		if err != nil {
			return nil, err
		}
		if ok {
			return &Dir{&spaceDir{t, space{typ, name}}}, nil
		}
	}
	n, err := t.lookupRepo(ctx, hub.Repo{Type: typ, Name: base}, name, "")
	if errors.Is(err, hub.ErrUnauthorized) {
		// Without a token the Hub answers so to any name it does not know.
		// There are no private canonical ids, so there is nothing to hide.
		t.miss(typ.Prefix() + name)
		return nil, missing(name)
	}
	return n, err
}

// spaceDir is a namespace.
type spaceDir struct {
	t *Tree
	s space
}

func (d *spaceDir) ino() uint64 { return inoOf("space", d.s.t.String(), d.s.name) }

func (d *spaceDir) ttl() time.Duration { return hubTTL }

func (d *spaceDir) mtime(context.Context) (time.Time, error) { return d.t.started, nil }

func (d *spaceDir) xattrs(context.Context) (map[string]string, error) { return nil, nil }

func (d *spaceDir) lookup(ctx context.Context, name string) (Node, error) {
	base, _, _ := strings.Cut(name, "@")
	repo := hub.Repo{Type: d.s.t, Namespace: d.s.name, Name: base}
	if strings.HasPrefix(name, ".") || hub.CheckRepo(repo) != nil {
		return nil, missing(name)
	}
	return d.t.lookupRepo(ctx, repo, name, "../")
}

func (d *spaceDir) list(ctx context.Context) ([]DirEntry, uint64, error) {
	n, err := d.t.repos(ctx, d.s)
	if err != nil {
		return nil, 0, err
	}
	entries := make([]DirEntry, 0, len(n.repos))
	for _, r := range n.repos {
		a := anchor{view: &view{ref: hub.Ref{Repo: r.Repo}}}
		entries = append(entries, DirEntry{r.Repo.Name, a.dirIno(""), iofs.ModeDir})
	}
	return listed(entries)
}

// lookupRepo finds NAME, NAME@REV, NAME@ or NAME@refs. name is all of that;
// up leads from the directory to the one that holds namespaces.
func (t *Tree) lookupRepo(ctx context.Context, repo hub.Repo, name, up string) (Node, error) {
	key := repo.Type.Prefix() + join(repo.Namespace, name)
	if t.missed(key) {
		return nil, missing(name)
	}
	_, revName, hasRev := strings.Cut(name, "@")
	ref := hub.Ref{Repo: repo}
	several := hasRev && (revName == "" || revName == "refs")
	if hasRev && !several {
		rev, err := hub.UnescapeRevision(revName)
		if err != nil {
			return nil, missing(name)
		}
		ref.Revision = rev
	}
	a := &anchor{view: t.view(ref)}
	if hasRev && !several {
		a.alias = "@" + revName
	}
	if !hasRev || several {
		if info, ok := t.listed(repo); ok && a.view.cur.Load() == nil {
			if several {
				return t.severalRevisions(repo, revName), nil
			}
			d := a.dir("")
			d.kind.(*repoDir).listed = info.Time
			if info.Time.IsZero() {
				d.kind.(*repoDir).listed = t.started
			}
			return d, nil
		}
	}
	st, err := a.view.use(ctx)
	if err != nil {
		t.forget(a.view)
		if errors.Is(err, iofs.ErrNotExist) {
			t.miss(key)
			return nil, missing(name)
		}
		return nil, fmt.Errorf("%s: %w", hub.Location{Ref: ref}, err)
	}
	if to := st.snap.Ref.Repo; to != repo {
		target := up + join(to.Namespace, to.Name)
		if hasRev {
			target += "@" + revName
		}
		if to.Namespace != "" {
			t.visit(space{to.Type, to.Namespace})
		}
		return &Symlink{num: inoOf("link", repo.String(), name), target: target, since: st.date()}, nil
	}
	if repo.Namespace != "" {
		t.visit(space{repo.Type, repo.Namespace})
	}
	if several {
		return t.severalRevisions(repo, revName), nil
	}
	return a.dir(""), nil
}

// severalRevisions is NAME@ or NAME@refs.
func (t *Tree) severalRevisions(repo hub.Repo, revName string) *Dir {
	if revName == "" {
		return &Dir{&revsDir{t, repo}}
	}
	return &Dir{&refsDir{t, repo, "refs"}}
}
