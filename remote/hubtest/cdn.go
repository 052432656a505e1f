package hubtest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// cdnObject serves the bytes behind a signed URL (hub-protocol §4.4). It never
// sends X-Cache: js would then send it the Hub's token (§15.8).
func (f *front) cdnObject(w http.ResponseWriter, r *http.Request, q *request) {
	sha := q.vars["sha256"]
	ra, size, ok := f.hub.store.object(sha)
	if !ok {
		xmlError(w, http.StatusNotFound, "NoSuchKey", "The specified key does not exist.")
		return
	}
	h := w.Header()
	if d := r.URL.Query().Get("response-content-disposition"); d != "" {
		h.Set("Content-Disposition", d)
	}
	h.Set("Cache-Control", "public, max-age=31536000")
	h.Set("Access-Control-Allow-Origin", "*")
	// The CDN has an ETag of its own, which must not be taken for the content's.
	own := sha256.Sum256([]byte("cdn " + sha))
	sendContent(w, r, content{bytes: ra, size: size, etag: `"` + hex.EncodeToString(own[:]) + `"`, mediaType: "application/octet-stream"})
}

var xmlEscape = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

// xmlError answers as object stores do.
func xmlError(w http.ResponseWriter, status int, code, text string) {
	body := fmt.Sprintf("<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>%s</Code><Message>%s</Message></Error>",
		code, xmlEscape.Replace(text))
	h := w.Header()
	h.Set("Content-Type", "application/xml")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write([]byte(body))
}
