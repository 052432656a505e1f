package hubtest

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"hfmount/remote/hub"
)

// router finds the route of a request by its escaped path, so that a %2F
// inside a segment is not a separator (hub-protocol §2.4).
type router struct{ routes []compiled }

type compiled struct {
	*route
	segments []string
}

// match is one way to read a path.
type match struct {
	route *route
	id    hub.Repo
	hasID bool
	rev   string
	path  string
	vars  map[string]string
}

func newRouter(routes []route, cdn bool) *router {
	r := new(router)
	for i := range routes {
		if routes[i].cdn == cdn {
			pattern := strings.ReplaceAll(strings.TrimPrefix(routes[i].pattern, "/"), "{prefix}", "{prefix}/")
			r.routes = append(r.routes, compiled{&routes[i], strings.Split(pattern, "/")})
		}
	}
	return r
}

// find lists the ways to read a request, the most plausible first: a
// canonical id makes /api/models/gpt2/refs ambiguous, and only the caller
// knows which repositories exist. HEAD is served by GET.
func (rt *router) find(r *http.Request) []match {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	path := strings.TrimPrefix(r.URL.EscapedPath(), "/")
	if len(path) > 1 {
		path = strings.TrimSuffix(path, "/")
	}
	segs := strings.Split(path, "/")
	var full, canonical []match
	for _, c := range rt.routes {
		if c.method != method {
			continue
		}
		walk(c.segments, segs, match{route: c.route}, func(m match) {
			if m.hasID && m.id.Namespace == "" {
				canonical = append(canonical, m)
			} else {
				full = append(full, m)
			}
		})
	}
	return append(full, canonical...)
}

var prNumber = regexp.MustCompile(`^[0-9]+$`)

// walk matches what is left of a pattern with what is left of a path and
// yields every way to do it.
func walk(pattern, segs []string, m match, yield func(match)) {
	if len(pattern) == 0 {
		if len(segs) == 0 {
			yield(m)
		}
		return
	}
	p, rest := pattern[0], pattern[1:]
	switch p {
	case "{prefix}":
		if len(segs) > 0 {
			switch segs[0] {
			case "datasets":
				m.id.Type = hub.Dataset
				segs = segs[1:]
			case "spaces":
				m.id.Type = hub.Space
				segs = segs[1:]
			case "api", "_hub":
				return
			}
		}
		walk(rest, segs, m, yield)
		return
	case "{path...}":
		parts := make([]string, len(segs))
		for i, s := range segs {
			u, err := url.PathUnescape(s)
			if err != nil {
				return
			}
			parts[i] = u
		}
		m.path = strings.Trim(strings.Join(parts, "/"), "/")
		m.set("path", m.path)
		yield(m)
		return
	case "{id}", "{id}.git":
		m.hasID = true
		suffix := strings.TrimPrefix(p, "{id}")
		if len(segs) >= 2 {
			if name, ok := strings.CutSuffix(segs[1], suffix); ok {
				two := m
				two.id.Namespace, two.id.Name = segs[0], name
				walk(rest, segs[2:], two, yield)
			}
		}
		if len(segs) >= 1 {
			if name, ok := strings.CutSuffix(segs[0], suffix); ok {
				m.id.Namespace, m.id.Name = "", name
				walk(rest, segs[1:], m, yield)
			}
		}
		return
	}
	if len(segs) == 0 {
		return
	}
	switch {
	case p == "{type}":
		switch segs[0] {
		case "models":
			m.id.Type = hub.Model
		case "datasets":
			m.id.Type = hub.Dataset
		case "spaces":
			m.id.Type = hub.Space
		default:
			return
		}
	case p == "{rev}":
		if len(segs) >= 3 && segs[0] == "refs" && (segs[1] == "convert" || segs[1] == "pr" && prNumber.MatchString(segs[2])) {
			segs = append([]string{strings.Join(segs[:3], "%2F")}, segs[3:]...)
		}
		rev, err := url.PathUnescape(segs[0])
		if err != nil || rev == "" {
			return
		}
		m.rev = rev
		m.set("rev", rev)
	case strings.HasPrefix(p, "{"):
		v, err := url.PathUnescape(segs[0])
		if err != nil || v == "" {
			return
		}
		m.set(strings.Trim(p, "{}"), v)
	case p != segs[0]:
		return
	}
	walk(rest, segs[1:], m, yield)
}

// set never changes a map another reading of the path shares.
func (m *match) set(k, v string) {
	vars := map[string]string{k: v}
	for k0, v0 := range m.vars {
		if k0 != k {
			vars[k0] = v0
		}
	}
	m.vars = vars
}

// badID says why an id of a path is none, or "".
func badID(r hub.Repo) string {
	for _, s := range []string{r.Namespace, r.Name} {
		if strings.ContainsRune(s, '%') {
			return "Invalid repo name: " + r.ID() + " - a repo id is two segments with a literal slash"
		}
	}
	return ""
}
