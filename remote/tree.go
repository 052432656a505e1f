package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"strings"
	"unicode/utf8"

	"hfmount/remote/hub"
)

// treeEntry is an entry as hub-protocol §3.4 lists it.
type treeEntry struct {
	Type string `json:"type"`
	OID  string `json:"oid"`
	Size *int64 `json:"size"`
	Path string `json:"path"`
	LFS  *struct {
		OID  string `json:"oid"`
		Size *int64 `json:"size"`
	} `json:"lfs"`
	XetHash string `json:"xetHash"`
}

// List lists dir ("" is the root), all pages, one level or recursively
// (hub-protocol §3.4), always at the snapshot's commit. An entry that cannot
// be shown, such as one named "..", or whose size makes no sense, ends the
// sequence with hub.ErrBadAnswer: what came before must not be used either.
func (c *Client) List(ctx context.Context, s hub.Snapshot, dir string, recursive bool) iter.Seq2[hub.Entry, error] {
	k := call{op: "list", repo: s.Ref.Repo, path: dir}
	return func(yield func(hub.Entry, error) bool) {
		fail := func(err error) { yield(hub.Entry{}, err) }
		if err := c.ready(k); err != nil {
			fail(err)
			return
		}
		if !s.Commit.Valid() {
			fail(k.fail(errInvalid, "not a commit: %q", string(s.Commit)))
			return
		}
		rest := "/tree/" + string(s.Commit)
		if dir != "" {
			if err := hub.CheckPath(dir); err != nil {
				fail(k.fail(errInvalid, "%v", err))
				return
			}
			rest += "/" + escapePath(dir)
		}
		if recursive {
			rest += "?recursive=true&limit=1000"
		} else {
			rest += "?limit=1000"
		}
		for ans, err := range c.pages(ctx, k, c.apiURL(s.Ref.Repo, rest)) {
			if err != nil {
				fail(err)
				return
			}
			entries, err := parseTree(k, ans, dir, recursive)
			if err != nil {
				c.stats.failed(err)
				fail(err)
				return
			}
			for _, e := range entries {
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}

// parseTree reads one page. All of it is checked before any of it is used.
func parseTree(k call, ans answer, dir string, recursive bool) ([]hub.Entry, error) {
	if !utf8.Valid(ans.body) {
		// The decoder would put U+FFFD in place of what it cannot read, and two
		// names could become one.
		var raws []json.RawMessage
		if err := ans.decode(k, &raws); err != nil {
			return nil, err
		}
		for _, raw := range raws {
			if !utf8.Valid(raw) {
				var t treeEntry
				_ = json.Unmarshal(raw, &t) // only to name it
				return nil, k.bad("the entry %q is not UTF-8", t.Path)
			}
		}
		return nil, k.bad("not UTF-8")
	}
	var list []treeEntry
	if err := ans.decode(k, &list); err != nil {
		return nil, err
	}
	entries := make([]hub.Entry, 0, len(list))
	for i := range list {
		t := &list[i]
		if strings.ContainsRune(t.Path, utf8.RuneError) && !says(ans.body, utf8.RuneError) {
			return nil, k.bad("the entry %q is not UTF-8", t.Path)
		}
		e, err := t.entry(k)
		if err != nil {
			return nil, err
		}
		if !within(e.Path, dir, recursive) {
			return nil, k.bad("the entry %q is not in this directory", e.Path)
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// says reports whether JSON has r, written as it is or as an escape. Half a
// surrogate pair decodes to U+FFFD without being one.
func says(json []byte, r rune) bool {
	return bytes.ContainsRune(json, r) || bytes.Contains(bytes.ToLower(json), fmt.Appendf(nil, `\u%04x`, r))
}

func (t *treeEntry) entry(k call) (hub.Entry, error) {
	e := hub.Entry{Path: t.Path, OID: t.OID, XetHash: t.XetHash}
	switch t.Type {
	case "file":
		e.Type = hub.File
	case "directory":
		e.Type = hub.Directory
	default:
		e.Type = hub.Unknown
	}
	if t.Size != nil {
		e.Size = *t.Size
	} else if e.Type == hub.File {
		return e, k.bad("the entry %q has no size", t.Path)
	}
	if t.LFS != nil {
		e.SHA256 = t.LFS.OID
		if e.SHA256 == "" {
			return e, k.bad("the entry %q has no SHA-256", t.Path)
		}
		if t.LFS.Size != nil && *t.LFS.Size != e.Size {
			return e, k.bad("the entry %q has the sizes %d and %d", t.Path, e.Size, *t.LFS.Size)
		}
	}
	if err := e.Check(); err != nil {
		return e, k.bad("the entry %v", err)
	}
	if e.Type == hub.Directory {
		e.Size = 0
	}
	return e, nil
}

// within reports whether path lies in dir: directly, or at any depth.
func within(path, dir string, recursive bool) bool {
	if dir != "" {
		rest, ok := strings.CutPrefix(path, dir+"/")
		if !ok {
			return false
		}
		path = rest
	}
	return recursive || strings.IndexByte(path, '/') < 0
}
