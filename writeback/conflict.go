package writeback

import (
	"crypto/sha1" // what git names blobs by
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"hfmount/remote/hub"
)

// content is the identity of the bytes a Put has. Bytes that are local have
// both hashes; those that are only on the Hub the one that the Hub gave.
type content struct {
	Size   int64  `json:"size"`
	Git    string `json:"git,omitempty"`    // git blob id
	SHA256 string `json:"sha256,omitempty"` // SHA-256
}

func contentOf(e hub.Entry) content {
	if e.LFS() {
		return content{Size: e.Size, SHA256: e.SHA256}
	}
	return content{Size: e.Size, Git: e.OID}
}

// is reports whether an entry has these bytes.
func (c content) is(e *hub.Entry) bool {
	if e == nil || e.Type != hub.File || e.Size != c.Size {
		return false
	}
	if e.LFS() {
		return c.SHA256 == e.SHA256
	}
	return c.Git != "" && c.Git == e.OID
}

// contentOfBytes is the identity of bytes at hand.
func contentOfBytes(data []byte) content {
	git := sha1.New()
	fmt.Fprintf(git, "blob %d\x00", len(data))
	git.Write(data)
	sum := sha256.Sum256(data)
	return content{Size: int64(len(data)), Git: hex.EncodeToString(git.Sum(nil)), SHA256: hex.EncodeToString(sum[:])}
}

// entry is the line of a listing that a commit of these bytes makes.
func (c content) entry(path string, lfs bool) *hub.Entry {
	e := &hub.Entry{Path: path, Type: hub.File, Size: c.Size, OID: c.Git}
	if lfs {
		e.SHA256 = c.SHA256
		e.OID = contentOfBytes(fmt.Appendf(nil, "version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n", c.SHA256, c.Size)).Git
	}
	return e
}

// id names the bytes as the Hub will: by SHA-256 if they went to LFS.
func (c content) id(lfs bool) hub.ContentID {
	if lfs {
		return hub.ContentID{Algo: hub.SHA256, Hex: c.SHA256, Size: c.Size}
	}
	return hub.ContentID{Algo: hub.GitBlob, Hex: c.Git, Size: c.Size}
}

// merged is what becomes of one change when it meets a head.
type merged uint8

const (
	carry merged = iota // nobody else touched the path: it goes on top
	done                // the head has it already, or it changes nothing
	clash               // changed on both sides
)

// meet is the table of conflicts (design §4, docs/SEMANTICS.md): what becomes
// of a change whose base is base when the head has there at its path. ours is
// nil for a delete; there is nil where the head has nothing.
func meet(ours *content, base, there *hub.Entry) merged {
	switch {
	case ours == nil && there == nil:
		return done
	case ours != nil && ours.is(there):
		return done
	case ours != nil && base != nil && ours.is(base):
		// The bytes are those of the base: a rewrite with equal bytes. What
		// others made of the file since stands.
		return done
	case sameEntry(base, there):
		return carry
	}
	return clash
}

// sameEntry reports whether two entries have the same bytes; nil is nothing.
func sameEntry(a, b *hub.Entry) bool {
	if a == nil || b == nil {
		return a == b
	}
	if a.Type != b.Type {
		return false
	}
	if a.Type != hub.File {
		return a.OID == b.OID
	}
	return a.Content() == b.Content()
}

// attributesName is the file that the Hub edits by itself, in commits that do
// not mention it (hub-protocol §6.4).
const attributesName = ".gitattributes"

// mergeAttributes puts what the Hub added to .gitattributes since base into
// ours; false if somebody did more to it than that.
func mergeAttributes(ours, base, there string) (string, bool) {
	have := make(map[string]bool)
	for l := range strings.Lines(there) {
		have[strings.TrimSpace(l)] = true
	}
	known := make(map[string]bool)
	for l := range strings.Lines(base) {
		l = strings.TrimSpace(l)
		known[l] = true
		if l != "" && !have[l] {
			return "", false
		}
	}
	mine := make(map[string]bool)
	for l := range strings.Lines(ours) {
		mine[strings.TrimSpace(l)] = true
	}
	out := ours
	for l := range strings.Lines(there) {
		l = strings.TrimSpace(l)
		if l == "" || known[l] || mine[l] {
			continue
		}
		if !strings.HasSuffix(l, "filter=lfs diff=lfs merge=lfs -text") {
			return "", false
		}
		if out != "" && !strings.HasSuffix(out, "\n") {
			out += "\n"
		}
		out += l + "\n"
	}
	return out, true
}
