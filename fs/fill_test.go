package fs

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"hfmount/remote/hub"
)

// gitTree is the real id of a directory of plain files, and of those below.
func gitTree(files map[string]string, dir string) gitID {
	b := &builder{dir: dir}
	done := make(map[string]bool)
	for _, p := range slices.Sorted(maps.Keys(files)) {
		rest, ok := strings.CutPrefix(p, dir+"/")
		if dir == "" {
			rest, ok = p, true
		}
		name, _, deep := strings.Cut(rest, "/")
		if !ok || done[name] {
			continue
		}
		done[name] = true
		e := hub.Entry{Path: join(dir, name), OID: blobID(files[p])}
		if deep {
			e.Type, e.OID = hub.Directory, gitTree(files, join(dir, name)).String()
		}
		if err := b.add(e); err != nil {
			panic(err)
		}
	}
	return b.tree()
}

// The id is git's own, in git's order: a directory sorts as if its name ended
// in a slash.
func TestGitTree(t *testing.T) {
	files := map[string]string{"a.txt": "a\n", "a/x": "x\n", "a-b": "c\n"}
	// git init; git add .; git write-tree
	if got := gitTree(files, "").String(); got != "3e0c54c98d8206999ae2f2387188014237891100" {
		t.Error(got)
	}
}

// A directory that hashes to its git tree is used before the listing has
// ended; one that does not, and one whose lines come late, only at the end.
func TestFillShowsWhatIsProven(t *testing.T) {
	files := map[string]string{"run/tool": "#!", "top": "t"}
	for i := range 50 {
		files[fmt.Sprintf("data/d%02d/f", i)] = fmt.Sprint(i)
	}
	h := newFakeHub()
	c := h.commit(repoAB, "main", day(1), files)
	tree := newTree(t, Options{Source: h, MetaDir: t.TempDir()})
	rootOf(t, tree, "a/b")
	st := tree.view(hub.Ref{Repo: repoAB}).cur.Load()
	// The fake does not number directories as git does.
	number := func(_ string, es []hub.Entry) []hub.Entry {
		for i := range es {
			if es[i].Type == hub.Directory && es[i].Path != "run" {
				es[i].OID = gitTree(files, es[i].Path).String()
			}
		}
		return es
	}
	h.set(func() { h.mangle = number })
	if _, err := st.listing(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	f := newFilling(st)
	var late []hub.Entry
	for _, e := range number("", h.commits[c].list("", true)) {
		if e.Path == "data/d07/f" {
			late = append(late, e)
			continue
		}
		if err := f.add(e); err != nil {
			t.Fatal(err)
		}
	}
	// The root's lines follow those of "data", which is left by then.
	for path, want := range map[string]bool{"data": true, "data/d06": true, "data/d07": false, "data/d49": true, "run": false} {
		if got := st.local(path) != nil; got != want {
			t.Errorf("%s shown: %v", path, got)
		}
	}
	if f.held > 5 {
		t.Errorf("%d lines are held", f.held)
	}
	if err := f.add(hub.Entry{Path: "data/d06/g", OID: blobID("g")}); !errors.Is(err, hub.ErrBadAnswer) {
		t.Errorf("a line for a directory that is complete: %v", err)
	}
	for _, e := range late {
		if err := f.add(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.end(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"data/d07", "run"} {
		if st.local(path) == nil {
			t.Errorf("%s is not shown at the end", path)
		}
	}
}
