package writeback

import (
	"context"
	"encoding/json"
	"io"

	"hfmount/remote/hub"
	"hfmount/writeback/staging"
)

// local is what the queue needs of a Layer beside its exported methods. *Layer
// is the one implementation; its half is in seam.go. All methods are safe for
// concurrent use, and none is called with a lock of the queue held.
type local interface {
	// identity is the key the layer was opened with.
	identity() Key
	// items is every change, as of now, local-only ones too.
	items() []*item
	// changed is closed by the next change of names, states, openers or bytes
	// that a close recorded.
	changed() <-chan struct{}
	// mark sets the state of a path and says why, if the change there is still
	// number seq. It is journalled, and lasts until the path is edited again;
	// Held by a failed run lasts through edits and renames, until it is marked
	// Pending. Open and Unclosed of a path win over a mark.
	mark(seq uint64, path string, s State, reason string) error
	// seal fixes the present bytes of a file that has no writers, and hashes
	// them unless they are already. It fails with staging.ErrWriters while
	// somebody can write.
	seal(ctx context.Context, f *File) (sealedBytes, error)
	// sealCopy is seal of a copy of what a file that is open has now.
	sealCopy(ctx context.Context, f *File) (sealedBytes, error)
	// arriving notes where the Hub has the bytes of a commit, before the view
	// moves there and may take them away.
	arriving(done []landedChange) error
	// landed takes out of the layer what is on the Hub. Where the path was
	// edited since, the change stays and what landed becomes its base.
	landed(done []landedChange) error
	// rebase gives changes another base, in one record.
	rebase(bases map[string]Base) error
	// keep stores a value of the queue's under a key, in the journal and
	// through its compactions; nil forgets it. With sync it is durable on
	// return.
	keep(key string, value any, sync bool) error
	// kept returns the stored values whose keys begin with prefix.
	kept(prefix string) map[string]json.RawMessage
	// drained wakes whoever waits for space in staging.
	drained()
	stagedBytes() int64
}

// sealedBytes are bytes of a file that will not change any more. release must
// be called once; until then they stay on disk, whatever becomes of the file.
// idle gives up the descriptor that reading them opened; the next read opens
// another.
type sealedBytes struct {
	staging.Sealed
	gen     uint64 // of the file
	path    string // of the bytes on disk
	data    io.ReaderAt
	idle    func()
	moved   func() // says that the cache took the bytes on disk away
	release func()
}

func (s sealedBytes) content() content {
	return content{Size: s.Size, Git: s.GitBlob, SHA256: s.SHA256}
}

// landedChange is one change that the Hub has.
type landedChange struct {
	path string
	seq  uint64
	gen  uint64 // of the bytes, for a Put of a File
	// copied is set for the bytes of sealCopy: the change stays while its file
	// is open.
	copied bool
	// base is what the Hub has at path now.
	base Base
}

// snapshotAt names a commit of a repository as a snapshot.
func snapshotAt(ref hub.Ref, c hub.CommitID) hub.Snapshot {
	return hub.Snapshot{Ref: ref, Commit: c}
}
