package writeback

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"hfmount/remote/hub"
	"hfmount/writeback/journal"
	"hfmount/writeback/staging"
)

var errClosed = fmt.Errorf("the local changes: %w", os.ErrClosed)

// Key says whose local changes a layer holds. Two mounts with equal keys and
// the same state folder are about the same changes.
type Key struct {
	Endpoint string  `json:"endpoint"`
	Account  string  `json:"account"`
	Ref      hub.Ref `json:"ref"` // the revision spelt out
}

// LayerOptions configures [OpenLayer].
type LayerOptions struct {
	// StateDir is the folder of all layers; this one is a folder in it.
	StateDir string
	Key      Key
	// Owner tells another process that finds the layer locked who has it, such
	// as the mount point.
	Owner string
	// Content opens bytes that the Hub has. It is called without locks, and not
	// before somebody reads or fills a partial file.
	Content func(ctx context.Context, p Place) (staging.Source, error)
	// LocalOnly says why a path is never committed ("editor temporary", ".git",
	// "ignored"), or "" for the others. It is called with locks held and must
	// not wait. nil is never.
	LocalOnly func(path string) string
	// MaxStaging bounds the bytes in staging; 0 is half of the free space.
	MaxStaging int64
	Now        func() time.Time // nil is time.Now
	Logger     *slog.Logger     // nil is silence
}

// Layer is the local changes of one branch: names, bytes and journal. It is
// safe for concurrent use.
//
// Every change of it is in the journal before the call returns. No method
// makes a request but those of a Handle that read a partial file, and Fill.
//
// Lock order: File.mu, then Layer.mu, then what is below (signal, trash, space
// and the locks of journal and staging). Layer.mu is never held while bytes are
// copied or hashed, or a request is made; the journal is appended to under it,
// so that the order of records is that of the changes.
type Layer struct {
	o       LayerOptions
	dir     string
	log     *slog.Logger
	lock    *os.File
	journal *journal.Log
	staging *staging.Dir
	boot    string
	damage  string

	mu        sync.RWMutex
	closed    bool
	version   uint64 // counts changes of names
	seq       uint64
	lastFile  uint64
	changes   map[string]*change
	dirs      map[string]*dirNode
	values    map[string]json.RawMessage
	sending   map[string]bool // paths of a commit whose outcome is not known
	compacted int64           // size of the journal when it was last rewritten
	rewritten int             // how many changes there were then
	expecting []expected      // oldest first

	signal signal
	trash  trash
	space  space
}

// signal wakes whoever waits for the next change.
type signal struct {
	mu sync.Mutex
	ch chan struct{} // nil while nobody waits
}

func (s *signal) wait() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch == nil {
		s.ch = make(chan struct{})
	}
	return s.ch
}

func (s *signal) raise() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch != nil {
		close(s.ch)
		s.ch = nil
	}
}

// OpenLayer locks and replays the local changes of key, or fails with
// ErrLocked. The caller closes it.
func OpenLayer(o LayerOptions) (*Layer, error) {
	return openLayer(o, journal.Options{}, staging.Options{Logger: o.Logger}, bootID())
}

// openLayer lets tests have another disk and another machine.
func openLayer(o LayerOptions, jo journal.Options, so staging.Options, boot string) (_ *Layer, err error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.LocalOnly == nil {
		o.LocalOnly = func(string) string { return "" }
	}
	l := &Layer{
		o: o, dir: layerDir(o.StateDir, o.Key), log: o.Logger, boot: boot,
		changes: make(map[string]*change), dirs: make(map[string]*dirNode),
		values: make(map[string]json.RawMessage), version: 1, // 0 is not to look
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	if l.lock, err = lockDir(l.dir, o.Owner); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			if l.journal != nil {
				_ = l.journal.Close()
			}
			_ = l.lock.Close()
		}
	}()
	if err := writeKey(l.dir, o.Key); err != nil {
		return nil, err
	}
	if l.staging, err = staging.OpenDir(filepath.Join(l.dir, "staging"), so); err != nil {
		return nil, err
	}
	r := newReplay()
	var damage *journal.Damage
	if l.journal, damage, err = journal.Open(filepath.Join(l.dir, "journal"), jo, r.record); err != nil {
		return nil, err
	}
	if err := l.restore(r, damage); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l, l.appendLocked(payload{Boot: &bootRec{Version: recordVersion, Boot: boot}})
}

// Damage says what of the journal could not be replayed, "" if nothing.
func (l *Layer) Damage() string { return l.damage }

// Folder is where the layer keeps everything.
func (l *Layer) Folder() string { return l.dir }

// Version changes whenever a name does. Apply takes it back.
func (l *Layer) Version() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.version
}

// Sync makes all names durable, for fsync of a directory.
func (l *Layer) Sync() error {
	if err := l.syncJournal(); err != nil {
		return err
	}
	l.sweep()
	return nil
}

// Close makes everything durable and gives up the lock. Changes stay. Open
// handles cannot write any more; a file that one of them wrote to comes back as
// Unclosed, flushed or not: that may have been a duplicate of a descriptor
// whose owner was not done.
func (l *Layer) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	var err error
	if len(l.changes) > 0 {
		err = l.settleLocked()
	}
	for _, c := range l.changes {
		if f := c.file; f != nil && f.unfinishedLocked() {
			f.unclosed, f.flushed = true, false
		}
	}
	err = errors.Join(err, l.rewriteLocked())
	l.closed = true
	var stages []*stage
	for _, c := range l.changes {
		if c.file != nil {
			stages = append(stages, c.file.cur)
		}
	}
	l.mu.Unlock()
	l.sweep()
	l.space.wake()
	l.signal.raise()
	err = errors.Join(err, l.journal.Close())
	for _, s := range stages {
		err = errors.Join(err, s.sf.Close())
	}
	return errors.Join(err, l.lock.Close())
}

// unfinishedLocked reports whether somebody who has the file open wrote to it.
// Layer.mu is held.
func (f *File) unfinishedLocked() bool {
	if len(f.writers) == 0 {
		return false
	}
	p, err := f.cur.sf.Print()
	if err != nil {
		return false // in the cache, or gone: nothing new to tell
	}
	return !f.flushed || f.wrote.Load() || !samePrint(p, f.print) ||
		slices.ContainsFunc(f.writers, func(h *Handle) bool { return !h.since.After(f.since) })
}

// settleLocked makes all staged bytes durable and notes that they are, so that
// a machine that is switched off now loses nothing.
func (l *Layer) settleLocked() error {
	d, err := os.Open(filepath.Join(l.dir, "staging"))
	if err != nil {
		return err
	}
	err = syncfs(d)
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	for _, c := range l.changes {
		f := c.file
		if f == nil || len(f.writers) > 0 {
			continue
		}
		if p, err := f.cur.sf.Print(); err == nil && samePrint(p, f.print) {
			f.synced = true
		}
	}
	return nil
}
