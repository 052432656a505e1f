package remote

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"hfmount/remote/hub"
)

const (
	hubURL = "http://hub.test"
	cdnURL = "http://cdn.test"
	secret = "hf_topsecret0123456789"
)

var commit = hub.CommitID(strings.Repeat("c0ffee00", 5))

// script is a Hub and its CDN without sockets, so that time in a test can be
// virtual. Each request is shown to fault first; nil means the right answer.
type script struct {
	data  []byte
	lfs   bool
	shape byte // 'A', 'B' or 'C' of hub-protocol §4.2
	ttl   time.Duration
	fault func(n int, req *http.Request) *http.Response // n counts from 1, per host

	mu    sync.Mutex
	hub   int
	cdn   int
	auths []string // hosts that were shown a token
	log   []string
}

func (s *script) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	n := &s.hub
	if req.URL.Host == "cdn.test" {
		n = &s.cdn
	}
	*n++
	count := *n
	if req.Header.Get("Authorization") != "" {
		s.auths = append(s.auths, req.URL.Host)
	}
	s.log = append(s.log, req.URL.Host+" "+req.URL.RequestURI()+" "+req.Header.Get("Range"))
	s.mu.Unlock()
	if s.fault != nil {
		if resp := s.fault(count, req); resp != nil {
			resp.Request = req
			return resp, nil
		}
		if err := req.Context().Err(); err != nil {
			return nil, err
		}
	}
	resp := s.right(req)
	resp.Request = req
	return resp, nil
}

func (s *script) right(req *http.Request) *http.Response {
	if req.URL.Host == "cdn.test" {
		if exp, _ := strconv.ParseInt(req.URL.Query().Get("Expires"), 10, 64); time.Now().Unix() >= exp {
			return reply(403, nil, "<Error>expired</Error>")
		}
		return s.serve(req, `"0123cdn"`)
	}
	e := s.entry()
	etag := `"` + e.Content().Hex + `"`
	h := map[string]string{
		"X-Linked-ETag": etag, "X-Linked-Size": strconv.FormatInt(e.Size, 10),
		"X-Repo-Commit": string(commit), "Date": time.Now().UTC().Format(http.TimeFormat),
	}
	switch p := req.URL.Path; {
	case strings.HasPrefix(p, "/api/resolve-cache/"), s.shape == 'C':
		return s.serve(req, etag)
	case s.shape == 'A':
		h["Location"] = "/api/resolve-cache/models/a/b/" + string(commit) + "/" + e.Path + "?etag=x"
		return reply(307, h, "Temporary Redirect")
	default:
		ttl := s.ttl
		if ttl == 0 {
			ttl = time.Hour
		}
		h["Location"] = fmt.Sprintf("%s/x/%s?Expires=%d&Signature=topsecretsignature", cdnURL, e.Content().Hex, time.Now().Add(ttl).Unix())
		return reply(302, h, "Found")
	}
}

func (s *script) serve(req *http.Request, etag string) *http.Response {
	var a, b int64
	if _, err := fmt.Sscanf(req.Header.Get("Range"), "bytes=%d-%d", &a, &b); err != nil {
		return reply(200, map[string]string{"ETag": etag}, string(s.data))
	}
	return reply(206, map[string]string{
		"ETag": etag, "Content-Range": fmt.Sprintf("bytes %d-%d/%d", a, b, len(s.data)),
	}, string(s.data[a:b+1]))
}

func (s *script) entry() hub.Entry {
	e := hub.Entry{Path: "d/w #1.bin", Size: int64(len(s.data))}
	h := sha1.Sum(append([]byte(fmt.Sprintf("blob %d\x00", len(s.data))), s.data...))
	e.OID = hex.EncodeToString(h[:])
	if s.lfs {
		h := sha256.Sum256(s.data)
		e.SHA256 = hex.EncodeToString(h[:])
	}
	return e
}

func reply(status int, header map[string]string, body string) *http.Response {
	h := http.Header{}
	for k, v := range header {
		h.Set(k, v)
	}
	return &http.Response{
		StatusCode: status, Header: h, ContentLength: int64(len(body)), ProtoMajor: 1, ProtoMinor: 1,
		Body: io.NopCloser(strings.NewReader(body)),
	}
}

// broken is a body that says its whole length, gives n bytes and then fails,
// or hangs until the request is cancelled.
func broken(resp *http.Response, req *http.Request, n int, hang bool) *http.Response {
	b, _ := io.ReadAll(resp.Body)
	resp.Body = &brokenBody{r: bytes.NewReader(b[:n]), ctx: req.Context(), hang: hang}
	return resp
}

type brokenBody struct {
	r    *bytes.Reader
	ctx  context.Context
	hang bool
}

func (b *brokenBody) Read(p []byte) (int, error) {
	if b.r.Len() > 0 {
		return b.r.Read(p)
	}
	if b.hang {
		<-b.ctx.Done()
		return 0, b.ctx.Err()
	}
	return 0, io.ErrUnexpectedEOF
}

func (b *brokenBody) Close() error { return nil }

// roundTrip is an http.RoundTripper made of a function.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// answers always gives the same answer.
func answers(status int, header map[string]string, body string) roundTrip {
	return func(req *http.Request) (*http.Response, error) {
		resp := reply(status, header, body)
		resp.Request = req
		return resp, nil
	}
}

func newTest(t *testing.T, rt http.RoundTripper, mod ...func(*Options)) *Client {
	t.Helper()
	o := Options{Endpoint: hubURL, Tokens: StaticToken(secret), Transport: rt}
	for _, m := range mod {
		m(&o)
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

var (
	repoAB = hub.Repo{Namespace: "a", Name: "b"}
	snapAB = hub.Snapshot{Ref: hub.Ref{Repo: repoAB, Revision: "main"}, Commit: commit}
)

// readRange reads all of a range.
func readRange(ctx context.Context, c *Client, s *script, off, n int64) ([]byte, error) {
	r, err := c.OpenRange(ctx, snapAB, s.entry(), off, n, true)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	return b, err
}

func testData(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}
