package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"hfmount/remote/hub"
	"hfmount/writeback"
)

// layersOf is layers with such branches open, of a mount of where.
func layersOf(where string, refs ...hub.Ref) *layers {
	loc := hub.Location{}
	if where != "hf://" {
		var err error
		if loc, err = hub.ParseArg(where, ""); err != nil {
			panic(err)
		}
	}
	l := newLayers(&mountConfig{loc: loc}, nil, nil, slog.New(slog.DiscardHandler))
	for _, r := range refs {
		l.branches[r] = &branch{ref: r}
	}
	return l
}

func TestPathsOfBranches(t *testing.T) {
	one := hub.Ref{Repo: hub.Repo{Namespace: "a", Name: "b"}, Revision: "main"}
	dev := hub.Ref{Repo: one.Repo, Revision: "x/dev"}
	data := hub.Ref{Repo: hub.Repo{Type: hub.Dataset, Namespace: "a", Name: "b"}, Revision: "main"}
	whole := layersOf("hf://", one, dev, data)
	single, folder := layersOf("a/b", one), layersOf("a/b/sub", one)
	for _, c := range []struct {
		l    *layers
		rel  string
		want []string // branch and path
	}{
		{single, "", []string{"a/b@main:"}},
		{single, "x/y", []string{"a/b@main:x/y"}},
		{single, "x/../../y", []string{"a/b@main:y"}},
		{folder, "", []string{"a/b@main:sub"}},
		{folder, "x", []string{"a/b@main:sub/x"}},
		{whole, "", []string{"a/b@main:", "a/b@x%2Fdev:", "datasets/a/b@main:"}},
		{whole, "a", []string{"a/b@main:", "a/b@x%2Fdev:"}},
		{whole, "a/b", []string{"a/b@main:"}},
		{whole, "a/b/c/d", []string{"a/b@main:c/d"}},
		{whole, "a/b@main/c", []string{"a/b@main:c"}},
		{whole, "a/b@x%2Fdev/c", []string{"a/b@x%2Fdev:c"}},
		{whole, "a/b@x/dev/c", []string{"a/b@x%2Fdev:c"}},
		{whole, "datasets", []string{"datasets/a/b@main:"}},
		{whole, "datasets/a/b/c", []string{"datasets/a/b@main:c"}},
		{whole, "a/bc", nil},
	} {
		var got []string
		for _, tg := range c.l.find(c.rel) {
			got = append(got, refName(tg.ref)+":"+tg.path)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s in %s: got %q, want %q", c.rel, c.l.cfg.loc, got, c.want)
		}
	}
	for _, c := range []struct {
		l          *layers
		ref        hub.Ref
		path, want string
	}{
		{single, one, "x/y", "x/y"},
		{folder, one, "sub/x", "x"},
		{folder, one, "other", "../other"},
		{whole, one, "c", "a/b/c"},
		{whole, dev, "c", "a/b@x%2Fdev/c"},
		{whole, data, "c", "datasets/a/b/c"},
	} {
		if got := c.l.show(c.ref, c.path); got != c.want {
			t.Errorf("%s of %v: got %q, want %q", c.path, c.ref, got, c.want)
		}
	}
}

// The tree of one repository asks by the name that was given, which the Hub
// may have redirected.
func TestKeyOfRedirectedRepo(t *testing.T) {
	now := hub.Ref{Repo: hub.Repo{Namespace: "openai", Name: "gpt2"}, Revision: "main"}
	l := layersOf("gpt2", now)
	for _, asked := range []hub.Ref{now, {Repo: now.Repo}, {Repo: hub.Repo{Name: "gpt2"}}, {Repo: hub.Repo{Name: "gpt2"}, Revision: "main"}} {
		if !l.MayWrite(asked) {
			t.Errorf("%v: may not be written", asked)
		}
	}
	if l.MayWrite(hub.Ref{Repo: now.Repo, Revision: "v1"}) {
		t.Error("another revision may be written")
	}
}

func TestRefusal(t *testing.T) {
	for err, want := range map[error]string{
		hub.ErrUnauthorized: "no token", hub.ErrBadToken: "invalid", hub.ErrForbidden: "may not write", hub.ErrUnavailable: "",
	} {
		reason, asking := refusal(&repoError{hub.Location{}, "", err})
		if want == "" {
			if reason != "" || !errors.Is(asking, err) {
				t.Errorf("%v: %q, %v; the question was not answered", err, reason, asking)
			}
		} else if asking != nil || !strings.Contains(reason, want) {
			t.Errorf("%v: %q, %v", err, reason, asking)
		}
	}
}

func TestOutcomeExitCodes(t *testing.T) {
	commit := []commitStatus{{ID: "abc", URL: "http://x/commit/abc"}}
	for name, c := range map[string]struct {
		o    outcome
		code int
		says string
	}{
		"all there":      {outcome{Commits: commit}, exitOK, ""},
		"nothing":        {outcome{}, exitOK, ""},
		"one open":       {outcome{Commits: commit, Left: []changeStatus{{Path: "f", Op: "add", State: "open"}}}, exitLocal, "A  f  (open)"},
		"guarded":        {outcome{Left: []changeStatus{{Path: ".env", Op: "add", State: "held", Reason: "a secret"}}}, exitLocal, "--yes"},
		"in PR":          {outcome{Left: []changeStatus{{Path: "f", Op: "modify", State: "in-pr"}}, PullRequest: "http://x/1"}, exitConflict, "http://x/1"},
		"in PR and more": {outcome{Left: []changeStatus{{Path: "f", State: "in-pr"}, {Path: "g", Op: "rename", Was: "h", State: "refused"}}, PullRequest: "http://x/1"}, exitLocal, "R  h -> g"},
	} {
		var out, text bytes.Buffer
		err := c.o.tell(&out, false)
		code := exitOK
		if err != nil {
			f := explain(err)
			code = f.code
			f.print(&text)
		}
		if code != c.code || !strings.Contains(text.String(), c.says) {
			t.Errorf("%s: exit %d and %q, want %d and %q", name, code, text.String(), c.code, c.says)
		}
		if len(c.o.Commits) > 0 && !strings.Contains(out.String(), "http://x/commit/abc") {
			t.Errorf("%s: printed %q, without the commit", name, out.String())
		}
	}
	if f := explain(&repoError{hub.Location{}, "", writeback.ErrHeld}); f.code != exitLocal {
		t.Errorf("the guard: exit %d, want %d", f.code, exitLocal)
	}
}

// fakeWriting records what the control socket asks for.
type fakeWriting struct {
	calls   chan string
	release chan struct{} // commit waits for it, if it is there
	outcome outcome
	err     error
}

func (f *fakeWriting) commit(ctx context.Context, r commitRequest) (outcome, error) {
	f.calls <- "commit " + r.Message
	select {
	case <-f.release:
	case <-ctx.Done():
		f.calls <- "commit given up"
		return outcome{}, ctx.Err()
	}
	return f.outcome, f.err
}
func (f *fakeWriting) hold() (transaction, error)    { f.calls <- "hold"; return f, f.err }
func (f *fakeWriting) changes(string) []changeStatus { return f.outcome.Left }
func (f *fakeWriting) discard(_ context.Context, paths []string) error {
	f.calls <- "discard " + strings.Join(paths, " ")
	return f.err
}
func (f *fakeWriting) revert(context.Context, revertRequest) (outcome, error) {
	return f.outcome, f.err
}
func (f *fakeWriting) log(context.Context, logRequest) ([]commitStatus, error) {
	return f.outcome.Commits, f.err
}
func (f *fakeWriting) progress() progress                       { return progress{Pending: 2, Sent: 1, Total: 3} }
func (f *fakeWriting) settle(context.Context) []holderStatus    { return nil }
func (f *fakeWriting) drained(context.Context) (outcome, error) { return f.outcome, f.err }
func (f *fakeWriting) yield()                                   { f.calls <- "yield" }
func (f *fakeWriting) end(ok bool) error {
	if ok {
		f.calls <- "end well"
	} else {
		f.calls <- "end badly"
	}
	return nil
}

// verifyNone looks for goroutines left behind, after all other cleaning up.
func verifyNone(t *testing.T) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
}

// serveWriting answers for f on a socket and returns a way to ask.
func serveWriting(t *testing.T, f *fakeWriting) daemon {
	t.Helper()
	f.calls = make(chan string, 16)
	path := filepath.Join(shortTempDir(t), "m.sock")
	if err := os.Chmod(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	ctl, err := listenControl(path, &fakeMount{writing: f}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ctl.Close(); err != nil {
			t.Error(err)
		}
	})
	return daemon{socket: path, pid: os.Getpid()}
}

func (f *fakeWriting) want(t *testing.T, want string) {
	t.Helper()
	select {
	case got := <-f.calls:
		if got != want {
			t.Fatalf("called %q, want %q", got, want)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("never called: %q", want)
	}
}

func TestStreamedCommit(t *testing.T) {
	verifyNone(t)
	f := &fakeWriting{release: make(chan struct{}), outcome: outcome{Commits: []commitStatus{{ID: "abc"}}}}
	d := serveWriting(t, f)
	shown := 0
	o, err := d.follow(t.Context(), "/commit", commitRequest{Message: "m"}, func(p progress) {
		if p.Pending != 2 || p.Total != 3 {
			t.Errorf("progress %+v", p)
		}
		if shown++; shown == 2 {
			close(f.release)
		}
	})
	if err != nil || len(o.Commits) != 1 || o.Commits[0].ID != "abc" {
		t.Errorf("got %+v, %v", o, err)
	}
	f.want(t, "commit m")

	f.err = &repoError{hub.Location{}, "http://x", hub.ErrUnavailable}
	if _, err := d.follow(t.Context(), "/commit", commitRequest{}, nil); explain(err).code != exitUnreachable {
		t.Errorf("a failed commit: %v", err)
	}
	f.want(t, "commit ")

	// Whoever goes away takes the request along.
	f.release = make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := d.follow(ctx, "/commit", commitRequest{}, func(progress) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	f.want(t, "commit ")
	f.want(t, "commit given up")
}

func TestHoldEndsWithItsHolder(t *testing.T) {
	verifyNone(t)
	released := make(chan struct{})
	close(released)
	f := &fakeWriting{release: released, outcome: outcome{Commits: []commitStatus{{ID: "abc"}}, Left: []changeStatus{{Path: "f"}}}}
	p := place{daemon: serveWriting(t, f)}

	h, err := holdMount(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	f.want(t, "hold")
	o, err := h.end(t.Context(), ending{OK: true, Message: "done"}, nil)
	if err != nil || len(o.Commits) != 1 {
		t.Errorf("got %+v, %v", o, err)
	}
	f.want(t, "end well")
	f.want(t, "commit done")

	h, err = holdMount(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	f.want(t, "hold")
	if o, err := h.end(t.Context(), ending{OK: false}, nil); err != nil || len(o.Left) != 1 || len(o.Commits) != 0 {
		t.Errorf("got %+v, %v", o, err)
	}
	f.want(t, "end badly")

	// A holder that is killed sends no end.
	ctx, cancel := context.WithCancel(t.Context())
	if h, err = holdMount(ctx, p); err != nil {
		t.Fatal(err)
	}
	f.want(t, "hold")
	cancel()
	f.want(t, "end badly")
	if err := h.answer.Close(); err != nil {
		t.Error(err)
	}

	f.err = errNoBranch
	if _, err := holdMount(t.Context(), p); err == nil {
		t.Error("a hold that cannot be had: no error")
	}
	f.want(t, "hold")
}

func TestControlMoves(t *testing.T) {
	f := &fakeWriting{calls: make(chan string, 1)}
	dir := shortTempDir(t)
	path := filepath.Join(dir, "m.sock")
	ctl, err := listenControl(path, &fakeMount{writing: f}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	d := daemon{socket: path, pid: 7}
	if err := ctl.move(d.moved().socket); err != nil {
		t.Fatal(err)
	}
	next, err := listenControl(path, &fakeMount{s: mountStatus{Commit: "new"}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatalf("the next mount of the directory: %v", err)
	}
	if err := d.moved().do(t.Context(), http.MethodPost, "/yield", nil); err != nil {
		t.Error(err)
	}
	f.want(t, "yield")
	if err := ctl.Close(); err != nil {
		t.Error(err)
	}
	if s, err := d.status(t.Context()); err != nil || s.Commit != "new" {
		t.Errorf("the end of one process took the socket of the next: %v, %v", s.Commit, err)
	}
	if err := next.Close(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestBatchOf(t *testing.T) {
	if got := batchOf("text\n\nHfmount-Batch: 1b4e\nhost x"); got != "1b4e" {
		t.Errorf("got %q", got)
	}
	if got := batchOf("Hfmount-Batch: of another\n\nHfmount-Batch: 2c5f"); got != "2c5f" {
		t.Errorf("the last is ours: got %q", got)
	}
	if got := batchOf("by hand"); got != "" {
		t.Errorf("got %q", got)
	}
}

func TestEvents(t *testing.T) {
	defer goleak.VerifyNone(t)
	out := filepath.Join(t.TempDir(), "out")
	e := newEvents(`printf '%s|%s|%s|%s|%s\n' "$HFMOUNT_EVENT" "$HFMOUNT_TEXT" "$HFMOUNT_HINT" "$HFMOUNT_PATHS" "$HFMOUNT_URL" >>`+out, "/mnt", slog.New(slog.DiscardHandler))
	e.tell(writeback.Event{Kind: "committed", Text: "t", Hint: "h\x00", Paths: []string{"a", "b"}, URL: "u"})
	e.tell(writeback.Event{Kind: "failed"})
	e.close()
	e.tell(writeback.Event{Kind: "late"}) // is nobody's
	b, err := os.ReadFile(out)
	if want := "committed|t|h?|a\nb|u\nfailed||||\n"; err != nil || string(b) != want {
		t.Errorf("got %q, %v, want %q", b, err, want)
	}
}

// A command that hangs must not stop the mount; only the newest events are
// kept for it.
func TestEventsNeverBlock(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "go")
	var log bytes.Buffer
	e := newEvents("while [ ! -e "+fifo+" ]; do sleep 0.01; done", "/mnt", slog.New(slog.NewTextHandler(&log, nil)))
	for range eventBacklog + 10 {
		e.tell(writeback.Event{Kind: "committed"})
	}
	if !strings.Contains(log.String(), "an event is lost") {
		t.Error("nothing was lost, or nobody was told")
	}
	if err := os.WriteFile(fifo, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	e.close()
}
