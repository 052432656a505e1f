package remote

import (
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"time"
)

// DefaultEndpoint is the public Hub.
const DefaultEndpoint = "https://huggingface.co"

const (
	defaultReadTimeout = 10 * time.Minute
	defaultConnections = 16
	defaultFirstByte   = 30 * time.Second
	defaultIdle        = 10 * time.Second
	defaultAPITimeout  = 60 * time.Second
)

// Options configures [New]. The zero value is an anonymous client of the
// public Hub.
type Options struct {
	Endpoint    string        // "" is https://huggingface.co
	Tokens      TokenSource   // nil is anonymous
	Offline     bool          // every request fails with hub.ErrOffline
	ReadTimeout time.Duration // how long one read may go without progress, retries included; 0 is 10 min
	Connections int           // content transfers at once; 0 is 16. Briefly more: see budget
	UserAgent   string        // "" is "hfmount/<version>; go/<version>"

	// FirstByte is how long one request waits for the head of its answer; 0 is
	// 30 s. Idle is how long a body may pause; 0 is 10 s. APITimeout bounds one
	// metadata call with its retries, waits for a quota aside; 0 is 60 s.
	FirstByte  time.Duration
	Idle       time.Duration
	APITimeout time.Duration

	// Transport replaces the HTTP transport in tests; nil is our own.
	Transport http.RoundTripper
	Logger    *slog.Logger // nil is silence
}

func (o Options) withDefaults() Options {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	if o.Endpoint == "" {
		o.Endpoint = DefaultEndpoint
	}
	if o.Tokens == nil {
		o.Tokens = StaticToken("")
	}
	def(&o.ReadTimeout, defaultReadTimeout)
	def(&o.FirstByte, defaultFirstByte)
	def(&o.Idle, defaultIdle)
	def(&o.APITimeout, defaultAPITimeout)
	if o.Connections <= 0 {
		o.Connections = defaultConnections
	}
	if o.UserAgent == "" {
		o.UserAgent = userAgent()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Env reads the environment variables of hub-protocol §1.3; in a program it is
// os.Getenv.
type Env func(name string) string

// Endpoint is HF_ENDPOINT, else the staging Hub if HUGGINGFACE_CO_STAGING is
// true, else the public Hub.
func (env Env) Endpoint() string {
	if s := strings.TrimRight(strings.TrimSpace(env("HF_ENDPOINT")), "/"); s != "" {
		return s
	}
	if isTrue(env("HUGGINGFACE_CO_STAGING")) {
		return stagingEndpoint
	}
	return DefaultEndpoint
}

// Offline is HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE.
func (env Env) Offline() bool {
	return isTrue(env("HF_HUB_OFFLINE")) || isTrue(env("TRANSFORMERS_OFFLINE"))
}

// Home is HF_HOME, else huggingface in the user's cache directory.
func (env Env) Home() string {
	if s := env("HF_HOME"); s != "" {
		return env.expand(s)
	}
	if s := env("XDG_CACHE_HOME"); s != "" {
		return filepath.Join(env.expand(s), "huggingface")
	}
	return filepath.Join(env("HOME"), ".cache", "huggingface")
}

// Tokens is where the official clients would find a token (hub-protocol §1.2).
func (env Env) Tokens() TokenSource {
	if isTrue(env("HF_HUB_DISABLE_IMPLICIT_TOKEN")) {
		return StaticToken("")
	}
	for _, name := range []string{"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"} {
		if t := cleanToken(env(name)); t != "" {
			return StaticToken(Token(t))
		}
	}
	return &tokenFile{path: env.TokenPath(), optional: true}
}

// TokenPath is the file in which the official clients keep the active token.
func (env Env) TokenPath() string {
	if s := env("HF_TOKEN_PATH"); s != "" {
		return env.expand(s)
	}
	return filepath.Join(env.Home(), "token")
}

func (env Env) expand(s string) string {
	if s == "~" || strings.HasPrefix(s, "~/") {
		s = env("HOME") + s[1:]
	}
	return expandVars(s, env)
}

// isTrue follows the official clients: anything but these four is false.
func isTrue(s string) bool {
	switch strings.ToUpper(s) {
	case "1", "ON", "YES", "TRUE":
		return true
	}
	return false
}
