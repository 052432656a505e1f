package fs

import (
	"testing"
	"testing/synctest"
	"time"

	"hfmount/remote/hub"
)

// TestUnchangedForAnHour has a second ls -lR and grep -r of what nobody changed
// cost no more than the looks at the branch in between, and of a commit nothing.
func TestUnchangedForAnHour(t *testing.T) {
	const refresh = 30 * time.Second
	for _, pinned := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			files := library(3, 40)
			h := newSlowHub(files)
			loc := "a/b"
			if pinned {
				loc += "@" + string(h.heads[hub.Ref{Repo: repoAB, Revision: "main"}])
			}
			root := rootOf(t, newTree(t, Options{Source: h, Refresh: refresh}), loc)
			walkAll := func() {
				for _, dir := range names(t, root) {
					names(t, at(t, root, dir).(*Dir))
				}
				readEach(t, root, files, inOrder(files))
			}
			walkAll()
			h.asked()
			time.Sleep(time.Hour)
			walkAll()
			most := 1 + int(time.Hour/refresh)
			if pinned {
				most = 0
			}
			if n := h.asked(); n > most {
				t.Errorf("%d requests in an hour, pinned %v", n, pinned)
			}
		})
	}
}
