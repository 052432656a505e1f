package node

import (
	"bytes"
	"encoding/binary"
	"path"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// maxDescriptors is how many descriptors of a process are looked at. Looking
// at one takes about a microsecond of its close(2).
const maxDescriptors = 256

// maxTables is how many processes' tables are kept open. One that copies many
// files is looked at once for each.
const maxTables = 4

// descriptorTables looks at the descriptors of processes. It keeps some of what
// it reads from open: finding a process in /proc costs more than the look.
//
// Lock order: mu, then table.mu; mu is not held during a look.
type descriptorTables struct {
	mu     sync.Mutex
	closed bool     // guarded by mu
	kept   []*table // the last used one last; guarded by mu
}

// table is the descriptors of one process. They stay those of the process: when
// it ends, what is read of them is an error, also if another has its number.
type table struct {
	pid int

	mu    sync.Mutex // held during a look: the position in dir is shared
	users int        // guarded by descriptorTables.mu
	// of /proc/PID: cmdline, fd
	args, dir int
	buf       [16 << 10]byte // guarded by mu
}

// last reports whether the process that calls close(2) has no other descriptor
// of the file at name, a path in the mount at dir. The one it closes is out of
// its table by then. false is also that it is not known.
func (d *descriptorTables) last(pid int, dir, name string) bool {
	t := d.take(pid)
	if t == nil {
		return false
	}
	last, alive := t.last(dir, name)
	d.give(t, alive)
	return last
}

func (d *descriptorTables) take(pid int) *table {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, t := range d.kept {
		if t.pid == pid {
			copy(d.kept[i:], d.kept[i+1:])
			d.kept[len(d.kept)-1] = t
			t.users++
			return t
		}
	}
	dir := "/proc/" + strconv.Itoa(pid)
	args, err := unix.Open(dir+"/cmdline", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	fds, err := unix.Open(dir+"/fd", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		_ = unix.Close(args)
		return nil
	}
	t := &table{pid: pid, users: 1, args: args, dir: fds}
	if d.closed {
		return t
	}
	t.users++
	d.kept = append(d.kept, t)
	if len(d.kept) > maxTables {
		d.dropLocked(0)
	}
	return t
}

// give gives a table back; one that is of no process any more is not kept.
func (d *descriptorTables) give(t *table, alive bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !alive {
		for i := range d.kept {
			if d.kept[i] == t {
				d.dropLocked(i)
				break
			}
		}
	}
	t.putLocked()
}

func (d *descriptorTables) dropLocked(i int) {
	t := d.kept[i]
	d.kept = append(d.kept[:i], d.kept[i+1:]...)
	t.putLocked()
}

func (t *table) putLocked() {
	if t.users--; t.users == 0 {
		_ = unix.Close(t.args) // they were only read
		_ = unix.Close(t.dir)
	}
}

// close keeps no table any more.
func (d *descriptorTables) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	for len(d.kept) > 0 {
		d.dropLocked(0)
	}
}

// last looks. alive is false where nothing can be read of the process any more.
func (t *table) last(dir, name string) (last, alive bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	// A process in execve(2), which closes files too, holds up whoever reads a
	// link of its table until it is through, and it is not before its FLUSH is
	// answered. It has no arguments then: those of its new program are put into
	// place after the files are closed. (One that ends has none either, and no
	// table.) No other thread can be in execve: it first waits for the end of the
	// one that closes.
	if n, err := unix.Pread(t.args, t.buf[:1], 0); err != nil || n == 0 {
		return false, false
	}
	if _, err := unix.Seek(t.dir, 0, unix.SEEK_SET); err != nil {
		return false, false
	}
	n, err := unix.Getdents(t.dir, t.buf[:])
	if err != nil || n == 0 {
		return false, false
	}
	// Who else has its files, the shell that started it for example, is not
	// known. A full buffer may not be all.
	if n > len(t.buf)-512 {
		return false, true
	}
	var link [unix.PathMax]byte
	seen := 0
	for list := t.buf[:n]; len(list) > direntName; {
		size := int(binary.NativeEndian.Uint16(list[direntSize:]))
		if size <= direntName || size > len(list) {
			return false, true
		}
		fd, _, _ := bytes.Cut(list[direntName:size], []byte{0})
		list = list[size:]
		if len(fd) == 0 || fd[0] == '.' {
			continue
		}
		if seen++; seen > maxDescriptors {
			return false, true
		}
		// The link is the path as the kernel has it; the mount is not asked.
		n, err := unix.Readlinkat(t.dir, string(fd), link[:])
		if err != nil {
			continue // closed by another thread meanwhile
		}
		if n == len(link) || isSame(strings.TrimSuffix(string(link[:n]), " (deleted)"), dir, name) {
			return false, true
		}
	}
	return true, true
}

// isSame reports whether to may be the file at name. While a directory above it
// is renamed, only the last part of a path is certain; what is elsewhere, such
// as the source of a copy, is none of the mount's.
func isSame(to, dir, name string) bool {
	return path.Base(to) == path.Base(name) && (strings.HasPrefix(to, dir+"/") || strings.HasSuffix(to, "/"+name))
}

// Where the fields of a struct linux_dirent64 are.
const (
	direntSize = 16
	direntName = 19
)
