package hubtest

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"hfmount/remote/hub"
)

// readRoutes is the table of everything that only reads.
func (f *front) readRoutes() []route {
	const api = "/api/{type}/{id}"
	return []route{
		{name: "agent-harnesses", method: "GET", pattern: "/api/agent-harnesses", access: accessOpen, h: nothingHere},
		{name: "whoami", method: "GET", pattern: "/api/whoami-v2", quota: "api", access: accessAccount, h: f.whoami},
		{name: "list", method: "GET", pattern: "/api/{type}", quota: "api", access: accessOpen, h: f.listRepos},

		{name: "info", method: "GET", pattern: api, quota: "api", access: accessRead, h: f.info},
		{name: "revision", method: "GET", pattern: api + "/revision/{rev}", quota: "api", access: accessRead, h: f.info},
		{name: "auth-check", method: "GET", pattern: api + "/auth-check", quota: "api", access: accessContent, h: granted},
		{name: "auth-check", method: "GET", pattern: api + "/auth-check/write", quota: "api", access: accessWrite, h: granted},
		{name: "refs", method: "GET", pattern: api + "/refs", quota: "api", access: accessRead, h: f.refs},
		{name: "commits", method: "GET", pattern: api + "/commits/{rev}", quota: "api", access: accessRead, h: f.commits},
		{name: "compare", method: "GET", pattern: api + "/compare/{range}", quota: "api", access: accessRead, h: f.compare},
		{name: "tree", method: "GET", pattern: api + "/tree/{rev}/{path...}", quota: "api", access: accessRead, h: f.tree},
		{name: "treesize", method: "GET", pattern: api + "/treesize/{rev}/{path...}", quota: "api", access: accessRead, h: f.treeSize},
		{name: "paths-info", method: "POST", pattern: api + "/paths-info/{rev}", quota: "api", access: accessRead, h: f.pathsInfo},
		{name: "xet-read-token", method: "GET", pattern: api + "/xet-read-token/{rev}", quota: "api", access: accessRead, h: nothingHere},

		{name: "resolve", method: "GET", pattern: "/{prefix}{id}/resolve/{rev}/{path...}", quota: "resolvers", access: accessContent, h: f.resolve},
		{name: "resolve-cache", method: "GET", pattern: "/api/resolve-cache/{type}/{id}/{rev}/{path...}", quota: "resolvers", access: accessContent, h: f.resolveCache},
		{name: "raw", method: "GET", pattern: "/{prefix}{id}/raw/{rev}/{path...}", quota: "pages", access: accessContent, h: f.raw},
		{name: "cdn", method: "GET", pattern: "/xet-bridge-us/{object}/{sha256}", cdn: true, quota: "cdn", access: accessSigned, h: f.cdnObject},

		{name: "page", method: "GET", pattern: "/", quota: "pages", access: accessOpen, h: f.homePage},
		{name: "page", method: "GET", pattern: "/{prefix}{id}", quota: "pages", access: accessRead, h: f.page},
		{name: "page", method: "GET", pattern: "/{prefix}{id}/tree/{rev}/{path...}", quota: "pages", access: accessRead, h: f.page},
		{name: "page", method: "GET", pattern: "/{prefix}{id}/blob/{rev}/{path...}", quota: "pages", access: accessContent, h: f.page},
		{name: "page", method: "GET", pattern: "/{prefix}{id}/commit/{rev}", quota: "pages", access: accessRead, h: f.page},
		{name: "page", method: "GET", pattern: "/{prefix}{id}/discussions/{num}", quota: "pages", access: accessRead, h: f.page},
	}
}

// nothingHere answers for what the real Hub has and this one does without:
// official clients take the 404 as an answer (hub-protocol §15.1, §15.5).
func nothingHere(w http.ResponseWriter, r *http.Request, q *request) {
	refuse(w, http.StatusNotFound, "", "Not found")
}

func granted(w http.ResponseWriter, r *http.Request, q *request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Length", "2")
	w.Write([]byte("OK"))
}

// at resolves the request's revision, the default branch if it has none, or
// answers.
func at(w http.ResponseWriter, q *request) (hub.CommitID, bool) {
	rev := q.rev
	if rev == "" {
		rev = hub.DefaultRevision
	}
	c, err := q.repo.resolve(rev)
	if err != nil {
		refuseErr(w, q, err)
		return "", false
	}
	return c, true
}

// refuseErr answers with what an error of the store means.
func refuseErr(w http.ResponseWriter, q *request, err error) {
	switch {
	case errors.Is(err, hub.ErrRepoNotFound):
		noRepo(w, q.account)
	case errors.Is(err, hub.ErrRevisionNotFound):
		refuse(w, http.StatusNotFound, "RevisionNotFound", "Invalid rev id: "+q.rev)
	case errors.Is(err, hub.ErrEntryNotFound):
		refuse(w, http.StatusNotFound, "EntryNotFound", "Entry not found")
	default:
		refuse(w, http.StatusInternalServerError, "", err.Error())
	}
}

// boolean reads a query value the way clients of all ages write it
// (hub-protocol §2.4).
func boolean(s string) bool {
	switch strings.ToLower(s) {
	case "1", "true", "yes", "on":
		return true
	}
	return false
}

// number reads a query value between lo and hi; def if it is missing.
func number(q url.Values, key string, def, lo, hi int) (int, error) {
	s := q.Get(key)
	if s == "" {
		return def, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < lo {
		return 0, errors.New(`"` + key + `" must be a number of at least ` + strconv.Itoa(lo))
	}
	return min(n, hi), nil
}

// all returns the values of a repeated parameter in both spellings, expand
// and expand[].
func all(q url.Values, key string) []string {
	return append(append([]string(nil), q[key]...), q[key+"[]"]...)
}

func date(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// nextLink sets the header that leads to the next page: a complete URL with
// all parameters, as the real Hub's (hub-protocol §3.4).
func nextLink(w http.ResponseWriter, r *http.Request, q *request, query url.Values) {
	w.Header().Set("Link", "<"+q.hub+r.URL.EscapedPath()+"?"+query.Encode()+`>; rel="next"`)
}
