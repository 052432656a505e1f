package writeback_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hfmount/remote"
	"hfmount/remote/hub"
	"hfmount/remote/hubtest"
	"hfmount/writeback"
)

var tiny = hub.Repo{Namespace: "ada", Name: "tiny"}

// stand is a queue over the emulated Hub, through the real client.
type stand struct {
	t *testing.T
	h *hubtest.Hub
	c *remote.Client
	l *writeback.Layer
	q *writeback.Queue

	mu   sync.Mutex
	view hub.Snapshot
}

func newStand(t *testing.T, token remote.Token, p writeback.Policy, files map[string][]byte) *stand {
	t.Helper()
	return newStandOn(t, "main", token, p, files)
}

// newStandOn is newStand of a mount of another branch, which begins as main
// does.
func newStandOn(t *testing.T, branch string, token remote.Token, p writeback.Policy, files map[string][]byte) *stand {
	t.Helper()
	h, err := hubtest.New(hubtest.Options{
		Users:  []hubtest.User{{Name: "ada", Token: "hf_ada"}, {Name: "bob", Token: "hf_bob"}},
		Shapes: hubtest.Shapes{MultipartThreshold: 3_000_000, PartSize: 1_000_000},
	})
	s := &stand{t: t, h: h}
	s.must(err)
	t.Cleanup(func() { _ = h.Close() })
	s.must(h.CreateRepo(tiny, hubtest.RepoOptions{}))
	if files != nil {
		_, err = h.Commit(tiny, "main", "files", files)
		s.must(err)
	}
	s.c, err = remote.New(remote.Options{Endpoint: "http://hub.test", Tokens: remote.StaticToken(token), Transport: h.RoundTripper()})
	s.must(err)
	t.Cleanup(func() { _ = s.c.Close() })
	ref := hub.Ref{Repo: tiny, Revision: branch}
	if branch != "main" {
		owner, err := remote.New(remote.Options{Endpoint: "http://hub.test", Tokens: remote.StaticToken("hf_ada"), Transport: h.RoundTripper()})
		s.must(err)
		s.must(owner.CreateBranch(t.Context(), tiny, branch, ""))
		s.must(owner.Close())
	}
	s.view, err = s.c.Resolve(t.Context(), ref)
	s.must(err)
	dir := t.TempDir()
	s.l, err = writeback.OpenLayer(writeback.LayerOptions{StateDir: dir, Key: writeback.Key{Endpoint: "http://hub.test", Account: string(token), Ref: ref}})
	s.must(err)
	s.q, err = writeback.NewQueue(writeback.QueueOptions{
		Layer: s.l, Hub: s.c, Policy: p, StateDir: dir,
		Hooks: writeback.Hooks{Landed: func(ctx context.Context, l writeback.Landing) error {
			if l.Ref.Rev() != branch {
				return nil
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			s.view.Commit = l.Commit.ID
			return nil
		}},
	})
	s.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.q.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		s.must(<-done)
		s.must(s.l.Close())
	})
	return s
}

func (s *stand) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *stand) base(p string) writeback.Base {
	s.t.Helper()
	s.mu.Lock()
	view := s.view
	s.mu.Unlock()
	entries, err := s.c.Paths(context.Background(), view, []string{p})
	s.must(err)
	b := writeback.Base{Commit: view.Commit}
	if len(entries) == 1 {
		b.Entry = &entries[0]
	}
	return b
}

func (s *stand) write(p string, data []byte) {
	s.t.Helper()
	f, err := s.l.NewFile(context.Background())
	s.must(err)
	h, err := f.Open(writeback.OpenFile{Write: true})
	s.must(err)
	s.must(s.l.Apply(0, writeback.Edit{Path: p, Kind: writeback.Put, File: f, Base: s.base(p)}))
	_, err = h.WriteAt(context.Background(), data, 0)
	s.must(err)
	s.must(h.Flush())
	s.must(h.Release())
}

func (s *stand) rename(from, to string) {
	s.t.Helper()
	b := s.base(from)
	s.must(s.l.Apply(0,
		writeback.Edit{Path: to, Kind: writeback.Put, From: &writeback.Place{Snapshot: s.view, Entry: *b.Entry}, Was: from, Base: s.base(to)},
		writeback.Edit{Path: from, Kind: writeback.Delete, Base: b}))
}

func (s *stand) remove(p string) {
	s.t.Helper()
	s.must(s.l.Apply(0, writeback.Edit{Path: p, Kind: writeback.Delete, Base: s.base(p)}))
}

// tree is every file of a revision with its bytes.
func (s *stand) tree(rev string) map[string]string {
	s.t.Helper()
	snap, err := s.c.Resolve(context.Background(), hub.Ref{Repo: tiny, Revision: rev})
	s.must(err)
	entries, err := s.c.ListAll(context.Background(), snap, "")
	s.must(err)
	out := make(map[string]string)
	for _, e := range entries {
		if e.Type == hub.File && e.Path != ".gitattributes" {
			data, err := s.c.ReadAll(context.Background(), snap, e, 100<<20)
			s.must(err)
			out[e.Path] = string(data)
		}
	}
	return out
}

// titles is the branch's commits after the first, oldest first.
func (s *stand) titles() []string {
	s.t.Helper()
	entries, err := s.c.Log(context.Background(), hub.Ref{Repo: tiny, Revision: "main"}, 100)
	s.must(err)
	var out []string
	for _, e := range entries {
		if e.Title != "initial commit" {
			out = append(out, e.Title)
		}
	}
	slices.Reverse(out)
	return out
}

func (s *stand) wantSettled() {
	s.t.Helper()
	if st := s.q.Status(); len(st.Changes) != 0 {
		s.t.Errorf("pending %+v, last error %+v", st.Changes, st.LastError)
	}
}

func TestEmulator(t *testing.T) {
	weights := bytes.Repeat([]byte("weights!"), 500_000) // 4 MB: multipart, in parts of 1 MB
	for _, fault := range []string{"", "conflict", "apply-then-500", "apply-late"} {
		t.Run(fault, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStand(t, "hf_ada", writeback.Policy{}, map[string][]byte{
					"old.safetensors": bytes.Repeat([]byte("old"), 1000), "gone.txt": []byte("x"), "small.txt": []byte("s"),
				})
				if fault != "" {
					s.must(s.h.SetFaults(hubtest.Fault{Fault: fault, Times: 1, MS: 20_000}))
				}
				s.write("ckpt/model.safetensors", weights)
				s.write("ckpt/small.safetensors", []byte("basic"))
				s.write("ckpt/config.json", []byte("{}"))
				s.write("README.md", []byte("---\nlicense: mit\n---\n# Tiny\n"))
				s.write("empty.safetensors", nil)
				s.rename("old.safetensors", "new.safetensors")
				s.rename("small.txt", "renamed.txt")
				s.remove("gone.txt")
				time.Sleep(5 * time.Minute)
				s.wantSettled()
				want := map[string]string{
					"ckpt/model.safetensors": string(weights), "ckpt/small.safetensors": "basic", "ckpt/config.json": "{}",
					"README.md": "---\nlicense: mit\n---\n# Tiny\n", "empty.safetensors": "",
					"new.safetensors": strings.Repeat("old", 1000), "renamed.txt": "s",
				}
				got := s.tree("main")
				if len(got) != len(want) {
					t.Errorf("%d files on the Hub, want %d", len(got), len(want))
				}
				for p, data := range want {
					if got[p] != data {
						t.Errorf("%s has other bytes on the Hub", p)
					}
				}
				ours := 0
				for _, title := range s.titles() {
					if strings.HasSuffix(title, "via hfmount") {
						ours++
					}
				}
				if ours != 1 {
					t.Errorf("commits %q, want one of ours", s.titles())
				}
			})
		})
	}
}

func TestEmulatorConflict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t, "hf_ada", writeback.Policy{}, map[string][]byte{"d/a": []byte("A"), "d/b": []byte("B")})
		s.write("d/a", []byte("ours"))
		s.write("e/free", []byte("free"))
		_, err := s.h.Commit(tiny, "main", "theirs", map[string][]byte{"d/a": []byte("theirs"), "d/b": []byte("more")})
		s.must(err)
		out, err := s.q.Commit(context.Background(), writeback.CommitRequest{})
		s.must(err)
		if out.Proposal == nil || len(out.Left) != 0 {
			t.Fatalf("commit: %+v", out)
		}
		if got := s.tree("main"); got["d/a"] != "theirs" || got["e/free"] != "free" {
			t.Errorf("the branch has %q", got)
		}
		if got := s.tree(out.Proposal.Ref()); got["d/a"] != "ours" || got["d/b"] != "more" {
			t.Errorf("the pull request has %q", got)
		}
		s.write("d/a", []byte("ours again"))
		time.Sleep(time.Minute)
		if got := s.tree(out.Proposal.Ref()); got["d/a"] != "ours again" {
			t.Errorf("the pull request has %q", got)
		}
		for _, c := range s.q.Status().Changes {
			if c.State != writeback.InPR || c.Reason != out.Proposal.URL {
				t.Errorf("%s is %s (%s)", c.Path, c.State, c.Reason)
			}
		}
	})
}

// A conflict on a branch goes into a pull request against that branch.
func TestEmulatorConflictOnABranch(t *testing.T) {
	for _, fault := range []string{"", "apply-then-500", "apply-late"} {
		t.Run(fault, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStandOn(t, "dev", "hf_ada", writeback.Policy{}, map[string][]byte{"d/a": []byte("A")})
				s.write("d/a", []byte("ours"))
				s.write("d/m.safetensors", bytes.Repeat([]byte("m"), 1000))
				_, err := s.h.Commit(tiny, "dev", "theirs", map[string][]byte{"d/a": []byte("theirs"), "dev.txt": []byte("dev")})
				s.must(err)
				if fault != "" {
					s.must(s.h.SetFaults(hubtest.Fault{Fault: fault, Times: 1, MS: 20_000}))
				}
				time.Sleep(5 * time.Minute)
				all, err := s.c.PullRequests(context.Background(), tiny)
				s.must(err)
				st := s.q.Status()
				if len(all) != 1 || st.Proposal == nil || st.Proposal.Num != all[0].Num {
					t.Fatalf("pull requests %+v, status %+v, last error %+v", all, st, st.LastError)
				}
				if got := s.tree(st.Proposal.Ref()); got["d/a"] != "ours" || len(got["d/m.safetensors"]) != 1000 || got["dev.txt"] != "dev" {
					t.Errorf("the pull request has %q", got)
				}
				s.write("d/a", []byte("again"))
				time.Sleep(time.Minute)
				if got := s.tree(st.Proposal.Ref()); got["d/a"] != "again" {
					t.Errorf("the pull request has %q", got)
				}
				if got := s.tree("dev"); got["d/a"] != "theirs" {
					t.Errorf("the branch has %q", got)
				}
			})
		})
	}
}

// An account that may not push to a branch proposes against that branch.
func TestEmulatorCreatePRAgainstABranch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStandOn(t, "dev", "hf_bob", writeback.Policy{CreatePR: true}, map[string][]byte{"a": []byte("A")})
		_, err := s.h.Commit(tiny, "dev", "theirs", map[string][]byte{"dev.txt": []byte("dev")})
		s.must(err)
		for i := range 2 {
			s.write("a", fmt.Appendf(nil, "bob's %d", i))
			s.write("m.safetensors", bytes.Repeat([]byte{byte(i)}, 1000))
			time.Sleep(time.Minute)
		}
		st := s.q.Status()
		if st.Proposal == nil || st.LastError != nil {
			t.Fatalf("status %+v, last error %+v", st, st.LastError)
		}
		if got := s.tree(st.Proposal.Ref()); got["a"] != "bob's 1" || len(got["m.safetensors"]) != 1000 || got["dev.txt"] != "dev" {
			t.Errorf("the pull request has %q", got)
		}
	})
}

// An account that may not push collects everything in one pull request.
func TestEmulatorCreatePR(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t, "hf_bob", writeback.Policy{CreatePR: true}, map[string][]byte{"a": []byte("A")})
		for i := range 2 {
			s.write("a", fmt.Appendf(nil, "bob's %d", i))
			s.write("m.safetensors", bytes.Repeat([]byte{byte(i)}, 1000))
			time.Sleep(time.Minute)
		}
		st := s.q.Status()
		if st.Proposal == nil || st.LastError != nil {
			t.Fatalf("status %+v, last error %+v", st, st.LastError)
		}
		if got := s.tree(st.Proposal.Ref()); got["a"] != "bob's 1" || len(got["m.safetensors"]) != 1000 {
			t.Errorf("the pull request has a %q", got["a"])
		}
		if got := s.tree("main"); got["a"] != "A" {
			t.Errorf("main has a %q", got["a"])
		}
	})
}

// Without the permission on the branch nothing is tried twice.
func TestEmulatorNoPermission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t, "hf_ada", writeback.Policy{}, nil)
		s.must(s.h.SetFaults(hubtest.Fault{Fault: "precondition"}))
		s.write("a", []byte("a"))
		time.Sleep(20 * time.Minute)
		st := s.q.Status()
		if len(st.Changes) != 1 || st.Changes[0].State != writeback.Blocked || st.LastError == nil {
			t.Errorf("status %+v, last error %+v", st.Changes, st.LastError)
		}
		if fired := s.h.Faults()[0].Fired; fired != 1 {
			t.Errorf("%d commits were tried", fired)
		}
	})
}

func TestEmulatorSquashAndRevert(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t, "hf_ada", writeback.Policy{Every: 10 * time.Minute, Squash: true}, map[string][]byte{"m.safetensors": []byte("old weights")})
		for i := range 2 {
			s.write("log.txt", fmt.Appendf(nil, "line %d\n", i))
			time.Sleep(11 * time.Minute)
		}
		s.wantSettled()
		if got := s.titles(); len(got) != 1 {
			t.Errorf("commits %q, want one", got)
		}
		s.write("m.safetensors", []byte("new weights"))
		out, err := s.q.Commit(context.Background(), writeback.CommitRequest{Message: "New weights"})
		s.must(err)
		if len(out.Commits) != 1 || len(out.Left) != 0 {
			t.Fatalf("commit: %+v", out)
		}
		out, err = s.q.Revert(context.Background(), "")
		s.must(err)
		if got := s.tree("main"); len(out.Commits) != 1 || got["m.safetensors"] != "old weights" || got["log.txt"] != "line 1\n" {
			t.Errorf("reverted to %q by %+v", got, out)
		}
	})
}
