package remote

import (
	"context"
	"strconv"
	"strings"
	"time"

	"hfmount/remote/hub"
)

// logPage is the most commits one page may have (hub-protocol §3.3).
const logPage = 1000

// CommitURL is the address of a commit for people.
func (c *Client) CommitURL(repo hub.Repo, id hub.CommitID) string {
	return c.endpoint + "/" + repo.String() + "/commit/" + string(id)
}

// Log returns up to limit commits of ref, newest first (hub-protocol §3.3).
func (c *Client) Log(ctx context.Context, ref hub.Ref, limit int) ([]hub.LogEntry, error) {
	k := call{op: "read the history of", repo: ref.Repo}
	if err := c.readyAt(k, ref); err != nil {
		return nil, err
	}
	if limit <= 0 {
		return nil, nil
	}
	var log []hub.LogEntry
	first := c.at(ref, "commits") + "?limit=" + strconv.Itoa(min(limit, logPage))
	for ans, err := range c.pages(ctx, k, first) {
		if err != nil {
			return nil, err
		}
		var page []struct {
			ID      hub.CommitID `json:"id"`
			Title   string       `json:"title"`
			Message string       `json:"message"`
			Authors []struct {
				User string `json:"user"`
			} `json:"authors"`
			Date string `json:"date"`
		}
		if err := ans.decode(k, &page); err != nil {
			return nil, err
		}
		for _, p := range page {
			if !p.ID.Valid() {
				return nil, k.bad("a commit is called %q", string(p.ID))
			}
			when, _ := time.Parse(time.RFC3339, p.Date) // zero if not said
			e := hub.LogEntry{ID: p.ID, Title: p.Title, Description: rest(p.Title, p.Message), Time: when.UTC()}
			for _, a := range p.Authors {
				e.Authors = append(e.Authors, a.User)
			}
			log = append(log, e)
			if len(log) == limit {
				return log, nil
			}
		}
	}
	return log, nil
}

// rest is a message without its title, should the Hub repeat that.
func rest(title, message string) string {
	if after, ok := strings.CutPrefix(message, title+"\n"); ok && title != "" {
		message = after
	}
	return strings.Trim(message, "\n")
}
