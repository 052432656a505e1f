package hubtest

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// content is a file to send. If bytes is an io.Closer, sendContent closes it.
type content struct {
	bytes     io.ReaderAt
	size      int64
	etag      string // quoted
	mediaType string
	text      []byte // all of it, if it is text that may be compressed
}

// gzipMost is the size up to which text is compressed, in bytes.
const gzipMost = 1 << 20

// sendContent answers with a file or a range of it, under the rules of
// hub-protocol §4.5, and with the faults of bodies.
func sendContent(w http.ResponseWriter, r *http.Request, c content) {
	if closer, ok := c.bytes.(io.Closer); ok {
		defer closer.Close()
	}
	h := w.Header()
	if m := r.Header.Get("If-None-Match"); m != "" && (m == c.etag || m == "W/"+c.etag) {
		h.Set("ETag", c.etag)
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", c.mediaType)
	if len(c.text) > 0 && len(c.text) <= gzipMost && wantsGzip(r) {
		sendGzip(w, r, c)
		return
	}
	h.Set("ETag", c.etag)
	h.Set("Accept-Ranges", "bytes")

	a, _ := w.(*answer)
	spec := r.Header.Get("Range")
	if ir := r.Header.Get("If-Range"); ir != "" && ir != c.etag {
		spec = ""
	}
	if spec != "" && a != nil && r.Method != http.MethodHead && a.take("ignore-range", always) != nil {
		spec = ""
	}
	from, n, kind := parseRange(spec, c.size)
	switch kind {
	case rangeBeyond:
		h.Set("Content-Range", fmt.Sprintf("bytes */%d", c.size))
		h.Del("Content-Type")
		h.Set("Content-Length", "0")
		w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		return
	case rangeEmpty:
		// js asks for bytes=0-0 of every file and wants a 2xx with the size
		// (hub-protocol §15.8).
		h.Set("Content-Range", "bytes */0")
		h.Set("Content-Length", "0")
		w.WriteHeader(http.StatusPartialContent)
		return
	}
	status := http.StatusOK
	if kind == rangePart {
		status = http.StatusPartialContent
		start, total := from, c.size
		if a != nil && r.Method != http.MethodHead && a.take("wrong-range", always) != nil {
			start++
			total = max(total, start+n)
		}
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, start+n-1, total))
	}
	h.Set("Content-Length", strconv.FormatInt(n, 10))
	src := c.bytes
	if a != nil && r.Method != http.MethodHead {
		holds := func(rl *rule) bool { return rl.At >= from && rl.At < from+n }
		if rl := a.take("corrupt", holds); rl != nil {
			src = flipped{src, rl.At}
		}
	}
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		copyRange(w, src, from, n)
	}
}

func always(*rule) bool { return true }

// wantsGzip: a client that does not insist on identity gets small text
// compressed, and no ranges of it.
func wantsGzip(r *http.Request) bool {
	accepts := strings.ToLower(strings.Join(r.Header.Values("Accept-Encoding"), ","))
	return strings.Contains(accepts, "gzip") && !strings.Contains(accepts, "identity")
}

func sendGzip(w http.ResponseWriter, r *http.Request, c content) {
	h := w.Header()
	h.Set("Content-Encoding", "gzip")
	h.Set("ETag", "W/"+c.etag)
	h.Add("Vary", "Accept-Encoding")
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	// Flushed before the end, so that no server gives it a Content-Length.
	http.NewResponseController(w).Flush()
	text := c.text
	if a, ok := w.(*answer); ok {
		if rl := a.take("corrupt", func(rl *rule) bool { return rl.At < c.size }); rl != nil {
			text = bytes.Clone(text)
			text[rl.At] ^= 0x01
		}
	}
	zw := gzip.NewWriter(w)
	zw.Write(text)
	zw.Close()
}

type rangeKind int

const (
	rangeWhole  rangeKind = iota // none, or none that is understood
	rangePart                    // from, n
	rangeBeyond                  // starts behind the end
	rangeEmpty                   // of an empty file
)

// parseRange reads a Range header of one range.
func parseRange(spec string, size int64) (from, n int64, kind rangeKind) {
	set, ok := strings.CutPrefix(spec, "bytes=")
	a, b, dash := strings.Cut(strings.TrimSpace(set), "-")
	if !ok || !dash || strings.Contains(set, ",") {
		return 0, size, rangeWhole
	}
	last := size - 1
	if a == "" { // the last b bytes
		k, err := strconv.ParseInt(b, 10, 64)
		if err != nil || k < 0 {
			return 0, size, rangeWhole
		}
		if size == 0 {
			return 0, 0, rangeEmpty
		}
		if k == 0 {
			return 0, 0, rangeBeyond
		}
		from = max(size-k, 0)
		return from, size - from, rangePart
	}
	from, err := strconv.ParseInt(a, 10, 64)
	if err != nil || from < 0 {
		return 0, size, rangeWhole
	}
	if b != "" {
		k, err := strconv.ParseInt(b, 10, 64)
		if err != nil || k < from {
			return 0, size, rangeWhole
		}
		last = min(k, last)
	}
	switch {
	case size == 0 && from == 0:
		return 0, 0, rangeEmpty
	case from >= size:
		return 0, 0, rangeBeyond
	}
	return from, last - from + 1, rangePart
}

// flipped has one bit of one byte wrong.
type flipped struct {
	io.ReaderAt
	at int64
}

func (f flipped) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.ReaderAt.ReadAt(p, off)
	if i := f.at - off; i >= 0 && i < int64(n) {
		p[i] ^= 0x01
	}
	return n, err
}

// Large reads keep the cost per byte low; the buffers are shared by answers.
const (
	copyChunk  = 256 << 10
	stampChunk = 64 << 10 // of synthetic content, at a block's stamp
)

var copyBuffers = sync.Pool{New: func() any { b := make([]byte, copyChunk); return &b }}

// copyRange sends n bytes from an offset. An error of either side ends the
// connection, since the length has been promised. (Files are not spliced:
// measured over loopback, sendfile was no faster than this.)
func copyRange(w http.ResponseWriter, src io.ReaderAt, from, n int64) {
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	pieces, _ := src.(interface {
		piece(off int64, most int) []byte
	})
	for n > 0 {
		var p []byte
		if pieces != nil {
			p = pieces.piece(from, int(min(n, tileSize)))
		}
		if p == nil {
			p = (*buf)[:min(n, copyChunk)]
			if pieces != nil {
				p = p[:min(len(p), stampChunk)] // what follows is a piece again
			}
			if m, _ := src.ReadAt(p, from); m < len(p) { // whatever the reason
				panic(http.ErrAbortHandler)
			}
		}
		if _, err := w.Write(p); err != nil {
			panic(http.ErrAbortHandler)
		}
		from += int64(len(p))
		n -= int64(len(p))
	}
}

// isText reports whether bytes are UTF-8 text.
func isText(b []byte) bool { return !bytes.ContainsRune(b, 0) && utf8.Valid(b) }
