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

// Lengths of a title, in characters (hub-protocol §8).
const (
	minTitle = 3
	maxTitle = 200
)

func (c *Client) proposal(repo hub.Repo, num int, open bool) hub.Proposal {
	return hub.Proposal{Num: num, Open: open, URL: c.endpoint + "/" + repo.String() + "/discussions/" + strconv.Itoa(num)}
}

// OpenPullRequest makes a draft that branches from main (hub-protocol §8). The
// title is cut to 200 characters. If an answer is lost, it looks whether the
// pull request has been opened before it asks again, so that there is never a
// second one.
func (c *Client) OpenPullRequest(ctx context.Context, repo hub.Repo, title, description string) (hub.Proposal, error) {
	k := call{op: "open a pull request on", repo: repo}
	if err := c.ready(k); err != nil {
		return hub.Proposal{}, err
	}
	title = strings.TrimSpace(title)
	if r := []rune(title); len(r) < minTitle {
		return hub.Proposal{}, k.fail(errInvalid, "a title has at least %d characters", minTitle)
	} else if len(r) > maxTitle {
		title = string(r[:maxTitle])
	}
	p, err := c.openPullRequest(ctx, k, repo, title, description)
	if err != nil {
		c.stats.failed(err)
		return p, err
	}
	p.Title, p.Description = title, description
	return p, nil
}

func (c *Client) openPullRequest(ctx context.Context, k call, repo hub.Repo, title, description string) (hub.Proposal, error) {
	// The number of the newest tells a pull request of ours, made by a request
	// whose answer was lost, from older ones with the same title.
	last, _, err := c.newestTalk(ctx, k, repo, "", 0)
	if err != nil {
		return hub.Proposal{}, err
	}
	u, err := url.Parse(c.apiURL(repo, "/discussions"))
	if err != nil {
		return hub.Proposal{}, k.fail(errInvalid, "the URL cannot be made")
	}
	o, err := postJSON(map[string]any{"title": title, "description": description, "pullRequest": true}, jsonType)
	if err != nil {
		return hub.Proposal{}, k.fail(errInvalid, "%v", err)
	}
	trace := newTraceID()
	deadline := time.Now().Add(c.o.APITimeout)
	for try := 0; ; try++ {
		waited, err := c.pace.wait(ctx, k, quotaAPI, true, c.o.ReadTimeout)
		if err != nil {
			return hub.Proposal{}, err
		}
		deadline = deadline.Add(waited)
		ans, err := c.askOnce(ctx, k, u, o, trace, deadline)
		if err == nil {
			return c.opened(k, repo, ans)
		}
		var e *Error
		if ctx.Err() != nil || !errors.As(err, &e) || !e.retry {
			return hub.Proposal{}, err
		}
		wait := max(e.after, backoff(try))
		if e.window {
			wait = e.after
			deadline = deadline.Add(wait)
		}
		if time.Now().Add(wait).After(deadline) {
			return hub.Proposal{}, err
		}
		if sleep(ctx, wait) != nil {
			return hub.Proposal{}, k.gaveUp(ctx)
		}
		if e.Status == http.StatusTooManyRequests || e.dial {
			continue // it was not even looked at
		}
		_, mine, err := c.newestTalk(ctx, k, repo, title, last)
		if err != nil {
			return hub.Proposal{}, err
		}
		if mine > 0 {
			return c.proposal(repo, mine, true), nil
		}
	}
}

// newestTalk returns the highest number of any discussion, and that of the
// newest pull request after number since with this title, 0 for none.
func (c *Client) newestTalk(ctx context.Context, k call, repo hub.Repo, title string, since int) (last, mine int, err error) {
	talks, err := c.talks(ctx, k, repo)
	for _, d := range talks {
		last = max(last, d.Num)
		if d.PullRequest && d.Num > since && d.Title == title && isOpen(d.Status) {
			mine = max(mine, d.Num)
		}
	}
	return last, mine, err
}

// talk is a line of the list of discussions.
type talk struct {
	Num         int    `json:"num"`
	Title       string `json:"title"`
	Status      string `json:"status"`
	PullRequest bool   `json:"isPullRequest"`
}

// talks is the first page of discussions, those opened last.
func (c *Client) talks(ctx context.Context, k call, repo hub.Repo) ([]talk, error) {
	ans, err := c.get(ctx, k, c.apiURL(repo, "/discussions?p=0&type=all&status=all&sort=recently-created"))
	if err != nil {
		return nil, err
	}
	var body struct {
		Discussions []talk `json:"discussions"`
	}
	err = ans.decode(k, &body)
	return body.Discussions, err
}

// PullRequests lists the pull requests that were opened last, of any state, a
// page of them at most (hub-protocol §8).
func (c *Client) PullRequests(ctx context.Context, repo hub.Repo) ([]hub.Proposal, error) {
	k := call{op: "list the pull requests of", repo: repo}
	if err := c.ready(k); err != nil {
		return nil, err
	}
	talks, err := c.talks(ctx, k, repo)
	if err != nil {
		return nil, err
	}
	var out []hub.Proposal
	for _, d := range talks {
		if d.PullRequest && d.Num > 0 {
			p := c.proposal(repo, d.Num, isOpen(d.Status))
			p.Title = d.Title
			out = append(out, p)
		}
	}
	return out, nil
}

func isOpen(status string) bool { return status == "draft" || status == "open" }

func (c *Client) opened(k call, repo hub.Repo, ans answer) (hub.Proposal, error) {
	var body struct {
		Num         int   `json:"num"`
		PullRequest *bool `json:"pullRequest"`
	}
	if err := ans.decode(k, &body); err != nil {
		return hub.Proposal{}, err
	}
	if body.Num <= 0 || (body.PullRequest != nil && !*body.PullRequest) {
		return hub.Proposal{}, k.bad("discussion %d is no pull request", body.Num)
	}
	return c.proposal(repo, body.Num, true), nil
}

// PullRequest says how a pull request stands (hub-protocol §8).
// hub.ErrEntryNotFound if there is none of that number.
func (c *Client) PullRequest(ctx context.Context, repo hub.Repo, num int) (hub.Proposal, error) {
	k := call{op: fmt.Sprintf("look at pull request %d of", num), repo: repo}
	if err := c.ready(k); err != nil {
		return hub.Proposal{}, err
	}
	ans, err := c.get(ctx, k, c.apiURL(repo, "/discussions/"+strconv.Itoa(num)))
	if err != nil {
		var e *Error
		if errors.As(err, &e) && e.Status == http.StatusNotFound && strings.Contains(strings.ToLower(e.Message), "discussion") {
			e.Kind = hub.ErrEntryNotFound // there is no X-Error-Code for it
		}
		return hub.Proposal{}, err
	}
	var body struct {
		Num         int    `json:"num"`
		Title       string `json:"title"`
		Status      string `json:"status"`
		PullRequest bool   `json:"isPullRequest"`
		Events      []struct {
			Type string `json:"type"`
			Data struct {
				Latest struct {
					Raw string `json:"raw"`
				} `json:"latest"`
			} `json:"data"`
		} `json:"events"`
	}
	if err := ans.decode(k, &body); err != nil {
		return hub.Proposal{}, err
	}
	if body.Num != num || !body.PullRequest || body.Status == "" {
		return hub.Proposal{}, k.bad("discussion %d is no pull request", num)
	}
	p := c.proposal(repo, num, isOpen(body.Status))
	p.Title = body.Title
	for _, e := range body.Events {
		if e.Type == "comment" { // the first is the description
			p.Description = e.Data.Latest.Raw
			break
		}
	}
	return p, nil
}
