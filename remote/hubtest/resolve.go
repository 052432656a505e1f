package hubtest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"

	"hfmount/remote/hub"
)

// resolve answers GET and HEAD …/resolve/{rev}/{path} in one of the three
// shapes of hub-protocol §4.2.
func (f *front) resolve(w http.ResponseWriter, r *http.Request, q *request) {
	commit, e, ok := f.locate(w, q)
	if !ok {
		return
	}
	m := q.repo.meta()
	shapes := f.hub.opts.Shapes
	etag := `"` + e.Content().Hex + `"`
	h := w.Header()
	h.Set("Vary", "Origin, Accept")
	if r.Header.Get("If-None-Match") == etag {
		h.Set("ETag", etag)
		w.WriteHeader(http.StatusNotModified)
		return
	}
	switch {
	case shapes.Direct, e.Size == 0, !e.LFS() && (m.Private || m.Gated != "" || q.id != m.ID):
		f.sendEntry(w, r, q, e)
	case e.LFS():
		h.Set("X-Linked-Size", strconv.FormatInt(e.Size, 10))
		h.Set("X-Linked-ETag", etag)
		h.Set("Accept-Ranges", "bytes")
		if shapes.XetHeaders {
			f.xetHeaders(h, q, commit, e)
		}
		u := fmt.Sprintf("%s/xet-bridge-us/%s/%s?response-content-disposition=%s", q.cdn, m.ObjectID, e.SHA256,
			url.QueryEscape(disposition(r, e.Path)))
		seeOther(w, http.StatusFound, q.sign(u))
	default:
		if !shapes.NoLinkedOnCacheHop {
			h.Set("X-Linked-Size", strconv.FormatInt(e.Size, 10))
			h.Set("X-Linked-ETag", etag)
		}
		h.Set("Accept-Ranges", "bytes")
		location := "/api/resolve-cache/" + m.ID.Type.Plural() + "/" + m.ID.ID() + "/" + string(commit) + "/" + escapePath(e.Path) +
			"?" + url.QueryEscape(r.URL.EscapedPath()) + "=&etag=" + url.QueryEscape(etag)
		if boolean(r.URL.Query().Get("download")) {
			location += "&download=true"
		}
		seeOther(w, http.StatusTemporaryRedirect, location)
	}
}

// resolveCache answers the second hop of shape A.
func (f *front) resolveCache(w http.ResponseWriter, r *http.Request, q *request) {
	_, e, ok := f.locate(w, q)
	if !ok {
		return
	}
	if f.hub.opts.Shapes.NoCommitOnCacheHop {
		w.Header().Del("X-Repo-Commit")
	}
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	f.sendEntry(w, r, q, e)
}

// raw answers …/raw/{rev}/{path}: the git blob, which for LFS is the pointer.
// It ignores If-None-Match.
func (f *front) raw(w http.ResponseWriter, r *http.Request, q *request) {
	_, e, ok := f.locate(w, q)
	if !ok {
		return
	}
	r = r.Clone(r.Context())
	r.Header.Del("If-None-Match")
	f.sendBlob(w, r, q, e)
}

// locate finds the file a request names, or answers. X-Repo-Commit is set
// also when the path does not exist.
func (f *front) locate(w http.ResponseWriter, q *request) (hub.CommitID, hub.Entry, bool) {
	commit, ok := at(w, q)
	if !ok {
		return "", hub.Entry{}, false
	}
	w.Header().Set("X-Repo-Commit", string(commit))
	e, err := q.repo.entry(commit, q.path)
	if err == nil && e.Type != hub.File {
		err = hub.ErrEntryNotFound
	}
	if err != nil {
		refuseErr(w, q, err)
		return "", hub.Entry{}, false
	}
	return commit, e, true
}

// sendEntry serves the bytes from the Hub itself.
func (f *front) sendEntry(w http.ResponseWriter, r *http.Request, q *request, e hub.Entry) {
	if !e.LFS() {
		f.sendBlob(w, r, q, e)
		return
	}
	ra, size, ok := f.hub.store.object(e.SHA256)
	if !ok {
		refuse(w, http.StatusNotFound, "EntryNotFound", "Entry not found")
		return
	}
	w.Header().Set("Content-Disposition", disposition(r, e.Path))
	sendContent(w, r, content{bytes: ra, size: size, etag: `"` + e.SHA256 + `"`, mediaType: "application/octet-stream"})
}

func (f *front) sendBlob(w http.ResponseWriter, r *http.Request, q *request, e hub.Entry) {
	b, err := q.repo.blob(e.OID)
	if err != nil {
		refuseErr(w, q, err)
		return
	}
	c := content{bytes: strings.NewReader(string(b)), size: int64(len(b)), etag: `"` + e.OID + `"`, mediaType: "application/octet-stream"}
	if isText(b) {
		c.mediaType, c.text = "text/plain; charset=utf-8", b
	}
	w.Header().Set("Content-Disposition", disposition(r, e.Path))
	w.Header().Set("X-Content-Type-Options", "nosniff")
	sendContent(w, r, c)
}

func (f *front) xetHeaders(h http.Header, q *request, commit hub.CommitID, e hub.Entry) {
	m := q.repo.meta()
	hash := xetHash(e.SHA256)
	auth := q.hub + "/api/" + m.ID.Type.Plural() + "/" + m.ID.ID() + "/xet-read-token/" + string(commit)
	info := "<" + q.cdn + "/v1/reconstructions/" + hash + `>; rel="xet-reconstruction-info"`
	h.Set("X-Xet-Hash", hash)
	if f.hub.opts.Shapes.XetRefreshRoute {
		h.Set("X-Xet-Refresh-Route", auth)
		h.Set("Link", info)
		return
	}
	h.Set("Link", "<"+auth+`>; rel="xet-auth", `+info)
}

// xetHash stands in for the hash a CAS would give: stable, and unlike the
// SHA-256.
func xetHash(sha string) string {
	sum := sha256.Sum256([]byte("xet " + sha))
	return hex.EncodeToString(sum[:])
}

func disposition(r *http.Request, p string) string {
	kind := "inline"
	if boolean(r.URL.Query().Get("download")) {
		kind = "attachment"
	}
	name := path.Base(p)
	if s := mime.FormatMediaType(kind, map[string]string{"filename": name}); s != "" {
		return s
	}
	return kind
}

// escapePath escapes every segment and keeps the slashes.
func escapePath(p string) string {
	segs := strings.Split(p, "/")
	for i, s := range segs {
		segs[i] = url.PathEscape(s)
	}
	return strings.Join(segs, "/")
}
