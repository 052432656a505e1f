package main

import (
	"context"
	"errors"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"hfmount/remote/hub"
	"hfmount/writeback"
)

// branch is one branch that this mount writes to: its local changes, and the
// queue that makes commits of them.
type branch struct {
	ref   hub.Ref // under the repository's current name, the revision spelt out
	layer *writeback.Layer
	queue *writeback.Queue
	// adopted is how many changes an earlier mount left.
	adopted int
	public  bool
	// missing is set until a commit makes the branch.
	missing atomic.Bool
	// reverting counts reverts under way: what lands meanwhile may show other
	// bytes than the kernel knows.
	reverting atomic.Int32
}

// openBranch opens the local changes of v's branch. Nothing of it runs before
// start.
func (l *layers) openBranch(v verdict) (*branch, error) {
	ref := hub.Ref{Repo: v.snapshot.Ref.Repo, Revision: v.snapshot.Ref.Rev()}
	b := &branch{ref: ref, public: !v.snapshot.Private}
	b.missing.Store(v.missing)
	var err error
	b.layer, err = openLayer(writeback.LayerOptions{
		Owner:    l.cfg.dir,
		StateDir: l.cfg.write.stateDir,
		Key:      writeback.Key{Endpoint: l.cfg.endpoint, Account: v.account, Ref: ref},
		Content:  l.content,
		LocalOnly: writeback.NewLocalOnly(writeback.LocalOnlyOptions{
			Ignore: l.cfg.write.ignore, IgnoreFile: v.ignoreFile, NoJunk: l.cfg.write.noJunk,
		}),
		MaxStaging: l.cfg.write.maxStaging,
		Logger:     l.log,
	})
	if err != nil {
		return nil, err
	}
	if d := b.layer.Damage(); d != "" {
		l.log.Error("part of the journal could not be read; what was read is shown", "ref", ref, "damage", d)
		l.events.tell(writeback.Event{Kind: "failed", Text: "part of the journal of " + refName(ref) + " could not be read: " + d,
			Hint: "`hfmount recover` lists what is left"})
	}
	for _, c := range b.layer.Under("") {
		if c.State != writeback.LocalOnly {
			b.adopted++
		}
	}
	policy := l.cfg.write.policy
	policy.Host, policy.Mount = hostName(), l.cfg.dir
	policy.CreateBranch = v.missing
	b.queue, err = writeback.NewQueue(writeback.QueueOptions{
		Layer:    b.layer,
		Hub:      l.client,
		Policy:   policy,
		StateDir: l.cfg.write.stateDir,
		Hooks:    writeback.Hooks{Landed: l.landed, Event: l.events.tell},
		Public:   b.public,
		Logger:   l.log,
	})
	if err != nil {
		return nil, errors.Join(err, b.layer.Close())
	}
	return b, nil
}

const (
	// lookPatience covers those who lock a branch's changes for a moment, to
	// count them.
	lookPatience = 2 * time.Second
	lookPause    = 20 * time.Millisecond
)

// openLayer is writeback.OpenLayer for those who may wait a moment.
func openLayer(o writeback.LayerOptions) (*writeback.Layer, error) {
	for end := time.Now().Add(lookPatience); ; time.Sleep(lookPause) {
		layer, err := writeback.OpenLayer(o)
		if !errors.Is(err, writeback.ErrLocked) || !strings.Contains(err.Error(), "counting changes") || time.Now().After(end) {
			return layer, err
		}
	}
}

// close gives the lock up. The queue must have ended.
func (b *branch) close() error { return b.layer.Close() }

// refName is a branch as people write it.
func refName(ref hub.Ref) string {
	return strings.TrimPrefix(hub.Location{Ref: ref}.String(), "hf://")
}

// target is what a path in the mount means: a path in a branch, "" for all of
// it.
type target struct {
	*branch
	path string
}

// find says which branches a path below the mountpoint names, or lies in; ""
// is all of them.
func (l *layers) find(rel string) []target {
	rel = cleanRel(rel)
	var out []target
	for _, b := range l.all() {
		if !l.cfg.loc.Repo.IsZero() {
			out = append(out, target{b, cleanRel(path.Join(l.cfg.loc.Path, rel))})
			continue
		}
		for _, name := range wholeNames(b.ref) {
			if rest, ok := cutDir(rel, name); ok {
				out = append(out, target{b, rest})
				break
			}
			if _, ok := cutDir(name, rel); ok {
				out = append(out, target{b, ""})
				break
			}
		}
	}
	return out
}

// show is where a path of a branch is, seen from the mountpoint. What a mount
// of a folder does not show begins with "..".
func (l *layers) show(ref hub.Ref, p string) string {
	base := ""
	if l.cfg.loc.Repo.IsZero() {
		return path.Join(wholeNames(ref)[0], p)
	}
	base = l.cfg.loc.Path
	if rel, err := filepath.Rel("/"+base, "/"+p); err == nil {
		return rel
	}
	return p
}

// wholeNames are the directories of the whole Hub that show ref, the shortest
// first.
func wholeNames(ref hub.Ref) []string {
	name := ref.Repo.String()
	with := name + "@" + hub.EscapeRevision(ref.Rev())
	if ref.Rev() == hub.DefaultRevision {
		return []string{name, with}
	}
	return []string{with, name + "@" + ref.Rev()}
}

func cleanRel(p string) string {
	p = path.Clean("/" + p)
	return strings.TrimPrefix(p, "/")
}

// cutDir is what of p lies below dir; both are clean, "" is the top.
func cutDir(p, dir string) (string, bool) {
	if dir == "" || p == dir {
		return strings.TrimPrefix(p, dir), true
	}
	return strings.CutPrefix(p, dir+"/")
}

// all returns the open branches, in order of their names.
func (l *layers) all() []*branch {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]*branch, 0, len(l.branches))
	for _, b := range l.branches {
		out = append(out, b)
	}
	slices.SortFunc(out, func(a, b *branch) int { return strings.Compare(refName(a.ref), refName(b.ref)) })
	return out
}

// landed moves the view of a branch to a snapshot that has the commit.
func (l *layers) landed(ctx context.Context, landing writeback.Landing) error {
	b, ok := l.get(l.key(landing.Ref))
	if ok {
		b.missing.Store(false)
	}
	tree := l.tree.Load()
	if err := tree.Landed(ctx, landing); err != nil {
		return err
	}
	if ok && b.reverting.Load() > 0 {
		tree.LocalChanged(b.ref, landing.Paths)
	}
	return nil
}
