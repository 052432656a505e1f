package writeback

import (
	"fmt"
	"strings"
	"text/template"
	"time"
	"unicode/utf8"

	"hfmount/remote/hub"
)

// batchTrailer marks the commits of this program in the Hub's log, so that a
// lost answer can be settled (design §4).
const batchTrailer = "Hfmount-Batch: "

// maxSummary bounds the first line of a message, in bytes.
const maxSummary = 200

// Told is what a commit-message template can name.
type Told struct {
	Summary                          string // "Add 3 files, update config.json"
	Added, Updated, Deleted, Renamed int
	Files                            int // all of them
	Host, Mount                      string
	Time                             time.Time
}

// CheckMessage says why a template of [Policy] cannot be used, or nil.
func CheckMessage(tmpl string) error {
	if tmpl == "" {
		return nil
	}
	_, err := renderMessage(tmpl, Told{Summary: "Add 1 file", Added: 1, Files: 1})
	return err
}

func renderMessage(tmpl string, t Told) (string, error) {
	if tmpl == "" {
		tmpl = "{{.Summary}} via hfmount"
	}
	tp, err := template.New("commit-message").Option("missingkey=error").Parse(tmpl)
	if err != nil {
		return "", fmt.Errorf("the commit message template: %w", err)
	}
	var b strings.Builder
	if err := tp.Execute(&b, t); err != nil {
		return "", fmt.Errorf("the commit message template: %w", err)
	}
	if strings.TrimSpace(b.String()) == "" {
		return "", fmt.Errorf("the commit message template %q makes an empty message", tmpl)
	}
	return b.String(), nil
}

// deed is one path of a commit, for its message.
type deed struct {
	path string
	op   string // add, modify, delete, rename
	was  string
}

// tell says what a commit does, as the default message has it.
func tell(deeds []deed, p Policy, now time.Time) Told {
	t := Told{Host: p.Host, Mount: p.Mount, Time: now, Files: len(deeds)}
	var added, updated, deleted, renamed []deed
	for _, d := range deeds {
		switch d.op {
		case "add":
			added = append(added, d)
		case "modify":
			updated = append(updated, d)
		case "delete":
			deleted = append(deleted, d)
		case "rename":
			renamed = append(renamed, d)
		}
	}
	t.Added, t.Updated, t.Deleted, t.Renamed = len(added), len(updated), len(deleted), len(renamed)
	var said []string
	say := func(verb string, ds []deed) {
		switch len(ds) {
		case 0:
		case 1:
			what := shorten(ds[0].path)
			if verb == "rename" {
				what = shorten(ds[0].was) + " to " + what
			}
			said = append(said, verb+" "+what)
		default:
			said = append(said, fmt.Sprintf("%s %d files", verb, len(ds)))
		}
	}
	say("add", added)
	say("update", updated)
	say("rename", renamed)
	say("delete", deleted)
	if len(said) == 0 {
		said = []string{"change nothing"}
	}
	s := strings.Join(said, ", ")
	t.Summary = strings.ToUpper(s[:1]) + s[1:]
	return t
}

// shorten keeps a path short enough for a summary: its end says the most.
func shorten(path string) string {
	const most = 60
	path = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, path)
	if len(path) <= most {
		return path
	}
	cut := len(path) - most
	for !utf8.RuneStart(path[cut]) {
		cut++
	}
	return "…" + path[cut:]
}

// compose makes the two parts of a commit's message. A message of several
// lines gives its first to the summary, as git has it.
func compose(message, description, batch string, p Policy) (summary, body string) {
	summary, rest, _ := strings.Cut(strings.TrimSpace(message), "\n")
	summary = strings.TrimSpace(summary)
	if short := cutText(summary, maxSummary); short != summary {
		rest = "…" + summary[len(short):] + "\n" + rest
		summary = short + "…"
	}
	var b strings.Builder
	for _, s := range []string{rest, description} {
		if s = strings.TrimSpace(s); s != "" {
			b.WriteString(s)
			b.WriteString("\n\n")
		}
	}
	b.WriteString(batchTrailer + batch)
	if p.Host != "" {
		b.WriteString("\nHfmount-Host: " + oneLine(p.Host))
	}
	if p.Mount != "" {
		b.WriteString("\nHfmount-Mount: " + oneLine(p.Mount))
	}
	return summary, b.String()
}

// cutText is the beginning of a text, at most so many bytes of it.
func cutText(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most]
}

func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}

// batchOf returns the batch a commit of the log was made for, "" for those of
// others. The last trailer counts: what stands before it is the user's text,
// which may quote another commit's.
func batchOf(e hub.LogEntry) string {
	batch := ""
	for line := range strings.Lines(e.Description) {
		if id, ok := strings.CutPrefix(strings.TrimSpace(line), batchTrailer); ok {
			batch = strings.TrimSpace(id)
		}
	}
	return batch
}
