package writeback

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	iofs "io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hfmount/writeback/staging"
)

var modelSteps = flag.Int("layer.steps", 400, "steps of the layer's model test")

// model is what a layer should show, kept as simply as possible.
type model struct {
	t    *testing.T
	l    *testLayer
	r    *rand.Rand
	want map[string]*modelled
	open map[string]*Handle // for writing, by path at the open
	step int
}

type modelled struct {
	kind   Kind
	data   []byte
	target string
	base   bool
	file   *File
}

func TestLayerModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("SEED"); s != "" {
		fmt.Sscan(s, &seed)
	}
	t.Logf("SEED=%d", seed)
	l := newTestLayer(t)
	for i := range 4 {
		l.hub[fmt.Sprintf("d%d/hub", i)] = []byte(strings.Repeat(fmt.Sprintf("content of %d. ", i), 200))
	}
	m := &model{t: t, l: l, r: rand.New(rand.NewPCG(seed, 1)), want: make(map[string]*modelled), open: make(map[string]*Handle)}
	for m.step = range *modelSteps {
		m.act()
		if t.Failed() {
			t.Fatalf("step %d, SEED=%d", m.step, seed)
		}
	}
	m.reopen(false)
	m.check()
}

func (m *model) path() string {
	d := m.r.IntN(4)
	return fmt.Sprintf("d%d/%s", d, []string{"a", "b", "hub", "sub/x", "sub/y"}[m.r.IntN(5)])
}

func (m *model) have(kind Kind) (string, *modelled) {
	paths := slices.Sorted(maps.Keys(m.want))
	paths = slices.DeleteFunc(paths, func(p string) bool { return m.want[p].kind != kind })
	if len(paths) == 0 {
		return "", nil
	}
	p := paths[m.r.IntN(len(paths))]
	return p, m.want[p]
}

func (m *model) base(path string) Base {
	if _, ok := m.l.hub[path]; ok {
		return m.l.hub.base(path)
	}
	return Base{}
}

func (m *model) set(path string, w *modelled) {
	w.base = m.base(path).Entry != nil
	if w.kind == Delete && !w.base {
		delete(m.want, path)
		return
	}
	m.want[path] = w
}

func (m *model) act() {
	ctx := context.Background()
	switch m.r.IntN(16) {
	case 0, 1, 2: // a new file, left open
		p := m.path()
		f, err := m.l.NewFile(ctx)
		m.l.must(err)
		m.l.must(m.l.Apply(m.l.Version(), Edit{Path: p, File: f, Base: m.base(p)}))
		m.set(p, &modelled{kind: Put, file: f})
		m.opened(p, f)
	case 3: // a file over one of the Hub
		p := fmt.Sprintf("d%d/hub", m.r.IntN(4))
		f, err := m.l.NewFileOver(ctx, m.l.hub.place(p))
		m.l.must(err)
		m.l.must(m.l.Apply(0, Edit{Path: p, File: f, Base: m.base(p)}))
		m.set(p, &modelled{kind: Put, file: f, data: slices.Clone(m.l.hub[p])})
		m.opened(p, f)
	case 4, 5, 6: // write
		m.writeSome(ctx)
	case 7, 8: // close one
		for p, h := range m.open {
			m.l.must(h.Flush())
			m.l.must(h.Release())
			delete(m.open, p)
			break
		}
	case 9: // open again
		if p, w := m.have(Put); w != nil && w.file != nil {
			m.opened(p, w.file)
		}
	case 10: // rename over
		from, w := m.have(Put)
		to := m.path()
		if w == nil || from == to || m.want[to] != nil && m.want[to].kind == Folder {
			return
		}
		edits := []Edit{{Path: to, File: w.file, Base: m.base(to), Was: from}, {Path: from, Kind: Delete, Base: m.base(from)}}
		if w.file == nil {
			c, _ := m.l.Get(from)
			edits[0].From = c.From
		}
		m.l.must(m.l.Apply(0, edits...))
		m.set(to, &modelled{kind: Put, data: w.data, file: w.file})
		m.set(from, &modelled{kind: Delete})
	case 11: // delete, forget
		p := m.path()
		if m.r.IntN(2) == 0 {
			m.l.must(m.l.Apply(0, Edit{Path: p, Kind: Delete, Base: m.base(p)}))
			if m.want[p] != nil || m.base(p).Entry != nil {
				m.set(p, &modelled{kind: Delete})
			}
			return
		}
		if w := m.want[p]; w != nil && (w.kind == Folder || w.kind == Symlink) && w.base {
			return
		}
		m.l.must(m.l.Apply(0, Edit{Path: p, Forget: true}))
		delete(m.want, p)
	case 12: // a link, or a file that only the Hub has
		p := m.path()
		if m.r.IntN(2) == 0 {
			m.l.must(m.l.Apply(0, Edit{Path: p, Kind: Symlink, Target: "../x", Base: m.base(p)}))
			m.set(p, &modelled{kind: Symlink, target: "../x"})
			return
		}
		at := m.l.hub.place("d0/hub")
		m.l.must(m.l.Apply(0, Edit{Path: p, From: &at, Base: m.base(p)}))
		m.set(p, &modelled{kind: Put, data: slices.Clone(m.l.hub["d0/hub"])})
	case 13:
		m.land(ctx)
	case 14:
		m.reopen(m.r.IntN(3) > 0)
	case 15:
		m.image()
	}
	m.check()
}

func (m *model) opened(p string, f *File) {
	h, err := f.Open(OpenFile{Write: true, PID: 1})
	m.l.must(err)
	if old := m.open[p]; old != nil {
		m.l.must(old.Flush())
		m.l.must(old.Release())
	}
	m.open[p] = h
}

// writeSome writes through one of the open handles, which may be of a file
// that has another name by now, or none.
func (m *model) writeSome(ctx context.Context) {
	for _, h := range m.open {
		var w *modelled
		for _, o := range m.want {
			if o.file == h.f {
				w = o
			}
		}
		if w == nil {
			w = &modelled{}
			_, err := h.ReadAt(ctx, make([]byte, 1), 0)
			if err != nil && !errors.Is(err, io.EOF) {
				m.t.Errorf("an unlinked file cannot be read: %v", err)
			}
		}
		switch m.r.IntN(3) {
		case 0:
			n := m.r.IntN(50)
			if m.r.IntN(4) == 0 {
				n = 0
			}
			m.l.must(h.Truncate(ctx, int64(n)))
			w.data = append(w.data, make([]byte, max(0, n-len(w.data)))...)[:n]
		case 1:
			p := []byte(fmt.Sprint("appended ", m.step))
			_, err := h.WriteAt(ctx, p, -1)
			m.l.must(err)
			w.data = append(w.data, p...)
		default:
			off, p := m.r.IntN(len(w.data)+10), []byte(fmt.Sprint("written ", m.step))
			_, err := h.WriteAt(ctx, p, int64(off))
			m.l.must(err)
			w.data = append(w.data, make([]byte, max(0, off+len(p)-len(w.data)))...)
			copy(w.data[off:], p)
		}
		if m.r.IntN(3) == 0 {
			m.l.must(h.Flush())
		}
		if m.r.IntN(5) == 0 {
			m.l.must(h.Sync(ctx))
		}
		break
	}
}

// land commits one file as the queue does, with a writer in between or not.
func (m *model) land(ctx context.Context) {
	for _, it := range m.l.items() {
		if it.Kind != Put || it.File == nil {
			continue
		}
		s, err := m.l.seal(ctx, it.File)
		if errors.Is(err, staging.ErrWriters) {
			continue
		}
		m.l.must(err)
		w := m.want[it.Path]
		if !s.content().isBytes(string(w.data)) {
			m.t.Errorf("%s: sealed %d bytes, want %d", it.Path, s.Size, len(w.data))
		}
		landed := slices.Clone(w.data)
		meanwhile := m.r.IntN(2) == 0
		if meanwhile {
			h, err := it.File.Open(OpenFile{Write: true})
			m.l.must(err)
			_, err = h.WriteAt(ctx, []byte("meanwhile"), 0)
			m.l.must(err)
			w.data = append([]byte("meanwhile"), w.data[min(9, len(w.data)):]...)
			if m.r.IntN(2) == 0 {
				m.l.must(h.Flush())
				m.l.must(h.Release())
			} else {
				m.open[it.Path+" once"] = h
			}
		}
		m.l.hub[it.Path] = landed
		done := []landedChange{{path: it.Path, seq: it.seq, gen: s.gen, base: m.base(it.Path)}}
		m.l.must(m.l.arriving(done))
		if m.r.IntN(2) == 0 { // taken into the cache
			m.l.must(os.Remove(s.path))
			s.moved()
		}
		if m.r.IntN(4) == 0 { // and the process dies, and looks again
			s.release()
			m.reopen(true)
			it.File = nil
			if c, ok := m.l.Get(it.Path); ok {
				done[0].gen = c.File.gen.Load()
				if meanwhile {
					done[0].gen = 0
				}
			}
		} else {
			m.check()
		}
		m.l.must(m.l.landed(done))
		if it.File != nil {
			s.release()
		}
		if meanwhile {
			w.base = true
		} else {
			delete(m.want, it.Path)
			if it.File != nil {
				if _, err := it.File.Open(OpenFile{}); !errors.Is(err, ErrLanded) {
					m.t.Errorf("a landed file opens: %v", err)
				}
			}
		}
		return
	}
}

// reopen ends the process, by a crash or not, with files open.
func (m *model) reopen(crash bool) {
	m.l.must(m.l.keep("step", m.step, false))
	if crash {
		m.flushPartial()
		m.l.crash()
	} else {
		m.l.must(m.l.Layer.Close())
		m.l.open()
	}
	m.open = make(map[string]*Handle)
	if got := string(m.l.kept("step")["step"]); got != fmt.Sprint(m.step) {
		m.t.Errorf("kept %s", got)
	}
	for p, w := range m.want {
		if c, ok := m.l.Get(p); ok {
			w.file = c.File
		}
	}
}

// flushPartial tells the journal what was written to partial files: until then,
// only the process knows which of their bytes are not the base's.
func (m *model) flushPartial() {
	for _, h := range m.open {
		if !h.f.cur.whole {
			m.l.must(h.Flush())
		}
	}
}

// image opens a copy of what is on disk now, as a crash would leave it.
func (m *model) image() {
	m.flushPartial()
	m.check()
	dir := m.t.TempDir()
	copyTree(m.t, m.l.o.StateDir, dir)
	o := m.l.o
	o.StateDir = dir
	l, err := OpenLayer(o)
	m.l.must(err)
	defer l.Close()
	saved := m.l.Layer
	m.l.Layer = l
	m.check()
	m.l.Layer = saved
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(p string, d iofs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		out := filepath.Join(to, rel)
		if d.IsDir() {
			return os.MkdirAll(out, 0o700)
		}
		data, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		if err := os.WriteFile(out, data, 0o600); err != nil {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		return os.Chtimes(out, time.Time{}, st.ModTime())
	})
	if err != nil {
		t.Fatal(err)
	}
}

// check compares everything: names, kinds, bytes, the index, and that nothing
// is staged that nobody needs.
func (m *model) check() {
	m.t.Helper()
	got := m.l.Under("")
	if len(got) != len(m.want) {
		for p, w := range m.want {
			if _, ok := m.l.Get(p); !ok {
				m.t.Errorf("%s is missing, %+v; damage: %s", p, w, m.l.Damage())
			}
		}
	}
	names := make(map[string]map[string]Kind)
	deletes := make(map[string]map[string]bool)
	for _, c := range got {
		w := m.want[c.Path]
		if w == nil {
			m.t.Errorf("%s: a change that nobody made", c.Path)
			continue
		}
		if c.Kind != w.kind || c.Target != w.target || (c.Base.Entry != nil) != w.base {
			m.t.Errorf("%s is %+v, want %+v", c.Path, c, w)
		}
		if c.Kind == Put {
			if got := m.l.read(c.Path); got != string(w.data) || c.Size != int64(len(w.data)) {
				m.t.Errorf("%s has %q (%d), want %q", c.Path, short(got), c.Size, short(string(w.data)))
			}
		}
		nameIn(names, parentOf(c.Path), baseOf(c.Path), c.Kind, true)
		for dir := parentOf(c.Path); dir != ""; dir = parentOf(dir) {
			if c.Kind == Delete {
				if deletes[parentOf(dir)] == nil {
					deletes[parentOf(dir)] = make(map[string]bool)
				}
				deletes[parentOf(dir)][baseOf(dir)] = true
			} else {
				nameIn(names, parentOf(dir), baseOf(dir), Folder, false)
			}
		}
	}
	for dir := range m.l.dirs {
		d := m.l.Dir(dir)
		if !maps.Equal(d.Names, names[dir]) || !maps.Equal(d.Deletes, deletes[dir]) {
			m.t.Errorf("%q has %+v, want %v and %v", dir, d, names[dir], deletes[dir])
		}
		delete(names, dir)
		delete(deletes, dir)
	}
	for dir, n := range names {
		if len(n) > 0 {
			m.t.Errorf("the index lacks %q: %v", dir, n)
		}
	}
	if n, most := m.l.staged(), 2*len(m.want)+2*len(m.open)+laterFiles+1; n > most {
		m.t.Errorf("%d staging files for %d changes", n, len(m.want))
	}
}

func nameIn(names map[string]map[string]Kind, dir, name string, k Kind, own bool) {
	if names[dir] == nil {
		names[dir] = make(map[string]Kind)
	}
	if old, ok := names[dir][name]; !ok || own && old != Folder || k == Folder && old == Delete {
		names[dir][name] = k
	}
}

func short(s string) string { return s[:min(len(s), 60)] }
