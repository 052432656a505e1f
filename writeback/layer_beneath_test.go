package writeback

import (
	"testing"

	"hfmount/remote/hub"
)

func TestBeneath(t *testing.T) {
	l, err := OpenLayer(LayerOptions{StateDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	base := Base{Entry: &hub.Entry{Path: "d/f/h"}}
	for _, e := range []Edit{
		{Path: "d/e", Kind: Folder}, {Path: "d/f/g", Kind: Symlink, Target: "x"}, {Path: "d/f/h", Kind: Delete, Base: base},
		{Path: "d", Kind: Folder}, {Path: "dd/x", Kind: Folder},
	} {
		if err := l.Apply(0, e); err != nil {
			t.Fatal(err)
		}
	}
	for dir, want := range map[string][2]int{"d": {2, 1}, "d/f": {1, 1}, "d/e": {0, 0}, "nope": {0, 0}, "nope/x": {0, 0}} {
		if shown, deletes := l.Beneath(dir); shown != want[0] || deletes != want[1] {
			t.Errorf("%s: %d shown, %d deleted, want %v", dir, shown, deletes, want)
		}
	}
}
