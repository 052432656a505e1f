package hubtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"maps"
	"path"
	"slices"

	"github.com/go-git/go-git/v5/plumbing"

	"hfmount/remote/hub"
)

// RepoOptions configures [Hub.CreateRepo].
type RepoOptions struct {
	Private bool
	Gated   string // "", "auto", "manual"
	Empty   bool   // no initial commit
}

// hubAuthor signs what the Hub itself commits.
const hubAuthor = "system"

// CreateRepo makes a repository, with the Hub's initial commit unless Empty.
func (h *Hub) CreateRepo(r hub.Repo, o RepoOptions) error {
	_, err := h.createRepo(r, o, hubAuthor, nil)
	return err
}

// createRepo makes a repository with an initial commit holding more files,
// if they are given.
func (h *Hub) createRepo(id hub.Repo, o RepoOptions, author string, files map[string][]byte) (*repo, error) {
	r, err := h.store.create(id, o)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", id, err)
	}
	if o.Empty {
		return r, nil
	}
	if author == hubAuthor && id.Namespace != "" {
		author = id.Namespace
	}
	c := &commitRequest{title: "initial commit", author: author}
	all := map[string][]byte{attributesName: initialAttributes(id.Type == hub.Dataset)}
	maps.Copy(all, files)
	for p, data := range all {
		c.ops = append(c.ops, commitOp{path: p, data: data})
	}
	if _, err := r.publish(hub.DefaultRevision, c); err != nil {
		return nil, errors.Join(err, h.store.delete(id))
	}
	return r, nil
}

// Commit publishes files on a branch as one commit with that title, adding to
// what is there; a nil value deletes. Content goes to LFS as preupload would
// decide. A branch that is missing is started from main.
func (h *Hub) Commit(id hub.Repo, branch, title string, files map[string][]byte) (hub.CommitID, error) {
	r, rules, err := h.openBranch(id, branch)
	if err != nil {
		return "", err
	}
	if data := files[attributesName]; data != nil {
		rules = parseAttributes(data)
	}
	c := &commitRequest{title: title, author: r.meta().ID.Namespace}
	for _, p := range slices.Sorted(maps.Keys(files)) {
		data := files[p]
		op := commitOp{path: p, data: data}
		switch {
		case data == nil:
			op.kind = opDelete
		case rules.wantsLFS(p, int64(len(data)), data, h.opts.Shapes.LFSBytesThreshold):
			op.kind, op.size = opLFS, int64(len(data))
			if op.sha, _, err = h.store.lfs.put(bytes.NewReader(data)); err != nil {
				return "", err
			}
			if err := r.holdLFS(c.author, map[string]int64{op.sha: op.size}); err != nil {
				return "", err
			}
		}
		c.ops = append(c.ops, op)
	}
	res, err := r.publish(branch, c)
	return res.id, err
}

// CommitSynthetic publishes LFS files with made content as one commit. It
// hashes the content, unless this process has before.
func (h *Hub) CommitSynthetic(id hub.Repo, branch, title string, files map[string]Synthetic) (hub.CommitID, error) {
	r, _, err := h.openBranch(id, branch)
	if err != nil {
		return "", err
	}
	c := &commitRequest{title: title, author: r.meta().ID.Namespace}
	held := map[string]int64{}
	for _, p := range slices.Sorted(maps.Keys(files)) {
		s := files[p]
		sha := s.SHA256()
		if err := h.store.lfs.addMade(sha, s); err != nil {
			return "", err
		}
		held[sha] = s.Size
		c.ops = append(c.ops, commitOp{path: p, kind: opLFS, sha: sha, size: s.Size})
	}
	if err := r.holdLFS(c.author, held); err != nil {
		return "", err
	}
	res, err := r.publish(branch, c)
	return res.id, err
}

// openBranch finds a repository and makes sure that the branch exists, unless
// there is nothing it could start from.
func (h *Hub) openBranch(id hub.Repo, branch string) (*repo, *attributes, error) {
	r, ok := h.store.repo(id)
	if !ok {
		return nil, nil, fmt.Errorf("%w: %s", hub.ErrRepoNotFound, id)
	}
	r.commitMu.Lock()
	defer r.commitMu.Unlock()
	main, ok := r.db.ref("refs/heads/main")
	if !ok {
		return r, parseAttributes(nil), nil
	}
	tip, err := r.resolveHash(branch)
	if errors.Is(err, hub.ErrRevisionNotFound) {
		if err := checkBranchName(branch); err != nil {
			return nil, nil, err
		}
		tip, err = main, r.moveRef("refs/heads/"+branch, main)
	}
	if err != nil {
		return nil, nil, err
	}
	rules, err := r.attributesAt(tip)
	return r, rules, err
}

// attributesAt reads the .gitattributes of a commit.
func (r *repo) attributesAt(c plumbing.Hash) (*attributes, error) {
	data, err := r.fileAt(c, attributesName)
	return parseAttributes(data), err
}

// fileAt reads a file of a commit; nil if there is none.
func (r *repo) fileAt(c plumbing.Hash, name string) ([]byte, error) {
	ci, err := r.readCommit(c)
	if err != nil {
		return nil, err
	}
	t, ok, err := r.lookup(ci.tree, name)
	if err != nil || !ok || t.isTree() {
		return nil, err
	}
	return r.blob(t.oid.String())
}

// Import publishes a folder as one commit on main of a public repository, if
// the repository is missing or differs. It makes the branch equal the folder,
// but for .gitattributes, which stays or grows as a commit's would. Symbolic
// links are followed to files; .git is left out.
func (h *Hub) Import(id hub.Repo, folder iofs.FS) (hub.CommitID, error) {
	r, ok := h.store.repo(id)
	if !ok {
		var err error
		if r, err = h.createRepo(id, RepoOptions{}, hubAuthor, nil); err != nil {
			return "", err
		}
	}
	if !r.meta().Imported {
		if err := h.store.update(r, func(m *repoMeta) { m.Imported = true }); err != nil {
			return "", err
		}
	}
	r.commitMu.Lock()
	defer r.commitMu.Unlock()
	var parents []plumbing.Hash
	var root plumbing.Hash
	im := &importer{h: h, r: r, b: r.db.batch(), edit: &edit{}, held: map[string]int64{}}
	if tip, ok := r.db.ref("refs/heads/main"); ok {
		ci, err := r.readCommit(tip)
		if err != nil {
			return "", err
		}
		parents, root = []plumbing.Hash{tip}, ci.tree
		if im.attrs, err = r.fileAt(tip, attributesName); err != nil {
			return "", err
		}
	}
	tree, err := im.run(folder)
	if err != nil {
		return "", fmt.Errorf("import %s: %w", id, err)
	}
	if tree == root {
		return hub.CommitID(parents[0].String()), nil
	}
	author := id.Namespace
	if err := r.holdLFS(author, im.held); err != nil {
		return "", err
	}
	c, err := r.newCommit(im.b, "refs/heads/main", tree, parents, author, "Import folder", "")
	if err != nil {
		return "", err
	}
	return hub.CommitID(c.String()), nil
}

// importer reads a folder into a tree. Regular files go to the batch as they
// come, so that a folder need not fit in memory.
type importer struct {
	h     *Hub
	r     *repo
	b     *objectBatch
	edit  *edit
	attrs []byte
	rules *attributes
	held  map[string]int64 // LFS objects by SHA-256
	lfs   []string         // paths of LFS files
}

func (im *importer) run(folder iofs.FS) (plumbing.Hash, error) {
	own, err := iofs.ReadFile(folder, attributesName)
	if err == nil {
		im.attrs = own
	} else if !errors.Is(err, iofs.ErrNotExist) {
		return plumbing.ZeroHash, err
	}
	im.rules = parseAttributes(im.attrs)
	err = iofs.WalkDir(folder, ".", func(p string, d iofs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path.Base(p) == ".git":
			return iofs.SkipDir
		case d.IsDir(), p == attributesName:
			return nil
		}
		return im.file(folder, p)
	})
	if err != nil {
		return plumbing.ZeroHash, err
	}
	if more := missingAttributes(im.attrs, im.lfs); more != nil {
		im.attrs = more
	}
	if im.attrs != nil {
		if err := im.blob(attributesName, im.attrs); err != nil {
			return plumbing.ZeroHash, err
		}
	}
	return im.r.applyEdit(im.b, plumbing.ZeroHash, im.edit)
}

func (im *importer) file(folder iofs.FS, p string) error {
	if err := checkCommitPath(p); err != nil {
		return err
	}
	f, err := folder.Open(p)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return &iofs.PathError{Op: "import", Path: p, Err: errors.New("not a regular file")}
	}
	sample := make([]byte, min(sampleSize, st.Size()))
	if _, err := io.ReadFull(f, sample); err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	whole := io.MultiReader(bytes.NewReader(sample), f)
	if im.rules.wantsLFS(p, st.Size(), sample, im.h.opts.Shapes.LFSBytesThreshold) {
		sha, size, err := im.h.store.lfs.put(whole)
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		im.held[sha] = size
		im.lfs = append(im.lfs, p)
		return im.blob(p, makePointer(sha, size))
	}
	data := make([]byte, st.Size())
	if _, err := io.ReadFull(whole, data); err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	return im.blob(p, data)
}

func (im *importer) blob(p string, data []byte) error {
	h, err := im.b.add(plumbing.BlobObject, data)
	if err != nil {
		return err
	}
	im.r.st.infos.Add(h, describeBlob(data, int64(len(data))))
	im.edit.at(p).leaf = &treeEntry{mode: modeFile, oid: h}
	return nil
}

// Redirect makes requests for old lead to new, as a rename does; if canonical,
// resolve on old is served directly (hub-protocol §2.2).
func (h *Hub) Redirect(old, new hub.Repo, canonical bool) {
	if err := h.store.setRedirect(old, new, canonical); err != nil {
		h.opts.Logger.Error("keep redirect", "from", old, "to", new, "err", err)
	}
}
