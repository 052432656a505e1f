package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	iofs "io/fs"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"
)

var errInvalid = iofs.ErrInvalid

// newTransports makes the transport for the Hub, which may speak HTTP/2, and
// the one for content hosts, which must not: over HTTP/2 all transfers would
// share one TCP connection and its loss.
func newTransports(connections int) (api, content *http.Transport) {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}
	base := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dialer.DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		IdleConnTimeout:       90 * time.Second,
		ExpectContinueTimeout: time.Second,
		// Those of urgent transfers and of ending ones come on top of the limit,
		// and closing what is wanted again a moment later costs round trips.
		MaxIdleConnsPerHost:    2 * connections,
		MaxResponseHeaderBytes: 256 << 10,
		// A read of a body into a larger buffer than this goes past it.
		ReadBufferSize: 32 << 10,
	}
	api = base.Clone()
	api.ForceAttemptHTTP2 = true
	content = base.Clone()
	content.ForceAttemptHTTP2 = false
	content.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	content.DisableCompression = true
	return api, content
}

// attempt is one try of a request, through all of its redirects: a context
// that ends when the answer stands still for too long.
type attempt struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	by     time.Time // whatever arrives, it ends by then

	// sentAll is set when the last byte of the request's body has been handed
	// over: from then on the peer may have acted on it.
	sentAll atomic.Bool
	spoilt  atomic.Pointer[error] // the body could not be read
}

func newAttempt(ctx context.Context, by time.Time) *attempt {
	a := &attempt{by: by}
	a.ctx, a.cancel = context.WithCancelCause(ctx)
	a.timer = time.AfterFunc(time.Until(by), func() { a.cancel(errStalled) })
	return a
}

// expect gives the server d for the next piece of its answer.
func (a *attempt) expect(d time.Duration) { a.timer.Reset(min(d, time.Until(a.by))) }

// rest stops the clock: it is the caller who takes time now.
func (a *attempt) rest() { a.timer.Stop() }

// spoil remembers why the body of the request could not be read: that is our
// own failure, and no transport says so reliably.
func (a *attempt) spoil(err error) { a.spoilt.CompareAndSwap(nil, &err) }

// end releases the attempt; an unfinished body is cut off.
func (a *attempt) end() {
	a.timer.Stop()
	a.cancel(nil)
}

// hop is one request and its answer.
type hop struct {
	resp *http.Response
	hub  bool // the Hub itself answered
	sent bool // it was shown a token
}

// send makes one request to u, which follows no redirect. The header of a
// request to another origin than the endpoint's never has the token.
func (c *Client) send(a *attempt, k call, u *url.URL, o *outgoing, trace string) (hop, error) {
	fromHub := c.isHub(u)
	req := (&http.Request{
		Method: o.verb(), URL: u, Host: u.Host, Header: o.header.Clone(),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(a.ctx)
	if req.Header == nil {
		req.Header = http.Header{}
	}
	req.Header.Set("User-Agent", c.o.UserAgent)
	var t Token
	if !o.signed {
		var err error
		if t, err = c.tokenFor(a.ctx, u); err != nil {
			return hop{}, k.fail(nil, "%v", err)
		}
	}
	if t != "" {
		req.Header.Set("Authorization", "Bearer "+string(t))
	}
	rt, q := c.content, quotaCDN
	if fromHub {
		rt, q = c.api, quotaOf(u)
		req.Header.Set("X-Amzn-Trace-Id", trace)
		c.pace.spend(q)
	}
	c.stats.count(q)
	a.sentAll.Store(false)
	if err := o.attach(req, a, c.o.FirstByte); err != nil {
		return hop{}, k.fail(nil, "%v", err)
	}
	a.expect(c.o.FirstByte)
	resp, err := rt.RoundTrip(req)
	if own := a.spoilt.Load(); own != nil {
		// Whatever the peer says to half a request is not the point.
		if err == nil {
			_ = resp.Body.Close()
		}
		return hop{}, k.fail(nil, "the content cannot be read: %v", *own)
	}
	if err != nil {
		if a.ctx.Err() != nil && context.Cause(a.ctx) != errStalled {
			return hop{}, k.gaveUp(a.ctx)
		}
		c.stats.online.Store(false)
		return hop{}, k.lost(a, redactURL(u), err)
	}
	if resp.Request == nil {
		resp.Request = req
	}
	c.stats.online.Store(true)
	c.stats.answered.Store(true)
	if fromHub {
		if r, ok := c.o.Tokens.(rechecker); ok && resp.StatusCode == http.StatusUnauthorized && t != "" {
			r.recheck()
		}
		c.pace.observe(resp.Header, time.Now())
		if w := resp.Header.Get("X-HF-Warning"); w != "" {
			c.o.Logger.Debug("the Hub warns", "message", scrub(w))
		}
	}
	return hop{resp: resp, hub: fromHub, sent: t != ""}, nil
}

// discard reads a short rest of a body, so that the connection can be used
// again, and closes it.
func discard(resp *http.Response) {
	if resp.ContentLength <= 8<<10 {
		_, _ = io.CopyN(io.Discard, resp.Body, 8<<10) // best effort
	}
	_ = resp.Body.Close()
}

// isDial reports whether err is about making a connection, not using one.
func isDial(err error) bool {
	var op *net.OpError
	var dns *net.DNSError
	return errors.As(err, &dns) || (errors.As(err, &op) && op.Op == "dial")
}

// isWrongPeer reports whether err says that the other side is not who it should
// be, or speaks no TLS. Asking again does not change that.
func isWrongPeer(err error) bool {
	var cert *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	return errors.As(err, &cert) || errors.As(err, &record)
}

// stats is the live form of [Stats].
type stats struct {
	requests [quotaCount]atomic.Uint64
	bytes    atomic.Uint64
	sent     atomic.Uint64
	online   atomic.Bool
	answered atomic.Bool // some request has ever had an answer
	stalls   stalls
	last     atomic.Pointer[lastError]
}

type lastError struct {
	err  error
	time time.Time
}

// sentBytes counts content that was handed to the network.
func (s *stats) sentBytes(n int) { s.sent.Add(uint64(n)) }

func (s *stats) count(q quota) { s.requests[q].Add(1) }
