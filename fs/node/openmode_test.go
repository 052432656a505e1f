package node

import "testing"

func TestOpenMode(t *testing.T) {
	const small, large = nativeMin - 1, nativeMin
	type count = openCount
	for _, c := range []struct {
		name    string
		count   count
		present string
		wish    openWish
		want    openMode
		stale   bool
	}{
		{"first, complete, large", count{}, "", openWish{size: large, backing: "blob"}, native, false},
		{"first, complete, small", count{}, "", openWish{size: small, backing: "blob"}, cached, false},
		{"first, complete, empty", count{}, "", openWish{backing: "blob"}, cached, false},
		{"first, incomplete, large", count{}, "", openWish{size: large}, cached, false},
		{"first, incomplete, small", count{}, "", openWish{size: small}, cached, false},
		{"first, local, empty", count{}, "", openWish{local: true, backing: "local"}, native, false},
		{"first, local, partial", count{}, "", openWish{local: true, size: large}, cached, false},
		{"first writer, clean", count{}, "", openWish{write: true, size: large}, cached, false},
		{"first writer, local", count{}, "", openWish{write: true, local: true, backing: "local"}, native, false},
		{"first writer, local, sealed", count{}, "", openWish{write: true, local: true, size: large}, cached, false},
		{"cached, complete since", count{cached: 1}, "", openWish{size: large, backing: "blob"}, cached, false},
		{"cached, incomplete", count{cached: 1}, "", openWish{size: large}, cached, false},
		{"cached, local by now", count{cached: 3}, "", openWish{local: true, backing: "local"}, cached, false},
		{"cached, writer", count{cached: 1}, "", openWish{write: true}, cached, false},
		{"cached, writer of a complete file", count{cached: 1}, "", openWish{write: true, local: true, backing: "local"}, cached, false},
		{"native, complete", count{native: 1}, "blob", openWish{size: large, backing: "blob"}, native, false},
		{"native, evicted since", count{native: 1}, "blob", openWish{size: large}, native, false},
		{"native, moved since", count{native: 3}, "local", openWish{size: large, backing: "blob"}, native, false},
		{"native on a blob, writer", count{native: 1}, "blob", openWish{write: true, size: large}, 0, true},
		{"native on what is sealed, writer", count{native: 1}, "local", openWish{write: true, local: true}, 0, true},
		{"native, writer of another file", count{native: 1}, "blob", openWish{write: true, backing: "local"}, 0, true},
		{"native, writer of the same", count{native: 1}, "local", openWish{write: true, local: true, backing: "local"}, native, false},
	} {
		got, ok := c.count.mode(c.wish, c.present)
		if ok == c.stale || (ok && got != c.want) {
			t.Errorf("%s: %v, %v, want %v", c.name, got, ok, c.want)
		}
	}
}

// Whatever the order of opens, releases and what happens to the file in
// between: modes and files on disk never mix on one inode, nobody writes to
// what is not for writing, and a file that nobody holds is promoted.
func TestOpenModesNeverMix(t *testing.T) {
	wishes := []openWish{
		{size: nativeMin},                              // clean, incomplete
		{size: nativeMin, backing: "blob"},             // clean, complete
		{size: nativeMin, write: true},                 // clean, by a writer
		{local: true, backing: "local"},                // local
		{local: true, backing: "local", write: true},   // local, by a writer
		{local: true, backing: "sealed"},               // sealed
		{local: true, size: nativeMin, write: true},    // sealed, by a writer
		{local: true, backing: "local 2", write: true}, // written anew
	}
	type held struct {
		mode openMode
		wish openWish
	}
	var walk func(c openCount, present string, open []held, depth int)
	walk = func(c openCount, present string, open []held, depth int) {
		if c.cached > 0 && c.native > 0 {
			t.Fatalf("mixed: %+v", open)
		}
		if depth == 0 {
			return
		}
		for i := range open { // a release
			c, rest := c, append(append([]held(nil), open[:i]...), open[i+1:]...)
			c.leave(open[i].mode)
			p := present
			if c.native == 0 {
				p = ""
			}
			walk(c, p, rest, depth-1)
		}
		for _, w := range wishes { // an open
			m, ok := c.mode(w, present)
			if !ok {
				if c.native == 0 || !w.write {
					t.Fatalf("%+v refused %+v", open, w)
				}
				continue
			}
			p := present
			if m == native && c.native == 0 {
				if p = w.backing; p == "" {
					t.Fatalf("%+v is native without a file", w)
				}
			}
			if m == native && w.write && p != w.backing {
				t.Fatalf("%+v writes to %s", w, p)
			}
			if want := w.backing != ""; c.idle() && want != (m == native) {
				t.Fatalf("idle, %+v opened %v", w, m)
			}
			c := c
			c.enter(m)
			walk(c, p, append(append([]held(nil), open...), held{m, w}), depth-1)
		}
	}
	walk(openCount{}, "", nil, 5)
}

// TestAsks has the file on disk be looked for wherever it makes a difference.
func TestAsks(t *testing.T) {
	asked := 0
	for _, c := range []openCount{{}, {cached: 1}, {native: 1}} {
		for _, w := range []openWish{
			{size: nativeMin - 1}, {size: nativeMin}, {size: 1, local: true}, {size: 1, write: true}, {size: nativeMin, write: true, local: true},
		} {
			present := ""
			if c.native > 0 {
				present = "a"
			}
			none, noneOK := c.mode(w, present)
			differs := false
			for _, b := range []string{"a", "b"} {
				w.backing = b
				m, ok := c.mode(w, present)
				differs = differs || m != none || ok != noneOK
			}
			if differs && !c.asks(w) {
				t.Errorf("%+v of %+v depends on a file that is not asked for", w, c)
			}
			if c.asks(w) {
				asked++
			}
		}
	}
	if (openCount{}).asks(openWish{size: nativeMin - 1}) || asked == 0 {
		t.Errorf("asked %d times, and for small files", asked)
	}
}
