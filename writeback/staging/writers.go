package staging

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"

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
		if mapsFile(name, want) {
			return ErrWriters
		}
	}
	return nil
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
