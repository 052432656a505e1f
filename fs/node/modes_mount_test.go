package node

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	iofs "io/fs"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

var (
	modesSeed  = flag.Uint64("modes.seed", 0, "seed of the random orders, 0 for a new one")
	modesExtra = flag.Int("modes.n", 120, "random orders for each state of a file")
)

// The steps of an order. Each acts on one path, and everything that it opens
// stays open.
var modeSteps = map[byte]string{
	'r': "open for reading",
	'm': "map shared for reading",
	'p': "map privately",
	'w': "open for writing, write in the middle",
	'a': "open for appending, append",
	's': "map shared for writing, write by memory",
	'T': "open with O_TRUNC, write",
	't': "truncate(2)",
	'o': "rename another over it",
	'u': "unlink",
	'c': "close everything",
}

const stepLetters = "rmpwasTtouc"

// modelInode is what a path stood for at some time: all contents it ever had.
type modelInode struct{ versions [][]byte }

func (i *modelInode) now() []byte { return i.versions[len(i.versions)-1] }

func (i *modelInode) set(data []byte) { i.versions = append(i.versions, data) }

// modelOpen is an open file or a mapping. Who reads may keep what was there
// when he opened: a writer that came later has an inode of its own then. Who
// writes sees what everybody sees.
type modelOpen struct {
	of     *modelInode
	since  int
	writer bool
	file   *os.File
	mem    []byte
}

const page = 4096

func (o *modelOpen) check() error {
	var got []byte
	cut := func(b []byte) []byte { return b }
	if o.mem != nil {
		got = o.mem[:page]
		cut = func(b []byte) []byte {
			if len(b) < page {
				b = append(bytes.Clone(b), make([]byte, page-len(b))...)
			}
			return b[:page]
		}
	} else {
		var err error
		if got, err = readAllAt(o.file); err != nil {
			return err
		}
	}
	from := o.since
	if o.writer {
		from = len(o.of.versions) - 1
	}
	for _, v := range o.of.versions[from:] {
		if bytes.Equal(got, cut(v)) {
			return nil
		}
	}
	return fmt.Errorf("%d bytes that never were (a writer: %v, a mapping: %v; %d versions)", len(got), o.writer, o.mem != nil, len(o.of.versions)-from)
}

func readAllAt(f *os.File) ([]byte, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	buf := make([]byte, st.Size()+page)
	n, err := f.ReadAt(buf, 0)
	if n > 0 || err == nil {
		return buf[:n], nil
	}
	if st.Size() == 0 {
		return nil, nil
	}
	return nil, err
}

func (o *modelOpen) close() error {
	if o.mem != nil {
		return syscall.Munmap(o.mem)
	}
	return o.file.Close()
}

// modelPath runs an order on one path.
type modelPath struct {
	path string
	at   *modelInode // nil: nothing
	open []*modelOpen
	rnd  *rand.Rand
}

func (p *modelPath) run(steps string) error {
	defer p.closeAll()
	for i := range steps {
		if err := p.step(steps[i]); err != nil {
			return fmt.Errorf("%q, step %d (%s): %w", steps, i, modeSteps[steps[i]], err)
		}
		if err := p.check(); err != nil {
			return fmt.Errorf("%q, after step %d (%s): %w", steps, i, modeSteps[steps[i]], err)
		}
	}
	if err := p.closeAll(); err != nil {
		return fmt.Errorf("%q: %w", steps, err)
	}
	if err := p.check(); err != nil {
		return fmt.Errorf("%q, at the end: %w", steps, err)
	}
	return nil
}

func (p *modelPath) closeAll() error {
	var errs []error
	for _, o := range p.open {
		errs = append(errs, o.close())
	}
	p.open = nil
	return errors.Join(errs...)
}

func (p *modelPath) check() error {
	for i, o := range p.open {
		if err := o.check(); err != nil {
			return fmt.Errorf("open %d of %d: %w", i, len(p.open), err)
		}
	}
	got, err := os.ReadFile(p.path)
	if p.at == nil {
		if !errors.Is(err, iofs.ErrNotExist) {
			return fmt.Errorf("it should be gone: %w", err)
		}
		return nil
	}
	if err != nil {
		return err
	}
	if !bytes.Equal(got, p.at.now()) {
		return fmt.Errorf("the path has %d wrong bytes of %d", len(got), len(p.at.now()))
	}
	st, err := os.Stat(p.path)
	if err == nil && st.Size() != int64(len(got)) {
		err = fmt.Errorf("stat says %d bytes of %d", st.Size(), len(got))
	}
	return err
}

// hold opens the path. For writing it makes what is not there.
func (p *modelPath) hold(flags int) (*modelOpen, error) {
	writer := flags&syscall.O_ACCMODE != syscall.O_RDONLY
	if writer {
		flags |= os.O_CREATE
	}
	f, err := os.OpenFile(p.path, flags, 0o644)
	if err != nil {
		return nil, err
	}
	switch {
	case p.at == nil:
		p.at = &modelInode{versions: [][]byte{nil}}
	case flags&os.O_TRUNC != 0:
		p.at.set(nil)
	}
	return &modelOpen{of: p.at, since: len(p.at.versions) - 1, writer: writer, file: f}, nil
}

// remap makes the open a mapping alone.
func (o *modelOpen) remap(prot, flags int) error {
	mem, err := syscall.Mmap(int(o.file.Fd()), 0, page, prot, flags)
	if err != nil {
		return err
	}
	o.mem = mem
	return o.file.Close()
}

func (p *modelPath) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(p.rnd.Uint32())
	}
	return b
}

// edit is the present content with some bytes in its first page changed.
func (p *modelPath) edit(off int) (next, piece []byte) {
	piece = p.bytes(5)
	next = bytes.Clone(p.at.now())
	for len(next) < off+len(piece) {
		next = append(next, 0)
	}
	copy(next[off:], piece)
	return next, piece
}

func (p *modelPath) step(s byte) error {
	if p.at == nil && strings.IndexByte("rmptu", s) >= 0 {
		return nil
	}
	if strings.IndexByte("mps", s) >= 0 && (p.at == nil || len(p.at.now()) < page) {
		return nil // beyond the end of a file a mapping is a fault
	}
	switch s {
	case 'r', 'm', 'p':
		o, err := p.hold(os.O_RDONLY)
		if err != nil {
			return err
		}
		p.open = append(p.open, o)
		switch s {
		case 'm':
			return o.remap(syscall.PROT_READ, syscall.MAP_SHARED)
		case 'p':
			return o.remap(syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE)
		}
		return nil
	case 'w', 's':
		o, err := p.hold(os.O_RDWR)
		if err != nil {
			return err
		}
		p.open = append(p.open, o)
		next, piece := p.edit(100 + p.rnd.IntN(1000))
		off := bytes.Index(next, piece)
		if s == 's' {
			if err := o.remap(syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED); err != nil {
				return err
			}
			copy(o.mem[off:], piece)
		} else if _, err := o.file.WriteAt(piece, int64(off)); err != nil {
			return err
		}
		p.at.set(next)
	case 'a':
		o, err := p.hold(os.O_RDWR | os.O_APPEND)
		if err != nil {
			return err
		}
		p.open = append(p.open, o)
		piece := p.bytes(1 + p.rnd.IntN(2*page))
		if _, err := o.file.Write(piece); err != nil {
			return err
		}
		p.at.set(append(bytes.Clone(p.at.now()), piece...))
	case 'T':
		o, err := p.hold(os.O_RDWR | os.O_TRUNC)
		if err != nil {
			return err
		}
		p.open = append(p.open, o)
		data := p.bytes(2 * page)
		if _, err := o.file.Write(data); err != nil {
			return err
		}
		p.at.set(data)
	case 't':
		size := 2 * page
		if len(p.at.now()) <= size {
			size = len(p.at.now()) + page
		}
		if err := os.Truncate(p.path, int64(size)); err != nil {
			return err
		}
		next := make([]byte, size)
		copy(next, p.at.now())
		p.at.set(next)
	case 'o':
		data := p.bytes(3 * page)
		if err := os.WriteFile(p.path+".tmp", data, 0o644); err != nil {
			return err
		}
		if err := os.Rename(p.path+".tmp", p.path); err != nil {
			return err
		}
		p.at = &modelInode{versions: [][]byte{data}}
	case 'u':
		if err := os.Remove(p.path); err != nil {
			return err
		}
		p.at = nil
	case 'c':
		return p.closeAll()
	}
	return nil
}

// modeOrders are all orders of two steps, and random longer ones.
func modeOrders(rnd *rand.Rand) []string {
	var all []string
	for i := range stepLetters {
		for j := range stepLetters {
			all = append(all, stepLetters[i:i+1]+stepLetters[j:j+1])
		}
	}
	for range *modesExtra {
		var b strings.Builder
		for range 3 + rnd.IntN(5) {
			b.WriteByte(stepLetters[rnd.IntN(len(stepLetters))])
		}
		all = append(all, b.String())
	}
	return all
}

// TestEveryOrder: whatever the order of readers, writers, mappings and changes
// of names, on a file in whatever state, nobody sees bytes that never were,
// nothing fails, and no object in the cache is written to.
func TestEveryOrder(t *testing.T) {
	seed := *modesSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-modes.seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for _, state := range []string{"blob", "absent", "local", "sealed", "landed"} {
		t.Run(state, func(t *testing.T) { testOrders(t, state, false, rnd) })
		t.Run(state+", cached", func(t *testing.T) { testOrders(t, state, true, rnd) })
	}
}

func testOrders(t *testing.T, state string, cachedOnly bool, rnd *rand.Rand) {
	orders := modeOrders(rnd)
	if state == "landed" {
		orders = orders[len(orders)-min(len(orders), 60):]
	}
	c := writable()
	c.Blobs, c.Cached = len(orders), cachedOnly
	m := startMount(t, c)
	content := func(i int) []byte { return bytes.Repeat([]byte{byte(i), byte(i >> 8), 7}, page) }
	name := func(i int) string { return fmt.Sprintf("orders/%05d.bin", i) }
	switch state {
	case "blob":
		content = func(int) []byte { return blobBytes() }
		name = blobName
		m.completeBlob(t)
	case "absent":
		name, content = absentName, absentBytes
	case "landed":
		content = func(int) []byte { return bytes.Repeat([]byte("landed\n"), nativeMin/6) }
		fallthrough
	default:
		must(t, os.Mkdir(m.path("orders"), 0o755))
		for i := range orders {
			must(t, os.WriteFile(m.path(name(i)), content(i), 0o644))
		}
	}
	switch state {
	case "sealed":
		m.do("hold")
		m.do("seal")
		waitFor(t, "the commit", func() bool { return m.ask("commits") == "1" })
	case "landed":
		m.do("commit")
	}
	before := m.blobHashes()
	paths := make([]*modelPath, len(orders))
	for i, order := range orders {
		p := &modelPath{path: m.path(name(i)), at: &modelInode{versions: [][]byte{content(i)}}, rnd: rnd}
		paths[i] = p
		if err := p.run(order); err != nil {
			t.Errorf("%s: %v", name(i), err)
		}
	}
	for blob, sha := range m.blobHashes() {
		if was, ok := before[blob]; ok && was != sha {
			t.Errorf("%s was written to", blob)
		}
	}
	waitFor(t, "the releases", func() bool { return m.ask("handles") == "0" })
	if m.ready.Passthrough && state != "absent" && state != "local" && m.ask("asked stale") == "0" {
		t.Error("no writer met a native reader of something else")
	}
	if state == "sealed" {
		m.ask("sealed") // what was written since is left
	}
	m.do("commit")
	for i, p := range paths {
		want := "absent"
		if p.at != nil {
			want = hashOf(p.at.now())
		}
		if got := m.ask("remote " + name(i)); got != want {
			t.Errorf("%s (%q): the Hub has %.8s, want %.8s", name(i), orders[i], got, want)
		}
		if err := p.check(); err != nil {
			t.Errorf("%s (%q), after the commit: %v", name(i), orders[i], err)
		}
	}
	if m.ready.Passthrough && state == "blob" && len(before) == 0 {
		t.Error("no object was complete")
	}
}

// completeBlob reads one of the blobs until it is native.
func (m *mount) completeBlob(t *testing.T) {
	t.Helper()
	name := blobName(0)
	waitFor(t, "a complete blob", func() bool {
		if _, err := os.ReadFile(m.path(name)); err != nil {
			t.Fatal(err)
		}
		return len(m.blobHashes()) > 0
	})
}

// TestWhoIsNative: which opens the kernel serves by itself.
func TestWhoIsNative(t *testing.T) {
	c := writable()
	c.Blobs = 1
	m := startMount(t, c)
	if !m.ready.Passthrough {
		t.Logf("no passthrough here: %s", m.ready.Reason)
		return // nobody is
	}
	m.completeBlob(t)
	opens := func(name, want string) {
		t.Helper()
		if got := m.ask("opens " + name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	asked := func(what string) int {
		t.Helper()
		n, err := strconv.Atoi(m.ask("asked " + what))
		must(t, err)
		return n
	}
	before := asked("write") + asked("read")
	flags := os.O_RDWR | os.O_CREATE

	w := openFlags(t, m.path("new"), flags)
	opens("new", "{cached:0 native:1}")
	must(t, errOf(w.WriteString("text")))
	r := open(t, m.path("new"))
	opens("new", "{cached:0 native:2}")
	again := openFlags(t, m.path("new"), os.O_WRONLY|os.O_APPEND)
	opens("new", "{cached:0 native:3}")
	must(t, errOf(again.WriteString(", more")))
	if b, err := readAllAt(r); err != nil || string(b) != "text, more" {
		t.Errorf("%q, %v", b, err)
	}
	if got := asked("write") + asked("read"); got != before {
		t.Errorf("%d reads and writes came to the server", got-before)
	}
	for _, f := range []*os.File{w, r, again} {
		f.Close()
	}
	waitFor(t, "the releases", func() bool { return m.ask("opens new") == "{cached:0 native:0}" })

	// What is written anew is native at once, whatever it was.
	_ = openFlags(t, m.path("model2.safetensors"), os.O_RDWR|os.O_TRUNC)
	opens("model2.safetensors", "{cached:0 native:1}")
	if got := asked("setattr"); got != 0 {
		t.Error("O_TRUNC is a request of its own")
	}

	// A writer of what a native reader has gets an inode of its own.
	name := blobName(0)
	blob := open(t, m.path(name))
	opens(name, "{cached:0 native:1}")
	w = openFlags(t, m.path(name), os.O_RDWR)
	opens(name, "{cached:1 native:0}")
	if got := asked("stale"); got != 1 {
		t.Errorf("%d opens were sent to look again", got)
	}
	before = asked("getxattr")
	for i := range 10 {
		must(t, errOf(w.WriteAt([]byte("new"), int64(100*i))))
	}
	if got := asked("write"); got != 10 {
		t.Errorf("%d of 10 writes came to the server", got)
	}
	if got := asked("getxattr"); got > before+1 {
		t.Errorf("10 writes ask for attributes %d times", got-before)
	}
	if b, err := readAllAt(blob); err != nil || !bytes.Equal(b, blobBytes()) {
		t.Errorf("a native reader of the blob sees something else, or %v", err)
	}
	ino := func(f *os.File) uint64 {
		st, err := f.Stat()
		must(t, err)
		return st.Sys().(*syscall.Stat_t).Ino
	}
	if ino(blob) != ino(w) {
		t.Error("the numbers differ")
	}
	must(t, w.Close())
	must(t, blob.Close())

	// A reader alone asks for no FLUSH.
	before = asked("flush")
	must(t, open(t, m.path(name)).Close())
	if got := asked("flush"); got != before {
		t.Error("closing what was only read is a request")
	}
	m.blobHashes()
}

func errOf(_ int, err error) error { return err }

// TestReopenThroughProc: an open for writing that cannot be sent to look again
// fails cleanly.
func TestReopenThroughProc(t *testing.T) {
	c := writable()
	c.Blobs = 1
	m := startMount(t, c)
	m.completeBlob(t)
	waitFor(t, "the releases", func() bool { return m.ask("handles") == "0" })
	r := open(t, m.path(blobName(0)))
	w, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", r.Fd()), os.O_RDWR, 0)
	if err == nil {
		_, err = w.WriteAt([]byte("x"), 0)
		must(t, err)
		must(t, w.Close())
	} else {
		wantErr(t, "a reopen", err, unix.ESTALE)
	}
	m.blobHashes() // checks that they are what they are called
}
