package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"hfmount/remote/hub"
)

// verdict is what the Hub says of committing to a branch.
type verdict struct {
	snapshot hub.Snapshot // under the repository's current name
	account  string
	missing  bool   // the branch is to be made by the first commit
	reason   string // why nothing may be written, "" if it may
	// ignoreFile is the text of the repository's .hfignore.
	ignoreFile string
}

const (
	ignoreFile = ".hfignore"
	// maxIgnoreFile bounds it, in bytes.
	maxIgnoreFile = 1 << 20
)

// judge asks whether commits to ref would be taken (design §4 "Who may
// write"). An error is one of asking; a refusal is a reason.
func (l *layers) judge(ctx context.Context, ref hub.Ref) (verdict, error) {
	var v verdict
	var err error
	v.snapshot, err = l.client.Resolve(ctx, ref)
	if l.cfg.write.policy.CreateBranch && errors.Is(err, hub.ErrRevisionNotFound) {
		v.missing = true
		v.snapshot, err = l.client.Resolve(ctx, hub.Ref{Repo: ref.Repo})
		v.snapshot.Ref.Revision = ref.Rev()
	}
	if l.cfg.write.createRepo && missingRepo(err) {
		if err = l.client.CreateRepo(ctx, ref.Repo, true); err == nil || errors.Is(err, hub.ErrExists) {
			v.snapshot, err = l.client.Resolve(ctx, ref)
		}
	}
	if err != nil {
		return v, err
	}
	repo := v.snapshot.Ref.Repo
	if v.reason, err = l.kind(ctx, ref, repo, v.missing); err != nil || v.reason != "" {
		return v, err
	}
	if !l.cfg.write.policy.CreatePR {
		if err := l.client.MayWrite(ctx, repo); err != nil {
			v.reason, err = refusal(err)
			return v, err
		}
	}
	account, err := l.client.WhoAmI(ctx)
	if err != nil {
		v.reason, err = refusal(err)
		return v, err
	}
	v.account = account.Name
	v.ignoreFile, err = l.readIgnoreFile(ctx, v.snapshot)
	return v, err
}

// readIgnoreFile is the text of .hfignore at the root of a snapshot, "" if
// there is none.
func (l *layers) readIgnoreFile(ctx context.Context, s hub.Snapshot) (string, error) {
	entries, err := l.client.Paths(ctx, s, []string{ignoreFile})
	if err != nil {
		return "", fmt.Errorf("look for %s: %w", ignoreFile, err)
	}
	for _, e := range entries {
		if e.Path != ignoreFile || e.Type != hub.File {
			continue
		}
		text, err := l.client.ReadAll(ctx, s, e, maxIgnoreFile)
		if err != nil {
			return "", fmt.Errorf("read %s: %w", ignoreFile, err)
		}
		return string(text), nil
	}
	return "", nil
}

// missingRepo tells a repository that may be made from one that exists.
func missingRepo(err error) bool { return errors.Is(err, hub.ErrRepoNotFound) }

// kind says why no commit can go to such a revision, "" if one can.
func (l *layers) kind(ctx context.Context, ref hub.Ref, repo hub.Repo, missing bool) (string, error) {
	rev := ref.Rev()
	switch {
	case ref.Pinned():
		return "a commit never changes", nil
	case rev == hub.DefaultRevision || missing:
		return "", nil
	case strings.HasPrefix(rev, "refs/pr/"):
		if l.cfg.write.policy.CreatePR {
			return "it is a pull request already, and --create-pr asks for a new one", nil
		}
		return "", nil
	case strings.HasPrefix(rev, "refs/"):
		return "made by the Hub", nil
	}
	refs, err := l.client.Refs(ctx, repo)
	if err != nil {
		return "", err
	}
	tag := false
	for _, r := range refs {
		if r.Name != rev {
			continue
		}
		if r.Kind == hub.Branch {
			return "", nil
		}
		tag = tag || r.Kind == hub.Tag
	}
	if tag {
		return "a tag never changes", nil
	}
	return "a commit never changes", nil // an abbreviated one
}

// refusal tells a clear no, in words for "read-only (…)", from a question that
// was not answered.
func refusal(err error) (string, error) {
	switch {
	case errors.Is(err, hub.ErrBadToken):
		return "the token is invalid or expired", nil
	case errors.Is(err, hub.ErrUnauthorized):
		return "no token; `hf auth login` makes one", nil
	case errors.Is(err, hub.ErrForbidden), errors.Is(err, hub.ErrGated), errors.Is(err, hub.ErrRepoNotFound):
		return "the token may not write here", nil
	}
	return "", fmt.Errorf("ask who may write: %w", err)
}
