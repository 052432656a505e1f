package writeback

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"hfmount/remote/hub"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

var defaults = Policy{CommitAfter: 30 * time.Second, CommitMaxWait: 15 * time.Minute, Host: "box", Mount: "/m"}

func put(path string, at time.Duration) *item {
	return &item{Change: Change{Path: path, Kind: Put, State: Pending, Since: noon.Add(at)}}
}

func del(path string, at time.Duration) *item {
	e := hub.Entry{Path: path, OID: strings.Repeat("a", 40)}
	return &item{Change: Change{Path: path, Kind: Delete, State: Pending, Since: noon.Add(at), Base: Base{Entry: &e}}}
}

func (it *item) with(f func(*item)) *item { f(it); return it }

func TestUnitOf(t *testing.T) {
	for path, want := range map[string]string{"a": "", "config.json": "", "d/a": "d", "d/e/a": "d"} {
		if got := unitOf(path); got != want {
			t.Errorf("unitOf(%q) = %q, want %q", path, got, want)
		}
	}
}

func TestReadiness(t *testing.T) {
	const never = -1
	open := func(at time.Duration, appendOnly bool) func(*item) {
		return func(it *item) {
			it.State = Open
			it.writers = []writer{{PID: 7, Since: noon.Add(at), Append: appendOnly}}
		}
	}
	state := func(s State) func(*item) { return func(it *item) { it.State = s } }
	moved := func(was string) func(*item) { return func(it *item) { it.moved, it.Was = true, was } }
	for _, c := range []struct {
		name  string
		items []*item
		want  time.Duration // after noon
	}{
		{"one closed file", []*item{put("d/a", 0)}, 30 * time.Second},
		{"the last close counts", []*item{put("d/a", 0), put("d/b", 20*time.Second)}, 50 * time.Second},
		{"a delete counts", []*item{put("d/a", 0), del("d/b", 25*time.Second)}, 55 * time.Second},
		{"only deletes", []*item{del("d/b", 0)}, 30 * time.Second},
		{"never longer than the longest wait", []*item{put("d/a", 0), put("d/b", 15*time.Minute-time.Second)}, 15 * time.Minute},
		{"an open file holds", []*item{put("d/a", 0), put("d/b", 0).with(open(time.Minute, false))}, 16 * time.Minute},
		{"an open file holds on from the longest wait", []*item{put("d/a", 0), put("d/b", 0).with(open(10*time.Minute, false))}, 25 * time.Minute},
		{"one that appends does not", []*item{put("d/a", 0), put("d/b", 0).with(open(time.Minute, true))}, 30 * time.Second},
		{"nothing but an open file", []*item{put("d/b", 0).with(open(0, false))}, never},
		{"local-only does not count", []*item{put("d/a", 0), put("d/.x.swp", time.Minute).with(state(LocalOnly))}, 30 * time.Second},
		{"an open local-only file does not hold", []*item{put("d/a", 0), put("d/x.swp", 0).with(open(0, false)).with(state(LocalOnly))}, 30 * time.Second},
		{"only local-only", []*item{put("d/.x.swp", 0).with(state(LocalOnly))}, never},
		{"held", []*item{put("d/a", 0), put("d/b", 0).with(state(Held))}, never},
		{"refused holds its unit", []*item{put("d/a", 0), put("d/b", 0).with(state(Refused))}, never},
		{"a conflict holds its unit", []*item{put("d/a", 0), put("d/b", 0).with(state(Conflict))}, never},
		{"blocked", []*item{put("d/a", 0).with(state(Blocked))}, never},
		{"in a pull request", []*item{put("d/a", 0), put("d/b", 9*time.Minute).with(state(InPR))}, 30 * time.Second},
		{"unclosed holds as an open file", []*item{put("d/a", 0), put("d/b", 0).with(state(Unclosed))}, 15 * time.Minute},
		{"a directory renamed into place", []*item{put("d/a", 0).with(moved("t/a")), put("d/b", 0).with(moved("t/b"))}, 0},
		{"renamed over an older one", []*item{put("d/a", time.Second).with(moved("t/a")), del("d/b", 0)}, time.Second},
		{"renamed, and something else", []*item{put("d/a", 0).with(moved("t/a")), put("d/b", time.Second)}, 31 * time.Second},
		{"a symlink is no commit", []*item{{Change: Change{Path: "d/l", Kind: Symlink, State: LocalOnly}}}, never},
	} {
		t.Run(c.name, func(t *testing.T) {
			groups := groupItems(c.items)
			if len(groups) != 1 {
				t.Fatalf("%d groups, want 1", len(groups))
			}
			at, ok := groups[0].readyAt(defaults)
			switch {
			case c.want == never && ok:
				t.Errorf("ready %v after noon, want never", at.Sub(noon))
			case c.want != never && (!ok || at.Sub(noon) != c.want):
				t.Errorf("ready %v after noon (%v), want %v", at.Sub(noon), ok, c.want)
			}
		})
	}
}

func TestGroups(t *testing.T) {
	from := func(path string) func(*item) {
		return func(it *item) { it.From = &Place{Entry: hub.Entry{Path: path}} }
	}
	items := []*item{
		put("a/1", 0), put("b/2", 0), put("root", 0), del("old/x", 0), put("new/x", 0).with(func(it *item) { it.Was = "old/x" }),
		del("src/y", 0), put("dst/y", 0).with(from("src/y")), put("b/1", 0).with(from("a/1")),
	}
	var got []string
	for _, g := range groupItems(items) {
		var paths []string
		for _, it := range g.items {
			paths = append(paths, it.Path)
		}
		got = append(got, strings.Join(paths, " "))
	}
	want := []string{"root", "a/1", "b/1 b/2", "dst/y src/y", "new/x old/x"}
	if !slices.Equal(got, want) {
		t.Errorf("groups %q, want %q", got, want)
	}
}

// A file in the root and a directory of its name are one save: a branch has
// room for one of them.
func TestGroupsOfOneName(t *testing.T) {
	folder := func(path string) *item { return &item{Change: Change{Path: path, Kind: Folder}} }
	for _, tt := range []struct {
		name  string
		items []*item
		want  int
	}{
		{"a file becomes a directory", []*item{del("f", 0), put("f/x", 0)}, 1},
		{"a directory becomes a file", []*item{put("d", 0), del("d/x", 0)}, 1},
		{"they change places", []*item{put("d", 0), del("d/x", 0), del("f", 0), put("f/x", 0)}, 1},
		{"a mark of a directory is nothing to commit", []*item{folder("d"), put("d/x", 0), put("r", 0)}, 2},
		{"another name", []*item{del("f", 0), put("g/x", 0)}, 2},
	} {
		if got := groupItems(tt.items); len(got) != tt.want {
			t.Errorf("%s: %d groups, want %d", tt.name, len(got), tt.want)
		}
	}
}

func TestHolders(t *testing.T) {
	open := put("d/b", 0).with(func(it *item) {
		it.State = Open
		it.writers = []writer{{PID: 7, Since: noon}, {PID: 8, Since: noon, Append: true}}
	})
	groups := groupItems([]*item{put("d/a", 0), open, put("e/a", 0)})
	want := []Holder{{Path: "d/b", PID: 7}}
	if got := holders(groups, defaults, noon.Add(time.Minute)); !slices.Equal(got, want) {
		t.Errorf("holders %v, want %v", got, want)
	}
	if got := holders(groups, defaults, noon.Add(15*time.Minute)); len(got) != 0 {
		t.Errorf("after the longest wait %v still hold", got)
	}
}

func TestWithoutHalves(t *testing.T) {
	renamed := put("d/new", 0).with(func(it *item) { it.Was = "d/old" })
	all := []*item{renamed, del("d/old", 0), put("d/c", 0), del("d/gone", 0)}
	got := withoutHalves(all[1:], all)
	if len(got) != 2 || got[0].Path != "d/c" || got[1].Path != "d/gone" {
		t.Errorf("kept %v, want d/c and d/gone", got)
	}
	if got := withoutHalves(all, all); len(got) != 4 {
		t.Errorf("kept %d of a whole selection", len(got))
	}
}

// TestCoherent has a file become a directory, and a directory a file, while what
// has to leave first must wait for a file that is open.
func TestCoherent(t *testing.T) {
	old := func(it *item) { it.Base.Entry = &hub.Entry{Path: it.Path, Type: hub.File} }
	all := []*item{
		put("x/open", 0).with(func(it *item) { it.Was = "x/a" }),
		del("x/a", 0).with(old), put("x/a/b", 0), put("x/a/c", 0).with(func(it *item) { it.Was = "x/d/e" }),
		del("x/d/e", 0).with(old), put("x/d", 0), put("x/else", 0), del("x/gone", 0).with(old),
	}
	got := pathsOf(coherent(all[1:], all))
	if want := []string{"x/else", "x/gone"}; !slices.Equal(got, want) {
		t.Errorf("kept %v, want %v", got, want)
	}
	if got := coherent(all, all); len(got) != len(all) {
		t.Errorf("kept %d of a whole selection", len(got))
	}
	got = pathsOf(companions(all[2], all))
	slices.Sort(got)
	if want := []string{"x/a", "x/a/b", "x/open"}; !slices.Equal(got, want) {
		t.Errorf("with x/a/b go %v, want %v", got, want)
	}
}

func TestSplitOrder(t *testing.T) {
	parts := []part{
		{path: "old.safetensors", del: true},
		{path: "README.md"},
		{path: "ckpt/model.safetensors.index.json"},
		{path: "ckpt/model-1.safetensors"},
		{path: "ckpt/model-2.safetensors"},
		{path: "ckpt/config.json"},
		{path: "zz/new", from: []string{"zz/old"}},
		{path: "zz/old", del: true},
		{path: "file", del: true},
		{path: "file/now-a-dir"},
	}
	p := &pace{files: 20}
	p.files = 2
	var got []string
	for _, c := range split(parts, p) {
		var s []string
		for _, i := range c {
			s = append(s, parts[i].path)
		}
		got = append(got, strings.Join(s, " "))
	}
	want := []string{
		"ckpt/model-1.safetensors ckpt/model-2.safetensors",
		"file file/now-a-dir",
		"zz/new zz/old",
		"README.md ckpt/config.json",
		"ckpt/model.safetensors.index.json old.safetensors",
	}
	if !slices.Equal(got, want) {
		t.Errorf("commits\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestSplitSizes(t *testing.T) {
	files := func(n int, size int64) []part {
		var out []part
		for i := range n {
			out = append(out, part{path: fmt.Sprintf("d/%05d", i), inline: size})
		}
		return out
	}
	for _, c := range []struct {
		name  string
		parts []part
		pace  pace
		want  []int
	}{
		{"none", nil, pace{}, nil},
		{"a unit of a thousand stays whole", files(1000, 10), pace{}, []int{1000}},
		{"more are cut", files(1001, 10), pace{}, []int{250, 250, 250, 250, 1}},
		{"a slow Hub", files(100, 10), pace{files: 40}, []int{40, 40, 20}},
		{"by bytes", files(25, 10<<20), pace{}, []int{10, 10, 5}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []int
			for _, chunk := range split(c.parts, &c.pace) {
				got = append(got, len(chunk))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("sizes %v, want %v", got, c.want)
			}
		})
	}
}

func TestPace(t *testing.T) {
	var p pace
	p.took(250, time.Second)
	if p.most() != mostFiles {
		t.Errorf("after a fast commit %d files, want %d", p.most(), mostFiles)
	}
	p.took(1000, 80*time.Second)
	if p.most() != 500 {
		t.Errorf("after 1000 files in 80 s %d files, want 500", p.most())
	}
	p.took(10, time.Second)
	if p.most() != 500 {
		t.Errorf("a small commit changed it to %d", p.most())
	}
	p.took(30, 10*time.Minute)
	if p.most() != fewestFiles {
		t.Errorf("after a very slow commit %d files, want %d", p.most(), fewestFiles)
	}
}
