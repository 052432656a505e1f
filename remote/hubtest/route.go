package hubtest

import (
	"crypto/sha1"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"hfmount/remote/hub"
)

// This file is the seam between the front, which routes and authorises, and
// the handlers. publishRoutes (store side) and readRoutes (front side) are the
// two tables the router is built from.

// access says what the front must have established before a handler runs.
type access uint8

const (
	// accessOpen needs nothing; a bad token is still 401.
	accessOpen access = iota
	// accessAccount needs a valid token; there is no repository in the path.
	accessAccount
	// accessRead needs the repository to be visible to the account, if any.
	accessRead
	// accessContent is accessRead, and approved if the repository is gated.
	accessContent
	// accessPropose is accessRead by an account; the handler looks at
	// request.writable itself (create_pr needs no write permission).
	accessPropose
	// accessWrite needs an account that may write the repository (else 403).
	accessWrite
	// accessSigned needs a signature made by request.sign that has not
	// expired (else 403 XML); tokens are not looked at.
	accessSigned
)

// route is one line of the table. Patterns are matched on the escaped path,
// segment by segment, and each match is then unescaped:
//
//	{type}    models, datasets, spaces
//	{id}      NS/NAME as two segments, or a canonical NAME as one
//	{prefix}  nothing, or "datasets/" or "spaces/"
//	{rev}     one segment, or refs/pr/N or refs/convert/x unescaped
//	{path...} the rest, possibly empty (then the slash before it may be missing)
//	{other}   one segment, found in request.vars
type route struct {
	name    string // in Stats.Requests
	method  string
	pattern string
	cdn     bool   // served by the CDN's origin
	quota   string // "api", "resolvers", "pages", "cdn"; "" is not counted
	access  access
	h       handler
}

// account is who made a request; nil is anonymous.
type account struct {
	Name  string
	Token string
}

// request is what the front has settled before a handler runs: the account,
// the repository (visible to that account), the decoded revision and path.
type request struct {
	account  *account
	repo     *repo // nil if the pattern has no {id}
	id       hub.Repo
	rev      string
	path     string
	vars     map[string]string
	writable bool // the account may write repo

	hub, cdn string // origins as the client spells them, no trailing slash

	// mayWrite reports whether the account may write a namespace.
	mayWrite func(namespace string) bool
	// sign completes an absolute URL on either origin (it may have a query)
	// with Expires, Signature and so on; accessSigned routes check them.
	sign func(rawURL string) string
}

// handler answers one route.
type handler func(w http.ResponseWriter, r *http.Request, q *request)

// writeJSON answers with a JSON body.
func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(b)))
	if status == http.StatusOK {
		h.Set("ETag", fmt.Sprintf(`W/"%x-%x"`, len(b), sha1.Sum(b)))
	}
	w.WriteHeader(status)
	w.Write(b)
}

// refuse answers with an error as hub-protocol §5.1 has it: code goes to
// X-Error-Code if not empty, text to X-Error-Message and the body.
func refuse(w http.ResponseWriter, status int, code, text string) {
	if code != "" {
		w.Header().Set("X-Error-Code", code)
	}
	w.Header().Set("X-Error-Message", text)
	writeJSON(w, status, map[string]string{"error": text})
}
