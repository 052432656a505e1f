package hubtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/go-git/go-git/v5/plumbing"

	"hfmount/remote/hub"
)

// onDisk is a Hub with a data directory, which reopen closes and opens again.
type onDisk struct {
	bench
	dir string
}

func newDisk(t *testing.T) *onDisk {
	t.Helper()
	d := &onDisk{dir: t.TempDir()}
	d.open(t)
	t.Cleanup(func() { d.Close() })
	return d
}

func (d *onDisk) open(t *testing.T) {
	t.Helper()
	h, err := New(Options{Dir: d.dir, Users: []User{{"ada", "hf_ada"}, {"bob", "hf_bob"}}})
	if err != nil {
		t.Fatal(err)
	}
	d.bench = bench{h, t}
}

func (d *onDisk) reopen(t *testing.T) {
	t.Helper()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d.open(t)
}

// ok makes a request as ada that must succeed.
func (b bench) ok(method, url, body string, headers ...string) reply {
	b.t.Helper()
	got := b.do(method, url, append([]string{"as", "ada", "body", body}, headers...)...)
	if got.status != 200 {
		b.t.Fatalf("%s %s: %d %s", method, url, got.status, got.body)
	}
	return got
}

// files lists what a revision holds, "path=content", LFS as its hash.
func (b bench) files(id, rev string) []string {
	b.t.Helper()
	r, ok := b.store.repo(model(id))
	if !ok {
		b.t.Fatalf("no repository %s", id)
	}
	c, err := r.resolve(rev)
	if err != nil {
		b.t.Fatal(err)
	}
	es, err := r.list(c, "", true)
	if err != nil {
		b.t.Fatal(err)
	}
	var out []string
	for _, e := range es {
		switch {
		case e.Type != hub.File || e.Path == attributesName:
		case e.LFS():
			out = append(out, e.Path+"="+e.SHA256[:8])
		default:
			data, err := r.blob(e.OID)
			if err != nil {
				b.t.Fatal(err)
			}
			out = append(out, e.Path+"="+string(data))
		}
	}
	slices.Sort(out)
	return out
}

func wantFiles(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("files %q, want %q", got, want)
	}
}

// TestDataDirectory mixes every kind of change and asks git for a second
// opinion, before and after a restart.
func TestDataDirectory(t *testing.T) {
	d := newDisk(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	tiny := model("ada/tiny")
	must(d.CreateRepo(tiny, RepoOptions{}))
	many := map[string][]byte{}
	for i := range 600 { // more than packFrom: becomes a pack
		many[fmt.Sprintf("d%02d/f%03d.txt", i%20, i)] = fmt.Appendf(nil, "content %d\n", i)
	}
	_, err := d.Commit(tiny, "main", "many", many)
	must(err)
	_, err = d.Commit(tiny, "main", "few\n\nwith a body", map[string][]byte{"a.txt": []byte("a"), "d00/f000.txt": nil, "w.bin": []byte("weights")})
	must(err)
	_, err = d.Commit(tiny, "side", "on a branch", map[string][]byte{"side.txt": []byte("s")})
	must(err)
	made := Synthetic{Size: 3 << 20, Seed: 3}
	_, err = d.CommitSynthetic(tiny, "main", "made", map[string]Synthetic{"big/odd name.weights": made})
	must(err)
	_, err = d.Import(model("imported/x"), fstest.MapFS{
		"README.md": {Data: []byte("hello")}, "m.safetensors": {Data: []byte("tensor")}, ".git/config": {Data: []byte("no")},
	})
	must(err)
	api := "/api/models/ada/tiny"
	d.ok("POST", api+"/tag/main", `{"tag":"v1"}`)
	d.ok("POST", api+"/tag/main", `{"tag":"v2","message":"annotated"}`)
	d.ok("POST", api+"/branch/empty", `{"emptyBranch":true}`)
	d.ok("POST", api+"/discussions", `{"title":"A change","pullRequest":true}`)
	d.ok("POST", api+"/commit/refs%2Fpr%2F1", `{"key":"header","value":{"summary":"in the PR"}}
{"key":"file","value":{"path":"pr.txt","content":"pr"}}`)
	d.ok("POST", api+"/discussions/1/status", `{"status":"open"}`)
	d.ok("POST", api+"/discussions/1/merge", `{}`)
	d.ok("POST", api+"/super-squash/side", `{"message":"squashed"}`)
	d.ok("POST", "/api/repos/move", `{"fromRepo":"ada/tiny","toRepo":"ada/moved","type":"model"}`)
	must(d.CreateRepo(hub.Repo{Type: hub.Dataset, Namespace: "ada", Name: "data"}, RepoOptions{Private: true}))
	d.ok("POST", "/api/repos/create", `{"name":"gone"}`)
	d.ok("DELETE", "/api/repos/delete", `{"name":"gone","organization":"ada"}`)

	check := func() {
		t.Helper()
		r, ok := d.store.repo(model("ada/moved"))
		if !ok {
			t.Fatal("not moved")
		}
		c, err := r.resolve("main")
		must(err)
		e, err := r.entry(c, "big/odd name.weights")
		must(err)
		if e.SHA256 != made.SHA256() || e.Size != made.Size {
			t.Errorf("made entry %+v", e)
		}
		content, size, ok := d.store.object(e.SHA256)
		if !ok || size != made.Size {
			t.Fatal("made content lost")
		}
		got, want := make([]byte, 100), make([]byte, 100)
		content.ReadAt(got, 1<<20-50)
		made.ReaderAt().ReadAt(want, 1<<20-50)
		if !bytes.Equal(got, want) {
			t.Error("made content differs")
		}
		if e, err = r.entry(c, "w.bin"); err != nil || e.Size != 7 {
			t.Errorf("w.bin: %+v, %v", e, err)
		}
		content, _, _ = d.store.object(e.SHA256)
		if b, _ := io.ReadAll(io.NewSectionReader(content, 0, 100)); string(b) != "weights" {
			t.Errorf("w.bin holds %q", b)
		}
		if e, err = r.entry(c, "d07/f007.txt"); err != nil || e.Size != 10 {
			t.Errorf("from the pack: %+v, %v", e, err)
		}
		v1, err := r.resolve("v1")
		must(err)
		if v2, err := r.resolve("v2"); err != nil || v1 != v2 {
			t.Errorf("annotated tag: %s, %v; want %s", v2, err, v1)
		}
		if dd, ok := r.talk(1); !ok || dd.Status != "merged" || len(dd.Events) != 4 {
			t.Errorf("discussion %+v", dd)
		}
		if to, _, ok := d.store.redirect(tiny); !ok || to != model("ada/moved") {
			t.Errorf("redirect to %v, %v", to, ok)
		}
		if !d.store.imported("imported") || d.store.imported("ada") {
			t.Error("imported namespaces")
		}
		l, err := r.log(c)
		must(err)
		if len(l) != 6 || l[0].Title != "A change (#1)" || l[5].Title != "initial commit" {
			t.Errorf("log of %d, from %q", len(l), l[0].Title)
		}
		wantFiles(t, d.files("imported/x", "main"), "README.md=hello", "m.safetensors="+hashOf("tensor")[:8])
	}
	check()
	d.reopen(t)
	check()

	dirs, err := filepath.Glob(filepath.Join(d.dir, "repos/*/*/*.git"))
	must(err)
	if len(dirs) != 3 {
		t.Errorf("repositories on disk: %v", dirs)
	}
	for _, dir := range dirs {
		if out := git(t, dir, "fsck", "--strict", "--full"); strings.Contains(out, "error") || strings.Contains(out, "missing") {
			t.Errorf("fsck of %s: %s", dir, out)
		}
	}
	moved := filepath.Join(d.dir, "repos/models/ada/moved.git")
	if got := git(t, moved, "log", "--format=%an %s", "main", "--", "pr.txt"); got != "ada in the PR\n" {
		t.Errorf("git log: %q", got)
	}
	if got := git(t, moved, "show", "main~1:a.txt"); got != "a" {
		t.Errorf("git show: %q", got)
	}
	// What git itself makes of the repository can be read too.
	must(d.Close())
	git(t, moved, "gc", "-q")
	d.open(t)
	check()
}

func hashOf(s string) string {
	l, err := openLFS("")
	if err != nil {
		panic(err)
	}
	sha, _, err := l.put(strings.NewReader(s))
	if err != nil {
		panic(err)
	}
	return sha
}

// TestMoveCutShort leaves the state a crash in the middle of a rename leaves.
func TestMoveCutShort(t *testing.T) {
	for _, renamed := range []bool{false, true} {
		d := newDisk(t)
		d.repo("ada/old", RepoOptions{}, map[string][]byte{"a": []byte("a")})
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(d.dir, "state.json")
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var st stateFile
		if err := json.Unmarshal(b, &st); err != nil {
			t.Fatal(err)
		}
		st.Moving = &movePlan{From: "ada/old", To: "bob/new"}
		b, _ = json.Marshal(st)
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		if renamed {
			if err := renameFolder(filepath.Join(d.dir, "repos/models/ada/old.git"), filepath.Join(d.dir, "repos/models/bob/new.git")); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 { // and it stays so
			d.open(t)
			wantFiles(t, d.files("bob/new", "main"), "a=a")
			if to, _, ok := d.store.redirect(model("ada/old")); !ok || to != model("bob/new") {
				t.Errorf("renamed %v: redirect %v, %v", renamed, to, ok)
			}
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestDataDirectoryIsTaken(t *testing.T) {
	d := newDisk(t)
	if _, err := New(Options{Dir: d.dir}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("opened twice: %v", err)
	}
	d.reopen(t)
}

func TestStateOfANewerProgram(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "state.json"), []byte(`{"version":99}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "version 99") {
		t.Errorf("error %v", err)
	}
}

func TestImport(t *testing.T) {
	b := newBench(t)
	id := model("imp/x")
	folder := fstest.MapFS{
		"a.txt": {Data: []byte("a")}, "sub/b.txt": {Data: []byte("b")}, "w.bin": {Data: []byte("w")},
		"huge.txt": {Data: bytes.Repeat([]byte("line\n"), maxRegular/5+1)},
	}
	first, err := b.Import(id, folder)
	if err != nil {
		t.Fatal(err)
	}
	again, err := b.Import(id, folder)
	if err != nil || again != first {
		t.Errorf("the same folder: %s, %v; want %s", again, err, first)
	}
	r, _ := b.store.repo(id)
	attrs, err := r.fileAt(plumbing.NewHash(string(first)), attributesName)
	if err != nil || !strings.HasSuffix(string(attrs), "\nhuge.txt"+lfsAttributes+"\n") {
		t.Errorf("attributes end in %q, %v", attrs[max(0, len(attrs)-80):], err)
	}
	delete(folder, "huge.txt")
	delete(folder, "sub/b.txt")
	folder["a.txt"] = &fstest.MapFile{Data: []byte("A")}
	if second, err := b.Import(id, folder); err != nil || second == first {
		t.Fatalf("%s, %v", second, err)
	}
	wantFiles(t, b.files("imp/x", "main"), "a.txt=A", "w.bin="+hashOf("w")[:8])

	links := t.TempDir()
	if err := os.Symlink(t.TempDir(), filepath.Join(links, "folder")); err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]iofs.FS{
		"a link to a folder": os.DirFS(links),
		"a device":           fstest.MapFS{"dev": {Mode: iofs.ModeDevice}},
	} {
		if _, err := b.Import(id, bad); err == nil {
			t.Errorf("%s was imported", name)
		}
	}
	wantFiles(t, b.files("imp/x", "main"), "a.txt=A", "w.bin="+hashOf("w")[:8])
}

func TestResolveRevisions(t *testing.T) {
	b := newBench(t)
	first := b.repo("ada/x", RepoOptions{}, map[string][]byte{"a": []byte("1")})
	second, err := b.Commit(model("ada/x"), "main", "two", map[string][]byte{"a": []byte("2")})
	if err != nil {
		t.Fatal(err)
	}
	r, _ := b.store.repo(model("ada/x"))
	b.ok("POST", "/api/models/ada/x/tag/"+string(first), `{"tag":"both"}`)
	b.ok("POST", "/api/models/ada/x/branch/both", `{}`)
	b.ok("POST", "/api/models/ada/x/branch/feature%2Ffoo", `{"startingPoint":"`+string(first[:7])+`"}`)
	for rev, want := range map[string]hub.CommitID{
		"main": second, "HEAD": second, "both": second, "feature/foo": first, string(first): first,
		string(first[:5]): first, "refs/heads/main": second, "refs/tags/both": first,
		"nope": "", "refs/pr/1": "", strings.Repeat("0", 40): "", string(first[:4]): "", "": "",
	} {
		got, err := r.resolve(rev)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %s, %v; want %s", rev, got, err, want)
		}
	}
	// A squash cuts the history off, except what other references hold.
	b.ok("POST", "/api/models/ada/x/branch/both", `{"overwrite":true,"startingPoint":"feature/foo"}`)
	b.ok("POST", "/api/models/ada/x/super-squash/main", `{"message":"one"}`)
	if _, err := r.resolve(string(second)); err == nil {
		t.Error("the squashed commit still resolves")
	}
	if _, err := r.resolve(string(first)); err != nil {
		t.Errorf("the other branch's commit: %v", err)
	}
	wantFiles(t, b.files("ada/x", "main"), "a=2")
}

func TestLogOrder(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	b := newBench(t, clock(&now))
	b.repo("ada/x", RepoOptions{}, map[string][]byte{"a": []byte("1")})
	now = now.Add(-time.Hour) // a clock set back
	tip, err := b.Commit(model("ada/x"), "main", "later", map[string][]byte{"a": []byte("2")})
	if err != nil {
		t.Fatal(err)
	}
	r, _ := b.store.repo(model("ada/x"))
	l, err := r.log(tip)
	if err != nil {
		t.Fatal(err)
	}
	var titles []string
	for _, c := range l {
		titles = append(titles, c.Title)
	}
	if want := []string{"later", "files", "initial commit"}; !slices.Equal(titles, want) {
		t.Errorf("log %q, want %q", titles, want)
	}
}

func BenchmarkImport100k(b *testing.B) {
	folder := fstest.MapFS{}
	for i := range 100_000 {
		folder[fmt.Sprintf("dir%04d/file%06d.txt", i%1000, i)] = &fstest.MapFile{Data: fmt.Appendf(nil, "file number %d\n", i)}
	}
	for b.Loop() {
		h, err := New(Options{Dir: b.TempDir()})
		if err != nil {
			b.Fatal(err)
		}
		start := time.Now()
		c, err := h.Import(model("imp/x"), folder)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(start).Seconds(), "s/import")
		r, _ := h.store.repo(model("imp/x"))
		start = time.Now()
		if _, err := r.list(c, "", true); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(start).Seconds(), "s/warm-list")
		h.Close()
		if h, err = New(Options{Dir: h.opts.Dir}); err != nil {
			b.Fatal(err)
		}
		r, _ = h.store.repo(model("imp/x"))
		start = time.Now()
		if _, err := r.list(c, "", true); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(start).Seconds(), "s/cold-list")
		h.Close()
	}
}

func TestPackHeader(t *testing.T) {
	for _, size := range []int{0, 1, 15, 16, 127, 128, 2047, 2048, 1 << 20} {
		head := packHeader(object{plumbing.BlobObject, make([]byte, size)})
		kind, got, used := parsePackHeader(append(head, 0xff, 0xff))
		if kind != plumbing.BlobObject || got != int64(size) || used != len(head) {
			t.Errorf("%d bytes: %v, %d, %d of %d", size, kind, got, used, len(head))
		}
	}
	if _, _, used := parsePackHeader([]byte{0xff, 0xff}); used != 0 {
		t.Error("a header cut short was read")
	}
}

func BenchmarkCommit100k(b *testing.B) {
	files := map[string][]byte{}
	for i := range 100_000 {
		files[fmt.Sprintf("dir%04d/file%06d.txt", i%1000, i)] = fmt.Appendf(nil, "file number %d\n", i)
	}
	for b.Loop() {
		h, err := New(Options{Dir: b.TempDir()})
		if err != nil {
			b.Fatal(err)
		}
		id := model("ada/x")
		if err := h.CreateRepo(id, RepoOptions{}); err != nil {
			b.Fatal(err)
		}
		if _, err := h.Commit(id, "main", "all", files); err != nil {
			b.Fatal(err)
		}
		start := time.Now()
		if _, err := h.Commit(id, "main", "one", map[string][]byte{"dir0500/new": []byte("x")}); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(start).Seconds()*1000, "ms/small-commit")
		h.Close()
	}
}
