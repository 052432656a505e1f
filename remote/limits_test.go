package remote

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hfmount/remote/hub"
)

func TestParseRateLimit(t *testing.T) {
	got := parseRateLimit([]string{`"api";r=489;t=271, "resolvers";r=0;t=99999`, `"fixed window";"pages";q=100;w=300`, `garbage`, `"x";r=-5`})
	if got["api"]["r"] != 489 || got["api"]["t"] != 271 || got["resolvers"]["t"] != maxWindow || got["pages"]["q"] != 100 || len(got["x"]) != 0 {
		t.Errorf("%v", got)
	}
}

func TestPacer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pacer
		k := call{op: "x"}
		took := func(urgent bool) time.Duration {
			d, err := p.wait(t.Context(), k, quotaAPI, urgent, time.Hour)
			if err != nil {
				t.Error(err)
			}
			return d
		}
		h := http.Header{"Ratelimit": {`"api";r=9;t=100`}, "Ratelimit-Policy": {`"fixed window";"api";q=1000;w=300`}}
		p.observe(h, time.Now())
		if d := took(true); d != 0 {
			t.Errorf("urgent waited %v with 9 left", d)
		}
		if d := took(false); d != 10*time.Second {
			t.Errorf("background waited %v, want a tenth of what is left", d)
		}
		for range 9 {
			p.spend(quotaAPI)
		}
		if d := took(true); d != 91*time.Second {
			t.Errorf("urgent waited %v for the next window", d)
		}
		if d := took(false); d != 0 {
			t.Errorf("%v in the new window", d)
		}
		h.Set("RateLimit", `"api";r=0;t=3000`)
		p.observe(h, time.Now())
		if _, err := p.wait(t.Context(), k, quotaAPI, true, time.Minute); !errors.Is(err, hub.ErrUnavailable) {
			t.Errorf("too long a wait: %v", err)
		}
		if d, err := p.wait(t.Context(), k, quotaResolvers, true, 0); d != 0 || err != nil {
			t.Errorf("another quota: %v, %v", d, err)
		}
	})
}

func TestThrottledByCDN(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{data: testData(100), lfs: true, shape: 'B'}
		s.fault = func(n int, req *http.Request) *http.Response {
			if req.URL.Host == "cdn.test" && n == 1 {
				return reply(429, nil, "")
			}
			return nil
		}
		c := newTest(t, s)
		if _, err := readRange(t.Context(), c, s, 0, 100); err != nil {
			t.Fatal(err)
		}
		if got := c.Stats().Connections; got != 8 {
			t.Errorf("%d connections, want 8", got)
		}
		if got := c.Stats(); got.Resolvers != 1 || got.CDN != 2 || got.API != 0 || got.BytesFetched != 100 {
			t.Errorf("%+v", got)
		}
	})
}

func TestTokenIsHidden(t *testing.T) {
	tok := Token(secret)
	j, _ := json.Marshal(map[string]any{"t": tok})
	var b strings.Builder
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "token", tok)
	for _, s := range []string{fmt.Sprint(tok), fmt.Sprintf("%s %v %q %x %#v %d", tok, tok, tok, tok, tok, tok), string(j), b.String()} {
		if strings.Contains(s, "topsecret") || strings.Contains(s, fmt.Sprintf("%x", "topsecret")) {
			t.Errorf("the token shows in %q", s)
		}
	}
	if fmt.Sprint(tok) != "hf_…" || fmt.Sprint(Token("")) != "" {
		t.Error(fmt.Sprint(tok))
	}
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, src := range []TokenSource{StaticToken(secret), TokenFile(path)} {
		if _, err := src.Token(t.Context()); err != nil {
			t.Fatal(err)
		}
		c := newTest(t, nil, func(o *Options) { o.Tokens = src })
		if got := fmt.Sprintf("%v %+v %#v %+v", src, struct{ t TokenSource }{src}, src, c); strings.Contains(got, "topsecret") {
			t.Errorf("the source shows its token: %s", got)
		}
	}
}

func TestScrub(t *testing.T) {
	for in, want := range map[string]string{
		"token hf_abcdEFGH1234 is bad":                  "token hf_… is bad",
		"GET https://u:p@x.co/a?Signature=s&b=c failed": "GET https://x.co/a failed",
		"see \"http://x/y#frag\"\n  now":                "see \"http://x/y\" now",
		"a hf_hub thing":                                "a hf_hub thing",
		"\xff":                                          "�",
	} {
		if got := scrub(in); got != want {
			t.Errorf("scrub(%q) = %q, want %q", in, got, want)
		}
	}
	if got := scrub(strings.Repeat("é", 5000)); len(got) > 410 {
		t.Errorf("%d bytes", len(got))
	}
}

func TestTokenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	env := func(vars map[string]string) Env { return func(s string) string { return vars[s] } }
	implicit := env(map[string]string{"HF_TOKEN_PATH": path}).Tokens()
	explicit := TokenFile(path)
	if tok, err := implicit.Token(t.Context()); tok != "" || err != nil {
		t.Errorf("missing: %v, %v", tok, err)
	}
	if _, err := explicit.Token(t.Context()); err == nil || errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing but named: %v", err)
	}
	for _, bad := range []string{"two words", "é"} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := TokenFile(path).Token(t.Context()); err == nil || strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		write := func(s string) {
			if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		src := TokenFile(path)
		check := func(want string) {
			t.Helper()
			if tok, err := src.Token(t.Context()); string(tok) != want || err != nil {
				t.Errorf("%q, %v, want %q", string(tok), err, want)
			}
		}
		write(" hf_one\r\n")
		check("hf_one")
		write("hf_rotated")
		check("hf_one") // not looked at again so soon
		time.Sleep(tokenRecheck)
		check("hf_rotated")
		_ = os.Remove(path)
		time.Sleep(tokenRecheck)
		check("hf_rotated") // perhaps it is just being replaced
	})
}

func TestEnv(t *testing.T) {
	env := func(kv ...string) Env {
		return func(name string) string {
			for i := 0; i < len(kv); i += 2 {
				if kv[i] == name {
					return kv[i+1]
				}
			}
			return ""
		}
	}
	for _, tt := range []struct{ got, want string }{
		{env().Endpoint(), DefaultEndpoint},
		{env("HF_ENDPOINT", "http://x:1/").Endpoint(), "http://x:1"},
		{env("HUGGINGFACE_CO_STAGING", "yes").Endpoint(), stagingEndpoint},
		{env("HOME", "/h").Home(), "/h/.cache/huggingface"},
		{env("HOME", "/h", "XDG_CACHE_HOME", "/c").Home(), "/c/huggingface"},
		{env("HOME", "/h", "HF_HOME", "~/$X/y", "X", "z").Home(), "/h/z/y"},
		{env("HF_HOME", "/y").TokenPath(), "/y/token"},
		{fmt.Sprint(env("HF_HUB_OFFLINE", "on").Offline(), env("TRANSFORMERS_OFFLINE", "1").Offline(), env("HF_HUB_OFFLINE", "2").Offline()), "true true false"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
	for _, tt := range []struct {
		env  Env
		want string
	}{
		{env("HF_TOKEN", " hf_a\n", "HUGGING_FACE_HUB_TOKEN", "hf_b"), "hf_a"},
		{env("HF_TOKEN", " ", "HUGGING_FACE_HUB_TOKEN", "hf_b"), "hf_b"},
		{env("HF_TOKEN", "hf_a", "HF_HUB_DISABLE_IMPLICIT_TOKEN", "1"), ""},
	} {
		if tok, err := tt.env.Tokens().Token(t.Context()); string(tok) != tt.want || err != nil {
			t.Errorf("%q, %v, want %q", string(tok), err, tt.want)
		}
	}
}

func TestNew(t *testing.T) {
	for _, endpoint := range []string{"huggingface.co", "ftp://x", "http://", "https://u:hf_secretsecret@x", "https://x?y", "http://[::1", "://"} {
		if _, err := New(Options{Endpoint: endpoint}); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", endpoint, err)
		}
	}
	c := newTest(t, nil, func(o *Options) { o.Endpoint = "" })
	s := hub.Snapshot{Ref: hub.Ref{Repo: hub.Repo{Type: hub.Dataset, Namespace: "a", Name: "b"}}, Commit: commit}
	for e, want := range map[hub.Entry]string{
		{Path: "d/x #?%.txt"}:             "/blob/" + string(commit) + "/d/x%20%23%3F%25.txt",
		{Path: "d", Type: hub.Directory}:  "/tree/" + string(commit) + "/d",
		{Path: "", Type: hub.Directory}:   "/tree/" + string(commit),
		{Path: "é", Type: hub.File}:       "/blob/" + string(commit) + "/%C3%A9",
		{Path: "a+b&c", Type: hub.File}:   "/blob/" + string(commit) + "/a+b&c",
		{Path: "a=b@c:d", Type: hub.File}: "/blob/" + string(commit) + "/a=b@c:d",
	} {
		if got := c.URL(s, e); got != "https://huggingface.co/datasets/a/b"+want {
			t.Errorf("%+v: %s", e, got)
		}
	}
}
