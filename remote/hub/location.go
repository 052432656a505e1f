package hub

import (
	iofs "io/fs"
	"strings"
	"unicode"
)

// Location is what an hf:// URI names: a [Ref] and a path within it. The zero
// Location is the whole Hub.
type Location struct {
	Ref
	// Path is relative to the root of the repository, without a leading or
	// trailing slash; empty for the root.
	Path string
}

// ParseError says why a text does not name a place on the Hub. It answers to
// [iofs.ErrInvalid].
type ParseError struct {
	Input  string
	Reason string
}

func (e *ParseError) Error() string { return quoteShort(e.Input) + ": " + e.Reason }

// Unwrap returns [iofs.ErrInvalid].
func (e *ParseError) Unwrap() error { return iofs.ErrInvalid }

const scheme = "hf://"

// Parse reads an hf:// URI, or a web URL on one of the Hub's hosts, by the
// rules of hub-protocol §2.5. "hf://" alone is the zero Location. An id
// without a namespace is refused, as it is by the Hub's own clients, because
// "gpt2/x" could be either a repository or a file; [ParseArg] takes it. The
// error is a [*ParseError].
func Parse(s string) (Location, error) {
	p := parser{input: s}
	if rest, ok := strings.CutPrefix(s, scheme); ok {
		return p.location(rest)
	}
	if u, ok := cutHub(s, "", false); ok {
		return p.web(u)
	}
	return p.fail("an address starts with hf://")
}

// ParseArg reads what a person may write on the command line (cli.md "REPO"):
// a URI with or without hf://, a lone canonical NAME, a web URL of the Hub or
// of endpoint. "hf://" alone is the zero Location, the whole Hub. The error is
// a [*ParseError].
func ParseArg(s, endpoint string) (Location, error) {
	p := parser{input: s, canonical: true}
	if s == "" {
		return p.fail("empty")
	}
	if rest, ok := strings.CutPrefix(s, scheme); ok {
		return p.location(rest)
	}
	if u, ok := cutHub(s, endpoint, true); ok {
		return p.web(u)
	}
	if before, _, ok := strings.Cut(s, "://"); ok && isWord(before) {
		return p.fail("not an address of this Hub")
	}
	if strings.HasPrefix(s, "/") || strings.HasPrefix(s, "./") || strings.HasPrefix(s, "../") {
		return p.fail("a path on this machine, not a repository")
	}
	return p.location(s)
}

// String renders l so that [Parse] gives it back (an id without a namespace:
// so that [ParseArg] does). Special refs are written literally, a slash or a
// percent sign in any other revision is encoded.
func (l Location) String() string {
	if l.Repo.IsZero() {
		return scheme
	}
	var b strings.Builder
	b.WriteString(scheme)
	first := l.Repo.Namespace
	if first == "" {
		first = l.Repo.Name
	}
	if l.Repo.Type == Model && reserved(first) {
		// A model of a namespace called "datasets" would be read as a dataset.
		b.WriteString("models/")
	}
	b.WriteString(l.Repo.String())
	rev := l.Revision
	if rev == "" && l.Repo.Namespace == "" && l.Path != "" {
		// Without a revision, "gpt2/config.json" would be namespace and name.
		rev = DefaultRevision
	}
	if rev != "" {
		b.WriteByte('@')
		if SpecialRef(rev) {
			b.WriteString(rev)
		} else {
			b.WriteString(EscapeRevision(rev))
		}
	}
	if l.Path != "" {
		b.WriteByte('/')
		b.WriteString(l.Path)
	}
	return b.String()
}

// parser carries what the rules depend on and what an error names.
type parser struct {
	input     string
	canonical bool // an id may lack its namespace
}

func (p parser) fail(reason string) (Location, error) {
	return Location{}, &ParseError{Input: p.input, Reason: reason}
}

// location reads what follows hf://, by the numbered steps of hub-protocol §2.5.
func (p parser) location(s string) (Location, error) {
	if strings.Trim(s, "/") == "" {
		return Location{}, nil
	}
	t, s, err := p.cutType(s)
	if err != nil {
		return Location{}, err
	}
	s = strings.Trim(s, "/")
	if strings.Contains(s, "//") {
		return p.fail("an empty path segment (//)")
	}
	at := strings.IndexByte(s, '@')
	if at < 0 || strings.Count(s[:at], "/") > 1 {
		id, path := cutID(s)
		return p.finish(t, id, "", path)
	}
	id, right := s[:at], s[at+1:]
	if right == "" {
		return p.fail("an empty revision after @")
	}
	rev, path, reason := cutRevision(right)
	if reason != "" {
		return p.fail(reason)
	}
	return p.finish(t, id, rev, path)
}

// cutType strips a leading type segment.
func (p parser) cutType(s string) (RepoType, string, error) {
	s = strings.TrimLeft(s, "/")
	first, rest, slash := strings.Cut(s, "/")
	var t RepoType
	switch first {
	case "models":
	case "datasets":
		t = Dataset
	case "spaces":
		t = Space
	case "kernels", "buckets":
		_, err := p.fail(first + " are not supported, only models, datasets and spaces")
		return 0, "", err
	case "model", "dataset", "space", "kernel", "bucket":
		_, err := p.fail("the type is written in the plural: " + first + "s/")
		return 0, "", err
	default:
		return Model, s, nil
	}
	if !slash || strings.Trim(rest, "/") == "" {
		_, err := p.fail("names no repository, only a type")
		return 0, "", err
	}
	return t, rest, nil
}

// cutID splits "ns/name/path"; with fewer than two segments all of it is the id.
func cutID(s string) (id, path string) {
	if i := strings.IndexByte(s, '/'); i >= 0 {
		if j := strings.IndexByte(s[i+1:], '/'); j >= 0 {
			return s[:i+1+j], s[i+j+2:]
		}
	}
	return s, ""
}

// cutRevision splits what follows the @. The match of a special ref has no
// right boundary: "refs/pr/10abc" is refs/pr/10 and the path abc.
func cutRevision(s string) (rev, path, reason string) {
	if n := specialRefLen(s); n > 0 {
		return s[:n], strings.TrimPrefix(s[n:], "/"), ""
	}
	left, path, _ := strings.Cut(s, "/")
	if left == "" {
		return "", "", "an empty revision after @"
	}
	rev, err := unescape(left)
	if err != nil {
		return "", "", err.Error()
	}
	return rev, path, ""
}

// finish checks every part and puts them together.
func (p parser) finish(t RepoType, id, rev, path string) (Location, error) {
	r := Repo{Type: t}
	var named bool
	if r.Namespace, r.Name, named = strings.Cut(id, "/"); !named {
		r.Namespace, r.Name = "", id
		if !p.canonical {
			return p.fail("an id has two parts, namespace/name")
		}
	} else if r.Namespace == "" || r.Name == "" {
		return p.fail("an id has two parts, namespace/name")
	}
	if err := CheckRepo(r); err != nil {
		return p.fail(err.Error())
	}
	if rev != "" {
		if err := CheckRevision(rev); err != nil {
			return p.fail(err.Error())
		}
	}
	if path != "" {
		if err := CheckPath(path); err != nil {
			return p.fail(err.Error())
		}
	}
	return Location{Ref: Ref{Repo: r, Revision: rev}, Path: path}, nil
}

// reserved reports whether a first segment is read as a type.
func reserved(s string) bool {
	switch s {
	case "models", "datasets", "spaces", "kernels", "buckets",
		"model", "dataset", "space", "kernel", "bucket":
		return true
	}
	return false
}

// specialRefLen returns how much of s the pattern
// ^refs/(?:convert/[\w.-]+|pr/\d+) matches, 0 if it does not.
func specialRefLen(s string) int {
	if rest, ok := strings.CutPrefix(s, "refs/pr/"); ok {
		n := 0
		for n < len(rest) && rest[n] >= '0' && rest[n] <= '9' {
			n++
		}
		if n > 0 {
			return len(s) - len(rest) + n
		}
		return 0
	}
	if rest, ok := strings.CutPrefix(s, "refs/convert/"); ok {
		n := strings.IndexFunc(rest, func(r rune) bool {
			return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '_' && r != '.' && r != '-'
		})
		if n < 0 {
			n = len(rest)
		}
		if n > 0 {
			return len(s) - len(rest) + n
		}
	}
	return 0
}

// SpecialRef reports whether rev as a whole is a pull request or a conversion
// (hub-protocol §2.3), which hf:// names write without encoding the slashes.
func SpecialRef(rev string) bool { return rev != "" && specialRefLen(rev) == len(rev) }

func isWord(s string) bool {
	for _, r := range s {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '+' && r != '.' && r != '-' {
			return false
		}
	}
	return s != ""
}
