package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"hfmount/blockcache"
	"hfmount/fs"
	"hfmount/remote/hub"
)

func TestErrno(t *testing.T) {
	live := context.Background()
	dead, cancel := context.WithCancel(live)
	cancel()
	wrap := func(err error) error { return fmt.Errorf("reading a/b: %w", err) }
	refused := &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	for _, c := range []struct {
		ctx  context.Context
		err  error
		want syscall.Errno
	}{
		{live, nil, 0},
		{dead, nil, 0},
		{dead, wrap(iofs.ErrNotExist), syscall.EINTR},
		{dead, context.Canceled, syscall.EINTR},
		{live, context.Canceled, syscall.EIO}, // somebody else's
		{live, context.DeadlineExceeded, syscall.EIO},
		{live, wrap(iofs.ErrNotExist), syscall.ENOENT},
		{live, wrap(hub.ErrRepoNotFound), syscall.ENOENT},
		{live, wrap(hub.ErrRevisionNotFound), syscall.ENOENT},
		{live, wrap(hub.ErrEntryNotFound), syscall.ENOENT},
		{live, wrap(iofs.ErrExist), syscall.EEXIST},
		{live, wrap(iofs.ErrPermission), syscall.EACCES},
		{live, wrap(hub.ErrGated), syscall.EACCES},
		{live, wrap(hub.ErrUnauthorized), syscall.EACCES},
		{live, wrap(hub.ErrBadToken), syscall.EACCES},
		{live, wrap(fs.ErrReadOnly), syscall.EROFS},
		{live, wrap(fs.ErrIsDir), syscall.EISDIR},
		{live, wrap(fs.ErrNotDir), syscall.ENOTDIR},
		{live, wrap(fs.ErrNameTooLong), syscall.ENAMETOOLONG},
		{live, wrap(iofs.ErrInvalid), syscall.EINVAL},
		{live, &hub.ParseError{Input: "x", Reason: "y"}, syscall.EINVAL},
		{live, wrap(hub.ErrConflict), syscall.ESTALE},
		{live, wrap(errors.ErrUnsupported), syscall.ENOTSUP},
		{live, wrap(fs.ErrNotEmpty), syscall.ENOTEMPTY},
		{live, wrap(fs.ErrStale), syscall.ESTALE},
		{live, wrap(fs.ErrCrossDevice), syscall.EXDEV},
		{live, wrap(fs.ErrNoLinks), syscall.EPERM},
		{live, wrap(fs.ErrNoSpace), syscall.ENOSPC},
		{live, wrap(hub.ErrOffline), syscall.ENETUNREACH},
		{live, wrap(hub.ErrUnavailable), syscall.EIO},
		{live, wrap(hub.ErrBadAnswer), syscall.EIO},
		{live, wrap(blockcache.ErrCorrupt), syscall.EIO},
		{live, io.ErrUnexpectedEOF, syscall.EIO},
		// Numbers from elsewhere are not ours to pass on.
		{live, wrap(refused), syscall.EIO},
		{live, &os.PathError{Op: "open", Path: "blob", Err: syscall.ENOENT}, syscall.EIO},
		{live, &os.PathError{Op: "open", Path: "blob", Err: syscall.EACCES}, syscall.EIO},
		{live, syscall.ENOSYS, syscall.EIO},
		// An unreachable Hub is never a missing file.
		{live, errors.Join(hub.ErrUnavailable, iofs.ErrNotExist), syscall.EIO},
	} {
		if got := errno(c.ctx, c.err); got != c.want {
			t.Errorf("errno(%v) = %v, want %v", c.err, got, c.want)
		}
	}
}

func TestComplaintsAreRateLimited(t *testing.T) {
	var buf bytes.Buffer
	now := time.Unix(0, 0)
	c := complaints{log: slog.New(slog.NewTextHandler(&buf, nil)), now: func() time.Time { return now }}
	ctx := context.Background()
	lines := func() int { return strings.Count(buf.String(), "\n") }

	for range 100 {
		c.fail(ctx, "read", "a", hub.ErrUnavailable)
	}
	if lines() != 1 {
		t.Fatalf("%d lines for one cause:\n%s", lines(), &buf)
	}
	c.fail(ctx, "read", "b", hub.ErrUnavailable)
	if lines() != 2 {
		t.Fatal("another file's failure was swallowed")
	}
	now = now.Add(repeatAfter)
	c.fail(ctx, "read", "a", hub.ErrUnavailable)
	if lines() != 3 {
		t.Fatal("a lasting failure was not repeated")
	}
	c.fail(ctx, "lookup", "c", iofs.ErrNotExist)
	if lines() != 3 {
		t.Fatal("a missing name is not worth a line")
	}
	for i := range 10 * maxComplaints {
		c.fail(ctx, "read", fmt.Sprint(i), hub.ErrUnavailable)
	}
	if len(c.last) > maxComplaints {
		t.Fatalf("%d causes remembered", len(c.last))
	}
}

// What local disk says about room reaches a writer, and nothing else of it.
func TestWriteErrno(t *testing.T) {
	live := context.Background()
	wrap := func(err error) error {
		return fmt.Errorf("writing: %w", &os.PathError{Op: "write", Path: "/x", Err: err})
	}
	for err, want := range map[error]syscall.Errno{
		nil:                      0,
		wrap(syscall.ENOSPC):     syscall.ENOSPC,
		wrap(syscall.EDQUOT):     syscall.EDQUOT,
		wrap(syscall.EFBIG):      syscall.EFBIG,
		wrap(syscall.EOPNOTSUPP): syscall.EOPNOTSUPP,
		wrap(syscall.ENOENT):     syscall.EIO,
		wrap(syscall.EACCES):     syscall.EIO,
		wrap(fs.ErrReadOnly):     syscall.EROFS,
		wrap(io.ErrShortWrite):   syscall.EIO,
	} {
		if got := writeErrno(live, err); got != want {
			t.Errorf("%v: %v, want %v", err, got, want)
		}
	}
	if got := errno(live, wrap(syscall.ENOSPC)); got != syscall.EIO {
		t.Errorf("a full disk at a read: %v", got)
	}
	dead, cancel := context.WithCancel(live)
	cancel()
	if got := writeErrno(dead, wrap(syscall.ENOSPC)); got != syscall.EINTR {
		t.Error(got)
	}
}
