package remote

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"runtime"
	"runtime/debug"
	"strings"

	"hfmount/remote/hub"
)

const stagingEndpoint = "https://hub-ci.huggingface.co"

// Client speaks to one Hub. It is safe for concurrent use.
type Client struct {
	o        Options
	endpoint string // without a trailing slash
	base     *url.URL

	api     http.RoundTripper // for the Hub itself
	content http.RoundTripper // for every other host
	idle    []interface{ CloseIdleConnections() }

	pace   pacer
	budget *budget
	places places
	tempo  tempo
	direct direct
	fails  failures
	stats  stats
}

// New makes a client; it does no I/O. An endpoint that is no http or https URL
// is an error.
func New(o Options) (*Client, error) {
	o = o.withDefaults()
	endpoint := strings.TrimRight(strings.TrimSpace(o.Endpoint), "/")
	u, err := url.Parse(endpoint)
	if err != nil {
		return nil, errors.New("the endpoint is not a URL")
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("the endpoint %q is not of the form https://HOST", redactURL(u))
	}
	c := &Client{o: o, endpoint: endpoint, base: u, budget: newBudget(o.Connections)}
	c.stats.online.Store(true)
	if o.Transport != nil {
		c.api, c.content = o.Transport, o.Transport
		return c, nil
	}
	api, content := newTransports(o.Connections)
	c.api, c.content = api, content
	c.idle = append(c.idle, api, content)
	return c, nil
}

// Close closes idle connections. Streams that are still open stay usable until
// their own Close.
func (c *Client) Close() error {
	for _, t := range c.idle {
		t.CloseIdleConnections()
	}
	return nil
}

// Endpoint returns the base URL, without a trailing slash.
func (c *Client) Endpoint() string { return c.endpoint }

// URL is the web address of e for people, at the snapshot's commit.
func (c *Client) URL(s hub.Snapshot, e hub.Entry) string {
	view := "/blob/"
	if e.Type == hub.Directory {
		view = "/tree/"
	}
	u := c.endpoint + "/" + s.Ref.Repo.String() + view + url.PathEscape(string(s.Commit))
	if e.Path != "" {
		u += "/" + escapePath(e.Path)
	}
	return u
}

// apiURL is the address of a repository's API call. The slash of the id is
// literal: encoded it is answered with 400 (hub-protocol §2.1).
func (c *Client) apiURL(r hub.Repo, rest string) string {
	return c.endpoint + "/api/" + r.Type.Plural() + "/" + r.ID() + rest
}

// escapePath encodes every segment and leaves the slashes (hub-protocol §2.4).
func escapePath(p string) string {
	segs := strings.Split(p, "/")
	for i, s := range segs {
		segs[i] = url.PathEscape(s)
	}
	return strings.Join(segs, "/")
}

// ready refuses a call that must not reach the network.
func (c *Client) ready(k call) error {
	if c.o.Offline {
		return &Error{Op: k.op, Repo: k.repo, Path: k.path, Kind: hub.ErrOffline}
	}
	if !k.repo.IsZero() {
		if err := hub.CheckRepo(k.repo); err != nil {
			return k.fail(errInvalid, "%v", err)
		}
	}
	return nil
}

// isHub reports whether u has the endpoint's origin. Only such a URL may see
// the token.
func (c *Client) isHub(u *url.URL) bool { return sameOrigin(c.base, u) }

func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b)
}

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if u.Scheme == "https" {
		return "443"
	}
	return "80"
}

// tokenFor returns the token for a request to u.
func (c *Client) tokenFor(ctx context.Context, u *url.URL) (Token, error) {
	if !c.isHub(u) {
		return "", nil
	}
	t, err := c.o.Tokens.Token(ctx)
	if err != nil {
		return "", err
	}
	return t, checkToken(t)
}

func userAgent() string {
	version := "dev"
	if bi, ok := debug.ReadBuildInfo(); ok && bi.Main.Version != "" && bi.Main.Version != "(devel)" {
		version = strings.TrimPrefix(bi.Main.Version, "v")
	}
	return "hfmount/" + version + "; go/" + strings.TrimPrefix(strings.Fields(runtime.Version())[0], "go")
}

// newTraceID is a random UUID: one per call, the same through its redirects
// and retries, so that the Hub's logs show them together.
func newTraceID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
