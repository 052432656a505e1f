package main

import (
	"slices"
	"strings"
)

// listedChanges bounds how many changes a message names.
const listedChanges = 10

// shown are the changes that people are told of: the delete that is half of a
// rename is left out where the other half names it, as git does.
func shown(changes []changeStatus) []changeStatus {
	told := make(map[string]bool)
	for _, c := range changes {
		if c.Was != "" {
			told[c.Was] = true
		}
	}
	out := make([]changeStatus, 0, len(changes))
	for _, c := range changes {
		if !c.Moved || !told[c.Path] {
			out = append(out, c)
		}
	}
	return out
}

// listChanges names changes, a line each, indented.
func listChanges(changes []changeStatus) string {
	var b strings.Builder
	for _, line := range changeLines(changes, listedChanges) {
		b.WriteString("  " + line + "\n")
	}
	return b.String()
}

// changeLines names at most max changes, 0 is all, a line each. Those that are
// in one state for one reason stand together; where they are several, the
// reason is said once, above them. What has no reason of its own follows the
// others in its state: the guard gives its reason once for all that it holds.
func changeLines(changes []changeStatus, max int) []string {
	type why struct{ state, reason string }
	groups := make(map[why][]changeStatus)
	var order []why
	states := make(map[string]int) // in order of their first path
	visible := shown(changes)
	for _, c := range visible {
		w := why{c.State, c.Reason}
		if groups[w] == nil {
			order = append(order, w)
		}
		groups[w] = append(groups[w], c)
		if _, ok := states[c.State]; !ok {
			states[c.State] = len(states)
		}
	}
	slices.SortStableFunc(order, func(a, b why) int {
		switch {
		case a.state != b.state:
			return states[a.state] - states[b.state]
		case a.reason == "" && b.reason != "":
			return 1
		case a.reason != "" && b.reason == "":
			return -1
		}
		return 0
	})
	var out []string
	named := 0
	for _, w := range order {
		once := w.reason != "" && len(groups[w]) > 1
		for i, c := range groups[w] {
			if max > 0 && named == max {
				return append(out, "… and "+count(len(visible)-named, "other"))
			}
			if once {
				if i == 0 {
					out = append(out, w.state+": "+printable(w.reason))
				}
				c.Reason = ""
			}
			out = append(out, c.line())
			named++
		}
	}
	return out
}

// line is a change as `git status --short` prints one, and what state it is in
// if that is not the usual.
func (c changeStatus) line() string {
	s := c.short()
	switch {
	case c.Reason != "":
		s += "  (" + c.State + ": " + printable(c.Reason) + ")"
	case c.State != "pending":
		s += "  (" + c.State + ")"
	}
	return s
}

// short is a change as `git status --short` prints one.
func (c changeStatus) short() string {
	letter := map[string]string{"add": "A", "modify": "M", "delete": "D", "rename": "R"}[c.Op]
	if c.Op == "rename" {
		return letter + "  " + printable(c.Was) + " -> " + printable(c.Path)
	}
	return letter + "  " + printable(c.Path)
}
