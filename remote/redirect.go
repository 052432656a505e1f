package remote

import (
	"net/http"
	"net/url"
)

// maxHops is how many redirects are followed (hub-protocol §2.2).
const maxHops = 20

// chain is what following redirects found.
type chain struct {
	hop
	// stop is where the Hub itself sent us: the last URL that was asked for or
	// named by the Hub's own origin. It may be kept; what lies beyond is the
	// other host's affair.
	stop *url.URL
	// stopHeader is the header of the Hub's last answer, which dates stop.
	stopHeader http.Header
	// linkedETag and linkedSize are the Hub's word on the content: the first
	// seen along the chain (hub-protocol §4.3).
	linkedETag, linkedSize string
}

// follow sends a request and follows its redirects by hand. The answer may
// still be an error. On success the caller closes the body; on error there is
// none. leaving, if not nil, is called when the Hub sends us to another host,
// before that is asked, and may stop it.
func (c *Client) follow(a *attempt, k call, u *url.URL, o *outgoing, trace string, leaving func(*chain) error) (chain, error) {
	ch := chain{stop: u}
	seen := map[string]bool{}
	for {
		key := u.String()
		if seen[key] {
			return ch, k.bad("redirects run in a circle at %s", redactURL(u))
		}
		seen[key] = true
		if len(seen) > maxHops+1 {
			return ch, k.bad("more than %d redirects", maxHops)
		}
		h, err := c.send(a, k, u, o, trace)
		if err != nil {
			return ch, err
		}
		ch.hop = h
		if h.hub {
			ch.stopHeader = h.resp.Header
			if ch.linkedETag == "" {
				ch.linkedETag = h.resp.Header.Get("X-Linked-Etag")
			}
			if ch.linkedSize == "" {
				ch.linkedSize = h.resp.Header.Get("X-Linked-Size")
			}
		}
		switch h.resp.StatusCode {
		case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
			http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		default:
			return ch, nil
		}
		location := h.resp.Header.Get("Location")
		discard(h.resp)
		next, err := c.target(k, u, location)
		if err != nil {
			return ch, err
		}
		if o.changes() {
			if s := h.resp.StatusCode; s != http.StatusTemporaryRedirect && s != http.StatusPermanentRedirect {
				return ch, k.bad("a redirect (%d) that would lose what is sent, from %s", s, redactURL(u))
			}
			// What users write goes where the Hub is, or where a signed URL
			// sends it; nobody can have it sent elsewhere by a redirect.
			if !o.signed && !c.isHub(next) {
				return ch, k.bad("a redirect of a change from %s to %s", redactURL(u), redactURL(next))
			}
		}
		if h.hub {
			ch.stop = next
			if leaving != nil && !c.isHub(next) {
				if err := leaving(&ch); err != nil {
					return ch, err
				}
			}
		}
		u = next
	}
}

// target checks where a redirect leads. It may leave the origin, never HTTP.
func (c *Client) target(k call, from *url.URL, location string) (*url.URL, error) {
	if location == "" {
		return nil, k.bad("a redirect from %s to nowhere", redactURL(from))
	}
	next, err := from.Parse(location)
	if err != nil {
		return nil, k.bad("a redirect from %s to something that is no URL", redactURL(from))
	}
	next.Fragment, next.RawFragment, next.User = "", "", nil
	switch {
	case next.Scheme != "http" && next.Scheme != "https":
		return nil, k.bad("a redirect from %s to the scheme %q", redactURL(from), next.Scheme)
	case next.Host == "":
		return nil, k.bad("a redirect from %s to no host", redactURL(from))
	case from.Scheme == "https" && next.Scheme == "http" && c.base.Scheme != "http":
		return nil, k.bad("a redirect from %s to unencrypted %s", redactURL(from), redactURL(next))
	}
	return next, nil
}
