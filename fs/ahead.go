package fs

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"hfmount/blockcache"
)

const (
	// maxScans is how many readers are told apart.
	maxScans = 16
	// startAfter is how many files in order make a scan.
	startAfter = 3
	// maxStart is how many it takes where scans turned out not to be any.
	maxStart = 8
	// firstWindow is how many files a scan may be ahead at first; it doubles as
	// they are read, up to so many for each connection.
	firstWindow   = 4
	perConnection = 4
	// behind is how many files a scan still knows behind the furthest read:
	// several readers of one directory do not keep their order exactly.
	behind = 16
	// guessAge is after how many other files something is no scan any more
	// that was not one yet.
	guessAge = 8
	// aheadPause follows a failed fetch: a Hub or a quota that says no is not
	// asked again at once for what nobody waits for.
	aheadPause = 10 * time.Second
)

// ahead brings small files into the cache before they are read, for readers
// that go through directories in an order it recognises. It fetches behind
// everybody who waits, never what the cache has, and no further than a reader
// has shown that it goes on.
//
// One goroutine owns all of it; it is told what is read by saw and what was
// fetched by done.
type ahead struct {
	t    *Tree
	seen chan fileRead
	done chan fetched

	// Of the goroutine alone.
	scans   []*scan // the one of the last read is last
	wants   map[fileAt]*want
	ranks   rankings
	strays  map[*listing]int // reads that were in no order, of the last few directories
	clock   int              // files read
	start   int              // files in order that make a scan, by experience
	running int              // fetches
	bytes   int64            // fetched and not read
	after   time.Time        // nothing is fetched before
	most    int              // fetches at once
	room    int64            // bound of bytes
}

// fileRead is the first read of an open file.
type fileRead struct {
	a    *anchor
	file fileAt
}

// fileAt is a file of the Hub.
type fileAt struct {
	v         *view
	dir, name string
}

type fetched struct {
	w   *want
	err error
}

// scan is one reader on its way, or what may turn out to be one.
type scan struct {
	ctx    context.Context
	cancel context.CancelFunc

	list    []*want // in order: a few that were passed, and those to come
	tail    trail   // where list ends
	ended   bool    // nothing follows
	hi      *want   // the furthest read
	run     int     // files read in order
	window  int     // how many files ahead may be fetched; 0 before it is a scan
	fresh   int     // reads since window was set
	running int     // fetches
	used    int     // ahead.clock at the last read
}

// want is a file that a scan expects to be read.
type want struct {
	s     *scan
	at    trail
	key   fileAt
	seq   int
	begun bool // fetched, or not to be
	held  bool // counted in ahead.bytes
	read  bool
}

// aheadOf starts it; nil where there is nothing to fetch, or nowhere to.
func aheadOf(t *Tree) *ahead {
	if t.cache == nil || t.offline {
		return nil
	}
	a := &ahead{
		t: t, seen: make(chan fileRead, 256), start: startAfter,
		wants: make(map[fileAt]*want), strays: make(map[*listing]int),
		most: t.cache.Connections() + 2, room: t.cache.AheadBytes(),
	}
	a.done = make(chan fetched, a.most)
	t.sp.start(a.loop)
	return a
}

// saw is told of a read, by the reader: it never waits. What is lost when there
// are too many at once is only a better guess.
func (a *ahead) saw(at *anchor, h *held) {
	if a == nil || !worth(h.line.size) {
		return
	}
	select {
	case a.seen <- fileRead{at, fileAt{at.view, h.dir, h.line.name}}:
	default:
	}
}

func (a *ahead) loop() {
	defer func() {
		for _, s := range a.scans {
			s.cancel()
		}
	}()
	for {
		select {
		case r := <-a.seen:
			a.read(r)
		case f := <-a.done:
			a.landed(f)
		case <-a.t.sp.ctx.Done():
			return // those under way have room in done
		}
		a.pump()
	}
}

func (a *ahead) landed(f fetched) {
	s := f.w.s
	a.running--
	s.running--
	if f.err == nil || s.ctx.Err() != nil {
		return
	}
	a.t.log.Debug("reading small files ahead stops for a while", "path", join(f.w.key.dir, f.w.key.name), "error", f.err)
	a.after = a.t.now().Add(aheadPause)
	if !errors.Is(f.err, blockcache.ErrNoMemory) {
		a.drop(s)
	}
}

// read finds the scan that a read belongs to, and moves it.
func (a *ahead) read(r fileRead) {
	st := r.file.v.cur.Load()
	if st == nil {
		return // bytes of a change of an earlier mount
	}
	a.clock++
	if w := a.wants[r.file]; w != nil {
		if w.at.st == st {
			a.hit(w)
			return
		}
		a.drop(w.s) // of another commit: it begins anew
	}
	if !a.turn(r, st) {
		a.guess(r, st)
	}
}

// hit moves a scan on.
func (a *ahead) hit(w *want) {
	s := w.s
	a.touch(s)
	if w.read {
		return
	}
	w.read, w.begun = true, true
	a.unhold(w)
	s.run++
	s.fresh++
	if w.seq > s.hi.seq {
		s.hi = w
	}
	switch {
	case s.window == 0 && s.run >= a.start:
		s.window, s.fresh = firstWindow, 0
	case s.window > 0 && s.fresh >= max(s.window/2, firstWindow):
		s.window, s.fresh = min(2*s.window, perConnection*a.t.cache.Connections()), 0
		a.start = startAfter
	}
	for len(s.list) > 0 && s.list[0].seq < s.hi.seq-behind {
		old := s.list[0]
		if !old.read && s.window > 0 {
			// Passed over: a reader of some of the files.
			if s.window -= 2; s.window <= 0 {
				a.drop(s)
				return
			}
		}
		a.unhold(old)
		delete(a.wants, old.key)
		s.list = s.list[1:]
	}
	a.extend(s)
}

func (a *ahead) touch(s *scan) {
	s.used = a.clock
	for i, x := range a.scans {
		if x == s {
			a.scans = append(append(a.scans[:i], a.scans[i+1:]...), s)
			return
		}
	}
}

// unhold counts w's bytes as read, or lost.
func (a *ahead) unhold(w *want) {
	if w.held {
		w.held = false
		a.bytes -= w.at.size()
	}
}

// extend makes the list as long as the window.
func (a *ahead) extend(s *scan) {
	for !s.ended && (len(s.list) == 0 || s.list[len(s.list)-1].seq < s.hi.seq+max(s.window, 1)) {
		if s.ended = !s.tail.next(&a.ranks); !s.ended {
			a.expect(s)
		}
	}
}

// expect puts the file at the tail into the list.
func (a *ahead) expect(s *scan) *want {
	w := &want{s: s, at: s.tail, key: fileAt{s.tail.a.view, s.tail.dir, s.tail.name()}}
	if n := len(s.list); n > 0 {
		w.seq = s.list[n-1].seq + 1
	}
	if other := a.wants[w.key]; other != nil && other.s != s {
		// Two scans meet. The read belongs to the one that is nearer to it; the
		// other comes upon what the cache then has.
		w.begun = other.begun
		if other.s.window > 0 || s.window == 0 {
			s.list = append(s.list, w)
			return w
		}
	}
	a.wants[w.key] = w
	s.list = append(s.list, w)
	return w
}

// drop ends a scan and what it has under way.
func (a *ahead) drop(s *scan) {
	s.cancel()
	vain := a.clear(s)
	for i, x := range a.scans {
		if x == s {
			a.scans = append(a.scans[:i], a.scans[i+1:]...)
			break
		}
	}
	if s.window > 0 && 2*vain > s.run {
		a.start = min(a.start+1, maxStart)
	}
}

// clear forgets what a scan expects; vain is how much was fetched of it.
func (a *ahead) clear(s *scan) (vain int) {
	for _, w := range s.list {
		if w.held {
			vain++
		}
		a.unhold(w)
		if a.wants[w.key] == w {
			delete(a.wants, w.key)
		}
	}
	s.list, s.hi, s.ended = nil, nil, false
	return vain
}

// turn looks whether a read that no scan expects is a turn of one: into the
// next directory of a walk, or to the next file in another order.
func (a *ahead) turn(r fileRead, st *state) bool {
	for i := len(a.scans) - 1; i >= 0; i-- {
		s := a.scans[i]
		if s.tail.a.view != r.file.v || s.tail.st != st {
			continue
		}
		if s.hi.key.dir == r.file.dir {
			if s.window == 0 && s.tail.order == byName && a.inNumbers(s, r) {
				return true
			}
			continue
		}
		for _, d := range [...]descent{inPlace, after} {
			w := s.hi.at
			w.descent = d
			if w.next(&a.ranks) && w.dir == r.file.dir && w.name() == r.file.name {
				a.resume(s, w)
				return true
			}
		}
	}
	return false
}

// inNumbers looks whether the last two reads of a directory are neighbours in
// the order of inode numbers.
func (a *ahead) inNumbers(s *scan, r fileRead) bool {
	if a.strays[s.hi.at.l] < startAfter {
		return false
	}
	w := s.hi.at
	w.order = byNumber
	if !w.stand(&a.ranks, s.hi.key.dir, s.hi.key.name) || !w.next(&a.ranks) || w.dir != r.file.dir || w.name() != r.file.name {
		return false
	}
	a.resume(s, w)
	return true
}

// resume lets a scan go on from w, which was read.
func (a *ahead) resume(s *scan, w trail) {
	a.clear(s)
	s.tail = w
	s.hi = a.expect(s)
	s.hi.read, s.hi.begun = true, true
	s.run++
	s.fresh++
	a.touch(s)
	if s.window == 0 && s.run >= a.start {
		s.window, s.fresh = firstWindow, 0
	}
	a.extend(s)
}

// guess makes a read the first of what may become a scan.
func (a *ahead) guess(r fileRead, st *state) {
	for i := 0; i < len(a.scans); i++ {
		if s := a.scans[i]; s.window == 0 && a.clock-s.used > guessAge {
			a.drop(s)
			i--
		}
	}
	for len(a.scans) >= maxScans {
		a.drop(a.scans[0])
	}
	s := &scan{tail: trail{st: st, a: r.a}, run: 1, used: a.clock}
	if !s.tail.stand(&a.ranks, r.file.dir, r.file.name) {
		return
	}
	if len(a.strays) >= maxScans {
		clear(a.strays)
	}
	a.strays[s.tail.l]++
	s.ctx, s.cancel = context.WithCancel(a.t.sp.ctx)
	a.scans = append(a.scans, s)
	s.hi = a.expect(s)
	s.hi.read, s.hi.begun = true, true
	a.extend(s)
}

// pump starts what may be fetched, the scan that has the least under way first.
func (a *ahead) pump() {
	for a.running < a.most && a.bytes < a.room {
		var next *want
		for _, s := range a.scans {
			if s.window == 0 || next != nil && next.s.running <= s.running {
				continue
			}
			if w := a.toFetch(s); w != nil {
				next = w
			}
		}
		if next == nil || !a.after.IsZero() && a.t.now().Before(a.after) || !a.fetch(next) {
			return
		}
	}
}

// toFetch returns the next file of a scan that the cache does not have.
func (a *ahead) toFetch(s *scan) *want {
	for _, w := range s.list {
		switch {
		case w.begun:
		case w.seq > s.hi.seq+s.window:
			return nil
		case w.seq < s.hi.seq:
			w.begun = true // passed over
		case a.t.cache.Near(w.at.entry().Content()):
			w.begun = true
		default:
			return w
		}
	}
	return nil
}

func (a *ahead) fetch(w *want) bool {
	s := w.s
	p := &place{w.at.st.snap, w.at.entry()}
	ok := a.t.sp.start(func() {
		b := &binding{v: w.key.v}
		b.at.Store(p)
		a.done <- fetched{w, a.t.cache.Ahead(s.ctx, p.entry.Content(), b)}
	})
	if !ok {
		return false
	}
	w.begun, w.held = true, true
	a.bytes += w.at.size()
	a.running++
	s.running++
	return true
}

// firstRead tells ahead once that an open file is read.
type firstRead struct {
	told atomic.Bool
	a    *anchor
	h    *held
}

func (f *firstRead) note() {
	if f.h != nil && !f.told.Load() && f.told.CompareAndSwap(false, true) {
		f.a.view.t.ahead.saw(f.a, f.h)
	}
}
