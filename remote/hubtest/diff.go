package hubtest

import (
	"bytes"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	fdiff "github.com/go-git/go-git/v5/plumbing/format/diff"
	"github.com/go-git/go-git/v5/utils/diff"
)

// maxDiffFile is the size from which a file is shown as binary in a diff.
const maxDiffFile = 1 << 20

// diff renders what changed between two commits as git diff does.
func (r *repo) diff(from, to plumbing.Hash) (string, error) {
	a, err := r.readCommit(from)
	if err != nil {
		return "", err
	}
	b, err := r.readCommit(to)
	if err != nil {
		return "", err
	}
	changes, err := r.compareTrees(a.tree, b.tree)
	if err != nil {
		return "", err
	}
	var p patch
	for _, c := range changes {
		fp, err := r.filePatch(c)
		if err != nil {
			return "", err
		}
		p = append(p, fp)
	}
	var out bytes.Buffer
	err = fdiff.NewUnifiedEncoder(&out, fdiff.DefaultContextLines).Encode(p)
	return out.String(), err
}

func (r *repo) filePatch(c changedPath) (fdiff.FilePatch, error) {
	fp := filePatch{}
	var text [2]string
	for i, h := range [...]plumbing.Hash{c.old, c.new} {
		if h.IsZero() {
			continue
		}
		fp.files[i] = patchFile{h, c.path}
		data, err := r.blob(h.String())
		if err != nil {
			return nil, err
		}
		fp.binary = fp.binary || len(data) > maxDiffFile || bytes.IndexByte(data, 0) >= 0
		text[i] = string(data)
	}
	if fp.binary {
		return fp, nil
	}
	for _, d := range diff.Do(text[0], text[1]) {
		k := patchChunk{strings.ToValidUTF8(d.Text, "\uFFFD"), fdiff.Equal}
		switch {
		case d.Type > 0:
			k.kind = fdiff.Add
		case d.Type < 0:
			k.kind = fdiff.Delete
		}
		fp.chunks = append(fp.chunks, k)
	}
	return fp, nil
}

// The types below are what the encoder of unified diffs wants to be given.

type patch []fdiff.FilePatch

func (p patch) FilePatches() []fdiff.FilePatch { return p }
func (p patch) Message() string                { return "" }

type filePatch struct {
	binary bool
	files  [2]fdiff.File
	chunks []fdiff.Chunk
}

func (f filePatch) IsBinary() bool               { return f.binary }
func (f filePatch) Files() (from, to fdiff.File) { return f.files[0], f.files[1] }
func (f filePatch) Chunks() []fdiff.Chunk        { return f.chunks }

type patchFile struct {
	oid  plumbing.Hash
	path string
}

func (f patchFile) Hash() plumbing.Hash     { return f.oid }
func (f patchFile) Mode() filemode.FileMode { return filemode.Regular }
func (f patchFile) Path() string            { return f.path }

type patchChunk struct {
	text string
	kind fdiff.Operation
}

func (c patchChunk) Content() string       { return c.text }
func (c patchChunk) Type() fdiff.Operation { return c.kind }
