package hub

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	// MaxName is the longest component of a path, in bytes, that can be shown.
	MaxName = 255
	// MaxSize is the largest file size, in bytes, taken for real: 1 PiB.
	MaxSize = 1 << 50

	maxPath     = 4095 // PATH_MAX without its NUL
	maxRevision = 255
	maxIDPart   = 96
)

// EscapeRevision renders a revision as one directory name of a whole-Hub
// mount ("refs%2Fpr%2F1"); UnescapeRevision is its inverse.
func EscapeRevision(rev string) string {
	if !strings.ContainsAny(rev, "/%") {
		return rev
	}
	return revisionEscaper.Replace(rev)
}

var revisionEscaper = strings.NewReplacer("/", "%2F", "%", "%25")

// UnescapeRevision reads what [EscapeRevision] wrote, and any other
// percent-encoding of a revision that passes [CheckRevision].
func UnescapeRevision(name string) (string, error) {
	rev, err := unescape(name)
	if err != nil {
		return "", err
	}
	if err := CheckRevision(rev); err != nil {
		return "", err
	}
	return rev, nil
}

func unescape(s string) (string, error) {
	rev, err := url.PathUnescape(s)
	if err != nil {
		return "", fmt.Errorf("the revision %s is not percent-encoded properly", quoteShort(s))
	}
	return rev, nil
}

// CheckRevision says why rev cannot be a revision, or nil. Apart from
// abbreviated commits and HEAD these are the names git takes, so none of them
// has a meaning in a URL or a path.
func CheckRevision(rev string) error {
	switch {
	case rev == "":
		return errors.New("an empty revision")
	case len(rev) > maxRevision:
		return fmt.Errorf("the revision %s is longer than %d bytes", quoteShort(rev), maxRevision)
	case !utf8.ValidString(rev):
		return fmt.Errorf("the revision %s is not UTF-8", quoteShort(rev))
	case rev == "@" || rev == "." || strings.Contains(rev, "..") || strings.Contains(rev, "//") || strings.Contains(rev, "@{"),
		strings.HasPrefix(rev, "/"), strings.HasSuffix(rev, "/"):
		return fmt.Errorf("%s cannot be a revision", quoteShort(rev))
	}
	for i := range len(rev) {
		if c := rev[i]; c <= ' ' || c == 0x7f || strings.IndexByte(`~^:?*[\`, c) >= 0 {
			return fmt.Errorf("the revision %s contains %q", quoteShort(rev), c)
		}
	}
	return nil
}

// CheckName says why name cannot be one component of a path in a repository
// (empty, ".", "..", a slash, NUL, invalid UTF-8, over 255 bytes), or nil.
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("an empty name")
	case name == "." || name == "..":
		return fmt.Errorf("the name %q", name)
	case len(name) > MaxName:
		return fmt.Errorf("the name %s is longer than %d bytes", quoteShort(name), MaxName)
	case strings.IndexByte(name, '/') >= 0:
		return fmt.Errorf("the name %s contains a slash", quoteShort(name))
	case strings.IndexByte(name, 0) >= 0:
		return fmt.Errorf("the name %s contains NUL", quoteShort(name))
	case !utf8.ValidString(name):
		return fmt.Errorf("the name %s is not UTF-8", quoteShort(name))
	}
	return nil
}

// CheckPath says why a path the Hub listed cannot be shown, or nil. A path is
// components that pass [CheckName] between single slashes, 4095 bytes at most.
func CheckPath(path string) error {
	if path == "" {
		return errors.New("an empty path")
	}
	if len(path) > maxPath {
		return fmt.Errorf("the path %s is longer than %d bytes", quoteShort(path), maxPath)
	}
	for rest, more := path, true; more; {
		var name string
		name, rest, more = strings.Cut(rest, "/")
		if err := CheckName(name); err != nil {
			return fmt.Errorf("the path %s has %w", quoteShort(path), err)
		}
	}
	return nil
}

// Check says why the entry, as the Hub listed it, cannot be used: a hostile
// path, a size outside 0 to [MaxSize], an object id that is none. It is nil
// for a good one.
func (e Entry) Check() error {
	if err := CheckPath(e.Path); err != nil {
		return err
	}
	switch {
	case e.Size < 0 || e.Size > MaxSize:
		return fmt.Errorf("%s has the size %d", quoteShort(e.Path), e.Size)
	case len(e.OID) != 40 || !isHex(e.OID):
		return fmt.Errorf("%s has the object id %s", quoteShort(e.Path), quoteShort(e.OID))
	case e.SHA256 != "" && (len(e.SHA256) != 64 || !isHex(e.SHA256)):
		return fmt.Errorf("%s has the SHA-256 %s", quoteShort(e.Path), quoteShort(e.SHA256))
	}
	return nil
}

// CheckRepo says why r is not a valid id (hub-protocol §2.1), or nil. The
// namespace may be empty, as it is for canonical ids.
func CheckRepo(r Repo) error {
	if r.Type > Space {
		return errors.New("an unknown type of repository")
	}
	if r.Namespace != "" {
		if err := checkIDPart("namespace", r.Namespace); err != nil {
			return err
		}
	}
	return checkIDPart("name", r.Name)
}

func checkIDPart(what, s string) error {
	bad := func(why string) error { return fmt.Errorf("the %s %s %s", what, quoteShort(s), why) }
	if s == "" {
		return fmt.Errorf("an empty %s", what)
	}
	if len(s) > maxIDPart {
		return bad(fmt.Sprintf("is longer than %d characters", maxIDPart))
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '.' && c != '-' {
			return bad("may contain only letters, digits and _ . -")
		}
	}
	if strings.Contains(s, "--") || strings.Contains(s, "..") {
		return bad("contains -- or ..")
	}
	if strings.IndexByte("-.", s[0]) >= 0 || strings.IndexByte("-.", s[len(s)-1]) >= 0 {
		return bad("starts or ends with - or .")
	}
	if what == "name" && strings.HasSuffix(s, ".git") {
		return bad("ends in .git")
	}
	return nil
}

// quoteShort quotes what a stranger sent, so that it can stand in a log line.
func quoteShort(s string) string {
	const most = 120
	if len(s) > most {
		return strconv.Quote(s[:most]) + "…"
	}
	return strconv.Quote(s)
}
