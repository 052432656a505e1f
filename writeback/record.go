package writeback

import (
	"encoding/json"
	"fmt"
	"time"

	"hfmount/writeback/staging"
)

// The journal is a list of records, each a list of payloads in JSON that hold
// together. A payload says what one thing is from now on, in full: to replay a
// payload twice is to replay it once, and a compacted journal is one payload
// for each thing that is left.

// recordVersion is raised by a change that an older program would misread.
const recordVersion = 1

// payload has one of its fields set.
type payload struct {
	Boot   *bootRec   `json:"b,omitempty"`
	Stage  *stageRec  `json:"s,omitempty"`
	File   *fileRec   `json:"f,omitempty"`
	Change *changeRec `json:"c,omitempty"`
	Gone   *goneRec   `json:"x,omitempty"` // no change there any more
	Value  *valueRec  `json:"v,omitempty"`
}

// bootRec begins what one process wrote.
type bootRec struct {
	Version int    `json:"version"`
	Boot    string `json:"boot"` // of the machine
}

// stageRec is a staging file: what it shows where nothing was written.
type stageRec struct {
	ID     string          `json:"id"`
	Place  *Place          `json:"p,omitempty"` // on the Hub
	Under  string          `json:"u,omitempty"` // or another staging file
	Size   int64           `json:"n,omitempty"` // how much of that may show, bytes
	Filled []staging.Range `json:"r,omitempty"`
	// Hub is where the Hub has exactly these bytes; the file on disk may be gone.
	Hub    *Place          `json:"h,omitempty"`
	Sealed *staging.Sealed `json:"l,omitempty"`
}

// fileRec is a file as of its last close, or fsync.
type fileRec struct {
	ID      uint64        `json:"id"`
	Stage   string        `json:"s"`
	Gen     uint64        `json:"g,omitempty"`
	Print   staging.Print `json:"p"`
	Flushed bool          `json:"c,omitempty"` // what Print stands for was closed
	Synced  bool          `json:"y,omitempty"` // and is durable
	// Writers is set until nobody has it open who may have written these bytes:
	// where there is a second descriptor, one close(2) does not make it whole.
	Writers  bool      `json:"w,omitempty"`
	Unclosed bool      `json:"u,omitempty"`
	Doubt    bool      `json:"d,omitempty"` // of an Unclosed one: it was closed, and the machine stopped
	Since    time.Time `json:"t,omitzero"`
}

type changeRec struct {
	Path   string    `json:"p"`
	Kind   Kind      `json:"k,omitempty"`
	File   uint64    `json:"f,omitempty"`
	From   *Place    `json:"o,omitempty"`
	Target string    `json:"l,omitempty"`
	Base   Base      `json:"b,omitzero"`
	Was    string    `json:"w,omitempty"`
	Moved  bool      `json:"m,omitempty"`
	Mark   State     `json:"s,omitempty"`
	Reason string    `json:"r,omitempty"`
	Since  time.Time `json:"t,omitzero"`
	Seq    uint64    `json:"n"`
	Landed uint64    `json:"h,omitempty"`
}

type goneRec struct {
	Path string `json:"p"`
}

// valueRec is a value that the queue keeps; a nil one is forgotten.
type valueRec struct {
	Key   string          `json:"k"`
	Value json.RawMessage `json:"v,omitempty"`
}

// appendLocked writes one record. mu is held.
func (l *Layer) appendLocked(payloads ...payload) error {
	if l.closed {
		return errClosed
	}
	raw := make([][]byte, len(payloads))
	for i, p := range payloads {
		b, err := json.Marshal(p)
		if err != nil {
			return fmt.Errorf("a record of the journal: %w", err)
		}
		raw[i] = b
	}
	if err := l.journal.Append(raw...); err != nil {
		return fmt.Errorf("the journal of local changes: %w", full(err))
	}
	return nil
}

// changeSize is about what one more change adds to a rewritten journal, in
// bytes: a little less, so that history is not mistaken for what is needed.
const changeSize = 400

// compactLocked rewrites the journal when most of it is history: not while many
// new changes make it long, of which a rewrite would leave all, at the price of
// a sync that everybody waits for. The record that made it due is in it already,
// so that a failure costs space only. mu is held.
func (l *Layer) compactLocked() {
	needed := l.compacted + changeSize*int64(len(l.changes)-l.rewritten)
	if l.closed || l.journal.Size() <= max(1<<20, 4*needed) {
		return
	}
	if err := l.rewriteLocked(); err != nil {
		l.log.Warn("the journal stays long", "dir", l.dir, "err", err)
		l.compacted, l.rewritten = l.journal.Size(), len(l.changes) // not again at once
	}
}

func (l *Layer) rewriteLocked() error {
	var failed error
	err := l.journal.Rewrite(func(yield func([][]byte) bool) {
		put := func(payloads ...payload) bool {
			raw := make([][]byte, len(payloads))
			for i, p := range payloads {
				if raw[i], failed = json.Marshal(p); failed != nil {
					return false
				}
			}
			return yield(raw)
		}
		if !put(payload{Boot: &bootRec{Version: recordVersion, Boot: l.boot}}) {
			return
		}
		for key, v := range l.values {
			if !put(payload{Value: &valueRec{Key: key, Value: v}}) {
				return
			}
		}
		for _, c := range l.changes {
			var p []payload
			if c.file != nil {
				p = c.file.payloadsLocked(p)
			}
			if !put(append(p, payload{Change: c.rec()})...) {
				return
			}
		}
	})
	if failed != nil {
		return failed
	}
	if err == nil {
		l.compacted, l.rewritten = l.journal.Size(), len(l.changes)
	}
	return err
}

// rec is the change as the journal has it.
func (c *change) rec() *changeRec {
	r := &changeRec{
		Path: c.path, Kind: c.kind, From: c.from, Target: c.target, Base: c.base, Was: c.was, Moved: c.moved,
		Reason: c.reason, Since: c.since, Seq: c.seq, Landed: c.landed,
	}
	if c.mark != Pending {
		r.Mark = c.mark // Open, the zero state, is never a mark
	}
	if c.file != nil {
		r.File = c.file.id
	}
	return r
}

// payloadsLocked adds all that the journal has to know of a file. mu of the
// layer is held.
func (f *File) payloadsLocked(p []payload) []payload {
	p = f.cur.payloadsLocked(p)
	return append(p, payload{File: f.recLocked()})
}

func (f *File) recLocked() *fileRec {
	return &fileRec{
		ID: f.id, Stage: f.cur.sf.ID(), Gen: f.gen.Load(), Print: f.print,
		Flushed: f.flushed, Synced: f.synced, Writers: f.open, Unclosed: f.unclosed, Doubt: f.unclosed && f.doubt, Since: f.since,
	}
}

func (s *stage) payloadsLocked(p []payload) []payload {
	if s.under != nil && !s.sf.Complete() {
		p = s.under.payloadsLocked(p)
	}
	return append(p, payload{Stage: s.recLocked()})
}

// recLocked describes a staging file as of now. What is filled is asked for
// before whether it is complete: the other way round, a fill that ends in
// between would leave a record of a partial file with nothing filled.
func (s *stage) recLocked() *stageRec {
	r := &stageRec{ID: s.sf.ID(), Hub: s.hub, Sealed: s.sealed}
	filled, size := s.sf.Filled(), s.sf.BaseSize()
	if s.sf.Complete() {
		return r
	}
	r.Place, r.Size, r.Filled = s.place, size, filled
	if s.under != nil {
		r.Under = s.under.sf.ID()
	}
	return r
}
