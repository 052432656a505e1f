package main

import (
	"context"
	"errors"

	"hfmount/fs"
	"hfmount/remote/hub"
)

// newBranchSource shows a branch that the first commit will make
// (--create-branch) as what it is going to begin from.
type newBranchSource struct {
	fs.Source
	layers *layers
}

// Resolve pins ref, or the default branch in the place of a ref that is not
// there yet.
func (s newBranchSource) Resolve(ctx context.Context, ref hub.Ref) (hub.Snapshot, error) {
	snap, err := s.Source.Resolve(ctx, ref)
	if errors.Is(err, hub.ErrRevisionNotFound) && s.layers.awaits(ref) {
		snap, err = s.Source.Resolve(ctx, hub.Ref{Repo: ref.Repo})
		snap.Ref.Revision = ref.Revision
	}
	return snap, err
}

// Head is the commit of ref, as Resolve sees it.
func (s newBranchSource) Head(ctx context.Context, ref hub.Ref) (hub.CommitID, error) {
	id, err := s.Source.Head(ctx, ref)
	if errors.Is(err, hub.ErrRevisionNotFound) && s.layers.awaits(ref) {
		return s.Source.Head(ctx, hub.Ref{Repo: ref.Repo})
	}
	return id, err
}

// awaits reports whether ref is a branch that this mount is to make. Once a
// commit has landed on it, its absence means that somebody deleted it.
func (l *layers) awaits(ref hub.Ref) bool {
	b, ok := l.get(l.key(ref))
	return ok && b.missing.Load()
}
