package hubtest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"hfmount/remote/hub"
)

// A page begins right behind the last entry of the one before, whatever the
// names.
func TestAfter(t *testing.T) {
	h, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	id := hub.Repo{Namespace: "a", Name: "b"}
	if err := h.CreateRepo(id, RepoOptions{}); err != nil {
		t.Fatal(err)
	}
	g := rand.New(rand.NewPCG(1, 2))
	names := []string{"a", "a-b", "a.b", "a0", "ab", "b", "B", "ü", "-", "0"}
	files := map[string][]byte{}
	for range 300 {
		path := ""
		for range g.IntN(4) {
			path += names[g.IntN(len(names))] + "/"
		}
		files[path+names[g.IntN(len(names))]+".txt"] = []byte(path)
	}
	for i := range 300 {
		files[fmt.Sprintf("many/f%d", i)] = []byte{}
	}
	c, err := h.Commit(id, "main", "files", files)
	if err != nil {
		t.Fatal(err)
	}
	r, _ := h.store.repo(id)
	for _, dir := range []string{"", "a", "many"} {
		for _, recursive := range []bool{false, true} {
			all, err := r.list(c, dir, recursive)
			if err != nil {
				t.Fatal(err)
			}
			for i, e := range all {
				if got := after(all, e.Path); got != i+1 {
					t.Fatalf("the page after %q of %q begins at %d, want %d", e.Path, dir, got, i+1)
				}
			}
		}
	}
	all, err := r.list(c, "many", false)
	if err != nil {
		t.Fatal(err)
	}
	gone := slices.Concat(all[:7], all[8:])
	if got := after(gone, all[7].Path); got != 7 {
		t.Errorf("after an entry that is gone: %d", got)
	}
	if got := after(all, "zzz"); got != len(all) {
		t.Errorf("after all entries: %d", got)
	}
}
