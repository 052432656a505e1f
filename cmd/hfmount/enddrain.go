package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"hfmount/remote/hub"
	"hfmount/writeback"
)

const (
	// drainGrace is how long a Hub that cannot be reached, or takes nothing, is
	// asked again at the end of a mount, if nothing else bounds the drain.
	drainGrace = 30 * time.Second
	drainPause = 2 * time.Second
	// reachInterval is how often is looked whether the Hub can be reached.
	reachInterval = 250 * time.Millisecond
)

// trouble is why a drain does not get on, and when it gives up.
type trouble struct {
	text  string // "" if it does
	until time.Time
}

func (l *layers) setTrouble(t trouble) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trouble = t
}

// errUnreached ends a drain while a request is still waiting for an answer.
var errUnreached = errors.New("the Hub cannot be reached")

// drain commits what may be committed, until nothing more is left to try, ctx
// ends, or the Hub could not be reached or took nothing for drainGrace.
func (l *layers) drain(ctx context.Context) outcome {
	l.mu.Lock()
	l.draining = true // what is opened from here on would not be drained
	l.mu.Unlock()
	l.breakHolds()
	tries, giveUp := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		l.watchReach(tries, func() bool { return l.client.Stats().Online }, func() { giveUp(errUnreached) })
	})
	defer watching.Wait()
	defer giveUp(nil)
	var total outcome
	for began := time.Now(); ; {
		o, err := l.each(l.find(""), func(t target) (writeback.Outcome, error) {
			return t.queue.Commit(tries, writeback.CommitRequest{Final: true})
		})
		total.Commits = append(total.Commits, o.Commits...)
		if o.PullRequest != "" {
			total.PullRequest = o.PullRequest
		}
		if len(o.Commits) > 0 {
			began = time.Now()
		}
		total.GaveUp = ""
		switch {
		case err == nil:
		case ctx.Err() != nil:
			total.GaveUp = "out of time"
		case context.Cause(tries) == errUnreached:
			total.GaveUp = fmt.Sprintf("%s could not be reached for %s", l.cfg.endpoint, short(drainGrace))
		default:
			total.GaveUp = explain(err).text
		}
		again := err != nil && tries.Err() == nil && transient(err) && time.Since(began) < drainGrace
		if again {
			l.log.Warn("the Hub does not take the changes; trying again", "err", err)
			if l.client.Stats().Online { // else watchReach tells
				l.setTrouble(trouble{"the Hub does not take them", began.Add(drainGrace)})
			}
			select {
			case <-time.After(drainPause):
			case <-tries.Done():
			}
			continue
		}
		total.Left = l.changes("")
		return total
	}
}

// watchReach calls giveUp once the Hub could not be reached for drainGrace, and
// notes meanwhile that it cannot. It returns when ctx ends.
func (l *layers) watchReach(ctx context.Context, online func() bool, giveUp func()) {
	tick := time.NewTicker(reachInterval)
	defer tick.Stop()
	var lost time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			switch {
			case online() && !lost.IsZero():
				lost = time.Time{}
				l.setTrouble(trouble{})
			case online():
			case lost.IsZero():
				lost = now
				l.setTrouble(trouble{errUnreached.Error(), now.Add(drainGrace)})
			case now.Sub(lost) >= drainGrace:
				giveUp()
				return
			}
		}
	}
}

// transient tells failures that may pass by themselves.
func transient(err error) bool {
	return errors.Is(err, hub.ErrUnavailable) || errors.Is(err, hub.ErrUncertain) || errors.Is(err, hub.ErrBusy) || errors.Is(err, context.DeadlineExceeded)
}
