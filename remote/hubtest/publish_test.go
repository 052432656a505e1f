package hubtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"hfmount/remote/hub"
)

// opLine renders one line of a commit.
func opLine(key string, value map[string]any) string {
	b, err := json.Marshal(map[string]any{"key": key, "value": value})
	if err != nil {
		panic(err)
	}
	return string(b)
}

func header(extra ...string) string {
	v := map[string]any{"summary": "change", "description": ""}
	for i := 0; i < len(extra); i += 2 {
		v[extra[i]] = extra[i+1]
	}
	return opLine("header", v)
}

func file(path, content string) string {
	return opLine("file", map[string]any{"path": path, "content": content})
}

func lfsFile(path, content string) string {
	return opLine("lfsFile", map[string]any{"path": path, "algo": "sha256", "oid": hashOf(content), "size": len(content)})
}

func del(key, path string) string { return opLine(key, map[string]any{"path": path}) }

// hold makes content known to a repository as an LFS object.
func (b bench) hold(id string, contents ...string) {
	b.t.Helper()
	r, _ := b.store.repo(model(id))
	for _, c := range contents {
		sha, size, err := b.store.lfs.put(strings.NewReader(c))
		if err != nil {
			b.t.Fatal(err)
		}
		if err := r.holdLFS("ada", map[string]int64{sha: size}); err != nil {
			b.t.Fatal(err)
		}
	}
}

func TestCommit(t *testing.T) {
	lfs := func(s string) string { return hashOf(s)[:8] }
	big := strings.Repeat("x", maxRegular+1)
	start := []string{"a.txt=1", "d/e/deep=4", "d/x=2", "d/y=3", "w.bin=" + lfs("w")}
	edit := func(drop string, add ...string) []string {
		l := slices.DeleteFunc(slices.Clone(start), func(s string) bool {
			return drop != "" && strings.HasPrefix(s, drop)
		})
		l = append(l, add...)
		slices.Sort(l)
		return l
	}
	for _, tt := range []struct {
		name   string
		lines  []string
		status int
		code   string
		text   string
		files  []string // nil: as before
	}{
		{"add", []string{header(), file("n/ew", "n")}, 200, "", "", edit("", "n/ew=n")},
		{"base64", []string{header(), opLine("file", map[string]any{"path": "b", "content": "aGk=", "encoding": "base64"})}, 200, "", "", edit("", "b=hi")},
		{"replace", []string{header(), file("a.txt", "2")}, 200, "", "", edit("a.txt", "a.txt=2")},
		{"delete", []string{header(), del("deletedFile", "a.txt")}, 200, "", "", edit("a.txt")},
		{"delete by entry", []string{header(), del("deletedEntry", "d/x")}, 200, "", "", edit("d/x")},
		{"delete a folder", []string{header(), del("deletedFolder", "d/")}, 200, "", "", edit("d/")},
		{"delete a folder as a file", []string{header(), del("deletedFile", "d")}, 200, "", "", edit("d/")},
		{"delete the missing", []string{header(), file("n", "n"), del("deletedFile", "none")}, 404, "EntryNotFound", "A file with this name doesn't exist", nil},
		{"an add wins over a delete", []string{header(), file("a.txt", "2"), del("deletedFile", "a.txt")}, 200, "", "", edit("a.txt", "a.txt=2")},
		{"an add wins over a delete of its folder", []string{header(), file("d/x", "9"), del("deletedFolder", "d")}, 200, "", "", edit("d/", "d/x=9")},
		{"a folder becomes a file", []string{header(), del("deletedFolder", "d"), file("d", "f")}, 200, "", "", edit("d/", "d=f")},
		{"a folder emptied becomes a file", []string{header(), del("deletedFile", "d/x"), del("deletedFile", "d/y"), del("deletedFile", "d/e/deep"), file("d", "f")}, 200, "", "", edit("d/", "d=f")},
		{"a file becomes a folder", []string{header(), del("deletedFile", "a.txt"), file("a.txt/in", "f")}, 200, "", "", edit("a.txt", "a.txt/in=f")},
		{"a file over a folder", []string{header(), file("d", "f")}, 400, "", "both a file and a directory", nil},
		{"a folder over a file", []string{header(), file("a.txt/in", "f")}, 400, "", "both a file and a directory", nil},
		{"both at once", []string{header(), file("q", "f"), file("q/r", "f")}, 400, "", "both a file and a directory", nil},
		{"rename", []string{header(), opLine("file", map[string]any{"path": "z.txt", "oldPath": "a.txt"})}, 200, "", "", edit("a.txt", "z.txt=1")},
		{"rename and change", []string{header(), opLine("file", map[string]any{"path": "z.txt", "oldPath": "a.txt", "content": "zz"})}, 200, "", "", edit("a.txt", "z.txt=zz")},
		{"rename of LFS", []string{header(), opLine("file", map[string]any{"path": "z.bin", "oldPath": "w.bin"})}, 200, "", "", edit("w.bin", "z.bin="+lfs("w"))},
		{"rename the missing", []string{header(), opLine("file", map[string]any{"path": "z", "oldPath": "none"})}, 404, "EntryNotFound", "doesn't exist", nil},
		{"LFS", []string{header(), lfsFile("v.bin", "held")}, 200, "", "", edit("", "v.bin="+lfs("held"))},
		{"LFS without a size", []string{header(), opLine("lfsFile", map[string]any{"path": "v.bin", "algo": "sha256", "oid": hashOf("held")})}, 200, "", "", edit("", "v.bin="+lfs("held"))},
		{"LFS never uploaded", []string{header(), lfsFile("v.bin", "unknown")}, 400, "", "LFS pointer pointed to a file that does not exist", nil},
		{"LFS of a wrong size", []string{header(), opLine("lfsFile", map[string]any{"path": "v", "algo": "sha256", "oid": hashOf("held"), "size": 3})}, 400, "", "bytes", nil},
		{"LFS by another algorithm", []string{header(), opLine("lfsFile", map[string]any{"path": "v", "algo": "md5", "oid": hashOf("held")})}, 400, "", "sha256", nil},
		{"last line of a path counts", []string{header(), lfsFile("k", "held"), file("k", "plain")}, 200, "", "", edit("", "k=plain")},
		{"unchanged", []string{header(), file("a.txt", "1")}, 200, "", "", start},
		{"header alone", []string{header()}, 200, "", "", start},
		{"no header", []string{file("a", "b")}, 400, "", "header", nil},
		{"two headers", []string{header(), header()}, 400, "", "header", nil},
		{"no summary", []string{opLine("header", map[string]any{"summary": " "}), file("a", "b")}, 400, "", "summary", nil},
		{"unknown key", []string{header(), del("copyFile", "a.txt")}, 400, "", "Unknown key", nil},
		{"no JSON", []string{header(), "{"}, 400, "", "Invalid JSON", nil},
		{"too big", []string{header(), file("big.txt", big)}, 400, "", "files larger than 10 MiB", nil},
		{"bad metadata", []string{header(), file("README.md", "---\na: [\n---\n")}, 400, "", "metadata", nil},
		{"escape", []string{header(), file("../a", "b")}, 400, "", "Invalid path", nil},
		{"git folder", []string{header(), file("x/.GIT/config", "b")}, 400, "", "Invalid path", nil},
		{"slash", []string{header(), file("/a", "b")}, 400, "", "Invalid path", nil},
		{"no path", []string{header(), file("", "b")}, 400, "", "Invalid path", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			before := b.repo("ada/x", RepoOptions{}, map[string][]byte{
				"a.txt": []byte("1"), "d/x": []byte("2"), "d/y": []byte("3"), "d/e/deep": []byte("4"), "w.bin": []byte("w")})
			b.hold("ada/x", "held")
			got := b.do("POST", "/api/models/ada/x/commit/main", "as", "ada", "Content-Type", "application/x-ndjson",
				"body", strings.Join(tt.lines, "\n")+strings.Repeat("\n", len(tt.name)%2)) // with and without a final newline
			if got.status != tt.status || got.header.Get("X-Error-Code") != tt.code || !strings.Contains(got.body, tt.text) {
				t.Fatalf("%d %q %s", got.status, got.header.Get("X-Error-Code"), got.body)
			}
			r, _ := b.store.repo(model("ada/x"))
			tip, err := r.resolve("main")
			if err != nil {
				t.Fatal(err)
			}
			if tt.files == nil {
				if tip != before {
					t.Error("a refused commit moved the branch")
				}
				tt.files = start
			} else {
				var answer struct{ CommitOid, CommitUrl string }
				if err := json.Unmarshal([]byte(got.body), &answer); err != nil {
					t.Fatal(err)
				}
				if hub.CommitID(answer.CommitOid) != tip || tip == before || answer.CommitUrl != "http://hub.test/ada/x/commit/"+string(tip) {
					t.Errorf("answer %+v, tip %s", answer, tip)
				}
			}
			wantFiles(t, b.files("ada/x", "main"), tt.files...)
		})
	}
}

func TestCommitParent(t *testing.T) {
	b := newBench(t)
	first := b.repo("ada/x", RepoOptions{}, map[string][]byte{"a": []byte("1")})
	commit := func(rev string, parent string, lines ...string) reply {
		return b.do("POST", "/api/models/ada/x/commit/"+rev, "as", "ada", "body", strings.Join(append([]string{header("parentCommit", parent)}, lines...), "\n"))
	}
	if got := commit("main", string(first[:8]), file("a", "2")); got.status != 200 {
		t.Fatalf("abbreviated parent: %d %s", got.status, got.body)
	}
	got := commit("main", string(first), file("a", "3"))
	if got.status != 412 || !strings.Contains(got.body, "The branch was updated since you opened this page") {
		t.Errorf("stale parent: %d %s", got.status, got.body)
	}
	if got := commit("main", "xyz", file("a", "3")); got.status != 400 {
		t.Errorf("bad parent: %d", got.status)
	}
	for _, rev := range []string{"nope", string(first), "refs%2Fpr%2F9"} {
		if got := commit(rev, "", file("a", "3")); got.status != 404 || got.header.Get("X-Error-Code") != "RevisionNotFound" {
			t.Errorf("commit to %s: %d %s", rev, got.status, got.body)
		}
	}
	wantFiles(t, b.files("ada/x", "main"), "a=2")
	if n := b.Stats().Commits; n != 1 {
		t.Errorf("%d commits counted", n)
	}
}

func TestLegacyCommit(t *testing.T) {
	b := newBench(t)
	b.repo("ada/x", RepoOptions{}, map[string][]byte{"a": []byte("1")})
	b.hold("ada/x", "held")
	b.ok("POST", "/api/models/ada/x/commit/main", fmt.Sprintf(`{"summary":"s","files":[{"path":"b","content":"Yg==","encoding":"base64"}],
"lfsFiles":[{"path":"c","oid":%q}],"deletedEntries":[{"path":"a"}]}`, hashOf("held")), "Content-Type", "application/json")
	wantFiles(t, b.files("ada/x", "main"), "b=b", "c="+hashOf("held")[:8])
	// The LFS file got its line of .gitattributes in the same commit.
	if got := b.get("/ada/x/raw/main/.gitattributes"); !strings.HasSuffix(got.body, "*tfevents* filter=lfs diff=lfs merge=lfs -text\nc filter=lfs diff=lfs merge=lfs -text\n") {
		t.Errorf("attributes end in %q", got.body[max(0, len(got.body)-120):])
	}
}

func TestConcurrentCommits(t *testing.T) {
	b := newBench(t)
	b.repo("ada/x", RepoOptions{}, nil)
	var wg sync.WaitGroup
	var want []string
	for i := range 16 {
		want = append(want, fmt.Sprintf("f%02d=%d", i, i))
		wg.Go(func() {
			got := b.do("POST", "/api/models/ada/x/commit/main", "as", "ada", "body", header()+"\n"+file(fmt.Sprintf("f%02d", i), fmt.Sprint(i)))
			if got.status != 200 {
				t.Errorf("%d %s", got.status, got.body)
			}
			b.get("/api/models/ada/x/tree/main?recursive=true")
		})
	}
	wg.Wait()
	wantFiles(t, b.files("ada/x", "main"), want...)
}

func TestPropose(t *testing.T) {
	b := newBench(t)
	b.repo("ada/x", RepoOptions{}, map[string][]byte{"a": []byte("1"), "b": []byte("1")})
	body := header() + "\n" + file("a", "bob's")
	if got := b.do("POST", "/api/models/ada/x/commit/main", "as", "bob", "body", body); got.status != 403 {
		t.Errorf("commit by a stranger: %d", got.status)
	}
	if got := b.do("POST", "/api/models/ada/x/commit/main", "body", body); got.status != 401 {
		t.Errorf("anonymous commit: %d", got.status)
	}
	got := b.do("POST", "/api/models/ada/x/commit/main?create_pr=1", "as", "bob", "body", body)
	if got.status != 200 || !strings.Contains(got.body, `"pullRequestUrl":"http://hub.test/ada/x/discussions/1"`) {
		t.Fatalf("create_pr: %d %s", got.status, got.body)
	}
	if got := b.do("POST", "/api/models/ada/x/commit/refs%2Fpr%2F1", "as", "bob", "body", header()+"\n"+file("c", "more")); got.status != 200 {
		t.Errorf("commit to his own PR: %d %s", got.status, got.body)
	}
	wantFiles(t, b.files("ada/x", "main"), "a=1", "b=1")
	wantFiles(t, b.files("ada/x", "refs/pr/1"), "a=bob's", "b=1", "c=more")

	b.ok("POST", "/api/models/ada/x/commit/main", header()+"\n"+file("b", "ada's"))
	api := "/api/models/ada/x/discussions/1"
	details := b.get(api + "?diff=1").body
	for _, part := range []string{`"filesWithConflicts":[]`, `"base":"refs/heads/main"`, `"status":"open"`, `-1\n`, `+bob's\n`, `"type":"commit"`} {
		if !strings.Contains(details, part) {
			t.Errorf("details lack %s: %s", part, details)
		}
	}
	if got := b.do("POST", api+"/merge", "as", "bob", "body", "{}"); got.status != 403 {
		t.Errorf("merge by a stranger: %d", got.status)
	}
	b.ok("POST", api+"/merge", `{"comment":"thanks"}`)
	wantFiles(t, b.files("ada/x", "main"), "a=bob's", "b=ada's", "c=more")
	if got := b.do("POST", api+"/merge", "as", "ada", "body", "{}"); got.status != 400 {
		t.Errorf("merged twice: %d", got.status)
	}

	// A conflict is refused and named.
	b.do("POST", "/api/models/ada/x/commit/main?create_pr=1", "as", "bob", "body", header()+"\n"+file("b", "bob's"))
	b.ok("POST", "/api/models/ada/x/commit/main", header()+"\n"+file("b", "again"))
	if got := b.get("/api/models/ada/x/discussions/2"); !strings.Contains(got.body, `"filesWithConflicts":["b"]`) {
		t.Errorf("details: %s", got.body)
	}
	if got := b.do("POST", "/api/models/ada/x/discussions/2/merge", "as", "ada", "body", "{}"); got.status != 409 {
		t.Errorf("merge with a conflict: %d %s", got.status, got.body)
	}
	if got := b.do("POST", "/api/models/ada/x/commit/nope?create_pr=1", "as", "ada", "body", header()); got.status != 404 {
		t.Errorf("create_pr against a missing branch: %d", got.status)
	}
}

func TestDiscussions(t *testing.T) {
	b := newBench(t)
	b.repo("ada/x", RepoOptions{}, nil)
	api := "/api/models/ada/x/discussions"
	if got := b.do("POST", api, "as", "bob", "body", `{"title":"no"}`); got.status != 400 {
		t.Errorf("short title: %d", got.status)
	}
	if got := b.do("POST", api, "as", "bob", "body", `{"title":"Question","description":"why"}`); got.status != 200 || !strings.Contains(got.body, `"num":1`) {
		t.Fatalf("%d %s", got.status, got.body)
	}
	b.ok("POST", api, `{"title":"Proposal","pullRequest":true}`)
	b.ok("POST", api+"/1/comment", `{"comment":"because"}`)
	b.ok("POST", api+"/1/title", `{"title":"Answered"}`)
	b.ok("POST", api+"/1/status", `{"status":"closed","comment":"done"}`)
	if got := b.do("POST", api+"/2/status", "as", "bob", "body", `{"status":"closed"}`); got.status != 403 {
		t.Errorf("status by a stranger: %d", got.status)
	}
	if got := b.do("POST", api+"/2/merge", "as", "ada", "body", "{}"); got.status != 400 {
		t.Errorf("a draft merged: %d", got.status)
	}
	for query, want := range map[string]string{
		"": "2 1", "?type=pull_request": "2", "?type=discussion": "1", "?status=open": "2", "?status=closed": "1",
		"?author=bob": "1", "?search=PROP": "2", "?p=1": "",
	} {
		var page struct {
			Discussions []struct {
				Num    int
				Status string
			}
			NumClosedDiscussions int
		}
		if err := json.Unmarshal([]byte(b.get(api+query).body), &page); err != nil {
			t.Fatal(err)
		}
		var nums []string
		for _, d := range page.Discussions {
			nums = append(nums, fmt.Sprint(d.Num))
		}
		if got := strings.Join(nums, " "); got != want {
			t.Errorf("%q lists %q, want %q", query, got, want)
		}
	}
	for _, part := range []string{`"raw":"because"`, `"from":"Question"`, `"to":"Answered"`, `"status":"closed"`} {
		if got := b.get(api + "/1").body; !strings.Contains(got, part) {
			t.Errorf("no %s in %s", part, got)
		}
	}
	if got := b.get(api + "/7"); got.status != 404 {
		t.Errorf("missing: %d", got.status)
	}
	b.ok("DELETE", api+"/2/ref", "")
	if r, _ := b.store.repo(model("ada/x")); len(r.db.refs()) != 1 {
		t.Errorf("references %v", r.db.refs())
	}
}

func TestRefs(t *testing.T) {
	b := newBench(t)
	b.repo("ada/x", RepoOptions{}, map[string][]byte{"a": []byte("1")})
	b.ok("POST", "/api/models/ada/x/branch/dev", `{}`)
	b.ok("POST", "/api/models/ada/x/tag/dev", `{"tag":"v1"}`)
	b.ok("POST", "/api/models/ada/x/branch/empty", `{"emptyBranch":true}`)
	wantFiles(t, b.files("ada/x", "empty"))
	for _, tt := range []struct {
		method, path, body string
		status             int
		text               string
	}{
		{"POST", "branch/dev", `{}`, 409, "Reference refs/heads/dev already exists"},
		{"POST", "branch/dev%2Fsub", `{}`, 409, "refs/heads/dev already exists"},
		{"POST", "branch/refs%2Fpr%2F5", `{}`, 400, "Invalid reference for a branch"},
		{"POST", "branch/a..b", `{}`, 400, "Invalid reference for a branch"},
		{"POST", "branch/new", `{"startingPoint":"none"}`, 404, "Invalid rev id: none"},
		{"POST", "branch/dev", `{"overwrite":true}`, 200, ""},
		{"DELETE", "branch/main", ``, 403, "Cannot delete refs/heads/main"},
		{"DELETE", "branch/none", ``, 404, "Invalid rev id"},
		{"DELETE", "branch/v1", ``, 404, "Invalid rev id"},
		{"DELETE", "branch/dev", ``, 200, ""},
		{"POST", "tag/main", `{"tag":"v1"}`, 409, "already exists"},
		{"POST", "tag/none", `{"tag":"v2"}`, 404, "Invalid rev id"},
		{"POST", "tag/main", `{"tag":""}`, 400, "Invalid reference for a tag"},
		{"DELETE", "tag/none", ``, 404, "Invalid rev id"},
		{"DELETE", "tag/main", ``, 500, ""},
		{"POST", "super-squash/v1", `{}`, 400, "tag"},
		{"POST", "super-squash/none", `{}`, 404, "Invalid rev id"},
		{"DELETE", "tag/v1", ``, 200, ""},
	} {
		got := b.do(tt.method, "/api/models/ada/x/"+tt.path, "as", "ada", "body", tt.body)
		if got.status != tt.status || !strings.Contains(got.body, tt.text) {
			t.Errorf("%s %s %s: %d %s", tt.method, tt.path, tt.body, got.status, got.body)
		}
	}
	if got := b.do("POST", "/api/models/ada/x/branch/theirs", "as", "bob", "body", "{}"); got.status != 403 {
		t.Errorf("branch by a stranger: %d", got.status)
	}
}

func TestRepos(t *testing.T) {
	b := newBench(t)
	got := b.ok("POST", "/api/repos/create", `{"name":"new","organization":null,"visibility":"private"}`)
	var made struct{ URL, Name, ID string }
	if err := json.Unmarshal([]byte(got.body), &made); err != nil {
		t.Fatal(err)
	}
	if made.URL != "http://hub.test/ada/new" || made.Name != "ada/new" || len(made.ID) != 24 {
		t.Errorf("made %+v", made)
	}
	if got := b.get("/api/models/ada/new", "as", "bob"); got.status != 404 {
		t.Errorf("private: %d", got.status)
	}
	b.ok("POST", "/api/repos/create", `{"name":"s","organization":"ada","type":"space","sdk":"gradio","files":[{"path":"app.py","content":"x"}]}`)
	if got := b.get("/spaces/ada/s/raw/main/README.md"); !strings.Contains(got.body, "sdk: gradio") {
		t.Errorf("README %q", got.body)
	}
	b.ok("PUT", "/api/models/ada/new/settings", `{"visibility":"public","gated":"manual"}`)
	if got := b.do("GET", "/api/models/ada/new/auth-check", "as", "bob"); got.status != 403 {
		t.Errorf("gated: %d", got.status)
	}
	b.ok("POST", "/api/models/ada/new/user-access-request/grant", `{"user":"bob"}`)
	if got := b.do("GET", "/api/models/ada/new/auth-check", "as", "bob"); got.status != 200 {
		t.Errorf("granted: %d", got.status)
	}
	for _, tt := range []struct {
		as, method, path, body string
		status                 int
		text                   string
	}{
		{"ada", "POST", "create", `{"name":"new"}`, 409, "You already created this model repo"},
		{"ada", "POST", "create", `{"name":"NEW"}`, 409, "You already created this model repo"},
		{"bob", "POST", "create", `{"name":"x","organization":"ada"}`, 403, "rights"},
		{"ada", "POST", "create", `{"name":"a--b"}`, 400, "Invalid repo name"},
		{"ada", "POST", "create", `{"name":"x","type":"zoo"}`, 400, "Invalid repo type"},
		{"ada", "DELETE", "delete", `{"name":"none"}`, 404, "Repository not found"},
		{"bob", "DELETE", "delete", `{"name":"new","organization":"ada"}`, 403, "permissions"},
		{"bob", "POST", "move", `{"fromRepo":"ada/new","toRepo":"bob/new","type":"model"}`, 403, "permissions"},
		{"ada", "POST", "move", `{"fromRepo":"ada/new","toRepo":"bob/new","type":"model"}`, 403, "rights"},
		{"ada", "POST", "move", `{"fromRepo":"ada/none","toRepo":"ada/b","type":"model"}`, 404, ""},
		{"ada", "POST", "move", `{"fromRepo":"ada/new","toRepo":"ada/newer","type":"model"}`, 200, ""},
		{"ada", "POST", "move", `{"fromRepo":"ada/newer","toRepo":"ada/Newer","type":"model"}`, 200, ""},
		{"ada", "DELETE", "delete", `{"name":"Newer"}`, 200, "OK"},
	} {
		got := b.do(tt.method, "/api/repos/"+tt.path, "as", tt.as, "body", tt.body)
		if got.status != tt.status || !strings.Contains(got.body, tt.text) {
			t.Errorf("%s %s %s: %d %s", tt.as, tt.path, tt.body, got.status, got.body)
		}
	}
}

func TestPreupload(t *testing.T) {
	b := newBench(t)
	tip := b.repo("ada/x", RepoOptions{}, map[string][]byte{"a.txt": []byte("hello\n"), "w.bin": []byte("w"), ".gitignore": []byte("*.tmp\nout/\n")})
	ask := func(body string) map[string]string {
		t.Helper()
		var answer struct {
			CommitOid hub.CommitID
			Files     []struct {
				Path, UploadMode, OID string
				ShouldIgnore          bool
			}
		}
		if err := json.Unmarshal([]byte(b.ok("POST", "/api/models/ada/x/preupload/main", body).body), &answer); err != nil {
			t.Fatal(err)
		}
		if answer.CommitOid != tip {
			t.Errorf("commitOid %s", answer.CommitOid)
		}
		m := map[string]string{}
		for _, f := range answer.Files {
			m[f.Path] = fmt.Sprintf("%s %v %.6s", f.UploadMode, f.ShouldIgnore, f.OID)
		}
		return m
	}
	got := ask(`{"files":[{"path":"a.txt","size":6,"sample":"aGVsbG8K"},{"path":"w.bin","size":4},{"path":"e.bin","size":0},
{"path":"x.tmp","size":1},{"path":"out/deep/x","size":1},{"path":"n","size":2000000,"sample":"AAAA"}]}`)
	for path, want := range map[string]string{
		"a.txt": "regular false ce0136", "w.bin": "lfs false " + hashOf("w")[:6], "e.bin": "regular false ",
		"x.tmp": "regular true ", "out/deep/x": "regular true ", "n": "lfs false ",
	} {
		if got[path] != want {
			t.Errorf("%s: %q, want %q", path, got[path], want)
		}
	}
	got = ask(`{"files":[{"path":"a.txt","size":6},{"path":"x.tmp","size":1},{"path":"w.bin","size":4}],"gitAttributes":"*.txt filter=lfs","gitIgnore":""}`)
	if got["a.txt"] != "lfs false ce0136" || got["x.tmp"] != "regular false " || !strings.HasPrefix(got["w.bin"], "regular") {
		t.Errorf("with its own rules: %v", got)
	}
	if r := b.do("POST", "/api/models/ada/x/preupload/main", "as", "ada", "body", `{"files":[{"path":"..\\x","size":1}]}`); r.status != http.StatusUnprocessableEntity {
		t.Errorf("bad path: %d", r.status)
	}
	if r := b.do("POST", "/api/models/ada/x/preupload/none", "as", "ada", "body", `{"files":[]}`); r.status != 404 {
		t.Errorf("missing revision: %d", r.status)
	}
}

func TestValidateYAML(t *testing.T) {
	b := newBench(t)
	for content, want := range map[string]struct {
		status int
		text   string
	}{
		"---\nlicense: mit\ntags: [a, b]\n---\n# x": {200, `"errors":[],"warnings":[]`},
		"# x":                      {200, "empty or missing yaml metadata"},
		"---\n---\n":               {200, "empty or missing yaml metadata"},
		"---\na: [\n---\n":         {400, "Invalid YAML metadata"},
		"---\n- a\n---\n":          {400, "mapping"},
		"---\r\ntags: 3\r\n---":    {400, "tags"},
		"---\ntags: [1, 2]\n---\n": {400, "tags"},
	} {
		body, _ := json.Marshal(map[string]string{"content": content, "repoType": "model"})
		got := b.do("POST", "/api/validate-yaml", "body", string(body))
		if got.status != want.status || !strings.Contains(got.body, want.text) {
			t.Errorf("%q: %d %s", content, got.status, got.body)
		}
	}
}

// put uploads to a URL that the Hub gave.
func (b bench) put(url string, data []byte) reply {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), "PUT", url, bytes.NewReader(data))
	if err != nil {
		b.t.Fatal(err)
	}
	resp, err := b.RoundTripper().RoundTrip(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	return reply{status: resp.StatusCode, header: resp.Header}
}

type batchAnswer struct {
	Transfer string
	Objects  []struct {
		OID     string
		Size    int64
		Actions map[string]lfsAction
		Error   *lfsError
	}
}

func (b bench) batch(id string, contents ...string) batchAnswer {
	b.t.Helper()
	var objs []map[string]any
	for _, c := range contents {
		objs = append(objs, map[string]any{"oid": hashOf(c), "size": len(c)})
	}
	body, _ := json.Marshal(map[string]any{"operation": "upload", "transfers": []string{"basic", "multipart"}, "hash_algo": "sha_256", "objects": objs})
	got := b.ok("POST", "/"+id+".git/info/lfs/objects/batch", string(body), "Content-Type", "application/vnd.git-lfs+json")
	if strings.Contains(got.body, `"actions":null`) {
		b.t.Error("actions is null, not absent")
	}
	var a batchAnswer
	if err := json.Unmarshal([]byte(got.body), &a); err != nil {
		b.t.Fatal(err)
	}
	return a
}

func TestLFSUpload(t *testing.T) {
	for _, disk := range []bool{false, true} {
		dir := ""
		if disk {
			dir = t.TempDir()
		}
		b := newBench(t, func(o *Options) {
			o.Dir, o.Shapes.MultipartThreshold, o.Shapes.PartSize = dir, 10, 4
		})
		b.repo("ada/x", RepoOptions{}, nil)
		b.repo("ada/y", RepoOptions{}, nil)
		small, large := "small", "a large one" // 5 and 11 bytes
		a := b.batch("ada/x", small, large)
		if a.Transfer != "multipart" || len(a.Objects) != 2 {
			t.Fatalf("%+v", a)
		}
		basic, multi := a.Objects[0].Actions["upload"], a.Objects[1].Actions["upload"]
		if basic.Header["chunk_size"] != "" || multi.Header["chunk_size"] != "4" || len(multi.Header) != 4 {
			t.Fatalf("headers %v, %v", basic.Header, multi.Header)
		}
		for _, bad := range []string{"smale", "smal", "smalll"} {
			if got := b.put(basic.Href, []byte(bad)); got.status != 400 {
				t.Errorf("%q taken for %q: %d", bad, small, got.status)
			}
		}
		if got := b.put(strings.Replace(basic.Href, "Signature=", "Signature=x", 1), []byte(small)); got.status != 403 {
			t.Errorf("forged: %d", got.status)
		}
		if got := b.do("POST", "/api/models/ada/x/commit/main", "as", "ada", "body", header()+"\n"+lfsFile("s", small)); got.status != 400 {
			t.Errorf("committed before the upload: %d", got.status)
		}
		for range 2 { // an answer may get lost
			if got := b.put(basic.Href, []byte(small)); got.status != 200 {
				t.Fatalf("basic: %d", got.status)
			}
		}
		type part struct {
			PartNumber int    `json:"partNumber"`
			ETag       string `json:"etag"`
		}
		var parts []part
		for n, chunk := range []string{"a la", "rge ", "one"} {
			got := b.put(multi.Header[fmt.Sprint(n+1)], []byte(chunk))
			if got.status != 200 {
				t.Fatalf("part %d: %d", n+1, got.status)
			}
			parts = append(parts, part{n + 1, got.header.Get("ETag")})
		}
		complete := func(parts []part) reply {
			body, _ := json.Marshal(map[string]any{"oid": hashOf(large), "parts": parts})
			return b.do("POST", multi.Href, "body", string(body))
		}
		if got := complete(parts[:2]); got.status != 400 {
			t.Errorf("completed without a part: %d", got.status)
		}
		for range 2 {
			if got := complete(parts); got.status != 200 {
				t.Fatalf("complete: %d %s", got.status, got.body)
			}
		}
		b.ok("POST", "/ada/x.git/info/lfs/objects/verify", fmt.Sprintf(`{"oid":%q,"size":11}`, hashOf(large)))
		if got := b.do("POST", "/ada/x.git/info/lfs/objects/verify", "as", "ada", "body", fmt.Sprintf(`{"oid":%q,"size":12}`, hashOf(large))); got.status != 422 {
			t.Errorf("verify of a wrong size: %d", got.status)
		}
		if again := b.batch("ada/x", small, large); again.Objects[0].Actions != nil || again.Objects[1].Actions != nil {
			t.Errorf("stored, but %+v", again)
		}
		if other := b.batch("ada/y", small); other.Objects[0].Actions == nil {
			t.Error("another repository's object is taken for granted")
		}
		b.ok("POST", "/api/models/ada/x/commit/main", header()+"\n"+lfsFile("s", small)+"\n"+lfsFile("l", large)+"\n")
		wantFiles(t, b.files("ada/x", "main"), "l="+hashOf(large)[:8], "s="+hashOf(small)[:8])
		if got := b.do("GET", "/api/models/ada/x/lfs-files", "as", "ada"); !strings.Contains(got.body, `"filename":"l","ref":"main"`) {
			t.Errorf("lfs-files: %s", got.body)
		}
		got := b.ok("POST", "/api/models/ada/x/lfs-files/duplicate", fmt.Sprintf(`{"target":{"type":"model","name":"ada/y"},"files":[{"sha256":%q},{"sha256":%q}]}`, hashOf(small), hashOf("none")))
		if !strings.Contains(got.body, hashOf("none")) || strings.Contains(got.body, hashOf(small)) {
			t.Errorf("duplicate: %s", got.body)
		}
		b.ok("POST", "/api/models/ada/y/commit/main", header()+"\n"+lfsFile("s", small))
	}
}

func TestLFSBatchErrors(t *testing.T) {
	b := newBench(t)
	b.repo("ada/x", RepoOptions{}, nil)
	got := b.ok("POST", "/ada/x.git/info/lfs/objects/batch", fmt.Sprintf(
		`{"operation":"upload","objects":[{"oid":"abc","size":1},{"oid":%q,"size":-1},{"oid":%q,"size":0}]}`, hashOf("x"), hashOf("")))
	var a batchAnswer
	if err := json.Unmarshal([]byte(got.body), &a); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		if e := a.Objects[i].Error; e == nil || e.Code != 422 {
			t.Errorf("object %d: %+v", i, a.Objects[i])
		}
	}
	if got := b.put(a.Objects[2].Actions["upload"].Href, nil); got.status != 501 {
		t.Errorf("an empty upload: %d", got.status)
	}
	if got := b.do("POST", "/ada/x.git/info/lfs/objects/batch", "as", "ada", "body", `{"operation":"steal"}`); got.status != 422 {
		t.Errorf("unknown operation: %d", got.status)
	}
	if got := b.do("GET", "/api/models/ada/x/xet-write-token/main", "as", "ada"); got.status != 404 {
		t.Errorf("xet-write-token: %d", got.status)
	}
}

// TestLatePart writes to an upload after it was completed, as a client may
// that gave up waiting for an answer and sends the part again.
func TestLatePart(t *testing.T) {
	for _, dir := range []string{"", t.TempDir()} {
		l, err := openLFS(dir)
		if err != nil {
			t.Fatal(err)
		}
		st, err := l.stage()
		if err != nil {
			t.Fatal(err)
		}
		sha, _, err := st.copyHashed(strings.NewReader("content"))
		if err == nil {
			err = st.keep(sha)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := st.WriteAt([]byte("XX"), 0); err == nil {
			t.Error("a late write was taken")
		}
		r, _, _ := l.object(sha)
		got := make([]byte, 7)
		r.ReadAt(got, 0)
		if string(got) != "content" {
			t.Errorf("object holds %q", got)
		}
		if err := l.close(); err != nil {
			t.Error(err)
		}
	}
}
