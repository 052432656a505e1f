package writeback

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"strings"

	"hfmount/remote/hub"
)

// Revert makes changes, and commits them, that restore paths ("" is all) to
// what they were at commit to; "" is the parent of the last commit. It fails
// for paths with changes that are not on the Hub. If the commit fails, the
// restored files are local changes as any others.
func (q *Queue) Revert(ctx context.Context, to hub.CommitID, paths ...string) (Outcome, error) {
	if len(paths) == 0 {
		paths = []string{""}
	}
	beneath := below(paths)
	for _, it := range q.items() {
		if it.remote() && beneath(it.Path) {
			return Outcome{}, fmt.Errorf("%s has changes that are not on the Hub: commit or discard them first", it.Path)
		}
	}
	ref := q.branch()
	head, err := q.hub.Resolve(ctx, ref)
	if err != nil {
		return Outcome{}, err
	}
	if to == "" {
		entries, err := q.hub.Log(ctx, ref, 2)
		if err != nil {
			return Outcome{}, err
		}
		if len(entries) < 2 {
			return Outcome{}, fmt.Errorf("the branch has no commit before the last: %w", iofs.ErrNotExist)
		}
		to = entries[1].ID
	}
	then, err := q.hub.Resolve(ctx, hub.Ref{Repo: ref.Repo, Revision: string(to)})
	if err != nil {
		return Outcome{}, err
	}
	old := make(map[string]hub.Entry)
	now := make(map[string]hub.Entry)
	for _, p := range paths {
		if err := q.filesAt(ctx, then, p, old); err != nil {
			return Outcome{}, err
		}
		if err := q.filesAt(ctx, head, p, now); err != nil {
			return Outcome{}, err
		}
		if p != "" && !anyBeneath(old, p) && !anyBeneath(now, p) {
			return Outcome{}, fmt.Errorf("%s is neither on the branch nor in %s: %w", p, to.Short(), iofs.ErrNotExist)
		}
	}
	var edits []Edit
	for p, e := range old {
		cur, ok := now[p]
		if ok && sameEntry(&e, &cur) {
			continue
		}
		edit := Edit{Path: p, Kind: Put, From: &Place{Snapshot: then, Entry: e}, Base: Base{Commit: head.Commit}}
		if ok {
			edit.Base.Entry = &cur
		}
		edits = append(edits, edit)
	}
	for p, e := range now {
		if _, ok := old[p]; !ok {
			edits = append(edits, Edit{Path: p, Kind: Delete, Base: Base{Commit: head.Commit, Entry: &e}})
		}
	}
	if len(edits) == 0 {
		return Outcome{}, nil
	}
	mine := make(map[string]bool, len(edits))
	for _, e := range edits {
		mine[e.Path] = true
	}
	if err := q.layer.Apply(0, edits...); err != nil {
		return Outcome{}, err
	}
	what := "Revert"
	if len(paths) == 1 && paths[0] != "" {
		what += " " + shorten(paths[0])
	}
	return q.commit(ctx, CommitRequest{Message: what + " to " + to.Short() + " via hfmount", Yes: true}, func(it *item) bool { return mine[it.Path] })
}

// filesAt adds the files at and beneath a path to out.
func (q *Queue) filesAt(ctx context.Context, s hub.Snapshot, p string, out map[string]hub.Entry) error {
	if p != "" {
		entries, err := q.hub.Paths(ctx, s, []string{p})
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			return nil
		}
		if entries[0].Type == hub.File {
			out[p] = entries[0]
			return nil
		}
	}
	entries, err := q.hub.ListAll(ctx, s, p)
	if errors.Is(err, hub.ErrEntryNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Type == hub.File {
			out[e.Path] = e
		}
	}
	return nil
}

func anyBeneath(entries map[string]hub.Entry, p string) bool {
	for path := range entries {
		if path == p || strings.HasPrefix(path, p+"/") {
			return true
		}
	}
	return false
}
