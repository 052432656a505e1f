package node

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"iter"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
	"unsafe"

	"hfmount/remote/hub"
)

var testRepo = hub.Repo{Namespace: "acme", Name: "tiny"}

// source is a Hub with one repository, in memory. Bytes arrive only while it
// is not stalled.
type source struct {
	mu     sync.Mutex
	commit int               // guarded by mu
	files  map[string][]byte // guarded by mu; neither it nor the contents are modified
	flow   chan struct{}     // closed while not stalled; guarded by mu
	waits  int               // guarded by mu
}

// testFiles is what the repository holds at first.
func testFiles() map[string][]byte {
	noise := func(seed uint64, n int) []byte {
		var key [32]byte
		key[0] = byte(seed)
		b := make([]byte, n)
		rand.NewChaCha8(key).Read(b)
		return b
	}
	files := map[string][]byte{
		"README.md":          []byte("hello\n"),
		"empty":              {},
		"moving.txt":         []byte("before\n"),
		"moving.bin":         noise(1, 2<<20),
		"gone.txt":           []byte("soon gone\n"),
		"dir/sub/deep.txt":   []byte("deep\n"),
		"model.safetensors":  noise(2, 3<<20+17),
		"model2.safetensors": noise(3, 3<<20),
		"stall.bin":          noise(4, 20<<20),
		"small.bin":          noise(5, 70_000),
	}
	for i := range 1000 {
		files[fmt.Sprintf("many/%04d.txt", i)] = fmt.Appendf(nil, "file %d\n", i)
	}
	return files
}

func newSource() *source {
	s := &source{files: testFiles(), flow: make(chan struct{})}
	close(s.flow)
	return s
}

// move makes a commit that changes two files, removes one and adds one.
func (s *source) move() {
	s.commitFiles(func(files map[string][]byte) error {
		n := s.commit + 1
		files["moving.txt"] = fmt.Appendf(nil, "after %d moves\n", n)
		files["moving.bin"] = bytes.Repeat([]byte{byte(n)}, 1<<20)
		delete(files, "gone.txt")
		files[fmt.Sprintf("new%d.txt", n)] = []byte("new\n")
		return nil
	})
}

func (s *source) stall(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	open := false
	select {
	case <-s.flow:
		open = true
	default:
	}
	switch {
	case on && open:
		s.flow = make(chan struct{})
	case !on && !open:
		close(s.flow)
	}
}

func (s *source) waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waits
}

func (s *source) state() (hub.CommitID, map[string][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return hub.CommitID(fmt.Sprintf("%040x", s.commit+1)), s.files
}

func (s *source) Resolve(_ context.Context, ref hub.Ref) (hub.Snapshot, error) {
	if ref.Repo != testRepo {
		return hub.Snapshot{}, hub.ErrRepoNotFound
	}
	commit, _ := s.state()
	return hub.Snapshot{Ref: ref, Commit: commit, Time: time.Unix(1_700_000_000, 0)}, nil
}

func (s *source) Head(context.Context, hub.Ref) (hub.CommitID, error) {
	commit, _ := s.state()
	return commit, nil
}

func (s *source) List(_ context.Context, _ hub.Snapshot, dir string, recursive bool) iter.Seq2[hub.Entry, error] {
	_, files := s.state()
	return func(yield func(hub.Entry, error) bool) {
		for _, e := range entries(files, dir, recursive) {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// entries lists dir as the Hub would.
func entries(files map[string][]byte, dir string, recursive bool) []hub.Entry {
	found := make(map[string]hub.Entry)
	for name, data := range files {
		below, ok := name, true
		if dir != "" {
			below, ok = strings.CutPrefix(name, dir+"/")
		}
		if !ok {
			continue
		}
		for d := path.Dir(name); d != "." && d != dir; d = path.Dir(d) {
			if _, ok := found[d]; ok {
				continue
			}
			if recursive || path.Dir(d) == cmp.Or(dir, ".") {
				found[d] = hub.Entry{Path: d, Type: hub.Directory, OID: treeOID(files, d)}
			}
		}
		if recursive || !strings.Contains(below, "/") {
			found[name] = fileEntry(name, data)
		}
	}
	return slices.SortedFunc(maps.Values(found), func(a, b hub.Entry) int { return strings.Compare(a.Path, b.Path) })
}

// sums remembers what was hashed, by address: contents are not modified.
var sums sync.Map

func fileEntry(name string, data []byte) hub.Entry {
	key := struct {
		name string
		at   *byte
	}{name, unsafe.SliceData(data)}
	if e, ok := sums.Load(key); ok {
		return e.(hub.Entry)
	}
	e := hashEntry(name, data)
	sums.Store(key, e)
	return e
}

func hashEntry(name string, data []byte) hub.Entry {
	e := hub.Entry{Path: name, Size: int64(len(data)), OID: gitOID(data)}
	if strings.HasSuffix(name, ".safetensors") || strings.HasSuffix(name, ".bin") {
		sum := sha256.Sum256(data)
		e.SHA256 = hex.EncodeToString(sum[:])
		e.OID = gitOID([]byte("pointer to " + e.SHA256))
	}
	return e
}

func gitOID(data []byte) string {
	h := sha1.New()
	fmt.Fprintf(h, "blob %d\x00", len(data))
	h.Write(data)
	return hex.EncodeToString(h.Sum(nil))
}

// treeOID differs where anything below differs, which is all that matters.
func treeOID(files map[string][]byte, dir string) string {
	h := sha1.New()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if strings.HasPrefix(name, dir+"/") {
			fmt.Fprintf(h, "%s %s\n", name, fileEntry(name, files[name]).OID)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

func (s *source) Refs(context.Context, hub.Repo) ([]hub.GitRef, error) { return nil, nil }

func (s *source) Repos(context.Context, hub.RepoType, string) iter.Seq2[hub.RepoInfo, error] {
	return func(func(hub.RepoInfo, error) bool) {}
}

func (s *source) WhoAmI(context.Context) (hub.Account, error) { return hub.Account{}, nil }

func (s *source) OpenRange(ctx context.Context, _ hub.Snapshot, e hub.Entry, off, n int64, _ bool) (io.ReadCloser, error) {
	_, files := s.state()
	data, ok := files[e.Path]
	if !ok || fileEntry(e.Path, data).Content() != e.Content() {
		return nil, fmt.Errorf("%s is not what it was: %w", e.Path, hub.ErrUnavailable)
	}
	return &flowReader{ctx, s, bytes.NewReader(data[off : off+n])}, nil
}

func (s *source) URL(_ hub.Snapshot, e hub.Entry) string { return "https://hub.test/" + e.Path }

// flowReader waits while the source is stalled.
type flowReader struct {
	ctx context.Context
	s   *source
	r   io.Reader
}

func (f *flowReader) Read(p []byte) (int, error) {
	f.s.mu.Lock()
	flow := f.s.flow
	f.s.waits++
	f.s.mu.Unlock()
	defer func() {
		f.s.mu.Lock()
		f.s.waits--
		f.s.mu.Unlock()
	}()
	select {
	case <-flow:
		return f.r.Read(p)
	case <-f.ctx.Done():
		return 0, f.ctx.Err()
	}
}

func (f *flowReader) Close() error { return nil }
