package remote

import (
	"net/url"
	"regexp"
	"strings"
)

// redactURL renders a URL without what may be secret: user, query, fragment.
func redactURL(u *url.URL) string {
	if u == nil {
		return ""
	}
	return u.Scheme + "://" + u.Host + u.EscapedPath()
}

var (
	tokenPattern = regexp.MustCompile(`\b(?:hf|api_org)_[A-Za-z0-9]{4,}`)
	queryPattern = regexp.MustCompile(`(?i)(https?://[^\s"'<>?#]*)[?#][^\s"'<>]*`)
	userPattern  = regexp.MustCompile(`(?i)(https?://)[^\s"'<>/@]*@`)
)

// scrub makes a stranger's text fit for an error: one line, no tokens, no
// queries of URLs, of bounded length.
func scrub(s string) string {
	const most = 400
	// Cutting first keeps the patterns cheap, but could leave a stump of a
	// token that no longer looks like one; so leave room and cut again.
	if len(s) > 4*most {
		s = s[:4*most]
	}
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "�")), " ")
	s = tokenPattern.ReplaceAllString(s, hiddenToken)
	s = userPattern.ReplaceAllString(s, "$1")
	s = queryPattern.ReplaceAllString(s, "$1")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
