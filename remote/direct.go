package remote

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"hfmount/remote/hub"
)

// maxDirect bounds the commits whose form is remembered.
const maxDirect = 256

// directKey is what an answer of the Hub speaks for: whether a repository is
// private, gated or under another name decides the form (hub-protocol §4.2).
type directKey struct {
	repo   hub.Repo
	commit hub.CommitID
}

// direct remembers the repositories whose git files the Hub serves from its
// resolve-cache. That address follows from commit, path and hash, all of which
// the listing gives, so after one redirect has shown the form the next files
// cost one round trip instead of two, and one request of the quota.
//
// It is never more than a guess: an answer that is not exactly the listed
// content ends it for that commit, and the read goes by resolve.
type direct struct {
	mu    sync.Mutex
	forms map[directKey]directForm
}

// directForm is the query of the address, parameter by parameter; nil where
// guessing has failed.
type directForm []directParam

type directParam uint8

const (
	paramPath directParam = iota // the path that was resolved, without a value
	paramETag                    // the quoted hash
)

// plain is the address of a file in the resolve-cache, without a query.
func (r *stream) plain() url.URL {
	u := *r.c.base
	u.Path = strings.TrimRight(u.Path, "/") + "/api/resolve-cache/" + r.key.repo.Type.Plural() + "/" + r.key.repo.ID() +
		"/" + string(r.commit) + "/" + r.k.path
	u.RawPath = strings.TrimRight(r.c.base.EscapedPath(), "/") + "/api/resolve-cache/" + r.key.repo.Type.Plural() + "/" + r.key.repo.ID() +
		"/" + string(r.commit) + "/" + escapePath(r.k.path)
	return u
}

// directly returns where the bytes should be without asking, nil if that is
// not known.
func (r *stream) directly() *url.URL {
	if r.key.content.Algo != hub.GitBlob || r.fails > 0 {
		return nil
	}
	d := &r.c.direct
	d.mu.Lock()
	form := d.forms[directKey{r.key.repo, r.commit}]
	d.mu.Unlock()
	if form == nil {
		return nil
	}
	u := r.plain()
	params := make([]string, len(form))
	for i, p := range form {
		switch p {
		case paramPath:
			params[i] = url.QueryEscape(r.resolve.EscapedPath()) + "="
		case paramETag:
			params[i] = "etag=" + url.QueryEscape(`"`+r.key.content.Hex+`"`)
		}
	}
	u.RawQuery = strings.Join(params, "&")
	return &u
}

// learn looks whether the Hub led a resolve to the address that directly would
// have made, up to the order of the parameters. Anything more in it, say a
// signature, is nothing to guess.
func (r *stream) learn(led *url.URL) {
	if r.key.content.Algo != hub.GitBlob || !r.c.isHub(led) {
		return
	}
	if want := r.plain(); led.Path != want.Path {
		return
	}
	form := directForm{}
	for param := range strings.SplitSeq(led.RawQuery, "&") {
		if param == "" {
			continue
		}
		name, value, _ := strings.Cut(param, "=")
		name, err := url.QueryUnescape(name)
		if err != nil {
			return
		}
		if value, err = url.QueryUnescape(value); err != nil {
			return
		}
		switch {
		case name == "etag" && value == `"`+r.key.content.Hex+`"`:
			form = append(form, paramETag)
		case (name == r.resolve.EscapedPath() || name == r.resolve.Path) && value == "":
			form = append(form, paramPath)
		default:
			return
		}
	}
	d := &r.c.direct
	key := directKey{r.key.repo, r.commit}
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, known := d.forms[key]; known {
		return // also where it is known not to work
	}
	if d.forms == nil || len(d.forms) >= maxDirect {
		d.forms = make(map[directKey]directForm) // learnt again with one request each
	}
	d.forms[key] = form
}

// misled ends guessing for the commit.
func (r *stream) misled() {
	d := &r.c.direct
	d.mu.Lock()
	defer d.mu.Unlock()
	d.forms[directKey{r.key.repo, r.commit}] = nil
}

// guessedRight insists on the Hub's own word for the content: what came by
// resolve may lack it, a guess may not.
func (r *stream) guessedRight(ch *chain) error {
	if ch.hub && strings.EqualFold(normalETag(ch.linkedETag), r.key.content.Hex) {
		return nil
	}
	return r.mistaken(r.k.bad("the address made for it has %s", ch.linkedETag))
}

// mistaken is an error after which the read goes by resolve at once.
func (r *stream) mistaken(e *Error) error {
	r.misled()
	e.retry, e.stale = true, true
	return e
}

// refusedGuess turns an answer to a guess into an error. Overload and quotas
// are no sign that the address was wrong.
func (r *stream) refusedGuess(ch *chain) error {
	err := r.refusedBy(ch, false, nil)
	var e *Error
	if s := ch.resp.StatusCode; s == http.StatusTooManyRequests || s >= 500 || !errors.As(err, &e) {
		return err
	}
	return r.mistaken(e)
}
