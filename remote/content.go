package remote

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"hfmount/remote/hub"
)

const (
	// maxBad is how many answers in a row may be nonsense.
	maxBad = 3
	// maxRefused is how many times in a row a content host may refuse the
	// object itself, each time under a new address.
	maxRefused = 5
	// maxSkip is how many bytes of an answer that ignored the range are thrown
	// away to get to the wanted ones.
	maxSkip = 8 << 20
	// minProgress is how many bytes it takes for the read timeout to begin
	// anew: a server that sends one now and then is as good as dead.
	minProgress = 16 << 10
)

// OpenRange streams the bytes [off, off+n) of e, validated, retried and
// resumed as hub-protocol §4.5 and §5 say. It returns when the first answer
// has begun; what breaks later is resumed within Read. Urgent transfers go
// before others where connections or quotas are short.
//
// ctx governs the whole stream. Read and Close must not be called at the same
// time; to end a Read from elsewhere, cancel ctx. The caller closes the stream.
//
// Errors: those of hub, wrapped in [*Error]; hub.ErrUnavailable after
// Options.ReadTimeout without progress, and then for the same bytes at once for
// five seconds; hub.ErrBadAnswer also when the Hub now has other content at
// this path than e says.
func (c *Client) OpenRange(ctx context.Context, s hub.Snapshot, e hub.Entry, off, n int64, urgent bool) (io.ReadCloser, error) {
	k := call{op: "read", repo: s.Ref.Repo, path: e.Path}
	if err := c.ready(k); err != nil {
		return nil, err
	}
	if e.Type != hub.File || !e.Content().Valid() || !s.Commit.Valid() || hub.CheckPath(e.Path) != nil {
		return nil, k.fail(errInvalid, "not a file")
	}
	if off < 0 || n < 0 || off > e.Size || n > e.Size-off {
		return nil, k.fail(errInvalid, "no such range: %d bytes at %d of %d", n, off, e.Size)
	}
	if n == 0 {
		return io.NopCloser(strings.NewReader("")), nil
	}
	resolve, err := url.Parse(c.endpoint + "/" + s.Ref.Repo.String() + "/resolve/" + string(s.Commit) + "/" + escapePath(e.Path))
	if err != nil {
		return nil, k.fail(errInvalid, "the URL cannot be made")
	}
	now := time.Now()
	key := placeKey{s.Ref.Repo, e.Content()}
	if err := c.fails.recent(key.content, off, now); err != nil {
		return nil, err
	}
	r := &stream{
		c: c, k: k, ctx: ctx, key: key, commit: s.Commit, resolve: resolve, trace: newTraceID(),
		start: off, pos: off, end: off + n, urgent: urgent, began: now,
	}
	if err := r.open(); err != nil {
		return nil, err
	}
	r.waited = time.Since(r.began)
	return r, nil
}

// stream is one range being read, over as many answers as it takes.
type stream struct {
	c       *Client
	k       call
	ctx     context.Context
	key     placeKey
	commit  hub.CommitID
	resolve *url.URL
	trace   string
	start   int64
	end     int64
	urgent  bool

	pos  int64 // of the next byte; everything before it has been delivered
	err  error // sticky
	slot bool  // a slot of the budget is held
	tail bool  // it was passed on

	// The answer at hand; body is nil between two.
	a     *attempt
	body  io.ReadCloser
	where string
	host  string
	skip  int64     // bytes of body before pos
	from  int64     // pos when the answer began
	since time.Time // when that was

	// The read timeout counts time within Read, since minProgress bytes last
	// came: the time between two Reads is the caller's.
	began  time.Time // of this Read, moved on by what is not to be counted
	waited time.Duration
	gained int64

	// What went wrong since the last byte, in a row.
	fails, bad, refused int
}

// Read implements io.Reader. It returns io.EOF only at the end of the range.
func (r *stream) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if r.pos == r.end {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	r.began = time.Now()
	for {
		if r.body == nil {
			if err := r.open(); err != nil {
				return 0, err
			}
		}
		q := p[:min(int64(len(p)), r.skip+r.end-r.pos)]
		r.a.by = r.deadline()
		r.a.expect(r.c.o.Idle)
		n, err := r.body.Read(q)
		r.a.rest()
		r.c.stats.bytes.Add(uint64(n))
		if r.skip > 0 && n > 0 {
			d := int(min(r.skip, int64(n)))
			r.skip -= int64(d)
			n = copy(q, q[d:n])
		}
		if n > 0 {
			r.pos += int64(n)
			r.progress(n)
			if r.pos == r.end {
				r.c.tempo.body(r.host, r.pos-r.from, time.Since(r.since))
				r.drop()
				r.c.budget.succeeded()
			} else if r.slot {
				r.passOn()
			}
			return n, nil // an error that came along comes again
		}
		if err == nil {
			continue
		}
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err := r.pause(r.k.lost(r.a, r.where, err)); err != nil {
			return 0, err
		}
	}
}

// Close ends the stream. An answer that is not at its end costs its connection.
func (r *stream) Close() error {
	r.drop()
	if r.err == nil {
		r.err = errors.New("read of a closed stream")
	}
	r.c.stats.stalls.remove(r)
	return nil
}

// deadline is when the read fails if nothing more comes.
func (r *stream) deadline() time.Time { return r.began.Add(r.c.o.ReadTimeout - r.waited) }

func (r *stream) progress(n int) {
	if r.gained += int64(n); r.gained >= minProgress {
		r.gained, r.waited = 0, 0
	} else {
		r.waited += time.Since(r.began)
	}
	if r.fails > 0 || r.bad > 0 {
		r.fails, r.bad, r.refused = 0, 0, 0
		r.c.stats.stalls.remove(r)
	}
}

// drop lets go of the answer at hand and of the slot.
func (r *stream) drop() {
	if r.body != nil {
		_ = r.body.Close() // what mattered has been read
		r.body = nil
	}
	if r.a != nil {
		r.a.end()
		r.a = nil
	}
	r.skip = 0
	switch {
	case r.slot:
		r.slot = false
		r.c.budget.release()
	case r.tail:
		r.tail = false
		r.c.budget.ended()
	}
}

// passOn lets the next transfer begin if this one will be over by the time the
// first byte of that arrives.
func (r *stream) passOn() {
	if r.end-r.pos <= r.c.tempo.tail(r.host, r.pos-r.from, time.Since(r.since)) && r.c.budget.pass() {
		r.slot, r.tail = false, true
	}
}

// open connects, however often it takes.
func (r *stream) open() error {
	for {
		err := r.connect()
		if err == nil {
			return nil
		}
		if err := r.pause(err); err != nil {
			return err
		}
	}
}

// pause decides after a failed attempt: nil, after a while, to try again, or
// the error with which the read fails.
func (r *stream) pause(err error) error {
	r.drop()
	var e *Error
	if r.ctx.Err() != nil {
		return r.fail(r.k.gaveUp(r.ctx))
	}
	if !errors.As(err, &e) || !e.retry {
		return r.fail(err)
	}
	if e.Kind == hub.ErrBadAnswer {
		if r.bad++; r.bad >= maxBad {
			return r.fail(err)
		}
	}
	if e.cdn && e.Status/100 == 4 && e.Status != http.StatusTooManyRequests && e.Status != http.StatusForbidden {
		if r.refused++; r.refused >= maxRefused {
			return r.fail(err)
		}
	}
	wait := max(e.after, backoff(r.fails))
	if e.window {
		wait = e.after
	}
	if e.stale && r.fails == 0 {
		wait = 0 // an expired address: the next one is new
	}
	if time.Now().Add(wait).After(r.deadline()) {
		return r.fail(err)
	}
	r.fails++
	r.c.stats.stalls.add(r, r.began.Add(-r.waited))
	r.c.o.Logger.Debug("read will be resumed", "try", r.fails, "offset", r.pos, "wait", wait, "error", e)
	if wait > 0 && sleep(r.ctx, wait) != nil {
		return r.fail(r.k.gaveUp(r.ctx))
	}
	return nil
}

// fail ends the stream for good.
func (r *stream) fail(err error) error {
	r.err = err
	r.c.stats.stalls.remove(r)
	r.c.stats.failed(err)
	if errors.Is(err, hub.ErrUnavailable) || errors.Is(err, hub.ErrBadAnswer) {
		// A reader who wants the same again may begin somewhat earlier, at the
		// beginning of his block or of his small file; what lies between was
		// delivered just now.
		r.c.fails.add(r.key.content, max(r.start, r.pos-failBefore), r.end, err, time.Now())
		r.c.o.Logger.Warn("read failed", "offset", r.pos, "error", err)
	}
	return err
}

// connect makes one attempt to have the rest of the range in r.body.
func (r *stream) connect() error {
	c := r.c
	if !c.places.has(r.key, time.Now()) {
		// Before the slot is taken, so that nobody waits for a quota with one.
		waited, err := c.pace.wait(r.ctx, r.k, quotaResolvers, r.urgent, c.o.ReadTimeout)
		if err != nil {
			return err
		}
		r.began = r.began.Add(waited)
	}
	queued := time.Now()
	if c.budget.acquire(r.ctx, r.urgent) != nil {
		return r.k.gaveUp(r.ctx)
	}
	r.slot = true
	r.began = r.began.Add(time.Since(queued)) // a queue of our own is no stall
	u, lead, err := c.places.get(r.ctx, r.key)
	if err != nil {
		return r.k.gaveUp(r.ctx)
	}
	known, guessed := lead == nil, false
	if !known {
		defer lead.abandon()
		u = r.resolve
		if d := r.directly(); d != nil {
			u, guessed = d, true
		}
	}
	found := func(ch *chain) error {
		if guessed {
			if err := r.guessedRight(ch); err != nil {
				return err
			}
		}
		if err := r.identify(ch.linkedETag, ch.linkedSize); err != nil {
			return err
		}
		if lead != nil && !guessed {
			r.learn(ch.stop)
		}
		if lead != nil {
			lead.publish(ch.stop, goodUntil(ch.stop, ch.stopHeader, time.Now()))
		}
		return nil
	}
	r.a = newAttempt(r.ctx, r.deadline())
	header := http.Header{
		// Anything else may come compressed, and then without ranges.
		"Accept-Encoding": {"identity"},
		"Range":           {"bytes=" + strconv.FormatInt(r.pos, 10) + "-" + strconv.FormatInt(r.end-1, 10)},
	}
	asked := time.Now()
	ch, err := c.follow(r.a, r.k, u, &outgoing{header: header}, r.trace, found)
	if err != nil {
		var e *Error
		if known && (r.fails > 0 || (errors.As(err, &e) && !e.network)) {
			c.places.drop(r.key, u) // that host may be gone
		}
		return err
	}
	resp := ch.resp
	r.where = redactURL(resp.Request.URL)
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusPartialContent {
		if guessed {
			return r.refusedGuess(&ch)
		}
		return r.refusedBy(&ch, known, u)
	}
	skip, err := r.validate(resp)
	if err != nil && guessed {
		r.misled()
	}
	if err == nil && ch.hub {
		if ch.linkedETag == "" {
			ch.linkedETag = resp.Header.Get("ETag") // the Hub's own, not a CDN's
		}
		err = found(&ch)
	}
	if err != nil {
		_ = resp.Body.Close()
		return err
	}
	r.body, r.skip = resp.Body, skip
	r.host, r.from, r.since = resp.Request.URL.Host, r.pos, time.Now()
	if known {
		c.tempo.head(r.host, r.since.Sub(asked))
	}
	r.passOn() // a short one is as good as over
	return nil
}

// refusedBy turns the answer into an error and draws the conclusions for the
// address and for the number of connections.
func (r *stream) refusedBy(ch *chain, known bool, u *url.URL) error {
	resp := ch.resp
	r.a.expect(r.c.o.Idle)
	e, _ := r.k.judge(resp, ch.sent, !ch.hub)
	_ = resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusGone:
		r.c.places.drop(r.key, ch.stop)
		if known {
			r.c.places.drop(r.key, u)
			if r.fails == 0 {
				e.retry, e.stale = true, true
			}
		}
	case http.StatusRequestedRangeNotSatisfiable:
		e.Kind, e.retry = hub.ErrBadAnswer, true // the range is in the file, as listed
	}
	if e.cdn {
		switch s := resp.StatusCode; {
		case s == http.StatusTooManyRequests, s == http.StatusServiceUnavailable, s == http.StatusForbidden && !known:
			r.c.budget.throttle(time.Now())
		}
	}
	return e
}

// badRange is nonsense that may be a proxy's slip: it is asked again.
func (r *stream) badRange(format string, args ...any) *Error {
	e := r.k.bad(format, args...)
	e.retry, e.URL = true, r.where
	return e
}

// validate checks that the body is the wanted range and nothing else, and says
// how many bytes come before it (hub-protocol §4.5).
func (r *stream) validate(resp *http.Response) (skip int64, err error) {
	size := r.key.content.Size
	if enc := resp.Header.Get("Content-Encoding"); resp.Uncompressed || (enc != "" && !strings.EqualFold(enc, "identity")) {
		return 0, r.badRange("the encoding is %q, not identity", enc)
	}
	if resp.StatusCode == http.StatusOK {
		// All of the file, at its beginning, where a part was asked for.
		if resp.ContentLength >= 0 && resp.ContentLength != size {
			return 0, r.badRange("%d bytes instead of %d", resp.ContentLength, size)
		}
		if resp.ContentLength < 0 && (r.pos != 0 || r.end != size) {
			return 0, r.badRange("the range was ignored, and there is no length")
		}
		if r.pos > maxSkip {
			return 0, r.badRange("the range was ignored")
		}
		return r.pos, nil
	}
	v := resp.Header.Get("Content-Range")
	first, last, total, ok := parseContentRange(v)
	if !ok || first != r.pos || last != r.end-1 || total != size {
		return 0, r.badRange("the range is %q instead of bytes %d-%d/%d", v, r.pos, r.end-1, size)
	}
	if n := last - first + 1; resp.ContentLength >= 0 && resp.ContentLength != n {
		return 0, r.badRange("%d bytes for a range of %d", resp.ContentLength, n)
	}
	return 0, nil
}

// identify checks the Hub's word on what it serves against the listing. A
// listing is of one commit and so is the address, hence this never changes by
// itself and is not tried again.
func (r *stream) identify(etag, size string) error {
	want := r.key.content
	if h := normalETag(etag); h != "" && !strings.EqualFold(h, want.Hex) {
		return r.k.bad("the content is %s, listed as %s", h, want.Hex)
	}
	if n, err := strconv.ParseInt(size, 10, 64); err == nil && n != want.Size {
		return r.k.bad("the size is %d, listed as %d", n, want.Size)
	}
	return nil
}

// normalETag returns the hash in an ETag, "" if it is none (hub-protocol §4.3).
func normalETag(s string) string {
	s = strings.Trim(strings.TrimPrefix(strings.TrimSpace(s), "W/"), `"`)
	if len(s) != 40 && len(s) != 64 {
		return ""
	}
	for i := range len(s) {
		if c := s[i] | 0x20; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return ""
		}
	}
	return s
}

// parseContentRange reads "bytes 0-5/6". An unknown total is not accepted.
func parseContentRange(s string) (first, last, total int64, ok bool) {
	s, ok = strings.CutPrefix(s, "bytes ")
	span, t, ok2 := strings.Cut(s, "/")
	a, b, ok3 := strings.Cut(span, "-")
	if !ok || !ok2 || !ok3 {
		return 0, 0, 0, false
	}
	var err [3]error
	first, err[0] = strconv.ParseInt(a, 10, 64)
	last, err[1] = strconv.ParseInt(b, 10, 64)
	total, err[2] = strconv.ParseInt(t, 10, 64)
	return first, last, total, errors.Join(err[:]...) == nil && first >= 0 && last >= first && total > last
}
