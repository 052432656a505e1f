package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hfmount/blockcache"
	"hfmount/remote/hub"
	"hfmount/writeback"
)

// writeHub is the writing half of a fakeHub.
type writeHub struct {
	*fakeHub
	wmu  sync.Mutex
	log  []hub.LogEntry // newest first; guarded by wmu
	made int            // guarded by wmu
	// before runs before each commit is looked at.
	before func()
}

func (h *writeHub) entries(s hub.Snapshot) ([]hub.Entry, map[string]string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.commits[s.Commit]
	if c == nil {
		return nil, nil, hub.ErrRevisionNotFound
	}
	return c.list("", true), c.files, nil
}

func (h *writeHub) Paths(_ context.Context, s hub.Snapshot, paths []string) ([]hub.Entry, error) {
	es, _, err := h.entries(s)
	return slices.DeleteFunc(es, func(e hub.Entry) bool { return !slices.Contains(paths, e.Path) }), err
}

func (h *writeHub) ListAll(_ context.Context, s hub.Snapshot, dir string) ([]hub.Entry, error) {
	es, _, err := h.entries(s)
	return slices.DeleteFunc(es, func(e hub.Entry) bool { return !under(e.Path, dir) }), err
}

func (h *writeHub) ReadAll(_ context.Context, s hub.Snapshot, e hub.Entry, limit int64) ([]byte, error) {
	_, files, err := h.entries(s)
	return []byte(files[e.Path]), err
}

func (h *writeHub) MayWrite(context.Context, hub.Repo) error { return nil }

func (h *writeHub) Preupload(_ context.Context, ref hub.Ref, p hub.Preupload) ([]hub.UploadMode, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	files := h.commits[h.heads[hub.Ref{Repo: ref.Repo, Revision: ref.Rev()}]].files
	out := make([]hub.UploadMode, len(p.Files))
	for i, f := range p.Files {
		if s, ok := files[f.Path]; ok {
			out[i].OID = blobID(s)
		}
	}
	return out, nil
}

func (h *writeHub) Upload(context.Context, hub.Ref, hub.Object) error { return errors.ErrUnsupported }

func (h *writeHub) CheckCard(context.Context, hub.RepoType, []byte) error { return nil }

func (h *writeHub) Commit(_ context.Context, ref hub.Ref, c hub.Commit) (hub.Committed, error) {
	if h.before != nil {
		h.before()
	}
	h.wmu.Lock()
	defer h.wmu.Unlock()
	ref.Revision = ref.Rev()
	h.mu.Lock()
	head := h.heads[ref]
	files := maps.Clone(h.commits[head].files)
	h.mu.Unlock()
	if head != c.Parent {
		return hub.Committed{}, hub.ErrConflict
	}
	for _, op := range c.Ops {
		switch op.Kind {
		case hub.OpFile:
			r, err := op.Data()
			if err != nil {
				return hub.Committed{}, err
			}
			b, err := io.ReadAll(r)
			_ = r.Close()
			if err != nil || int64(len(b)) != op.Size {
				return hub.Committed{}, fmt.Errorf("%s: %d of %d bytes, %v", op.Path, len(b), op.Size, err)
			}
			files[op.Path] = string(b)
		case hub.OpDelete:
			if _, ok := files[op.Path]; !ok {
				return hub.Committed{}, &hub.RefusedError{Message: "no such file", Paths: []string{op.Path}}
			}
			delete(files, op.Path)
		case hub.OpDeleteFolder:
			maps.DeleteFunc(files, func(p, _ string) bool { return under(p, op.Path) })
		default:
			return hub.Committed{}, errors.ErrUnsupported
		}
	}
	for p := range files {
		for d, _ := split(p); d != ""; d, _ = split(d) {
			if _, ok := files[d]; ok {
				return hub.Committed{}, &hub.RefusedError{Message: "a file and a directory", Paths: []string{d}}
			}
		}
	}
	h.made++
	id := h.commit(ref.Repo, ref.Revision, day(2).Add(time.Duration(h.made)*time.Minute), files)
	h.log = slices.Insert(h.log, 0, hub.LogEntry{ID: id, Title: c.Summary, Description: c.Description})
	return hub.Committed{ID: id}, nil
}

func (h *writeHub) Log(context.Context, hub.Ref, int) ([]hub.LogEntry, error) {
	h.wmu.Lock()
	defer h.wmu.Unlock()
	return slices.Clone(h.log), nil
}

func (h *writeHub) CreateBranch(context.Context, hub.Repo, string, hub.CommitID) error {
	return errors.ErrUnsupported
}

func (h *writeHub) CreateRepo(_ context.Context, r hub.Repo, _ bool) error {
	h.commit(r, "main", day(1), nil)
	return nil
}

func (h *writeHub) OpenPullRequest(context.Context, hub.Repo, string, string) (hub.Proposal, error) {
	return hub.Proposal{}, errors.ErrUnsupported
}

func (h *writeHub) PullRequest(context.Context, hub.Repo, int) (hub.Proposal, error) {
	return hub.Proposal{}, errors.ErrUnsupported
}

func (h *writeHub) PullRequests(context.Context, hub.Repo) ([]hub.Proposal, error) { return nil, nil }

func (h *writeHub) SuperSquash(context.Context, hub.Ref, string) (hub.CommitID, error) {
	return "", errors.ErrUnsupported
}

func (h *writeHub) CommitURL(hub.Repo, hub.CommitID) string { return "" }

// theirs makes somebody else's commit.
func (h *writeHub) theirs(changes ...string) hub.CommitID {
	h.wmu.Lock()
	defer h.wmu.Unlock()
	ref := hub.Ref{Repo: repoAB, Revision: "main"}
	h.mu.Lock()
	files := h.commits[h.heads[ref]].files
	h.mu.Unlock()
	h.made++
	id := h.commit(repoAB, "main", day(2).Add(time.Duration(h.made)*time.Minute), with(files, changes...))
	h.log = slices.Insert(h.log, 0, hub.LogEntry{ID: id, Title: "theirs"})
	return id
}

// files is what the branch holds.
func (h *writeHub) files() map[string]string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.commits[h.heads[hub.Ref{Repo: repoAB, Revision: "main"}]].files)
}

// testLayers opens real layers in a folder.
type testLayers struct {
	hub  *writeHub
	dir  string
	tree *Tree
	now  func() time.Time

	mu sync.Mutex
	m  map[hub.Ref]*writeback.Layer // guarded by mu
}

func (l *testLayers) MayWrite(ref hub.Ref) bool { return true }

func (l *testLayers) MayCreate() bool { return true }

func (l *testLayers) Layer(_ context.Context, ref hub.Ref, create bool) (*writeback.Layer, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.m[ref] == nil && create {
		w, err := writeback.OpenLayer(writeback.LayerOptions{
			StateDir: l.dir, Key: writeback.Key{Endpoint: "hub://", Account: "me", Ref: ref},
			Content: l.tree.Content, Now: l.now,
		})
		if err != nil {
			return nil, err
		}
		l.m[ref] = w
	}
	return l.m[ref], nil
}

func (l *testLayers) CreateRepo(ctx context.Context, r hub.Repo) error {
	return l.hub.CreateRepo(ctx, r, true)
}

// desk is a mount to write to, without the kernel.
type desk struct {
	t      testing.TB
	hub    *writeHub
	tree   *Tree
	layers *testLayers
	cache  *blockcache.Cache
	root   *Dir
}

func newDesk(t testing.TB, files map[string]string) *desk {
	t.Helper()
	h := &writeHub{fakeHub: newFakeHub()}
	h.log = []hub.LogEntry{{ID: h.commit(repoAB, "main", day(1), files), Title: "first"}}
	return openDesk(t, h, t.TempDir())
}

// openDesk mounts what dir holds of an earlier mount.
func openDesk(t testing.TB, h *writeHub, dir string) *desk {
	t.Helper()
	d := &desk{t: t, hub: h, layers: &testLayers{hub: h, dir: dir, m: make(map[hub.Ref]*writeback.Layer)}}
	var err error
	d.cache, err = blockcache.Open(blockcache.Options{MemoryBytes: 64 << 20, DiskBytes: 1 << 30, Dir: dir + "/blobs"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.cache.Close() })
	d.tree = newTree(t, Options{Source: h, MetaDir: dir + "/meta", Cache: d.cache, Layers: d.layers})
	d.layers.tree = d.tree
	t.Cleanup(d.close)
	d.root = rootOf(t, d.tree, "a/b")
	return d
}

func (d *desk) close() {
	d.layers.mu.Lock()
	defer d.layers.mu.Unlock()
	for ref, l := range d.layers.m {
		if err := l.Close(); err != nil {
			d.t.Error(err)
		}
		delete(d.layers.m, ref)
	}
}

func (d *desk) layer() *writeback.Layer {
	l, err := d.layers.Layer(context.Background(), hub.Ref{Repo: repoAB, Revision: "main"}, true)
	if err != nil {
		d.t.Fatal(err)
	}
	return l
}

// queue runs a queue until the test ends.
func (d *desk) queue() *writeback.Queue {
	d.t.Helper()
	q, err := writeback.NewQueue(writeback.QueueOptions{
		Layer: d.layer(), Hub: d.hub, StateDir: d.layers.dir,
		Policy: writeback.Policy{Manual: true, NoGuard: true, CommitAfter: time.Hour, CommitMaxWait: time.Hour},
		Hooks:  writeback.Hooks{Landed: d.tree.Landed},
	})
	if err != nil {
		d.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- q.Run(ctx) }()
	d.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			d.t.Error("queue:", err)
		}
	})
	return q
}

func (d *desk) dir(path string) *Dir {
	d.t.Helper()
	if path == "" {
		return d.root
	}
	dir, ok := at(d.t, d.root, path).(*Dir)
	if !ok {
		d.t.Fatalf("%s is no directory", path)
	}
	return dir
}

func (d *desk) parent(path string) (*Dir, string) {
	d.t.Helper()
	dir, name := split(path)
	return d.dir(dir), name
}

// open makes or opens a file as open(2) does.
func (d *desk) open(path string, o OpenFlags, create bool) (*File, *Handle, error) {
	p, name := d.parent(path)
	n, err := p.Lookup(context.Background(), name)
	if err != nil && create {
		return p.Create(context.Background(), name, 0o644, o)
	}
	if err != nil {
		return nil, nil, err
	}
	f, ok := n.(*File)
	if !ok {
		return nil, nil, ErrIsDir
	}
	h, err := f.OpenWith(context.Background(), o)
	return f, h, err
}

// write makes a file hold content, as a shell's > does.
func (d *desk) write(path, content string) *File {
	d.t.Helper()
	f, h, err := d.open(path, OpenFlags{Write: true, Trunc: true}, true)
	if err != nil {
		d.t.Fatalf("open %s: %v", path, err)
	}
	if _, err := h.WriteAt(context.Background(), []byte(content), 0); err != nil {
		d.t.Fatalf("write %s: %v", path, err)
	}
	closeHandle(d.t, h)
	return f
}

func closeHandle(t testing.TB, h *Handle) {
	t.Helper()
	if err := h.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
}

func (d *desk) rename(from, to string, flags RenameFlags) error {
	a, name := d.parent(from)
	b, newName := d.parent(to)
	return a.Rename(context.Background(), name, b, newName, flags)
}

func (d *desk) unlink(path string) error {
	p, name := d.parent(path)
	return p.Unlink(context.Background(), name)
}

func (d *desk) mkdir(path string) *Dir {
	d.t.Helper()
	p, name := d.parent(path)
	made, err := p.Mkdir(context.Background(), name, 0o755)
	if err != nil {
		d.t.Fatalf("mkdir %s: %v", path, err)
	}
	return made
}

// tree is all that a directory shows: files with content, directories with a
// final slash, links with an arrow. It checks that numbers are of one thing.
func (d *desk) all() map[string]string {
	d.t.Helper()
	out := make(map[string]string)
	inos := make(map[uint64]string)
	d.walk(d.root, "", out, inos)
	return out
}

func (d *desk) walk(dir *Dir, path string, out map[string]string, inos map[uint64]string) {
	d.t.Helper()
	for _, name := range names(d.t, dir) {
		p := join(path, name)
		n := at(d.t, dir, name)
		if old, ok := inos[n.Ino()]; ok {
			d.t.Errorf("%s and %s have one number", old, p)
		}
		inos[n.Ino()] = p
		switch n := n.(type) {
		case *Dir:
			out[p+"/"] = ""
			d.walk(n, p, out, inos)
		case *File:
			out[p] = content(d.t, n)
			if a, err := n.Attr(context.Background()); err != nil || a.Size != int64(len(out[p])) {
				d.t.Errorf("%s: size %d of %d, %v", p, a.Size, len(out[p]), err)
			}
		case *Symlink:
			out[p] = "-> " + n.Target()
		}
	}
}

// shows fails unless the mount shows exactly these files, and the directories
// that they are in.
func (d *desk) shows(files map[string]string, emptyDirs ...string) {
	d.t.Helper()
	want := maps.Clone(files)
	for p := range files {
		for dir, _ := split(p); dir != ""; dir, _ = split(dir) {
			want[dir+"/"] = ""
		}
	}
	for _, p := range emptyDirs {
		for ; p != ""; p, _ = split(p) {
			want[p+"/"] = ""
		}
	}
	if got := d.all(); !maps.Equal(got, want) {
		d.t.Errorf("shown, but not wanted: %s\nwanted, but not shown: %s", minus(got, want), minus(want, got))
	}
}

func minus(a, b map[string]string) string {
	var out []string
	for _, p := range slices.Sorted(maps.Keys(a)) {
		if s, ok := b[p]; !ok || s != a[p] {
			out = append(out, fmt.Sprintf("%s=%.40q", p, a[p]))
		}
	}
	return strings.Join(out, " ")
}
