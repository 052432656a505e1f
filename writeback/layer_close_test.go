package writeback

import (
	"testing"
)

// What an open file holds at the end of a mount is nobody's finished work,
// though one of its descriptors was closed; what was only looked at stays as
// finished as it was.
func TestCloseWithOpenFiles(t *testing.T) {
	r := newCloseRig(t)
	done := r.create("done")
	r.write(done, "done")
	if err := done.Release(); err != nil {
		t.Fatal(err)
	}
	r.reopen("done") // for writing, and nothing is written
	half := r.create("half")
	r.write(half, "half")
	if err := half.Flush(); err != nil {
		t.Fatal(err)
	}
	again := r.create("again")
	r.write(again, "1")
	if err := again.Release(); err != nil {
		t.Fatal(err)
	}
	r.write(r.reopen("again"), "2")
	if err := r.l.Close(); err != nil {
		t.Fatal(err)
	}
	r.open()
	for path, want := range map[string]State{"done": Pending, "half": Unclosed, "again": Unclosed} {
		if c, ok := r.l.Get(path); !ok || c.State != want {
			t.Errorf("%s is %v (%v), want %v", path, c.State, ok, want)
		}
	}
	if err := r.l.Close(); err != nil {
		t.Fatal(err)
	}
}

type closeRig struct {
	t   *testing.T
	dir string
	l   *Layer
}

func newCloseRig(t *testing.T) *closeRig {
	r := &closeRig{t: t, dir: t.TempDir()}
	r.open()
	return r
}

func (r *closeRig) open() {
	r.t.Helper()
	var err error
	if r.l, err = OpenLayer(LayerOptions{StateDir: r.dir, Key: Key{Endpoint: "http://hub", Account: "ada"}}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *closeRig) create(path string) *Handle {
	r.t.Helper()
	f, err := r.l.NewFile(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	h, err := f.Open(OpenFile{Write: true, PID: 7})
	if err != nil {
		r.t.Fatal(err)
	}
	if err := r.l.Apply(0, Edit{Path: path, Kind: Put, File: f}); err != nil {
		r.t.Fatal(err)
	}
	return h
}

func (r *closeRig) reopen(path string) *Handle {
	r.t.Helper()
	c, _ := r.l.Get(path)
	h, err := c.File.Open(OpenFile{Write: true, PID: 7})
	if err != nil {
		r.t.Fatal(err)
	}
	return h
}

func (r *closeRig) write(h *Handle, text string) {
	r.t.Helper()
	if _, err := h.WriteAt(r.t.Context(), []byte(text), -1); err != nil {
		r.t.Fatal(err)
	}
}
