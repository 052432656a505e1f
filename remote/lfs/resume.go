package lfs

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"io"
	"net/url"
	"strconv"
	"time"
)

// plan is how an object is stored, and how far that has come. It is what a
// later upload resumes from; only multipart ones are worth that.
type plan struct {
	Version int    `json:"v"`
	OID     string `json:"oid"`
	Href    string `json:"href,omitempty"` // of the PUT, or of the completion
	Verify  string `json:"verify,omitempty"`
	Chunk   int64  `json:"chunk,omitempty"` // bytes of a part; 0 is one PUT
	Parts   []part `json:"parts,omitempty"`
	// Until is when the first of the addresses expires, in Unix seconds.
	Until int64 `json:"until"`
}

type part struct {
	Href string `json:"h"`
	ETag string `json:"e,omitempty"` // verbatim; empty is not stored yet
}

const (
	planVersion = 1
	// maxState bounds a state that is read back, decompressed, in bytes.
	maxState = 256 << 20
	// lifeLeft is how much time a plan must have left to be worth resuming.
	lifeLeft = 2 * time.Minute
	// defaultLife is taken for addresses that do not say when they expire.
	defaultLife = 30 * time.Minute
)

// date notes when the plan expires. The address's own date is compared with
// the clock here: where that is wrong, the first PUT says so, and a new plan
// is asked for.
func (p *plan) date(now time.Time) {
	p.Until = 0
	hrefs := []string{p.Href}
	if len(p.Parts) > 0 {
		hrefs = append(hrefs, p.Parts[0].Href)
	}
	for _, href := range hrefs {
		if at, ok := expiry(href); ok && (p.Until == 0 || at.Unix() < p.Until) {
			p.Until = at.Unix()
		}
	}
	if p.Until == 0 {
		p.Until = now.Add(defaultLife).Unix()
	}
}

// expiry reads when a signed URL ends: an Unix time, or S3's date and life.
func expiry(href string) (time.Time, bool) {
	u, err := url.Parse(href)
	if err != nil {
		return time.Time{}, false
	}
	q := u.Query()
	if n, err := strconv.ParseInt(q.Get("Expires"), 10, 64); err == nil && n > 0 {
		return time.Unix(n, 0), true
	}
	for _, vendor := range []string{"X-Amz-", "X-Goog-"} {
		at, err := time.Parse("20060102T150405Z", q.Get(vendor+"Date"))
		if err != nil {
			continue
		}
		if n, err := strconv.ParseInt(q.Get(vendor+"Expires"), 10, 32); err == nil {
			return at.Add(time.Duration(n) * time.Second), true
		}
	}
	return time.Time{}, false
}

// stored is how many bytes of a size bytes long object are with the server.
func (p *plan) stored(size int64) (n int64) {
	for i := range p.Parts {
		if p.Parts[i].ETag != "" {
			n += p.length(i, size)
		}
	}
	return n
}

// length is that of part i, from 0.
func (p *plan) length(i int, size int64) int64 {
	return min(p.Chunk, size-int64(i)*p.Chunk)
}

// sameUpload reports whether q continues the upload of p: then what p has
// stored counts. Addresses are opaque but for the name S3 gives an upload.
func (p *plan) sameUpload(q *plan) bool {
	return p != nil && p.Chunk == q.Chunk && len(p.Parts) == len(q.Parts) && uploadID(q.Href) != "" && uploadID(p.Href) == uploadID(q.Href)
}

func uploadID(href string) string {
	u, err := url.Parse(href)
	if err != nil {
		return ""
	}
	return u.Query().Get("uploadId")
}

// encode makes the state of a plan; nil if there is nothing worth keeping. The
// addresses differ little, so that it shrinks to a fraction.
func (p *plan) encode() []byte {
	if p == nil || p.Chunk == 0 {
		return nil
	}
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestSpeed)
	if err != nil {
		return nil
	}
	if json.NewEncoder(w).Encode(p) != nil || w.Close() != nil {
		return nil
	}
	return b.Bytes()
}

// resume reads a state back. What is damaged, of another object or about to
// expire is none.
func resume(state []byte, oid string, size int64, now time.Time) *plan {
	if len(state) == 0 {
		return nil
	}
	var p plan
	d := json.NewDecoder(io.LimitReader(flate.NewReader(bytes.NewReader(state)), maxState))
	if d.Decode(&p) != nil || p.Version != planVersion || p.OID != oid || p.Href == "" || p.Chunk <= 0 || p.Chunk > 1<<50 ||
		int64(len(p.Parts)) != (size+p.Chunk-1)/p.Chunk || now.Add(lifeLeft).Unix() > p.Until {
		return nil
	}
	for _, part := range p.Parts {
		if part.Href == "" {
			return nil
		}
	}
	return &p
}
