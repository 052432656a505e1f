package writeback

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// The budget of automatic commits: well below the Hub's 128 an hour, which all
// programs of the account share (hub-protocol §6.6).
const (
	budgetBurst   = 10
	budgetPerHour = 60
)

// budget is a token bucket in a file, shared by all mounts of an account that
// have one state folder.
type budget struct {
	path string
	now  func() time.Time

	mu  sync.Mutex
	own bucket // while the file cannot be used
}

type bucket struct {
	Tokens float64   `json:"tokens"`
	At     time.Time `json:"at"`
}

func newBudget(stateDir, endpoint, account string, now func() time.Time) *budget {
	sum := sha256.Sum256([]byte(endpoint + "\x00" + account))
	return &budget{path: filepath.Join(stateDir, "budget-"+hex.EncodeToString(sum[:8])+".json"), now: now}
}

// refill is the bucket at a moment. A clock that went back gives nothing.
func (b bucket) refill(now time.Time) bucket {
	if d := now.Sub(b.At); d > 0 {
		b.Tokens += d.Hours() * budgetPerHour
	}
	b.Tokens = min(budgetBurst, max(0, b.Tokens))
	b.At = now
	return b
}

// wait is how long until there is a whole token.
func (b bucket) wait() time.Duration {
	if b.Tokens >= 1 {
		return 0
	}
	return time.Duration((1-b.Tokens)/budgetPerHour*float64(time.Hour)) + time.Millisecond
}

// take takes one token, or says how long until there is one. The file is
// locked only for the moment. One that cannot be read is a full bucket: losing
// it must not stop commits.
func (b *budget) take() time.Duration { return b.spend(1) }

// peek says how long until there is a token, and leaves it.
func (b *budget) peek() time.Duration { return b.spend(0) }

// spend is of the file, or, where the disk is full, which commits help against,
// of memory.
func (b *budget) spend(n float64) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if w, err := b.spendShared(n); err == nil {
		b.own = bucket{}
		return w
	}
	if b.own.At.IsZero() {
		b.own = bucket{Tokens: budgetBurst, At: b.now()}
	}
	return b.own.spend(b.now(), n)
}

// spend takes n tokens if there is one, or says how long until then.
func (b *bucket) spend(now time.Time, n float64) time.Duration {
	*b = b.refill(now)
	w := b.wait()
	if w == 0 {
		b.Tokens -= n
	}
	return w
}

func (b *budget) spendShared(n float64) (time.Duration, error) {
	f, err := os.OpenFile(b.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return 0, fmt.Errorf("the commit budget: %w", err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return 0, fmt.Errorf("the commit budget: %w", err)
	}
	cur := bucket{Tokens: budgetBurst, At: b.now()}
	if data, err := io.ReadAll(io.LimitReader(f, 4096)); err == nil && len(data) > 0 {
		var saved bucket
		if json.Unmarshal(data, &saved) == nil && !saved.At.IsZero() {
			cur = saved
		}
	}
	w := cur.spend(b.now(), n)
	// Written even without a token taken: a clock that was set back must not
	// leave a date in the future behind.
	data, err := json.Marshal(cur)
	if err != nil {
		return 0, err
	}
	// A torn write reads as a full bucket, which costs nothing that matters.
	if err := f.Truncate(0); err != nil {
		return 0, fmt.Errorf("the commit budget: %w", err)
	}
	if _, err := f.WriteAt(data, 0); err != nil {
		return 0, fmt.Errorf("the commit budget: %w", err)
	}
	return w, nil
}
