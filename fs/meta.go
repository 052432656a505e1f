package fs

import (
	"cmp"
	"encoding/json"
	"errors"
	iofs "io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"hfmount/remote/hub"
)

// meta keeps listings and references on disk, for later mounts and for offline
// use. Several processes may share the folder: a file appears whole, by
// rename, and never changes. Nothing in it is needed: what is lost is asked
// for again, so failures to write are logged and no more.
//
//	<type>s--<namespace>--<name>/refs/<escaped revision>
//	<type>s--<namespace>--<name>/trees/<hash of the path>/<tree or commit>
//
// "--" cannot be part of an id (hub-protocol §2.1).
type meta struct {
	dir string // empty: nothing is kept
	log *slog.Logger
}

// keepTrees is how many listings of one path are kept.
const keepTrees = 32

func (m *meta) repoDir(r hub.Repo) string {
	name := r.Type.Plural() + "--"
	if r.Namespace != "" {
		name += r.Namespace + "--"
	}
	return filepath.Join(m.dir, name+r.Name)
}

func (m *meta) pathDir(r hub.Repo, path string) string {
	return filepath.Join(m.repoDir(r), "trees", strconv.FormatUint(xxhash.Sum64String(path), 16))
}

func (m *meta) read(name, magic string) ([]byte, bool) {
	b, err := os.ReadFile(name)
	if err != nil {
		if !errors.Is(err, iofs.ErrNotExist) {
			m.log.Warn("cannot read metadata", "file", name, "error", err)
		}
		return nil, false
	}
	if _, err := openFile(magic, b); err != nil {
		m.log.Warn("damaged metadata, dropped", "file", name)
		_ = os.Remove(name)
		return nil, false
	}
	return b, true
}

func (m *meta) write(name string, b []byte) {
	if err := writeFile(name, b); err != nil {
		m.log.Warn("cannot keep metadata", "file", name, "error", err)
	}
}

// writeFile makes the file appear whole. It does not sync: after a power cut
// the checksum tells.
func writeFile(name string, b []byte) error {
	dir := filepath.Dir(name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// listing returns the listing that is kept, or nil.
func (m *meta) listing(r hub.Repo, path string, key gitID) *listing {
	if m.dir == "" {
		return nil
	}
	return m.decode(filepath.Join(m.pathDir(r, path), key.String()), r, path, key)
}

func (m *meta) decode(name string, r hub.Repo, path string, key gitID) *listing {
	b, ok := m.read(name, magicListing)
	if !ok {
		return nil
	}
	l, err := decodeListing(b)
	if err != nil || l.dir != path || l.key != key {
		return nil
	}
	l.repo = r
	return l
}

// has reports whether a listing is kept.
func (m *meta) has(r hub.Repo, path string, key gitID) bool {
	if m.dir == "" {
		return false
	}
	_, err := os.Stat(filepath.Join(m.pathDir(r, path), key.String()))
	return err == nil
}

// recent returns up to n listings of the path, the latest kept first.
func (m *meta) recent(r hub.Repo, path string, n int) []*listing {
	if m.dir == "" {
		return nil
	}
	dir := m.pathDir(r, path)
	var out []*listing
	for _, f := range newestFirst(dir) {
		if len(out) == n {
			break
		}
		key, _ := parseID(f.Name()) // by newestFirst
		if l := m.decode(filepath.Join(dir, f.Name()), r, path, key); l != nil {
			out = append(out, l)
		}
	}
	return out
}

func newestFirst(dir string) []iofs.FileInfo {
	entries, _ := os.ReadDir(dir)
	var out []iofs.FileInfo
	for _, e := range entries {
		if _, ok := parseID(e.Name()); !ok {
			continue
		}
		if info, err := e.Info(); err == nil {
			out = append(out, info)
		}
	}
	slices.SortFunc(out, func(a, b iofs.FileInfo) int {
		return cmp.Or(b.ModTime().Compare(a.ModTime()), cmp.Compare(a.Name(), b.Name()))
	})
	return out
}

// keep stores a listing, in place of the oldest of that path if there are many.
func (m *meta) keep(l *listing) {
	if m.dir == "" {
		return
	}
	dir := m.pathDir(l.repo, l.dir)
	first := os.Mkdir(dir, 0o700) == nil
	m.write(filepath.Join(dir, l.key.String()), l.encode())
	if first {
		return
	}
	if files := newestFirst(dir); len(files) > keepTrees {
		for _, f := range files[keepTrees:] {
			_ = os.Remove(filepath.Join(dir, f.Name()))
		}
	}
}

// savedRef is where a reference was last seen to stand.
type savedRef struct {
	Revision  string       `json:"revision"` // as asked
	Namespace string       `json:"namespace"`
	Name      string       `json:"name"` // the repository's name then
	Commit    hub.CommitID `json:"commit"`
	Time      time.Time    `json:"time"`
	Private   bool         `json:"private,omitempty"`
	Gated     bool         `json:"gated,omitempty"`
}

func (m *meta) refFile(ref hub.Ref) string {
	name := hub.EscapeRevision(ref.Rev())
	if m.dir == "" || hub.CheckName(name) != nil || strings.HasPrefix(name, ".new-") {
		return ""
	}
	return filepath.Join(m.repoDir(ref.Repo), "refs", name)
}

// keepRef stores what ref resolved to.
func (m *meta) keepRef(ref hub.Ref, s hub.Snapshot) {
	name := m.refFile(ref)
	if name == "" {
		return
	}
	b, err := json.Marshal(savedRef{ref.Rev(), s.Ref.Repo.Namespace, s.Ref.Repo.Name, s.Commit, s.Time, s.Private, s.Gated})
	if err == nil {
		m.write(name, sealFile(magicRef, b))
	}
}

// snapshot returns what ref resolved to when last seen.
func (m *meta) snapshot(ref hub.Ref) (hub.Snapshot, bool) {
	name := m.refFile(ref)
	if name == "" {
		return hub.Snapshot{}, false
	}
	b, ok := m.read(name, magicRef)
	if !ok {
		return hub.Snapshot{}, false
	}
	payload, err := openFile(magicRef, b)
	if err != nil {
		return hub.Snapshot{}, false
	}
	var s savedRef
	repo := hub.Repo{Type: ref.Repo.Type}
	if err := json.Unmarshal(payload, &s); err != nil || s.Revision != ref.Rev() {
		return hub.Snapshot{}, false
	}
	repo.Namespace, repo.Name = s.Namespace, s.Name
	if hub.CheckRepo(repo) != nil || !s.Commit.Valid() {
		return hub.Snapshot{}, false
	}
	return hub.Snapshot{
		Ref:    hub.Ref{Repo: repo, Revision: ref.Revision},
		Commit: s.Commit, Time: s.Time, Private: s.Private, Gated: s.Gated,
	}, true
}

// revisions lists the references of a repository that are kept.
func (m *meta) revisions(r hub.Repo) []string {
	if m.dir == "" {
		return nil
	}
	entries, _ := os.ReadDir(filepath.Join(m.repoDir(r), "refs"))
	var out []string
	for _, e := range entries {
		if rev, err := hub.UnescapeRevision(e.Name()); err == nil && !strings.HasPrefix(e.Name(), ".new-") {
			out = append(out, rev)
		}
	}
	return out
}

// repos lists the repositories of which anything is kept, sorted.
func (m *meta) repos() []hub.Repo {
	if m.dir == "" {
		return nil
	}
	entries, _ := os.ReadDir(m.dir)
	var out []hub.Repo
	for _, e := range entries {
		parts := strings.Split(e.Name(), "--")
		for t := hub.Model; t <= hub.Space; t++ {
			if parts[0] != t.Plural() || len(parts) < 2 || len(parts) > 3 {
				continue
			}
			r := hub.Repo{Type: t, Name: parts[len(parts)-1]}
			if len(parts) == 3 {
				r.Namespace = parts[1]
			}
			if hub.CheckRepo(r) == nil {
				out = append(out, r)
			}
		}
	}
	return out
}
