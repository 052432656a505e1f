package node

import (
	"context"
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// request is the context of one FUSE request.
//
// go-fuse cancels its own context on any signal to the caller, the SIGURG
// included with which the Go runtime preempts its threads. A read that failed
// for that would fail most Go programs. So a request ends only when its caller
// is dying, when the connection to the kernel is gone, or when it is answered.
//
// The kernel sends one interrupt per request, for the first signal. A deadly
// one may follow unannounced: after the first, the caller is watched until the
// request is answered. The watcher is started by the first use of Done, so
// that requests answered from memory never pay for one; it ends with finish.
type request struct {
	context.Context // values alone
	interrupted     <-chan struct{}
	ended           func() bool // the caller is dying or the connection gone

	mu       sync.Mutex
	err      error         // guarded by mu
	done     chan struct{} // guarded by mu; nil until somebody waits
	answered chan struct{} // guarded by mu; ends the watcher
}

// watchEvery is how soon after a deadly signal a request is given up.
const watchEvery = 100 * time.Millisecond

// begin wraps the context of a handler. The handler calls finish when it has
// its answer.
func (s *Server) begin(ctx context.Context) *request {
	r := &request{Context: ctx, interrupted: ctx.Done()}
	var pid uint32
	if c, ok := ctx.(*fuse.Context); ok {
		pid = c.Pid
	}
	r.ended = func() bool { return dying(pid) || s.disconnected() }
	return r
}

// finish ends the request. Contexts derived from it end too.
func (r *request) finish() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.endLocked()
	if r.answered != nil {
		close(r.answered)
	}
}

func (r *request) endLocked() {
	if r.err != nil {
		return
	}
	r.err = context.Canceled
	if r.done != nil {
		close(r.done)
	}
}

func (r *request) Deadline() (time.Time, bool) { return time.Time{}, false }

// Err is not nil once the caller is dying, or after finish.
func (r *request) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil && r.done == nil {
		// Nobody watches, so look.
		select {
		case <-r.interrupted:
			if r.ended() {
				r.endLocked()
			}
		default:
		}
	}
	return r.err
}

func (r *request) Done() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done == nil {
		r.done = make(chan struct{})
		if r.err != nil {
			close(r.done)
		} else {
			r.answered = make(chan struct{})
			go r.watch(r.answered)
		}
	}
	return r.done
}

func (r *request) watch(answered <-chan struct{}) {
	select {
	case <-answered:
		return
	case <-r.interrupted:
	}
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for !r.ended() {
		select {
		case <-answered:
			return
		case <-tick.C:
		}
	}
	r.mu.Lock()
	r.endLocked()
	r.mu.Unlock()
}
