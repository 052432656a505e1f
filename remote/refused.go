package remote

import (
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"hfmount/remote/hub"
)

// failed turns the answer to a request into an error. The answer to a change
// means more than that to a question: what is refused, and by which rule.
func (c *Client) failed(k call, o *outgoing, ch *chain) *Error {
	e, words := k.judge(ch.resp, ch.sent, !ch.hub || o.signed)
	if e.cdn {
		// A signed URL that is refused stays so; whoever has it asks for a new one.
		e.retry = e.retry && transient(e.Status)
		return e
	}
	if o.changes() {
		k.refine(e, words)
	}
	return e
}

// transient reports whether the same request may do better later
// (hub-protocol §5.4).
func transient(status int) bool {
	return status == http.StatusRequestTimeout || status == http.StatusTooManyRequests || status >= 500
}

// refine gives e the kinds of publishing (hub-protocol §5.1, §5.3, §6.4, §7).
// words are the server's, as they came.
func (k call) refine(e *Error, words string) {
	switch e.Status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		e.Kind = &hub.RefusedError{Message: e.Message, Paths: namedPaths(words, k.paths)}
		e.Message = "" // the kind says it
	case http.StatusNotFound:
		if e.Code == "EntryNotFound" && k.paths != nil {
			// A deletion of what is not there: the commit as a whole is refused.
			e.Kind = &hub.RefusedError{Message: e.Message, Paths: namedPaths(words, k.paths)}
			e.Message = ""
		}
	case http.StatusConflict:
		if e.Kind = hub.ErrExists; k.commits || strings.Contains(words, "conflicting operation") {
			e.Kind, e.retry = hub.ErrBusy, !k.commits
		}
	case http.StatusTooManyRequests:
		if e.window && !k.commits {
			return // every request waits for that
		}
		if e.after == 0 {
			e.after = waitInWords(words)
		}
		e.Kind = &hub.LimitedError{After: e.after, Message: e.Message}
		e.Message = ""
	}
}

var aboutTime = regexp.MustCompile(`(?i)\bin (?:about )?(\d{1,4}|an?) (second|minute|hour)s?\b`)

// waitInWords reads "You can retry this action in about 1 hour": an action
// limit need not come with Retry-After (hub-protocol §16).
func waitInWords(s string) time.Duration {
	m := aboutTime.FindStringSubmatch(s)
	if m == nil {
		return 0
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		n = 1
	}
	unit := map[string]time.Duration{"second": time.Second, "minute": time.Minute, "hour": time.Hour}[strings.ToLower(m[2])]
	return min(time.Duration(n)*unit, maxWindow*time.Second)
}

// maxNamed bounds how many paths are taken from one refusal.
const maxNamed = 1000

var (
	offendingList = regexp.MustCompile(`(?i)offending files?:`)
	offendingRef  = regexp.MustCompile(`\(ref: [^()\s]*\)`)
)

// namedPaths finds the paths that a refusal is about. sent are those of the
// request, if it has any: a list that the Hub marks as one is believed, in
// running text only they are looked for.
func namedPaths(words string, sent []string) []string {
	var named []string
	add := func(p string) bool {
		if hub.CheckPath(p) == nil && !slices.Contains(named, p) && len(named) < maxNamed {
			named = append(named, p)
			return true
		}
		return false
	}
	if at := offendingList.FindStringIndex(words); at != nil {
		for _, part := range offendingRef.Split(words[at[1]:], -1) {
			for line := range strings.Lines(part) {
				line = strings.TrimSpace(line)
				if p, ok := strings.CutPrefix(line, "- "); ok {
					add(strings.TrimSpace(p))
				}
			}
		}
	}
	if len(named) > 0 {
		return named
	}
	for _, p := range sent {
		if mentions(words, p) {
			add(p)
		}
	}
	// Of "d/a.txt" and "a.txt" the longer one is meant.
	return slices.DeleteFunc(named, func(p string) bool {
		return slices.ContainsFunc(named, func(q string) bool { return q != p && strings.Contains(q, p) && !alone(words, p, q) })
	})
}

// mentions reports whether text names path as a word of its own. A path that
// could be an ordinary word has to be quoted or stand at the end.
func mentions(text, path string) bool {
	plain := !strings.ContainsAny(path, "./_-0123456789")
	for i := 0; ; {
		j := strings.Index(text[i:], path)
		if j < 0 {
			return false
		}
		i += j
		before, after := text[:i], text[i+len(path):]
		quoted := before != "" && after != "" && strings.ContainsRune("\"'`", rune(before[len(before)-1])) && before[len(before)-1] == after[0]
		last := strings.HasSuffix(before, ": ") && strings.Trim(after, " .\r\n") == ""
		if quoted || last || (!plain && edge(before, true) && edge(after, false)) {
			return true
		}
		i++
	}
}

// alone reports whether text names p elsewhere than within q.
func alone(text, p, q string) bool { return mentions(strings.ReplaceAll(text, q, ""), p) }

// edge reports whether s may border on a path: on the left its last byte
// counts, on the right what it begins with.
func edge(s string, left bool) bool {
	if s == "" {
		return true
	}
	if left {
		return strings.IndexByte(" \t\r\n\"'`(:,[", s[len(s)-1]) >= 0
	}
	if s[0] == '.' { // the end of a sentence
		return len(s) == 1 || s[1] == ' ' || s[1] == '\n'
	}
	return strings.IndexByte(" \t\r\n\"'`):;,]", s[0]) >= 0
}
