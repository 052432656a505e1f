package writeback

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"hfmount/remote/hub"
)

// modes asks the Hub how it wants each file.
func (j *job) modes(ctx context.Context, t target, lines []*line) ([]*line, error) {
	var ask []*line
	var attributes []byte
	for _, l := range lines {
		if l.Kind != Put {
			continue
		}
		if l.Path == attributesName {
			data, err := j.bytes(ctx, l, inlineBelow)
			switch {
			case everybodys(err):
				return nil, err
			case err != nil:
				j.unable(l.item, err)
				return nil, errAgain
			}
			attributes = data
		}
		if !l.lfs || l.sealed != nil {
			ask = append(ask, l)
		}
	}
	const most = 256
	for chunk := range slices.Chunk(ask, most) {
		if err := j.preupload(ctx, t, chunk, attributes); err != nil {
			return nil, err
		}
	}
	lines = slices.DeleteFunc(lines, func(l *line) bool { return j.finished[l.item] })
	return j.coherentLines(lines), nil
}

// all yields the changes of the run that the Hub does not have yet.
func (j *job) all() func(yield func(*item) bool) {
	return func(yield func(*item) bool) {
		for _, g := range j.groups {
			for _, it := range g.items {
				if !j.landed[it] && !yield(it) {
					return
				}
			}
		}
	}
}

// preupload asks about one group. If the Hub refuses all of it because of one,
// that one is found by halving.
func (j *job) preupload(ctx context.Context, t target, lines []*line, attributes []byte) error {
	p := hub.Preupload{Attributes: attributes, Ignore: []byte{}, PullRequest: t.opens}
	if j.q.policy.Gitignore {
		p.Ignore = nil
	}
	for _, l := range lines {
		s := hub.Sample{Path: l.Path, Size: l.content.Size}
		switch {
		case l.data != nil:
			s.Head = l.data[:min(len(l.data), 512)]
		case l.sealed != nil:
			s.Head = l.sealed.Head
		}
		p.Files = append(p.Files, s)
	}
	modes, err := j.q.hub.Preupload(ctx, t.ref, p)
	if errors.Is(err, hub.ErrRefused) {
		if r := new(hub.RefusedError); len(lines) > 1 && (!errors.As(err, &r) || len(r.Paths) == 0) {
			half := len(lines) / 2
			err = j.preupload(ctx, t, lines[:half], attributes)
			if err != nil && !errors.Is(err, errAgain) {
				return err
			}
			if err2 := j.preupload(ctx, t, lines[half:], attributes); err2 != nil {
				return err2
			}
			return err
		}
		return j.refused(err, lines)
	}
	if err != nil {
		return err
	}
	if len(modes) != len(lines) {
		return fmt.Errorf("%w: %d upload modes for %d files", hub.ErrBadAnswer, len(modes), len(lines))
	}
	for i, l := range lines {
		l.lfs = modes[i].LFS && l.content.Size > 0
		if modes[i].Ignore && j.q.policy.Gitignore {
			const why = "ignored by .gitignore"
			j.finished[l.item] = true
			if err := j.q.l.mark(l.seq, l.Path, LocalOnly, why); err != nil {
				return err
			}
		}
	}
	return nil
}
