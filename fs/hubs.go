package fs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"slices"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"hfmount/remote/hub"
)

// hubTTL is how long what is not in a repository is believed: what namespaces
// hold, revisions, and names that do not exist.
const hubTTL = time.Minute

// hubs remembers what is known of the Hub beside repositories' contents.
type hubs struct {
	listing *flights[space, *namespace]
	probing *flights[space, bool]
	reffing *flights[hub.Repo, *revisions]
	asking  *flights[struct{}, hub.Account]

	spaces *lru.Cache[space, *namespace]
	refs   *lru.Cache[hub.Repo, *revisions]
	misses *lru.Cache[string, time.Time] // when the Hub said that there is none

	mu      sync.Mutex // leaf
	visited map[space]struct{}
	account *hub.Account // nil until known
	retry   time.Time    // when to ask again who we are
}

// space is a namespace as the home of one type of repository.
type space struct {
	t    hub.RepoType
	name string
}

// namespace is a complete listing of a space, sorted by name.
type namespace struct {
	at    time.Time
	repos []hub.RepoInfo
}

// revisions is a complete listing of the references of a repository, sorted.
type revisions struct {
	at    time.Time
	names []string
}

func (h *hubs) init(sp *spawner) (err error) {
	h.listing = newFlights[space, *namespace](sp)
	h.probing = newFlights[space, bool](sp)
	h.reffing = newFlights[hub.Repo, *revisions](sp)
	h.asking = newFlights[struct{}, hub.Account](sp)
	h.visited = make(map[space]struct{})
	if h.spaces, err = lru.New[space, *namespace](256); err != nil {
		return err
	}
	if h.refs, err = lru.New[hub.Repo, *revisions](256); err != nil {
		return err
	}
	h.misses, err = lru.New[string, time.Time](1 << 13)
	return err
}

// missed reports whether the Hub said lately that name does not exist.
func (t *Tree) missed(name string) bool {
	at, ok := t.hubs.misses.Get(name)
	return ok && t.now().Sub(at) < hubTTL
}

func (t *Tree) miss(name string) { t.hubs.misses.Add(name, t.now()) }

func (t *Tree) visit(s space) {
	t.hubs.mu.Lock()
	defer t.hubs.mu.Unlock()
	t.hubs.visited[s] = struct{}{}
}

// whoAmI returns the account, the zero one if there is none or it cannot be
// known now. A definite answer is asked for once.
func (t *Tree) whoAmI(ctx context.Context) hub.Account {
	h := &t.hubs
	h.mu.Lock()
	known, later := h.account, t.now().Before(h.retry)
	h.mu.Unlock()
	switch {
	case known != nil:
		return *known
	case t.offline || later:
		return hub.Account{}
	}
	acc, _, err := h.asking.do(ctx, struct{}{}, t.src.WhoAmI)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err == nil, errors.Is(err, iofs.ErrPermission):
		h.account = &acc
	case ctx.Err() == nil:
		h.retry = t.now().Add(hubTTL)
		t.log.Info("cannot ask whose token this is", "error", err)
	}
	return acc
}

// ours returns the namespaces of the account.
func (t *Tree) ours(ctx context.Context) []string {
	acc := t.whoAmI(ctx)
	var out []string
	for _, n := range append([]string{acc.Name}, acc.Orgs...) {
		if hub.CheckRepo(hub.Repo{Namespace: n, Name: "x"}) == nil && n != "" {
			out = append(out, n)
		}
	}
	return out
}

// spacesOf lists the namespaces that are shown for a type: ours and those
// visited; offline, those of which MetaDir holds something.
func (t *Tree) spacesOf(ctx context.Context, typ hub.RepoType) []string {
	out := t.ours(ctx)
	t.hubs.mu.Lock()
	for s := range t.hubs.visited {
		if s.t == typ {
			out = append(out, s.name)
		}
	}
	t.hubs.mu.Unlock()
	if t.offline {
		for _, r := range t.meta.repos() {
			if r.Type == typ && r.Namespace != "" {
				out = append(out, r.Namespace)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// exists reports whether there is such a namespace: if it has a repository of
// the type, or is the account or one of its organisations.
func (t *Tree) exists(ctx context.Context, s space) (bool, error) {
	t.hubs.mu.Lock()
	_, seen := t.hubs.visited[s]
	t.hubs.mu.Unlock()
	if seen || slices.Contains(t.ours(ctx), s.name) {
		return true, nil
	}
	if t.offline {
		return slices.Contains(t.spacesOf(ctx, s.t), s.name), nil
	}
	ok, _, err := t.hubs.probing.do(ctx, s, func(ctx context.Context) (bool, error) {
		for r, err := range t.src.Repos(ctx, s.t, s.name) {
			if err == nil {
				err = checkListed(r, s)
			}
			// The Hub ignores the case of names in a search; in a path it counts.
			return err == nil && r.Repo.Namespace == s.name, err
		}
		return false, nil
	})
	if errors.Is(err, iofs.ErrNotExist) {
		return false, nil
	}
	if ok {
		t.visit(s)
	}
	return ok, err
}

// checkListed says why r cannot be in the listing of s.
func checkListed(r hub.RepoInfo, s space) error {
	if err := hub.CheckRepo(r.Repo); err != nil {
		return badAnswer("%s lists %q: %v", s.name, r.Repo.ID(), err)
	}
	if r.Repo.Type != s.t || r.Repo.Namespace == "" {
		return badAnswer("%s lists %q", s.name, r.Repo.String())
	}
	return nil
}

// repos lists a namespace. Offline it is what MetaDir holds.
func (t *Tree) repos(ctx context.Context, s space) (*namespace, error) {
	if n, ok := t.hubs.spaces.Get(s); ok && t.now().Sub(n.at) < hubTTL {
		return n, nil
	}
	if t.offline {
		n := &namespace{at: t.now()}
		for _, r := range t.meta.repos() {
			if r.Type == s.t && r.Namespace == s.name {
				n.repos = append(n.repos, hub.RepoInfo{Repo: r})
			}
		}
		return n, nil
	}
	n, _, err := t.hubs.listing.do(ctx, s, func(ctx context.Context) (*namespace, error) {
		n := &namespace{at: t.now()}
		for r, err := range t.src.Repos(ctx, s.t, s.name) {
			if err == nil {
				err = checkListed(r, s)
			}
			if err == nil && len(n.repos) >= maxEntries {
				err = badAnswer("more than %d repositories", maxEntries)
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", s.t.Prefix()+s.name, err)
			}
			// As in exists.
			if r.Repo.Namespace == s.name {
				n.repos = append(n.repos, r)
			}
		}
		slices.SortFunc(n.repos, func(a, b hub.RepoInfo) int { return cmp.Compare(a.Repo.Name, b.Repo.Name) })
		n.repos = slices.CompactFunc(n.repos, func(a, b hub.RepoInfo) bool { return a.Repo == b.Repo })
		t.hubs.spaces.Add(s, n)
		return n, nil
	})
	return n, err
}

// listed looks in a listing that is at hand; it asks nobody.
func (t *Tree) listed(r hub.Repo) (hub.RepoInfo, bool) {
	n, ok := t.hubs.spaces.Get(space{r.Type, r.Namespace})
	if !ok || t.now().Sub(n.at) >= hubTTL {
		return hub.RepoInfo{}, false
	}
	i, ok := slices.BinarySearchFunc(n.repos, r.Name, func(a hub.RepoInfo, name string) int { return cmp.Compare(a.Repo.Name, name) })
	if !ok {
		return hub.RepoInfo{}, false
	}
	return n.repos[i], true
}

// revisions lists the references of a repository. Offline it is what MetaDir
// holds.
func (t *Tree) revisions(ctx context.Context, r hub.Repo) (*revisions, error) {
	if n, ok := t.hubs.refs.Get(r); ok && t.now().Sub(n.at) < hubTTL {
		return n, nil
	}
	if t.offline {
		names := t.meta.revisions(r)
		if len(names) == 0 {
			return nil, fmt.Errorf("%s: %w", r, hub.ErrOffline)
		}
		slices.Sort(names)
		return &revisions{t.now(), names}, nil
	}
	n, _, err := t.hubs.reffing.do(ctx, r, func(ctx context.Context) (*revisions, error) {
		refs, err := t.src.Refs(ctx, r)
		if err != nil {
			return nil, err
		}
		n := &revisions{at: t.now()}
		for _, ref := range refs {
			if err := hub.CheckRevision(ref.Name); err != nil {
				return nil, badAnswer("%s: %v", r, err)
			}
			n.names = append(n.names, ref.Name)
		}
		slices.Sort(n.names)
		n.names = slices.Compact(n.names) // a tag may have the name of a branch
		t.hubs.refs.Add(r, n)
		return n, nil
	})
	return n, err
}
