package writeback

import (
	"encoding/json"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"hfmount/writeback/journal"
	"hfmount/writeback/staging"
)

// replay is the journal, read.
type replay struct {
	boot    string // of the machine that wrote last
	stages  map[string]*stageRec
	files   map[uint64]*fileRec
	changes map[string]*changeRec
	values  map[string]json.RawMessage
	maxFile uint64
	maxSeq  uint64
}

func newReplay() *replay {
	return &replay{
		stages: make(map[string]*stageRec), files: make(map[uint64]*fileRec),
		changes: make(map[string]*changeRec), values: make(map[string]json.RawMessage),
	}
}

// record takes one record: what it says replaces what was said before.
func (r *replay) record(payloads [][]byte) error {
	for _, raw := range payloads {
		var p payload
		if err := json.Unmarshal(raw, &p); err != nil {
			return fmt.Errorf("a record that this program did not write: %w", err)
		}
		switch {
		case p.Boot != nil:
			if p.Boot.Version > recordVersion {
				return fmt.Errorf("the local changes were written by a newer version (format %d)", p.Boot.Version)
			}
			r.boot = p.Boot.Boot
		case p.Stage != nil:
			r.stages[p.Stage.ID] = p.Stage
		case p.File != nil:
			r.files[p.File.ID] = p.File
			r.maxFile = max(r.maxFile, p.File.ID)
		case p.Change != nil:
			r.changes[p.Change.Path] = p.Change
			r.maxSeq = max(r.maxSeq, p.Change.Seq)
		case p.Gone != nil:
			delete(r.changes, p.Gone.Path)
		case p.Value != nil && p.Value.Value == nil:
			delete(r.values, p.Value.Key)
		case p.Value != nil:
			r.values[p.Value.Key] = p.Value.Value
		}
	}
	return nil
}

// restoring is the way from a replay to a layer.
type restoring struct {
	l        *Layer
	r        *replay
	stages   map[string]*stage
	files    map[uint64]*File
	rebooted bool
	lost     []string
	told     []payload // of stages that took the place of others
}

// restore fills a new layer. What it finds out beyond what the journal says,
// such as that a file was open when the process died, becomes a record.
func (l *Layer) restore(r *replay, d *journal.Damage) error {
	rs := &restoring{
		l: l, r: r, stages: make(map[string]*stage), files: make(map[uint64]*File),
		rebooted: r.boot != "" && r.boot != l.boot,
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.values, l.lastFile, l.seq = r.values, r.maxFile, r.maxSeq
	l.sending = sendingOf(l.values)
	var news []payload
	paths := make([]string, 0, len(r.changes))
	for p := range r.changes {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	for _, p := range paths {
		if !validPath(p) {
			return fmt.Errorf("the journal names %q", p)
		}
		c := &change{}
		c.fill(r.changes[p])
		c.local = l.o.LocalOnly(p)
		if id := r.changes[p].File; id != 0 {
			f, told, err := rs.file(id)
			if err != nil {
				return fmt.Errorf("%s: %w", p, err)
			}
			if f == nil {
				rs.lost = append(rs.lost, p)
				news = append(news, payload{Gone: &goneRec{Path: p}})
				continue
			}
			c.file = f
			news = append(news, told...)
		}
		l.setLocked(p, c)
	}
	if news = append(rs.told, news...); len(news) > 0 {
		if err := l.appendLocked(news...); err != nil {
			return err
		}
	}
	// What a damaged end of the journal names must not be deleted.
	whole := d == nil || d.Torn
	if err := l.orphans(rs.stages, whole); err != nil {
		return err
	}
	return l.damaged(d, rs.lost)
}

func (c *change) fill(r *changeRec) {
	*c = change{
		path: r.Path, kind: r.Kind, from: r.From, target: r.Target, base: r.Base, was: r.Was, moved: r.Moved,
		mark: Pending, reason: r.Reason, since: r.Since, seq: r.Seq, landed: r.Landed,
	}
	if r.Mark != 0 && r.Mark != Uploading {
		c.mark = r.Mark
	}
}

// file makes a file of its record, once; nil if its bytes are gone. told is what
// the journal does not say of it yet.
func (rs *restoring) file(id uint64) (f *File, told []payload, err error) {
	if f := rs.files[id]; f != nil {
		return f, nil, nil
	}
	r := rs.r.files[id]
	if r == nil {
		return nil, nil, nil
	}
	s, fresh, err := rs.stage(r.Stage)
	if s == nil || err != nil {
		return nil, nil, err
	}
	p, err := s.sf.Print()
	if err != nil {
		return nil, nil, err
	}
	f = &File{
		l: rs.l, id: id, cur: s, print: p,
		flushed: r.Flushed, synced: r.Synced, unclosed: r.Unclosed, doubt: r.Doubt, since: r.Since,
	}
	s.synced = r.Synced
	f.gen.Store(r.Gen)
	rs.files[id] = f
	s.get()
	if fresh {
		// Its bytes are the Hub's now: nothing of what was said of those on disk
		// matters any more.
		return f, []payload{{File: f.recLocked()}}, nil
	}
	if s.sealed != nil && !samePrint(p, s.sealed.Print) {
		s.sealed, s.hub = nil, nil // it was written to since
	}
	same := samePrint(p, r.Print)
	doubt := rs.rebooted && !r.Synced && s.hub == nil
	if doubt {
		s.sealed = nil
	}
	if !same {
		f.gen.Add(1)
		f.synced = false
	}
	if !f.unclosed && (!r.Flushed || r.Writers || !same || doubt) {
		f.doubt = doubt && r.Flushed
		f.unclosed, f.flushed = true, false
		return f, []payload{{File: f.recLocked()}}, nil
	}
	return f, nil, nil
}

// stage opens a staging file, once; nil if it is gone. fresh is set where the
// Hub has its bytes, and a new file over those takes its place.
func (rs *restoring) stage(id string) (s *stage, fresh bool, err error) {
	if s := rs.stages[id]; s != nil {
		return s, false, nil
	}
	r := rs.r.stages[id]
	if r == nil {
		return nil, false, nil
	}
	l := rs.l
	s = &stage{l: l, hub: r.Hub, sealed: r.Sealed, whole: r.whole()}
	var base staging.Source
	switch {
	case r.Place != nil:
		s.place = r.Place
		base = &placeSource{l: l, p: *r.Place}
	case r.Under != "":
		under, _, err := rs.stage(r.Under)
		if under == nil || err != nil {
			return nil, false, err
		}
		under.get()
		under.get() // one for the stage, one for its source
		s.under = under
		base = stageSource{under}
	}
	s.sf, err = l.staging.Open(id, base, r.Size, r.Filled)
	switch {
	case err == nil:
		rs.stages[id] = s
		return s, false, nil
	case !errors.Is(err, iofs.ErrNotExist):
		return nil, false, err
	}
	if s.under != nil {
		s.under.put()
	}
	if r.Hub == nil {
		return nil, false, nil
	}
	p := *r.Hub
	s = &stage{l: l, place: &p}
	if s.sf, err = l.staging.CreateOver(&placeSource{l: l, p: p}, p.Entry.Size); err != nil {
		return nil, false, err
	}
	s.whole = s.sf.Complete()
	rs.stages[id], rs.stages[s.sf.ID()] = s, s
	rs.told = append(rs.told, payload{Stage: s.recLocked()})
	return s, true, nil
}

// orphans removes the staging files that nothing names, or puts them aside.
func (l *Layer) orphans(known map[string]*stage, remove bool) error {
	ids, err := l.staging.IDs()
	if err != nil {
		return err
	}
	for _, id := range ids {
		if known[id] != nil {
			continue
		}
		if remove {
			if err := l.staging.Remove(id); err != nil {
				return err
			}
			continue
		}
		if err := os.MkdirAll(l.lostDir(), 0o700); err != nil {
			return err
		}
		if err := os.Rename(filepath.Join(l.dir, "staging", id), filepath.Join(l.lostDir(), id)); err != nil {
			return err
		}
		if err := l.staging.Remove(id); err != nil { // from its accounts
			return err
		}
	}
	return nil
}

func (l *Layer) lostDir() string { return filepath.Join(l.dir, "lost") }

// damaged says what was lost, now and when the layer was opened before: until
// somebody discards it.
func (l *Layer) damaged(d *journal.Damage, lost []string) error {
	var say []string
	if d != nil && d.Torn {
		// Nothing that was acknowledged: the record of a call that never returned.
		if err := os.Remove(d.Saved); err != nil && !errors.Is(err, iofs.ErrNotExist) {
			return err
		}
	}
	saved, err := filepath.Glob(filepath.Join(l.dir, "journal.damaged-*"))
	if err != nil {
		return err
	}
	switch {
	case d != nil && !d.Torn:
		say = append(say, d.String())
	case len(saved) > 0:
		say = append(say, "part of the journal could not be read earlier; it is kept in "+strings.Join(saved, ", "))
	}
	if left, err := os.ReadDir(l.lostDir()); err == nil && len(left) > 0 {
		say = append(say, fmt.Sprintf("%d files that it may have named are in %s", len(left), l.lostDir()))
	}
	if len(lost) > 0 {
		say = append(say, "the bytes are missing of "+strings.Join(lost, ", "))
	}
	l.damage = strings.Join(say, "; ")
	if l.damage != "" {
		l.log.Error("local changes are damaged", "dir", l.dir, "damage", l.damage)
	}
	return nil
}
