package node

import (
	"context"
	"errors"
	iofs "io/fs"
	"log/slog"
	"sync"
	"syscall"
	"time"

	"hfmount/fs"
	"hfmount/remote/hub"
)

// errno is the only place where errors become numbers. ctx is the request's
// own: if it is done the answer is EINTR, whatever err says, because nobody
// waits for more.
//
// A raw system error somewhere inside err is never passed on: a refused
// connection or a lost temporary file says nothing about the file that was
// asked for. It is checked before the sentinels because syscall.ENOENT also
// answers to iofs.ErrNotExist.
func errno(ctx context.Context, err error) syscall.Errno {
	if err == nil {
		return 0
	}
	if ctx.Err() != nil {
		return syscall.EINTR
	}
	var raw syscall.Errno
	if errors.As(err, &raw) {
		return syscall.EIO
	}
	for _, k := range []struct {
		err   error
		errno syscall.Errno
	}{
		{hub.ErrOffline, syscall.ENETUNREACH},
		{hub.ErrConflict, syscall.ESTALE},
		{hub.ErrBadAnswer, syscall.EIO},
		{hub.ErrUnavailable, syscall.EIO},
		{iofs.ErrNotExist, syscall.ENOENT},
		{iofs.ErrExist, syscall.EEXIST},
		{iofs.ErrPermission, syscall.EACCES},
		{iofs.ErrInvalid, syscall.EINVAL},
		{fs.ErrReadOnly, syscall.EROFS},
		{fs.ErrIsDir, syscall.EISDIR},
		{fs.ErrNotDir, syscall.ENOTDIR},
		{fs.ErrNameTooLong, syscall.ENAMETOOLONG},
		{fs.ErrNotEmpty, syscall.ENOTEMPTY},
		{fs.ErrStale, syscall.ESTALE},
		{fs.ErrCrossDevice, syscall.EXDEV},
		{fs.ErrNoLinks, syscall.EPERM},
		{fs.ErrNoSpace, syscall.ENOSPC},
		{errors.ErrUnsupported, syscall.ENOTSUP},
	} {
		if errors.Is(err, k.err) {
			return k.errno
		}
	}
	return syscall.EIO
}

// writeErrno is errno for what ends on local disk. What that says about room is
// for the caller to know, and so is what it cannot do.
func writeErrno(ctx context.Context, err error) syscall.Errno {
	n := errno(ctx, err)
	if n != syscall.EIO {
		return n
	}
	for _, raw := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG, syscall.EOPNOTSUPP} {
		var is syscall.Errno
		if errors.As(err, &is) && is == raw {
			return raw
		}
	}
	return n
}

// complaints logs the cause behind an errno, which the kernel does not keep.
// The same cause is logged once in repeatAfter: a program that retries a read
// in a loop must not fill the disk.
type complaints struct {
	log *slog.Logger
	now func() time.Time

	mu   sync.Mutex
	last map[string]time.Time
}

const (
	repeatAfter   = 30 * time.Second
	maxComplaints = 256 // distinct causes remembered
)

// fail turns err into an errno and logs it. op and name say what was asked.
func (c *complaints) fail(ctx context.Context, op, name string, err error) syscall.Errno {
	return c.report(ctx, op, name, errno(ctx, err), err)
}

// failWrite is fail for what changes the tree.
func (c *complaints) failWrite(ctx context.Context, op, name string, err error) syscall.Errno {
	return c.report(ctx, op, name, writeErrno(ctx, err), err)
}

func (c *complaints) report(ctx context.Context, op, name string, n syscall.Errno, err error) syscall.Errno {
	switch n {
	case 0, syscall.ENOENT, syscall.ENOTDIR, syscall.ENAMETOOLONG, syscall.EEXIST, syscall.ENOTEMPTY,
		syscall.EISDIR, syscall.EXDEV, syscall.EPERM, syscall.ENOTSUP, syscall.EFBIG:
		return n // answers, not failures
	case syscall.ESTALE:
		if errors.Is(err, fs.ErrStale) {
			return n // the kernel asks again
		}
	case syscall.EINTR:
		c.log.Debug("request abandoned: its caller is ending", "op", op, "name", name)
		return n
	}
	if c.fresh(op + "\x00" + name + "\x00" + err.Error()) {
		level := slog.LevelWarn
		if n == syscall.EINVAL {
			level = slog.LevelInfo // a name that the Hub would refuse: the caller's, not ours
		}
		c.log.Log(ctx, level, "request failed", "op", op, "name", name, "errno", n.Error(), "cause", err)
	}
	return n
}

func (c *complaints) fresh(key string) bool {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if t, ok := c.last[key]; ok && now.Sub(t) < repeatAfter {
		return false
	}
	if c.last == nil || len(c.last) >= maxComplaints {
		c.last = make(map[string]time.Time)
	}
	c.last[key] = now
	return true
}
