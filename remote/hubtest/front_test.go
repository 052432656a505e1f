package hubtest

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"hfmount/remote/hub"
)

const site = "http://hub.test"

// reply is an answer read to its end.
type reply struct {
	status int
	header http.Header
	body   string
	err    error // of reading the body
}

// bench is a Hub in memory with accounts ada and bob, asked without sockets.
type bench struct {
	*Hub
	t *testing.T
}

func newBench(t *testing.T, change ...func(*Options)) bench {
	t.Helper()
	o := Options{Users: []User{{"ada", "hf_ada"}, {"bob", "hf_bob"}}}
	for _, c := range change {
		c(&o)
	}
	h, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return bench{h, t}
}

func model(id string) hub.Repo {
	ns, name, _ := strings.Cut(id, "/")
	return hub.Repo{Type: hub.Model, Namespace: ns, Name: name}
}

// repo makes a repository with one more commit.
func (b bench) repo(id string, o RepoOptions, files map[string][]byte) hub.CommitID {
	b.t.Helper()
	if err := b.CreateRepo(model(id), o); err != nil {
		b.t.Fatal(err)
	}
	c, err := b.Commit(model(id), "main", "files", files)
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

// send makes one request without following redirects. Headers alternate keys
// and values; "as" stands for the token of an account, "body" for a body.
func (b bench) send(method, url string, headers ...string) (*http.Response, error) {
	var body io.Reader
	if !strings.HasPrefix(url, "http") {
		url = site + url
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "body" {
			body = strings.NewReader(headers[i+1])
		}
	}
	r, err := http.NewRequestWithContext(b.t.Context(), method, url, body)
	if err != nil {
		b.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		switch headers[i] {
		case "body":
		case "as":
			r.Header.Set("Authorization", "Bearer hf_"+headers[i+1])
		default:
			r.Header.Set(headers[i], headers[i+1])
		}
	}
	return b.RoundTripper().RoundTrip(r)
}

// do is send for answers that must come.
func (b bench) do(method, url string, headers ...string) reply {
	b.t.Helper()
	resp, err := b.send(method, url, headers...)
	if err != nil {
		b.t.Fatalf("%s %s: %v", method, url, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, string(body), err}
}

func (b bench) get(url string, headers ...string) reply {
	b.t.Helper()
	return b.do("GET", url, headers...)
}

// clock is an option that reads the time from *now.
func clock(now *time.Time) func(*Options) {
	return func(o *Options) { o.Now = func() time.Time { return *now } }
}

// TestErrors is the table of hub-protocol §5.1.
func TestErrors(t *testing.T) {
	b := newBench(t)
	b.repo("ada/open", RepoOptions{}, map[string][]byte{"a.txt": []byte("a")})
	b.repo("ada/secret", RepoOptions{Private: true}, map[string][]byte{"a.txt": []byte("a")})
	b.repo("ada/g", RepoOptions{Gated: "auto"}, map[string][]byte{"a.txt": []byte("a")})
	const none = ""
	for _, tt := range []struct {
		name, method, path, as string
		status                 int
		code, text             string
	}{
		{"missing, anonymous", "GET", "/api/models/ada/none", none, 401, "", "Invalid username or password."},
		{"missing, authenticated", "GET", "/api/models/ada/none", "bob", 404, "RepoNotFound", "Repository not found"},
		{"private, anonymous", "GET", "/api/models/ada/secret", none, 401, "", "Invalid username or password."},
		{"private, stranger", "GET", "/ada/secret/resolve/main/a.txt", "bob", 404, "RepoNotFound", "Repository not found"},
		{"private, owner", "GET", "/ada/secret/resolve/main/a.txt", "ada", 200, "", ""},
		{"bad token", "GET", "/api/models/ada/open", "nobody", 401, "", "Invalid credentials in Authorization header"},
		{"gated, anonymous", "GET", "/ada/g/resolve/main/a.txt", none, 401, "GatedRepo", "Access to model ada/g is restricted. You must have access to it and be authenticated"},
		{"gated, not approved", "GET", "/ada/g/resolve/main/a.txt", "bob", 403, "GatedRepo", "Access to model ada/g is restricted and you are not in the authorized list"},
		{"gated, auth-check", "GET", "/api/models/ada/g/auth-check", "bob", 403, "GatedRepo", "Access to model"},
		{"gated, listing", "GET", "/api/models/ada/g/tree/main", none, 200, "", ""},
		{"unknown revision", "GET", "/api/models/ada/open/tree/nope", none, 404, "RevisionNotFound", "Invalid rev id: nope"},
		{"revision encoded twice", "GET", "/api/models/ada/open/tree/refs%252Fpr%252F2", none, 404, "RevisionNotFound", "Invalid rev id: refs%2Fpr%2F2"},
		{"unknown path", "GET", "/ada/open/resolve/main/none.txt", none, 404, "EntryNotFound", "Entry not found"},
		{"listing a file", "GET", "/api/models/ada/open/tree/main/a.txt", none, 404, "EntryNotFound", "Entry not found"},
		{"no write permission", "GET", "/api/models/ada/open/auth-check/write", "bob", 403, "", "You don't have the rights"},
		{"write, anonymous", "GET", "/api/models/ada/open/auth-check/write", none, 401, "", "Invalid username or password."},
		{"encoded slash in the id", "GET", "/api/models/ada%2Fopen/tree/main", none, 400, "", "Invalid repo name"},
		{"unknown expand", "GET", "/api/models/ada/open?expand[]=nope", none, 400, "", `"expand" must be one of [author, baseModels, `},
		{"whoami, anonymous", "GET", "/api/whoami-v2", none, 401, "", "Invalid username or password."},
		{"no CAS", "GET", "/api/models/ada/open/xet-read-token/main", none, 404, "", "Not found"},
		{"agent harnesses", "GET", "/api/agent-harnesses", none, 404, "", "Not found"},
		{"nowhere", "GET", "/api/nowhere/at/all", none, 404, "", "Sorry"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var headers []string
			if tt.as != none {
				headers = []string{"as", tt.as}
			}
			for _, method := range []string{tt.method, "HEAD"} {
				got := bench{b.Hub, t}.do(method, tt.path, headers...)
				if got.status != tt.status {
					t.Fatalf("%s: status %d, want %d: %s", method, got.status, tt.status, got.body)
				}
				if code := got.header.Get("X-Error-Code"); code != tt.code {
					t.Errorf("%s: X-Error-Code %q, want %q", method, code, tt.code)
				}
				if text := got.header.Get("X-Error-Message"); !strings.HasPrefix(text, tt.text) || text != "" && tt.text == "" {
					t.Errorf("%s: X-Error-Message %q, want %q", method, text, tt.text)
				}
				if got.status == 401 && tt.as == none && got.header.Get("WWW-Authenticate") == "" {
					t.Error("no WWW-Authenticate")
				}
				if method == "HEAD" && got.body != "" {
					t.Errorf("HEAD has a body: %q", got.body)
				}
			}
		})
	}
	if got := b.get("/ada/open/resolve/main/none.txt"); got.header.Get("X-Repo-Commit") == "" {
		t.Error("no X-Repo-Commit on EntryNotFound")
	}
	if n := b.Stats().Requests["agent-harnesses"]; n != 0 {
		t.Errorf("agent-harnesses counted %d times", n)
	}
}

func TestCommonHeaders(t *testing.T) {
	b := newBench(t)
	b.repo("ada/open", RepoOptions{}, nil)
	got := b.get("/api/models/ada/open", "X-Amzn-Trace-Id", "trace-7")
	if id := got.header.Get("X-Request-Id"); !strings.HasPrefix(id, "Root=1-") || !strings.HasSuffix(id, ";trace-7") {
		t.Errorf("X-Request-Id %q", id)
	}
	for header, want := range map[string]string{
		"X-Powered-By":     "huggingface-moon",
		"RateLimit":        `"api";r=499;t=`,
		"RateLimit-Policy": `"fixed window";"api";q=500;w=300`,
		"ETag":             `W/"`,
		"Vary":             "Origin",
	} {
		if v := got.header.Get(header); !strings.HasPrefix(v, want) {
			t.Errorf("%s: %q, want %q", header, v, want)
		}
	}
}

func TestRepoRedirects(t *testing.T) {
	b := newBench(t)
	b.repo("openai-community/gpt2", RepoOptions{}, map[string][]byte{"a.txt": []byte("hello\n")})
	b.Redirect(model("old/name"), model("openai-community/gpt2"), false)
	b.Redirect(hub.Repo{Name: "gpt2"}, model("openai-community/gpt2"), true)
	for _, tt := range []struct {
		method, path, location string
	}{
		{"GET", "/api/models/gpt2/tree/main?recursive=true", "/api/models/openai-community/gpt2/tree/main?recursive=true"},
		{"GET", "/api/models/gpt2/refs", "/api/models/openai-community/gpt2/refs"},
		{"POST", "/api/models/gpt2/paths-info/main", "/api/models/openai-community/gpt2/paths-info/main"},
		{"GET", "/api/models/old/name", "/api/models/openai-community/gpt2"},
		{"GET", "/old/name/resolve/main/a.txt", "/openai-community/gpt2/resolve/main/a.txt"},
		{"GET", "/api/models/OpenAI-community/GPT2", "/api/models/openai-community/gpt2"},
	} {
		got := b.do(tt.method, tt.path)
		if got.status != 307 || got.header.Get("Location") != tt.location {
			t.Errorf("%s %s: %d to %q, want 307 to %q", tt.method, tt.path, got.status, got.header.Get("Location"), tt.location)
		}
		if got.header.Get("X-Repo-Commit") != "" || got.header.Get("ETag") != "" {
			t.Errorf("%s %s: the redirect has metadata", tt.method, tt.path)
		}
	}
	got := b.get("/gpt2/resolve/main/a.txt")
	if got.status != 200 || got.body != "hello\n" || got.header.Get("ETag") != `"ce013625030ba8dba906f756967f9e9ca394464a"` {
		t.Errorf("resolve on a canonical id: %d %q %q", got.status, got.body, got.header.Get("ETag"))
	}
}

func TestOnHost(t *testing.T) {
	for _, tt := range []struct{ host, want string }{
		{"hub.example:8765", "http://hub.example:9000"},
		{"hub.example", "http://hub.example:9000"},
		{"[::1]:8765", "http://[::1]:9000"},
	} {
		if got := onHost("http://127.0.0.1:9000", tt.host); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.host, got, tt.want)
		}
	}
}

func TestRenamed(t *testing.T) {
	for _, tt := range []struct{ path, from, want string }{
		{"/datasets/d/resolve/main/d", "d", "/datasets/n/d/resolve/main/d"},
		{"/api/datasets/d", "d", "/api/datasets/n/d"},
		{"/d.git/info/lfs/objects/batch", "d", "/n/d.git/info/lfs/objects/batch"},
		{"/a/d.x/a/d/y", "a/d", "/a/d.x/n/d/y"},
	} {
		if got := renamed(tt.path, tt.from, "n/d"); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.path, got, tt.want)
		}
	}
}

func TestRouter(t *testing.T) {
	rt := newRouter((&front{hub: &Hub{}}).readRoutes(), false)
	for _, tt := range []struct {
		url  string
		want string // route, id, rev, path of the first reading
	}{
		{"/api/models/ada/tiny/tree/main", "tree ada/tiny main "},
		{"/api/models/ada/tiny/tree/main/data%2Fa%20b.txt", "tree ada/tiny main data/a b.txt"},
		{"/api/datasets/ada/tiny/tree/feature%2Ffoo/data/x/", "tree datasets/ada/tiny feature/foo data/x"},
		{"/api/models/ada/tiny/tree/refs/pr/1/data/x%20y", "tree ada/tiny refs/pr/1 data/x y"},
		{"/api/models/ada/tiny/commits/refs/convert/parquet", "commits ada/tiny refs/convert/parquet "},
		{"/api/models/ada/tiny/tree/refs%2Fpr%2F1/data", "tree ada/tiny refs/pr/1 data"},
		{"/api/models/ada/tiny/tree/refs/heads/main", "tree ada/tiny refs heads/main"},
		{"/api/models/ada/tiny/revision/HEAD", "revision ada/tiny HEAD "},
		{"/api/models/gpt2", "info gpt2  "},
		{"/datasets/ada/d/resolve/main/a/b", "resolve datasets/ada/d main a/b"},
		{"/ada/d/resolve/main/resolve/main/b", "resolve ada/d main resolve/main/b"},
		{"/gpt2/resolve/main/b", "resolve gpt2 main b"},
		{"/api/resolve-cache/models/ada/t/abc/x%23y", "resolve-cache ada/t abc x#y"},
		{"/ada/tiny", "page ada/tiny  "},
		{"/api/unknown", "none"},
	} {
		r, err := http.NewRequest("GET", site+tt.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := "none"
		if ms := rt.find(r); len(ms) > 0 {
			m := ms[0]
			got = m.route.name + " " + m.id.String() + " " + m.rev + " " + m.path
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.url, got, tt.want)
		}
	}
}
