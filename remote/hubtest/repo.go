package hubtest

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-git/go-git/v5/plumbing"

	"hfmount/remote/hub"
)

// repo is one repository. Locks, in order: commitMu, store.mu, then any of
// reachMu, lfsMu and the one of db, alone.
type repo struct {
	st *store
	db *objectDB

	// commitMu serialises everything that moves a reference.
	commitMu sync.Mutex

	// info, approved and talks are guarded by st.mu.
	info  repoMeta
	talks []*discussion

	reachMu sync.Mutex
	// reach holds the commits some reference leads to; nil is not known.
	// Others do not resolve: after a super-squash the old history is gone
	// (hub-protocol §7) though its objects are still stored.
	reach map[plumbing.Hash]struct{}

	lfsMu sync.Mutex
	lfs   map[string]lfsRecord // by SHA-256: what was uploaded to this repository
}

// repoMeta is what is known of a repository besides its git data.
type repoMeta struct {
	ID               hub.Repo
	ObjectID         string // 24 hex digits, stable across renames
	Private          bool
	Gated            string          // "", "auto", "manual"
	Approved         map[string]bool // accounts with access to a gated repository
	Disabled         bool
	Imported         bool // came by Import: every account may write its namespace
	Created, Updated time.Time
}

// meta returns a copy of the metadata.
func (r *repo) meta() repoMeta {
	r.st.mu.RLock()
	m := r.info
	m.Approved = make(map[string]bool, len(r.info.Approved))
	for a, ok := range r.info.Approved {
		m.Approved[a] = ok
	}
	r.st.mu.RUnlock()
	m.Updated = m.Created
	if h, ok := r.db.ref("refs/heads/main"); ok {
		if c, err := r.readCommit(h); err == nil && c.Time.After(m.Created) {
			m.Updated = c.Time
		}
	}
	return m
}

// commitInfo is a decoded commit.
type commitInfo struct {
	ID             hub.CommitID
	Title, Message string
	Author         string
	Time           time.Time
	Parents        []hub.CommitID

	tree plumbing.Hash
}

// resolve finds the commit of a decoded revision: branch (before tag), tag,
// refs/pr/N, refs/convert/x, HEAD, full or abbreviated commit.
func (r *repo) resolve(rev string) (hub.CommitID, error) {
	h, err := r.resolveHash(rev)
	if err != nil {
		return "", err
	}
	return hub.CommitID(h.String()), nil
}

func (r *repo) resolveHash(rev string) (plumbing.Hash, error) {
	unknown := fmt.Errorf("%w: %s", hub.ErrRevisionNotFound, rev)
	if rev == "HEAD" {
		rev = hub.DefaultRevision
	}
	if hub.CommitID(rev).Valid() {
		if h := plumbing.NewHash(rev); r.reachable(h) {
			return h, nil
		}
		return plumbing.ZeroHash, unknown
	}
	names := []string{"refs/heads/" + rev, "refs/tags/" + rev}
	if strings.HasPrefix(rev, "refs/") {
		names = []string{rev}
	}
	for _, n := range names {
		if h, ok := r.db.ref(n); ok {
			return r.peel(h)
		}
	}
	if h, ok := r.abbreviated(rev); ok {
		return h, nil
	}
	return plumbing.ZeroHash, unknown
}

// abbreviated finds the only reachable commit that starts with rev.
func (r *repo) abbreviated(rev string) (found plumbing.Hash, ok bool) {
	if len(rev) < 5 || len(rev) > 40 || strings.Trim(rev, "0123456789abcdef") != "" {
		return found, false
	}
	r.reachable(plumbing.ZeroHash)
	r.reachMu.Lock()
	defer r.reachMu.Unlock()
	for h := range r.reach {
		if strings.HasPrefix(h.String(), rev) {
			if ok {
				return plumbing.ZeroHash, false
			}
			found, ok = h, true
		}
	}
	return found, ok
}

// peel follows annotated tags to their commit.
func (r *repo) peel(h plumbing.Hash) (plumbing.Hash, error) {
	for range 8 {
		if _, ok := r.st.commits.Get(h); ok {
			return h, nil
		}
		o, _, err := r.db.get(h, -1)
		if err != nil {
			return h, err
		}
		if o.kind != plumbing.TagObject {
			return h, nil
		}
		line, _, _ := bytes.Cut(o.data, []byte("\n"))
		h = plumbing.NewHash(strings.TrimPrefix(string(line), "object "))
	}
	return h, fmt.Errorf("tag %s leads nowhere", h)
}

// reachable reports whether some reference leads to a commit.
func (r *repo) reachable(h plumbing.Hash) bool {
	r.reachMu.Lock()
	defer r.reachMu.Unlock()
	if r.reach == nil {
		r.reach = map[plumbing.Hash]struct{}{}
		for _, tip := range r.db.refs() {
			if tip, err := r.peel(tip); err == nil {
				r.spread(tip)
			}
		}
	}
	_, ok := r.reach[h]
	return ok
}

// spread adds a commit and its ancestors to reach. The caller holds reachMu.
func (r *repo) spread(tip plumbing.Hash) {
	todo := []plumbing.Hash{tip}
	for len(todo) > 0 {
		h := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if _, ok := r.reach[h]; ok {
			continue
		}
		c, err := r.readCommit(h)
		if err != nil {
			continue // a tag of something else
		}
		r.reach[h] = struct{}{}
		for _, p := range c.Parents {
			todo = append(todo, plumbing.NewHash(string(p)))
		}
	}
}

// moveRef points a reference at a commit and keeps reach right. The caller
// holds commitMu.
func (r *repo) moveRef(name string, to plumbing.Hash) error {
	old, had := r.db.ref(name)
	if err := r.db.setRef(name, to); err != nil {
		return err
	}
	r.reachMu.Lock()
	defer r.reachMu.Unlock()
	if r.reach == nil {
		return nil
	}
	c, err := r.readCommit(to)
	if had && (err != nil || !slices.Contains(c.Parents, hub.CommitID(old.String()))) {
		r.reach = nil // something may have been cut off
		return nil
	}
	r.spread(to)
	return nil
}

// dropRef removes a reference. The caller holds commitMu.
func (r *repo) dropRef(name string) error {
	if err := r.db.removeRef(name); err != nil {
		return err
	}
	r.forgetReach()
	return nil
}

func (r *repo) commit(id hub.CommitID) (commitInfo, error) {
	if !id.Valid() {
		return commitInfo{}, fmt.Errorf("%w: %s", hub.ErrRevisionNotFound, id)
	}
	c, err := r.readCommit(plumbing.NewHash(string(id)))
	if err != nil {
		return c, fmt.Errorf("%w: %s", hub.ErrRevisionNotFound, id)
	}
	return c, nil
}

func (r *repo) readCommit(h plumbing.Hash) (commitInfo, error) {
	if c, ok := r.st.commits.Get(h); ok {
		return c, nil
	}
	o, _, err := r.db.get(h, -1)
	if err != nil {
		return commitInfo{}, err
	}
	if o.kind != plumbing.CommitObject {
		return commitInfo{}, fmt.Errorf("%s is a %s, not a commit", h, o.kind)
	}
	c := decodeCommit(h, o.data)
	r.st.commits.Add(h, c)
	return c, nil
}

func decodeCommit(h plumbing.Hash, data []byte) commitInfo {
	c := commitInfo{ID: hub.CommitID(h.String())}
	head, text, _ := strings.Cut(string(data), "\n\n")
	for line := range strings.Lines(head) {
		key, val, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch key {
		case "tree":
			c.tree = plumbing.NewHash(val)
		case "parent":
			c.Parents = append(c.Parents, hub.CommitID(val))
		case "author":
			c.Author, _, _ = strings.Cut(val, " <")
		case "committer":
			if f := strings.Fields(val[strings.LastIndexByte(val, '>')+1:]); len(f) > 0 {
				sec, _ := strconv.ParseInt(f[0], 10, 64)
				c.Time = time.Unix(sec, 0).UTC()
			}
		}
	}
	c.Title, c.Message, _ = strings.Cut(strings.TrimRight(text, "\n"), "\n")
	c.Message = strings.TrimLeft(c.Message, "\n")
	return c
}

// encodeCommit renders a commit by name at a time of whole seconds.
func encodeCommit(tree plumbing.Hash, parents []plumbing.Hash, author string, at time.Time, title, message string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "tree %s\n", tree)
	for _, p := range parents {
		fmt.Fprintf(&b, "parent %s\n", p)
	}
	who := signature(author, at)
	fmt.Fprintf(&b, "author %s\ncommitter %s\n\n%s\n", who, who, strings.TrimSpace(title))
	if m := strings.TrimSpace(message); m != "" {
		fmt.Fprintf(&b, "\n%s\n", m)
	}
	return bytes.ReplaceAll(b.Bytes(), []byte{0}, nil)
}

func signature(author string, at time.Time) string {
	name := strings.Map(func(c rune) rune {
		if c < ' ' || strings.ContainsRune("<>", c) {
			return -1
		}
		return c
	}, author)
	if name == "" {
		name = "unknown"
	}
	return fmt.Sprintf("%s <%s@users.noreply.hub.test> %d +0000", name, strings.ReplaceAll(name, " ", "."), at.Unix())
}

// newCommit stores a commit of a tree, with the batch it comes in, and moves a
// reference to it last. The caller holds commitMu.
func (r *repo) newCommit(b *objectBatch, ref string, tree plumbing.Hash, parents []plumbing.Hash, author, title, message string) (plumbing.Hash, error) {
	at := r.st.now().UTC().Truncate(time.Second)
	for _, p := range parents {
		// git log goes by dates; a clock that was set back must not turn history round.
		if c, err := r.readCommit(p); err == nil && c.Time.After(at) {
			at = c.Time
		}
	}
	h, err := b.add(plumbing.CommitObject, encodeCommit(tree, parents, author, at, title, message))
	if err != nil {
		return h, err
	}
	if err := b.flush(); err != nil {
		return h, err
	}
	return h, r.moveRef(ref, h)
}

// log lists history from id, newest first. The slice is shared: read only.
func (r *repo) log(id hub.CommitID) ([]commitInfo, error) {
	if l, ok := r.st.logs.Get(id); ok {
		return l, nil
	}
	first, err := r.commit(id)
	if err != nil {
		return nil, err
	}
	seen := map[hub.CommitID]bool{id: true}
	front := []commitInfo{first} // sorted, newest last
	var all []commitInfo
	for len(front) > 0 {
		c := front[len(front)-1]
		front = front[:len(front)-1]
		all = append(all, c)
		for _, p := range c.Parents {
			if seen[p] {
				continue
			}
			seen[p] = true
			pc, err := r.commit(p)
			if err != nil {
				return nil, err
			}
			i, _ := slices.BinarySearchFunc(front, pc, func(a, b commitInfo) int {
				return cmp.Compare(a.Time.Unix(), b.Time.Unix())
			})
			front = slices.Insert(front, i, pc)
		}
	}
	r.st.logs.Add(id, all)
	return all, nil
}

// refs lists all references, sorted by name within their kind.
func (r *repo) refs() ([]hub.GitRef, error) {
	var out []hub.GitRef
	for name, h := range r.db.refs() {
		var g hub.GitRef
		switch {
		case strings.HasPrefix(name, "refs/heads/"):
			g = hub.GitRef{Name: name[len("refs/heads/"):], Kind: hub.Branch}
		case strings.HasPrefix(name, "refs/tags/"):
			g = hub.GitRef{Name: name[len("refs/tags/"):], Kind: hub.Tag}
		case strings.HasPrefix(name, "refs/convert/"):
			g = hub.GitRef{Name: name, Kind: hub.Convert}
		case strings.HasPrefix(name, "refs/pr/"):
			g = hub.GitRef{Name: name, Kind: hub.PullRequest}
		default:
			continue
		}
		h, err := r.peel(h)
		if err != nil {
			return nil, err
		}
		g.Commit = hub.CommitID(h.String())
		out = append(out, g)
	}
	slices.SortFunc(out, func(a, b hub.GitRef) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(len(a.Name)*int(a.Kind/hub.PullRequest), len(b.Name)*int(b.Kind/hub.PullRequest)), cmp.Compare(a.Name, b.Name))
	})
	return out, nil
}
