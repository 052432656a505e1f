package remote_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hfmount/remote"
	"hfmount/remote/hub"
	"hfmount/remote/hubtest"
)

const writer = remote.Token("hf_acmeacme")

// newWritable makes the Hub of newHub, which acme may write and ada may not,
// and a client of acme's.
func newWritable(t *testing.T, o hubtest.Options) (*hubtest.Hub, *remote.Client) {
	t.Helper()
	o.Users = append(o.Users, hubtest.User{Name: "acme", Token: string(writer)})
	h, _ := newHub(t, o)
	return h, newClient(t, h, writer)
}

var mainRef = hub.Ref{Repo: tiny, Revision: "main"}

func head(t *testing.T, c *remote.Client, ref hub.Ref) hub.CommitID {
	t.Helper()
	id, err := c.Head(t.Context(), ref)
	must(t, err)
	return id
}

func fileOp(path, data string) hub.Op {
	return hub.Op{Kind: hub.OpFile, Path: path, Size: int64(len(data)), Data: func() (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(data)), nil
	}}
}

func object(data []byte) hub.Object {
	sum := sha256.Sum256(data)
	return hub.Object{SHA256: hex.EncodeToString(sum[:]), Size: int64(len(data)), Data: bytes.NewReader(data)}
}

func readFile(t *testing.T, c *remote.Client, ref hub.Ref, path string) ([]byte, error) {
	t.Helper()
	s, err := c.Resolve(t.Context(), ref)
	must(t, err)
	es, err := c.Paths(t.Context(), s, []string{path})
	must(t, err)
	if len(es) == 0 {
		return nil, hub.ErrEntryNotFound
	}
	return c.ReadAll(t.Context(), s, es[0], 100<<20)
}

// inBubble runs f in virtual time with a Hub that acme may write.
func inBubble(t *testing.T, o hubtest.Options, f func(t *testing.T, h *hubtest.Hub, c *remote.Client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h, c := newWritable(t, o)
		defer func() { must(t, h.Close()) }()
		f(t, h, c)
	})
}

func TestPublish(t *testing.T) {
	inBubble(t, hubtest.Options{}, func(t *testing.T, h *hubtest.Hub, c *remote.Client) {
		ctx := t.Context()
		must(t, c.MayWrite(ctx, tiny))
		data := bytes.Repeat([]byte("0123456789"), 3_000_000) // 30 MB: six parts
		modes, err := c.Preupload(ctx, mainRef, hub.Preupload{Files: []hub.Sample{
			{Path: "new.safetensors", Size: int64(len(data)), Head: data[:600]},
			{Path: "hello.txt", Size: 5, Head: []byte("hallo")},
			{Path: "empty.safetensors"},
			{Path: "w.safetensors", Size: 5_000_000, Head: make([]byte, 512)},
		}})
		must(t, err)
		s, err := c.Resolve(ctx, mainRef)
		must(t, err)
		if !modes[0].LFS || modes[0].OID != "" || modes[1].LFS || modes[1].OID == "" || modes[2].LFS || !modes[3].LFS || len(modes[3].OID) != 64 {
			t.Fatalf("%+v", modes)
		}
		o := object(data)
		shown := &meter{t: t, size: o.Size}
		o.Progress = shown.told
		must(t, c.Upload(ctx, mainRef, o))
		if shown.n.Load() != o.Size {
			t.Errorf("progress of %d of %d", shown.n.Load(), o.Size)
		}
		done, err := c.Commit(ctx, mainRef, hub.Commit{
			Parent: s.Commit, Summary: "Add files", Description: "Hfmount-Batch: 1234\nmore",
			Ops: []hub.Op{
				fileOp("hello.txt", "hallo"), fileOp("d/é \" <&>.txt", strings.Repeat("x", 200_001)), fileOp("empty.safetensors", ""),
				{Kind: hub.OpLFS, Path: "new.safetensors", SHA256: o.SHA256, Size: o.Size},
				{Kind: hub.OpDelete, Path: "empty.txt"}, {Kind: hub.OpDeleteFolder, Path: "d/e"},
			},
		})
		must(t, err)
		if done.ID != head(t, c, mainRef) || done.URL != c.CommitURL(tiny, done.ID) || done.PullRequest != nil {
			t.Errorf("%+v", done)
		}
		for path, want := range map[string]string{"hello.txt": "hallo", "d/é \" <&>.txt": strings.Repeat("x", 200_001), "empty.safetensors": "", "new.safetensors": string(data)} {
			if got, err := readFile(t, c, mainRef, path); err != nil || string(got) != want {
				t.Errorf("%s: %d bytes, %v", path, len(got), err)
			}
		}
		for _, path := range []string{"empty.txt", "d/e/0.txt", "d/e"} {
			if _, err := readFile(t, c, mainRef, path); !errors.Is(err, hub.ErrEntryNotFound) {
				t.Errorf("%s: %v", path, err)
			}
		}
		log, err := c.Log(ctx, mainRef, 2)
		must(t, err)
		if len(log) != 2 || log[0].ID != done.ID || log[0].Title != "Add files" || log[0].Description != "Hfmount-Batch: 1234\nmore" ||
			!slices.Equal(log[0].Authors, []string{"acme"}) || log[0].Time.IsZero() || log[1].ID != s.Commit {
			t.Errorf("%+v", log)
		}
		snap, err := c.Resolve(ctx, mainRef)
		must(t, err)
		all, err := c.ListAll(ctx, snap, "d")
		must(t, err)
		if len(all) != 2 {
			t.Errorf("%v", all)
		}
		if st := c.Stats(); st.BytesSent < 30_000_000 || h.Stats().Commits != 1 {
			t.Errorf("%+v", st)
		}
	})
}

func TestPreuploadOptions(t *testing.T) {
	inBubble(t, hubtest.Options{}, func(t *testing.T, h *hubtest.Hub, c *remote.Client) {
		ctx := t.Context()
		_, err := h.Commit(tiny, "main", "ignore", map[string][]byte{".gitignore": []byte("*.tmp\n")})
		must(t, err)
		var files []hub.Sample
		for i := range 600 { // three calls
			files = append(files, hub.Sample{Path: fmt.Sprintf("f%03d.tmp", i), Size: 3, Head: []byte("abc")})
		}
		for _, tt := range []struct {
			p           hub.Preupload
			ignore, lfs bool
		}{
			{hub.Preupload{}, true, false},
			{hub.Preupload{Ignore: []byte{}}, false, false},
			{hub.Preupload{Ignore: []byte("f*")}, true, false},
			{hub.Preupload{Ignore: []byte{}, Attributes: []byte("*.tmp filter=lfs diff=lfs merge=lfs -text\n")}, false, true},
		} {
			tt.p.Files = files
			modes, err := c.Preupload(ctx, mainRef, tt.p)
			must(t, err)
			if len(modes) != 600 {
				t.Fatalf("%d answers", len(modes))
			}
			for i, m := range modes {
				if m.Ignore != tt.ignore || m.LFS != tt.lfs {
					t.Fatalf("%d: %+v for %+v", i, m, tt)
				}
			}
		}
		if n := h.Stats().Requests["preupload"]; n != 12 {
			t.Errorf("%d calls", n)
		}
		_, err = c.Preupload(ctx, mainRef, hub.Preupload{Files: []hub.Sample{{Path: "ok"}, {Path: `a\..\b`, Size: 1}}})
		var r *hub.RefusedError
		if !errors.As(err, &r) || !slices.Equal(r.Paths, []string{`a\..\b`}) && len(r.Paths) > 0 {
			t.Errorf("%v", err)
		}
	})
}

func TestCommitRefusals(t *testing.T) {
	inBubble(t, hubtest.Options{}, func(t *testing.T, h *hubtest.Hub, c *remote.Client) {
		ctx := t.Context()
		at := head(t, c, mainRef)
		sum := strings.Repeat("ab", 32)
		for _, tt := range []struct {
			name  string
			ops   []hub.Op
			kind  error
			paths []string
		}{
			{"too large", []hub.Op{fileOp("ok", "ok"), fileOp("big one.txt", strings.Repeat("x", 10<<20+1)), fileOp("d/big - two", strings.Repeat("x", 10<<20+1))},
				hub.ErrRefused, []string{"big one.txt", "d/big - two"}},
			{"delete of nothing", []hub.Op{fileOp("ok", "ok"), {Kind: hub.OpDelete, Path: "gone.txt"}}, hub.ErrRefused, []string{"gone.txt"}},
			{"unknown object", []hub.Op{fileOp("ok", "ok"), {Kind: hub.OpLFS, Path: "x.bin", SHA256: sum, Size: 3}}, hub.ErrRefused, []string{"x.bin"}},
			{"bad card", []hub.Op{fileOp("README.md", "---\ntags: 3\n---\n")}, hub.ErrRefused, []string{"README.md"}},
			{"git folder", []hub.Op{fileOp("a/.git/config", "x"), fileOp("config", "y")}, hub.ErrRefused, []string{"a/.git/config"}},
		} {
			_, err := c.Commit(ctx, mainRef, hub.Commit{Parent: at, Summary: "x", Ops: tt.ops})
			var r *hub.RefusedError
			if !errors.Is(err, tt.kind) || !errors.As(err, &r) {
				t.Errorf("%s: %v", tt.name, err)
				continue
			}
			slices.Sort(r.Paths)
			if !slices.Equal(r.Paths, tt.paths) || r.Message == "" {
				t.Errorf("%s: %q in %q", tt.name, r.Paths, r.Message)
			}
		}
		for name, m := range map[string]hub.Commit{
			"no parent":  {Summary: "x"},
			"no summary": {Parent: at, Summary: " "},
			"bad path":   {Parent: at, Summary: "x", Ops: []hub.Op{fileOp("../x", "")}},
			"empty LFS":  {Parent: at, Summary: "x", Ops: []hub.Op{{Kind: hub.OpLFS, Path: "x", SHA256: sum}}},
		} {
			if _, err := c.Commit(ctx, mainRef, m); err == nil || errors.Is(err, hub.ErrUnavailable) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if at != head(t, c, mainRef) {
			t.Error("the branch has moved")
		}
		if err := c.CheckCard(ctx, hub.Model, []byte("---\ntags: 3\n---\n")); !errors.Is(err, hub.ErrRefused) || !strings.Contains(err.Error(), "tags") {
			t.Errorf("card: %v", err)
		}
		must(t, c.CheckCard(ctx, hub.Dataset, []byte("no front matter")))
	})
}

func TestCommitAnswers(t *testing.T) {
	other := errors.New("another commit")
	for _, tt := range []struct {
		name    string
		fault   hubtest.Fault
		want    error
		applied bool
	}{
		{"busy", hubtest.Fault{Fault: "conflict"}, hub.ErrBusy, false},
		{"precondition", hubtest.Fault{Fault: "precondition"}, hub.ErrConflict, false},
		{"moved", hubtest.Fault{}, hub.ErrConflict, false},
		{"500 after", hubtest.Fault{Fault: "apply-then-500"}, hub.ErrUncertain, true},
		{"late", hubtest.Fault{Fault: "apply-late", MS: 5000}, hub.ErrUncertain, true},
		// Without a socket nothing is taken before it is read: these two refuse
		// a body that they have not got.
		{"502", hubtest.Fault{Fault: "status", Status: 502, Path: "*/commit/*"}, hub.ErrUnavailable, false},
		{"silence", hubtest.Fault{Fault: "delay", MS: 200_000, Path: "*/commit/*"}, hub.ErrUnavailable, false},
		{"lost answer", hubtest.Fault{Fault: "truncate", After: 10, Path: "*/commit/*"}, hub.ErrUncertain, true},
		{"answer stalls", hubtest.Fault{Fault: "stall", After: 10, Path: "*/commit/*"}, hub.ErrUncertain, true},
		{"429", hubtest.Fault{Fault: "status", Status: 429, Path: "*/commit/*", Headers: map[string]string{"Retry-After": "77", "RateLimit": `"api";r=5;t=9`}}, hub.ErrLimited, false},
		{"403", hubtest.Fault{Fault: "status", Status: 403, Path: "*/commit/*"}, hub.ErrForbidden, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, hubtest.Options{}, func(t *testing.T, h *hubtest.Hub, c *remote.Client) {
				at := head(t, c, mainRef)
				if tt.fault.Fault != "" {
					must(t, h.SetFaults(tt.fault))
				} else {
					_, err := h.Commit(tiny, "main", other.Error(), map[string][]byte{"o": []byte("o")})
					must(t, err)
				}
				start := time.Now()
				_, err := c.Commit(t.Context(), mainRef, hub.Commit{Parent: at, Summary: "mine", Ops: []hub.Op{fileOp("x", strings.Repeat("x", 100_000))}})
				if !errors.Is(err, tt.want) {
					t.Fatalf("%v", err)
				}
				var l *hub.LimitedError
				if errors.As(err, &l) && l.After != 77*time.Second {
					t.Errorf("again after %v", l.After)
				}
				if time.Since(start) > 95*time.Second {
					t.Errorf("after %v", time.Since(start))
				}
				if n := h.Stats().Requests["commit"]; n != 1 {
					t.Errorf("%d requests", n)
				}
				must(t, h.SetFaults())
				time.Sleep(10 * time.Second)
				log, err := c.Log(t.Context(), mainRef, 1)
				must(t, err)
				if mine := log[0].Title == "mine"; mine != tt.applied {
					t.Errorf("the head is %q", log[0].Title)
				}
			})
		})
	}
}

// A caller who gives up while the Hub has all of the commit must not take it
// for undone.
func TestCommitAbandoned(t *testing.T) {
	inBubble(t, hubtest.Options{}, func(t *testing.T, h *hubtest.Hub, c *remote.Client) {
		at := head(t, c, mainRef)
		must(t, h.SetFaults(hubtest.Fault{Fault: "stall", Path: "*/commit/*"}))
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := c.Commit(ctx, mainRef, hub.Commit{Parent: at, Summary: "mine", Ops: []hub.Op{fileOp("x", "x")}})
		if !errors.Is(err, hub.ErrUncertain) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
}

// Content that is not as long as announced never becomes a commit, and is not
// taken for a lost answer.
func TestCommitWrongLength(t *testing.T) {
	inBubble(t, hubtest.Options{}, func(t *testing.T, h *hubtest.Hub, c *remote.Client) {
		at := head(t, c, mainRef)
		for _, d := range []int64{-1, +1} {
			op := fileOp("x", strings.Repeat("x", 100_000))
			op.Size += d
			_, err := c.Commit(t.Context(), mainRef, hub.Commit{Parent: at, Summary: "mine", Ops: []hub.Op{op}})
			if err == nil || errors.Is(err, hub.ErrUncertain) || !strings.Contains(err.Error(), "another length") {
				t.Errorf("%+d: %v", d, err)
			}
		}
		if at != head(t, c, mainRef) {
			t.Error("the branch has moved")
		}
	})
}

func TestCommitLimit(t *testing.T) {
	inBubble(t, hubtest.Options{Quotas: true}, func(t *testing.T, h *hubtest.Hub, c *remote.Client) {
		at := head(t, c, mainRef)
		for i := range 129 {
			done, err := c.Commit(t.Context(), mainRef, hub.Commit{Parent: at, Summary: "x", Ops: []hub.Op{fileOp("x", fmt.Sprint(i))}})
			if i < 128 {
				must(t, err)
				at = done.ID
				continue
			}
			var l *hub.LimitedError
			if !errors.As(err, &l) || l.After <= 0 || l.After > time.Hour || !strings.Contains(l.Message, "128 per hour") {
				t.Fatalf("%v", err)
			}
			time.Sleep(l.After + time.Second)
			_, err = c.Commit(t.Context(), mainRef, hub.Commit{Parent: at, Summary: "x", Ops: []hub.Op{fileOp("x", fmt.Sprint(i))}})
			must(t, err)
		}
	})
}

func TestAdministration(t *testing.T) {
	inBubble(t, hubtest.Options{}, func(t *testing.T, h *hubtest.Hub, c *remote.Client) {
		ctx := t.Context()
		at := head(t, c, mainRef)
		must(t, c.CreateBranch(ctx, tiny, "exp/1", at))
		branch := hub.Ref{Repo: tiny, Revision: "exp/1"}
		if head(t, c, branch) != at {
			t.Error("the branch begins elsewhere")
		}
		if err := c.CreateBranch(ctx, tiny, "exp/1", at); !errors.Is(err, hub.ErrExists) {
			t.Errorf("again: %v", err)
		}
		if err := c.CreateBranch(ctx, tiny, "exp/2", hub.CommitID(strings.Repeat("1", 40))); !errors.Is(err, hub.ErrRevisionNotFound) {
			t.Errorf("from nowhere: %v", err)
		}
		done, err := c.Commit(ctx, branch, hub.Commit{Parent: at, Summary: "on a branch", Ops: []hub.Op{fileOp("x", "x")}})
		must(t, err)
		id, err := c.SuperSquash(ctx, branch, strings.Repeat("é", 300))
		must(t, err)
		log, err := c.Log(ctx, branch, 5)
		must(t, err)
		if len(log) != 1 || log[0].ID != id || id == done.ID {
			t.Errorf("%+v", log)
		}
		for _, repo := range []hub.Repo{{Namespace: "acme", Name: "new"}, {Type: hub.Dataset, Namespace: "acme", Name: "new"}, {Type: hub.Space, Namespace: "acme", Name: "new"}} {
			must(t, c.CreateRepo(ctx, repo, true))
			s, err := c.Resolve(ctx, hub.Ref{Repo: repo})
			must(t, err)
			if !s.Private {
				t.Errorf("%s is public", repo)
			}
			if err := c.CreateRepo(ctx, repo, true); !errors.Is(err, hub.ErrExists) {
				t.Errorf("again: %v", err)
			}
		}
		if err := c.CreateRepo(ctx, hub.Repo{Namespace: "ada", Name: "new"}, true); !errors.Is(err, hub.ErrForbidden) {
			t.Errorf("elsewhere: %v", err)
		}
	})
}

func TestWithoutPermission(t *testing.T) {
	inBubble(t, hubtest.Options{}, func(t *testing.T, h *hubtest.Hub, _ *remote.Client) {
		ctx := t.Context()
		c := newClient(t, h, "hf_adaadaada")
		at := head(t, c, mainRef)
		if err := c.MayWrite(ctx, tiny); !errors.Is(err, hub.ErrForbidden) {
			t.Errorf("may write: %v", err)
		}
		if err := newClient(t, h, "").MayWrite(ctx, tiny); !errors.Is(err, hub.ErrUnauthorized) {
			t.Errorf("anonymous: %v", err)
		}
		if err := newClient(t, h, "hf_wrong1234").MayWrite(ctx, tiny); !errors.Is(err, hub.ErrBadToken) {
			t.Errorf("bad token: %v", err)
		}
		m := hub.Commit{Parent: at, Summary: "a proposal", Ops: []hub.Op{fileOp("x", "x")}}
		if _, err := c.Commit(ctx, mainRef, m); !errors.Is(err, hub.ErrForbidden) {
			t.Errorf("commit: %v", err)
		}
		files := []hub.Sample{{Path: "x", Size: 1, Head: []byte("x")}}
		if _, err := c.Preupload(ctx, mainRef, hub.Preupload{Files: files}); !errors.Is(err, hub.ErrForbidden) {
			t.Errorf("preupload: %v", err)
		}
		_, err := c.Preupload(ctx, mainRef, hub.Preupload{Files: files, PullRequest: true})
		must(t, err)
		m.PullRequest = true
		done, err := c.Commit(ctx, mainRef, m)
		must(t, err)
		if done.PullRequest == nil || !done.PullRequest.Open || done.PullRequest.Ref() != "refs/pr/1" {
			t.Fatalf("%+v", done)
		}
		// Opened first, committed to later: what a mount does.
		p, err := c.OpenPullRequest(ctx, tiny, "From a mount", "Hfmount-Batch: 7")
		must(t, err)
		all, err := c.PullRequests(ctx, tiny)
		must(t, err)
		if len(all) != 2 || all[0].Num != p.Num || !all[0].Open || all[0].Title != "From a mount" || all[1].Num != 1 {
			t.Errorf("pull requests %+v", all)
		}
		if p.Num != 2 || !p.Open || p.Title != "From a mount" || p.Description != "Hfmount-Batch: 7" || p.URL != "http://hub.test/acme/tiny/discussions/2" {
			t.Errorf("%+v", p)
		}
		o := object(bytes.Repeat([]byte("x"), 1000))
		ref := hub.Ref{Repo: tiny, Revision: p.Ref()}
		must(t, c.Upload(ctx, ref, o))
		_, err = c.Commit(ctx, ref, hub.Commit{Parent: at, Summary: "into it", Ops: []hub.Op{fileOp("y", "y"), {Kind: hub.OpLFS, Path: "y.bin", SHA256: o.SHA256, Size: o.Size}}})
		must(t, err)
		got, err := c.PullRequest(ctx, tiny, 2)
		must(t, err)
		if got != p {
			t.Errorf("%+v", got)
		}
		if _, err := c.PullRequest(ctx, tiny, 9); !errors.Is(err, hub.ErrEntryNotFound) {
			t.Errorf("no such: %v", err)
		}
	})
}

// One pull request, however its answer is lost.
func TestOnePullRequest(t *testing.T) {
	for _, f := range []hubtest.Fault{
		{Fault: "truncate", After: 3, Times: 1}, {Fault: "status", Status: 503, Times: 2}, {Fault: "stall", After: 5, Times: 1},
		{Fault: "status", Status: 429, Times: 1}, {Fault: "reset", Times: 1},
	} {
		t.Run(f.Fault, func(t *testing.T) {
			inBubble(t, hubtest.Options{}, func(t *testing.T, h *hubtest.Hub, c *remote.Client) {
				_, err := c.OpenPullRequest(t.Context(), tiny, "same title", "")
				must(t, err)
				f.Method, f.Path = "POST", "*/discussions"
				must(t, h.SetFaults(f))
				p, err := c.OpenPullRequest(t.Context(), tiny, "same title", "")
				must(t, err)
				if p.Num != 2 {
					t.Errorf("number %d", p.Num)
				}
				must(t, h.SetFaults())
				p, err = c.OpenPullRequest(t.Context(), tiny, "the next", "")
				must(t, err)
				if p.Num != 3 {
					t.Errorf("the next one is %d", p.Num)
				}
			})
		})
	}
}
