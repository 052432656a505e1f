package hubtest

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"

	"hfmount/remote/hub"
)

// Limits of a commit (hub-protocol §6.6).
const (
	maxRegular    = 10 << 20 // bytes of a file in git
	maxCommitLFS  = 25_000
	maxCommitSize = 1 << 30 // bytes of regular content together
	maxLFSPath    = 1000
)

// commitOp is one line of a commit.
type commitOp struct {
	path string
	kind opKind
	// data is the content of opFile.
	data []byte
	// sha and size name the object of opLFS; size -1 is to be looked up.
	sha  string
	size int64
	// from is the path the file is moved from, or empty.
	from string
}

type opKind uint8

const (
	opFile   opKind = iota
	opRename        // opFile without content: what stood at from
	opLFS
	opDelete
)

// commitRequest is what a client wants published.
type commitRequest struct {
	title, message string
	// parent, if set, is what the branch must stand at; with createPR it is
	// what the pull request starts from.
	parent   string
	createPR bool
	author   string
	ops      []commitOp
}

// refusal is an error with the answer it is to be given.
type refusal struct {
	status int
	code   string // X-Error-Code, if any
	text   string
}

func (r *refusal) Error() string { return r.text }

func refusef(status int, format string, args ...any) error {
	return &refusal{status: status, text: fmt.Sprintf(format, args...)}
}

func refuseRevision(rev string) error {
	return &refusal{http.StatusNotFound, "RevisionNotFound", "Invalid rev id: " + rev}
}

// staleParent is the Hub's current text; clients go by the status.
const staleParent = "The branch was updated since you opened this page. Please refresh and try again."

type commitResult struct {
	id hub.CommitID
	pr *discussion // made by this commit, or nil
}

// publish applies a commit to a revision, all of it or nothing. A refused one
// leaves no trace.
func (r *repo) publish(rev string, c *commitRequest) (commitResult, error) {
	if strings.TrimSpace(c.title) == "" {
		return commitResult{}, refusef(http.StatusBadRequest, `"summary" is not allowed to be empty`)
	}
	r.commitMu.Lock()
	defer r.commitMu.Unlock()
	ref, tip, err := r.target(rev, c)
	if err != nil {
		return commitResult{}, err
	}
	var root plumbing.Hash
	var parents []plumbing.Hash
	if !tip.IsZero() {
		ci, err := r.readCommit(tip)
		if err != nil {
			return commitResult{}, err
		}
		root, parents = ci.tree, []plumbing.Hash{tip}
	}
	b := r.db.batch()
	tree, err := r.build(b, root, c, ref)
	if err != nil {
		return commitResult{}, err
	}
	var pr *discussion
	if c.createPR {
		pr = r.newTalk(c.title, c.message, c.author, true, "open", ref)
		ref = pr.ref()
	}
	h, err := r.newCommit(b, ref, tree, parents, c.author, c.title, c.message)
	if err != nil {
		return commitResult{}, err
	}
	res := commitResult{id: hub.CommitID(h.String())}
	if pr != nil {
		res.pr = pr
		err = r.addTalk(pr)
	}
	if err == nil {
		err = r.noteCommit(ref, res.id, c.title, c.author)
	}
	return res, err
}

// target settles which reference moves (for a new pull request: its base) and
// what it stands at, zero for nothing. The caller holds commitMu.
func (r *repo) target(rev string, c *commitRequest) (ref string, tip plumbing.Hash, err error) {
	if rev == "HEAD" {
		rev = hub.DefaultRevision
	}
	ref = "refs/heads/" + rev
	if strings.HasPrefix(rev, "refs/pr/") || strings.HasPrefix(rev, "refs/convert/") {
		ref = rev
	}
	tip, ok := r.db.ref(ref)
	switch {
	case !ok && len(r.db.refs()) == 0 && rev == hub.DefaultRevision && !c.createPR:
		return ref, plumbing.ZeroHash, nil // the first commit of all
	case !ok, c.createPR && !strings.HasPrefix(ref, "refs/heads/"):
		return "", tip, refuseRevision(rev)
	case c.parent == "":
		return ref, tip, nil
	case c.createPR:
		if tip, err = r.resolveHash(c.parent); err != nil {
			return "", tip, refuseRevision(c.parent)
		}
		return ref, tip, nil
	case !strings.HasPrefix(tip.String(), strings.ToLower(c.parent)):
		return "", tip, &refusal{status: http.StatusPreconditionFailed, text: staleParent}
	}
	return ref, tip, nil
}

// build turns the lines of a commit into a tree. Blobs go to the batch only
// when every line has been found good.
func (r *repo) build(b *objectBatch, root plumbing.Hash, c *commitRequest, ref string) (plumbing.Hash, error) {
	p := &plan{r: r, root: root, edit: &edit{}, blobs: map[string][]byte{}, lfs: map[string]bool{}, ref: ref}
	for _, op := range c.ops {
		if err := p.op(op); err != nil {
			return plumbing.ZeroHash, err
		}
	}
	if err := p.attributes(); err != nil {
		return plumbing.ZeroHash, err
	}
	if err := p.check(); err != nil {
		return plumbing.ZeroHash, err
	}
	for path, data := range p.blobs {
		h, err := b.add(plumbing.BlobObject, data)
		if err != nil {
			return h, err
		}
		r.st.infos.Add(h, describeBlob(data, int64(len(data))))
		p.edit.at(path).leaf = &treeEntry{mode: modeFile, oid: h}
	}
	h, err := r.applyEdit(b, p.root, p.edit)
	if errors.Is(err, errFileAndDir) {
		return h, refusef(http.StatusBadRequest, "Your push was rejected: %v", err)
	}
	return h, err
}

// plan gathers what a commit does before any of it is done.
type plan struct {
	r     *repo
	root  plumbing.Hash
	ref   string
	edit  *edit
	blobs map[string][]byte // new content by path
	lfs   map[string]bool   // paths that became LFS files
}

func (p *plan) op(op commitOp) error {
	if err := checkCommitPath(op.path); err != nil {
		return err
	}
	if op.from != "" {
		if err := checkCommitPath(op.from); err != nil {
			return err
		}
	}
	switch op.kind {
	case opDelete:
		return p.remove(op.path)
	case opRename:
		old, err := p.stood(op.from)
		if err != nil {
			return err
		}
		if old.isTree() {
			return refusef(http.StatusBadRequest, "%s is a directory", op.from)
		}
		info, err := p.r.blobInfo(old.oid)
		if err != nil {
			return err
		}
		p.put(op.path, nil)
		delete(p.blobs, op.path)
		p.edit.at(op.path).leaf = &old
		if info.sha256 != "" {
			p.lfs[op.path] = true
		}
	case opFile:
		p.put(op.path, op.data)
	case opLFS:
		if err := p.pointer(op); err != nil {
			return err
		}
	}
	if op.from != "" && op.from != op.path {
		return p.remove(op.from)
	}
	return nil
}

// put adds a file; what was already planned for the path gives way.
func (p *plan) put(path string, data []byte) {
	p.edit.at(path).leaf = nil
	delete(p.lfs, path)
	p.blobs[path] = data
}

func (p *plan) pointer(op commitOp) error {
	if len(op.path) > maxLFSPath {
		return refusef(http.StatusBadRequest, "Path too long: %s", op.path)
	}
	if !isSHA256(op.sha) {
		return refusef(http.StatusBadRequest, "Invalid LFS oid for %s", op.path)
	}
	size, ok := p.r.heldLFS(op.sha)
	if !ok {
		return refusef(http.StatusBadRequest,
			"Your push was rejected because an LFS pointer pointed to a file that does not exist. For instance, this can happen if you used git push --no-verify to push your changes. Offending file: - %s", op.path)
	}
	if op.size >= 0 && op.size != size {
		return refusef(http.StatusBadRequest, "LFS object of %s has %d bytes, not %d", op.path, size, op.size)
	}
	p.put(op.path, makePointer(op.sha, size))
	p.lfs[op.path] = true
	return nil
}

// stood finds what a path was before the commit.
func (p *plan) stood(path string) (treeEntry, error) {
	if !p.root.IsZero() {
		t, ok, err := p.r.lookup(p.root, path)
		if err != nil {
			return t, err
		}
		if ok {
			return t, nil
		}
	}
	return treeEntry{}, &refusal{http.StatusNotFound, "EntryNotFound", "A file with this name doesn't exist: " + path}
}

func (p *plan) remove(path string) error {
	if _, err := p.stood(path); err != nil {
		return err
	}
	p.edit.at(path).drop = true
	return nil
}

// attributes adds a line to .gitattributes for each new LFS file that no line
// of it matches, in the same commit (hub-protocol §6.4).
func (p *plan) attributes() error {
	if len(p.lfs) == 0 {
		return nil
	}
	data, err := p.content(attributesName)
	if err != nil {
		return err
	}
	if more := missingAttributes(data, slices.Sorted(maps.Keys(p.lfs))); more != nil {
		p.put(attributesName, more)
	}
	return nil
}

// content returns what a root file will hold after the commit, nil for nothing.
func (p *plan) content(name string) ([]byte, error) {
	if data, ok := p.blobs[name]; ok {
		return data, nil
	}
	oid := plumbing.ZeroHash
	if e := p.edit.find(name); e != nil && e.leaf != nil {
		oid = e.leaf.oid
	} else if (e == nil || !e.drop) && !p.root.IsZero() {
		t, ok, err := p.r.lookup(p.root, name)
		if err != nil {
			return nil, err
		}
		if ok && !t.isTree() {
			oid = t.oid
		}
	}
	if oid.IsZero() {
		return nil, nil
	}
	return p.r.blob(oid.String())
}

// check refuses what the Hub's hooks refuse.
func (p *plan) check() error {
	var big strings.Builder
	for path, data := range p.blobs {
		if len(data) > maxRegular {
			fmt.Fprintf(&big, " - %s (ref: %s)", path, p.ref)
		}
	}
	if big.Len() > 0 {
		return refusef(http.StatusBadRequest,
			"Your push was rejected because it contains files larger than 10 MiB. Please use https://git-lfs.github.com/ to store large files. See also: https://hf.co/docs/hub/repositories-getting-started#terminal Offending files:%s", big.String())
	}
	if readme, ok := p.blobs["README.md"]; ok {
		if errs, _ := checkCard(string(readme)); len(errs) > 0 {
			return refusef(http.StatusBadRequest, "Your push was rejected because of invalid metadata in README.md: %s", strings.Join(errs, "; "))
		}
	}
	return nil
}

// checkCommitPath refuses paths that git or a checkout could not hold.
func checkCommitPath(path string) error {
	bad := hub.CheckPath(path) != nil || strings.Contains(path, `..\`) || strings.Contains(path, `\..`)
	for name := range strings.SplitSeq(path, "/") {
		bad = bad || strings.EqualFold(name, ".git")
	}
	if bad {
		return refusef(http.StatusBadRequest, "Invalid path: %q", path)
	}
	return nil
}
