package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"hfmount/remote/hub"
)

// commitPause is how long the Hub may take nothing of a commit's body, and how
// long it may think about it: it answers within 60 s or so, or a proxy before
// it gives up (hub-protocol §6.6).
const commitPause = 90 * time.Second

// Commit sends a commit to ref, once (hub-protocol §6.4). Nothing is retried:
// what a retry means depends on whether the commit was applied.
//
// Nothing was done on hub.ErrConflict (the parent is not the head, or the
// token may not push to this branch), hub.ErrBusy, hub.ErrRefused,
// hub.ErrLimited (also without a request, while a quota is used up), the
// errors of access, hub.ErrOffline, iofs.ErrInvalid, and hub.ErrUnavailable:
// the Hub did not get the whole commit. Once it has all of it, whatever is not
// a clear answer is hub.ErrUncertain, also (together with the context's error)
// when ctx ends.
//
// The content is streamed from Op.Data; memory does not grow with it.
func (c *Client) Commit(ctx context.Context, ref hub.Ref, m hub.Commit) (hub.Committed, error) {
	k := call{op: "commit to", repo: ref.Repo, commits: true, paths: make([]string, 0, len(m.Ops))}
	if err := c.readyAt(k, ref); err != nil {
		return hub.Committed{}, err
	}
	if err := checkCommit(m); err != nil {
		return hub.Committed{}, k.fail(errInvalid, "%v", err)
	}
	for _, op := range m.Ops {
		k.paths = append(k.paths, op.Path)
	}
	done, err := c.commit(ctx, k, ref, m)
	if err != nil {
		c.stats.failed(err)
		c.o.Logger.Debug("commit failed", "error", err)
	}
	return done, err
}

func checkCommit(m hub.Commit) error {
	if !m.Parent.Valid() {
		return fmt.Errorf("the parent is %q", string(m.Parent))
	}
	if strings.TrimSpace(m.Summary) == "" {
		return errors.New("a commit needs a summary")
	}
	for _, op := range m.Ops {
		if err := hub.CheckPath(op.Path); err != nil {
			return err
		}
		switch op.Kind {
		case hub.OpFile:
			if op.Size < 0 || op.Data == nil {
				return fmt.Errorf("%q has no content", op.Path)
			}
		case hub.OpLFS:
			if !(hub.ContentID{Algo: hub.SHA256, Hex: op.SHA256, Size: op.Size}).Valid() || op.Size == 0 {
				return fmt.Errorf("%q is no LFS file", op.Path)
			}
		case hub.OpDelete, hub.OpDeleteFolder:
		default:
			return fmt.Errorf("no such operation as %d on %q", op.Kind, op.Path)
		}
	}
	return nil
}

func (c *Client) commit(ctx context.Context, k call, ref hub.Ref, m hub.Commit) (hub.Committed, error) {
	address := c.at(ref, "commit")
	if m.PullRequest {
		address += "?create_pr=1"
	}
	u, err := url.Parse(address)
	if err != nil {
		return hub.Committed{}, k.fail(errInvalid, "the URL cannot be made")
	}
	if d := c.pace.delay(quotaOf(u), true, time.Now()); d > 0 {
		return hub.Committed{}, k.fail(&hub.LimitedError{After: d, Message: "the quota \"api\" is used up"}, "")
	}
	lines, err := newCommitLines(m)
	if err != nil {
		return hub.Committed{}, k.fail(errInvalid, "%v", err)
	}
	o := &outgoing{
		method: http.MethodPost,
		header: http.Header{"Accept": {jsonType}, "Content-Type": {"application/x-ndjson"}},
		body:   lines.open, length: lines.size,
		pause: commitPause, answer: commitPause,
		told: c.stats.sentBytes,
	}
	a := newAttempt(ctx, time.Now().Add(24*time.Hour))
	defer a.end()
	ans, err := c.exchange(a, k, u, o, newTraceID())
	if err != nil {
		return hub.Committed{}, k.uncertain(ctx, a, err)
	}
	done, err := c.committed(k, ref, m, ans)
	if err != nil {
		return hub.Committed{}, k.uncertain(ctx, a, err)
	}
	return done, nil
}

// uncertain decides what a commit that failed may have done.
func (k call) uncertain(ctx context.Context, a *attempt, err error) error {
	var e *Error
	if !errors.As(err, &e) {
		e = k.fail(nil, "%v", err)
	}
	e.retry = false
	switch {
	case !a.sentAll.Load():
		// A part of a body is no request: nobody can have acted on it.
		if ctx.Err() != nil && e.network {
			return k.gaveUp(ctx)
		}
	case ctx.Err() != nil && (e.network || errors.Is(e.Kind, ctx.Err())):
		e.Kind = &abandoned{ctx.Err()}
	case e.network, e.Status == http.StatusRequestTimeout, e.Status >= 500, errors.Is(e.Kind, hub.ErrBadAnswer):
		e.Kind = hub.ErrUncertain
	}
	return e
}

// abandoned is a commit whose caller gave up when it may have been applied.
type abandoned struct{ cause error }

func (a *abandoned) Error() string   { return hub.ErrUncertain.Error() + " (" + a.cause.Error() + ")" }
func (a *abandoned) Unwrap() []error { return []error{hub.ErrUncertain, a.cause} }

// committed reads the answer to a commit.
func (c *Client) committed(k call, ref hub.Ref, m hub.Commit, ans answer) (hub.Committed, error) {
	var body struct {
		CommitOID      hub.CommitID `json:"commitOid"`
		PullRequestURL string       `json:"pullRequestUrl"`
	}
	if err := ans.decode(k, &body); err != nil {
		return hub.Committed{}, err
	}
	if !body.CommitOID.Valid() {
		return hub.Committed{}, k.bad("the commit is %q", string(body.CommitOID))
	}
	done := hub.Committed{ID: body.CommitOID, URL: c.CommitURL(ref.Repo, body.CommitOID)}
	if m.PullRequest {
		_, num, _ := strings.Cut(body.PullRequestURL, "/discussions/")
		n, err := strconv.Atoi(num)
		if err != nil || n <= 0 {
			return hub.Committed{}, k.bad("the pull request is %q", body.PullRequestURL)
		}
		p := c.proposal(ref.Repo, n, true)
		done.PullRequest = &p
	}
	return done, nil
}
