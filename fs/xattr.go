package fs

import (
	"context"

	"hfmount/remote/hub"
)

// The names of extended attributes (cli.md, "The whole-Hub mount").
const (
	xattrRepo     = "user.hf.repo"
	xattrRevision = "user.hf.revision"
	xattrCommit   = "user.hf.commit"
	xattrOID      = "user.hf.oid"
	xattrSHA256   = "user.hf.sha256"
	xattrXetHash  = "user.hf.xet_hash"
	xattrURL      = "user.hf.url"
)

// Xattrs implements Node. The commit is the present one of the branch while
// the file is in it unchanged, else the one it was found in.
func (f *File) Xattrs(ctx context.Context) (map[string]string, error) {
	st, e := f.st, f.entry()
	if now, err := f.a.view.use(ctx); err == nil && now != st {
		if l, i, err := now.lookup(ctx, e.Path); err == nil && l.entry(i).Content() == e.Content() {
			st = now
		}
	}
	m := st.xattrs()
	m[xattrOID] = e.OID
	m[xattrURL] = st.v.t.src.URL(st.snap, e)
	if e.SHA256 != "" {
		m[xattrSHA256] = e.SHA256
	}
	if e.XetHash != "" {
		m[xattrXetHash] = e.XetHash
	}
	return m, nil
}

// xattrs are those of everything in the state.
func (st *state) xattrs() map[string]string {
	return map[string]string{
		xattrRepo:     st.snap.Ref.Repo.String(),
		xattrRevision: st.v.ref.Rev(),
		xattrCommit:   string(st.snap.Commit),
	}
}

func (d *repoDir) xattrs(ctx context.Context) (m map[string]string, err error) {
	err = d.a.view.afresh(ctx, func(st *state) error {
		m = st.xattrs()
		e := hub.Entry{Path: d.path, Type: hub.Directory}
		if d.path != "" {
			at, err := st.key(ctx, d.path)
			if err != nil {
				return err
			}
			e.OID = at.key.String()
			m[xattrOID] = e.OID
		}
		if url := d.a.view.t.src.URL(st.snap, e); url != "" {
			m[xattrURL] = url
		}
		return nil
	})
	return m, err
}
