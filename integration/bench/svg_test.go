package main

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestPlate(t *testing.T) {
	p := plate{title: `How <cost> grows & why`, axis: "files", note: "note", plots: []plot{
		{title: "time, seconds", lines: []line{{name: "cold", points: []point{{1e3, 0.1}, {1e4, 1}, {1e5, 10}}}, {name: "warm", points: []point{{1e3, 0}}}}},
		{title: "constant", lines: []line{{points: []point{{1e3, 5}}}}},
		{title: "nothing"},
	}}
	svg := p.svg()
	marks := 0
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "circle" {
			marks++
		}
	}
	if marks != 4 {
		t.Errorf("%d points are drawn, want 4: zero has no place", marks)
	}
	if strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
		t.Errorf("not numbers:\n%s", svg)
	}
	// In proportion is a line along the diagonal: equal steps.
	for _, want := range []string{"M54.0 152.0L", "L166.0 93.0L278.0 34.0"} {
		if !strings.Contains(svg, want) {
			t.Errorf("no %s in\n%s", want, svg)
		}
	}
}

func TestShort(t *testing.T) {
	for v, want := range map[float64]string{0.0123: "0.012", 1: "1", 9.96: "10", 12.3: "12", 123: "123", 1234: "1.2k", 999_600: "1M", 2.5e6: "2.5M", 1e5: "100k"} {
		if got := short(v); got != want {
			t.Errorf("%g is %s, want %s", v, got, want)
		}
	}
}
