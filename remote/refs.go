package remote

import (
	"context"
	"iter"
	"strings"
	"time"

	"hfmount/remote/hub"
)

type refEntry struct {
	Name   string `json:"name"`
	Ref    string `json:"ref"`
	Commit string `json:"targetCommit"`
}

// Refs lists branches, tags, converts and pull requests (hub-protocol §3.2).
func (c *Client) Refs(ctx context.Context, repo hub.Repo) ([]hub.GitRef, error) {
	k := call{op: "list the revisions of", repo: repo}
	if err := c.ready(k); err != nil {
		return nil, err
	}
	ans, err := c.get(ctx, k, c.apiURL(repo, "/refs?include_prs=1"))
	if err != nil {
		return nil, err
	}
	var body struct {
		Branches     []refEntry `json:"branches"`
		Tags         []refEntry `json:"tags"`
		Converts     []refEntry `json:"converts"`
		PullRequests []refEntry `json:"pullRequests"`
	}
	if err := ans.decode(k, &body); err != nil {
		return nil, err
	}
	var refs []hub.GitRef
	for _, group := range []struct {
		kind hub.RefKind
		list []refEntry
	}{{hub.Branch, body.Branches}, {hub.Tag, body.Tags}, {hub.Convert, body.Converts}, {hub.PullRequest, body.PullRequests}} {
		for _, r := range group.list {
			name := r.Name
			if group.kind == hub.Convert || group.kind == hub.PullRequest {
				// Their names are bare; as a revision it is the whole ref.
				name = r.Ref
			}
			if err := hub.CheckRevision(name); err != nil {
				return nil, k.bad("%v", err)
			}
			if !hub.CommitID(r.Commit).Valid() {
				return nil, k.bad("%s is at %q", name, r.Commit)
			}
			refs = append(refs, hub.GitRef{Name: name, Commit: hub.CommitID(r.Commit), Kind: group.kind})
		}
	}
	return refs, nil
}

// Repos lists the repositories of author (hub-protocol §3.7), those that the
// token can see. An author nobody knows has none; that is no error.
func (c *Client) Repos(ctx context.Context, t hub.RepoType, author string) iter.Seq2[hub.RepoInfo, error] {
	k := call{op: "list the " + t.Plural() + " of " + author}
	return func(yield func(hub.RepoInfo, error) bool) {
		if err := c.ready(k); err != nil {
			yield(hub.RepoInfo{}, err)
			return
		}
		if err := hub.CheckRepo(hub.Repo{Type: t, Name: author}); err != nil {
			yield(hub.RepoInfo{}, k.fail(errInvalid, "%v", err))
			return
		}
		first := c.endpoint + "/api/" + t.Plural() +
			query("author", author, "limit", "500", "expand", "lastModified", "expand", "private")
		for ans, err := range c.pages(ctx, k, first) {
			if err != nil {
				yield(hub.RepoInfo{}, err)
				return
			}
			var list []repoInfo
			if err := ans.decode(k, &list); err != nil {
				yield(hub.RepoInfo{}, err)
				return
			}
			for _, info := range list {
				repo, ok := parseID(t, info.ID)
				if !ok {
					err := k.bad("a repository is called %q", info.ID)
					c.stats.failed(err)
					yield(hub.RepoInfo{}, err)
					return
				}
				if !strings.EqualFold(repo.Namespace, author) {
					continue // not of this author, whatever the filter meant
				}
				when, _ := time.Parse(time.RFC3339, info.LastModified) // zero if not said
				if !yield(hub.RepoInfo{Repo: repo, Private: info.Private, Time: when.UTC()}, nil) {
					return
				}
			}
		}
	}
}
