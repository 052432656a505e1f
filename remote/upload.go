package remote

import (
	"context"
	"errors"
	"io"
	iofs "io/fs"
	"net/http"
	"net/url"
	"strings"
	"time"

	"hfmount/remote/hub"
	"hfmount/remote/lfs"
)

const (
	lfsType = "application/vnd.git-lfs+json"
	// digestTime is how long a storage host may think about the bytes it got:
	// it hashes them.
	digestTime = 90 * time.Second
)

// Upload stores an object for ref unless it is stored already (hub-protocol
// §6.2): in one PUT or in parts, in parallel, retried each and resumed from
// what an earlier call left. Its connections count as background transfers.
//
// Errors: those of hub, also hub.ErrRefused for content that is not what
// o.SHA256 says; iofs.ErrInvalid for an empty object, which has to be a
// regular file.
func (c *Client) Upload(ctx context.Context, ref hub.Ref, o hub.Object) error {
	k := call{op: "upload to", repo: ref.Repo}
	if err := c.readyAt(k, ref); err != nil {
		return err
	}
	to := lfs.Target{
		Batch: c.endpoint + "/" + ref.Repo.String() + ".git/info/lfs/objects/batch",
		Ref:   ref.Rev(), Rewrite: c.ownURL,
	}
	err := lfs.Upload(ctx, &sender{c: c, k: k, trace: newTraceID()}, to, o)
	if err == nil {
		return nil
	}
	var e *Error
	switch {
	case ctx.Err() != nil:
		return k.gaveUp(ctx)
	case errors.As(err, &e):
	case errors.Is(err, hub.ErrRefused):
		e = k.fail(kindOf(err), "") // the kind says it all
	default: // what package lfs says itself; Error keeps the kind
		e = k.fail(kindOf(err), "%v", err)
		c.stats.failed(e)
	}
	return e
}

// kindOf finds what an error of package lfs is.
func kindOf(err error) error {
	var refused *hub.RefusedError
	if errors.As(err, &refused) {
		return refused
	}
	for _, kind := range []error{hub.ErrForbidden, hub.ErrUnavailable, hub.ErrBadAnswer, iofs.ErrInvalid} {
		if errors.Is(err, kind) {
			return kind
		}
	}
	return nil
}

// ownURL puts the endpoint in the place of the public Hub: behind a custom
// endpoint it may still name itself (hub-protocol §1.1).
func (c *Client) ownURL(link string) string {
	for _, origin := range []string{DefaultEndpoint, stagingEndpoint} {
		if rest, ok := strings.CutPrefix(link, origin); ok && (rest == "" || rest[0] == '/') {
			return c.endpoint + rest
		}
	}
	return link
}

// sender is the lfs.Sender of one upload.
type sender struct {
	c     *Client
	k     call
	trace string
}

// Post implements lfs.Sender.
func (s *sender) Post(ctx context.Context, href string, in, out any, signed bool) error {
	o, err := postJSON(in, lfsType)
	if err != nil {
		return s.k.fail(errInvalid, "%v", err)
	}
	o.signed = signed
	u, err := s.address(href)
	if err != nil {
		return err
	}
	if !signed && !s.c.isHub(u) {
		// A verification elsewhere: not with our token, nor is it needed.
		o.signed = true
	}
	ans, err := s.c.ask(ctx, s.k, u.String(), o)
	if err != nil || out == nil {
		return err
	}
	return ans.decode(s.k, out)
}

// Put implements lfs.Sender.
func (s *sender) Put(ctx context.Context, href string, size int64, body func() io.Reader, told func(n int)) (string, error) {
	u, err := s.address(href)
	if err != nil {
		return "", err
	}
	c := s.c
	if c.budget.acquire(ctx, false) != nil {
		return "", s.k.gaveUp(ctx)
	}
	defer c.budget.release()
	o := &outgoing{
		method: http.MethodPut, signed: true, length: size, answer: max(digestTime, c.o.FirstByte),
		body: func() (io.ReadCloser, error) { return io.NopCloser(body()), nil },
		told: func(n int) {
			c.stats.sentBytes(n)
			told(n)
		},
	}
	a := newAttempt(ctx, time.Now().Add(24*time.Hour))
	defer a.end()
	ch, err := c.follow(a, s.k, u, o, s.trace, nil)
	if err != nil {
		return "", err
	}
	defer ch.resp.Body.Close()
	a.expect(c.o.Idle)
	if ch.resp.StatusCode/100 != 2 {
		e := c.failed(s.k, o, &ch)
		if ch.resp.StatusCode == http.StatusTooManyRequests || ch.resp.StatusCode == http.StatusServiceUnavailable {
			c.budget.throttle(time.Now())
		}
		return "", e
	}
	discard(ch.resp)
	c.budget.succeeded()
	return ch.resp.Header.Get("ETag"), nil
}

// address checks a URL that the Hub names.
func (s *sender) address(href string) (*url.URL, error) {
	u, err := url.Parse(href)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
		return nil, s.k.bad("an address for an upload is no URL")
	}
	if u.Scheme == "http" && s.c.base.Scheme == "https" {
		return nil, s.k.bad("an address for an upload is not encrypted: %s", redactURL(u))
	}
	u.User, u.Fragment, u.RawFragment = nil, "", ""
	return u, nil
}

// Words is what the server said; empty if it is in the kind.
func (e *Error) Words() string { return e.Message }

// HTTPStatus implements lfs.Status.
func (e *Error) HTTPStatus() int { return e.Status }

// RetryAfter is how long the server asked to wait; 0 where it did not.
func (e *Error) RetryAfter() time.Duration { return e.after }

// Retryable reports whether the same request may do better later.
func (e *Error) Retryable() bool { return e.retry }
