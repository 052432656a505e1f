package hubtest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
)

func decode[T any](t *testing.T, r reply) T {
	t.Helper()
	var v T
	if r.status != 200 {
		t.Fatalf("status %d: %s", r.status, r.body)
	}
	if err := json.Unmarshal([]byte(r.body), &v); err != nil {
		t.Fatalf("%v: %s", err, r.body)
	}
	return v
}

type line struct {
	Type, OID, Path string
	Size            int64
	LFS             *struct {
		OID               string
		Size, PointerSize int64
	}
	XetHash    string
	LastCommit *struct{ ID, Title, Date string }
}

func TestTreePages(t *testing.T) {
	b := newBench(t, func(o *Options) { o.PageSize = 3 })
	files := map[string][]byte{}
	for i := range 10 {
		files[fmt.Sprintf("d%d/f %d.txt", i%3, i)] = []byte("x")
	}
	b.repo("ada/tiny", RepoOptions{}, files)
	seen := map[string]bool{}
	next := "/api/models/ada/tiny/tree/main?recursive=True&limit=1000"
	pages := 0
	for next != "" {
		pages++
		got := b.get(next)
		page := decode[[]line](t, got)
		if len(page) == 0 || len(page) > 3 {
			t.Fatalf("a page of %d", len(page))
		}
		for _, l := range page {
			if seen[l.Path] {
				t.Fatalf("%s listed twice", l.Path)
			}
			seen[l.Path] = true
		}
		next = ""
		if link := got.header.Get("Link"); link != "" {
			next = strings.TrimSuffix(strings.TrimPrefix(link, "<"), `>; rel="next"`)
			u, err := url.Parse(next)
			if err != nil || u.Scheme+"://"+u.Host != site {
				t.Fatalf("Link %q: %v", link, err)
			}
			q := u.Query()
			if q.Get("recursive") != "True" || q.Get("limit") != "3" {
				t.Errorf("next page loses parameters: %s", next)
			}
			outer, err := base64.StdEncoding.DecodeString(q.Get("cursor"))
			if err != nil {
				t.Fatal(err)
			}
			inner, size, _ := strings.Cut(string(outer), ":")
			js, err := base64.StdEncoding.DecodeString(inner)
			if want := fmt.Sprintf(`{"file_name":%q}`, page[len(page)-1].Path); err != nil || string(js) != want || size != "3" {
				t.Errorf("cursor %s:%s, want %s:3 (%v)", js, size, want, err)
			}
		}
	}
	if want := 10 + 3 + 1; len(seen) != want || pages != 5 {
		t.Errorf("%d entries on %d pages, want %d on 5", len(seen), pages, want)
	}
	if got := b.get("/api/models/ada/tiny/tree/main?cursor=nonsense"); got.status != 400 {
		t.Errorf("a bad cursor: %d", got.status)
	}
}

func TestTreeEntries(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Shapes.XetHeaders = true })
	b.repo("ada/tiny", RepoOptions{}, map[string][]byte{"hello.txt": []byte("hello\n"), "w.bin": []byte("weights"), "d/x": []byte("x")})
	if _, err := b.Commit(model("ada/tiny"), "main", "more", map[string][]byte{"d/y": []byte("y")}); err != nil {
		t.Fatal(err)
	}
	got := map[string]line{}
	for _, l := range decode[[]line](t, b.get("/api/models/ada/tiny/tree/main?expand=true")) {
		got[l.Path] = l
	}
	if l := got["hello.txt"]; l.Type != "file" || l.OID != "ce013625030ba8dba906f756967f9e9ca394464a" || l.Size != 6 || l.LFS != nil || l.XetHash != "" {
		t.Errorf("regular file: %+v", l)
	}
	w := got["w.bin"]
	if w.LFS == nil || w.Size != 7 || w.LFS.Size != 7 || w.LFS.PointerSize != 126 || len(w.LFS.OID) != 64 || len(w.XetHash) != 64 || w.XetHash == w.LFS.OID {
		t.Errorf("LFS file: %+v %+v", w, w.LFS)
	}
	if d := got["d"]; d.Type != "directory" || d.Size != 0 || len(d.OID) != 40 {
		t.Errorf("directory: %+v", d)
	}
	if got["hello.txt"].LastCommit.Title != "files" || got["d"].LastCommit.Title != "more" || got[".gitattributes"].LastCommit.Title != "initial commit" {
		t.Errorf("last commits: %+v %+v", got["hello.txt"].LastCommit, got["d"].LastCommit)
	}
	if size := decode[map[string]any](t, b.get("/api/models/ada/tiny/treesize/main/d"))["size"]; size != 2.0 {
		t.Errorf("tree size %v", size)
	}
}

func TestPathsInfo(t *testing.T) {
	b := newBench(t)
	b.repo("ada/tiny", RepoOptions{}, map[string][]byte{"a": []byte("a"), "d/x": []byte("x")})
	const path = "/api/models/ada/tiny/paths-info/main"
	form, js := "application/x-www-form-urlencoded", "application/json"
	for _, tt := range []struct{ kind, body, want string }{
		{form, "paths=a&paths=d%2Fx&paths=none&expand=False", "a d/x"},
		{js, `{"paths":["a","d","none"],"expand":false}`, "a d"},
		{js, `{"paths":"a"}`, "a"},
		{js, `{"paths":[]}`, ""},
	} {
		var names []string
		for _, l := range decode[[]line](t, b.do("POST", path, "Content-Type", tt.kind, "body", tt.body)) {
			names = append(names, l.Path)
		}
		if got := strings.Join(names, " "); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.body, got, tt.want)
		}
	}
	if got := b.do("POST", path, "Content-Type", form, "body", strings.Repeat("paths=a&", 1001)); got.status != 413 || got.header.Get("X-Error-Message") != "too many parameters" {
		t.Errorf("1001 paths: %d %s", got.status, got.body)
	}
	if got := b.do("POST", path, "Content-Type", js, "body", "{"); got.status != 400 {
		t.Errorf("bad JSON: %d", got.status)
	}
}

func TestInfo(t *testing.T) {
	b := newBench(t)
	head := b.repo("ada/tiny", RepoOptions{}, map[string][]byte{"hello.txt": []byte("hello\n"), "w.bin": []byte("weights")})
	type info struct {
		ID, ModelID, Author, SHA string
		ObjectID                 string `json:"_id"`
		Gated                    any
		UsedStorage              int64
		Siblings                 []struct {
			RFilename, BlobID string
			Size              int64
			LFS               *struct{ SHA256 string }
		}
	}
	got := decode[info](t, b.get("/api/models/ada/tiny/revision/HEAD?blobs=true"))
	if got.ID != "ada/tiny" || got.ModelID != "ada/tiny" || got.Author != "ada" || got.SHA != string(head) || len(got.ObjectID) != 24 || got.Gated != false {
		t.Errorf("info %+v", got)
	}
	if len(got.Siblings) != 3 || got.Siblings[2].LFS == nil || len(got.Siblings[2].LFS.SHA256) != 64 {
		t.Errorf("siblings %+v", got.Siblings)
	}
	for _, q := range []string{"?expand=sha", "?expand[]=sha", "?expand%5B%5D=sha"} {
		body := b.get("/api/models/ada/tiny" + q).body
		if want := fmt.Sprintf(`{"_id":%q,"id":"ada/tiny","sha":%q}`, got.ObjectID, head); body != want {
			t.Errorf("%s: %s, want %s", q, body, want)
		}
	}
}

func TestHistory(t *testing.T) {
	b := newBench(t)
	b.repo("ada/tiny", RepoOptions{}, map[string][]byte{"a": []byte("1")})
	for i := range 3 {
		if _, err := b.Commit(model("ada/tiny"), "main", fmt.Sprint("commit ", i), map[string][]byte{"a": fmt.Append(nil, i+2)}); err != nil {
			t.Fatal(err)
		}
	}
	type commit struct{ ID, Title, Date string }
	got := b.get("/api/models/ada/tiny/commits/main?limit=2")
	list := decode[[]commit](t, got)
	if len(list) != 2 || list[0].Title != "commit 2" || got.header.Get("X-Total-Count") != "5" {
		t.Errorf("%s of %s", got.body, got.header.Get("X-Total-Count"))
	}
	if link := got.header.Get("Link"); link != `<`+site+`/api/models/ada/tiny/commits/main?limit=2&p=1>; rel="next"` {
		t.Errorf("Link %q", link)
	}
	last := b.get("/api/models/ada/tiny/commits/main?limit=2&p=2")
	if l := decode[[]commit](t, last); len(l) != 1 || l[0].Title != "initial commit" || last.header.Get("Link") != "" {
		t.Errorf("last page: %s %q", last.body, last.header.Get("Link"))
	}
	refs := decode[map[string][]struct{ Name, Ref, TargetCommit string }](t, b.get("/api/models/ada/tiny/refs?include_prs=1"))
	if m := refs["branches"]; len(m) != 1 || m[0].Ref != "refs/heads/main" || m[0].TargetCommit != list[0].ID {
		t.Errorf("branches %+v", m)
	}
	for _, group := range []string{"tags", "converts", "pullRequests"} {
		if refs[group] == nil {
			t.Errorf("no %s", group)
		}
	}
	if diff := b.get("/api/models/ada/tiny/compare/" + list[1].ID + ".." + list[0].ID).body; !strings.Contains(diff, " M\ta\n") {
		t.Errorf("compare: %q", diff)
	}
}

func TestLists(t *testing.T) {
	b := newBench(t, func(o *Options) { o.PageSize = 2 })
	for _, id := range []string{"ada/a", "ada/b", "bob/c", "ada/secret"} {
		b.repo(id, RepoOptions{Private: id == "ada/secret"}, nil)
	}
	names := func(path string, headers ...string) string {
		var all []string
		for path != "" {
			got := b.get(path, headers...)
			for _, r := range decode[[]struct{ ID string }](t, got) {
				all = append(all, r.ID)
			}
			path = strings.TrimSuffix(strings.TrimPrefix(got.header.Get("Link"), "<"), `>; rel="next"`)
		}
		return strings.Join(all, " ")
	}
	for _, tt := range []struct{ path, as, want string }{
		{"/api/models", "", "ada/a ada/b bob/c"},
		{"/api/models?author=ada", "ada", "ada/a ada/b ada/secret"},
		{"/api/models?search=C&full=true", "", "bob/c"},
		{"/api/datasets", "", ""},
	} {
		var headers []string
		if tt.as != "" {
			headers = []string{"as", tt.as}
		}
		if got := names(tt.path, headers...); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.path, got, tt.want)
		}
	}
}

func TestWhoami(t *testing.T) {
	b := newBench(t)
	b.repo("acme/x", RepoOptions{}, nil)
	type who struct {
		Name, Type string
		Orgs       []struct{ Name string }
	}
	got := decode[who](t, b.get("/api/whoami-v2", "as", "ada"))
	if got.Name != "ada" || got.Type != "user" || len(got.Orgs) != 1 || got.Orgs[0].Name != "acme" {
		t.Errorf("%+v", got)
	}
}

func TestPageAndRaw(t *testing.T) {
	b := newBench(t)
	b.repo("ada/tiny", RepoOptions{}, map[string][]byte{"w.bin": []byte("weights")})
	got := b.get("/ada/tiny/raw/main/w.bin", "If-None-Match", `"x"`)
	if !strings.HasPrefix(got.body, "version https://git-lfs.github.com/spec/v1\noid sha256:") {
		t.Errorf("raw: %q", got.body)
	}
	if page := b.get("/ada/tiny"); page.status != 200 || !strings.Contains(page.body, "w.bin") || !strings.HasPrefix(page.header.Get("RateLimit"), `"pages"`) {
		t.Errorf("page: %d %q", page.status, page.header.Get("RateLimit"))
	}
}
