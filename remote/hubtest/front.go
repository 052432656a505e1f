package hubtest

import (
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"hfmount/remote/hub"
)

// front is the HTTP side: what happens to a request before a handler of
// [Hub.readRoutes] or [Hub.publishRoutes] sees it, in the order of serve.
type front struct {
	hub    *Hub
	site   *router // of the Hub
	edge   *router // of the CDN
	stats  counters
	quotas quotas
	faults faults
	signer *signer
	// tasks are requests without a socket and late commits.
	tasks *tasks

	latency   atomic.Int64 // time.Duration
	bandwidth atomic.Int64 // bytes per second
	multipart atomic.Int64 // LFS above this many bytes comes in parts
	partSize  atomic.Int64
}

func newFront(h *Hub) *front {
	f := &front{hub: h, signer: newSigner(h.opts.Now, h.opts.URLTTL), tasks: newTasks()}
	f.latency.Store(int64(h.opts.Latency))
	f.bandwidth.Store(h.opts.Bandwidth)
	f.multipart.Store(h.opts.Shapes.MultipartThreshold)
	f.partSize.Store(h.opts.Shapes.PartSize)
	routes := append(f.readRoutes(), h.publishRoutes()...)
	f.site, f.edge = newRouter(routes, false), newRouter(routes, true)
	return f
}

// endpoint is one of the two origins of a Hub.
type endpoint struct {
	front    *front
	hub, cdn string // origins without a trailing slash
	isCDN    bool
	anyCDN   bool // the CDN listens on all addresses
}

func (e endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// The Hub is whatever the client calls it: one spelling has to serve for
	// all links that stay on the Hub (hub-protocol §15.2).
	if !e.isCDN && r.Host != "" {
		e.hub = "http://" + r.Host
		if e.anyCDN {
			e.cdn = onHost(e.cdn, r.Host)
		}
	}
	f := e.front
	if !e.isCDN && f.hub.opts.Admin && strings.HasPrefix(r.URL.Path, "/_hub/") {
		f.admin(w, r)
		return
	}
	f.serve(w, r, e)
}

// onHost replaces the host name of an origin by that of another and keeps the
// port.
func onHost(origin, host string) string {
	u, err := url.Parse(origin)
	if err != nil {
		return origin
	}
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return "http://" + net.JoinHostPort(strings.Trim(host, "[]"), u.Port())
}

const exposed = "X-Repo-Commit,X-Request-Id,X-Error-Code,X-Error-Message,X-Total-Count,ETag,Link,Accept-Ranges,Content-Range,X-Linked-Size,X-Linked-ETag,X-Xet-Hash"

// unrouted stands for paths that lead nowhere.
var unrouted = route{name: "unknown", quota: "pages"}

func (f *front) serve(rw http.ResponseWriter, r *http.Request, e endpoint) {
	start := time.Now()
	router := f.site
	if e.isCDN {
		router = f.edge
	}
	m := f.choose(router.find(r))
	rt := m.route
	w := &answer{ResponseWriter: rw, f: f, r: r, cut: -1}
	if rate := f.bandwidth.Load(); rate > 0 {
		w.rate = rate
		w.pacer, _ = r.Context().Value(pacerKey{}).(*pacer)
		if w.pacer == nil {
			w.pacer = new(pacer)
		}
		r.Body = &pacedBody{ReadCloser: r.Body, ctx: r.Context(), p: w.pacer, rate: rate}
	}
	r.Body = &countedBody{r.Body, &f.stats}
	id := commonHeaders(w.Header(), r, f.hub.opts.Now(), e.isCDN)
	if rt.quota != "" {
		f.stats.request(rt.name, rt.quota)
	}
	defer func() {
		f.hub.opts.Logger.Info("request", "method", r.Method, "path", r.URL.EscapedPath(), "cdn", e.isCDN, "route", rt.name,
			"status", w.status, "bytes", w.sent, "took", time.Since(start), "id", id)
	}()

	account, authErr := f.authenticate(r)
	if e.isCDN && r.Header.Get("Authorization") != "" {
		f.stats.leak()
		f.hub.opts.Logger.Error("A TOKEN LEAKED TO THE CDN", "method", r.Method, "path", r.URL.EscapedPath(), "user_agent", r.UserAgent())
		xmlError(w, http.StatusBadRequest, "InvalidArgument", "Only one auth mechanism allowed")
		return
	}
	address, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		address = r.RemoteAddr
	}
	if !e.isCDN && !f.limit(w, rt, account, address) {
		return
	}
	if sleep(r.Context(), time.Duration(f.latency.Load())) != nil {
		panic(http.ErrAbortHandler)
	}

	h := func(w statusWriter, r *http.Request) {
		f.dispatch(w, r, e, m, account, authErr)
		if rt.name == "commit" && w.code() == http.StatusOK {
			f.stats.commit()
		}
	}
	defer func() { f.faults.leave(w.arrived, address) }()
	if !w.meet(f.faults.match(r, e.isCDN), rt.name, address, e.isCDN, h) {
		h(w, r)
	}
}

// dispatch finds the repository, checks access and runs the handler.
func (f *front) dispatch(w http.ResponseWriter, r *http.Request, e endpoint, m match, a *account, authErr error) {
	rt := m.route
	if rt.access == accessSigned {
		if reason := f.signer.check(r.URL); reason != "" {
			xmlError(w, http.StatusForbidden, "AccessDenied", reason)
			return
		}
	} else if authErr != nil && rt.quota != "" {
		unauthorized(w, "", authErr.Error())
		return
	}
	q := &request{
		account: a, id: m.id, rev: m.rev, path: m.path, vars: m.vars, hub: e.hub, cdn: e.cdn,
		mayWrite: func(ns string) bool { return f.member(a, ns) },
		sign:     f.signer.sign,
	}
	if rt.h == nil {
		if e.isCDN {
			xmlError(w, http.StatusNotFound, "NoSuchKey", "The specified key does not exist.")
			return
		}
		refuse(w, http.StatusNotFound, "", "Sorry, we can't find the page you are looking for.")
		return
	}
	if m.hasID {
		if reason := badID(m.id); reason != "" {
			refuse(w, http.StatusBadRequest, "", reason)
			return
		}
		if !f.enter(w, r, rt, q) {
			return
		}
	}
	if !f.admit(w, rt, q) {
		return
	}
	rt.h(w, r, q)
}

// enter puts the repository into q, or answers: with a redirect for an old,
// canonical or differently cased id (hub-protocol §2.2), else with an error.
func (f *front) enter(w http.ResponseWriter, r *http.Request, rt *route, q *request) bool {
	rp, ok := f.hub.store.repo(q.id)
	if !ok {
		to, canonical, found := f.hub.store.redirect(q.id)
		if found {
			rp, ok = f.hub.store.repo(to)
		}
		if ok && f.visible(q.account, rp.meta()) && !(canonical && rt.name == "resolve") {
			redirectRepo(w, r, q.id, to)
			return false
		}
	}
	if !ok || !f.visible(q.account, rp.meta()) {
		noRepo(w, q.account)
		return false
	}
	q.repo = rp
	q.writable = f.member(q.account, rp.meta().ID.Namespace)
	return true
}

// redirectRepo answers 307 with the same URL under the current id, so that
// method and body are kept.
func redirectRepo(w http.ResponseWriter, r *http.Request, from, to hub.Repo) {
	location := renamed(r.URL.EscapedPath(), from.ID(), to.ID())
	if r.URL.RawQuery != "" {
		location += "?" + r.URL.RawQuery
	}
	seeOther(w, http.StatusTemporaryRedirect, location)
}

// renamed replaces the id in a path, where it stands as whole segments.
func renamed(path, from, to string) string {
	for i := 0; ; {
		j := strings.Index(path[i:], "/"+from)
		if j < 0 {
			return path
		}
		i += j + 1
		rest := path[i+len(from):]
		if rest == "" || rest[0] == '/' || strings.HasPrefix(rest, ".git/") {
			return path[:i] + to + rest
		}
	}
}

// seeOther answers with a redirect and its little text.
func seeOther(w http.ResponseWriter, status int, location string) {
	text := http.StatusText(status) + ". Redirecting to " + location
	h := w.Header()
	h.Set("Location", location)
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Content-Length", fmt.Sprint(len(text)))
	w.WriteHeader(status)
	w.Write([]byte(text))
}

// choose takes the reading of a path whose repository exists, or the first.
func (f *front) choose(ms []match) match {
	for _, m := range ms {
		if !m.hasID {
			return m
		}
		if _, ok := f.hub.store.repo(m.id); ok {
			return m
		}
		if _, _, ok := f.hub.store.redirect(m.id); ok {
			return m
		}
	}
	if len(ms) > 0 {
		return ms[0]
	}
	return match{route: &unrouted}
}

// commonHeaders sets what every answer has (hub-protocol §1.5) and returns
// the request id.
func commonHeaders(h http.Header, r *http.Request, now time.Time, cdn bool) string {
	var b [16]byte
	rand.Read(b[:])
	trace := r.Header.Get("X-Amzn-Trace-Id")
	if trace == "" {
		trace = r.Header.Get("X-Request-Id")
	}
	if trace == "" {
		trace = uuid.NewString()
	}
	id := fmt.Sprintf("Root=1-%08x-%x;%s", now.Unix(), b[:12], trace)
	h.Set("X-Request-Id", id)
	h.Set("Date", now.UTC().Format(http.TimeFormat))
	if !cdn {
		h.Set("X-Powered-By", "huggingface-moon")
		h.Set("Vary", "Origin")
		h.Set("Access-Control-Expose-Headers", exposed)
	}
	return id
}
