package writeback

import (
	"bytes"
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hfmount/remote/hub"
	"hfmount/writeback/staging"
)

var testKey = Key{Endpoint: "https://hub.test", Account: "ada", Ref: hub.Ref{Repo: hub.Repo{Namespace: "acme", Name: "tiny"}, Revision: "main"}}

// hubBytes is the content of the test's Hub, by path; and by object id, of
// whatever a place was made of.
type hubBytes map[string][]byte

func (h hubBytes) content(_ context.Context, p Place) (staging.Source, error) {
	b, ok := h[p.Entry.OID]
	if !ok {
		return nil, os.ErrNotExist
	}
	return bytesSource(b), nil
}

func (h hubBytes) place(path string) Place {
	return Place{
		Snapshot: hub.Snapshot{Ref: testKey.Ref, Commit: "1111111111111111111111111111111111111111"},
		Entry:    h.entry(path),
	}
}

func (h hubBytes) entry(path string) hub.Entry {
	oid := gitBlob(h[path])
	h[oid] = h[path]
	return hub.Entry{Path: path, Size: int64(len(h[path])), OID: oid}
}

func (h hubBytes) base(path string) Base {
	e := h.entry(path)
	return Base{Commit: "1111111111111111111111111111111111111111", Entry: &e}
}

type bytesSource []byte

func (b bytesSource) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	return bytes.NewReader(b).ReadAt(p, off)
}
func (b bytesSource) Close() error { return nil }

// testLayer is a layer that can die and come back.
type testLayer struct {
	*Layer
	t   *testing.T
	o   LayerOptions
	hub hubBytes
	// moved tells of the bytes of the last send that the cache took them.
	moved func()
}

func newTestLayer(t *testing.T) *testLayer {
	l := &testLayer{t: t, hub: hubBytes{}}
	l.o = LayerOptions{StateDir: t.TempDir(), Key: testKey, Content: l.hub.content, LocalOnly: NewLocalOnly(LocalOnlyOptions{})}
	l.open()
	t.Cleanup(func() { _ = l.Layer.Close() })
	return l
}

func (l *testLayer) open() {
	l.t.Helper()
	var err error
	if l.Layer, err = OpenLayer(l.o); err != nil {
		l.t.Fatal(err)
	}
}

// crash is kill -9: nothing is written any more, and the lock is free.
func (l *testLayer) crash() {
	l.t.Helper()
	l.Layer.kill()
	l.open()
}

// kill leaves everything as it is on disk, and descriptors to the collector.
func (l *Layer) kill() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	_ = l.lock.Close()
}

func (l *testLayer) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// write makes a file as a program does, up to a close if closed is set.
func (l *testLayer) write(path, data string, closed bool) *Handle {
	l.t.Helper()
	f, err := l.NewFile(context.Background())
	l.must(err)
	l.must(l.Apply(0, Edit{Path: path, File: f}))
	h, err := f.Open(OpenFile{Write: true, PID: 7})
	l.must(err)
	_, err = h.WriteAt(context.Background(), []byte(data), 0)
	l.must(err)
	if closed {
		l.must(h.Flush())
		l.must(h.Release())
	}
	return h
}

func (l *testLayer) read(path string) string {
	l.t.Helper()
	c, ok := l.Get(path)
	if !ok || c.Kind != Put {
		l.t.Fatalf("%s: no file", path)
	}
	if c.File == nil {
		return string(l.hub[c.From.Entry.OID])
	}
	h, err := c.File.Open(OpenFile{})
	l.must(err)
	defer h.Release()
	var b bytes.Buffer
	_, err = copyAll(context.Background(), &b, h.ReadAt)
	l.must(err)
	return b.String()
}

func (l *testLayer) want(path, data string, s State) {
	l.t.Helper()
	c, ok := l.Get(path)
	if !ok {
		l.t.Fatalf("%s is not there", path)
	}
	if c.State != s {
		l.t.Errorf("%s is %s (%s), want %s", path, c.State, c.Reason, s)
	}
	if got := l.read(path); got != data {
		l.t.Errorf("%s has %q, want %q", path, got, data)
	}
	if c.Size != int64(len(data)) {
		l.t.Errorf("%s has %d bytes by its change, want %d", path, c.Size, len(data))
	}
}

func (l *testLayer) staged() int {
	l.t.Helper()
	ids, err := l.staging.IDs()
	l.must(err)
	return len(ids)
}

func TestCloseSurvivesCrash(t *testing.T) {
	l := newTestLayer(t)
	l.write("a/closed", "closed", true)
	h := l.write("a/flushed", "flushed", false)
	l.must(h.Flush())
	l.write("a/open", "open", false)
	l.want("a/open", "open", Open)
	l.want("a/flushed", "flushed", Open)
	h = l.write("a/more", "more", false)
	l.must(h.Flush())
	_, err := h.WriteAt(context.Background(), []byte("MORE AND MORE"), 0)
	l.must(err)
	l.crash()
	l.want("a/closed", "closed", Pending)
	l.want("a/flushed", "flushed", Unclosed) // for all that is known a second descriptor would have written more
	l.want("a/open", "open", Unclosed)
	l.want("a/more", "MORE AND MORE", Unclosed)
	l.crash()
	l.want("a/open", "open", Unclosed)
	if _, err := l.Promote("a/open"); err != nil {
		t.Fatal(err)
	}
	l.must(l.Layer.Close())
	l.open()
	l.want("a/open", "open", Pending)
	l.want("a/more", "MORE AND MORE", Unclosed)
	if d := l.Damage(); d != "" {
		t.Error(d)
	}
}

func TestPartialSurvivesCrash(t *testing.T) {
	l := newTestLayer(t)
	ctx := context.Background()
	l.hub["big"] = bytes.Repeat([]byte("0123456789"), 1000)
	f, err := l.NewFileOver(ctx, l.hub.place("big"))
	l.must(err)
	l.must(l.Apply(0, Edit{Path: "big", File: f, Base: l.hub.base("big")}))
	h, err := f.Open(OpenFile{Write: true})
	l.must(err)
	_, err = h.WriteAt(ctx, []byte("XYZ"), 5)
	l.must(err)
	if _, _, ok := h.Native(); ok {
		t.Error("a partial file is native")
	}
	l.must(h.Truncate(ctx, 20))
	l.must(h.Truncate(ctx, 30))
	l.must(h.Flush())
	l.must(h.Release())
	want := "01234XYZ890123456789" + string(make([]byte, 10))
	l.want("big", want, Pending)
	l.crash()
	l.want("big", want, Pending)
	c, _ := l.Get("big")
	if c.Op() != "modify" {
		t.Error(c.Op())
	}
	s, err := l.seal(ctx, c.File)
	l.must(err)
	if !s.content().isBytes(want) {
		t.Error("sealed other bytes")
	}
	s.release()
	l.crash()
	l.want("big", want, Pending)
}

func (c content) isBytes(data string) bool {
	return c.Git == gitBlob([]byte(data)) && c.Size == int64(len(data))
}

func gitBlob(data []byte) string {
	return fmt.Sprintf("%x", sha1.Sum(append(fmt.Appendf(nil, "blob %d\x00", len(data)), data...)))
}

func TestSealedBytesStay(t *testing.T) {
	l := newTestLayer(t)
	ctx := context.Background()
	l.write("w", "first", true)
	c, _ := l.Get("w")
	s, err := l.seal(ctx, c.File)
	l.must(err)
	h, err := c.File.Open(OpenFile{Write: true})
	l.must(err)
	if _, err := l.seal(ctx, c.File); !errors.Is(err, staging.ErrWriters) {
		t.Fatalf("sealed under a writer: %v", err)
	}
	if _, _, ok := h.Native(); ok {
		t.Error("native on sealed bytes")
	}
	_, err = h.WriteAt(ctx, []byte("SECOND"), 2)
	l.must(err)
	if _, _, ok := h.Native(); ok && !l.complete("w") {
		t.Error("native on a partial file")
	}
	got := make([]byte, 10)
	n, err := s.data.ReadAt(got, 0)
	if string(got[:n]) != "first" || err != io.EOF {
		t.Errorf("sealed bytes are %q, %v", got[:n], err)
	}
	l.must(h.Flush())
	l.must(h.Release())
	l.want("w", "fiSECOND", Pending)
	l.crash()
	l.want("w", "fiSECOND", Pending)
	c, _ = l.Get("w")
	s2, err := l.seal(ctx, c.File)
	l.must(err)
	if !s2.content().isBytes("fiSECOND") || s2.gen == s.gen {
		t.Errorf("the second seal is %+v", s2.Sealed)
	}
	s2.release()
	// Nobody relies on it any more: it is simply written on.
	h, err = c.File.Open(OpenFile{Write: true})
	l.must(err)
	if _, _, ok := h.Native(); !ok {
		t.Error("not native")
	}
	l.must(h.Release())
	if n := l.staged(); n != 1 {
		t.Errorf("%d staging files", n)
	}
}

func (l *testLayer) complete(path string) bool {
	c, _ := l.Get(path)
	return c.File.cur.sf.Complete()
}

func TestLocked(t *testing.T) {
	l := newTestLayer(t)
	_, err := OpenLayer(l.o)
	if !errors.Is(err, ErrLocked) {
		t.Fatalf("the second one: %v", err)
	}
	other := l.o
	other.Key.Ref.Revision = "dev"
	m, err := OpenLayer(other)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	l.write("x", "1", true)
	found, err := Layers(l.o.StateDir)
	if err != nil || len(found) != 2 || !found[0].Locked || found[0].PID != os.Getpid() {
		t.Fatalf("%+v, %v", found, err)
	}
	l.write("y", "2", false)
	l.kill()
	found, err = Layers(l.o.StateDir)
	if err != nil || len(found) != 2 {
		t.Fatal(found, err)
	}
	for _, f := range found {
		if f.Key.Ref.Revision == "main" && (f.Locked || f.Changes != 2 || f.Unclosed != 1 || f.Err != nil) {
			t.Errorf("%+v", f)
		}
	}
	l.open()
}

func TestExport(t *testing.T) {
	l := newTestLayer(t)
	l.hub["big"] = []byte("from the Hub")
	l.write("a/b", "local", true)
	l.write("open", "unclosed", false)
	p := l.hub.place("big")
	l.must(l.Apply(0, Edit{Path: "renamed", From: &p, Was: "big"}, Edit{Path: "big", Kind: Delete, Base: l.hub.base("big")},
		Edit{Path: "dir/empty", Kind: Folder}, Edit{Path: "dir/link", Kind: Symlink, Target: "../a/b"}))
	l.crash()
	out := filepath.Join(t.TempDir(), "out")
	got, err := l.Export(context.Background(), out)
	if err != nil || got.Files != 3 || got.Bytes != 25 || len(got.Deleted) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	for name, want := range map[string]string{"a/b": "local", "open": "unclosed", "renamed": "from the Hub", "dir/link": "local"} {
		if data, err := os.ReadFile(filepath.Join(out, name)); err != nil || string(data) != want {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
	if st, err := os.Stat(filepath.Join(out, "dir/empty")); err != nil || !st.IsDir() {
		t.Error(err)
	}
	if _, err := l.Export(context.Background(), out); err == nil {
		t.Error("exported over what is there")
	}
}

func TestDamagedJournalKeepsBytes(t *testing.T) {
	l := newTestLayer(t)
	l.write("a", "aaa", true)
	size := l.journal.Size()
	l.write("b", "bbb", true)
	l.write("c", "ccc", true)
	l.kill()
	name := filepath.Join(l.dir, "journal")
	raw, err := os.ReadFile(name)
	l.must(err)
	raw[size+9] ^= 1
	l.must(os.WriteFile(name, raw, 0o600))
	l.open()
	l.want("a", "aaa", Pending)
	if _, ok := l.Get("b"); ok || l.Damage() == "" {
		t.Error("the damage is not seen")
	}
	lost, err := os.ReadDir(l.lostDir())
	if err != nil || len(lost) != 2 {
		t.Errorf("%d lost files, %v", len(lost), err)
	}
	l.crash()
	if l.Damage() == "" {
		t.Error("the damage is forgotten")
	}
	l.must(l.DiscardAll())
	l.crash()
	if l.Damage() != "" || len(l.Under("")) != 0 {
		t.Error("something is left:", l.Damage(), l.Under(""))
	}
}

// New changes make the journal longer, and nothing shorter: it is rewritten for
// history alone.
func TestJournalIsRewrittenForHistory(t *testing.T) {
	l, err := OpenLayer(LayerOptions{StateDir: t.TempDir(), Key: testKey})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	put := func(i int) {
		t.Helper()
		if err := l.Apply(0, Edit{Path: fmt.Sprintf("d/%06d", i), Kind: Symlink, Target: strings.Repeat("x", 300)}); err != nil {
			t.Fatal(err)
		}
	}
	last, shrunk := l.journal.Size(), 0
	look := func() {
		now := l.journal.Size()
		if now < last {
			shrunk++
		}
		last = now
	}
	for i := range 10_000 {
		put(i)
		look()
	}
	if shrunk > 0 || last < 2<<20 {
		t.Errorf("after new changes alone it has %d bytes, and was rewritten %d times", last, shrunk)
	}
	for i := range 50_000 {
		put(i % 10)
		look()
	}
	if shrunk == 0 {
		t.Errorf("with %d bytes it was never rewritten", last)
	}
}
