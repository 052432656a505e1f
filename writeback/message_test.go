package writeback

import (
	"strings"
	"testing"

	"hfmount/remote/hub"
)

func TestDefaultMessage(t *testing.T) {
	add := func(p string) deed { return deed{path: p, op: "add"} }
	for _, c := range []struct {
		deeds []deed
		want  string
	}{
		{[]deed{add("a"), add("b"), add("c"), {path: "config.json", op: "modify"}}, "Add 3 files, update config.json via hfmount"},
		{[]deed{add("notes.txt")}, "Add notes.txt via hfmount"},
		{[]deed{{path: "a", op: "delete"}, {path: "b", op: "delete"}}, "Delete 2 files via hfmount"},
		{[]deed{{path: "new", op: "rename", was: "old"}}, "Rename old to new via hfmount"},
		{[]deed{add("a\nb")}, "Add a?b via hfmount"},
		{[]deed{add(strings.Repeat("x", 100) + "/end")}, "Add …" + strings.Repeat("x", 56) + "/end via hfmount"},
		{nil, "Change nothing via hfmount"},
	} {
		got, err := renderMessage("", tell(c.deeds, defaults, noon))
		if err != nil || got != c.want {
			t.Errorf("message %q (%v), want %q", got, err, c.want)
		}
	}
}

func TestMessageTemplate(t *testing.T) {
	got, err := renderMessage("[{{.Host}}] {{.Added}} new, {{.Summary}}", tell([]deed{{path: "a", op: "add"}}, defaults, noon))
	if want := "[box] 1 new, Add a"; err != nil || got != want {
		t.Errorf("message %q (%v), want %q", got, err, want)
	}
	for _, bad := range []string{"{{.Nope}}", "{{", "  "} {
		if CheckMessage(bad) == nil {
			t.Errorf("the template %q passes", bad)
		}
	}
	if err := CheckMessage("a plain message"); err != nil {
		t.Error(err)
	}
}

func TestCompose(t *testing.T) {
	summary, body := compose("One\n\nTwo lines", "And this", "u-1", defaults)
	if want := "One"; summary != want {
		t.Errorf("summary %q, want %q", summary, want)
	}
	want := "Two lines\n\nAnd this\n\nHfmount-Batch: u-1\nHfmount-Host: box\nHfmount-Mount: /m"
	if body != want {
		t.Errorf("body %q, want %q", body, want)
	}
	if got := batchOf(hub.LogEntry{Description: body}); got != "u-1" {
		t.Errorf("batch %q, want u-1", got)
	}
	if got := batchOf(hub.LogEntry{Description: "Hfmount-Host: x"}); got != "" {
		t.Errorf("batch %q of somebody else's commit", got)
	}
	long, body := compose(strings.Repeat("ä", 150), "", "u", defaults)
	if len(long) > maxSummary+len("…") || !strings.Contains(body, "ä") {
		t.Errorf("summary of %d bytes, body %q", len(long), body)
	}
}
