package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

func init() { roles["crash-worker"] = crashWorker }

// step is one line of what a worker does. Before a call that makes something
// so, it says what will be so (Begin); after the call returned without error,
// that it is (Done). Dirty names a path that is open for writing, whose bytes
// are nobody's business until then.
type step struct {
	Dirty string            `json:"dirty,omitempty"`
	Begin map[string]string `json:"begin,omitempty"` // path to digest, "" is absence
	Done  bool              `json:"done,omitempty"`
	// Loose is a Begin of bytes that came after the close, through a mapping: they
	// are there, but nobody said that they are all.
	Loose bool   `json:"loose,omitempty"`
	Error string `json:"error,omitempty"`
}

// worker saves checkpoints in its directory of a mount until something fails
// because the daemon was killed.
type worker struct {
	root  string
	round int
	r     *rand.Rand
	saves int
	files map[string]bool // names of its own that exist
	stop  atomic.Bool     // after what is being done
	left  []byte          // a mapping that is still there
}

// crashWorker is: crash-worker ROOT ROUND SEED.
func crashWorker(args []string) int {
	debug.SetPanicOnFault(true) // a page of a dead mount
	round, _ := strconv.Atoi(args[1])
	seed, _ := strconv.ParseUint(args[2], 10, 64)
	w := &worker{root: args[0], round: round, r: rand.New(rand.NewPCG(seed, 1)), files: map[string]bool{}}
	go func() {
		os.Stdin.Read(make([]byte, 1)) // its end
		w.stop.Store(true)
	}()
	err := w.run()
	w.say(step{Error: err.Error()})
	// A mapping lives on without the daemon, and so do stores to it.
	for end := time.Now().Add(time.Duration(w.r.IntN(600)) * time.Millisecond); w.left != nil && time.Now().Before(end); {
		if guarded(func() { w.left[w.r.IntN(len(w.left))]++ }) != nil {
			break
		}
	}
	return 0
}

// guarded runs f, in which a page fault may fail.
func guarded(f func()) (err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("fault")
		}
	}()
	f()
	return nil
}

func (w *worker) say(s step) {
	b, _ := json.Marshal(s)
	os.Stdout.Write(append(b, '\n'))
}

// makes says what f makes so, and that it did.
func (w *worker) makes(f func() error, sets map[string]string) error {
	return w.does(f, step{Begin: sets})
}

func (w *worker) does(f func() error, s step) error {
	w.say(s)
	if err := f(); err != nil {
		return err
	}
	w.say(step{Done: true})
	return nil
}

func (w *worker) path(name string) string { return filepath.Join(w.root, name) }

func (w *worker) bytes(max int) []byte { return noise(w.r.Uint64(), 1+w.r.IntN(max)) }

func (w *worker) run() error {
	dir := fmt.Sprintf("r%04d", w.round)
	if err := os.Mkdir(w.path(dir), 0o755); err != nil && !os.IsExist(err) {
		return err
	}
	if err := w.prune(); err != nil {
		return err
	}
	ops := []func(dir string) error{w.checkpoint, w.checkpoint, w.duplicated, w.mapped, w.outlived, w.edit, w.grow, w.save, w.remove}
	for !w.stop.Load() {
		if err := ops[w.r.IntN(len(ops))](dir); err != nil {
			return err
		}
	}
	return errors.New("stopped")
}

// prune removes what rounds before the last few have left.
func (w *worker) prune() error {
	list, err := os.ReadDir(w.root)
	if err != nil {
		return err
	}
	for _, e := range list {
		var round int
		if n, _ := fmt.Sscanf(strings.TrimLeft(e.Name(), "rs"), "%d", &round); n == 0 || !e.IsDir() || round > w.round-4 {
			continue
		}
		if err := w.drop(e.Name()); err != nil {
			return err
		}
	}
	return nil
}

// drop removes a directory of files; a save under another name, so that nobody
// takes what is left meanwhile for one.
func (w *worker) drop(dir string) error {
	list, err := os.ReadDir(w.path(dir))
	if err != nil {
		return err
	}
	if gone := dir + ".gone"; strings.HasPrefix(dir, "s") && !strings.HasSuffix(dir, ".gone") {
		sets := map[string]string{}
		for _, e := range list {
			b, err := os.ReadFile(w.path(dir + "/" + e.Name()))
			if err != nil {
				return err
			}
			sets[dir+"/"+e.Name()], sets[gone+"/"+e.Name()] = "", digest(b)
		}
		if err := w.makes(func() error { return unix.Rename(w.path(dir), w.path(gone)) }, sets); err != nil {
			return err
		}
		dir = gone
	}
	for _, e := range list {
		name := dir + "/" + e.Name()
		if err := w.makes(func() error { return unix.Unlink(w.path(name)) }, map[string]string{name: ""}); err != nil {
			return err
		}
	}
	return unix.Rmdir(w.path(dir))
}

// create opens a file of which anything may be seen from now on.
func (w *worker) create(name string, flags int) (int, error) {
	w.say(step{Dirty: name})
	return unix.Open(w.path(name), unix.O_RDWR|unix.O_CREAT|flags, 0o644)
}

func writeAll(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(fd, b[:min(len(b), 1+len(b)/3)])
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// checkpoint writes to a temporary name and renames over the last one.
func (w *worker) checkpoint(dir string) error {
	tmp, name := dir+"/ck.bin.tmp", dir+"/ck.bin"
	fd, err := w.create(tmp, unix.O_TRUNC)
	if err != nil {
		return err
	}
	size := 100_000
	if w.r.IntN(6) == 0 {
		size = 12_000_000 // large enough for the background
	}
	b := w.bytes(size)
	if err := writeAll(fd, b); err != nil {
		return err
	}
	if w.r.IntN(2) == 0 {
		if err := unix.Fsync(fd); err != nil {
			return err
		}
	}
	if err := w.makes(func() error { return unix.Close(fd) }, map[string]string{tmp: digest(b)}); err != nil {
		return err
	}
	w.files[name] = true
	return w.makes(func() error { return unix.Rename(w.path(tmp), w.path(name)) }, map[string]string{tmp: "", name: digest(b)})
}

// duplicated writes through two descriptors of one open file; the close of the
// first is not the end of it.
func (w *worker) duplicated(dir string) error {
	name := fmt.Sprintf("%s/dup%d.bin", dir, w.r.IntN(3))
	a, err := w.create(name, unix.O_TRUNC)
	if err != nil {
		return err
	}
	b, err := unix.Dup(a)
	if err != nil {
		return err
	}
	data := w.bytes(200_000)
	if err := writeAll(a, data[:len(data)/2]); err != nil {
		return err
	}
	if err := unix.Close(a); err != nil {
		return err
	}
	if err := writeAll(b, data[len(data)/2:]); err != nil {
		return err
	}
	w.files[name] = true
	return w.makes(func() error { return unix.Close(b) }, map[string]string{name: digest(data)})
}

// mapped writes through a shared mapping that ends before close.
func (w *worker) mapped(dir string) error {
	name := fmt.Sprintf("%s/map%d.bin", dir, w.r.IntN(3))
	fd, err := w.create(name, 0)
	if err != nil {
		return err
	}
	data := w.bytes(200_000)
	m, err := mapOver(fd, len(data))
	if err != nil {
		return err
	}
	if err := guarded(func() { copy(m, data) }); err != nil {
		return err
	}
	if err := unix.Msync(m, unix.MS_SYNC); err != nil {
		return err
	}
	if err := unix.Munmap(m); err != nil {
		return err
	}
	w.files[name] = true
	return w.makes(func() error { return unix.Close(fd) }, map[string]string{name: digest(data)})
}

func mapOver(fd, size int) ([]byte, error) {
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		return nil, err
	}
	return unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}

// outlived closes the file while it is mapped, and goes on storing.
func (w *worker) outlived(dir string) error {
	name := dir + "/live.bin"
	fd, err := w.create(name, 0)
	if err != nil {
		return err
	}
	data := w.bytes(200_000)
	m, err := mapOver(fd, len(data))
	if err != nil {
		return err
	}
	w.left = m
	if err := guarded(func() { copy(m, data) }); err != nil {
		return err
	}
	if err := w.makes(func() error { return unix.Close(fd) }, map[string]string{name: digest(data)}); err != nil {
		return err
	}
	w.files[name] = true
	w.say(step{Dirty: name})
	for i := range 50 {
		data[i*len(data)/50] ^= 0x55
		if err := guarded(func() { m[i*len(data)/50] ^= 0x55 }); err != nil {
			return err
		}
	}
	// msync says whether the stores arrived; munmap would not.
	err = w.does(func() error { return unix.Msync(m, unix.MS_SYNC) }, step{Begin: map[string]string{name: digest(data)}, Loose: true})
	if err == nil {
		w.left = nil
		err = unix.Munmap(m)
	}
	return err
}

// some picks a file that exists.
func (w *worker) some() string {
	n := w.r.IntN(len(w.files) + 1)
	for name := range w.files {
		if n--; n < 0 {
			return name
		}
	}
	return ""
}

// edit changes bytes in place.
func (w *worker) edit(string) error {
	name := w.some()
	if name == "" {
		return nil
	}
	data, err := os.ReadFile(w.path(name))
	if err != nil {
		return err
	}
	fd, err := w.create(name, 0)
	if err != nil {
		return err
	}
	for range 1 + w.r.IntN(4) {
		off := w.r.IntN(len(data))
		b := w.bytes(min(5000, len(data)-off))
		n, err := unix.Pwrite(fd, b, int64(off))
		if err != nil {
			return err
		}
		copy(data[off:], b[:n])
	}
	return w.makes(func() error { return unix.Close(fd) }, map[string]string{name: digest(data)})
}

// grow appends.
func (w *worker) grow(string) error {
	name := w.some()
	if name == "" {
		return nil
	}
	data, err := os.ReadFile(w.path(name))
	if err != nil {
		return err
	}
	fd, err := w.create(name, unix.O_APPEND)
	if err != nil {
		return err
	}
	for range 1 + w.r.IntN(4) {
		more := w.bytes(3000)
		if _, err := unix.Write(fd, more); err != nil {
			return err
		}
		data = append(data, more...)
	}
	return w.makes(func() error { return unix.Close(fd) }, map[string]string{name: digest(data)})
}

// save writes a directory of three files and renames it into place.
func (w *worker) save(string) error {
	w.saves++
	tmp, name := fmt.Sprintf("s%04d-%d.tmp", w.round, w.saves), fmt.Sprintf("s%04d-%d", w.round, w.saves)
	if err := os.Mkdir(w.path(tmp), 0o755); err != nil {
		return err
	}
	all := map[string]string{}
	for i := range 3 {
		f := fmt.Sprintf("/part%d.bin", i)
		fd, err := w.create(tmp+f, unix.O_EXCL)
		if err != nil {
			return err
		}
		b := w.bytes(50_000)
		if err := writeAll(fd, b); err != nil {
			return err
		}
		if err := w.makes(func() error { return unix.Close(fd) }, map[string]string{tmp + f: digest(b)}); err != nil {
			return err
		}
		all[tmp+f], all[name+f] = "", digest(b)
	}
	if err := w.makes(func() error { return unix.Rename(w.path(tmp), w.path(name)) }, all); err != nil || w.saves <= 3 {
		return err
	}
	return w.drop(fmt.Sprintf("s%04d-%d", w.round, w.saves-3))
}

// remove deletes a file.
func (w *worker) remove(string) error {
	name := w.some()
	if name == "" {
		return nil
	}
	delete(w.files, name)
	return w.makes(func() error { return unix.Unlink(w.path(name)) }, map[string]string{name: ""})
}
