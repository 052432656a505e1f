package remote

import (
	"compress/gzip"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"hfmount/remote/hub"
)

func TestHostileRedirects(t *testing.T) {
	for name, location := range map[string]func(n int) string{
		"file":       func(int) string { return "file:///etc/passwd" },
		"ftp":        func(int) string { return "ftp://x/y" },
		"to itself":  func(int) string { return "" + "/api/models/a/b/revision/main?expand=sha" },
		"no host":    func(int) string { return "http:///x" },
		"no URL":     func(int) string { return "http://[::1" },
		"nowhere":    func(int) string { return "" },
		"for ever":   func(n int) string { return fmt.Sprintf("/x/%d", n) },
		"javascript": func(int) string { return "javascript:alert(1)" },
	} {
		n := 0
		c := newTest(t, roundTrip(func(req *http.Request) (*http.Response, error) {
			n++
			resp := reply(302, map[string]string{"Location": location(n)}, "")
			resp.Request = req
			return resp, nil
		}))
		if _, err := c.Head(t.Context(), snapAB.Ref); !errors.Is(err, hub.ErrBadAnswer) {
			t.Errorf("%s: %v", name, err)
		}
		if n > maxHops+1 {
			t.Errorf("%s: %d requests", name, n)
		}
		n = 0
		s := &script{data: []byte("hello")}
		if _, err := c.OpenRange(t.Context(), snapAB, s.entry(), 0, 5, true); !errors.Is(err, hub.ErrBadAnswer) {
			t.Errorf("%s: read: %v", name, err)
		}
	}
}

func TestDowngrade(t *testing.T) {
	for endpoint, refused := range map[string]bool{"https://hub.test": true, "http://hub.test": false} {
		from := &url.URL{Scheme: "https", Host: "cdn.test", Path: "/x"}
		c := newTest(t, nil, func(o *Options) { o.Endpoint = endpoint })
		_, err := c.target(call{op: "read"}, from, "http://other.test/y?Signature=topsecret")
		if (err != nil) != refused {
			t.Errorf("%s: %v", endpoint, err)
		}
		if err != nil && strings.Contains(err.Error(), "topsecret") {
			t.Errorf("a signature in %q", err)
		}
	}
}

// TestTokenStaysHome walks Hub → same origin → CDN → another CDN over real
// sockets and looks at every header.
func TestTokenStaysHome(t *testing.T) {
	data := "hello, world"
	second := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Authorization") != "" {
			t.Error("the second CDN was shown the token")
		}
		if req.Header.Get("Accept-Encoding") != "identity" {
			t.Errorf("encoding %q", req.Header.Get("Accept-Encoding"))
		}
		http.ServeContent(w, req, "x", time.Time{}, strings.NewReader(data))
	}))
	defer second.Close()
	cdn := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Authorization") != "" {
			t.Error("the CDN was shown the token")
		}
		w.Header().Set("Location", second.URL+"/y")
		w.WriteHeader(302)
	}))
	defer cdn.Close()
	home := 0
	hubServer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		home++
		if req.Header.Get("Authorization") != "Bearer "+secret {
			t.Errorf("%s was not shown the token", req.URL)
		}
		if strings.HasPrefix(req.URL.Path, "/moved") {
			w.Header().Set("Location", cdn.URL+"/x")
		} else {
			w.Header().Set("Location", "/moved"+req.URL.Path)
		}
		w.WriteHeader(307)
	}))
	defer hubServer.Close()
	c := newTest(t, nil, func(o *Options) { o.Endpoint = hubServer.URL + "/" })
	s := &script{data: []byte(data)}
	for range 2 {
		got, err := readRange(t.Context(), c, s, 7, 5)
		if err != nil || string(got) != "world" {
			t.Errorf("%q, %v", got, err)
		}
	}
	if home != 2 {
		t.Errorf("%d requests to the Hub, want 2", home)
	}
}

// TestLyingServer uses real sockets: what the HTTP library makes of a body that
// is shorter or longer than said.
func TestLyingServer(t *testing.T) {
	data := strings.Repeat("0123456789", 1000)
	for name, answer := range map[string]func(w http.ResponseWriter, n int){
		"short": func(w http.ResponseWriter, n int) {
			w.Header().Set("Content-Range", "bytes 0-9999/10000")
			w.Header().Set("Content-Length", "10000")
			w.WriteHeader(206)
			_, _ = w.Write([]byte(data[:3000])) // the server then cuts the connection
		},
		"gzip": func(w http.ResponseWriter, n int) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = z.Write([]byte(data))
			_ = z.Close()
		},
	} {
		n := 0
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if n++; n == 1 {
				answer(w, n)
				return
			}
			http.ServeContent(w, req, "x", time.Time{}, strings.NewReader(data))
		}))
		c := newTest(t, nil, func(o *Options) { o.Endpoint = srv.URL })
		s := &script{data: []byte(data)}
		got, err := readRange(t.Context(), c, s, 0, 10000)
		if err != nil || string(got) != data {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		if n != 2 {
			t.Errorf("%s: %d requests", name, n)
		}
		_ = c.Close()
		srv.Close()
	}
}

// TestProtocols: HTTP/2 for the Hub, never for content.
func TestProtocols(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("X-Proto", req.Proto)
	}))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	roots := srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	api, content := newTransports(4)
	for want, tr := range map[string]*http.Transport{"HTTP/2.0": api, "HTTP/1.1": content} {
		tr.TLSClientConfig = &tls.Config{RootCAs: roots}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if got := resp.Header.Get("X-Proto"); got != want {
			t.Errorf("%s, want %s", got, want)
		}
		tr.CloseIdleConnections()
	}
}

func TestGoodUntil(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	there := now.Add(-5 * time.Hour) // the server's clock
	date := http.Header{"Date": {there.UTC().Format(http.TimeFormat)}}
	for query, want := range map[string]time.Duration{
		"Expires=" + strconv.FormatInt(there.Add(time.Hour).Unix(), 10):                           59 * time.Minute,
		"X-Amz-Date=" + there.UTC().Format("20060102T150405Z") + "&X-Amz-Expires=3600":            59 * time.Minute,
		"X-Goog-Date=" + there.UTC().Format("20060102T150405Z") + "&X-Goog-Expires=600&Expires=x": 9 * time.Minute,
		"Expires=" + strconv.FormatInt(there.Add(10*time.Second).Unix(), 10):                      5 * time.Second,
		"": placeAge,
	} {
		u := &url.URL{Scheme: "https", Host: "x", RawQuery: query}
		if got := goodUntil(u, date, now).Sub(now); got != want {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
}
