package writeback

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"hfmount/writeback/staging"
)

// send does what the queue does before a commit: it seals, and notes the batch.
func (l *testLayer) send(paths ...string) (done []landedChange, release func()) {
	l.t.Helper()
	b := &batch{ID: "b1"}
	var releases []func()
	for _, it := range l.items() {
		for _, p := range paths {
			if it.Path != p {
				continue
			}
			d := landedChange{path: p, seq: it.seq, base: Base{Commit: "3333333333333333333333333333333333333333"}}
			if it.Kind == Put {
				s, err := l.seal(context.Background(), it.File)
				l.must(err)
				d.gen, d.base.Entry = s.gen, s.content().entry(p, false)
				l.hub[d.base.Entry.OID] = []byte(l.read(p))
				releases = append(releases, s.release)
				l.moved = s.moved
			}
			b.Paths = append(b.Paths, batchPath{Path: p, Seq: it.seq, Gen: d.gen})
			done = append(done, d)
		}
	}
	if len(done) != len(paths) {
		l.t.Fatalf("%d of %v can be sent", len(done), paths)
	}
	l.must(l.keep(b.key(), b, true))
	return done, func() {
		for _, r := range releases {
			r()
		}
	}
}

// arrive is the rest of the commit.
func (l *testLayer) arrive(done []landedChange, release func()) {
	l.t.Helper()
	l.must(l.arriving(done))
	l.must(l.landed(done))
	release()
	l.must(l.keep("batch/b1", nil, false))
}

// What happens to a path while a commit of it is on its way.
func TestEditsDuringACommit(t *testing.T) {
	ctx := context.Background()
	none := func(*testLayer) {}
	for _, tt := range []struct {
		name      string
		meanwhile func(l *testLayer)
		want      string // of the path "f", after the commit
		base      bool
		alsoFails string // what is left if it is not made: as want, but
	}{
		{"nothing", none, "", false, "put"},
		{"opened and closed for writing", func(l *testLayer) {
			c, _ := l.Get("f")
			h, err := c.File.Open(OpenFile{Write: true})
			l.must(err)
			l.must(h.Flush())
			l.must(h.Release())
		}, "", false, "put"},
		{"written", func(l *testLayer) {
			c, _ := l.Get("f")
			h, err := c.File.Open(OpenFile{Write: true})
			l.must(err)
			_, err = h.WriteAt(ctx, []byte("x"), -1)
			l.must(err)
			l.must(h.Release())
		}, "put", true, "put"},
		{"replaced", func(l *testLayer) { l.write("f", "other", true) }, "put", true, "put"},
		{"unlinked", func(l *testLayer) { l.must(l.Apply(0, Edit{Path: "f", Forget: true})) }, "delete", true, ""},
		{"unlinked as what the Hub has", func(l *testLayer) { l.must(l.Apply(0, Edit{Path: "f", Kind: Delete})) }, "delete", true, ""},
		{"renamed", func(l *testLayer) {
			c, _ := l.Get("f")
			l.must(l.Apply(0, Edit{Path: "g", File: c.File, Was: "f"}, Edit{Path: "f", Forget: true}))
		}, "delete", true, ""},
		{"discarded", func(l *testLayer) {
			_, err := l.Discard("f")
			l.must(err)
		}, "", false, ""},
		{"made a directory", func(l *testLayer) {
			l.must(l.Apply(0, Edit{Path: "f", Forget: true}))
			l.must(l.Apply(0, Edit{Path: "f", Kind: Folder}))
		}, "folder", true, "folder"},
		{"made a link", func(l *testLayer) {
			l.must(l.Apply(0, Edit{Path: "f", Kind: Symlink, Target: "x"}))
		}, "symlink", true, "symlink"},
	} {
		for _, crash := range []bool{false, true} {
			for _, made := range []bool{true, false} {
				l := newTestLayer(t)
				l.write("f", "sent", true)
				done, release := l.send("f")
				tt.meanwhile(l)
				if crash {
					l.crash()
				}
				want, base := tt.want, tt.base
				if made {
					l.arrive(done, release)
				} else {
					release()
					l.must(l.keep("batch/b1", nil, false))
					want, base = tt.alsoFails, false
				}
				if !crash && made {
					l.crash()
				}
				got, gotBase := "", false
				if c, ok := l.Get("f"); ok {
					got, gotBase = [...]string{"put", "delete", "folder", "symlink"}[c.Kind], c.Base.Entry != nil
				}
				if got != want || gotBase != base {
					t.Errorf("%s (crash %v, made %v): f is %q, base %v; want %q, %v", tt.name, crash, made, got, gotBase, want, base)
				}
				if tt.name == "renamed" {
					l.want("g", "sent", Pending)
				}
			}
		}
	}
}

// A file that somebody has open for writing stays until he closes it, and goes
// then if he wrote nothing.
func TestLandedUnderAWriter(t *testing.T) {
	ctx := context.Background()
	for _, wrote := range []bool{false, true} {
		l := newTestLayer(t)
		l.write("f", "sent", true)
		done, release := l.send("f")
		c, _ := l.Get("f")
		h, err := c.File.Open(OpenFile{Write: true})
		l.must(err)
		l.must(os.Remove(l.sealedPath("f"))) // the cache has it
		l.moved()
		l.arrive(done, release)
		l.want("f", "sent", Open)
		if _, _, ok := h.Native(); ok {
			t.Error("a writer is native on what the cache has")
		}
		if wrote {
			_, err := h.WriteAt(ctx, []byte("more"), -1)
			l.must(err)
		}
		l.must(h.Flush())
		l.must(h.Release())
		if wrote {
			l.want("f", "sentmore", Pending)
			l.crash()
			l.want("f", "sentmore", Pending)
			if c, _ := l.Get("f"); c.Op() != "modify" {
				t.Errorf("it is an %s now", c.Op())
			}
		} else if _, ok := l.Get("f"); ok {
			t.Error("the change stays")
		} else if _, err := c.File.Open(OpenFile{Write: true}); !errors.Is(err, ErrLanded) {
			t.Errorf("it opens: %v", err)
		}
	}
}

// TestRewrittenAfterLanding commits a file, writes on in place, and commits it
// again: what the Hub had of it at first is never taken for its bytes.
func TestRewrittenAfterLanding(t *testing.T) {
	ctx := context.Background()
	for _, crash := range []bool{false, true} {
		l := newTestLayer(t)
		l.write("f", "first", true)
		done, release := l.send("f")
		c, _ := l.Get("f")
		h, err := c.File.Open(OpenFile{Write: true})
		l.must(err)
		l.arrive(done, release) // stays, since it is open
		_, err = h.WriteAt(ctx, []byte(" and more"), -1)
		l.must(err)
		l.must(h.Flush())
		l.must(h.Release())
		if crash {
			l.crash()
		}
		done, release = l.send("f")
		l.must(l.arriving(done))
		// It is renamed before the view has taken it into the cache.
		c, _ = l.Get("f")
		l.must(l.Apply(0, Edit{Path: "f", Kind: Delete, Base: c.Base}, Edit{Path: "g", Kind: Put, File: c.File, Was: "f"}))
		l.must(os.Remove(l.sealedPath("g")))
		l.moved()
		l.must(l.landed(done))
		release()
		l.must(l.keep("batch/b1", nil, false))
		l.want("g", "first and more", Pending)
		if crash {
			l.crash()
			l.want("g", "first and more", Pending)
		}
		c, _ = l.Get("g")
		if h, err = c.File.Open(OpenFile{Write: true}); err != nil {
			t.Fatal(err)
		}
		if _, err = h.WriteAt(ctx, []byte("!"), -1); err != nil {
			t.Error("a file that moved into the cache cannot be written to:", err)
		}
		l.must(h.Flush())
		l.must(h.Release())
		l.want("g", "first and more!", Pending)
	}
}

// Readers go on reading, also what they did not look at before the cache took it.
func TestLandedUnderAReader(t *testing.T) {
	for _, early := range []bool{false, true} {
		l := newTestLayer(t)
		l.write("f", "sent", true)
		done, release := l.send("f")
		c, _ := l.Get("f")
		h, err := c.File.Open(OpenFile{})
		l.must(err)
		p := make([]byte, 4)
		if early {
			_, err := h.ReadAt(context.Background(), p, 0)
			l.must(err)
		}
		l.must(l.arriving(done))
		l.must(os.Remove(l.sealedPath("f")))
		l.moved()
		for range 2 {
			clear(p)
			if _, err := h.ReadAt(context.Background(), p, 0); err != nil || string(p) != "sent" {
				t.Errorf("read %q, %v", p, err)
			}
			l.must(l.landed(done))
		}
		release()
		l.must(h.Release())
		if n := l.stagedBytes(); n != 0 {
			t.Errorf("%d bytes are staged", n)
		}
	}
}

func (l *testLayer) sealedPath(path string) string {
	c, _ := l.Get(path)
	return c.File.cur.sf.Path()
}

func TestCopyOfAnOpenFile(t *testing.T) {
	ctx := context.Background()
	l := newTestLayer(t)
	h := l.write("log", "line 1\n", false)
	s, err := l.sealCopy(ctx, h.f)
	l.must(err)
	_, err = h.WriteAt(ctx, []byte("line 2\n"), -1)
	l.must(err)
	if !s.content().isBytes("line 1\n") {
		t.Error("the copy has something else")
	}
	it := l.items()[0]
	base := Base{Commit: "4444444444444444444444444444444444444444", Entry: s.content().entry("log", false)}
	done := []landedChange{{path: "log", seq: it.seq, gen: s.gen, copied: true, base: base}}
	l.must(l.arriving(done))
	l.must(l.landed(done))
	s.release()
	l.must(h.Flush())
	l.must(h.Release())
	l.want("log", "line 1\nline 2\n", Pending)
	if n := l.staged(); n != 1 {
		t.Errorf("%d staging files", n)
	}
}

func TestMarks(t *testing.T) {
	l := newTestLayer(t)
	l.write("refused", "1", true)
	l.write("held", "1", true)
	for _, it := range l.items() {
		s := Refused
		if it.Path == "held" {
			s = Held
		}
		l.must(l.mark(it.seq, it.Path, s, "because"))
		l.must(l.mark(it.seq+100, it.Path, Blocked, "another change"))
	}
	l.crash()
	l.want("refused", "1", Refused)
	l.want("held", "1", Held)
	// Reading and opening is no edit.
	for _, p := range []string{"refused", "held"} {
		c, _ := l.Get(p)
		h, err := c.File.Open(OpenFile{Write: true})
		l.must(err)
		l.must(h.Flush())
		l.must(h.Release())
	}
	l.want("refused", "1", Refused)
	for _, p := range []string{"refused", "held"} {
		c, _ := l.Get(p)
		h, err := c.File.Open(OpenFile{Write: true})
		l.must(err)
		_, err = h.WriteAt(context.Background(), []byte("2"), 0)
		l.must(err)
		l.must(h.Flush())
		l.must(h.Release())
	}
	c, _ := l.Get("held")
	l.must(l.Apply(0, Edit{Path: "renamed", File: c.File, Was: "held"}, Edit{Path: "held", Forget: true}))
	l.want("refused", "2", Pending)
	l.want("renamed", "2", Held)
	l.crash()
	l.want("refused", "2", Pending)
	l.want("renamed", "2", Held)
}

// An open that writes nothing leaves no trace, and fetches nothing.
func TestOpenIsNotWriting(t *testing.T) {
	l := newTestLayer(t)
	l.write("f", "bytes", true)
	size := l.journal.Size()
	c, _ := l.Get("f")
	before := l.items()[0]
	for range 3 {
		h, err := c.File.Open(OpenFile{Write: true})
		l.must(err)
		_, err = h.ReadAt(context.Background(), make([]byte, 5), 0)
		l.must(err)
		l.must(h.Flush())
		l.must(h.Release())
	}
	after := l.items()[0]
	if l.journal.Size() != size || after.gen != before.gen || !after.Since.Equal(before.Since) {
		t.Errorf("the journal grew by %d, %+v became %+v", l.journal.Size()-size, before, after)
	}
}

// A writer that comes while the bytes are hashed makes the seal void, or gets a
// file of its own; never do both have the same bytes.
func TestWriterDuringSeal(t *testing.T) {
	ctx := context.Background()
	l := newTestLayer(t)
	data := strings.Repeat("0123456789abcdef", worthCancelling/16)
	l.write("big", data, true)
	c, _ := l.Get("big")
	done := make(chan error, 1)
	go func() {
		s, err := l.seal(ctx, c.File)
		if err == nil {
			if !s.content().isBytes(data) {
				err = errors.New("sealed what was written meanwhile")
			}
			s.release()
		}
		done <- err
	}()
	h, err := c.File.Open(OpenFile{Write: true})
	l.must(err)
	_, err = h.WriteAt(ctx, []byte("X"), 0)
	l.must(err)
	if err := <-done; err != nil && !errors.Is(err, staging.ErrWriters) && !errors.Is(err, staging.ErrChanged) {
		t.Error(err)
	}
	l.must(h.Flush())
	l.must(h.Release())
	l.want("big", "X"+data[1:], Pending)
}
