package writeback

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hfmount/remote/hub"
	"hfmount/writeback/staging"
)

// rig is a mount without a kernel: a layer, its queue, and a view that moves
// when the queue says so. Times are those of the bubble it runs in.
type rig struct {
	t     *testing.T
	h     *fakeHub
	dir   string
	l     *Layer
	q     *Queue
	p     Policy
	pub   bool
	local func(string) string
	to    string // the branch, main if it is ""
	now   func() time.Time

	mu     sync.Mutex
	view   hub.CommitID
	events []Event
	landed []Landing
	fail   error // of the hook

	stop context.CancelFunc
	done chan error
}

func newRig(t *testing.T, h *fakeHub, p Policy) *rig {
	r := &rig{t: t, h: h, dir: t.TempDir(), p: p}
	r.start()
	t.Cleanup(r.close)
	return r
}

func (r *rig) key() Key {
	return Key{Endpoint: "https://hub", Account: "ada", Ref: hub.Ref{Repo: fakeRepo, Revision: r.branch()}}
}

func (r *rig) branch() string { return cmp.Or(r.to, "main") }

func (r *rig) start() {
	r.t.Helper()
	l, err := OpenLayer(LayerOptions{
		StateDir: r.dir, Key: r.key(), LocalOnly: r.local, Now: r.now,
		Content: func(ctx context.Context, p Place) (staging.Source, error) {
			data, err := r.h.ReadAll(ctx, p.Snapshot, p.Entry, 1<<30)
			return source(data), err
		},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.l = l
	r.q, err = NewQueue(QueueOptions{Layer: l, Hub: r.h, Policy: r.p, StateDir: r.dir, Public: r.pub, Now: r.now, Hooks: Hooks{Landed: r.land, Event: r.event}})
	if err != nil {
		r.t.Fatal(err)
	}
	r.h.mu.Lock()
	r.view = r.h.branches[r.branch()]
	r.h.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	r.stop, r.done = cancel, done
	q := r.q
	go func() { done <- q.Run(ctx) }()
}

// crash is the death of the process: nothing is closed in order.
func (r *rig) halt() {
	if r.stop == nil {
		return
	}
	r.stop()
	if err := <-r.done; err != nil {
		r.t.Error(err)
	}
	r.stop = nil
	if err := r.l.Close(); err != nil {
		r.t.Error(err)
	}
}

func (r *rig) close() { r.halt() }

func (r *rig) restart() {
	r.halt()
	r.start()
}

type source []byte

func (s source) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	return strings.NewReader(string(s)).ReadAt(p, off)
}
func (s source) Close() error { return nil }

func (r *rig) land(ctx context.Context, l Landing) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail != nil {
		return r.fail
	}
	r.landed = append(r.landed, l)
	if l.Ref.Rev() == r.branch() {
		r.view = l.Commit.ID
	}
	return nil
}

func (r *rig) event(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

func (r *rig) kinds() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, e := range r.events {
		out = append(out, e.Kind)
	}
	return out
}

// refresh moves the view to the head, as the mount does now and then.
func (r *rig) refresh() {
	r.h.mu.Lock()
	head := r.h.branches[r.branch()]
	r.h.mu.Unlock()
	r.mu.Lock()
	r.view = head
	r.mu.Unlock()
}

func (r *rig) base(p string) Base {
	r.mu.Lock()
	view := r.view
	r.mu.Unlock()
	r.h.mu.Lock()
	defer r.h.mu.Unlock()
	b := Base{Commit: view}
	if e, ok := r.h.commits[view].files[p]; ok {
		b.Entry = &e
	}
	return b
}

// open makes a new file at p and opens it for writing.
func (r *rig) open(p string, appendOnly bool) *Handle {
	r.t.Helper()
	f, err := r.l.NewFile(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	h, err := f.Open(OpenFile{Write: true, Append: appendOnly, PID: 42})
	if err != nil {
		r.t.Fatal(err)
	}
	r.apply(Edit{Path: p, Kind: Put, File: f, Base: r.base(p)})
	return h
}

func (r *rig) apply(edits ...Edit) {
	r.t.Helper()
	if err := r.l.Apply(0, edits...); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) append(h *Handle, s string) {
	r.t.Helper()
	if _, err := h.WriteAt(context.Background(), []byte(s), -1); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) shut(h *Handle) {
	r.t.Helper()
	if err := h.Flush(); err != nil {
		r.t.Fatal(err)
	}
	if err := h.Release(); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) write(p, s string) {
	r.t.Helper()
	h := r.open(p, false)
	r.append(h, s)
	r.shut(h)
}

func (r *rig) remove(p string) {
	r.t.Helper()
	if b := r.base(p); b.Entry != nil {
		r.apply(Edit{Path: p, Kind: Delete, Base: b})
	} else {
		r.apply(Edit{Path: p, Forget: true})
	}
}

// rename moves files as fs does: in one Apply.
func (r *rig) rename(dir bool, pairs ...string) {
	r.t.Helper()
	var edits []Edit
	for i := 0; i < len(pairs); i += 2 {
		from, to := pairs[i], pairs[i+1]
		e := Edit{Path: to, Kind: Put, Base: r.base(to), Was: from, Moved: dir}
		c, local := r.l.Get(from)
		b := r.base(from)
		if local {
			e.File, e.From = c.File, c.From
		} else {
			e.From = &Place{Snapshot: snapshotAt(r.key().Ref, b.Commit), Entry: *b.Entry}
		}
		edits = append(edits, e)
		if b.Entry != nil {
			edits = append(edits, Edit{Path: from, Kind: Delete, Base: b})
		} else {
			edits = append(edits, Edit{Path: from, Forget: true})
		}
	}
	r.apply(edits...)
}

// commit is an explicit one.
func (r *rig) commit(req CommitRequest) Outcome {
	r.t.Helper()
	out, err := r.q.Commit(context.Background(), req)
	if err != nil {
		r.t.Fatalf("commit: %v", err)
	}
	return out
}

// pending is status as `PATH STATE` lines. It waits, as all looks do, until the
// queue is at rest: one of its ticks may fall on the same moment.
func (r *rig) pending() []string {
	synctest.Wait()
	var out []string
	for _, c := range r.q.Status().Changes {
		out = append(out, c.Path+" "+c.State.String())
	}
	return out
}

func (r *rig) wantPending(want ...string) {
	r.t.Helper()
	if got := r.pending(); !slices.Equal(got, want) {
		r.t.Errorf("pending %q, want %q", got, want)
	}
}

// wantCommits compares the branch's commits: each its changed paths.
func (r *rig) wantCommits(want ...string) {
	synctest.Wait()
	r.t.Helper()
	var got []string
	for _, c := range r.h.history("main") {
		if batchOf(hub.LogEntry{Description: c.about}) != "" {
			got = append(got, strings.Join(c.changed, " "))
		}
	}
	if !slices.Equal(got, want) {
		r.t.Errorf("commits %q, want %q", got, want)
	}
}

func (r *rig) wantText(p, want string) {
	synctest.Wait()
	r.t.Helper()
	if got := r.h.text("main", p); got != want {
		r.t.Errorf("%s is %q on the Hub, want %q", p, got, want)
	}
}

func shard(i, n int) string { return fmt.Sprintf("ckpt/model-%05d-of-%05d.safetensors", i, n) }
