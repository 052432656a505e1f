package remote

import (
	"context"

	"hfmount/remote/hub"
)

// WhoAmI says whose token this is (hub-protocol §1.6); without a token it is
// hub.ErrUnauthorized, and no request. The Hub limits this call strictly.
func (c *Client) WhoAmI(ctx context.Context) (hub.Account, error) {
	k := call{op: "whoami"}
	if err := c.ready(k); err != nil {
		return hub.Account{}, err
	}
	t, err := c.o.Tokens.Token(ctx)
	if err != nil {
		return hub.Account{}, k.fail(nil, "%v", err)
	}
	if t == "" {
		return hub.Account{}, k.fail(hub.ErrUnauthorized, "there is no token")
	}
	ans, err := c.get(ctx, k, c.endpoint+"/api/whoami-v2")
	if err != nil {
		return hub.Account{}, err
	}
	var body struct {
		Name string `json:"name"`
		Orgs []struct {
			Name string `json:"name"`
		} `json:"orgs"`
	}
	if err := ans.decode(k, &body); err != nil {
		return hub.Account{}, err
	}
	a := hub.Account{Name: body.Name}
	if hub.CheckRepo(hub.Repo{Name: a.Name}) != nil {
		return hub.Account{}, k.bad("the account is called %q", a.Name)
	}
	for _, org := range body.Orgs {
		if hub.CheckRepo(hub.Repo{Name: org.Name}) == nil {
			a.Orgs = append(a.Orgs, org.Name)
		}
	}
	return a, nil
}

// AuthCheck returns nil if the token may read (or write) repo (hub-protocol §1.7).
func (c *Client) AuthCheck(ctx context.Context, repo hub.Repo, write bool) error {
	k := call{op: "check access to", repo: repo}
	rest := "/auth-check"
	if write {
		rest += "/write"
	}
	if err := c.ready(k); err != nil {
		return err
	}
	_, err := c.get(ctx, k, c.apiURL(repo, rest))
	return err
}
