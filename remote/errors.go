package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"hfmount/remote/hub"
)

// Error is a failed call. It unwraps to one of the hub errors where the answer
// means one, to the context's error where the caller gave up, and to nothing
// else: the errno of a refused connection must never be taken for the errno of
// a file operation.
type Error struct {
	Op        string   // "resolve", "list", "read", …
	Repo      hub.Repo // zero if the call is about none
	Path      string   // in the repository
	URL       string   // what was asked, without its query
	Status    int      // of the answer; 0 if there was none
	Code      string   // X-Error-Code
	RequestID string   // X-Request-Id, which Hugging Face asks for
	Message   string   // what the server said, or why there is no answer
	Kind      error    // a hub error, a context error or nil

	// How to go on, for the retry loops of this package.
	retry   bool
	after   time.Duration // the server's own wish; 0 is none
	window  bool          // a quota is used up until after
	network bool          // there was no answer
	dial    bool          // there was not even a connection
	cdn     bool          // another host than the Hub said so
	stale   bool          // the address came from memory; a new one may do better
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if !e.Repo.IsZero() {
		b.WriteByte(' ')
		b.WriteString(e.Repo.String())
		if e.Path != "" {
			b.WriteByte('/')
			b.WriteString(e.Path)
		}
	}
	sep := ": "
	if e.Kind != nil {
		b.WriteString(sep + e.Kind.Error())
		sep = ": "
	}
	if e.Status != 0 {
		b.WriteString(sep + strconv.Itoa(e.Status))
		if e.Code != "" {
			b.WriteString(" " + e.Code)
		}
		sep = ": "
	}
	if e.Message != "" {
		b.WriteString(sep + e.Message)
	}
	if e.URL != "" {
		b.WriteString(" (" + e.URL)
		if e.RequestID != "" {
			b.WriteString(", request " + e.RequestID)
		}
		b.WriteByte(')')
	}
	return b.String()
}

// Unwrap returns the kind.
func (e *Error) Unwrap() error { return e.Kind }

// call says what a request is for, in errors.
type call struct {
	op   string
	repo hub.Repo
	path string

	commits bool     // it is the commit itself
	asks    bool     // whether something is permitted: "no" is no failure
	paths   []string // that it is about, to find them in a refusal; nil is none
}

func (k call) fail(kind error, format string, args ...any) *Error {
	return &Error{Op: k.op, Repo: k.repo, Path: k.path, Kind: kind, Message: scrub(fmt.Sprintf(format, args...))}
}

func (k call) bad(format string, args ...any) *Error {
	return k.fail(hub.ErrBadAnswer, format, args...)
}

// gaveUp is the error of a caller whose context is done.
func (k call) gaveUp(ctx context.Context) *Error {
	return &Error{Op: k.op, Repo: k.repo, Path: k.path, Kind: ctx.Err()}
}

// errStalled cancels an attempt whose answer does not come or stands still.
var errStalled = errors.New("no data from the server in time")

// lost is a request that got no answer, or only part of one.
func (k call) lost(a *attempt, where string, err error) *Error {
	if context.Cause(a.ctx) == errStalled {
		err = errStalled
	}
	e := k.fail(hub.ErrUnavailable, "%v", err)
	e.URL, e.retry, e.network = where, !isWrongPeer(err), true
	e.dial = isDial(err)
	return e
}

// judge turns an answer that is no success into an error, and returns what the
// server said as it said it. It reads some of the body and does not close it.
// sent says whether the request had a token; cdn that the answer is not the
// Hub's own word.
func (k call) judge(resp *http.Response, sent, cdn bool) (e *Error, words string) {
	h := resp.Header
	words = serverWords(resp)
	e = &Error{
		Op: k.op, Repo: k.repo, Path: k.path,
		URL: redactURL(resp.Request.URL), Status: resp.StatusCode,
		Code: scrub(h.Get("X-Error-Code")), RequestID: scrub(h.Get("X-Request-Id")),
		Message: scrub(words), cdn: cdn,
	}
	switch resp.StatusCode {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		e.Kind, e.retry = hub.ErrUnavailable, true
		e.after, e.window = retryAfter(resp, time.Now())
		return e, words
	}
	if cdn {
		// A storage host knows nothing of repositories: whatever it refuses, the
		// remedy is a new signed URL (hub-protocol §4.4).
		e.Kind, e.retry = hub.ErrUnavailable, true
		return e, words
	}
	switch e.Code {
	case "RevisionNotFound":
		e.Kind = hub.ErrRevisionNotFound
	case "EntryNotFound":
		e.Kind = hub.ErrEntryNotFound
	case "GatedRepo":
		e.Kind = hub.ErrGated
	case "RepoNotFound":
		e.Kind = hub.ErrRepoNotFound
	}
	if e.Kind != nil {
		return e, words
	}
	switch s := resp.StatusCode; {
	case s == http.StatusUnauthorized && sent:
		e.Kind = hub.ErrBadToken
	case s == http.StatusUnauthorized:
		e.Kind = hub.ErrUnauthorized
	case s == http.StatusForbidden:
		e.Kind = hub.ErrForbidden
	case s == http.StatusPreconditionFailed:
		e.Kind = hub.ErrConflict
	case s == http.StatusNotFound, s == http.StatusGone:
		// The Hub says what is missing in X-Error-Code. Without it this is some
		// proxy's page, and no proof that a file does not exist.
		e.Kind = hub.ErrBadAnswer
	case s >= 500:
		e.Kind = hub.ErrUnavailable
	case s < 400:
		e.Kind = hub.ErrBadAnswer
	}
	return e, words
}

// serverWords finds the server's own words in an error answer (hub-protocol
// §5.1, §6.2), as they came: they need [scrub] before anybody sees them. The
// body comes first: a header is one line and may be cut.
func serverWords(resp *http.Response) string {
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // a part will do
	if m := bodyWords(b); m != "" {
		return m
	}
	if m := resp.Header.Get("X-Error-Message"); m != "" {
		return m
	}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
		return string(b)
	}
	if m := storageWords.FindSubmatch(b); m != nil {
		return string(m[1]) + ": " + string(m[2])
	}
	return http.StatusText(resp.StatusCode)
}

// storageWords is how an object store says what is wrong.
var storageWords = regexp.MustCompile(`(?s)<Code>([^<]*)</Code>\s*<Message>([^<]*)</Message>`)

func bodyWords(b []byte) string {
	var body struct {
		Error       any    `json:"error"`
		Message     any    `json:"message"`
		Description string `json:"error_description"`
		Errors      []struct {
			Message string `json:"message"`
		} `json:"errors"`
	}
	if json.Unmarshal(b, &body) != nil {
		return ""
	}
	switch m := body.Error.(type) {
	case string:
		return m
	case []any:
		return strings.Trim(fmt.Sprint(m...), "[]")
	}
	var all []string
	for _, e := range body.Errors {
		all = append(all, e.Message)
	}
	if len(all) > 0 {
		return strings.Join(all, "; ")
	}
	if m, ok := body.Message.(string); ok {
		return m
	}
	return body.Description
}
