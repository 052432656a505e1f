package hubtest

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"

	"hfmount/remote/hub"
)

// tree returns a decoded tree. The slice is shared: read only.
func (r *repo) tree(h plumbing.Hash) ([]treeEntry, error) {
	if t, ok := r.st.trees.Get(h); ok {
		return t, nil
	}
	o, _, err := r.db.get(h, -1)
	if err != nil {
		return nil, err
	}
	if o.kind != plumbing.TreeObject {
		return nil, fmt.Errorf("%s is a %s, not a tree", h, o.kind)
	}
	t, err := decodeTree(o.data)
	if err != nil {
		return nil, err
	}
	r.st.trees.Add(h, t)
	return t, nil
}

// blobInfo is what a listing says of a blob.
type blobInfo struct {
	size   int64  // of the blob
	sha256 string // of the content, if the blob is a pointer
	real   int64  // size of that content
}

// pointerMax is the longest an LFS pointer can be (hub-protocol §4.6).
const pointerMax = 200

func (r *repo) blobInfo(h plumbing.Hash) (blobInfo, error) {
	if b, ok := r.st.infos.Get(h); ok {
		return b, nil
	}
	o, size, err := r.db.get(h, pointerMax)
	if err != nil {
		return blobInfo{}, err
	}
	b := describeBlob(o.data, size)
	r.st.infos.Add(h, b)
	return b, nil
}

func describeBlob(data []byte, size int64) blobInfo {
	b := blobInfo{size: size}
	if size <= pointerMax && int64(len(data)) == size {
		b.sha256, b.real, _ = parsePointer(data)
	}
	return b
}

const pointerHead = "version https://git-lfs.github.com/spec/v1\noid sha256:"

func makePointer(sha256 string, size int64) []byte {
	return fmt.Appendf(nil, "%s%s\nsize %d\n", pointerHead, sha256, size)
}

func parsePointer(data []byte) (sha256 string, size int64, ok bool) {
	rest, ok := bytes.CutPrefix(data, []byte(pointerHead))
	if !ok || len(rest) < 64 || !isSHA256(string(rest[:64])) {
		return "", 0, false
	}
	num, ok := strings.CutPrefix(string(rest[64:]), "\nsize ")
	if !ok {
		return "", 0, false
	}
	num, ok = strings.CutSuffix(num, "\n")
	size, err := strconv.ParseInt(num, 10, 64)
	if !ok || err != nil || size < 0 {
		return "", 0, false
	}
	return string(rest[:64]), size, true
}

func isSHA256(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}

func (r *repo) describe(t treeEntry, path string) (hub.Entry, error) {
	e := hub.Entry{Path: path, OID: t.oid.String()}
	switch t.mode {
	case modeTree:
		e.Type = hub.Directory
		return e, nil
	case modeSub:
		e.Type = hub.Unknown
		return e, nil
	}
	b, err := r.blobInfo(t.oid)
	if err != nil {
		return e, err
	}
	e.Size, e.SHA256 = b.size, b.sha256
	if b.sha256 != "" {
		e.Size = b.real
	}
	return e, nil
}

// rootTree returns the tree of a commit.
func (r *repo) rootTree(c hub.CommitID) (plumbing.Hash, error) {
	ci, err := r.commit(c)
	return ci.tree, err
}

// entry looks up one path; "" is the root.
func (r *repo) entry(c hub.CommitID, path string) (hub.Entry, error) {
	root, err := r.rootTree(c)
	if err != nil {
		return hub.Entry{}, err
	}
	t, ok, err := r.lookup(root, path)
	if err != nil {
		return hub.Entry{}, err
	}
	if !ok {
		return hub.Entry{}, fmt.Errorf("%w: %s", hub.ErrEntryNotFound, path)
	}
	return r.describe(t, path)
}

// listKey names a recursive listing. Trees do not change, so neither do these.
type listKey struct {
	tree plumbing.Hash
	dir  string
}

// longListing is the length from which a recursive listing is kept, so that
// its pages cost one walk together. Shorter ones are made again each time.
const longListing = 500

// list returns the entries of a directory, directories first, then by name;
// recursive includes all below, each directory followed by its contents.
// A path that is missing or a file is ErrEntryNotFound. The slice is shared:
// read only.
func (r *repo) list(c hub.CommitID, dir string, recursive bool) ([]hub.Entry, error) {
	root, err := r.rootTree(c)
	if err != nil {
		return nil, err
	}
	t, ok, err := r.lookup(root, dir)
	if err != nil {
		return nil, err
	}
	if !ok || !t.isTree() {
		return nil, fmt.Errorf("%w: %s", hub.ErrEntryNotFound, dir)
	}
	if !recursive {
		return r.walk(nil, t.oid, dir, false)
	}
	key := listKey{t.oid, dir}
	if l, ok := r.st.lists.Get(key); ok {
		return l, nil
	}
	// Many pages asked for at once share the walk.
	v, err, _ := r.st.walks.Do(t.oid.String()+dir, func() (any, error) {
		l, err := r.walk(nil, t.oid, dir, true)
		if err == nil && len(l) >= longListing {
			r.st.lists.Add(key, l)
		}
		return l, err
	})
	if err != nil {
		return nil, err
	}
	return v.([]hub.Entry), nil
}

func (r *repo) walk(out []hub.Entry, tree plumbing.Hash, dir string, recursive bool) ([]hub.Entry, error) {
	es, err := r.tree(tree)
	if err != nil {
		return nil, err
	}
	if dir != "" {
		dir += "/"
	}
	for _, wantTrees := range [...]bool{true, false} {
		for _, t := range es {
			if t.isTree() != wantTrees {
				continue
			}
			e, err := r.describe(t, dir+t.name)
			if err != nil {
				return nil, err
			}
			out = append(out, e)
			if wantTrees && recursive {
				if out, err = r.walk(out, t.oid, e.Path, true); err != nil {
					return nil, err
				}
			}
		}
	}
	return out, nil
}

// blob returns the bytes of a git blob (for LFS, the pointer). They are
// shared: read only.
func (r *repo) blob(oid string) ([]byte, error) {
	h := plumbing.NewHash(oid)
	if b, ok := r.st.blobs.Get(h); ok {
		return b, nil
	}
	o, _, err := r.db.get(h, -1)
	if err != nil {
		return nil, err
	}
	if o.kind != plumbing.BlobObject {
		return nil, errors.New(oid + " is not a blob")
	}
	if len(o.data) <= keptBlob {
		r.st.blobs.Add(h, o.data)
	}
	return o.data, nil
}

// keptBlob is the size up to which blobs are kept in memory.
const keptBlob = 64 << 10
