package hubtest

import (
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"syscall"
)

const (
	socketlessHub = "hub.test"
	socketlessCDN = "cdn.test"
)

// inProcess calls the handlers without sockets. Each request has a goroutine
// of its own, which ends with the answer's body or the request's context.
type inProcess struct{ front *front }

func (t *inProcess) RoundTrip(req *http.Request) (*http.Response, error) {
	body := req.Body
	if body == nil {
		body = http.NoBody
	}
	e := endpoint{front: t.front, hub: "http://" + socketlessHub, cdn: "http://" + socketlessCDN}
	switch host := req.URL.Hostname(); host {
	case socketlessHub:
	case socketlessCDN:
		e.isCDN = true
	default:
		body.Close()
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}}
	}
	if err := req.Context().Err(); err != nil {
		body.Close()
		return nil, err
	}
	if !t.front.tasks.begin() {
		body.Close()
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}

	ctx, cancel := context.WithCancel(req.Context())
	stopClose := context.AfterFunc(t.front.tasks.ctx, cancel)
	served := req.Clone(ctx)
	served.URL = &url.URL{Path: req.URL.Path, RawPath: req.URL.RawPath, RawQuery: req.URL.RawQuery}
	if served.URL.Path == "" {
		served.URL.Path = "/"
	}
	served.RequestURI = served.URL.RequestURI()
	if served.Host == "" {
		served.Host = req.URL.Host
	}
	served.RemoteAddr = "192.0.2.1:1234"
	served.Proto, served.ProtoMajor, served.ProtoMinor = "HTTP/1.1", 1, 1
	served.Body = body

	pr, pw := io.Pipe()
	w := &pipeAnswer{header: http.Header{}, ready: make(chan struct{}), pipe: pw, head: req.Method == http.MethodHead, cancel: cancel}
	// A context that ends takes the answer with it, wherever the handler is.
	stopPipe := context.AfterFunc(ctx, func() { pw.CloseWithError(context.Cause(ctx)) })
	go func() {
		defer t.front.tasks.end()
		defer body.Close()
		defer stopClose()
		defer stopPipe()
		defer w.finish()
		e.ServeHTTP(w, served)
	}()

	select {
	case <-w.ready:
	case <-ctx.Done():
		// The goroutine ends by itself: every wait of a handler has ctx.
		pr.CloseWithError(ctx.Err())
		if err := req.Context().Err(); err != nil {
			return nil, err
		}
		select {
		case <-w.ready:
		default:
			return nil, &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
		}
	}
	if w.err != nil {
		cancel()
		return nil, w.err
	}
	resp := &http.Response{
		Status: strconv.Itoa(w.status) + " " + http.StatusText(w.status), StatusCode: w.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.sent, ContentLength: w.length, Request: req,
	}
	if w.head || w.length == 0 {
		pr.Close()
		cancel()
		resp.Body = http.NoBody
		return resp, nil
	}
	resp.Body = &pipeBody{PipeReader: pr, ended: req.Context().Err, cancel: cancel}
	return resp, nil
}

// pipeBody is the client's end: closing it ends the request.
type pipeBody struct {
	*io.PipeReader
	ended  func() error // the error of the client's own context
	cancel context.CancelFunc
}

// Read blames the client's context where that has ended, as net/http does,
// whether or not the handler noticed first and broke off the answer.
func (b *pipeBody) Read(p []byte) (int, error) {
	n, err := b.PipeReader.Read(p)
	if err != nil && err != io.EOF {
		if ended := b.ended(); ended != nil {
			err = ended
		}
	}
	return n, err
}

func (b *pipeBody) Close() error {
	err := b.PipeReader.Close()
	b.cancel()
	return err
}

// pipeAnswer is the server's end.
type pipeAnswer struct {
	header http.Header
	pipe   *io.PipeWriter
	head   bool
	cancel context.CancelFunc

	once   sync.Once
	ready  chan struct{} // closed when the fields below are set
	status int
	sent   http.Header
	length int64 // declared; -1 is unknown
	err    error // instead of an answer

	n int64 // bytes written
}

func (w *pipeAnswer) Header() http.Header { return w.header }

func (w *pipeAnswer) WriteHeader(status int) {
	w.once.Do(func() {
		w.status, w.sent, w.length = status, maps.Clone(w.header), -1
		if n, err := strconv.ParseInt(w.header.Get("Content-Length"), 10, 64); err == nil {
			w.length = n
		} else if status == http.StatusNoContent || status == http.StatusNotModified {
			w.length = 0
		}
		close(w.ready)
	})
}

func (w *pipeAnswer) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if w.length >= 0 && w.n+int64(len(p)) > w.length && !w.head {
		return 0, http.ErrContentLength
	}
	w.n += int64(len(p))
	if w.head || len(p) == 0 {
		return len(p), nil
	}
	return w.pipe.Write(p)
}

// Flush is for http.ResponseController; every Write is delivered already.
func (w *pipeAnswer) Flush() { w.WriteHeader(http.StatusOK) }

func (w *pipeAnswer) abort(err error) {
	w.once.Do(func() {
		w.err = err
		close(w.ready)
	})
	w.pipe.CloseWithError(err)
}

// finish runs deferred: it ends the answer as a server would, also after a
// handler's http.ErrAbortHandler. Other panics go on.
func (w *pipeAnswer) finish() {
	p := recover()
	if p != nil && p != http.ErrAbortHandler {
		w.abort(io.ErrUnexpectedEOF)
		panic(p)
	}
	if p != nil {
		w.abort(io.ErrUnexpectedEOF)
		return
	}
	w.WriteHeader(http.StatusOK)
	if !w.head && w.length > w.n {
		w.pipe.CloseWithError(io.ErrUnexpectedEOF)
		return
	}
	w.pipe.Close()
}
