package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// outcome is what an explicit commit did, on its way between two hfmount
// processes.
type outcome struct {
	Commits []commitStatus `json:"commits"`
	// Left are changes that remain local.
	Left []changeStatus `json:"left"`
	// PullRequest is where our side of a conflict went.
	PullRequest string `json:"pull_request"`
	// GaveUp says why no more was tried, "" if there was nothing more to try.
	GaveUp string `json:"gave_up"`
	// StateDir is where the journal of what is left lies.
	StateDir string `json:"state_dir,omitempty"`
}

// stillLocal are the changes of Left that are not on the Hub in any form.
func (o outcome) stillLocal() []changeStatus {
	var out []changeStatus
	for _, c := range o.Left {
		if c.State != "in-pr" {
			out = append(out, c)
		}
	}
	return out
}

// progress is how far a commit or a drain is.
type progress struct {
	Pending int    `json:"pending"` // paths not on the Hub
	Sent    int64  `json:"sent"`    // bytes of the uploads under way
	Total   int64  `json:"total"`
	Path    string `json:"path"` // one that is being sent
	// Trouble is why the end of a mount does not get on, "" if it does, and
	// GivesUp when it stops trying.
	Trouble string     `json:"trouble,omitempty"`
	GivesUp *time.Time `json:"gives_up,omitempty"`
}

// streamLine is one line of a streamed answer: any number with progress, then
// one that is either of the others.
type streamLine struct {
	Progress *progress    `json:"progress,omitempty"`
	Outcome  *outcome     `json:"outcome,omitempty"`
	Failure  *wireFailure `json:"failure,omitempty"`
}

// progressInterval is how often a streamed answer tells how far it is.
const progressInterval = 250 * time.Millisecond

// stream answers with progress while work runs, then with what it returns.
// work ends with the request.
func stream(w http.ResponseWriter, r *http.Request, progress func() progress, work func(ctx context.Context) (outcome, error)) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	enc, ctl := json.NewEncoder(w), http.NewResponseController(w)
	say := func(l streamLine) {
		if enc.Encode(l) == nil {
			_ = ctl.Flush() // a peer that is gone ends the request's context
		}
	}
	type result struct {
		outcome outcome
		err     error
	}
	done := make(chan result, 1)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go func() { // ends with work, which the loop below waits for
		o, err := work(ctx)
		done <- result{o, err}
	}()
	tick := time.NewTicker(progressInterval)
	defer tick.Stop()
	p := progress()
	say(streamLine{Progress: &p})
	for {
		select {
		case res := <-done:
			if res.err != nil {
				f := explain(res.err)
				say(streamLine{Failure: &wireFailure{f.text, f.hint, f.code}})
				return
			}
			say(streamLine{Outcome: &res.outcome})
			return
		case <-tick.C:
			p := progress()
			say(streamLine{Progress: &p})
		}
	}
}

// transport speaks HTTP over the daemon's socket, one connection a request.
func (d daemon) transport() *http.Transport {
	return &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", d.socket)
		},
	}
}

// begin sends a request and returns its answer once its head is there; a
// refusal comes back as a *failure. The caller closes the body.
func (d daemon) begin(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://mount"+path, body)
	if err != nil {
		return nil, err
	}
	resp, err := d.transport().RoundTrip(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("process %d, which serves the mount, does not answer: %w", d.pid, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	var w wireFailure
	if json.Unmarshal(text, &w) != nil || w.Text == "" {
		return nil, fmt.Errorf("process %d answers %s", d.pid, resp.Status)
	}
	return nil, w.failure()
}

// do sends one request without a body. Its answer goes into out.
func (d daemon) do(ctx context.Context, method, path string, out any) error {
	return d.exchange(ctx, method, path, nil, out)
}

// post sends in as JSON; a nil in or out is left away.
func (d daemon) post(ctx context.Context, path string, in, out any) error {
	return d.exchange(ctx, http.MethodPost, path, in, out)
}

func (d daemon) exchange(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	resp, err := d.begin(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(out)
}

// errGone is a daemon that ended in the middle of an answer.
var errGone = errors.New("the process that serves the mount ended before it was done")

// follow sends in and passes progress on until the outcome is there. Ending
// ctx ends the work, too.
func (d daemon) follow(ctx context.Context, path string, in any, show func(progress)) (outcome, error) {
	b, err := json.Marshal(in)
	if err != nil {
		return outcome{}, err
	}
	resp, err := d.begin(ctx, http.MethodPost, path, bytes.NewReader(b))
	if err != nil {
		return outcome{}, err
	}
	defer resp.Body.Close()
	return readStream(ctx, resp.Body, show)
}

func readStream(ctx context.Context, r io.Reader, show func(progress)) (outcome, error) {
	dec := json.NewDecoder(bufio.NewReader(r))
	for {
		var l streamLine
		if err := dec.Decode(&l); err != nil {
			if ctx.Err() != nil {
				return outcome{}, ctx.Err()
			}
			return outcome{}, errGone
		}
		switch {
		case l.Failure != nil:
			return outcome{}, l.Failure.failure()
		case l.Outcome != nil:
			return *l.Outcome, nil
		case l.Progress != nil && show != nil:
			show(*l.Progress)
		}
	}
}
