package fs

import (
	"errors"
	iofs "io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"hfmount/remote/hub"
)

// wholeHub has a namespace, a canonical id, a renamed one, and an account.
func wholeHub(t *testing.T, loggedIn bool) (*fakeHub, *Tree, *Dir, *time.Time) {
	h := newFakeHub()
	r := func(typ hub.RepoType, ns, name string) hub.Repo {
		return hub.Repo{Type: typ, Namespace: ns, Name: name}
	}
	h.commit(repoAB, "main", day(1), someFiles)
	h.commit(repoAB, "v1", day(1), map[string]string{"v1": ""})
	h.commit(repoAB, "feature/x", day(1), map[string]string{"feature": ""})
	h.commit(repoAB, "refs/pr/1", day(1), map[string]string{"pr1": ""})
	h.commit(repoAB, "refs/convert/parquet", day(1), map[string]string{"parquet": ""})
	h.commit(r(hub.Dataset, "a", "d"), "main", day(1), map[string]string{"rows": ""})
	h.commit(r(hub.Model, "openai-community", "gpt2"), "main", day(1), map[string]string{"gpt2": "weights"})
	h.renamed[hub.Repo{Name: "gpt2"}] = r(hub.Model, "openai-community", "gpt2")
	h.renamed[r(hub.Model, "a", "old")] = r(hub.Model, "openai-community", "gpt2")
	if loggedIn {
		h.account = &hub.Account{Name: "me", Orgs: []string{"org"}}
	}
	now := day(20)
	tree := newTree(t, Options{Source: h, Now: func() time.Time { return now }})
	return h, tree, rootOf(t, tree, "hf://"), &now
}

func TestWholeHub(t *testing.T) {
	h, tree, root, _ := wholeHub(t, true)
	at(t, root, "datasets/a") // visited, and so shown from now on
	for path, want := range map[string]string{
		"a/b": "README.md config.json data empty é @#%.txt", "a/b@v1": "v1", "a/b@feature%2Fx": "feature",
		"a/b@refs%2Fpr%2F1": "pr1", "a/b@refs/pr/1": "pr1", "a/b@refs/convert/parquet": "parquet",
		"a/b@": "feature%2Fx main refs%2Fconvert%2Fparquet refs%2Fpr%2F1 v1", "a/b@/v1": "v1", "a/b@/refs%2Fpr%2F1": "pr1",
		"a/b@refs": "convert pr", "a/b@refs/pr": "1", "a/b@refs/convert": "parquet",
		"a": "b", "datasets/a": "d", "datasets/a/d": "rows", "org": "", "datasets": "a me org",
	} {
		d, ok := at(t, root, path).(*Dir)
		if !ok {
			t.Errorf("%s is no directory", path)
			continue
		}
		if got := strings.Join(names(t, d), " "); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	if got := names(t, root); !slices.Equal(got, []string{"a", "datasets", "me", "org", "spaces"}) {
		t.Errorf("root: %q", got)
	}
	// The same directory at two places would be torn from one by the kernel.
	seen := make(map[uint64]string)
	for _, path := range []string{"a/b", "a/b@main", "a/b@", "a/b@/main", "a/b@refs/pr/1", "a/b@refs%2Fpr%2F1", "a/b@/refs%2Fpr%2F1", "a", "datasets/a", "datasets", "spaces", "a/b@refs", "a/b@refs/pr"} {
		ino := at(t, root, path).Ino()
		if other, ok := seen[ino]; ok {
			t.Errorf("%s and %s share an inode number", path, other)
		}
		seen[ino] = path
	}
	for path, want := range map[string]string{
		"gpt2": "openai-community/gpt2", "gpt2@main": "openai-community/gpt2@main", "gpt2@": "openai-community/gpt2@",
		"a/old": "../openai-community/gpt2", "a/old@main": "../openai-community/gpt2@main",
	} {
		l, ok := at(t, root, path).(*Symlink)
		if !ok || l.Target() != want {
			t.Errorf("%s leads to %v, want %s", path, l, want)
		}
	}
	fsys := tree.FS(t.Context(), root)
	for _, p := range []string{"gpt2/gpt2", "a/old/gpt2", "gpt2@main/gpt2"} {
		if b, err := iofs.ReadFile(fsys, p); err != nil || string(b) != "weights" {
			t.Errorf("%s: %q, %v", p, b, err)
		}
	}
	if s, err := iofs.ReadLink(fsys, "gpt2"); err != nil || s != "openai-community/gpt2" {
		t.Error(s, err)
	}
	if err := fstest.TestFS(fsys, "a/b/README.md", "datasets/a/d/rows"); err != nil {
		t.Error(err)
	}
	if n := h.asked("whoami"); n != 1 {
		t.Errorf("asked %d times who we are", n)
	}
}

func TestNamesThatDoNotExist(t *testing.T) {
	for _, loggedIn := range []bool{true, false} {
		h, _, root, now := wholeHub(t, loggedIn)
		at(t, root, "a/b")
		at(t, root, "a/b@refs/pr")
		h.asked()
		for _, path := range []string{
			".git", ".Trash", "autorun.inf.", "a--b", "desktop ini", "é", "a/.hidden", "a/b.git", "a/-x", "a/x y", "datasets/.x",
			"a/b@..", "a/b@x~1", "a/b@%zz", "a/b@refs/heads", "a/b@refs/pr/x", "a/b@/..", "@", "@main", "a/@",
		} {
			if _, err := walk(t.Context(), root, path); !errors.Is(err, iofs.ErrNotExist) {
				t.Errorf("%s: %v", path, err)
			}
		}
		if n := h.asked(); n != 0 {
			t.Errorf("impossible names cost %d requests", n)
		}
		ask := []string{"nobody", "a/b@nope", "a/b@refs/pr/7", "nobody@main"}
		if loggedIn {
			ask = append(ask, "a/nope", "a/nope@", "datasets/nobody")
		} else if _, err := walk(t.Context(), root, "a/nope"); !errors.Is(err, iofs.ErrPermission) || errors.Is(err, iofs.ErrNotExist) {
			t.Errorf("it may be private: %v", err)
		}
		for _, path := range ask {
			for i := range 3 {
				h.asked()
				if _, err := walk(t.Context(), root, path); !errors.Is(err, iofs.ErrNotExist) {
					t.Errorf("%s: %v", path, err)
				}
				n := h.asked()
				if (n == 0) != (i == 1) {
					t.Errorf("%s: try %d cost %d requests", path, i, n)
				}
				if i == 1 {
					*now = now.Add(hubTTL + time.Second)
				}
			}
		}
	}
}

func TestFaultsAreNotAbsence(t *testing.T) {
	h, _, root, _ := wholeHub(t, true)
	h.set(func() { h.fail = func(string) error { return hub.ErrUnavailable } })
	for _, path := range []string{"a", "a/b", "a/b@v1"} {
		if _, err := walk(t.Context(), root, path); !errors.Is(err, hub.ErrUnavailable) || errors.Is(err, iofs.ErrNotExist) {
			t.Errorf("%s: %v", path, err)
		}
	}
	h.set(func() { h.fail = nil })
	at(t, root, "a/b@v1/v1")
}

func TestListedReposCostNothing(t *testing.T) {
	h, _, root, _ := wholeHub(t, true)
	a := at(t, root, "a").(*Dir)
	if _, _, err := a.ReadDir(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.asked()
	b := at(t, a, "b")
	if got := mtime(t, b); !got.Equal(day(9)) {
		t.Error(got)
	}
	if n := h.asked(); n != 0 {
		t.Errorf("ls -l of a namespace costs %d requests a line", n)
	}
	names(t, b.(*Dir))
	if got := mtime(t, b); !got.Equal(day(1)) {
		t.Error(got)
	}
}
