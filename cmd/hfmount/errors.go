package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"strings"
	"syscall"

	"hfmount/fs"
	"hfmount/remote/hub"
	"hfmount/writeback"
)

// The exit codes of cli.md.
const (
	exitOK = iota
	exitFailed
	exitUsage
	exitLocal
	exitNotFound
	exitAccess
	exitUnreachable
	exitConflict
)

var codeNames = [...]string{"ok", "failed", "usage", "local-changes", "not-found", "no-access", "unreachable", "conflict"}

// failure is an error as a person sees it: a reason, perhaps something to do,
// and an exit code.
type failure struct {
	text string
	hint string // may be empty, may have several lines
	code int
	err  error // the cause, or nil
}

func (f *failure) Error() string { return f.text }
func (f *failure) Unwrap() error { return f.err }

// print writes the failure for people; one without text has been told already.
func (f *failure) print(w io.Writer) {
	if f.text == "" {
		return
	}
	fmt.Fprintf(w, "hfmount: %s\n", f.text)
	if f.hint != "" {
		fmt.Fprintln(w, f.hint)
	}
}

// jsonFailure is the error object of --json modes (cli.md "Exit codes").
type jsonFailure struct {
	Error string `json:"error"`
	Hint  string `json:"hint"`
	Code  string `json:"code"`
}

func (f *failure) json() jsonFailure {
	code := codeNames[exitFailed]
	if f.code < len(codeNames) { // others are those of the command of `hfmount run`
		code = codeNames[f.code]
	}
	return jsonFailure{Error: f.text, Hint: f.hint, Code: code}
}

// repoError is an error met while asking about loc at endpoint, which the
// hints name.
type repoError struct {
	loc      hub.Location
	endpoint string
	err      error
}

func (e *repoError) Error() string { return e.loc.String() + ": " + e.err.Error() }
func (e *repoError) Unwrap() error { return e.err }

// explain turns any error into what a person is told. It is the one place
// that chooses exit codes for errors of other packages.
func explain(err error) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	name, page, endpoint := "the Hub", "", "the endpoint"
	var loc hub.Location
	if e, ok := errors.AsType[*repoError](err); ok {
		loc, endpoint = e.loc, e.endpoint
		name = loc.String()
		page = e.endpoint + "/" + loc.Repo.String()
	}
	f := &failure{text: err.Error(), code: exitFailed, err: err}
	switch {
	case errors.Is(err, hub.ErrRepoNotFound):
		f.code = exitNotFound
		f.text = name + ": repository not found at " + endpoint
		f.hint = "check the spelling; a dataset is written datasets/NAMESPACE/NAME, a space spaces/NAMESPACE/NAME"
	case errors.Is(err, hub.ErrRevisionNotFound):
		f.code = exitNotFound
		f.text = fmt.Sprintf("%s: no branch, tag or commit %q", name, loc.Rev())
		if page != "" {
			f.hint = "its revisions are listed at " + page + "/tree/main"
		}
	case errors.Is(err, hub.ErrGated):
		f.code = exitAccess
		f.text = name + ": access is gated"
		f.hint = "request access at " + page + " with the account of your token, then try again"
	case errors.Is(err, hub.ErrUnauthorized):
		f.code = exitAccess
		f.text = name + ": no token, and the Hub does not say without one whether this is missing, private or gated"
		f.hint = "log in with `hf auth login`, or set HF_TOKEN"
	case errors.Is(err, hub.ErrBadToken):
		f.code = exitAccess
		f.text = name + ": the token is invalid or expired"
		f.hint = "get a new one with `hf auth login`, or correct HF_TOKEN"
	case errors.Is(err, hub.ErrForbidden):
		f.code = exitAccess
		f.hint = "the token's account or scope does not allow this"
	case errors.Is(err, hub.ErrOffline):
		f.code = exitUnreachable
		f.text = name + ": offline, and not in the cache"
		f.hint = "run once without --offline (and without HF_HUB_OFFLINE) to fill the cache"
	case errors.Is(err, hub.ErrUnavailable):
		f.code = exitUnreachable
		if !strings.Contains(f.text, endpoint) {
			f.text = endpoint + ": " + f.text
		}
		f.hint = "check the network and HF_ENDPOINT; `hfmount doctor` looks at both; --offline uses what is cached"
	case errors.Is(err, writeback.ErrHeld):
		f.code = exitLocal
		f.hint = "look at it with `hfmount diff`, then `hfmount commit --yes` sends it, or `hfmount discard` drops it"
	case errors.Is(err, hub.ErrLimited):
		f.hint = "the changes are kept and sent later; `hfmount status` says when"
	case errors.Is(err, hub.ErrRefused):
		f.hint = "correct, rename or `hfmount discard` what the Hub refuses"
	case errors.Is(err, fs.ErrNotDir):
		f.text = name + ": not a directory"
		f.hint = "to mount, name the folder that a file is in; `hfmount cat` prints a file"
	case errors.Is(err, context.Canceled):
		f.text = "interrupted"
	case errors.Is(err, context.DeadlineExceeded):
		f.code = exitUnreachable
		f.text = name + ": no answer in time"
	case isLocal(err):
		// A missing or unreadable file on this machine is not the Hub's.
	case page != "" && errors.Is(err, iofs.ErrNotExist):
		f.code = exitNotFound
		f.text = name + ": no such file or directory in the repository"
	case errors.Is(err, iofs.ErrInvalid):
		f.code = exitUsage
		f.hint = "REPO is [hf://][datasets/|spaces/]NAMESPACE/NAME[@REVISION][/PATH]"
	case errors.Is(err, iofs.ErrNotExist):
		f.code = exitNotFound
	case errors.Is(err, iofs.ErrPermission):
		f.code = exitAccess
	}
	return f
}

// isLocal tells errors of this machine's own calls, which carry a number, from
// those that only mean the same.
func isLocal(err error) bool {
	_, ok := errors.AsType[syscall.Errno](err)
	return ok
}

// explainMount is explain for an error of the mount call itself, where the
// cause is this machine's set-up. dir is the mountpoint.
func explainMount(err error, dir string, helper string, device error) *failure {
	text := err.Error()
	f := &failure{text: "cannot mount on " + dir + ": " + text, code: exitFailed, err: err}
	switch {
	case errors.Is(device, iofs.ErrNotExist):
		f.text = "cannot mount on " + dir + ": /dev/fuse does not exist"
		f.hint = "load the module with `modprobe fuse`; in a container, pass --device /dev/fuse --cap-add SYS_ADMIN"
	case errors.Is(device, iofs.ErrPermission):
		f.text = "cannot mount on " + dir + ": no permission to open /dev/fuse"
		f.hint = "as root: chmod 0666 /dev/fuse (its usual mode); in a container, pass --device /dev/fuse"
	case helper == "" && os.Geteuid() != 0:
		f.text = "cannot mount on " + dir + ": fusermount3 is not installed, and only root may mount without it"
		f.hint = "install it: apt-get install fuse3, dnf install fuse3, or apk add fuse3"
	case strings.Contains(text, "user_allow_other"):
		f.text = "cannot mount on " + dir + ": --allow-other is not permitted to ordinary users here"
		f.hint = "as root, put a line `user_allow_other` in /etc/fuse.conf, or mount without --allow-other"
	case errors.Is(err, syscall.EPERM) || strings.Contains(text, "not permitted"):
		f.hint = "mounting is not permitted here; in a container, pass --device /dev/fuse --cap-add SYS_ADMIN"
	}
	return f
}
