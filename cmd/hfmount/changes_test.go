package main

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

func TestChangeLines(t *testing.T) {
	const why = "the guard: it deletes 60 of the repository's 100 files"
	for name, c := range map[string]struct {
		changes []changeStatus
		max     int
		want    []string
	}{
		"nothing": {nil, 0, nil},
		"plain":   {[]changeStatus{{Path: "a", Op: "add", State: "pending"}, {Path: "b", Op: "modify", State: "pending"}}, 0, []string{"A  a", "M  b"}},
		"why pending": {[]changeStatus{{Path: "a", Op: "add", State: "pending", Reason: "permission denied"}}, 0,
			[]string{"A  a  (pending: permission denied)"}},
		"a rename is one line": {[]changeStatus{
			{Path: "new", Was: "old", Op: "rename", State: "pending"}, {Path: "old", Op: "delete", State: "pending", Moved: true}}, 0,
			[]string{"R  old -> new"}},
		"half of a rename by itself": {[]changeStatus{{Path: "old", Op: "delete", State: "pending", Moved: true}}, 0, []string{"D  old"}},
		"a delete that only looks like half": {[]changeStatus{
			{Path: "new", Was: "old", Op: "rename", State: "pending"}, {Path: "old", Op: "delete", State: "pending"}}, 0,
			[]string{"R  old -> new", "D  old"}},
		"one reason for all that the guard holds": {[]changeStatus{
			{Path: "a", Op: "delete", State: "held", Reason: why}, {Path: "b", Op: "delete", State: "held"}, {Path: "c", Op: "delete", State: "held"}}, 0,
			[]string{"D  a  (held: " + why + ")", "D  b  (held)", "D  c  (held)"}},
		"a reason of several": {[]changeStatus{
			{Path: "a", Op: "add", State: "held"}, {Path: "b", Op: "add", State: "pending"},
			{Path: "c", Op: "add", State: "held", Reason: why}, {Path: "d", Op: "add", State: "held", Reason: why}}, 0,
			[]string{"held: " + why, "A  c  (held)", "A  d  (held)", "A  a  (held)", "A  b"}},
		"too many": {[]changeStatus{
			{Path: "a", Op: "add", State: "held", Reason: why}, {Path: "b", Op: "add", State: "held", Reason: why}, {Path: "c", Op: "add", State: "open"}}, 1,
			[]string{"held: " + why, "A  a  (held)", "… and 2 others"}},
		"odd names": {[]changeStatus{{Path: "a\nb", Op: "add", State: "refused", Reason: "x\x1b[m"}}, 0, []string{"A  a?b  (refused: x?[m)"}},
	} {
		if got := changeLines(c.changes, c.max); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

// What a rename leaves behind is no line, but counts, and programs see it.
func TestMovedIsCounted(t *testing.T) {
	left := []changeStatus{{Path: "new", Was: "old", Op: "rename", State: "held"}, {Path: "old", Op: "delete", State: "held", Moved: true}}
	f := leftBehind(outcome{Left: left}, "/state")
	if !strings.Contains(f.text, "2 changes") || strings.Contains(f.hint, "D  old") {
		t.Errorf("%s\n%s", f.text, f.hint)
	}
	var diff bytes.Buffer
	if err := printShort(&diff, left); err != nil || diff.String() != "R  old -> new\n" {
		t.Errorf("diff: %q, %v", diff.String(), err)
	}
	raw, err := json.Marshal(left)
	if err != nil || !strings.Contains(string(raw), `"moved":true`) {
		t.Errorf("%s, %v", raw, err)
	}
}
