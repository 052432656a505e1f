package hub

import (
	"errors"
	iofs "io/fs"
	"strings"
	"testing"
)

func loc(t RepoType, id, rev, path string) Location {
	ns, name, ok := strings.Cut(id, "/")
	if !ok {
		ns, name = "", id
	}
	return Location{Ref: Ref{Repo: Repo{t, ns, name}, Revision: rev}, Path: path}
}

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want Location
	}{
		{"hf://", Location{}},
		{"hf:///", Location{}},
		{"hf://a/b", loc(Model, "a/b", "", "")},
		{"hf://a/b/", loc(Model, "a/b", "", "")},
		{"hf://models/a/b", loc(Model, "a/b", "", "")},
		{"hf://models/datasets/b", loc(Model, "datasets/b", "", "")},
		{"hf://datasets/a/b/x/y", loc(Dataset, "a/b", "", "x/y")},
		{"hf://spaces/a/b@v1", loc(Space, "a/b", "v1", "")},
		{"hf://a/b@main/x", loc(Model, "a/b", "main", "x")},
		{"hf://a/b/c@v1", loc(Model, "a/b", "", "c@v1")},
		{"hf://a/b/@v1/x", loc(Model, "a/b", "", "@v1/x")},
		{"hf://a/b@v1/c@v2", loc(Model, "a/b", "v1", "c@v2")},
		{"hf://a/b@v@1/c", loc(Model, "a/b", "v@1", "c")},
		{"hf://a/b@refs/pr/10", loc(Model, "a/b", "refs/pr/10", "")},
		{"hf://a/b@refs/pr/10/", loc(Model, "a/b", "refs/pr/10", "")},
		{"hf://a/b@refs/pr/10/x.csv", loc(Model, "a/b", "refs/pr/10", "x.csv")},
		{"hf://a/b@refs/pr/10abc", loc(Model, "a/b", "refs/pr/10", "abc")},
		{"hf://a/b@refs%2Fpr%2F10/x", loc(Model, "a/b", "refs/pr/10", "x")},
		{"hf://a/b@refs%2fpr%2f10abc/x", loc(Model, "a/b", "refs/pr/10abc", "x")},
		{"hf://a/b@refs/pr/x", loc(Model, "a/b", "refs", "pr/x")},
		{"hf://a/b@refs/convert/par-quet.v1_2/x", loc(Model, "a/b", "refs/convert/par-quet.v1_2", "x")},
		{"hf://a/b@feature%2Ffoo/c.json", loc(Model, "a/b", "feature/foo", "c.json")},
		{"hf://a/b@feature/foo/c.json", loc(Model, "a/b", "feature", "foo/c.json")},
		{"hf://a/b/x%20y?z#w", loc(Model, "a/b", "", "x%20y?z#w")},
		{"hf://a/b/a:b", loc(Model, "a/b", "", "a:b")},
		{"https://huggingface.co/a/b", loc(Model, "a/b", "", "")},
		{"https://HuggingFace.co/a/b.git", loc(Model, "a/b", "", "")},
		{"https://huggingface.co/gpt2/tree/main", loc(Model, "gpt2", "main", "")},
		{"https://huggingface.co/datasets/a/b/blob/main/x%20y/z.txt?download=true#L3", loc(Dataset, "a/b", "main", "x y/z.txt")},
		{"https://hf.co/spaces/a/b/resolve/refs%2Fpr%2F1/app.py", loc(Space, "a/b", "refs/pr/1", "app.py")},
		{"https://hf.co/a/b/raw/refs/pr/1/x", loc(Model, "a/b", "refs/pr/1", "x")},
		{"https://hf.co/a/b/blame/feature%2Fy/x", loc(Model, "a/b", "feature/y", "x")},
		{"https://hf.co/a/tree/tree/main/tree", loc(Model, "a", "tree", "main/tree")},
	} {
		got, err := Parse(tt.in)
		if err != nil || got != tt.want {
			t.Errorf("Parse(%q) = %+v, %v; want %+v", tt.in, got, err, tt.want)
			continue
		}
		if got.Repo.Namespace == "" {
			continue
		}
		if back, err := Parse(got.String()); err != nil || back != got {
			t.Errorf("Parse(%q.String() = %q) = %+v, %v", tt.in, got.String(), back, err)
		}
	}
}

func TestParseFails(t *testing.T) {
	for _, in := range []string{
		"", "a/b", "hf:/a/b", "hf://gpt2", "hf://gpt2@main", "hf://a@main/x",
		"hf://datasets", "hf://datasets/", "hf://datasets/a", "hf://dataset/a/b", "hf://model/a/b",
		"hf://kernels/a/b", "hf://buckets/a/b",
		"hf://a/b@", "hf://a/b@/x", "hf://a/b//x", "hf://a/b/x//y", "hf://a//b",
		"hf://@x", "hf://a/@x", "hf:///@x", "hf://a/b@%zz", "hf://a/b@a%2F", "hf://a/b@%2E%2E/x", "hf://a/b@..", "hf://a/b@a%00",
		"hf://a/b/../c", "hf://a/b/.", "hf://a/b/\x00", "hf://a/b/\xff", "hf://a/b/" + strings.Repeat("x", 256),
		"hf://-a/b", "hf://a/b-", "hf://a/.b", "hf://a/b.git", "hf://a--b/c", "hf://a/b..c", "hf://a/b c", "hf://é/b",
		"hf://" + strings.Repeat("x", 97) + "/b",
		"https://example.com/a/b", "https://huggingface.com/a/b", "https://huggingface.co.evil.org/a/b", "ftp://huggingface.co/a/b",
		"https://huggingface.co/api/models/a/b", "https://huggingface.co/a/b/discussions/1", "https://huggingface.co/a/b/tree",
		"https://huggingface.co/a/b/blob/main/%2e%2e/x", "https://huggingface.co/a/b/blob/main/%zz", "https://huggingface.co/datasets",
	} {
		got, err := Parse(in)
		if err == nil {
			t.Errorf("Parse(%q) = %+v, want an error", in, got)
			continue
		}
		var pe *ParseError
		if !errors.As(err, &pe) || !errors.Is(err, iofs.ErrInvalid) || pe.Input != in || pe.Reason == "" {
			t.Errorf("Parse(%q): error %#v", in, err)
		}
	}
}

func TestParseArg(t *testing.T) {
	const local = "http://127.0.0.1:8765/"
	for _, tt := range []struct {
		in   string
		want Location
	}{
		{"hf://", Location{}},
		{"https://huggingface.co", Location{}},
		{"http://127.0.0.1:8765", Location{}},
		{"gpt2", loc(Model, "gpt2", "", "")},
		{"hf://gpt2", loc(Model, "gpt2", "", "")},
		{"gpt2@v1/x/y", loc(Model, "gpt2", "v1", "x/y")},
		{"gpt2@refs/pr/1/y", loc(Model, "gpt2", "refs/pr/1", "y")},
		{"datasets/squad", loc(Dataset, "squad", "", "")},
		{"datasets/squad@main/x", loc(Dataset, "squad", "main", "x")},
		{"a/b", loc(Model, "a/b", "", "")},
		{"a/b@refs/pr/3", loc(Model, "a/b", "refs/pr/3", "")},
		{"models/gpt2", loc(Model, "gpt2", "", "")},
		{"spaces/a/b/app.py", loc(Space, "a/b", "", "app.py")},
		{"hf.co/a/b", loc(Model, "a/b", "", "")},
		{"huggingface.co/datasets/a/b/tree/main/d", loc(Dataset, "a/b", "main", "d")},
		{"http://127.0.0.1:8765/datasets/a/b/tree/main/d", loc(Dataset, "a/b", "main", "d")},
		{"hf.community/b", loc(Model, "hf.community/b", "", "")},
	} {
		got, err := ParseArg(tt.in, local)
		if err != nil || got != tt.want {
			t.Errorf("ParseArg(%q) = %+v, %v; want %+v", tt.in, got, err, tt.want)
			continue
		}
		if back, err := ParseArg(got.String(), local); err != nil || back != got {
			t.Errorf("ParseArg(%q) = %+v, %v", got.String(), back, err)
		}
	}
	for _, in := range []string{"", "datasets", "./x", "/tmp/x", "../x", "hf:", "http://127.0.0.1:87655/a/b", "http://127.0.0.1/a/b", "s3://a/b", "@x", "a b"} {
		if got, err := ParseArg(in, local); err == nil {
			t.Errorf("ParseArg(%q) = %+v, want an error", in, got)
		}
	}
}

func TestStringNeedsRevision(t *testing.T) {
	l := loc(Model, "gpt2", "", "config.json")
	if got, want := l.String(), "hf://gpt2@main/config.json"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := (loc(Model, "a/b", "100%/x", "")).String(); got != "hf://a/b@100%25%2Fx" {
		t.Error(got)
	}
}

func TestParseVolume(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want Volume
	}{
		{"a/b:/mnt", Volume{loc(Model, "a/b", "", ""), "/mnt", ""}},
		{"a/b:/mnt/x:ro", Volume{loc(Model, "a/b", "", ""), "/mnt/x", "ro"}},
		{"hf://datasets/a/b@v1/x:/mnt:rw", Volume{loc(Dataset, "a/b", "v1", "x"), "/mnt", "rw"}},
		{"hf://:/mnt", Volume{Location{}, "/mnt", ""}},
		{"a/b/c:/d:/mnt", Volume{loc(Model, "a/b", "", "c:/d"), "/mnt", ""}},
		{"https://hf.co/a/b:/mnt", Volume{loc(Model, "a/b", "", ""), "/mnt", ""}},
		{"gpt2:/mnt", Volume{loc(Model, "gpt2", "", ""), "/mnt", ""}},
	} {
		got, ok, err := ParseVolume(tt.in, "")
		if !ok || err != nil || got != tt.want {
			t.Errorf("ParseVolume(%q) = %+v, %v, %v; want %+v", tt.in, got, ok, err, tt.want)
		}
	}
	for _, in := range []string{"a/b", "hf://a/b", "https://hf.co/a/b", "a/b:ro", "a/b:x", ""} {
		if _, ok, err := ParseVolume(in, ""); ok || err != nil {
			t.Errorf("ParseVolume(%q): ok=%v err=%v, want neither", in, ok, err)
		}
	}
	for _, in := range []string{"a/b:/", "a/b://", "a/b:/:ro", ":/mnt", "a/b@:/mnt"} {
		if _, ok, err := ParseVolume(in, ""); !ok || err == nil {
			t.Errorf("ParseVolume(%q): ok=%v err=%v, want an error", in, ok, err)
		}
	}
}

func TestEscapeRevision(t *testing.T) {
	for rev, name := range map[string]string{
		"main": "main", "refs/pr/1": "refs%2Fpr%2F1", "a%2Fb": "a%252Fb", "é@x": "é@x",
	} {
		if got := EscapeRevision(rev); got != name {
			t.Errorf("EscapeRevision(%q) = %q, want %q", rev, got, name)
		}
		if got, err := UnescapeRevision(name); err != nil || got != rev {
			t.Errorf("UnescapeRevision(%q) = %q, %v", name, got, err)
		}
	}
	for _, name := range []string{"", "%", "%zz", "%2F", "a%00b", "a%20b", "..", "a%2F..%2Fb", "x~1", "@"} {
		if rev, err := UnescapeRevision(name); err == nil {
			t.Errorf("UnescapeRevision(%q) = %q, want an error", name, rev)
		}
	}
}

func TestEntryCheck(t *testing.T) {
	sha1, sha256 := strings.Repeat("a", 40), strings.Repeat("b", 64)
	good := Entry{Path: "d/x y\n", Size: MaxSize, OID: sha1, SHA256: sha256}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for name, e := range map[string]Entry{
		"negative": {Path: "x", Size: -1, OID: sha1},
		"absurd":   {Path: "x", Size: MaxSize + 1, OID: sha1},
		"no oid":   {Path: "x"},
		"oid":      {Path: "x", OID: strings.Repeat("G", 40)},
		"sha256":   {Path: "x", OID: sha1, SHA256: "abc"},
		"dotdot":   {Path: "a/../b", OID: sha1},
		"absolute": {Path: "/a", OID: sha1},
		"trailing": {Path: "a/", OID: sha1},
		"empty":    {OID: sha1},
		"nul":      {Path: "a\x00b", OID: sha1},
		"utf8":     {Path: "a\xc3(", OID: sha1},
		"long":     {Path: strings.Repeat("x", 1000), OID: sha1},
		"deep":     {Path: strings.Repeat("x/", 3000) + "x", OID: sha1},
	} {
		if e.Check() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"hf://", "hf://a/b", "hf://datasets/a/b@refs/pr/10/x", "hf://a/b@f%2Fg/c@d", "hf://models/spaces/b", "hf://a/b@refs%2Fpr%2F10abc", "https://hf.co/gpt2/blob/main/x%20y", "gpt2@main/x", "a/b@100%25"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if l, err := Parse(s); err == nil && (l.Repo.Namespace != "" || l.Repo.IsZero()) {
			back, err := Parse(l.String())
			if err != nil || back != l {
				t.Fatalf("%q: %+v renders as %q, read back as %+v, %v", s, l, l.String(), back, err)
			}
		}
		l, err := ParseArg(s, "http://127.0.0.1:1")
		if err != nil {
			return
		}
		back, err := ParseArg(l.String(), "")
		if err != nil || back != l {
			t.Fatalf("%q: %+v renders as %q, read back as %+v, %v", s, l, l.String(), back, err)
		}
		if l.Revision != "" {
			if rev, err := UnescapeRevision(EscapeRevision(l.Revision)); err != nil || rev != l.Revision {
				t.Fatalf("revision %q: %q, %v", l.Revision, rev, err)
			}
		}
	})
}
