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
	xattrPath     = "user.hf.path"  // of local changes
	xattrState    = "user.hf.state" // of local changes
)

// Xattrs implements Node. The commit is the present one of the branch while
// the file is in it unchanged, else the one it was found in.
func (f *File) Xattrs(ctx context.Context) (map[string]string, error) {
	h := f.held
	if f.w != nil {
		var local map[string]string
		if h, local = f.w.xattrs(); h == nil {
			return local, nil
		}
	}
	st, e := h.st, h.entry()
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

// xattrs are those of local bytes, or the line of the Hub's.
func (k *inode) xattrs() (*held, map[string]string) {
	k.o.mu.Lock()
	local, h := k.present()
	path := k.path()
	k.o.mu.Unlock()
	if local == nil {
		return h, nil
	}
	return nil, k.o.xattrs(path)
}

func (o *overlay) xattrs(path string) map[string]string {
	m := map[string]string{
		xattrRepo:     o.v.ref.Repo.String(),
		xattrRevision: o.v.ref.Rev(),
		xattrPath:     path,
	}
	if layer := o.layer.Load(); layer != nil {
		if c, ok := layer.Get(path); ok && path != "" {
			m[xattrState] = c.State.String()
		}
	}
	return m
}

func (d *repoDir) xattrs(ctx context.Context) (m map[string]string, err error) {
	path := d.path
	if d.spot != nil {
		path = d.spot.where()
	}
	err = d.a.view.afresh(ctx, func(st *state) error {
		m = st.xattrs()
		e := hub.Entry{Path: path, Type: hub.Directory}
		if path != "" {
			at, err := st.key(ctx, path)
			if d.spot != nil && absent(err) {
				m = d.spot.o.xattrs(path)
				return nil
			}
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
