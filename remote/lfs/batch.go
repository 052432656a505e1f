package lfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"hfmount/remote/hub"
)

// Sender makes the requests of an upload. Its errors wrap those of package hub;
// those of an answer are also [Status].
type Sender interface {
	// Post sends in as JSON and reads the answer into out, which may be nil. It
	// retries transient failures by itself. signed says that href is its own
	// proof: it must not see the token.
	Post(ctx context.Context, href string, in, out any, signed bool) error
	// Put sends size bytes once, without a token, and returns the answer's
	// ETag verbatim. told is called with the bytes as they leave.
	Put(ctx context.Context, href string, size int64, body func() io.Reader, told func(n int)) (etag string, err error)
}

// Status is an error that knows the status of the answer it comes from, 0 if
// there was none, and how long the server asked to wait.
type Status interface {
	error
	HTTPStatus() int
	RetryAfter() time.Duration
}

// statusOf returns what err knows.
func statusOf(err error) (status int, after time.Duration) {
	var s Status
	if errors.As(err, &s) {
		return s.HTTPStatus(), s.RetryAfter()
	}
	return 0, 0
}

// Target is where objects go.
type Target struct {
	Batch string // URL of the batch call
	// Ref is the revision the object is for, decoded; empty is none. It is
	// omitted for a commit that opens a pull request.
	Ref string
	// Rewrite puts the endpoint in the place of the public Hub in a URL the
	// server names (hub-protocol §1.1); nil leaves it.
	Rewrite func(href string) string
}

type batchRequest struct {
	Operation string       `json:"operation"`
	Transfers []string     `json:"transfers"`
	HashAlgo  string       `json:"hash_algo"`
	Ref       *refName     `json:"ref,omitempty"`
	Objects   []objectName `json:"objects"`
}

type refName struct {
	Name string `json:"name"`
}

type objectName struct {
	OID  string `json:"oid"`
	Size int64  `json:"size"`
}

type batchAnswer struct {
	Transfer string        `json:"transfer"`
	Objects  []batchObject `json:"objects"`
}

type batchObject struct {
	OID     string `json:"oid"`
	Size    int64  `json:"size"`
	Actions *struct {
		Upload *action `json:"upload"`
		Verify *action `json:"verify"`
	} `json:"actions"`
	Error *struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

type action struct {
	Href   string         `json:"href"`
	Header map[string]any `json:"header"`
}

// maxParts bounds how many parts an upload may have; S3 takes 10,000 of them.
const maxParts = 200_000

// plan asks the Hub how the object is to be stored. A nil plan says that it
// is stored already.
func (u *upload) plan(ctx context.Context) (*plan, error) {
	req := batchRequest{
		Operation: "upload", Transfers: []string{"basic", "multipart"}, HashAlgo: "sha256",
		Objects: []objectName{{u.o.SHA256, u.o.Size}},
	}
	if u.to.Ref != "" {
		req.Ref = &refName{u.to.Ref}
	}
	var ans batchAnswer
	if err := u.s.Post(ctx, u.to.Batch, req, &ans, false); err != nil {
		return nil, err
	}
	i := slices.IndexFunc(ans.Objects, func(o batchObject) bool { return o.OID == u.o.SHA256 })
	if i < 0 {
		return nil, u.bad("the answer is not about it")
	}
	o := ans.Objects[i]
	switch {
	case o.Error != nil:
		return nil, u.refused(o.Error.Code, o.Error.Message)
	case o.Size != u.o.Size:
		return nil, u.bad("it has %d bytes here and %d there", u.o.Size, o.Size)
	case o.Actions == nil:
		return nil, nil
	case ans.Transfer != "" && ans.Transfer != "basic" && ans.Transfer != "multipart":
		return nil, u.bad("the transfer is %q", ans.Transfer)
	}
	p := &plan{}
	if v := o.Actions.Verify; v != nil {
		p.Verify = u.rewrite(v.Href)
	}
	up := o.Actions.Upload
	if up == nil {
		// Stored already; the Hub only wants to hear about it.
		return p, nil
	}
	if p.Href = u.rewrite(up.Href); p.Href == "" {
		return nil, u.bad("there is no address for it")
	}
	chunk, ok := up.Header["chunk_size"]
	if !ok {
		return p, nil
	}
	return p, u.parts(p, chunk, up.Header)
}

func (u *upload) rewrite(href string) string {
	if u.to.Rewrite == nil {
		return href
	}
	return u.to.Rewrite(href)
}

// parts reads the addresses of the parts: the keys of the header that are
// numbers, in their order ("1" or "00001").
func (u *upload) parts(p *plan, chunk any, header map[string]any) error {
	var size int64
	switch c := chunk.(type) {
	case string: // as the Hub sends it
		size, _ = strconv.ParseInt(c, 10, 64) // 0 is refused below
	case float64:
		size = int64(c)
	}
	if size <= 0 {
		return u.bad("the size of a part is %q", fmt.Sprint(chunk))
	}
	n := (u.o.Size + size - 1) / size
	if n > maxParts {
		return u.bad("it would take %d parts", n)
	}
	p.Chunk = size
	p.Parts = make([]part, n)
	found := int64(0)
	for key, href := range header {
		num, err := strconv.ParseInt(key, 10, 64)
		if err != nil {
			continue
		}
		s, ok := href.(string)
		if !ok || num < 1 || num > n || p.Parts[num-1].Href != "" || s == "" {
			return u.bad("part %q of %d makes no sense", key, n)
		}
		p.Parts[num-1].Href = u.rewrite(s)
		found++
	}
	if found != n {
		return u.bad("there are %d addresses for %d parts", found, n)
	}
	return nil
}

func (u *upload) bad(format string, args ...any) error {
	return fmt.Errorf("upload of %.12s: %w: %s", u.o.SHA256, hub.ErrBadAnswer, fmt.Sprintf(format, args...))
}

// refused is the batch's word on one object.
func (u *upload) refused(code int, message string) error {
	if len(message) > 400 {
		message = message[:400]
	}
	switch {
	case code == 401, code == 403:
		return fmt.Errorf("upload of %.12s: %w: %q", u.o.SHA256, hub.ErrForbidden, message)
	case code == 429, code >= 500:
		return fmt.Errorf("upload of %.12s: %w: %d %q", u.o.SHA256, hub.ErrUnavailable, code, message)
	}
	return fmt.Errorf("upload of %.12s: %w", u.o.SHA256, &hub.RefusedError{Message: message})
}
