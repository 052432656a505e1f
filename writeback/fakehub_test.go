package writeback

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hfmount/remote/hub"
)

// fakeHub is one repository in memory, as strict as the Hub about parents,
// missing paths and objects that were never uploaded.
type fakeHub struct {
	t testing.TB

	mu       sync.Mutex
	branches map[string]hub.CommitID
	commits  map[hub.CommitID]*fakeCommit
	content  map[string][]byte // by git blob id and by SHA-256
	objects  map[string]bool   // by SHA-256: stored by LFS
	prs      []*hub.Proposal
	faults   []string // of the next commit requests, "" is none
	refused  map[string]string
	ignored  map[string]bool
	noPR     bool
	noWrite  bool
	down     error
	slow     time.Duration // of a commit
	slowPut  time.Duration // of an upload

	squashFault string // of the next squash
	prFault     string // of the next pull request
	asked       map[string]int
	quietly     string        // a path that commits are refused for, without its name
	slowRead    time.Duration // of ReadAll
	descriptors int           // the most that were open during a request

	posts    int
	uploaded []string // paths are not known here: SHA-256
	broken   []string // uploads that were cancelled
	branched []string
	squashes int
}

func (h *fakeHub) countDescriptors() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.countDescriptorsLocked()
}

func (h *fakeHub) countDescriptorsLocked() {
	if open, err := os.ReadDir("/proc/self/fd"); err == nil {
		h.descriptors = max(h.descriptors, len(open))
	}
}

func (h *fakeHub) count(what string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.asked[what]
}

type fakeCommit struct {
	id, parent   hub.CommitID
	title, about string
	time         time.Time
	files        map[string]hub.Entry
	changed      []string
}

var fakeRepo = hub.Repo{Namespace: "ada", Name: "tiny"}

func newFakeHub(t testing.TB, files map[string]string) *fakeHub {
	h := &fakeHub{
		t: t, branches: make(map[string]hub.CommitID), commits: make(map[hub.CommitID]*fakeCommit),
		content: make(map[string][]byte), objects: make(map[string]bool), refused: make(map[string]string), ignored: make(map[string]bool),
		asked: make(map[string]int),
	}
	h.push("main", "initial commit", files)
	return h
}

func newID() hub.CommitID {
	b := make([]byte, 20)
	_, _ = rand.Read(b)
	return hub.CommitID(hex.EncodeToString(b))
}

func isLFS(p string, size int64) bool {
	return size > 0 && (size > inlineBelow || strings.HasSuffix(p, ".safetensors") || strings.HasSuffix(p, ".bin"))
}

func (h *fakeHub) entry(p string, data []byte) hub.Entry {
	c := contentOfBytes(data)
	lfs := isLFS(p, c.Size)
	h.content[c.Git], h.content[c.SHA256] = data, data
	if lfs {
		h.objects[c.SHA256] = true
	}
	return *c.entry(p, lfs)
}

// push is somebody else's commit; a content of "-" deletes.
func (h *fakeHub) push(branch, title string, files map[string]string) hub.CommitID {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := &fakeCommit{id: newID(), parent: h.branches[branch], title: title, time: time.Now(), files: make(map[string]hub.Entry)}
	if p := h.commits[c.parent]; p != nil {
		maps.Copy(c.files, p.files)
	}
	for p, s := range files {
		c.changed = append(c.changed, p)
		if s == "-" {
			delete(c.files, p)
			continue
		}
		c.files[p] = h.entry(p, []byte(s))
	}
	h.commits[c.id] = c
	h.branches[branch] = c.id
	return c.id
}

// text is what a branch has at a path, "-" for nothing.
func (h *fakeHub) text(branch, p string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	e, ok := h.commits[h.branches[branch]].files[p]
	if !ok {
		return "-"
	}
	if e.LFS() {
		return string(h.content[e.SHA256])
	}
	return string(h.content[e.OID])
}

// history is a branch's commits after the first, oldest first.
func (h *fakeHub) history(branch string) []*fakeCommit {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []*fakeCommit
	for c := h.commits[h.branches[branch]]; c != nil && c.parent != ""; c = h.commits[c.parent] {
		out = append(out, c)
	}
	slices.Reverse(out)
	return out
}

func (h *fakeHub) snapshot(ref hub.Ref) (hub.Snapshot, *fakeCommit, error) {
	if h.down != nil {
		return hub.Snapshot{}, nil, h.down
	}
	id := hub.CommitID(ref.Revision)
	if !id.Valid() {
		var ok bool
		if id, ok = h.branches[ref.Rev()]; !ok {
			return hub.Snapshot{}, nil, hub.ErrRevisionNotFound
		}
	}
	c := h.commits[id]
	if c == nil {
		return hub.Snapshot{}, nil, hub.ErrRevisionNotFound
	}
	return hub.Snapshot{Ref: ref, Commit: id, Time: c.time}, c, nil
}

func (h *fakeHub) Resolve(ctx context.Context, ref hub.Ref) (hub.Snapshot, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked["resolve"]++
	s, _, err := h.snapshot(ref)
	return s, err
}

func (h *fakeHub) Paths(ctx context.Context, s hub.Snapshot, paths []string) ([]hub.Entry, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(paths) > 500 {
		h.t.Errorf("%d paths in one request", len(paths))
	}
	c := h.commits[s.Commit]
	if c == nil {
		return nil, hub.ErrRevisionNotFound
	}
	var out []hub.Entry
	for _, p := range paths {
		if e, ok := c.files[p]; ok {
			out = append(out, e)
			continue
		}
		for f := range c.files {
			if strings.HasPrefix(f, p+"/") {
				out = append(out, hub.Entry{Path: p, Type: hub.Directory, OID: contentOfBytes([]byte(p)).Git})
				break
			}
		}
	}
	return out, nil
}

func (h *fakeHub) ListAll(ctx context.Context, s hub.Snapshot, dir string) ([]hub.Entry, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []hub.Entry
	for p, e := range h.commits[s.Commit].files {
		if dir == "" || strings.HasPrefix(p, dir+"/") {
			out = append(out, e)
		}
	}
	return out, nil
}

func (h *fakeHub) ReadAll(ctx context.Context, s hub.Snapshot, e hub.Entry, limit int64) ([]byte, error) {
	h.mu.Lock()
	slow := h.slowRead
	h.mu.Unlock()
	if slow > 0 {
		time.Sleep(slow)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if e.Size > limit {
		return nil, fmt.Errorf("%s is too large", e.Path)
	}
	data, ok := h.content[e.OID]
	if e.LFS() {
		data, ok = h.content[e.SHA256]
	}
	if !ok {
		return nil, hub.ErrEntryNotFound
	}
	return data, nil
}

func (h *fakeHub) MayWrite(ctx context.Context, repo hub.Repo) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.noWrite {
		return hub.ErrForbidden
	}
	return nil
}

func (h *fakeHub) Preupload(ctx context.Context, ref hub.Ref, p hub.Preupload) ([]hub.UploadMode, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked["preupload"]++
	h.countDescriptorsLocked()
	if len(p.Files) > 256 {
		h.t.Errorf("%d files in one preupload", len(p.Files))
	}
	if _, _, err := h.snapshot(ref); err != nil {
		return nil, err
	}
	var out []hub.UploadMode
	for _, f := range p.Files {
		if len(f.Head) > 512 {
			h.t.Errorf("a sample of %d bytes", len(f.Head))
		}
		if strings.Contains(f.Path, `\`) {
			return nil, &hub.RefusedError{Message: "invalid path"}
		}
		out = append(out, hub.UploadMode{LFS: isLFS(f.Path, f.Size), Ignore: p.Ignore == nil && h.ignored[f.Path]})
	}
	return out, nil
}

func (h *fakeHub) Upload(ctx context.Context, ref hub.Ref, o hub.Object) error {
	h.mu.Lock()
	slow := h.slowPut
	stored := h.objects[o.SHA256]
	h.mu.Unlock()
	if stored {
		return nil
	}
	if slow > 0 {
		select {
		case <-time.After(slow):
		case <-ctx.Done():
			h.mu.Lock()
			h.broken = append(h.broken, o.SHA256)
			h.mu.Unlock()
			return ctx.Err()
		}
	}
	data, err := io.ReadAll(io.NewSectionReader(o.Data, 0, o.Size))
	if err != nil {
		return err
	}
	c := contentOfBytes(data)
	if c.SHA256 != o.SHA256 || c.Size != o.Size {
		h.t.Errorf("an upload of %s has other bytes", o.SHA256)
	}
	if o.Progress != nil {
		o.Progress(o.Size)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.content[c.SHA256], h.content[c.Git] = data, data
	h.objects[c.SHA256] = true
	h.uploaded = append(h.uploaded, c.SHA256)
	return nil
}

func (h *fakeHub) CheckCard(ctx context.Context, t hub.RepoType, readme []byte) error {
	if bytes.Contains(readme, []byte("bad: [")) {
		return &hub.RefusedError{Message: "the front matter is no YAML", Paths: []string{"README.md"}}
	}
	return nil
}

func (h *fakeHub) Commit(ctx context.Context, ref hub.Ref, c hub.Commit) (hub.Committed, error) {
	h.mu.Lock()
	h.posts++
	defer h.countDescriptors()
	for i, op := range c.Ops { // the request's body, as it is sent now
		if op.Data == nil {
			continue
		}
		r, err := op.Data()
		if err != nil {
			h.mu.Unlock()
			return hub.Committed{}, err
		}
		data, err := io.ReadAll(r)
		if err == nil {
			err = r.Close()
		}
		if err != nil {
			h.mu.Unlock()
			return hub.Committed{}, err
		}
		c.Ops[i].Data = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
	}
	fault := ""
	if len(h.faults) > 0 {
		fault, h.faults = h.faults[0], h.faults[1:]
	}
	slow := h.slow
	h.mu.Unlock()
	if slow > 0 {
		if err := sleep(ctx, slow); err != nil {
			return hub.Committed{}, errors.Join(hub.ErrUncertain, err)
		}
	}
	switch {
	case fault == "precondition":
		return hub.Committed{}, hub.ErrConflict
	case fault == "busy":
		return hub.Committed{}, hub.ErrBusy
	case fault == "limited":
		return hub.Committed{}, &hub.LimitedError{After: 90 * time.Second}
	case fault == "unavailable":
		return hub.Committed{}, hub.ErrUnavailable
	case fault == "lost":
		return hub.Committed{}, hub.ErrUncertain
	case fault == "late", fault == "very late":
		after := 40 * time.Second
		if fault == "very late" {
			after = 5 * time.Minute
		}
		go func() {
			time.Sleep(after)
			_, _ = h.apply(ref, c)
		}()
		return hub.Committed{}, hub.ErrUncertain
	case strings.HasPrefix(fault, "push:"):
		h.push(ref.Rev(), "theirs", map[string]string{fault[len("push:"):]: "theirs"})
	}
	done, err := h.apply(ref, c)
	if err == nil {
		switch {
		case fault == "apply-500":
			return hub.Committed{}, hub.ErrUncertain
		case fault == "apply-down":
			h.set(func() { h.down = hub.ErrUnavailable })
			return hub.Committed{}, hub.ErrUncertain
		case fault == "apply-500-push":
			h.push(ref.Rev(), "theirs", map[string]string{"theirs.txt": "theirs"})
			return hub.Committed{}, hub.ErrUncertain
		}
	}
	return done, err
}

func (h *fakeHub) apply(ref hub.Ref, c hub.Commit) (hub.Committed, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, head, err := h.snapshot(ref)
	if err != nil {
		return hub.Committed{}, err
	}
	if h.noWrite && !strings.HasPrefix(ref.Rev(), "refs/pr/") && !c.PullRequest || c.PullRequest && h.noPR {
		return hub.Committed{}, hub.ErrForbidden
	}
	if c.Summary == "" || c.Parent == "" {
		h.t.Errorf("a commit with summary %q, parent %q", c.Summary, c.Parent)
	}
	if c.PullRequest {
		if head = h.commits[c.Parent]; head == nil || strings.HasPrefix(ref.Rev(), "refs/") {
			return hub.Committed{}, hub.ErrRevisionNotFound
		}
	}
	if c.Parent != head.id {
		return hub.Committed{}, hub.ErrConflict
	}
	if len(c.Ops) == 0 {
		h.t.Error("an empty commit")
	}
	next := &fakeCommit{id: newID(), parent: head.id, title: c.Summary, about: c.Description, time: time.Now(), files: maps.Clone(head.files)}
	seen := make(map[string]bool)
	for _, op := range c.Ops {
		if seen[op.Path] {
			h.t.Errorf("%s twice in one commit", op.Path)
		}
		seen[op.Path] = true
		next.changed = append(next.changed, op.Path)
		if h.quietly != "" && op.Path == h.quietly {
			return hub.Committed{}, &hub.RefusedError{Message: "something is wrong"}
		}
		if why := h.refused[op.Path]; why != "" {
			return hub.Committed{}, &hub.RefusedError{Message: why, Paths: []string{op.Path}}
		}
		switch op.Kind {
		case hub.OpDelete:
			if _, ok := head.files[op.Path]; !ok {
				h.t.Errorf("a delete of %s, which is not there", op.Path)
				return hub.Committed{}, hub.ErrEntryNotFound
			}
			if !seenPut(c.Ops, op.Path) {
				delete(next.files, op.Path)
			}
		case hub.OpLFS:
			if !h.objects[op.SHA256] {
				return hub.Committed{}, &hub.RefusedError{Message: "the object is not stored", Paths: []string{op.Path}}
			}
			next.files[op.Path] = *content{Size: op.Size, SHA256: op.SHA256}.entry(op.Path, true)
		case hub.OpFile:
			r, err := op.Data()
			if err != nil {
				return hub.Committed{}, err
			}
			data, err := io.ReadAll(r)
			_ = r.Close()
			if err != nil || int64(len(data)) != op.Size {
				h.t.Errorf("%s: %d bytes, %v, want %d", op.Path, len(data), err, op.Size)
			}
			if len(data) > inlineBelow {
				return hub.Committed{}, &hub.RefusedError{Message: "larger than 10 MiB", Paths: []string{op.Path}}
			}
			k := contentOfBytes(data)
			h.content[k.Git], h.content[k.SHA256] = data, data
			next.files[op.Path] = *k.entry(op.Path, false)
		}
	}
	for p := range next.files {
		for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
			if _, ok := next.files[dir]; ok {
				h.t.Errorf("%s is a file and a directory", dir)
			}
		}
	}
	slices.Sort(next.changed)
	h.commits[next.id] = next
	done := hub.Committed{ID: next.id, URL: h.CommitURL(ref.Repo, next.id)}
	if c.PullRequest {
		p := h.newPR(c.Summary, c.Description)
		done.PullRequest = &p
		ref.Revision = p.Ref()
	}
	h.branches[ref.Rev()] = next.id
	return done, nil
}

// newPR is called with h.mu.
func (h *fakeHub) newPR(title, description string) hub.Proposal {
	n := len(h.prs) + 1
	p := &hub.Proposal{Num: n, URL: fmt.Sprintf("https://hub/ada/tiny/discussions/%d", n), Open: true, Title: title, Description: description}
	h.prs = append(h.prs, p)
	return *p
}

func seenPut(ops []hub.Op, p string) bool {
	return slices.ContainsFunc(ops, func(o hub.Op) bool { return o.Path == p && o.Kind != hub.OpDelete })
}

func (h *fakeHub) Log(ctx context.Context, ref hub.Ref, limit int) ([]hub.LogEntry, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked["log"]++
	_, c, err := h.snapshot(ref)
	if err != nil {
		return nil, err
	}
	var out []hub.LogEntry
	for ; c != nil && len(out) < limit; c = h.commits[c.parent] {
		out = append(out, hub.LogEntry{ID: c.id, Title: c.title, Description: c.about, Time: c.time})
	}
	return out, nil
}

func (h *fakeHub) CreateBranch(ctx context.Context, repo hub.Repo, branch string, at hub.CommitID) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.branches[branch]; ok {
		return hub.ErrExists
	}
	if h.commits[at] == nil {
		return hub.ErrRevisionNotFound
	}
	h.branches[branch] = at
	h.branched = append(h.branched, branch)
	return nil
}

func (h *fakeHub) CreateRepo(ctx context.Context, repo hub.Repo, private bool) error {
	return hub.ErrExists
}

func (h *fakeHub) OpenPullRequest(ctx context.Context, repo hub.Repo, title, description string) (hub.Proposal, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.noPR {
		return hub.Proposal{}, hub.ErrForbidden
	}
	if len(title) < 3 || len(title) > 200 {
		h.t.Errorf("a pull request's title of %d bytes", len(title))
	}
	fault := h.prFault
	h.prFault = ""
	if fault == "lost" {
		return hub.Proposal{}, hub.ErrUncertain
	}
	p := h.newPR(title, description)
	h.branches[p.Ref()] = h.branches["main"]
	if fault == "apply-500" {
		return hub.Proposal{}, hub.ErrUncertain
	}
	return p, nil
}

func (h *fakeHub) PullRequests(ctx context.Context, repo hub.Repo) ([]hub.Proposal, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []hub.Proposal
	for _, p := range h.prs {
		q := *p
		q.Description = ""
		out = append(out, q)
	}
	slices.Reverse(out)
	return out, nil
}

func (h *fakeHub) PullRequest(ctx context.Context, repo hub.Repo, num int) (hub.Proposal, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return *h.prs[num-1], nil
}

func (h *fakeHub) SuperSquash(ctx context.Context, ref hub.Ref, message string) (hub.CommitID, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, head, err := h.snapshot(ref)
	if err != nil {
		return "", err
	}
	fault := h.squashFault
	h.squashFault = ""
	if fault == "lost" {
		return "", hub.ErrUncertain
	}
	title, about, _ := strings.Cut(message, "\n")
	c := &fakeCommit{id: newID(), title: title, about: about, time: time.Now(), files: head.files}
	h.commits[c.id] = c
	h.branches[ref.Rev()] = c.id
	h.squashes++
	if fault == "apply-500" {
		return "", hub.ErrUncertain
	}
	return c.id, nil
}

func (h *fakeHub) CommitURL(repo hub.Repo, id hub.CommitID) string {
	return "https://hub/" + repo.ID() + "/commit/" + string(id)
}

// fakeSeen is what a fakeHub was asked for so far.
type fakeSeen struct {
	posts, squashes            int
	uploaded, broken, branched []string
	prs                        []hub.Proposal
}

func (h *fakeHub) seen() fakeSeen {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := fakeSeen{posts: h.posts, squashes: h.squashes, uploaded: slices.Clone(h.uploaded), broken: slices.Clone(h.broken), branched: slices.Clone(h.branched)}
	for _, p := range h.prs {
		s.prs = append(s.prs, *p)
	}
	return s
}

func (h *fakeHub) set(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
}
