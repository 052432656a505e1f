package writeback

import (
	"slices"
	"testing"
)

func TestWholeSaves(t *testing.T) {
	mk := func(path string, s State, writers ...writer) *item {
		return &item{Change: Change{Path: path, Kind: Put, State: s}, writers: writers}
	}
	renamed := mk("b/new", Pending)
	renamed.Was = "a/old"
	all := []*item{
		mk("ckpt/1", Pending), mk("ckpt/2", Open, writer{PID: 7}),
		mk("logs/a", Pending), mk("logs/b", Open, writer{PID: 7, Append: true}),
		mk("whole/1", Pending),
		// A rename ties two units together.
		{Change: Change{Path: "a/old", Kind: Delete, State: Pending}}, renamed, mk("a/x", Open, writer{PID: 7}),
		// What an earlier process left half written, lately or long ago.
		mk("crashed/x", Pending), mk("crashed/y", Unclosed), mk("long/x", Pending), mk("long/y", Unclosed),
		// A file that is local only is no part of a save.
		mk("work/x", Pending), mk("work/.git/index", LocalOnly, writer{PID: 7}),
	}
	for _, it := range all {
		if it.Path == "crashed/y" {
			it.Since = noon.Add(-defaults.CommitMaxWait / 2)
		}
	}
	var selected []*item
	for _, it := range all {
		if it.State == Pending {
			selected = append(selected, it)
		}
	}
	var got []string
	for _, it := range wholeSaves(selected, all, defaults, noon) {
		got = append(got, it.Path)
	}
	if want := []string{"logs/a", "whole/1", "long/x", "work/x"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
