package hub

import (
	"net/url"
	"strings"
)

// hubHosts are the spellings under which the public Hub is known
// (hub-protocol §2.2).
var hubHosts = []string{"huggingface.co", "www.huggingface.co", "hub-ci.huggingface.co", "hf.co"}

// cutHub returns the escaped path of a web URL on the Hub or on endpoint.
// Query and fragment are dropped. With bare, the public hosts are known
// without "https://" before them, as people copy them.
func cutHub(s, endpoint string, bare bool) (string, bool) {
	s, _, _ = strings.Cut(s, "#")
	s, _, _ = strings.Cut(s, "?")
	if endpoint = strings.TrimRight(endpoint, "/"); endpoint != "" {
		if rest, ok := cutFold(s, endpoint); ok && (rest == "" || rest[0] == '/') {
			return rest, true
		}
	}
	for _, host := range hubHosts {
		for _, prefix := range []string{"https://", "http://", ""} {
			if prefix == "" && !bare {
				continue
			}
			if rest, ok := cutFold(s, prefix+host); ok && (rest == "" || rest[0] == '/') {
				return rest, true
			}
		}
	}
	return "", false
}

// cutFold is strings.CutPrefix without regard to the case of ASCII: scheme and
// host of a URL have none.
func cutFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return "", false
	}
	return s[len(prefix):], true
}

// web reads the path of a web page: a repository, or a file or folder of it at
// a revision. Unlike an hf:// name it is percent-encoded throughout.
func (p parser) web(path string) (Location, error) {
	path = strings.Trim(path, "/")
	if path == "" {
		return Location{}, nil
	}
	if strings.Contains(path, "//") {
		return p.fail("an empty path segment (//)")
	}
	segs := strings.Split(path, "/")
	var t RepoType
	switch segs[0] {
	case "datasets":
		t, segs = Dataset, segs[1:]
	case "spaces":
		t, segs = Space, segs[1:]
	case "models", "kernels", "buckets", "api", "docs", "collections", "papers", "blog", "settings", "organizations", "join", "login":
		return p.fail("not the page of a repository")
	}
	if len(segs) == 0 {
		return p.fail("names no repository, only a type")
	}
	// The word after the id says where the revision begins. An id without a
	// namespace has it in second place.
	n := min(2, len(segs))
	if len(segs) >= 3 && webVerb(segs[1]) {
		n = 1
	}
	id, rest := strings.Join(segs[:n], "/"), segs[n:]
	id = strings.TrimSuffix(id, ".git") // as git clone takes it
	q := p
	q.canonical = true // a web page is no guess: what follows the id is marked
	if len(rest) == 0 {
		return q.finish(t, id, "", "")
	}
	if !webVerb(rest[0]) {
		return p.fail("not a page of files (…/tree/…, …/blob/…, …/resolve/…)")
	}
	if len(rest) == 1 {
		return p.fail("no revision after /" + rest[0] + "/")
	}
	// Special refs are found written out as well as encoded.
	rev, file, reason := cutRevision(strings.Join(rest[1:], "/"))
	if reason != "" {
		return p.fail(reason)
	}
	file, err := url.PathUnescape(file)
	if err != nil {
		return p.fail(err.Error())
	}
	return q.finish(t, id, rev, file)
}

func webVerb(s string) bool {
	switch s {
	case "tree", "blob", "resolve", "raw", "blame":
		return true
	}
	return false
}

// Volume is a mount written as one argument, "REPO:/DIR[:ro|:rw]".
type Volume struct {
	Location
	// Dir is absolute and not the root.
	Dir string
	// Mode is "ro", "rw" or empty.
	Mode string
}

// ParseVolume reads the volume form (hub-protocol §2.5): it splits at the last
// ":/". ok is false if s has no such form, and is then for [ParseArg] alone.
func ParseVolume(s, endpoint string) (v Volume, ok bool, err error) {
	rest := s
	for _, mode := range []string{"ro", "rw"} {
		if r, found := strings.CutSuffix(rest, ":"+mode); found {
			rest, v.Mode = r, mode
			break
		}
	}
	i := strings.LastIndex(rest, ":/")
	if i < 0 || (isWord(rest[:i]) && strings.HasPrefix(rest[i:], "://")) {
		return Volume{}, false, nil
	}
	v.Dir = rest[i+1:]
	if strings.Trim(v.Dir, "/") == "" {
		return Volume{}, true, &ParseError{Input: s, Reason: "cannot mount over /"}
	}
	if v.Location, err = ParseArg(rest[:i], endpoint); err != nil {
		return Volume{}, true, err
	}
	return v, true, nil
}
