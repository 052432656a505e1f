package fs

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"hfmount/writeback"
)

// model is a directory in memory that does what a local file system does. A
// directory is a nil content.
type model struct {
	at map[string]*string
}

func (m *model) isDir(p string) bool {
	s, ok := m.at[p]
	return p == "" || ok && s == nil
}

func (m *model) has(p string) bool { _, ok := m.at[p]; return p == "" || ok }

func (m *model) empty(p string) bool {
	for q := range m.at {
		if under(q, p) {
			return false
		}
	}
	return true
}

func (m *model) rename(from, to string, f RenameFlags) error {
	dir, _ := split(to)
	switch {
	case !m.has(from):
		return iofs.ErrNotExist
	case !m.isDir(dir):
		return iofs.ErrNotExist
	case from == to:
		return nil
	case f.Exchange && !m.has(to):
		return iofs.ErrNotExist
	case f.NoReplace && m.has(to):
		return iofs.ErrExist
	case m.isDir(from) && under(to, from), f.Exchange && m.isDir(to) && under(from, to):
		return iofs.ErrInvalid
	case f.Exchange:
		a, b := m.cut(from), m.cut(to)
		m.paste(to, a)
		m.paste(from, b)
		return nil
	case m.has(to) && m.isDir(from) && !m.isDir(to):
		return ErrNotDir
	case m.has(to) && !m.isDir(from) && m.isDir(to):
		return ErrIsDir
	case m.has(to) && m.isDir(to) && !m.empty(to):
		return ErrNotEmpty
	}
	delete(m.at, to)
	m.paste(to, m.cut(from))
	return nil
}

func (m *model) cut(p string) map[string]*string {
	out := make(map[string]*string)
	for q, s := range m.at {
		if q == p || under(q, p) {
			out[strings.TrimPrefix(q, p)] = s
			delete(m.at, q)
		}
	}
	return out
}

func (m *model) paste(p string, what map[string]*string) {
	for q, s := range what {
		m.at[p+q] = s
	}
}

func (m *model) shown() map[string]string {
	out := make(map[string]string)
	for p, s := range m.at {
		if s == nil {
			out[p+"/"] = ""
		} else {
			out[p] = *s
		}
	}
	return out
}

// player does random things to one directory, which is its own.
type player struct {
	d    *desk
	dir  *Dir
	r    *rand.Rand
	m    model
	open []playerHandle
	log  []string
}

type playerHandle struct {
	h *Handle
	s *string
}

func (p *player) path() string {
	parts := make([]string, 1+p.r.IntN(3))
	for i := range parts {
		parts[i] = string(rune('a' + p.r.IntN(3)))
	}
	return strings.Join(parts, "/")
}

// parent finds the directory of a path as the kernel does: by lookups.
func (p *player) parent(path string) (*Dir, string, error) {
	dir, name := split(path)
	if dir == "" {
		return p.dir, name, nil
	}
	n, err := walk(context.Background(), p.dir, dir)
	if err != nil {
		return nil, "", err
	}
	d, ok := n.(*Dir)
	if !ok {
		return nil, "", ErrNotDir
	}
	return d, name, nil
}

func (p *player) say(format string, args ...any) { p.log = append(p.log, fmt.Sprintf(format, args...)) }

func (p *player) step() error {
	ctx := context.Background()
	path := p.path()
	dir, name, perr := p.parent(path)
	up, _ := split(path)
	if (perr == nil) != p.m.isDir(up) {
		return fmt.Errorf("the directory of %s: %v", path, perr)
	}
	if perr != nil {
		return nil
	}
	check := func(got, want error) error {
		if (got == nil) != (want == nil) || want != nil && !errors.Is(got, want) {
			return fmt.Errorf("%s: %v, want %v", p.log[len(p.log)-1], got, want)
		}
		return nil
	}
	switch op := p.r.IntN(20); {
	case op < 3:
		p.say("create %s", path)
		_, h, err := dir.Create(ctx, name, 0o644, OpenFlags{Write: true})
		var want error
		if p.m.has(path) {
			want = iofs.ErrExist
		}
		if err := check(err, want); err != nil || want != nil {
			return err
		}
		s := new(string)
		p.m.at[path] = s
		p.open = append(p.open, playerHandle{h, s})
	case op < 8:
		trunc := p.r.IntN(3) == 0
		p.say("open %s %v", path, trunc)
		if !p.m.has(path) || p.m.isDir(path) {
			return nil
		}
		n, err := dir.Lookup(ctx, name)
		if err != nil {
			return check(err, nil)
		}
		h, err := n.(*File).OpenWith(ctx, OpenFlags{Write: true, Trunc: trunc})
		if err != nil {
			return check(err, nil)
		}
		s := p.m.at[path]
		if trunc {
			*s = ""
		}
		p.open = append(p.open, playerHandle{h, s})
	case op < 10:
		p.say("unlink %s", path)
		var want error
		switch {
		case !p.m.has(path):
			want = iofs.ErrNotExist
		case p.m.isDir(path):
			want = ErrIsDir
		default:
			defer delete(p.m.at, path)
		}
		return check(dir.Unlink(ctx, name), want)
	case op < 12:
		p.say("mkdir %s", path)
		var want error
		if p.m.has(path) {
			want = iofs.ErrExist
		} else {
			p.m.at[path] = nil
		}
		_, err := dir.Mkdir(ctx, name, 0o755)
		return check(err, want)
	case op < 13:
		p.say("rmdir %s", path)
		var want error
		switch {
		case !p.m.has(path):
			want = iofs.ErrNotExist
		case !p.m.isDir(path):
			want = ErrNotDir
		case !p.m.empty(path):
			want = ErrNotEmpty
		default:
			delete(p.m.at, path)
		}
		return check(dir.Rmdir(ctx, name), want)
	default:
		to := p.path()
		toDir, newName, err := p.parent(to)
		if err != nil {
			return nil
		}
		f := []RenameFlags{{}, {}, {NoReplace: true}, {Exchange: true}}[p.r.IntN(4)]
		p.say("rename %s to %s %+v", path, to, f)
		if path == to && f.NoReplace {
			return nil
		}
		want := p.m.rename(path, to, f)
		return check(dir.Rename(ctx, name, toDir, newName, f), want)
	}
	return nil
}

// touch reads and writes through an open handle.
func (p *player) touch() error {
	if len(p.open) == 0 {
		return nil
	}
	ctx := context.Background()
	i := p.r.IntN(len(p.open))
	o := p.open[i]
	switch p.r.IntN(5) {
	case 0:
		p.open = slices.Delete(p.open, i, i+1)
		p.say("close")
		if err := o.h.Flush(ctx); err != nil {
			return err
		}
		return o.h.Close()
	case 1:
		text := strconv.Itoa(p.r.IntN(1000))
		p.say("append %q to %q", text, *o.s)
		*o.s += text
		_, err := o.h.WriteAt(ctx, []byte(text), -1)
		return err
	case 2:
		off, text := p.r.IntN(8), strconv.Itoa(p.r.IntN(1000))
		p.say("write %q at %d to %q", text, off, *o.s)
		b := []byte(*o.s)
		b = append(b, make([]byte, max(0, off+len(text)-len(b)))...)
		copy(b[off:], text)
		*o.s = string(b)
		_, err := o.h.WriteAt(ctx, []byte(text), int64(off))
		return err
	case 3:
		size := p.r.IntN(10)
		p.say("truncate %q to %d", *o.s, size)
		b := append([]byte(*o.s), make([]byte, size)...)
		*o.s = string(b[:size])
		return o.h.Truncate(ctx, int64(size))
	}
	p.say("read %q", *o.s)
	b := make([]byte, len(*o.s)+10)
	n, _ := o.h.ReadAt(ctx, b, 0)
	if string(b[:n]) != *o.s {
		return fmt.Errorf("a handle has %q, want %q", b[:n], *o.s)
	}
	return nil
}

func (p *player) closeAll() error {
	var errs []error
	for _, o := range p.open {
		errs = append(errs, o.h.Flush(context.Background()), o.h.Close())
	}
	p.open = nil
	return errors.Join(errs...)
}

func (p *player) compare() error {
	out := make(map[string]string)
	p.d.walk(p.dir, "", out, make(map[uint64]string))
	if want := p.m.shown(); !maps.Equal(out, want) {
		return fmt.Errorf("shown, but not wanted: %s\nwanted, but not shown: %s", minus(out, want), minus(want, out))
	}
	return nil
}

// TestModel plays random operations against a plain directory: once with files
// that stay open throughout, once while commits land and somebody else commits.
func TestModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("HFMOUNT_TEST_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("seed %d (HFMOUNT_TEST_SEED)", seed)
	steps := 1500
	if testing.Short() {
		steps = 300
	}
	t.Run("open", func(t *testing.T) { playModel(t, seed, steps, false) })
	t.Run("commits", func(t *testing.T) { playModel(t, seed, steps, true) })
}

func playModel(t *testing.T, seed uint64, steps int, background bool) {
	const players = 3
	files := map[string]string{"other": "o"}
	for i := range players {
		for _, p := range []string{"a/a", "a/b/c", "b/a", "c"} {
			files[fmt.Sprintf("p%d/%s", i, p)] = strings.Repeat(p, 3)
		}
	}
	d := newDesk(t, files)
	q := d.queue()
	stop := make(chan struct{})
	var back, wg sync.WaitGroup
	back.Go(func() {
		for i := 0; background; i++ {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
			if i%3 == 0 {
				d.hub.theirs("theirs", strconv.Itoa(i))
				if err := d.tree.Refresh(context.Background()); err != nil {
					t.Error(err)
				}
			}
			if _, err := q.Commit(context.Background(), quickCommit()); err != nil {
				t.Error("commit:", err)
				explain(t, d, q)
				return
			}
		}
	})
	for i := range players {
		p := &player{d: d, dir: d.dir(fmt.Sprintf("p%d", i)), r: rand.New(rand.NewPCG(seed, uint64(i))), m: model{at: make(map[string]*string)}}
		for path, s := range files {
			if rest, ok := strings.CutPrefix(path, fmt.Sprintf("p%d/", i)); ok {
				p.m.at[rest] = &s
				for dir, _ := split(rest); dir != ""; dir, _ = split(dir) {
					p.m.at[dir] = nil
				}
			}
		}
		wg.Go(func() {
			var err error
			for n := 0; n < steps && err == nil; n++ {
				if err = p.step(); err == nil {
					err = p.touch()
				}
				if background && err == nil {
					err = p.closeAll()
				}
				if err == nil && (n%20 == 0 || n == steps-1) {
					err = p.compare()
				}
			}
			if err != nil {
				t.Errorf("%v\nafter\n%s", err, strings.Join(p.log[max(0, len(p.log)-25):], "\n"))
			}
			if err := p.closeAll(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	close(stop)
	back.Wait()
	if t.Failed() {
		return
	}
	shown := d.all()
	out, err := q.Commit(context.Background(), quickCommit())
	if err != nil {
		explain(t, d, q)
		t.Fatal(err)
	}
	if got := d.all(); !maps.Equal(got, shown) {
		t.Errorf("after the last commit: %s\nwere: %s", minus(got, shown), minus(shown, got))
	}
	maps.DeleteFunc(shown, func(p, _ string) bool { return strings.HasSuffix(p, "/") })
	if got := d.hub.files(); !maps.Equal(got, shown) {
		t.Logf("left %+v", out.Left)
		t.Errorf("on the Hub: %s\nshown: %s", minus(got, shown), minus(shown, got))
	}
}

// explain logs what does not go where.
func explain(t *testing.T, d *desk, q *writeback.Queue) {
	files := d.hub.files()
	for _, c := range q.Status().Changes {
		base, there := "nothing", "nothing"
		if c.Base.Entry != nil {
			base = c.Base.Entry.OID
		}
		if s, ok := files[c.Path]; ok {
			there = blobID(s)
		}
		if base != there {
			t.Logf("%s %v %v: based on %s at %s, but there is %s", c.Path, c.Op(), c.State, base, c.Base.Commit.Short(), there)
		}
	}
	t.Log("last error:", q.Status().LastError)
}
