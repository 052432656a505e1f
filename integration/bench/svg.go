package main

import (
	"fmt"
	"html"
	"math"
	"strconv"
	"strings"
)

// A plate is several small plots with the same horizontal axis. Both axes of
// each are logarithmic: what grows in proportion is a line as steep as the
// dashed ones, what stays is level.
type plate struct {
	title, axis string // axis says what grows
	plots       []plot
	note        string
}

type plot struct {
	title string // with the unit
	lines []line
}

type line struct {
	name   string
	points []point
}

type point struct{ x, y float64 }

const (
	plotWidth, plotHeight = 300, 190
	plateColumns          = 3
	plateTop              = 46
	marginLeft            = 54
	marginRight           = 22
	marginTop             = 34
	marginBottom          = 38
)

// The colours hold in light and dark; where the viewer says which it is, ink
// and grid follow.
const plateStyle = `<style>
text{font-family:system-ui,sans-serif;font-size:11px;fill:#57606a}
.head{font-size:14px;font-weight:600}.title{font-weight:600}
.grid{stroke:#8c959f;stroke-opacity:.35}.slope{stroke:#8c959f;stroke-opacity:.6;stroke-dasharray:3 4}
.a{stroke:#0b7fd0;fill:#0b7fd0}.b{stroke:#d9632a;fill:#d9632a}.c{stroke:#2f9e5f;fill:#2f9e5f}
path{fill:none!important;stroke-width:2}text.a,text.b,text.c{stroke:none}
@media(prefers-color-scheme:dark){text{fill:#c9d1d9}.a{stroke:#58b1f5;fill:#58b1f5}.b{stroke:#f0905e;fill:#f0905e}.c{stroke:#5cc98b;fill:#5cc98b}}
</style>
`

var lineClasses = []string{"a", "b", "c"}

// svg draws the plate.
func (p plate) svg() string {
	rows := (len(p.plots) + plateColumns - 1) / plateColumns
	width, height := plateColumns*plotWidth, plateTop+rows*plotHeight+24
	var s strings.Builder
	fmt.Fprintf(&s, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="%s">`+"\n", width, height, html.EscapeString(p.title))
	s.WriteString(plateStyle)
	label(&s, 12, 24, "head", "", p.title)
	for i, q := range p.plots {
		fmt.Fprintf(&s, `<g transform="translate(%d %d)">`+"\n", i%plateColumns*plotWidth, plateTop+i/plateColumns*plotHeight)
		q.draw(&s, p.axis)
		s.WriteString("</g>\n")
	}
	label(&s, 12, float64(height-10), "", "", p.note)
	s.WriteString("</svg>\n")
	return s.String()
}

// span is a range of an axis, in powers of ten.
type span struct{ from, to float64 }

func spanOf(values []float64) span {
	s := span{math.Inf(1), math.Inf(-1)}
	for _, v := range values {
		s.from, s.to = min(s.from, math.Log10(v)), max(s.to, math.Log10(v))
	}
	if len(values) == 0 {
		return span{0, 1}
	}
	return s
}

// whole widens a span to whole powers of ten.
func (s span) whole() span {
	s.from, s.to = math.Floor(s.from+1e-9), math.Ceil(s.to-1e-9)
	if s.to-s.from < 1 {
		s.to = s.from + 1
	}
	return s
}

func (s span) at(v, low, high float64) float64 {
	return low + (math.Log10(v)-s.from)/(s.to-s.from)*(high-low)
}

func (q plot) draw(s *strings.Builder, axis string) {
	var xs, ys []float64
	for _, l := range q.lines {
		for _, p := range l.points {
			if p.y > 0 {
				xs, ys = append(xs, p.x), append(ys, p.y)
			}
		}
	}
	x, y := spanOf(xs).whole(), spanOf(ys).whole()
	left, right := float64(marginLeft), float64(plotWidth-marginRight)
	top, bottom := float64(marginTop), float64(plotHeight-marginBottom)
	label(s, left-40, 16, "title", "", q.title)
	for e := y.from; e <= y.to; e++ {
		at := y.at(math.Pow(10, e), bottom, top)
		fmt.Fprintf(s, `<path class="grid" style="stroke-width:1" d="M%.1f %.1fH%.1f"/>`+"\n", left, at, right)
		label(s, left-6, at+4, "", "end", short(math.Pow(10, e)))
	}
	for e := x.from; e <= x.to; e++ {
		label(s, x.at(math.Pow(10, e), left, right), bottom+16, "", "middle", short(math.Pow(10, e)))
	}
	label(s, (left+right)/2, bottom+32, "", "middle", axis)
	// In proportion: through the lower left corner, as far as the plot goes.
	reach := min(x.to-x.from, y.to-y.from)
	fmt.Fprintf(s, `<path class="slope" style="stroke-width:1" d="M%.1f %.1fL%.1f %.1f"/>`+"\n", left, bottom,
		left+reach/(x.to-x.from)*(right-left), bottom-reach/(y.to-y.from)*(bottom-top))
	for i, l := range q.lines {
		class := lineClasses[i%len(lineClasses)]
		var d strings.Builder
		for _, p := range l.points {
			if p.y <= 0 {
				continue
			}
			px, py := x.at(p.x, left, right), y.at(p.y, bottom, top)
			verb := "L"
			if d.Len() == 0 {
				verb = "M"
			}
			fmt.Fprintf(&d, "%s%.1f %.1f", verb, px, py)
			fmt.Fprintf(s, `<circle class="%s" cx="%.1f" cy="%.1f" r="3"><title>%s: %s</title></circle>`+"\n", class, px, py, html.EscapeString(l.name), number(p.y))
			label(s, px, py-7, class, "middle", short(p.y))
		}
		fmt.Fprintf(s, `<path class="%s" d="%s"/>`+"\n", class, d.String())
		if len(q.lines) > 1 {
			label(s, left+8+float64(i)*104, 29, class, "", l.name)
		}
	}
}

func label(s *strings.Builder, x, y float64, class, anchor, what string) {
	fmt.Fprintf(s, `<text x="%.1f" y="%.1f"`, x, y)
	if class != "" {
		fmt.Fprintf(s, ` class="%s"`, class)
	}
	if anchor != "" {
		fmt.Fprintf(s, ` text-anchor="%s"`, anchor)
	}
	fmt.Fprintf(s, ">%s</text>\n", html.EscapeString(what))
}

// short shows a number with two digits that matter, and thousands as k and M.
func short(v float64) string {
	unit := ""
	switch {
	case v >= 999_500:
		v, unit = v/1e6, "M"
	case v >= 999.5:
		v, unit = v/1e3, "k"
	}
	if v >= 100 {
		return strconv.FormatFloat(v, 'f', 0, 64) + unit
	}
	return strconv.FormatFloat(v, 'g', 2, 64) + unit
}
