package main

import (
	"strings"
	"testing"
	"time"
)

func TestBetweenKeepsWhatPeopleWrote(t *testing.T) {
	doc := "# Speed\n\nWhy.\n\n" + markBegin + "old\n" + markEnd + "\nWhat each trick bought.\n"
	for _, c := range []struct{ name, doc, want string }{
		{"replaced", doc, strings.Replace(doc, "old\n", "new\n", 1)},
		{"no document", "", "# Benchmarks\n\n" + markBegin + "new\n" + markEnd},
		{"no markers", "# Mine\n", "# Mine\n\n" + markBegin + "new\n" + markEnd},
	} {
		if got := between(c.doc, "new\n"); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestBars(t *testing.T) {
	b := &bench{section: "s"}
	for _, c := range []struct {
		got  float64
		bar  *bar
		pass bool
	}{{0.95, atLeast(0.95), true}, {0.94, atLeast(0.95), false}, {1.15, atMost(1.15), true}, {1.16, atMost(1.15), false}} {
		b.check("x", "", c.got, c.bar, "")
		if r := b.rows[len(b.rows)-1]; (r.pass == "pass") != c.pass {
			t.Errorf("%v against %s: %s", c.got, r.bar, r.pass)
		}
	}
	if s := b.table(); !strings.Contains(s, "2 of 4 bars are met") {
		t.Error(s)
	}
}

func TestSamples(t *testing.T) {
	odd, even := samples{3, 1, 2}, samples{40 * time.Second, 10, 20, 0}
	if odd.median() != 2 || even.median() != 15 || odd.best() != 1 || (samples{}).median() != 0 {
		t.Error(odd.median(), even.median(), odd.best())
	}
}

func TestShares(t *testing.T) {
	for size := range int64(40) {
		at := int64(0)
		for _, p := range shares("u", size, 16) {
			if p.from != at || p.to < p.from {
				t.Fatalf("%d bytes: part from %d to %d, want from %d", size, p.from, p.to, at)
			}
			at = p.to + 1
		}
		if at != size {
			t.Fatalf("%d bytes: the parts end at %d", size, at)
		}
	}
}
