package main

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// row is one line of the table.
type row struct{ section, what, value, ratio, bar, pass, note string }

// bar is what issue and documentation promise: at least, or at most.
type bar struct {
	want  float64
	most  bool
	shown string
}

func atLeast(want float64) *bar { return &bar{want, false, fmt.Sprintf("≥ %g", want)} }
func atMost(want float64) *bar  { return &bar{want, true, fmt.Sprintf("≤ %g", want)} }

// as shows the bar with a unit.
func (p *bar) as(shown string) *bar { return &bar{p.want, p.most, shown} }

func (p *bar) met(got float64) bool {
	if p.most {
		return got <= p.want
	}
	return got >= p.want
}

func (b *bench) put(r row) {
	r.section = b.section
	b.rows = append(b.rows, r)
	fmt.Fprintln(os.Stderr, " ", strings.Join(slices.DeleteFunc([]string{r.what, r.value, r.ratio, r.bar, r.pass, r.note},
		func(s string) bool { return s == "" }), " | "))
}

// add adds a line without a bar.
func (b *bench) add(what, value, ratio, note string) {
	b.put(row{what: what, value: value, ratio: ratio, note: note})
}

// check adds a line that passes or misses its bar with got.
func (b *bench) check(what, value string, got float64, p *bar, note string) {
	pass := "pass"
	if !p.met(got) {
		pass = "**miss**"
	}
	b.put(row{what: what, value: value, ratio: number(got), bar: p.shown, pass: pass, note: note})
}

// number shows a ratio with two or three digits that matter.
func number(x float64) string {
	switch {
	case x >= 100:
		return fmt.Sprintf("%.0f", x)
	case x >= 10:
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.2f", x)
}

// table renders the rows as Markdown.
func (b *bench) table() string {
	var s strings.Builder
	commit, _ := exec.Command("git", "rev-parse", "--short", "HEAD").Output()
	var kernel syscall.Utsname
	_ = syscall.Uname(&kernel)
	passed := 0
	barred := 0
	for _, r := range b.rows {
		if r.bar != "" {
			barred++
		}
		if r.pass == "pass" {
			passed++
		}
	}
	fmt.Fprintf(&s, "Made by `make bench` at commit %s: %d rounds, a file of %d MiB, kernel %s, user id %d.\n",
		strings.TrimSpace(string(commit)), b.rounds, b.file.Size>>20, chars(kernel.Release[:]), os.Getuid())
	fmt.Fprintf(&s, "%d of %d bars are met. Raw figures are the best round, the others medians; a ratio is speed against the first line\nof its section unless the line says otherwise. ", passed, barred)
	if b.failures == 0 {
		fmt.Fprint(&s, "The content was verified and the logs of the mounts were empty of warnings. ")
	}
	fmt.Fprintf(&s, "%d of %d samples began on a quiet machine.\n", b.gates-b.noisy, b.gates)
	section := ""
	for _, r := range b.rows {
		if r.section != section {
			section = r.section
			fmt.Fprintf(&s, "\n### %s\n\n| | measured | ratio | bar | | |\n|---|--:|--:|--:|---|---|\n", upper(section))
		}
		fmt.Fprintf(&s, "| %s | %s | %s | %s | %s | %s |\n", r.what, r.value, r.ratio, r.bar, r.pass, r.note)
	}
	return s.String()
}

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// The table of a run stands between these lines of a document; what is around
// them is written by people, and kept.
const (
	markBegin = "<!-- bench: begin -->\n"
	markEnd   = "<!-- bench: end -->\n"
)

// publish puts the table into a document.
func (b *bench) publish(file string) error {
	old, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return err
	}
	return os.WriteFile(file, []byte(between(string(old), b.table())), 0o644)
}

// between replaces what is between the markers, and adds them to the end of a
// document that has none.
func between(doc, table string) string {
	before, rest, ok := strings.Cut(doc, markBegin)
	_, after, closed := strings.Cut(rest, markEnd)
	switch {
	case ok && closed:
		return before + markBegin + table + markEnd + after
	case doc == "":
		doc = "# Benchmarks\n"
	}
	return doc + "\n" + markBegin + table + markEnd
}

func chars(c []int8) string {
	var s strings.Builder
	for _, b := range c {
		if b == 0 {
			break
		}
		s.WriteByte(byte(b))
	}
	return s.String()
}

func rate(bytes int64, d time.Duration) string {
	return fmt.Sprintf("%.0f MB/s", float64(bytes)/1e6/d.Seconds())
}

// perSecond shows operations.
func perSecond(n int, d time.Duration) string {
	r := float64(n) / d.Seconds()
	switch {
	case r >= 10e6:
		return fmt.Sprintf("%.1f M/s", r/1e6)
	case r >= 1e6:
		return fmt.Sprintf("%.2f M/s", r/1e6)
	case r >= 10e3:
		return fmt.Sprintf("%.0f k/s", r/1e3)
	}
	return fmt.Sprintf("%.0f /s", r)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

func millis(d time.Duration) string { return fmt.Sprintf("%.1f ms", d.Seconds()*1e3) }

// over is how fast d is, where base is 1.
func over(base, d time.Duration) float64 { return base.Seconds() / d.Seconds() }

func ratio(base, d time.Duration) string { return number(over(base, d)) }

// samples are what one thing took, round by round.
type samples []time.Duration

func (s samples) median() time.Duration {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	if n := len(sorted); n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[len(sorted)/2]
}

// best is for raw figures only, so that no ratio is flattered.
func (s samples) best() time.Duration { return slices.Min(s) }
