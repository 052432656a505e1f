package node

import "testing"

func TestOpenMode(t *testing.T) {
	const small, large = nativeMin - 1, nativeMin
	for _, c := range []struct {
		name     string
		count    openCount
		complete bool
		size     int64
		want     openMode
	}{
		{"first, complete, large", openCount{}, true, large, native},
		{"first, complete, small", openCount{}, true, small, cached},
		{"first, complete, empty", openCount{}, true, 0, cached},
		{"first, incomplete, large", openCount{}, false, large, cached},
		{"first, incomplete, small", openCount{}, false, small, cached},
		{"cached open, complete since", openCount{cached: 1}, true, large, cached},
		{"cached open, incomplete", openCount{cached: 1}, false, large, cached},
		{"cached opens, complete, small", openCount{cached: 3}, true, small, cached},
		{"native open, complete", openCount{native: 1}, true, large, native},
		{"native open, evicted since", openCount{native: 1}, false, large, native},
		{"native opens", openCount{native: 3}, true, large, native},
	} {
		if got := c.count.mode(c.complete, c.size); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// Whatever the order of opens, releases and completions, the modes never mix
// and a file that nobody holds is promoted at its next open.
func TestOpenModesNeverMix(t *testing.T) {
	const steps = 8
	for bits := range 1 << (2 * steps) {
		var c openCount
		var held []openMode
		for i := range steps {
			open, complete := bits>>(2*i)&1 == 1, bits>>(2*i+1)&1 == 1
			if open {
				m := c.mode(complete, nativeMin)
				if c.idle() && complete != (m == native) {
					t.Fatalf("%b: idle file, complete %v, opened %v", bits, complete, m)
				}
				c.enter(m)
				held = append(held, m)
			} else if len(held) > 0 {
				c.leave(held[0])
				held = held[1:]
			}
			if c.cached > 0 && c.native > 0 {
				t.Fatalf("%b: mixed: %+v", bits, c)
			}
			if c.cached+c.native != len(held) {
				t.Fatalf("%b: counted %+v, held %v", bits, c, held)
			}
		}
	}
}
