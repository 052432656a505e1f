package node

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"hfmount/fs"
	"hfmount/remote/hub"
	"hfmount/writeback"
	"hfmount/writeback/staging"
)

// commitFiles makes a commit on top of the head.
func (s *source) commitFiles(change func(files map[string][]byte) error) (hub.CommitID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	files := maps.Clone(s.files)
	if err := change(files); err != nil {
		return "", err
	}
	s.commit++
	s.files = files
	return hub.CommitID(fmt.Sprintf("%040x", s.commit+1)), nil
}

// testHub is the writing half of a source. While it is held, uploads go
// through and commits wait.
type testHub struct {
	s       *source
	waiting atomic.Int64 // commits

	mu      sync.Mutex
	held    chan struct{}     // closed when not held; guarded by mu
	objects map[string][]byte // by SHA-256; guarded by mu
	log     []hub.LogEntry    // newest first; guarded by mu
}

var _ writeback.Hub = (*testHub)(nil)

func newTestHub(s *source) *testHub {
	h := &testHub{s: s, held: make(chan struct{}), objects: make(map[string][]byte)}
	close(h.held)
	return h
}

func (h *testHub) hold() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held = make(chan struct{})
}

func (h *testHub) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case <-h.held:
	default:
		close(h.held)
	}
}

func (h *testHub) Resolve(ctx context.Context, ref hub.Ref) (hub.Snapshot, error) {
	return h.s.Resolve(ctx, ref)
}

func (h *testHub) Paths(_ context.Context, _ hub.Snapshot, paths []string) ([]hub.Entry, error) {
	_, files := h.s.state()
	var found []hub.Entry
	for _, p := range paths {
		if data, ok := files[p]; ok {
			found = append(found, fileEntry(p, data))
		} else if below := entries(files, p, false); len(below) > 0 {
			found = append(found, hub.Entry{Path: p, Type: hub.Directory, OID: treeOID(files, p)})
		}
	}
	return found, nil
}

func (h *testHub) ListAll(_ context.Context, _ hub.Snapshot, dir string) ([]hub.Entry, error) {
	_, files := h.s.state()
	return entries(files, dir, true), nil
}

func (h *testHub) ReadAll(_ context.Context, _ hub.Snapshot, e hub.Entry, _ int64) ([]byte, error) {
	_, files := h.s.state()
	return files[e.Path], nil
}

func (h *testHub) MayWrite(context.Context, hub.Repo) error { return nil }

func (h *testHub) PullRequests(context.Context, hub.Repo) ([]hub.Proposal, error) { return nil, nil }

func (h *testHub) Preupload(_ context.Context, _ hub.Ref, p hub.Preupload) ([]hub.UploadMode, error) {
	_, files := h.s.state()
	modes := make([]hub.UploadMode, len(p.Files))
	for i, f := range p.Files {
		lfs := hashEntry(f.Path, nil).LFS()
		modes[i].LFS = lfs && f.Size > 0
		if data, ok := files[f.Path]; ok {
			e := fileEntry(f.Path, data)
			modes[i].OID = cmp.Or(e.SHA256, e.OID)
		}
	}
	return modes, nil
}

func (h *testHub) Upload(_ context.Context, _ hub.Ref, o hub.Object) error {
	data, err := io.ReadAll(io.NewSectionReader(o.Data, 0, o.Size))
	if err != nil {
		return err
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != o.SHA256 {
		return fmt.Errorf("%d bytes are not %s", len(data), o.SHA256)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.objects[o.SHA256] = data
	return nil
}

func (h *testHub) CheckCard(context.Context, hub.RepoType, []byte) error { return nil }

func (h *testHub) Commit(ctx context.Context, _ hub.Ref, c hub.Commit) (hub.Committed, error) {
	h.mu.Lock()
	held := h.held
	h.mu.Unlock()
	h.waiting.Add(1)
	defer h.waiting.Add(-1)
	select {
	case <-held:
	case <-ctx.Done():
		return hub.Committed{}, ctx.Err()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if head, _ := h.s.state(); c.Parent != head {
		return hub.Committed{}, hub.ErrConflict
	}
	id, err := h.s.commitFiles(func(files map[string][]byte) error {
		for _, op := range c.Ops {
			if err := h.apply(files, op); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return hub.Committed{}, err
	}
	h.log = append([]hub.LogEntry{{ID: id, Title: c.Summary, Description: c.Description, Time: time.Now()}}, h.log...)
	return hub.Committed{ID: id, URL: h.CommitURL(testRepo, id)}, nil
}

// apply is called with h.mu held.
func (h *testHub) apply(files map[string][]byte, op hub.Op) error {
	switch op.Kind {
	case hub.OpFile:
		r, err := op.Data()
		if err != nil {
			return err
		}
		defer r.Close()
		files[op.Path], err = io.ReadAll(r)
		return err
	case hub.OpLFS:
		data, ok := h.objects[op.SHA256]
		for name, have := range files {
			if ok {
				break
			}
			if fileEntry(name, have).SHA256 == op.SHA256 {
				data, ok = have, true // moved
			}
		}
		if !ok {
			return &hub.RefusedError{Message: "no such object", Paths: []string{op.Path}}
		}
		files[op.Path] = data
	case hub.OpDelete:
		if _, ok := files[op.Path]; !ok {
			return fmt.Errorf("%s: %w", op.Path, hub.ErrEntryNotFound)
		}
		delete(files, op.Path)
	case hub.OpDeleteFolder:
		maps.DeleteFunc(files, func(p string, _ []byte) bool { return strings.HasPrefix(p, op.Path+"/") })
	}
	return nil
}

func (h *testHub) Log(context.Context, hub.Ref, int) ([]hub.LogEntry, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.log, nil
}

func (h *testHub) CreateBranch(context.Context, hub.Repo, string, hub.CommitID) error {
	return errors.ErrUnsupported
}

func (h *testHub) CreateRepo(context.Context, hub.Repo, bool) error { return errors.ErrUnsupported }

func (h *testHub) OpenPullRequest(context.Context, hub.Repo, string, string) (hub.Proposal, error) {
	return hub.Proposal{}, errors.ErrUnsupported
}

func (h *testHub) PullRequest(context.Context, hub.Repo, int) (hub.Proposal, error) {
	return hub.Proposal{}, errors.ErrUnsupported
}

func (h *testHub) SuperSquash(context.Context, hub.Ref, string) (hub.CommitID, error) {
	return "", errors.ErrUnsupported
}

func (h *testHub) CommitURL(_ hub.Repo, id hub.CommitID) string {
	return "https://hub.test/" + path.Join("acme/tiny/commit", string(id))
}

// testLayers gives the test repository its local changes. Commits are made
// when a test asks for one.
type testLayers struct {
	layer *writeback.Layer
	queue *writeback.Queue
	hub   *testHub
	tree  *fs.Tree // set before anything is mounted

	stop    context.CancelFunc
	running sync.WaitGroup
	result  chan string // of the commit under way
}

func openTestLayers(stateDir string, src *source, maxStaging int64) (*testLayers, error) {
	l := &testLayers{hub: newTestHub(src), result: make(chan string, 1)}
	ref := hub.Ref{Repo: testRepo}
	ref.Revision = ref.Rev()
	var err error
	l.layer, err = writeback.OpenLayer(writeback.LayerOptions{
		StateDir: stateDir,
		Key:      writeback.Key{Endpoint: "https://hub.test", Account: "me", Ref: ref},
		Content: func(ctx context.Context, p writeback.Place) (staging.Source, error) {
			return l.tree.Content(ctx, p)
		},
		LocalOnly:  func(string) string { return "" },
		MaxStaging: maxStaging,
	})
	if err != nil {
		return nil, err
	}
	l.queue, err = writeback.NewQueue(writeback.QueueOptions{
		Layer: l.layer, Hub: l.hub, StateDir: stateDir,
		Policy: writeback.Policy{Manual: true, CommitAfter: time.Hour, CommitMaxWait: time.Hour, NoGuard: true},
		Hooks:  writeback.Hooks{Landed: func(ctx context.Context, x writeback.Landing) error { return l.tree.Landed(ctx, x) }},
	})
	if err != nil {
		return nil, errors.Join(err, l.layer.Close())
	}
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	l.running.Go(func() { l.queue.Run(ctx) })
	return l, nil
}

func (l *testLayers) close() error {
	l.hub.release()
	l.stop()
	l.running.Wait()
	return l.layer.Close()
}

// commit sends what is pending and says "ok", or what is left.
func (l *testLayers) commit() string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := l.queue.Commit(ctx, writeback.CommitRequest{Message: "a test", Yes: true})
	if err != nil {
		return err.Error()
	}
	if len(out.Left) > 0 {
		var left bytes.Buffer
		for _, c := range out.Left {
			fmt.Fprintf(&left, "%s is %s (%s) ", c.Path, c.State, c.Reason)
		}
		return left.String()
	}
	return "ok"
}

func (l *testLayers) MayWrite(hub.Ref) bool { return true }
func (l *testLayers) MayCreate() bool       { return true }

func (l *testLayers) Layer(context.Context, hub.Ref, bool) (*writeback.Layer, error) {
	return l.layer, nil
}

func (l *testLayers) CreateRepo(context.Context, hub.Repo) error { return fs.ErrReadOnly }
