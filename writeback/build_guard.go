package writeback

import (
	"context"
	"slices"

	"hfmount/remote/hub"
)

// guarded is a change that the guard holds, and why this one.
type guarded struct {
	seq uint64
	why string
}

// guard judges the lines and reports whether it holds them.
func (j *job) guard(ctx context.Context, head hub.Snapshot, lines []*line) (bool, error) {
	q := j.q
	in := guardInput{Public: q.public}
	renamed := make(map[string]bool)
	for _, l := range lines {
		for _, from := range l.origins() {
			renamed[from] = true
		}
	}
	for _, l := range lines {
		switch {
		case l.Kind == Delete && !renamed[l.Path]:
			in.Deleted++
		case l.Kind == Put:
			in.Added++
			in.Bytes += l.content.Size
			if !q.public {
				continue
			}
			what := secretName(l.Path)
			if what == "" && l.sealed != nil {
				data := make([]byte, min(l.content.Size, secretScan))
				n, err := l.sealed.data.ReadAt(data, 0)
				l.sealed.idle()
				if n < len(data) && err != nil {
					j.unable(l.item, err)
					return false, errAgain
				}
				what = secretContent(data[:n])
			}
			if what != "" {
				in.Secrets = append(in.Secrets, secret{Path: l.Path, What: what})
			}
		}
	}
	// What the guard holds already counts, or a deletion could pass in pieces.
	q.mu.Lock()
	now := make(map[string]bool)
	for _, l := range lines {
		now[l.Path] = true
	}
	var before []string
	for p := range q.guarded {
		if !now[p] {
			before = append(before, p)
		}
	}
	q.mu.Unlock()
	for _, p := range before {
		if in.Deleted == 0 {
			break
		}
		if c, ok := q.layer.Get(p); ok && c.Kind == Delete {
			in.Deleted++
		}
	}
	if in.Deleted >= guardDeletes {
		entries, err := q.hub.ListAll(ctx, head, "")
		if err != nil {
			return false, err
		}
		for _, e := range entries {
			if e.Type == hub.File {
				in.Files++
			}
		}
	}
	why := verdict(in)
	if why == "" {
		return false, nil
	}
	text := "the guard: " + why
	paths := make([]string, 0, len(lines))
	for _, l := range lines {
		paths = append(paths, l.Path)
	}
	slices.Sort(paths)
	// What is wrong with the batch is said once, at its first path, and what is
	// wrong with a path at that path.
	reasons := map[string]string{paths[0]: text}
	for _, s := range in.Secrets {
		reasons[s.Path] = "the guard: it looks like a secret (" + s.What + ") and the repository is public"
	}
	q.mu.Lock()
	known := q.guardText == text && len(q.guarded) > 0
	for _, l := range lines {
		q.guarded[l.Path] = guarded{l.seq, reasons[l.Path]}
	}
	q.guardText = text
	q.mu.Unlock()
	for _, l := range lines {
		j.setAside(l.item, Held, reasons[l.Path])
	}
	if !known {
		q.event(Event{Kind: "held", Text: text, Hint: "`hfmount commit --yes` commits it, `hfmount discard` drops it", Paths: paths})
	}
	return true, nil
}
