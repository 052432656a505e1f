package remote

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// outgoing is what a request carries. The zero value is a plain GET. It is
// used again for redirects and retries and is not changed by them.
type outgoing struct {
	method string // "" is GET
	header http.Header
	body   func() (io.ReadCloser, error) // opens the body anew each time; nil is none
	length int64                         // bytes of the body
	// signed says that the URL is its own proof: the token is never shown, not
	// even to the Hub.
	signed bool
	// pause is how long the peer may take nothing of the body, answer how long
	// it may think once it has all of it; 0 is Options.FirstByte.
	pause, answer time.Duration
	// told is called with the bytes that leave, as they do; nil is nobody.
	told func(n int)
}

var jsonAccept = http.Header{"Accept": {"application/json"}}

func (o *outgoing) verb() string {
	if o.method == "" {
		return http.MethodGet
	}
	return o.method
}

// changes reports whether the request is more than a question.
func (o *outgoing) changes() bool { return o.body != nil || o.verb() != http.MethodGet }

// postJSON is a POST of v in the media type kind.
func postJSON(v any, kind string) (*outgoing, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	h := http.Header{"Accept": {"application/json"}, "Content-Type": {kind}}
	if kind != jsonType {
		h.Set("Accept", kind)
	}
	return &outgoing{
		method: http.MethodPost, header: h, length: int64(len(b)),
		body: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil },
	}, nil
}

const jsonType = "application/json"

// attach gives req the body. Whatever reopens it, a redirect or a transport
// that knows that nothing was taken yet, starts at its first byte.
func (o *outgoing) attach(req *http.Request, a *attempt, firstByte time.Duration) error {
	if o.body == nil {
		return nil
	}
	open := func() (io.ReadCloser, error) {
		rc, err := o.body()
		if err != nil {
			return nil, err
		}
		b := &outBody{rc: rc, a: a, left: o.length, pause: o.pause, answer: o.answer, told: o.told}
		if b.pause <= 0 {
			b.pause = firstByte
		}
		if b.answer <= 0 {
			b.answer = firstByte
		}
		return b, nil
	}
	body, err := open()
	if err != nil {
		return err
	}
	req.Body, req.GetBody, req.ContentLength = body, open, o.length
	if o.length == 0 {
		_ = body.Close() // nothing was read from it
		req.Body, req.GetBody = http.NoBody, func() (io.ReadCloser, error) { return http.NoBody, nil }
		a.sentAll.Store(true)
	}
	return nil
}

// errWrongLength is a body that is not as long as it was announced.
var errWrongLength = errors.New("the content has another length than announced")

// outBody is a body on its way out. The clock runs only while the peer is to
// take what it was given: reading from the disk is our own time.
type outBody struct {
	rc            io.ReadCloser
	a             *attempt
	left          int64
	pause, answer time.Duration
	told          func(n int)

	mu     sync.Mutex // a transport may close while it reads
	closed bool
}

func (b *outBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, http.ErrBodyReadAfterClose
	}
	b.a.rest()
	n, err := b.rc.Read(p)
	b.left -= int64(n)
	if b.told != nil && n > 0 {
		b.told(n)
	}
	switch {
	case b.left < 0 || (err == io.EOF && b.left > 0):
		err = errWrongLength
		b.a.spoil(err)
		return 0, err
	case err != nil && err != io.EOF:
		b.a.spoil(err)
	case b.left == 0:
		b.a.sentAll.Store(true)
		b.a.expect(b.answer)
	default:
		b.a.expect(b.pause)
	}
	return n, err
}

func (b *outBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	return b.rc.Close()
}
