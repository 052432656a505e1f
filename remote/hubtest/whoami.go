package hubtest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"html"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"hfmount/remote/hub"
)

// whoami answers GET /api/whoami-v2.
func (f *front) whoami(w http.ResponseWriter, r *http.Request, q *request) {
	orgs := []dict{}
	for _, ns := range f.namespaces() {
		if ns != q.account.Name && f.member(q.account, ns) {
			orgs = append(orgs, dict{
				"type": "org", "id": accountID(ns), "name": ns, "fullname": ns, "avatarUrl": "/avatars/" + ns + ".svg", "roleInOrg": "write",
			})
		}
	}
	name := q.account.Name
	writeJSON(w, http.StatusOK, dict{
		"type": "user", "id": accountID(name), "name": name, "fullname": name, "email": nil, "emailVerified": true,
		"canPay": false, "isPro": false, "avatarUrl": "/avatars/" + name + ".svg", "periodEnd": nil, "orgs": orgs,
		"auth": dict{"type": "access_token", "accessToken": dict{
			"displayName": "local", "role": "write", "createdAt": date(time.Unix(1767322800, 0)),
		}},
	})
}

// namespaces lists the owners of repositories, sorted.
func (f *front) namespaces() []string {
	var all []string
	for _, t := range []hub.RepoType{hub.Model, hub.Dataset, hub.Space} {
		for _, r := range f.hub.store.repos(t) {
			all = append(all, r.meta().ID.Namespace)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// accountID makes up the stable 24 hex digits of an account.
func accountID(name string) string {
	sum := sha256.Sum256([]byte("account " + strings.ToLower(name)))
	return hex.EncodeToString(sum[:12])
}

// homePage and page are the least of web pages, for links in messages.
func (f *front) homePage(w http.ResponseWriter, r *http.Request, q *request) {
	var b strings.Builder
	for _, t := range []hub.RepoType{hub.Model, hub.Dataset, hub.Space} {
		for _, rp := range f.hub.store.repos(t) {
			if m := rp.meta(); f.visible(q.account, m) {
				fmt.Fprintf(&b, "<li><a href=\"/%s\">%s</a>\n", html.EscapeString(m.ID.String()), html.EscapeString(m.ID.String()))
			}
		}
	}
	writePage(w, "Repositories", "<ul>\n"+b.String()+"</ul>")
}

func (f *front) page(w http.ResponseWriter, r *http.Request, q *request) {
	var b strings.Builder
	m := q.repo.meta()
	if commit, err := q.repo.resolve(defaultRev(q.rev)); err == nil {
		files, err := q.repo.list(commit, "", true)
		if err != nil {
			refuseErr(w, q, err)
			return
		}
		for _, e := range files {
			if e.Type == hub.File {
				href := "/" + m.ID.String() + "/resolve/" + string(commit) + "/" + escapePath(e.Path)
				fmt.Fprintf(&b, "<li><a href=\"%s\">%s</a> %d\n", html.EscapeString(href), html.EscapeString(e.Path), e.Size)
			}
		}
	} else if q.rev != "" {
		refuseErr(w, q, err)
		return
	}
	writePage(w, m.ID.String(), "<ul>\n"+b.String()+"</ul>")
}

func writePage(w http.ResponseWriter, title, body string) {
	text := "<!doctype html>\n<meta charset=\"utf-8\">\n<title>" + html.EscapeString(title) + "</title>\n<h1>" +
		html.EscapeString(title) + "</h1>\n" + body + "\n"
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.Write([]byte(text))
}
