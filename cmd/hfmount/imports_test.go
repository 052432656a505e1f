package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// The import table of docs/ARCHITECTURE.md. A package may import, of this
// module and of these libraries, only what stands here; packages below it of
// the same module are named one by one, so that a new arrow is a decision.
var allowedImports = map[string][]string{
	"hfmount/cmd/hfmount": {"hfmount/...", "github.com/...", "golang.org/x/...", "net/http"},
	"hfmount/fs/node":     {"hfmount/fs", "hfmount/blockcache", "hfmount/remote/hub", "github.com/hanwen/go-fuse/v2/...", "golang.org/x/...", "github.com/hashicorp/golang-lru/v2/...", "github.com/moby/sys/mountinfo"},
	"hfmount/fs/formats":  {},
	"hfmount/fs": {"hfmount/blockcache", "hfmount/fs/formats", "hfmount/writeback", "hfmount/writeback/staging", "hfmount/remote/hub", "github.com/hashicorp/golang-lru/v2/...",
		"github.com/dgraph-io/ristretto/v2/...", "github.com/cespare/xxhash/v2", "golang.org/x/..."},
	"hfmount/blockcache":        {"hfmount/remote/hub", "github.com/hashicorp/golang-lru/v2/...", "github.com/dgraph-io/ristretto/v2/...", "github.com/cespare/xxhash/v2", "golang.org/x/..."},
	"hfmount/remote":            {"hfmount/remote/lfs", "hfmount/remote/hub", "net/http", "github.com/google/uuid", "github.com/hashicorp/golang-lru/v2/...", "github.com/dgraph-io/ristretto/v2/...", "golang.org/x/..."},
	"hfmount/remote/lfs":        {"hfmount/remote/hub", "net/http", "golang.org/x/..."},
	"hfmount/remote/hub":        {},
	"hfmount/writeback":         {"hfmount/writeback/journal", "hfmount/writeback/staging", "hfmount/remote/hub", "github.com/google/uuid", "github.com/dustin/go-humanize", "github.com/go-git/go-git/v5/plumbing/format/gitignore", "github.com/cespare/xxhash/v2", "golang.org/x/..."},
	"hfmount/writeback/journal": {"golang.org/x/..."},
	"hfmount/writeback/staging": {"golang.org/x/..."},
	"hfmount/remote/hubtest":    {"hfmount/remote/hub", "net/http", "github.com/...", "golang.org/x/..."},
}

// guarded are what only some packages may import at all; the rest of the
// standard library is free for everybody but package hub.
var guarded = []string{"net/http"}

func TestImportTable(t *testing.T) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,Standard", "hfmount/...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	seen := 0
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		allowed, ok := allowedImports[p.ImportPath]
		if !ok {
			if !strings.HasPrefix(p.ImportPath, "hfmount/integration") {
				t.Errorf("%s is not in the import table", p.ImportPath)
			}
			continue
		}
		seen++
		for _, i := range p.Imports {
			standard := !strings.Contains(strings.SplitN(i, "/", 2)[0], ".") && !strings.HasPrefix(i, "hfmount/")
			if standard && !slices.Contains(guarded, i) {
				continue
			}
			if !slices.ContainsFunc(allowed, func(a string) bool { return matchesImport(a, i) }) {
				t.Errorf("%s may not import %s", p.ImportPath, i)
			}
		}
	}
	if seen != len(allowedImports) {
		t.Errorf("%d of the %d packages in the table exist", seen, len(allowedImports))
	}
}

func matchesImport(pattern, path string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "..."); ok {
		return strings.HasPrefix(path, prefix) || path+"/" == prefix
	}
	return pattern == path
}
