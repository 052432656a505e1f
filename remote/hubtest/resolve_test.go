package hubtest

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"strings"
	"testing"
	"time"
)

var weights = bytes.Repeat([]byte("0123456789"), 100)

func weightsSHA() string {
	sum := sha256.Sum256(weights)
	return hex.EncodeToString(sum[:])
}

const helloOID = "ce013625030ba8dba906f756967f9e9ca394464a"

func filled(t *testing.T, change ...func(*Options)) bench {
	b := newBench(t, change...)
	files := map[string][]byte{"hello.txt": []byte("hello\n"), "w.bin": weights, "empty": {}, "x y#.txt": []byte("odd")}
	b.repo("ada/tiny", RepoOptions{}, files)
	b.repo("ada/secret", RepoOptions{Private: true}, files)
	return b
}

func TestShapeA(t *testing.T) {
	b := filled(t)
	for _, method := range []string{"HEAD", "GET"} {
		hop := b.do(method, "/ada/tiny/resolve/main/hello.txt", "Accept-Encoding", "identity")
		commit := hop.header.Get("X-Repo-Commit")
		want := "/api/resolve-cache/models/ada/tiny/" + commit + "/hello.txt?%2Fada%2Ftiny%2Fresolve%2Fmain%2Fhello.txt=&etag=%22" + helloOID + "%22"
		if hop.status != 307 || hop.header.Get("Location") != want {
			t.Fatalf("%d to %q, want %q", hop.status, hop.header.Get("Location"), want)
		}
		if hop.header.Get("X-Linked-Size") != "6" || hop.header.Get("X-Linked-ETag") != `"`+helloOID+`"` || hop.header.Get("Content-Length") == "6" {
			t.Errorf("headers of the hop: %v", hop.header)
		}
		if !strings.HasPrefix(hop.header.Get("RateLimit"), `"resolvers"`) {
			t.Errorf("RateLimit %q", hop.header.Get("RateLimit"))
		}
		got := b.do(method, want, "Accept-Encoding", "identity")
		if got.status != 200 || got.header.Get("ETag") != `"`+helloOID+`"` || got.header.Get("Content-Length") != "6" || got.header.Get("X-Repo-Commit") != commit {
			t.Errorf("second hop: %d %v", got.status, got.header)
		}
		if method == "GET" && got.body != "hello\n" {
			t.Errorf("body %q", got.body)
		}
	}
	if got := b.get("/ada/tiny/resolve/main/hello.txt", "If-None-Match", `"`+helloOID+`"`); got.status != 304 || got.header.Get("ETag") == "" {
		t.Errorf("If-None-Match: %d", got.status)
	}
	odd := b.get("/ada/tiny/resolve/main/x%20y%23.txt")
	if got := b.get(odd.header.Get("Location"), "Accept-Encoding", "identity"); got.body != "odd" {
		t.Errorf("an odd name: %d %q", got.status, got.body)
	}
}

func TestShapeSwitches(t *testing.T) {
	b := filled(t, func(o *Options) {
		o.Shapes = Shapes{NoLinkedOnCacheHop: true, NoCommitOnCacheHop: true, XetHeaders: true, XetRefreshRoute: true}
	})
	hop := b.get("/ada/tiny/resolve/main/hello.txt")
	if hop.header.Get("X-Linked-Size") != "" || hop.header.Get("X-Linked-ETag") != "" || hop.header.Get("X-Repo-Commit") == "" {
		t.Errorf("the hop: %v", hop.header)
	}
	if got := b.get(hop.header.Get("Location")); got.status != 200 || got.header.Get("X-Repo-Commit") != "" {
		t.Errorf("second hop: %d %v", got.status, got.header)
	}
	lfs := b.get("/ada/tiny/resolve/main/w.bin")
	if lfs.header.Get("X-Xet-Hash") == "" || lfs.header.Get("X-Xet-Refresh-Route") == "" || strings.Contains(lfs.header.Get("Link"), "xet-auth") {
		t.Errorf("Xet headers: %v", lfs.header)
	}
	direct := filled(t, func(o *Options) { o.Shapes.Direct = true })
	if got := direct.get("/ada/tiny/resolve/main/w.bin", "Range", "bytes=10-12"); got.status != 206 || got.body != "012" || got.header.Get("ETag") != `"`+weightsSHA()+`"` {
		t.Errorf("direct: %d %q", got.status, got.body)
	}
}

func TestShapeB(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	b := filled(t, clock(&now))
	hop := b.get("/ada/tiny/resolve/main/w.bin")
	location := hop.header.Get("Location")
	if hop.status != 302 || !strings.HasPrefix(location, "http://cdn.test/xet-bridge-us/") || !strings.Contains(location, "/"+weightsSHA()+"?") {
		t.Fatalf("%d to %q", hop.status, location)
	}
	if hop.header.Get("X-Linked-Size") != "1000" || hop.header.Get("X-Linked-ETag") != `"`+weightsSHA()+`"` || hop.header.Get("X-Xet-Hash") != "" {
		t.Errorf("headers: %v", hop.header)
	}
	for _, param := range []string{"Expires=1800003600", "Policy=", "Signature=", "Key-Pair-Id="} {
		if !strings.Contains(location, param) {
			t.Errorf("no %s in %s", param, location)
		}
	}
	got := b.get(location, "X-HF-Download-Counter", "1")
	if got.status != 200 || got.body != string(weights) || got.header.Get("X-Cache") != "" {
		t.Errorf("CDN: %d, %d bytes", got.status, len(got.body))
	}
	if etag := strings.Trim(got.header.Get("ETag"), `"`); len(etag) != 64 || etag == weightsSHA() {
		t.Errorf("the CDN's ETag %q must be its own", etag)
	}
	if part := b.get(location, "Range", "bytes=990-"); part.status != 206 || part.body != "0123456789" || part.header.Get("Content-Range") != "bytes 990-999/1000" {
		t.Errorf("range: %d %q", part.status, part.body)
	}
	if forged := b.get(strings.Replace(location, weightsSHA(), strings.Repeat("0", 64), 1)); forged.status != 403 {
		t.Errorf("forged: %d", forged.status)
	}
	now = now.Add(time.Hour)
	if late := b.get(location); late.status != 403 || !strings.Contains(late.body, "<Message>Request has expired</Message>") {
		t.Errorf("expired: %d %s", late.status, late.body)
	}
	fresh := b.get("/ada/tiny/resolve/main/w.bin").header.Get("Location")
	if got := b.get(fresh); got.status != 200 {
		t.Errorf("fresh: %d", got.status)
	}
	b.ExpireURLs()
	if got := b.get(fresh); got.status != 403 {
		t.Errorf("after ExpireURLs: %d", got.status)
	}
}

func TestLeakedToken(t *testing.T) {
	b := filled(t)
	location := b.get("/ada/tiny/resolve/main/w.bin").header.Get("Location")
	if got := b.get(location, "as", "ada"); got.status != 400 || strings.Contains(got.body, "0123") {
		t.Errorf("status %d", got.status)
	}
	if n := b.Stats().LeakedTokens; n != 1 {
		t.Errorf("LeakedTokens = %d", n)
	}
}

func TestShapeC(t *testing.T) {
	b := filled(t)
	got := b.get("/ada/secret/resolve/main/hello.txt", "as", "ada")
	if got.status != 200 || got.body != "hello\n" || got.header.Get("X-Repo-Commit") == "" || got.header.Get("ETag") != `"`+helloOID+`"` {
		t.Errorf("private: %d %v", got.status, got.header)
	}
	if got := b.get("/ada/secret/resolve/main/w.bin", "as", "ada"); got.status != 302 {
		t.Errorf("private LFS: %d", got.status)
	}
	if got := b.get("/ada/tiny/resolve/main/empty", "Accept-Encoding", "identity"); got.status != 200 || got.header.Get("Content-Length") != "0" {
		t.Errorf("empty: %d %v", got.status, got.header)
	}
}

func TestRanges(t *testing.T) {
	b := filled(t)
	location := b.get("/ada/tiny/resolve/main/hello.txt").header.Get("Location")
	empty := "/ada/tiny/resolve/main/empty"
	for _, tt := range []struct {
		url, spec string
		status    int
		rng, body string
	}{
		{location, "bytes=0-0", 206, "bytes 0-0/6", "h"},
		{location, "bytes=2-3", 206, "bytes 2-3/6", "ll"},
		{location, "bytes=4-100", 206, "bytes 4-5/6", "o\n"},
		{location, "bytes=4-", 206, "bytes 4-5/6", "o\n"},
		{location, "bytes=-2", 206, "bytes 4-5/6", "o\n"},
		{location, "bytes=-20", 206, "bytes 0-5/6", "hello\n"},
		{location, "bytes=6-", 416, "bytes */6", ""},
		{location, "bytes=-0", 416, "bytes */6", ""},
		{location, "bytes=3-2", 200, "", "hello\n"},
		{location, "bytes=0-1,3-4", 200, "", "hello\n"},
		{location, "lines=0-1", 200, "", "hello\n"},
		{empty, "bytes=0-0", 206, "bytes */0", ""},
		{empty, "bytes=5-", 416, "bytes */0", ""},
	} {
		got := b.get(tt.url, "Range", tt.spec, "Accept-Encoding", "identity")
		if got.status != tt.status || got.header.Get("Content-Range") != tt.rng || got.body != tt.body {
			t.Errorf("%s: %d %q %q, want %d %q %q", tt.spec, got.status, got.header.Get("Content-Range"), got.body, tt.status, tt.rng, tt.body)
		}
	}
}

func TestGzipTrap(t *testing.T) {
	b := filled(t)
	location := b.get("/ada/tiny/resolve/main/hello.txt").header.Get("Location")
	got := b.get(location, "Accept-Encoding", "gzip, deflate", "Range", "bytes=1-2")
	if got.status != 200 || got.header.Get("Content-Encoding") != "gzip" || got.header.Get("Content-Length") != "" ||
		got.header.Get("ETag") != `W/"`+helloOID+`"` || got.header.Get("Accept-Ranges") != "" {
		t.Fatalf("%d %v", got.status, got.header)
	}
	zr, err := gzip.NewReader(strings.NewReader(got.body))
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(zr); err != nil || string(text) != "hello\n" {
		t.Errorf("%q %v", text, err)
	}
	for _, accept := range []string{"identity", "", "gzip;q=0.5, identity"} {
		if got := b.get(location, "Accept-Encoding", accept, "Range", "bytes=1-2"); got.status != 206 || got.body != "el" {
			t.Errorf("%q: %d %q", accept, got.status, got.body)
		}
	}
	cdn := b.get("/ada/tiny/resolve/main/w.bin").header.Get("Location")
	if got := b.get(cdn, "Accept-Encoding", "gzip"); got.header.Get("Content-Encoding") != "" || got.body != string(weights) {
		t.Errorf("the CDN compresses")
	}
}
