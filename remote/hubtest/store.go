package hubtest

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"
	"golang.org/x/sys/unix"

	"hfmount/remote/hub"
)

// store holds repositories and LFS objects. It is safe for concurrent use.
//
// A data directory is
//
//	lock                              held while it is open
//	state.json                        what is not in git
//	repos/<plural>/<ns>/<name>.git    bare repositories
//	lfs/<aa>/<bb>/<sha256>            LFS objects of all of them
//
// References move after the objects they lead to are stored, and state.json
// is replaced by a rename, so that a crash leaves the state before or after.
type store struct {
	dir string
	now func() time.Time
	lfs *lfsStore
	// lock keeps a second process out of dir: caches here believe that
	// nothing else writes.
	lock *os.File

	uploads uploads

	mu        sync.RWMutex // guards the rest of this group, and repo.info and repo.talks
	byID      map[hub.Repo]*repo
	redirects map[hub.Repo]redirection
	moving    *movePlan

	// Decoded git objects are the same in every repository.
	commits *lru.Cache[plumbing.Hash, commitInfo]
	trees   *lru.Cache[plumbing.Hash, []treeEntry]
	infos   *lru.Cache[plumbing.Hash, blobInfo]
	blobs   *lru.Cache[plumbing.Hash, []byte]
	lists   *lru.Cache[listKey, []hub.Entry]
	logs    *lru.Cache[hub.CommitID, []commitInfo]
	walks   singleflight.Group
}

type redirection struct {
	to        hub.Repo
	canonical bool
}

// Errors of the store that handlers turn into statuses.
var (
	errRepoExists = errors.New("repository exists")
	errBadID      = errors.New("invalid repository id")
)

func cacheOf[K comparable, V any](n int) *lru.Cache[K, V] {
	c, err := lru.New[K, V](n)
	if err != nil {
		panic(err) // n is a positive constant
	}
	return c
}

// openStore opens or makes the data directory dir; "" keeps all in memory.
func openStore(dir string, now func() time.Time) (*store, error) {
	if now == nil {
		now = time.Now
	}
	s := &store{
		dir: dir, now: now,
		byID: map[hub.Repo]*repo{}, redirects: map[hub.Repo]redirection{},
		commits: cacheOf[plumbing.Hash, commitInfo](1 << 16),
		trees:   cacheOf[plumbing.Hash, []treeEntry](1 << 14),
		infos:   cacheOf[plumbing.Hash, blobInfo](1 << 20),
		blobs:   cacheOf[plumbing.Hash, []byte](1 << 10),
		lists:   cacheOf[listKey, []hub.Entry](8),
		logs:    cacheOf[hub.CommitID, []commitInfo](64),
	}
	var err error
	if dir == "" {
		s.lfs, err = openLFS("")
		return s, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if s.lock, err = lockDir(dir); err != nil {
		return nil, err
	}
	if s.lfs, err = openLFS(filepath.Join(dir, "lfs")); err != nil {
		s.lock.Close()
		return nil, err
	}
	if err := s.load(); err != nil {
		s.close()
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	return s, nil
}

func (s *store) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, r := range s.byID {
		errs = append(errs, r.db.close())
	}
	errs = append(errs, s.lfs.close())
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

// lockDir takes a data directory for as long as the returned file is open.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errors.New("in use by another process")
		}
		return nil, fmt.Errorf("data directory %s: %w", dir, err)
	}
	return f, nil
}

// repo finds a repository by its exact current id.
func (s *store) repo(r hub.Repo) (*repo, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	x, ok := s.byID[r]
	return x, ok
}

// redirect says where an old, canonical or differently cased id leads.
func (s *store) redirect(r hub.Repo) (to hub.Repo, canonical, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for range 20 { // renamed more than once
		if _, is := s.byID[r]; is {
			return r, canonical, ok
		}
		next, found := s.redirects[r]
		if !found {
			next.to, found = s.otherCase(r)
		}
		if !found {
			return hub.Repo{}, false, false
		}
		r, ok = next.to, true
		canonical = canonical || next.canonical
	}
	return hub.Repo{}, false, false
}

// otherCase finds a repository whose id differs in letter case alone. The
// caller holds mu.
func (s *store) otherCase(r hub.Repo) (hub.Repo, bool) {
	for id := range s.byID {
		if id.Type == r.Type && id != r && strings.EqualFold(id.ID(), r.ID()) {
			return id, true
		}
	}
	return hub.Repo{}, false
}

// repos lists all repositories of a type, sorted by id.
func (s *store) repos(t hub.RepoType) []*repo {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []*repo
	for id, r := range s.byID {
		if id.Type == t {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b *repo) int { return cmp.Compare(a.info.ID.ID(), b.info.ID.ID()) })
	return out
}

// imported reports whether a namespace holds an imported repository, which
// opens it to every account.
func (s *store) imported(namespace string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for id, r := range s.byID {
		if r.info.Imported && id.Namespace == namespace {
			return true
		}
	}
	return false
}

func (s *store) repoDir(id hub.Repo) string {
	if s.dir == "" {
		return ""
	}
	return filepath.Join(s.dir, "repos", id.Type.Plural(), filepath.FromSlash(id.ID())+".git")
}

// create makes an empty repository.
func (s *store) create(id hub.Repo, o RepoOptions) (*repo, error) {
	if err := hub.CheckRepo(id); err != nil {
		return nil, fmt.Errorf("%w: %w", errBadID, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.free(id); err != nil {
		return nil, err
	}
	dir := s.repoDir(id)
	if dir != "" {
		// What lies here without being in the state is left from a crash.
		if err := os.RemoveAll(dir); err != nil {
			return nil, err
		}
	}
	var oid [12]byte
	rand.Read(oid[:])
	r, err := s.attach(repoMeta{
		ID: id, ObjectID: hex.EncodeToString(oid[:]), Private: o.Private, Gated: o.Gated,
		Created: s.now().UTC().Truncate(time.Millisecond),
	})
	if err != nil {
		return nil, err
	}
	old, had := s.redirects[id]
	s.byID[id] = r
	delete(s.redirects, id)
	if err := s.save(); err != nil {
		delete(s.byID, id)
		if had {
			s.redirects[id] = old
		}
		r.db.close()
		return nil, err
	}
	return r, nil
}

// free says whether an id may be taken. The caller holds mu.
func (s *store) free(id hub.Repo) error {
	if _, ok := s.byID[id]; ok {
		return errRepoExists
	}
	if _, ok := s.otherCase(id); ok {
		return errRepoExists
	}
	return nil
}

// attach opens the git side of a repository.
func (s *store) attach(m repoMeta) (*repo, error) {
	db, err := openObjectDB(s.repoDir(m.ID))
	if err != nil {
		return nil, err
	}
	r := &repo{st: s, db: db, info: m, lfs: map[string]lfsRecord{}}
	if r.info.Approved == nil {
		r.info.Approved = map[string]bool{}
	}
	if err := r.loadLFS(); err != nil {
		db.close()
		return nil, err
	}
	return r, nil
}

// delete removes a repository. Requests still reading it fail.
func (s *store) delete(id hub.Repo) error {
	s.mu.Lock()
	r, ok := s.byID[id]
	if !ok {
		s.mu.Unlock()
		return hub.ErrRepoNotFound
	}
	delete(s.byID, id)
	err := s.save()
	if err != nil {
		s.byID[id] = r
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	r.commitMu.Lock()
	defer r.commitMu.Unlock()
	err = r.db.close()
	if dir := s.repoDir(id); dir != "" {
		s.mu.Lock() // not while create takes the id again
		defer s.mu.Unlock()
		if _, again := s.byID[id]; !again {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}
	return err
}

// movePlan is written to the state before a repository's folder is renamed,
// and taken out after: whichever side of it a crash leaves can be finished.
type movePlan struct{ From, To string } // paths below dir

// move renames a repository and leaves a redirect.
func (s *store) move(from, to hub.Repo) error {
	if err := hub.CheckRepo(to); err != nil {
		return fmt.Errorf("%w: %w", errBadID, err)
	}
	r, ok := s.repo(from)
	if !ok {
		return hub.ErrRepoNotFound
	}
	r.commitMu.Lock()
	defer r.commitMu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID[from] != r {
		return hub.ErrRepoNotFound
	}
	if other, ok := s.otherCase(to); s.byID[to] != nil || ok && other != from {
		return errRepoExists
	}
	if s.dir != "" {
		if err := s.moveFolder(r, from, to); err != nil {
			return err
		}
	}
	delete(s.byID, from)
	delete(s.redirects, to)
	s.byID[to] = r
	s.redirects[from] = redirection{to: to}
	r.info.ID = to
	s.moving = nil
	return s.save()
}

// moveFolder reopens the repository in its new place. The caller holds
// commitMu and mu.
func (s *store) moveFolder(r *repo, from, to hub.Repo) error {
	src, dst := s.repoDir(from), s.repoDir(to)
	s.moving = &movePlan{From: from.String(), To: to.String()}
	if err := s.save(); err != nil {
		s.moving = nil
		return err
	}
	err := renameFolder(src, dst)
	if err != nil {
		s.moving = nil
		return errors.Join(err, s.save())
	}
	return r.db.moved(dst)
}

func renameFolder(src, dst string) error {
	if err := os.MkdirAll(filepath.Dir(dst), 0o755); err != nil {
		return err
	}
	if err := os.RemoveAll(dst); err != nil {
		return err
	}
	return os.Rename(src, dst)
}

// setRedirect makes old lead to new.
func (s *store) setRedirect(old, new hub.Repo, canonical bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.redirects[old] = redirection{new, canonical}
	return s.save()
}

// update changes metadata under the store's lock and saves it.
func (s *store) update(r *repo, change func(*repoMeta)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&r.info)
	return s.save()
}

// exists reports whether a file is there.
func exists(path string) (bool, error) {
	_, err := os.Stat(path)
	if errors.Is(err, iofs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
