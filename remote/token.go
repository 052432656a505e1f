package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"
)

// Token is a secret. It prints as "hf_…" followed by nothing more; convert it
// to a string to have it.
type Token string

const hiddenToken = "hf_…"

func (t Token) hidden() string {
	if t == "" {
		return ""
	}
	return hiddenToken
}

// Format hides the token under every verb.
func (t Token) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, t.hidden()) }

// String hides the token.
func (t Token) String() string { return t.hidden() }

// LogValue hides the token.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.hidden()) }

// MarshalText hides the token, so that no dump of a configuration has it.
func (t Token) MarshalText() ([]byte, error) { return []byte(t.hidden()), nil }

// TokenSource gives the token for the Hub's own origin. An empty token means
// anonymous. It is asked often and must be quick.
type TokenSource interface {
	Token(ctx context.Context) (Token, error)
}

// StaticToken is a token that never changes; empty is anonymous.
func StaticToken(t Token) TokenSource {
	return tokenFunc(func(context.Context) (Token, error) { return t, nil })
}

// tokenFunc keeps its token in a closure, where printing a struct that holds
// it cannot reach: fmt calls no methods on unexported fields.
type tokenFunc func(context.Context) (Token, error)

func (f tokenFunc) Token(ctx context.Context) (Token, error) { return f(ctx) }

// TokenFile reads the token from a file that must exist, and again when the
// file changes, so that a rotated token takes effect without a remount.
func TokenFile(path string) TokenSource { return &tokenFile{path: path} }

// tokenRecheck is how old the last look at a token file may be.
const tokenRecheck = 30 * time.Second

// rechecker is a TokenSource that can be told that its token does not work.
type rechecker interface{ recheck() }

type tokenFile struct {
	path     string
	optional bool // a missing file is anonymous

	mu      sync.Mutex // guards what follows; held across the short read of the file
	checked time.Time
	read    bool // token is what some version of the file said
	mtime   time.Time
	size    int64
	token   *Token // a pointer, so that printing the struct does not show it
}

// recheck makes the next call of Token look at the file: the Hub knows the
// token no more, and perhaps there is a new one.
func (f *tokenFile) recheck() {
	f.mu.Lock()
	f.checked = time.Time{}
	f.mu.Unlock()
}

func (f *tokenFile) Token(context.Context) (Token, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	if f.read && now.Sub(f.checked) < tokenRecheck {
		return *f.token, nil
	}
	fi, err := os.Stat(f.path)
	if err == nil && f.read && fi.ModTime().Equal(f.mtime) && fi.Size() == f.size {
		f.checked = now
		return *f.token, nil
	}
	var b []byte
	if err == nil {
		if fi.Size() > 64<<10 {
			return "", fmt.Errorf("token file %s: too long to be one", f.path)
		}
		b, err = os.ReadFile(f.path)
	}
	switch {
	case err == nil:
	case f.optional && errors.Is(err, iofs.ErrNotExist):
		// Logged out: anonymous from now on.
		f.read, f.token, f.checked, f.mtime, f.size = true, new(Token), now, time.Time{}, -1
		return "", nil
	case f.read:
		// Perhaps it is being replaced; what worked goes on working.
		f.checked = now
		return *f.token, nil
	default:
		// The cause is text only: its errno must not pass for the Hub's answer.
		return "", fmt.Errorf("token file: %v", err)
	}
	t := Token(cleanToken(string(b)))
	if err := checkToken(t); err != nil {
		return "", fmt.Errorf("token file %s: %w", f.path, err)
	}
	f.read, f.token, f.checked, f.mtime, f.size = true, &t, now, fi.ModTime(), fi.Size()
	return *f.token, nil
}

// cleanToken removes line ends and surrounding space (hub-protocol §1.2).
func cleanToken(s string) string {
	return strings.TrimSpace(strings.NewReplacer("\r", "", "\n", "").Replace(s))
}

// checkToken refuses what cannot stand in a header, without showing it.
func checkToken(t Token) error {
	for i := range len(t) {
		if c := t[i]; c <= ' ' || c >= 0x7f {
			return errors.New("not a token: it contains spaces or other characters no header may have")
		}
	}
	return nil
}

func expandVars(s string, env Env) string { return os.Expand(s, env) }
