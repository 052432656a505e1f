package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"strings"
	"syscall"
	"testing"

	"hfmount/fs"
	"hfmount/remote/hub"
)

func TestExplain(t *testing.T) {
	loc := hub.Location{Ref: hub.Ref{Repo: hub.Repo{Namespace: "acme", Name: "tiny"}, Revision: "v9"}}
	for _, c := range []struct {
		err        error
		code       int
		text, hint string // substrings
	}{
		{hub.ErrRepoNotFound, exitNotFound, "hf://acme/tiny@v9: repository not found", "spelling"},
		{hub.ErrRevisionNotFound, exitNotFound, `"v9"`, "https://hub.example/acme/tiny/tree/main"},
		{hub.ErrEntryNotFound, exitNotFound, "no such file", ""},
		{hub.ErrGated, exitAccess, "gated", "https://hub.example/acme/tiny"},
		{hub.ErrUnauthorized, exitAccess, "no token", "hf auth login"},
		{hub.ErrBadToken, exitAccess, "invalid or expired", "hf auth login"},
		{hub.ErrForbidden, exitAccess, "forbidden", "scope"},
		{hub.ErrUnavailable, exitUnreachable, "cannot be reached", "doctor"},
		{hub.ErrOffline, exitUnreachable, "offline", "--offline"},
		{hub.ErrBadAnswer, exitFailed, "makes no sense", ""},
		{fs.ErrNotDir, exitFailed, "not a directory", "hfmount cat"},
		{iofs.ErrNotExist, exitNotFound, "", ""},
		{iofs.ErrPermission, exitAccess, "", ""},
		{iofs.ErrInvalid, exitUsage, "", "NAMESPACE/NAME"},
		{context.DeadlineExceeded, exitUnreachable, "no answer", ""},
		{context.Canceled, exitFailed, "interrupted", ""},
		{&iofs.PathError{Op: "open", Path: "/x", Err: syscall.ENOENT}, exitFailed, "/x", ""},
		{os.NewSyscallError("mount", syscall.EPERM), exitFailed, "mount", ""},
		{errUsage("bad %s", "flag"), exitUsage, "bad flag", ""},
		{errors.New("odd"), exitFailed, "odd", ""},
	} {
		for _, wrapped := range []error{
			&repoError{loc, "https://hub.example", fmt.Errorf("while testing: %w", c.err)},
			errors.Join(&repoError{loc, "https://hub.example", c.err}, errors.New("and closing failed")),
		} {
			f := explain(wrapped)
			if f.code != c.code || !strings.Contains(f.text, c.text) || !strings.Contains(f.hint, c.hint) {
				t.Errorf("%v: got exit %d, %q, %q", c.err, f.code, f.text, f.hint)
			}
		}
	}
}

func TestExplainMount(t *testing.T) {
	busy := errors.New("fusermount3: option allow_other only allowed if 'user_allow_other' is set in /etc/fuse.conf")
	for _, c := range []struct {
		err    error
		helper string
		device error
		hint   string
	}{
		{errors.New("x"), "/bin/fusermount3", iofs.ErrNotExist, "modprobe fuse"},
		{errors.New("x"), "/bin/fusermount3", iofs.ErrPermission, "chmod 0666 /dev/fuse"},
		{busy, "/bin/fusermount3", nil, "user_allow_other"},
		{fmt.Errorf("mount: %w", syscall.EPERM), "/bin/fusermount3", nil, "SYS_ADMIN"},
	} {
		f := explainMount(c.err, "/mnt/x", c.helper, c.device)
		if f.code != exitFailed || !strings.Contains(f.hint, c.hint) || !strings.Contains(f.text, "/mnt/x") {
			t.Errorf("%v: got %q, %q", c.err, f.text, f.hint)
		}
	}
}

func TestErrorsAsJSON(t *testing.T) {
	var out, errs bytes.Buffer
	code := run(t.Context(), []string{"hfmount", "stat", "--json", "bad:name"}, &out, &errs)
	var got jsonFailure
	if err := json.Unmarshal(errs.Bytes(), &got); err != nil {
		t.Fatalf("%v in %q", err, errs.String())
	}
	if code != exitUsage || got.Code != "usage" || got.Error == "" || got.Hint == "" || out.Len() > 0 {
		t.Errorf("exit %d, %+v, output %q", code, got, out.String())
	}
	errs.Reset()
	if code := run(t.Context(), []string{"hfmount", "ls"}, &out, &errs); code != exitUsage || !strings.HasPrefix(errs.String(), "hfmount: ") {
		t.Errorf("exit %d, %q", code, errs.String())
	}
}
