package writeback

import (
	"strings"
	"testing"

	"hfmount/remote/hub"
)

// conflictTable is the table of docs/SEMANTICS.md: A is what the path was when
// our change began, B what somebody else made of it, X what we did.
var conflictTable = []struct {
	what              string
	ours, base, there string // "" is nothing
	want              merged
}{
	{"we add, nobody else did", "X", "", "", carry},
	{"both add the same bytes", "X", "", "X", done},
	{"both add, different bytes", "X", "", "B", clash},
	{"we modify, nobody else did", "X", "A", "A", carry},
	{"both make the same change", "X", "A", "X", done},
	{"both modify", "X", "A", "B", clash},
	{"we modify, they delete", "X", "A", "", clash},
	{"we rewrite equal bytes", "A", "A", "A", done},
	{"we rewrite equal bytes, they modify", "A", "A", "B", done},
	{"we rewrite equal bytes, they delete", "A", "A", "", done},
	{"we delete, nobody else did", "", "A", "A", carry},
	{"both delete", "", "A", "", done},
	{"we delete, they modify", "", "A", "B", clash},
	{"we add a file, they a directory", "X", "", "/", clash},
}

func TestConflictTable(t *testing.T) {
	entry := func(s string, lfs bool) *hub.Entry {
		if s == "" {
			return nil
		}
		e := &hub.Entry{Path: "p", Size: 1, OID: strings.Repeat(strings.ToLower(s[:1]), 40)}
		if s == "/" {
			e.Type, e.OID = hub.Directory, strings.Repeat("d", 40)
		} else if lfs {
			e.SHA256 = strings.Repeat(strings.ToLower(s), 64)
		}
		return e
	}
	for _, lfs := range []bool{false, true} {
		for _, c := range conflictTable {
			var ours *content
			if c.ours != "" {
				ours = &content{Size: 1, Git: strings.Repeat(strings.ToLower(c.ours), 40), SHA256: strings.Repeat(strings.ToLower(c.ours), 64)}
			}
			if got := meet(ours, entry(c.base, lfs), entry(c.there, lfs)); got != c.want {
				t.Errorf("%s (lfs %v): %d, want %d", c.what, lfs, got, c.want)
			}
		}
	}
}

func TestMergeAttributes(t *testing.T) {
	const tail = " filter=lfs diff=lfs merge=lfs -text"
	for _, c := range []struct {
		what, ours, base, there, want string
		ok                            bool
	}{
		{"the Hub added a line", "*.a" + tail + "\n*.mine text\n", "*.a" + tail + "\n", "*.a" + tail + "\nnew.dat" + tail + "\n", "*.a" + tail + "\n*.mine text\nnew.dat" + tail + "\n", true},
		{"ours lacks a final newline", "*.mine text", "", "new.dat" + tail, "*.mine text\nnew.dat" + tail + "\n", true},
		{"we have the line", "x" + tail + "\n", "", "x" + tail + "\n", "x" + tail + "\n", true},
		{"somebody removed a line", "*.mine text\n", "*.a" + tail + "\n", "", "", false},
		{"somebody added another line", "*.mine text\n", "", "*.txt text\n", "", false},
	} {
		got, ok := mergeAttributes(c.ours, c.base, c.there)
		if got != c.want || ok != c.ok {
			t.Errorf("%s: %q %v, want %q %v", c.what, got, ok, c.want, c.ok)
		}
	}
}
