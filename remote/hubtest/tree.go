package hubtest

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"hfmount/remote/hub"
)

// expandedPage bounds a page with ?expand=true.
const expandedPage = 100

// cursor is where a page of a tree begins. Its form is that of real ones, so
// that mistakes in escaping it show (hub-protocol §3.4).
type cursor struct {
	FileName string `json:"file_name"` // last path of the page before
	TreeOID  string `json:"tree_oid,omitempty"`
}

func (c cursor) encode(limit int) string {
	b, err := json.Marshal(c)
	if err != nil {
		panic(err) // strings always marshal
	}
	inner := base64.StdEncoding.EncodeToString(b)
	return base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%s:%d", inner, limit))
}

//lint:ignore ST1005 a message of the Hub, sent as it stands
var errBadCursor = errors.New("Invalid cursor")

func decodeCursor(s string) (c cursor, err error) {
	outer, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return c, errBadCursor
	}
	inner, size, ok := strings.Cut(string(outer), ":")
	if _, err := strconv.Atoi(size); !ok || err != nil {
		return c, errBadCursor
	}
	b, err := base64.StdEncoding.DecodeString(inner)
	if err != nil || json.Unmarshal(b, &c) != nil || c.FileName == "" {
		return c, errBadCursor
	}
	return c, nil
}

// tree answers GET …/tree/{rev}/{path}. As on the real Hub the revision is
// resolved anew for each page.
func (f *front) tree(w http.ResponseWriter, r *http.Request, q *request) {
	commit, ok := at(w, q)
	if !ok {
		return
	}
	query := r.URL.Query()
	expand := boolean(query.Get("expand"))
	most := f.hub.opts.PageSize
	if expand {
		most = min(most, expandedPage)
	}
	limit, err := number(query, "limit", most, 1, most)
	if err != nil {
		refuse(w, http.StatusBadRequest, "", err.Error())
		return
	}
	recursive := boolean(query.Get("recursive"))
	entries, err := q.repo.list(commit, q.path, recursive)
	if err != nil {
		refuseErr(w, q, err)
		return
	}
	from := 0
	if s := query.Get("cursor"); s != "" {
		c, err := decodeCursor(s)
		if err != nil {
			refuse(w, http.StatusBadRequest, "", err.Error())
			return
		}
		from = after(entries, c.FileName)
	}
	to := min(from+limit, len(entries))
	page := entries[from:to]

	if to < len(entries) {
		last := page[len(page)-1]
		next := url.Values{"limit": {strconv.Itoa(limit)}, "cursor": {cursor{FileName: last.Path}.encode(limit)}}
		for _, k := range []string{"recursive", "expand"} {
			if v := query.Get(k); v != "" {
				next.Set(k, v)
			}
		}
		nextLink(w, r, q, next)
	}
	w.Header().Set("X-Repo-Commit", string(commit))
	f.writeEntries(w, q, commit, page, expand)
}

// after finds where a listing goes on behind a path. A path that is gone,
// because the branch has moved, leaves what sorts behind it by name.
func after(entries []hub.Entry, path string) int {
	// A listing may be of a million entries, and every page of it comes here.
	for _, dir := range [...]bool{false, true} {
		i, ok := slices.BinarySearchFunc(entries, path, func(e hub.Entry, path string) int {
			return walkOrder(e.Path, e.Type == hub.Directory, path, dir)
		})
		if ok {
			return i + 1
		}
	}
	if i := slices.IndexFunc(entries, func(e hub.Entry) bool { return e.Path > path }); i >= 0 {
		return i
	}
	return len(entries)
}

// walkOrder compares two paths as repo.list orders them: directories first,
// each followed by what is in it, then files; names as git sorts them.
func walkOrder(a string, aDir bool, b string, bDir bool) int {
	for {
		x, restA, inA := strings.Cut(a, "/")
		y, restB, inB := strings.Cut(b, "/")
		switch dx, dy := inA || aDir, inB || bDir; {
		case dx != dy && dx:
			return -1
		case dx != dy:
			return 1
		case x != y && dx:
			return strings.Compare(x+"/", y+"/")
		case x != y:
			return strings.Compare(x, y)
		case !inA && !inB:
			return 0
		case !inA:
			return -1
		case !inB:
			return 1
		}
		a, b = restA, restB
	}
}

func (f *front) writeEntries(w http.ResponseWriter, q *request, commit hub.CommitID, entries []hub.Entry, expand bool) {
	list := make([]treeLine, len(entries))
	var last map[string]commitInfo
	if expand {
		var err error
		if last, err = lastCommits(q.repo, commit, entries); err != nil {
			refuseErr(w, q, err)
			return
		}
	}
	for i, e := range entries {
		t := treeLine{OID: e.OID, Size: e.Size, Path: e.Path, Type: "file"}
		switch e.Type {
		case hub.Directory:
			t.Type, t.Size = "directory", 0
		case hub.Unknown:
			t.Type = "unknown"
		}
		if e.LFS() {
			t.LFS = &treeLFS{OID: e.SHA256, Size: e.Size, PointerSize: pointerSize(e.Size)}
			if f.hub.opts.Shapes.XetHeaders {
				t.XetHash = xetHash(e.SHA256)
			}
		}
		if expand {
			c := last[e.Path]
			t.LastCommit = dict{"id": c.ID, "title": c.Title, "date": date(c.Time)}
			if e.Type == hub.File {
				t.Security = dict{"status": "unscanned", "avScan": nil, "pickleImportScan": nil}
			}
		}
		list[i] = t
	}
	writeJSON(w, http.StatusOK, list)
}

type treeLine struct {
	Type       string   `json:"type"`
	OID        string   `json:"oid"`
	Size       int64    `json:"size"`
	Path       string   `json:"path"`
	LFS        *treeLFS `json:"lfs,omitempty"`
	XetHash    string   `json:"xetHash,omitempty"`
	LastCommit dict     `json:"lastCommit,omitempty"`
	Security   dict     `json:"securityFileStatus,omitempty"`
}

type treeLFS struct {
	OID         string `json:"oid"`
	Size        int64  `json:"size"`
	PointerSize int    `json:"pointerSize"`
}

// lastCommits finds for each entry the newest commit that changed it, along
// first parents.
func lastCommits(rp *repo, head hub.CommitID, entries []hub.Entry) (map[string]commitInfo, error) {
	last := make(map[string]commitInfo, len(entries))
	open := slices.Clone(entries)
	for c := head; len(open) > 0; {
		info, err := rp.commit(c)
		if err != nil {
			return nil, err
		}
		if len(info.Parents) == 0 {
			for _, e := range open {
				last[e.Path] = info
			}
			break
		}
		parent := info.Parents[0]
		same := open[:0]
		for _, e := range open {
			before, err := rp.entry(parent, e.Path)
			if err == nil && before.OID == e.OID {
				same = append(same, e)
			} else {
				last[e.Path] = info
			}
		}
		open, c = same, parent
	}
	return last, nil
}

// treeSize answers GET …/treesize/{rev}/{path}.
func (f *front) treeSize(w http.ResponseWriter, r *http.Request, q *request) {
	commit, ok := at(w, q)
	if !ok {
		return
	}
	entries, err := q.repo.list(commit, q.path, true)
	if err != nil {
		refuseErr(w, q, err)
		return
	}
	var size int64
	for _, e := range entries {
		if e.Type == hub.File {
			size += e.Size
		}
	}
	writeJSON(w, http.StatusOK, dict{"path": "/" + q.path, "size": size})
}
