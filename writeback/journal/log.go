package journal

import (
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"sync"
)

// Options configures [Open].
type Options struct {
	FS FS // nil is the operating system's
}

// Log is an open log. It is safe for concurrent use.
type Log struct {
	fs   FS
	path string

	mu       sync.Mutex
	settled  sync.Cond // on mu: syncing became false
	f        File      // nil when closed
	size     int64
	buf      []byte
	broken   error  // why nothing can be appended any more
	unsynced error  // why Sync can promise nothing any more
	appended uint64 // records, since Open
	synced   uint64 // how many of those are durable
	named    bool   // the name in the folder is durable
	syncing  bool   // a Sync is under way, without mu
}

// Open opens or creates the log at path and replays it: one call of replay for
// each record, in order. The payloads are the callee's to keep. An error of
// replay ends it and is returned. The returned Damage is nil if everything was
// read. The caller closes the log, and is the only process that has it open
// (writeback locks the folder).
func Open(path string, o Options, replay func(payloads [][]byte) error) (*Log, *Damage, error) {
	if o.FS == nil {
		o.FS = OS{}
	}
	// A Rewrite that a crash interrupted: the log itself is whole.
	if err := o.FS.Remove(path + ".tmp"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, nil, err
	}
	f, size, err := o.FS.Open(path)
	if err != nil {
		return nil, nil, err
	}
	l := &Log{fs: o.FS, path: path, f: f}
	l.settled.L = &l.mu
	d, err := l.load(size, replay)
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return l, d, nil
}

func (l *Log) load(size int64, replay func(payloads [][]byte) error) (*Damage, error) {
	good, reason, err := replayFile(l.f, size, replay)
	if err != nil {
		return nil, fmt.Errorf("replaying %s: %w", l.path, err)
	}
	var d *Damage
	if reason != "" {
		if d, err = setAside(l.fs, l.path, l.f, good, size, reason); err != nil {
			return nil, fmt.Errorf("setting the damaged end of %s aside: %w", l.path, err)
		}
	}
	l.size = good
	if good == 0 {
		if _, err := l.f.WriteAt(header(), 0); err != nil {
			return nil, errors.Join(err, l.f.Truncate(0))
		}
		l.size = int64(headerSize)
		l.appended++ // so that the first Sync makes the header durable
	}
	if f, ok := l.f.(*osFile); ok {
		f.keep(l.size)
	}
	return d, nil
}

// Append writes one record. When it returns, the record survives the death of
// the process; Sync makes it survive that of the machine. After an error the
// log is cut back to where it was, or refuses everything else until a Rewrite.
func (l *Log) Append(payloads ...[]byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return os.ErrClosed
	}
	if l.broken != nil {
		return l.broken
	}
	buf, err := appendFrame(l.buf[:0], payloads)
	if cap(buf) <= 1<<20 {
		l.buf = buf
	}
	if err != nil {
		return err
	}
	if _, err := l.f.WriteAt(buf, l.size); err != nil {
		if terr := l.f.Truncate(l.size); terr != nil {
			l.broken = fmt.Errorf("the journal cannot be used: %w", errors.Join(err, terr))
		}
		return err
	}
	l.size += int64(len(buf))
	l.appended++
	return nil
}

// Sync makes all that was appended durable. Callers that arrive together share
// one fdatasync.
func (l *Log) Sync() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.syncLocked()
}

func (l *Log) syncLocked() error {
	want := l.appended
	for {
		switch {
		case l.f == nil:
			return os.ErrClosed
		case l.unsynced != nil:
			return l.unsynced
		case l.synced >= want && l.named:
			return nil
		case l.syncing:
			l.settled.Wait()
			continue
		}
		l.syncing = true
		upTo, f, named := l.appended, l.f, l.named
		l.mu.Unlock()
		err := f.Sync()
		if err == nil && !named {
			err = l.fs.SyncDir(filepath.Dir(l.path))
		}
		l.mu.Lock()
		l.syncing = false
		if err != nil {
			l.unsynced = fmt.Errorf("syncing the journal: %w", err)
		} else {
			l.synced, l.named = upTo, true
		}
		l.settled.Broadcast()
	}
}

// Size is the length in bytes.
func (l *Log) Size() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size
}

// Rewrite replaces the log by one that holds the given records, atomically and
// durably: a crash leaves the old one or the new one. After an error the log is
// one of both and goes on. Append waits meanwhile, so that records must not
// call it.
func (l *Log) Rewrite(records iter.Seq[[][]byte]) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.syncing {
		l.settled.Wait()
	}
	if l.f == nil {
		return os.ErrClosed
	}
	tmp := l.path + ".tmp"
	f, size, err := l.writeNew(tmp, records)
	if err == nil {
		if err = l.fs.Rename(tmp, l.path); err != nil {
			_ = f.Close()
		}
	}
	if err != nil {
		_ = l.fs.Remove(tmp)
		return fmt.Errorf("rewriting the journal: %w", err)
	}
	// From here on the new file is the log, whatever else happens.
	_ = l.f.Close() // superseded
	l.f, l.size = f, size
	l.broken, l.unsynced = nil, nil
	l.synced, l.named = l.appended, true
	if err := l.fs.SyncDir(filepath.Dir(l.path)); err != nil {
		l.named = false
		l.unsynced = fmt.Errorf("syncing the journal: %w", err)
		return l.unsynced
	}
	return nil
}

// writeNew makes a synced file with the records.
func (l *Log) writeNew(name string, records iter.Seq[[][]byte]) (_ File, size int64, err error) {
	f, old, err := l.fs.Open(name)
	if err != nil {
		return nil, 0, err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	if old > 0 {
		if err := f.Truncate(0); err != nil {
			return nil, 0, err
		}
	}
	buf := header()
	write := func() error {
		n, err := f.WriteAt(buf, size)
		size += int64(n)
		buf = buf[:0]
		return err
	}
	for payloads := range records {
		if buf, err = appendFrame(buf, payloads); err != nil {
			return nil, 0, err
		}
		if len(buf) >= 1<<18 {
			if err := write(); err != nil {
				return nil, 0, err
			}
		}
	}
	if err := write(); err != nil {
		return nil, 0, err
	}
	return f, size, f.Sync()
}

// Close syncs and closes. The log is closed whatever it returns.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return nil
	}
	err := l.syncLocked()
	for l.syncing {
		l.settled.Wait()
	}
	if l.f == nil {
		return err // closed by another caller meanwhile
	}
	if cerr := l.f.Close(); err == nil {
		err = cerr
	}
	l.f = nil
	l.settled.Broadcast()
	return err
}
