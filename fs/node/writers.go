package node

import (
	"bufio"
	"bytes"
	"cmp"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// OpenWriter is a file that a process has open for writing.
type OpenWriter struct {
	Path string // in the mount, as far as it has a name
	PID  int    // who opened it, 0 if it is not known
}

// OpenForWriting lists what keeps files from being complete, sorted by path. A
// mapping counts until it is gone.
func (s *Server) OpenForWriting() []OpenWriter {
	s.mu.Lock()
	var open []*openFile
	for o := range s.open {
		if o.write {
			open = append(open, o)
		}
	}
	s.mu.Unlock()
	all := make([]OpenWriter, len(open))
	for i, o := range open {
		all[i] = OpenWriter{Path: o.node.name(), PID: o.pid}
	}
	slices.SortFunc(all, func(a, b OpenWriter) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), cmp.Compare(a.PID, b.PID))
	})
	return slices.Compact(all)
}

// dueWriters are paths which opens for writing were sent to look up again.
// Until they have come, no reader may make what is there native: the kernel
// looks up only once more.
type dueWriters struct {
	any  atomic.Bool // come is not empty
	mu   sync.Mutex
	come map[string]dueWriter // guarded by mu
}

type dueWriter struct {
	n     int // opens and truncates
	until time.Time
}

const (
	writerPatience = 2 * time.Second
	maxDue         = 1024 // beyond it, a writer may have to try again by itself
)

func (d *dueWriters) expect(path string, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for p, w := range d.come {
		if !now.Before(w.until) || len(d.come) >= maxDue {
			delete(d.come, p)
		}
	}
	if d.come == nil {
		d.come = make(map[string]dueWriter)
	}
	d.come[path] = dueWriter{d.come[path].n + 1, now.Add(writerPatience)}
	d.any.Store(true)
}

// came is called for every writer, whether due or not. path is asked for only
// where somebody is due.
func (d *dueWriters) came(path func() string) {
	if !d.any.Load() {
		return
	}
	p := path()
	d.mu.Lock()
	defer d.mu.Unlock()
	w, ok := d.come[p]
	if !ok {
		return
	}
	if w.n--; w.n > 0 {
		d.come[p] = w
	} else {
		delete(d.come, p)
	}
	d.any.Store(len(d.come) > 0)
}

// is reports whether a writer of the path is due.
func (d *dueWriters) is(path func() string, now time.Time) bool {
	if !d.any.Load() {
		return false
	}
	p := path()
	d.mu.Lock()
	defer d.mu.Unlock()
	return now.Before(d.come[p].until)
}

// threads remembers which process a thread belongs to. The kernel names the
// thread, and people look for the process.
type threads struct {
	mu    sync.Mutex
	known map[uint32]thread // guarded by mu
}

type thread struct {
	process int
	until   time.Time
}

const (
	threadTTL  = time.Second // a number is not used again as soon
	maxThreads = 256
)

// processOf returns the process of a thread, the thread itself where /proc
// does not tell, and 0 for none.
func (s *Server) processOf(tid uint32) int {
	if tid == 0 {
		return 0
	}
	now := s.now()
	s.threads.mu.Lock()
	t, ok := s.threads.known[tid]
	s.threads.mu.Unlock()
	if ok && now.Before(t.until) {
		return t.process
	}
	t = thread{process: int(tid), until: now.Add(threadTTL)}
	if status, err := os.ReadFile("/proc/" + strconv.FormatUint(uint64(tid), 10) + "/status"); err == nil {
		t.process = cmp.Or(threadGroup(status), t.process)
	}
	s.threads.mu.Lock()
	defer s.threads.mu.Unlock()
	if s.threads.known == nil || len(s.threads.known) >= maxThreads {
		s.threads.known = make(map[uint32]thread)
	}
	s.threads.known[tid] = t
	return t.process
}

// threadGroup reads the process out of a /proc/TID/status, 0 if it is not in it.
func threadGroup(status []byte) int {
	for sc := bufio.NewScanner(bytes.NewReader(status)); sc.Scan(); {
		if n, ok := strings.CutPrefix(sc.Text(), "Tgid:"); ok {
			pid, err := strconv.Atoi(strings.TrimSpace(n))
			if err != nil {
				return 0
			}
			return pid
		}
	}
	return 0
}
