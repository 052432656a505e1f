package writeback

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// This file is the layer's half of the seam that queue_local.go describes.

var _ local = (*Layer)(nil)

func (l *Layer) identity() Key { return l.o.Key }

func (l *Layer) changed() <-chan struct{} { return l.signal.wait() }

func (l *Layer) drained() { l.space.wake() }

func (l *Layer) stagedBytes() int64 { return l.staging.Bytes() }

// items leaves out the deletes that only wait for a commit under way: there is
// nothing to do about them yet.
func (l *Layer) items() []*item {
	l.mu.RLock()
	defer l.mu.RUnlock()
	out := make([]*item, 0, len(l.changes))
	for _, c := range l.changes {
		if c.kind == Delete && c.base.Entry == nil && l.sending[c.path] {
			continue
		}
		it := &item{Change: l.showLocked(c), seq: c.seq, moved: c.moved}
		if f := c.file; f != nil {
			it.gen = f.gen.Load()
			for _, h := range f.writers {
				it.writers = append(it.writers, writer{PID: h.o.PID, Since: h.since, Append: h.o.Append})
			}
		}
		// What stays local in the place of a file that the Hub has: the Hub is told
		// that the file is gone.
		if c.replaces() && c.local == "" {
			it.Kind, it.State, it.Reason = Delete, c.mark, c.reason
		}
		out = append(out, it)
	}
	slices.SortFunc(out, func(a, b *item) int { return strings.Compare(a.Path, b.Path) })
	return out
}

func (l *Layer) mark(seq uint64, path string, s State, reason string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.changes[path]
	if c == nil || c.seq != seq || c.mark == s && c.reason == reason {
		return nil
	}
	if s == Open {
		s = Pending
	}
	mark, why := c.mark, c.reason
	c.mark, c.reason = s, reason
	if s != Uploading {
		if err := l.appendLocked(payload{Change: c.rec()}); err != nil {
			c.mark, c.reason = mark, why
			return err
		}
	}
	l.compactLocked()
	l.signal.raise()
	return nil
}

func (l *Layer) rebase(bases map[string]Base) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var payloads []payload
	for path, b := range bases {
		if c := l.changes[path]; c != nil {
			r := c.rec()
			r.Base, r.Landed = b, 0
			payloads = append(payloads, payload{Change: r})
		}
	}
	if len(payloads) == 0 {
		return nil
	}
	if err := l.appendLocked(payloads...); err != nil {
		return err
	}
	for path, b := range bases {
		if c := l.changes[path]; c != nil {
			c.base, c.landed = b, 0
		}
	}
	l.compactLocked()
	l.signal.raise()
	return nil
}

// arriving notes, before the view moves, where the Hub has the bytes of a
// commit that was made. The view may then take them away into the cache: what
// becomes of the process meanwhile, they are found.
func (l *Layer) arriving(done []landedChange) error {
	l.mu.Lock()
	places := make(map[content]Place, len(done))
	for _, d := range done {
		if d.base.Entry != nil {
			places[contentOf(*d.base.Entry)] = Place{Snapshot: snapshotAt(l.o.Key.Ref, d.base.Commit), Entry: *d.base.Entry}
		}
	}
	var payloads []payload
	var stages []*stage
	for _, c := range l.changes {
		if c.file == nil {
			continue
		}
		for s := c.file.cur; s != nil; s = s.under {
			if s.sealed == nil || s.hub != nil {
				continue
			}
			sum := content{Size: s.sealed.Size, Git: s.sealed.GitBlob, SHA256: s.sealed.SHA256}
			for _, key := range []content{{Size: sum.Size, Git: sum.Git}, {Size: sum.Size, SHA256: sum.SHA256}} {
				if p, ok := places[key]; ok {
					r := s.recLocked()
					r.Hub = &p
					payloads = append(payloads, payload{Stage: r})
					stages = append(stages, s)
					s.hub = &p
					break
				}
			}
		}
	}
	var err error
	if len(payloads) > 0 {
		if err = l.appendLocked(payloads...); err != nil {
			for _, s := range stages {
				s.hub = nil
			}
		}
	}
	l.mu.Unlock()
	if err != nil || len(payloads) == 0 {
		return err
	}
	return l.syncJournal()
}

func (l *Layer) landed(done []landedChange) error {
	l.mu.Lock()
	err := l.landedLocked(done)
	l.mu.Unlock()
	l.sweep()
	l.signal.raise()
	return err
}

func (l *Layer) landedLocked(done []landedChange) error {
	var payloads []payload
	var after []func()
	for _, d := range done {
		c := l.changes[d.path]
		if c == nil {
			continue
		}
		f := c.file
		same := c.seq == d.seq
		if same && f != nil {
			if len(f.writers) > 0 && !f.wrote.Load() {
				if p, err := f.cur.sf.Print(); err == nil && !samePrint(p, f.print) {
					f.touch() // by the kernel, and not told yet
				}
			}
			same = f.gen.Load() == d.gen
		}
		if same && (c.kind == Folder || c.kind == Symlink) {
			// What is local stays; only the file that was in its place is gone.
			r := c.rec()
			r.Base, r.Mark, r.Reason = Base{}, 0, ""
			payloads = append(payloads, payload{Change: r})
			after = append(after, func() { c.base, c.mark, c.reason = Base{}, Pending, "" })
			continue
		}
		if same && (f == nil || len(f.writers) == 0) || c.kind == Delete && d.base.Entry == nil {
			payloads = append(payloads, payload{Gone: &goneRec{Path: c.path}})
			after = append(after, func() { l.leaveLocked(c) })
			continue
		}
		r := c.rec()
		r.Base, r.Landed = d.base, 0
		if same {
			r.Landed, r.Was, r.Mark, r.Reason = d.gen, "", 0, ""
		}
		payloads = append(payloads, payload{Change: r})
		after = append(after, func() {
			c.base, c.landed, c.was = r.Base, r.Landed, r.Was
			if same {
				c.mark, c.reason = Pending, ""
			}
		})
	}
	if len(payloads) == 0 {
		return nil
	}
	if err := l.appendLocked(payloads...); err != nil {
		return err
	}
	for _, do := range after {
		do()
	}
	l.compactLocked()
	return nil
}

// leaveLocked takes a change out of the layer that the snapshot shows from now
// on. Who still has its file open keeps it; nobody else gets it.
func (l *Layer) leaveLocked(c *change) {
	if f := c.file; f != nil && len(f.at) == 1 {
		f.gone = ErrLanded
	}
	l.setLocked(c.path, nil)
}

// leaveLandedLocked takes the changes of f out that only waited for its last
// writer, who wrote nothing.
func (l *Layer) leaveLandedLocked(f *File) {
	for _, c := range slices.Clone(f.at) {
		if c.landed == 0 || c.landed != f.gen.Load() || c.file != f {
			continue
		}
		if err := l.appendLocked(payload{Gone: &goneRec{Path: c.path}}); err != nil {
			l.log.Warn("a change stays that the Hub has", "path", c.path, "err", err)
			continue
		}
		l.leaveLocked(c)
	}
}

// batchPrefix is that of the keys of commits whose outcome is not known.
const batchPrefix = "batch/"

func (l *Layer) keep(key string, value any, sync bool) error {
	var raw json.RawMessage
	if value != nil {
		var err error
		if raw, err = json.Marshal(value); err != nil {
			return err
		}
	}
	l.mu.Lock()
	err := l.keepLocked(key, raw)
	l.mu.Unlock()
	l.sweep()
	if err != nil || !sync {
		return err
	}
	return l.syncJournal()
}

func (l *Layer) keepLocked(key string, raw json.RawMessage) error {
	if _, ok := l.values[key]; !ok && raw == nil {
		return nil
	}
	values := maps.Clone(l.values)
	if raw == nil {
		delete(values, key)
	} else {
		values[key] = raw
	}
	payloads := []payload{{Value: &valueRec{Key: key, Value: raw}}}
	sending := l.sending
	var over, forgotten []*change
	if strings.HasPrefix(key, batchPrefix) {
		sending = sendingOf(values)
		for p := range l.sending {
			if c := l.changes[p]; c != nil && !sending[p] && c.kind == Delete && c.base.Entry == nil {
				over = append(over, c)
				payloads = append(payloads, payload{Gone: &goneRec{Path: p}})
			}
		}
		// What was taken away while the commit was built comes to the snapshot by
		// it, as if it were taken away now.
		for p := range sending {
			if l.sending[p] || l.changes[p] != nil {
				continue
			}
			l.seq++
			c := &change{path: p, kind: Delete, mark: Pending, since: l.o.Now(), seq: l.seq, local: l.o.LocalOnly(p)}
			forgotten = append(forgotten, c)
			payloads = append(payloads, payload{Change: c.rec()})
		}
	}
	if err := l.appendLocked(payloads...); err != nil {
		return err
	}
	l.values, l.sending = values, sending
	for _, c := range over {
		l.setLocked(c.path, nil)
	}
	for _, c := range forgotten {
		l.setLocked(c.path, c)
	}
	l.compactLocked()
	return nil
}

// sendingOf is the paths of all commits whose outcome is not known.
func sendingOf(values map[string]json.RawMessage) map[string]bool {
	sending := make(map[string]bool)
	for key, raw := range values {
		if !strings.HasPrefix(key, batchPrefix) {
			continue
		}
		var b struct {
			Paths []struct {
				Path string `json:"path"`
			} `json:"paths"`
		}
		if json.Unmarshal(raw, &b) != nil {
			continue // the queue refuses to begin with it
		}
		for _, p := range b.Paths {
			sending[p.Path] = true
		}
	}
	return sending
}

func (l *Layer) kept(prefix string) map[string]json.RawMessage {
	l.mu.RLock()
	defer l.mu.RUnlock()
	out := make(map[string]json.RawMessage)
	for key, v := range l.values {
		if strings.HasPrefix(key, prefix) {
			out[key] = v
		}
	}
	return out
}
