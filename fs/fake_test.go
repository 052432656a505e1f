package fs

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"hfmount/blockcache"
	"hfmount/remote/hub"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeHub is a Source at the place of the network. Trees and blobs have real
// git object ids, so that equal contents are equal.
type fakeHub struct {
	mu       sync.Mutex
	commits  map[hub.CommitID]*fakeCommit
	heads    map[hub.Ref]hub.CommitID // revision spelt out
	renamed  map[hub.Repo]hub.Repo
	account  *hub.Account
	requests map[string]int // by kind, and "list DIR"
	// fail is asked before each request, with its kind.
	fail func(kind string) error
	// mangle changes what a listing holds.
	mangle func(dir string, es []hub.Entry) []hub.Entry
	// lie changes what Resolve answers.
	lie func(s *hub.Snapshot)
	// names are listed beside the true references; repos beside the true ones.
	names []string
	repos []hub.Repo
	// gate, if set, holds back every listing until it is closed.
	gate chan struct{}
}

type fakeCommit struct {
	repo  hub.Repo
	time  time.Time
	files map[string]string
}

func newFakeHub() *fakeHub {
	return &fakeHub{
		commits: make(map[hub.CommitID]*fakeCommit), heads: make(map[hub.Ref]hub.CommitID),
		renamed: make(map[hub.Repo]hub.Repo), requests: make(map[string]int),
	}
}

var repoAB = hub.Repo{Namespace: "a", Name: "b"}

// commit sets what a branch holds; it returns the commit.
func (h *fakeHub) commit(r hub.Repo, rev string, at time.Time, files map[string]string) hub.CommitID {
	h.mu.Lock()
	defer h.mu.Unlock()
	id := hub.CommitID(sha(fmt.Sprint(r, rev, at.UnixNano(), files)))
	h.commits[id] = &fakeCommit{r, at, maps.Clone(files)}
	h.heads[hub.Ref{Repo: r, Revision: rev}] = id
	return id
}

func sha(s string) string { b := sha1.Sum([]byte(s)); return hex.EncodeToString(b[:]) }

func blobID(s string) string { return sha(fmt.Sprintf("blob %d\x00%s", len(s), s)) }

func (h *fakeHub) ask(ctx context.Context, kinds ...string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, k := range kinds {
		h.requests[k]++
	}
	if h.fail != nil {
		if err := h.fail(kinds[0]); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// asked returns and resets the counts; with no kinds it is the sum of all.
func (h *fakeHub) asked(kinds ...string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for k, c := range h.requests {
		if (len(kinds) == 0 && !strings.Contains(k, " ")) || slices.Contains(kinds, k) {
			n += c
		}
	}
	clear(h.requests)
	return n
}

func (h *fakeHub) set(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
}

func (h *fakeHub) Resolve(ctx context.Context, ref hub.Ref) (hub.Snapshot, error) {
	if err := h.ask(ctx, "resolve"); err != nil {
		return hub.Snapshot{}, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if to, ok := h.renamed[ref.Repo]; ok {
		ref.Repo = to
	}
	known := false
	for r := range h.heads {
		known = known || r.Repo == ref.Repo
	}
	if !known {
		if h.account == nil {
			return hub.Snapshot{}, hub.ErrUnauthorized
		}
		return hub.Snapshot{}, hub.ErrRepoNotFound
	}
	id, ok := h.heads[hub.Ref{Repo: ref.Repo, Revision: ref.Rev()}]
	if c := h.commits[hub.CommitID(ref.Revision)]; c != nil {
		id, ok = hub.CommitID(ref.Revision), true
	}
	if !ok {
		return hub.Snapshot{}, hub.ErrRevisionNotFound
	}
	s := hub.Snapshot{Ref: ref, Commit: id, Time: h.commits[id].time}
	if h.lie != nil {
		h.lie(&s)
	}
	return s, nil
}

func (h *fakeHub) Head(ctx context.Context, ref hub.Ref) (hub.CommitID, error) {
	if err := h.ask(ctx, "head"); err != nil {
		return "", err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	id, ok := h.heads[hub.Ref{Repo: ref.Repo, Revision: ref.Rev()}]
	if !ok {
		return "", hub.ErrRevisionNotFound
	}
	return id, nil
}

// treeID hashes what lies below dir.
func (c *fakeCommit) treeID(dir string) string {
	var lines []string
	for p, s := range c.files {
		if rest, ok := strings.CutPrefix(p, dir+"/"); ok {
			lines = append(lines, rest+"\x00"+blobID(s))
		}
	}
	slices.Sort(lines)
	return sha(strings.Join(lines, "\n"))
}

func (c *fakeCommit) list(dir string, recursive bool) []hub.Entry {
	seen := make(map[string]bool)
	var out []hub.Entry
	for _, p := range slices.Sorted(maps.Keys(c.files)) {
		rest := p
		if dir != "" {
			var ok bool
			if rest, ok = strings.CutPrefix(p, dir+"/"); !ok {
				continue
			}
		}
		parts := strings.Split(rest, "/")
		for i := range parts {
			if i > 0 && !recursive {
				break
			}
			path := join(dir, strings.Join(parts[:i+1], "/"))
			switch {
			case seen[path]:
			case i < len(parts)-1:
				out = append(out, hub.Entry{Path: path, Type: hub.Directory, OID: c.treeID(path)})
			default:
				out = append(out, hub.Entry{Path: path, Size: int64(len(c.files[p])), OID: blobID(c.files[p])})
			}
			seen[path] = true
		}
	}
	return out
}

func (h *fakeHub) List(ctx context.Context, s hub.Snapshot, dir string, recursive bool) iter.Seq2[hub.Entry, error] {
	return func(yield func(hub.Entry, error) bool) {
		kinds := []string{"list", "list " + dir}
		if recursive {
			kinds = []string{"recursive"}
		}
		if err := h.ask(ctx, kinds...); err != nil {
			yield(hub.Entry{}, err)
			return
		}
		h.mu.Lock()
		c, gate, mangle := h.commits[s.Commit], h.gate, h.mangle
		h.mu.Unlock()
		if gate != nil {
			select {
			case <-gate:
			case <-ctx.Done():
				yield(hub.Entry{}, ctx.Err())
				return
			}
		}
		if c == nil {
			yield(hub.Entry{}, hub.ErrRevisionNotFound)
			return
		}
		es := c.list(dir, recursive)
		if mangle != nil {
			es = mangle(dir, es)
		}
		for _, e := range es {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func (h *fakeHub) Refs(ctx context.Context, r hub.Repo) ([]hub.GitRef, error) {
	if err := h.ask(ctx, "refs"); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []hub.GitRef
	for _, n := range h.names {
		out = append(out, hub.GitRef{Name: n})
	}
	for ref, id := range h.heads {
		if ref.Repo == r {
			out = append(out, hub.GitRef{Name: ref.Revision, Commit: id})
		}
	}
	return out, nil
}

func (h *fakeHub) Repos(ctx context.Context, t hub.RepoType, author string) iter.Seq2[hub.RepoInfo, error] {
	return func(yield func(hub.RepoInfo, error) bool) {
		if err := h.ask(ctx, "repos"); err != nil {
			yield(hub.RepoInfo{}, err)
			return
		}
		h.mu.Lock()
		found := make(map[hub.Repo]bool)
		for _, r := range h.repos {
			found[r] = true
		}
		for ref := range h.heads {
			if ref.Repo.Type == t && ref.Repo.Namespace == author {
				found[ref.Repo] = true
			}
		}
		h.mu.Unlock()
		for r := range found {
			if !yield(hub.RepoInfo{Repo: r, Time: day(9)}, nil) {
				return
			}
		}
	}
}

func (h *fakeHub) WhoAmI(ctx context.Context) (hub.Account, error) {
	if err := h.ask(ctx, "whoami"); err != nil {
		return hub.Account{}, err
	}
	if h.account == nil {
		return hub.Account{}, hub.ErrUnauthorized
	}
	return *h.account, nil
}

func (h *fakeHub) OpenRange(ctx context.Context, s hub.Snapshot, e hub.Entry, off, n int64, urgent bool) (io.ReadCloser, error) {
	if err := h.ask(ctx, "read"); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.commits[s.Commit]
	if c == nil {
		return nil, hub.ErrRevisionNotFound
	}
	content, ok := c.files[e.Path]
	if !ok {
		return nil, hub.ErrEntryNotFound
	}
	return io.NopCloser(bytes.NewReader([]byte(content)[off : off+n])), nil
}

func (h *fakeHub) URL(s hub.Snapshot, e hub.Entry) string {
	return "hub://" + s.Ref.Repo.ID() + "/" + string(s.Commit) + "/" + e.Path
}

func day(n int) time.Time { return time.Date(2026, 1, n, 0, 0, 0, 0, time.UTC) }

// newTree makes a tree that ends with the test.
func newTree(t testing.TB, o Options) *Tree {
	t.Helper()
	if o.Cache == nil {
		c, err := blockcache.Open(blockcache.Options{MemoryBytes: 64 << 20})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		o.Cache = c
	}
	tree, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tree.Close() })
	return tree
}

func rootOf(t testing.TB, tree *Tree, loc string) *Dir {
	t.Helper()
	l, err := hub.ParseArg(loc, "")
	if err != nil {
		t.Fatal(err)
	}
	d, err := tree.Root(t.Context(), l)
	if err != nil {
		t.Fatalf("Root(%s): %v", loc, err)
	}
	return d
}

// at walks from a directory.
func at(t testing.TB, d *Dir, path string) Node {
	t.Helper()
	n, err := walk(t.Context(), d, path)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return n
}

func walk(ctx context.Context, d *Dir, path string) (Node, error) {
	var n Node = d
	for part := range strings.SplitSeq(path, "/") {
		dir, ok := n.(*Dir)
		if !ok {
			return nil, ErrNotDir
		}
		var err error
		if n, err = dir.Lookup(ctx, part); err != nil {
			return nil, err
		}
	}
	return n, nil
}

func names(t testing.TB, d *Dir) []string {
	t.Helper()
	es, _, err := d.ReadDir(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range es {
		n, err := d.Lookup(t.Context(), e.Name)
		if err != nil {
			t.Fatalf("%s is listed but: %v", e.Name, err)
		}
		if n.Ino() != e.Ino || n.Mode() != e.Mode {
			// A link is listed as what it is only where that is known.
			t.Errorf("%s: listed as %d %v, found as %d %v", e.Name, e.Ino, e.Mode, n.Ino(), n.Mode())
		}
		out = append(out, e.Name)
	}
	return out
}

func content(t testing.TB, n Node) string {
	t.Helper()
	h, err := n.(*File).Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	return readAll(t, h)
}

func readAll(t testing.TB, h *Handle) string {
	t.Helper()
	var b bytes.Buffer
	if _, err := io.Copy(&b, io.NewSectionReader(readerAt{t.Context(), h}, 0, 1<<40)); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func mtime(t testing.TB, n Node) time.Time {
	t.Helper()
	a, err := n.Attr(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return a.Mtime.UTC()
}
