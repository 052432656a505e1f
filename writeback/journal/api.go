// Package journal is an append-only log of checksummed records.
//
// A record is a list of payloads that are replayed together or not at all. What
// an interrupted write, a lost sector or a flipped bit leaves behind is found
// out when the log is opened: everything before it is replayed, the rest is
// set aside in a file beside the log and reported, never silently dropped.
package journal

import (
	"errors"
	"io"
	"iter"
	"os"
)

var errSkeleton = errors.ErrUnsupported

// File is the part of *os.File that a log needs; tests fail it at every byte.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Truncate(size int64) error
	Sync() error
}

// FS is where a log lies; the zero Options use the operating system.
type FS interface {
	Open(name string) (File, int64, error) // creates it; the size in bytes
	Rename(from, to string) error
	Remove(name string) error
	SyncDir(dir string) error
}

// Options configures [Open].
type Options struct {
	FS FS // nil is the operating system's
}

// Damage is what could not be replayed.
type Damage struct {
	Offset int64  // where the good part ends, in bytes
	Bytes  int64  // how many follow
	Saved  string // the file they were copied to
	Reason string
	// Torn is set when it is what an interrupted append leaves: nothing that
	// was acknowledged is lost.
	Torn bool
}

// Log is an open log. It is safe for concurrent use.
type Log struct{}

// Open opens or creates the log at path and replays it: one call of replay for
// each record, in order. An error of replay ends it and is returned. The
// returned Damage is nil if everything was read. The caller closes the log,
// and is the only process that has it open (writeback locks the folder).
func Open(path string, o Options, replay func(payloads [][]byte) error) (*Log, *Damage, error) {
	return nil, nil, errSkeleton
}

// Append writes one record. When it returns, the record survives the death of
// the process; Sync makes it survive that of the machine. After an error the
// log is cut back to where it was, or refuses everything else.
func (l *Log) Append(payloads ...[]byte) error { return errSkeleton }

// Sync makes all that was appended durable. Callers that arrive together share
// one fdatasync.
func (l *Log) Sync() error { return errSkeleton }

// Size is the length in bytes.
func (l *Log) Size() int64 { return 0 }

// Rewrite replaces the log by one that holds the given records, atomically and
// durably: a crash leaves the old one or the new one. No Append may run
// meanwhile.
func (l *Log) Rewrite(records iter.Seq[[][]byte]) error { return errSkeleton }

// Close syncs and closes.
func (l *Log) Close() error { return errSkeleton }

var _ = os.Open
