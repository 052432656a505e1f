package staging

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// noWriters fails with ErrWriters if anybody has the file behind r, which is
// open for reading, open or mapped for writing. It returns whether it could
// really tell.
//
// The kernel grants a read lease only on a file that nobody may write to, and
// counts the mappings whose descriptors are closed, those of a passthrough
// file among them. The lease is given back at once.
func noWriters(r *os.File) (sure bool, err error) {
	switch err := lease(r, unix.F_RDLCK); err {
	case nil:
		if err := lease(r, unix.F_UNLCK); err != nil {
			return false, &os.PathError{Op: "unlease", Path: r.Name(), Err: err}
		}
		return true, nil
	case unix.EAGAIN:
		return true, ErrWriters
	default:
		// No leases here (a network file system, or a file of another user).
		return false, noMappings(r)
	}
}

func lease(f *os.File, kind int) error {
	for {
		_, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, kind)
		if err != unix.EINTR {
			return err
		}
	}
}

// noMappings looks for shared, writable mappings of the file in those
// processes that it may look into.
func noMappings(r *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(r.Fd()), &st); err != nil {
		return &os.PathError{Op: "stat", Path: r.Name(), Err: err}
	}
	// As /proc/PID/maps spells it.
	want := fmt.Sprintf("%02x:%02x %d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	maps, err := filepath.Glob("/proc/[0-9]*/maps")
	if err != nil {
		return err
	}
	for _, name := range maps {
		if looks.mapsFile(name, want) {
			return ErrWriters
		}
	}
	return nil
}

// mapsWait is how long a look at one process may take.
const mapsWait = time.Second

// looks are the processes that do not let anybody look at them: one that waits
// for a dead mount while it replaces its memory, for example. Each keeps one
// goroutine until it is through, and counts as mapping nothing.
var looks stuckLooks

type stuckLooks struct {
	mu    sync.Mutex // leaf
	names map[string]bool
}

func (l *stuckLooks) mapsFile(name, file string) bool {
	l.mu.Lock()
	stuck := l.names[name]
	l.mu.Unlock()
	if stuck {
		return false
	}
	found := make(chan bool, 1)
	go func() {
		found <- mapsFile(name, file)
		l.mu.Lock()
		delete(l.names, name)
		l.mu.Unlock()
	}()
	wait := time.NewTimer(mapsWait)
	defer wait.Stop()
	select {
	case yes := <-found:
		return yes
	case <-wait.C:
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case yes := <-found: // through meanwhile
		return yes
	default:
	}
	if l.names == nil {
		l.names = make(map[string]bool)
	}
	l.names[name] = true
	return false
}

// mapsFile reports whether the process maps the file "DEV INODE" shared and
// for writing. A process that is gone or not ours maps nothing.
func mapsFile(name, file string) bool {
	f, err := os.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		// ADDRESS PERMS OFFSET DEV INODE PATH
		c := strings.Fields(s.Text())
		if len(c) >= 5 && strings.HasSuffix(c[1], "s") && strings.Contains(c[1], "w") && c[3]+" "+c[4] == file {
			return true
		}
	}
	return false
}
