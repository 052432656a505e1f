package remote

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	iofs "io/fs"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"
)

const (
	minBackoff = time.Second // half of it is the least with jitter
	maxBackoff = 8 * time.Second
	// maxAnswer bounds an API answer in bytes, decompressed: a page of a
	// thousand entries has some 300 kB.
	maxAnswer = 64 << 20
)

// backoff is the pause after failure number n (from 0): doubling, half of it random.
func backoff(n int) time.Duration {
	d := maxBackoff
	if n < 8 {
		d = min(minBackoff<<n, maxBackoff)
	}
	return d/2 + rand.N(d/2+1)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// answer is a metadata call's.
type answer struct {
	body   []byte
	header http.Header
	url    *url.URL // that finally answered
}

// get makes a metadata call: redirects followed, transient faults retried with
// a growing pause until Options.APITimeout (hub-protocol §5.4), waits for a
// quota not counted. Every error is an *Error.
func (c *Client) get(ctx context.Context, k call, rawURL string) (answer, error) {
	return c.ask(ctx, k, rawURL, &outgoing{header: jsonAccept})
}

// post sends v as JSON; it must be a call that may be repeated. It is retried
// like get.
func (c *Client) post(ctx context.Context, k call, rawURL string, v any) (answer, error) {
	o, err := postJSON(v, jsonType)
	if err != nil {
		return answer{}, k.fail(errInvalid, "%v", err)
	}
	return c.ask(ctx, k, rawURL, o)
}

func (c *Client) ask(ctx context.Context, k call, rawURL string, o *outgoing) (answer, error) {
	ans, err := c.askRetry(ctx, k, rawURL, o)
	if err != nil {
		if !k.asks || !errors.Is(err, iofs.ErrPermission) {
			c.stats.failed(err)
		}
		c.o.Logger.Debug("call failed", "error", err)
	}
	return ans, err
}

func (c *Client) askRetry(ctx context.Context, k call, rawURL string, o *outgoing) (answer, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return answer{}, k.fail(errInvalid, "the URL cannot be made")
	}
	trace := newTraceID()
	start := time.Now()
	deadline, last := start.Add(c.o.APITimeout), start.Add(c.o.ReadTimeout)
	for try := 0; ; try++ {
		waited, err := c.pace.wait(ctx, k, quotaOf(u), true, time.Until(last))
		if err != nil {
			return answer{}, err
		}
		deadline = deadline.Add(waited)
		ans, err := c.askOnce(ctx, k, u, o, trace, deadline)
		if err == nil {
			return ans, nil
		}
		if ctx.Err() != nil {
			return answer{}, k.gaveUp(ctx)
		}
		var e *Error
		if !errors.As(err, &e) || !e.retry {
			return answer{}, err
		}
		// A host that has never answered is a wrong address or no network, and
		// somebody waits at a prompt to be told so.
		if e.dial && !c.stats.answered.Load() && try >= 2 {
			return answer{}, err
		}
		wait := max(e.after, backoff(try))
		if e.window {
			wait = e.after
			deadline = deadline.Add(wait)
		}
		if until := time.Now().Add(wait); until.After(deadline) || until.After(last) {
			return answer{}, err
		}
		c.o.Logger.Debug("retry", "try", try+1, "wait", wait, "error", e)
		if sleep(ctx, wait) != nil {
			return answer{}, k.gaveUp(ctx)
		}
	}
}

func (c *Client) askOnce(ctx context.Context, k call, u *url.URL, o *outgoing, trace string, by time.Time) (answer, error) {
	a := newAttempt(ctx, by)
	defer a.end()
	return c.exchange(a, k, u, o, trace)
}

// exchange makes one request and reads its answer whole.
func (c *Client) exchange(a *attempt, k call, u *url.URL, o *outgoing, trace string) (answer, error) {
	ch, err := c.follow(a, k, u, o, trace, nil)
	if err != nil {
		return answer{}, err
	}
	defer ch.resp.Body.Close()
	a.expect(c.o.Idle)
	if s := ch.resp.StatusCode; s != http.StatusOK && (!o.changes() || s/100 != 2) {
		return answer{}, c.failed(k, o, &ch)
	}
	body, err := io.ReadAll(io.LimitReader(&timedReader{ch.resp.Body, a, c.o.Idle}, maxAnswer+1))
	where := redactURL(ch.resp.Request.URL)
	if err != nil {
		return answer{}, k.lost(a, where, err)
	}
	if len(body) > maxAnswer {
		return answer{}, k.bad("more than %d bytes from %s", maxAnswer, where)
	}
	return answer{body, ch.resp.Header, ch.resp.Request.URL}, nil
}

// decode reads a JSON answer into v.
func (ans answer) decode(k call, v any) error {
	if err := json.Unmarshal(ans.body, v); err != nil {
		e := k.bad("not the JSON it should be: %v", err)
		e.URL = redactURL(ans.url)
		e.RequestID = scrub(ans.header.Get("X-Request-Id"))
		return e
	}
	return nil
}

// timedReader gives the server idle for each piece of a body.
type timedReader struct {
	r    io.Reader
	a    *attempt
	idle time.Duration
}

func (t *timedReader) Read(p []byte) (int, error) {
	t.a.expect(t.idle)
	n, err := t.r.Read(p)
	t.a.rest()
	return n, err
}
