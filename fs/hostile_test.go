package fs

import (
	"errors"
	iofs "io/fs"
	"strings"
	"testing"

	"hfmount/remote/hub"
)

func TestHostileResolve(t *testing.T) {
	for name, lie := range map[string]func(*hub.Snapshot){
		"commit":      func(s *hub.Snapshot) { s.Commit = "../../../etc/passwd" },
		"no commit":   func(s *hub.Snapshot) { s.Commit = "" },
		"name":        func(s *hub.Snapshot) { s.Ref.Repo.Name = "../x" },
		"namespace":   func(s *hub.Snapshot) { s.Ref.Repo.Namespace = "a/../.." },
		"no name":     func(s *hub.Snapshot) { s.Ref.Repo.Name = "" },
		"other a pin": nil,
	} {
		h := newFakeHub()
		c := h.commit(repoAB, "main", day(1), someFiles)
		tree := newTree(t, Options{Source: h, MetaDir: t.TempDir()})
		ref := hub.Ref{Repo: repoAB}
		if lie == nil {
			ref.Revision = string(c)
			lie = func(s *hub.Snapshot) { s.Commit = hub.CommitID(sha("other")) }
		}
		h.lie = lie
		for range 2 {
			if _, err := tree.Root(t.Context(), hub.Location{Ref: ref}); !errors.Is(err, hub.ErrBadAnswer) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if got := tree.meta.repos(); len(got) != 0 {
			t.Errorf("%s: kept %v", name, got)
		}
		h.lie = nil
		if _, err := tree.Root(t.Context(), hub.Location{Ref: ref}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHostileLists(t *testing.T) {
	h, _, root, _ := wholeHub(t, true)
	revs, space := at(t, root, "a/b@").(*Dir), at(t, root, "a").(*Dir)
	for _, name := range []string{"..", "a..b", "", "a\x00", "a b", "\xff", "x//y", "/x", strings.Repeat("r", 300)} {
		h.set(func() { h.names = []string{name} })
		if _, _, err := revs.ReadDir(t.Context()); !errors.Is(err, hub.ErrBadAnswer) {
			t.Errorf("reference %q: %v", name, err)
		}
	}
	for _, r := range []hub.Repo{
		{Namespace: "a", Name: ".."}, {Namespace: "a", Name: "x/y"}, {Namespace: "a", Name: ""}, {Namespace: "", Name: "x"},
		{Namespace: "a", Name: "x\x00"}, {Type: hub.Space, Namespace: "a", Name: "x"}, {Namespace: "a", Name: strings.Repeat("x", 1000)},
	} {
		h.set(func() { h.repos = []hub.Repo{r} })
		if _, _, err := space.ReadDir(t.Context()); !errors.Is(err, hub.ErrBadAnswer) {
			t.Errorf("repository %q: %v", r, err)
		}
	}
	h.set(func() {
		h.names, h.repos = []string{strings.Repeat("/r", 120)[1:]}, []hub.Repo{{Namespace: "A", Name: "other-case"}}
	})
	if got := names(t, revs); len(got) != 5 {
		t.Errorf("a reference that is too long once encoded: %q", got)
	}
	if got := names(t, space); len(got) != 1 {
		t.Errorf("a namespace in another case: %q", got)
	}
}

func TestHostileHead(t *testing.T) {
	h := newFakeHub()
	h.commit(repoAB, "main", day(1), someFiles)
	tree := newTree(t, Options{Source: h})
	root := rootOf(t, tree, "a/b")
	h.set(func() { h.heads[hub.Ref{Repo: repoAB, Revision: "main"}] = "zzz" })
	if err := tree.Refresh(t.Context()); !errors.Is(err, hub.ErrBadAnswer) {
		t.Error(err)
	}
	at(t, root, "README.md")
}

// A recursive listing that lies is dropped whole, and names in it are not
// believed to exist or not to.
func TestHostileRecursive(t *testing.T) {
	for name, e := range map[string]hub.Entry{
		"dotdot": {Path: "data/../x", OID: sha("x")},
		"orphan": {Path: "nowhere/x", OID: sha("x")},
		"twice":  {Path: "data/x.txt", OID: sha("x")},
		"clash":  {Path: "README.md/x", OID: sha("x")},
	} {
		h := newFakeHub()
		h.commit(repoAB, "main", day(1), someFiles)
		tree := newTree(t, Options{Source: h, MetaDir: t.TempDir()})
		root := rootOf(t, tree, "a/b")
		h.set(func() { h.mangle = func(_ string, es []hub.Entry) []hub.Entry { return append(es, e) } })
		st := tree.view(hub.Ref{Repo: repoAB}).cur.Load()
		st.fill(t.Context())
		h.set(func() { h.mangle = nil })
		if st.local("") != nil || tree.meta.has(repoAB, "", st.root) {
			t.Errorf("%s: kept", name)
		}
		if _, err := walk(t.Context(), root, "nowhere"); !errors.Is(err, iofs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
