package remote

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strings"
)

// maxPages bounds one listing: twenty million entries.
const maxPages = 20_000

// pages follows rel="next" (hub-protocol §3.4). The URL is taken as the Hub
// gives it, all parameters included, but must stay on the Hub and never repeat.
func (c *Client) pages(ctx context.Context, k call, first string) iter.Seq2[answer, error] {
	return func(yield func(answer, error) bool) {
		seen := map[string]bool{}
		for next := first; next != ""; {
			if seen[next] || len(seen) >= maxPages {
				err := k.bad("the listing does not end")
				c.stats.failed(err)
				yield(answer{}, err)
				return
			}
			seen[next] = true
			ans, err := c.get(ctx, k, next)
			if err != nil {
				yield(answer{}, err)
				return
			}
			if !yield(ans, nil) {
				return
			}
			if next, err = c.nextPage(k, ans); err != nil {
				c.stats.failed(err)
				yield(answer{}, err)
				return
			}
		}
	}
}

func (c *Client) nextPage(k call, ans answer) (string, error) {
	link := nextLink(ans.header)
	if link == "" {
		return "", nil
	}
	u, err := ans.url.Parse(c.ownURL(link))
	if err != nil {
		return "", k.bad("the next page is no URL")
	}
	if !c.isHub(u) {
		return "", k.bad("the next page is elsewhere, at %s", redactURL(u))
	}
	return u.String(), nil
}

// nextLink finds the target of rel="next" in Link headers. A comma or a
// semicolon inside <…> belongs to the URL.
func nextLink(h http.Header) string {
	for _, s := range h.Values("Link") {
		for {
			_, rest, ok := strings.Cut(s, "<")
			if !ok {
				break
			}
			target, rest, ok := strings.Cut(rest, ">")
			if !ok {
				break
			}
			params, more, _ := strings.Cut(rest, "<") // up to the next link
			for p := range strings.FieldsFuncSeq(params, func(r rune) bool { return r == ';' || r == ',' }) {
				k, v, _ := strings.Cut(strings.TrimSpace(p), "=")
				if !strings.EqualFold(strings.TrimSpace(k), "rel") {
					continue
				}
				for _, rel := range strings.Fields(strings.Trim(strings.TrimSpace(v), `"`)) {
					if strings.EqualFold(rel, "next") {
						return strings.TrimSpace(target)
					}
				}
			}
			if more == "" {
				break
			}
			s = "<" + more
		}
	}
	return ""
}

// query encodes parameters in the order given.
func query(pairs ...string) string {
	var b strings.Builder
	for i := 0; i+1 < len(pairs); i += 2 {
		b.WriteByte("?&"[min(i, 1)])
		b.WriteString(pairs[i] + "=" + url.QueryEscape(pairs[i+1]))
	}
	return b.String()
}
