package remote

import (
	"context"
	"net/url"
	"strings"
	"time"

	"hfmount/remote/hub"
)

// repoInfo is the part of hub-protocol §3.1 that is asked for. The default
// answer would list every file of the repository.
type repoInfo struct {
	ID           string `json:"id"`
	SHA          string `json:"sha"`
	LastModified string `json:"lastModified"`
	Private      bool   `json:"private"`
	// Gated is false, "auto" or "manual".
	Gated any `json:"gated"`
}

// Resolve pins ref to a commit (hub-protocol §3.1). The Snapshot carries the
// repository's current name, which differs from ref's after a rename or for a
// canonical id. The snapshot's time is that of the repository's last change.
func (c *Client) Resolve(ctx context.Context, ref hub.Ref) (hub.Snapshot, error) {
	k := call{op: "resolve", repo: ref.Repo}
	query := "?expand=sha&expand=lastModified&expand=private"
	if ref.Repo.Type != hub.Space { // spaces cannot be gated, and refuse the word
		query += "&expand=gated"
	}
	info, err := c.info(ctx, k, ref, query)
	if err != nil {
		return hub.Snapshot{}, err
	}
	repo, ok := parseID(ref.Repo.Type, info.ID)
	if !ok {
		return hub.Snapshot{}, k.bad("the repository calls itself %q", info.ID)
	}
	gate, _ := info.Gated.(string)
	when, _ := time.Parse(time.RFC3339, info.LastModified) // zero if not said
	return hub.Snapshot{
		Ref:    hub.Ref{Repo: repo, Revision: ref.Revision},
		Commit: hub.CommitID(info.SHA), Time: when.UTC(), Private: info.Private, Gated: gate != "",
	}, nil
}

// Head returns the commit ref stands at, with the cheapest request there is
// (?expand=sha). A pinned ref costs none.
func (c *Client) Head(ctx context.Context, ref hub.Ref) (hub.CommitID, error) {
	if ref.Pinned() {
		return hub.CommitID(ref.Revision), nil
	}
	info, err := c.info(ctx, call{op: "look at", repo: ref.Repo}, ref, "?expand=sha")
	return hub.CommitID(info.SHA), err
}

func (c *Client) info(ctx context.Context, k call, ref hub.Ref, query string) (repoInfo, error) {
	var info repoInfo
	if err := c.ready(k); err != nil {
		return info, err
	}
	if err := hub.CheckRevision(ref.Rev()); err != nil {
		return info, k.fail(errInvalid, "%v", err)
	}
	ans, err := c.get(ctx, k, c.apiURL(ref.Repo, "/revision/"+url.PathEscape(ref.Rev())+query))
	if err != nil {
		return info, err
	}
	if err := ans.decode(k, &info); err != nil {
		return repoInfo{}, err
	}
	if !hub.CommitID(info.SHA).Valid() {
		return repoInfo{}, k.bad("the commit is %q", info.SHA)
	}
	if ref.Pinned() && info.SHA != ref.Revision {
		return repoInfo{}, k.bad("asked for commit %s, got %s", ref.Revision, info.SHA)
	}
	return info, nil
}

// parseID reads an id as the API gives it.
func parseID(t hub.RepoType, id string) (hub.Repo, bool) {
	r := hub.Repo{Type: t}
	var ok bool
	if r.Namespace, r.Name, ok = strings.Cut(id, "/"); !ok {
		r.Namespace, r.Name = "", id
	} else if r.Namespace == "" {
		return hub.Repo{}, false
	}
	if hub.CheckRepo(r) != nil {
		return hub.Repo{}, false
	}
	return r, true
}
