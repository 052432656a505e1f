package lfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"hfmount/remote/hub"
)

const (
	// parallelParts is how many parts of one object are sent at once.
	parallelParts = 4
	// maxTries is how often one part is sent in a row without success.
	maxTries = 6
	// maxRefusals is how often, of those, the storage may refuse the content
	// itself: a body cut on its way looks like that.
	maxRefusals = 3
	// maxPlans is how often in a row a new plan may bring nothing.
	maxPlans = 4
	// maxBroken is how often parts may not make the object.
	maxBroken = 2
	// saves is how many states an upload hands over on its way, about.
	saves = 32
	// minSave is the least between two, in bytes.
	minSave = 32 << 20

	minBackoff = time.Second
	maxBackoff = 8 * time.Second
)

// Upload stores o at to, unless it is stored already, and returns when the Hub
// has said that it is. An empty object is refused with iofs.ErrInvalid: object
// storage does not take it (hub-protocol §6.1).
//
// o.Progress adds up to o.Size in the end, what the Hub has already included.
// o.Save is called now and then, never twice at once, the last time when the
// upload ends without success. Errors wrap those of package hub; content that
// is not what SHA256 and Size say is hub.ErrRefused.
func Upload(ctx context.Context, s Sender, to Target, o hub.Object) error {
	if o.Size <= 0 || o.Data == nil || !(hub.ContentID{Algo: hub.SHA256, Hex: o.SHA256, Size: o.Size}).Valid() {
		return fmt.Errorf("upload of %.12s: %w: %d bytes", o.SHA256, iofs.ErrInvalid, o.Size)
	}
	u := &upload{s: s, to: to, o: o, step: max(o.Size/saves, minSave)}
	err := u.run(ctx)
	if err != nil {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.saveLocked()
	}
	return err
}

// upload is one object on its way.
type upload struct {
	s    Sender
	to   Target
	o    hub.Object
	step int64

	mu      sync.Mutex // guards the rest; held across Save, so that states arrive in order
	now     *plan      // multipart only
	unsaved int64      // bytes stored since the last Save
	shown   int64      // what Progress adds up to
}

// told adds to what Progress was told. n is negative for what has to be sent
// again.
func (u *upload) told(n int64) {
	if n == 0 {
		return
	}
	u.mu.Lock()
	u.shown += n
	u.mu.Unlock()
	if u.o.Progress != nil {
		u.o.Progress(n)
	}
}

// settle makes Progress add up to n.
func (u *upload) settle(n int64) {
	u.mu.Lock()
	d := n - u.shown
	u.mu.Unlock()
	u.told(d)
}

// run makes plans until one works. A plan ends early when its addresses are
// refused; that is no failure as long as there is progress in between.
func (u *upload) run(ctx context.Context) error {
	p := resume(u.o.Resume, u.o.SHA256, u.o.Size, time.Now())
	var old *plan
	for barren, broken := 0, 0; ; {
		if p == nil {
			var err error
			if p, err = u.plan(ctx); err != nil {
				return err
			}
			if p == nil {
				u.settle(u.o.Size)
				return nil
			}
			p.Version, p.OID = planVersion, u.o.SHA256
			p.date(time.Now())
			if old.sameUpload(p) {
				for i := range p.Parts {
					p.Parts[i].ETag = old.Parts[i].ETag
				}
			}
		}
		before := p.stored(u.o.Size)
		u.settle(before)
		err := u.carryOut(ctx, p)
		if err == nil {
			u.settle(u.o.Size)
			return nil
		}
		var again *anew
		if ctx.Err() != nil || !asAnew(err, &again) {
			return err
		}
		if barren++; p.stored(u.o.Size) > before && !again.broken {
			barren = 0
		}
		if again.broken {
			if broken++; broken >= maxBroken {
				// All of it was sent anew and is still not what it should be: then
				// it is the content, not the way there.
				return fmt.Errorf("upload of %.12s: %w", u.o.SHA256, &hub.RefusedError{Message: said(again.err)})
			}
		}
		if barren >= maxPlans {
			return again.err
		}
		if barren > 1 {
			if err := pause(ctx, barren-2, 0); err != nil {
				return err
			}
		}
		if old = p; again.broken {
			old = nil // what is stored there is good for nothing
		}
		p = nil
	}
}

// anew is an error that a new plan may get over.
type anew struct {
	err error
	// broken says that the parts did not make the object.
	broken bool
}

func (a *anew) Error() string { return a.err.Error() }
func (a *anew) Unwrap() error { return a.err }

func asAnew(err error, to **anew) bool {
	a, ok := err.(*anew)
	*to = a
	return ok
}

// carryOut follows a plan to its end.
func (u *upload) carryOut(ctx context.Context, p *plan) error {
	switch {
	case p.Href == "":
	case p.Chunk == 0:
		if _, err := u.put(ctx, p.Href, 0, u.o.Size); err != nil {
			return err
		}
	default:
		if err := u.multipart(ctx, p); err != nil {
			return err
		}
	}
	if p.Verify == "" {
		return nil
	}
	err := u.s.Post(ctx, p.Verify, objectName{u.o.SHA256, u.o.Size}, nil, false)
	if status, _ := statusOf(err); err != nil && (status == 400 || status == 404 || status == 422) {
		return &anew{u.bad("what was stored is not there: %v", err), true}
	}
	return err
}

type completion struct {
	OID   string     `json:"oid"`
	Parts []donePart `json:"parts"`
}

type donePart struct {
	Number int    `json:"partNumber"`
	ETag   string `json:"etag"`
}

func (u *upload) multipart(ctx context.Context, p *plan) error {
	u.mu.Lock()
	u.now = p
	u.mu.Unlock()
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallelParts)
	for i := range p.Parts {
		if p.Parts[i].ETag != "" {
			continue
		}
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error {
			n := p.length(i, u.o.Size)
			etag, err := u.put(gctx, p.Parts[i].Href, int64(i)*p.Chunk, n)
			if err == nil && etag == "" {
				err = u.bad("part %d was taken without an ETag", i+1)
			}
			if err == nil {
				u.keep(&p.Parts[i], etag, n)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	done := completion{OID: u.o.SHA256, Parts: make([]donePart, len(p.Parts))}
	for i := range p.Parts {
		done.Parts[i] = donePart{i + 1, p.Parts[i].ETag}
	}
	err := u.s.Post(ctx, p.Href, done, nil, true)
	if status, _ := statusOf(err); err != nil && status/100 == 4 && status != 408 && status != 429 {
		// Also when an earlier completion did it and its answer was lost: then
		// the next plan says that the object is stored.
		u.mu.Lock()
		u.now = nil
		u.mu.Unlock()
		return &anew{err, status != 401 && status != 403}
	}
	return err
}

// keep notes a part as stored.
func (u *upload) keep(p *part, etag string, n int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	p.ETag = etag
	if u.unsaved += n; u.unsaved >= u.step {
		u.saveLocked()
	}
}

func (u *upload) saveLocked() {
	if u.o.Save == nil || u.now == nil || u.now.stored(u.o.Size) == 0 {
		return
	}
	if b := u.now.encode(); b != nil {
		u.o.Save(b)
		u.unsaved = 0
	}
}

// put sends a range of the object, however often it takes.
func (u *upload) put(ctx context.Context, href string, off, n int64) (etag string, err error) {
	refusals := 0
	for try := 0; ; try++ {
		sent := int64(0) // a transport may open the body twice, never two at a time
		var mu sync.Mutex
		told := func(k int) {
			mu.Lock()
			sent += int64(k)
			over := max(sent-n, 0)
			sent -= over
			mu.Unlock()
			u.told(int64(k) - over)
		}
		body := func() io.Reader { return io.NewSectionReader(u.o.Data, off, n) }
		etag, err = u.s.Put(ctx, href, n, body, told)
		if err == nil {
			mu.Lock()
			left := n - sent
			sent = n
			mu.Unlock()
			u.told(left)
			return etag, nil
		}
		mu.Lock()
		back := sent
		sent = n // whatever a straggler still reports is nobody's
		mu.Unlock()
		u.told(-back)
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		status, after := statusOf(err)
		switch {
		case status == 401, status == 403, status == 404, status == 410:
			return "", &anew{err: err}
		case status/100 == 4 && status != 408 && status != 429:
			if refusals++; refusals >= maxRefusals {
				return "", u.refused(status, said(err))
			}
		case status == 0 && !retryable(err):
			return "", err
		}
		if try+1 >= maxTries {
			return "", err
		}
		if err := pause(ctx, try, after); err != nil {
			return "", err
		}
	}
}

// said is what the server said, without what stands around it.
func said(err error) string {
	var w interface {
		error
		Words() string
	}
	if errors.As(err, &w) && w.Words() != "" {
		return w.Words()
	}
	return err.Error()
}

// retryable reports whether a request without an answer may be made again.
func retryable(err error) bool {
	var r interface {
		error
		Retryable() bool
	}
	return errors.As(err, &r) && r.Retryable()
}

// pause waits before try number n+2: doubling, half of it random, and at least
// what the server asks for, within reason.
func pause(ctx context.Context, n int, after time.Duration) error {
	d := maxBackoff
	if n < 8 {
		d = min(minBackoff<<n, maxBackoff)
	}
	d = max(d/2+rand.N(d/2+1), min(after, time.Minute))
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
