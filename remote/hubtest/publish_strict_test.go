package hubtest

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestBatchIsFound looks for a commit the way a client does whose answer was
// lost: by the last lines of its description, also when it came late and with
// somebody's commit on top.
func TestBatchIsFound(t *testing.T) {
	for _, fault := range []Fault{{Fault: "apply-then-500"}, {Fault: "apply-late", MS: 40_000}, {Fault: "truncate", After: 1, Path: "*/commit/*"}} {
		synctest.Test(t, func(t *testing.T) {
			b := filled(t)
			parent := decode[struct{ SHA string }](t, b.get(infoPath+"?expand=sha")).SHA
			b.faults(fault)
			send := func() reply {
				return b.do("POST", "/api/models/ada/tiny/commit/main", "as", "ada", "Content-Type", "application/x-ndjson",
					"body", header("parentCommit", parent, "description", "two files\n\nHfmount-Batch: 1f0c")+"\n"+file("new.txt", "n"))
			}
			if got := send(); got.status == 200 && fault.Fault != "truncate" {
				t.Fatalf("%s: %d", fault.Fault, got.status)
			}
			b.faults()
			time.Sleep(time.Minute)
			if got := send(); got.status != 412 {
				t.Errorf("%s: sent again: %d", fault.Fault, got.status)
			}
			if _, err := b.Commit(model("ada/tiny"), "main", "on top", map[string][]byte{"top": []byte("t")}); err != nil {
				t.Fatal(err)
			}
			log := decode[[]struct{ ID, Title, Message string }](t, b.get("/api/models/ada/tiny/commits/main?limit=3"))
			if log[0].Title != "on top" || log[1].Message != "two files\n\nHfmount-Batch: 1f0c" || log[2].ID != parent {
				t.Errorf("%s: %+v", fault.Fault, log)
			}
		})
	}
}

// TestLateAfterAnother: what is applied late finds the branch moved, and
// changes nothing.
func TestLateAfterAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := filled(t)
		parent := decode[struct{ SHA string }](t, b.get(infoPath+"?expand=sha")).SHA
		b.faults(Fault{Fault: "apply-late", MS: 5000, Times: 1})
		for _, want := range []int{504, 200} {
			got := b.do("POST", "/api/models/ada/tiny/commit/main", "as", "ada", "body", header("parentCommit", parent)+"\n"+file("new.txt", "n"))
			if got.status != want {
				t.Fatalf("%d, want %d", got.status, want)
			}
		}
		n := b.commits()
		time.Sleep(10 * time.Second)
		if b.commits() != n || b.Stats().Commits != 1 {
			t.Errorf("%d commits and then %d", n, b.commits())
		}
	})
}

// TestBinariesNeedLFS: a client that does not obey preupload is refused.
func TestBinariesNeedLFS(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Shapes.LFSBytesThreshold = 1000 })
	b.repo("ada/x", RepoOptions{}, nil)
	text, binary := strings.Repeat("x", 2000), "\x00"+strings.Repeat("x", 2000)
	for _, tt := range []struct {
		lines  []string
		status int
	}{
		{[]string{file("a", text), file("small", binary[:1000])}, 200},
		{[]string{file("a", text), file("b c", binary)}, 400},
	} {
		got := b.do("POST", "/api/models/ada/x/commit/main", "as", "ada", "body", header()+"\n"+strings.Join(tt.lines, "\n"))
		if got.status != tt.status || (got.status == 400 && !strings.Contains(got.body, "Offending files: - b c (ref: refs/heads/main)")) {
			t.Errorf("%d %s", got.status, got.body)
		}
	}
}

func TestShapeUploads(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Admin = true })
	b.repo("ada/x", RepoOptions{}, nil)
	if a := b.batch("ada/x", "a large one"); a.Transfer != "basic" {
		t.Errorf("%+v", a)
	}
	if got := b.do("POST", "/_hub/shape", "body", `{"multipart_threshold":4,"part_size":3}`); got.status != 204 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	if got := b.do("POST", "/_hub/shape", "body", `{"part_size":0}`); got.status != 400 {
		t.Errorf("no size: %d", got.status)
	}
	a := b.batch("ada/x", "a large one")
	if h := a.Objects[0].Actions["upload"].Header; a.Transfer != "multipart" || h["chunk_size"] != "3" || len(h) != 5 {
		t.Errorf("%+v", a)
	}
	before := b.Stats().BytesReceived
	for n, chunk := range []string{"a l", "arg", "e o", "ne"} {
		if got := b.put(a.Objects[0].Actions["upload"].Header[fmt.Sprint(n+1)], []byte(chunk)); got.status != 200 {
			t.Errorf("part %d: %d", n+1, got.status)
		}
	}
	if n := b.Stats().BytesReceived - before; n != 11 {
		t.Errorf("%d bytes received", n)
	}
	b.ResetStats()
	if n := b.Stats().BytesReceived; n != 0 {
		t.Errorf("%d bytes after a reset", n)
	}
}
