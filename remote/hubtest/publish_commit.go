package hubtest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/go-git/go-git/v5/plumbing/format/gitignore"

	"hfmount/remote/hub"
)

// maxPreupload is how many files one preupload may ask about.
const maxPreupload = 1000

// mayPropose answers 403 to an account that may neither write nor is about to
// open a pull request of its own.
func (h *Hub) mayPropose(w http.ResponseWriter, r *http.Request, q *request) bool {
	if q.writable || boolParam(r, "create_pr") || q.repo.ownsTalk(q.rev, q.account.Name) {
		return true
	}
	refuse(w, http.StatusForbidden, "", "You don't have write access to this repository: pass create_pr=1 as a query parameter to create a Pull Request.")
	return false
}

// servePreupload answers POST …/preupload/{rev} (hub-protocol §6.1).
func (h *Hub) servePreupload(w http.ResponseWriter, r *http.Request, q *request) {
	var b struct {
		Files []struct {
			Path   string
			Size   int64
			Sample []byte // base64
		}
		GitAttributes *string
		GitIgnore     *string
	}
	if !h.mayPropose(w, r, q) || !readJSON(w, r, &b) {
		return
	}
	if len(b.Files) > maxPreupload {
		refuse(w, http.StatusBadRequest, "", fmt.Sprintf(`"files" must contain at most %d items`, maxPreupload))
		return
	}
	tip, err := q.repo.resolveHash(q.rev)
	if err != nil {
		refuse(w, http.StatusNotFound, "RevisionNotFound", "Invalid rev id: "+q.rev)
		return
	}
	rules, err := q.repo.attributesAt(tip)
	if err == nil && b.GitAttributes != nil {
		rules = parseAttributes([]byte(*b.GitAttributes))
	}
	var ignore []byte
	if err == nil {
		ignore, err = q.repo.fileAt(tip, ".gitignore")
	}
	if err == nil && b.GitIgnore != nil {
		ignore = []byte(*b.GitIgnore)
	}
	if err != nil {
		h.answerError(w, r, err)
		return
	}
	type answer struct {
		Path         string `json:"path"`
		UploadMode   string `json:"uploadMode"`
		ShouldIgnore bool   `json:"shouldIgnore"`
		OID          string `json:"oid,omitempty"`
	}
	ignored := ignoreMatcher(ignore)
	answers := make([]answer, len(b.Files))
	id := hub.CommitID(tip.String())
	for i, f := range b.Files {
		if err := checkCommitPath(f.Path); err != nil || f.Size < 0 {
			refuse(w, http.StatusUnprocessableEntity, "", fmt.Sprintf("Invalid path: %q", f.Path))
			return
		}
		a := answer{Path: f.Path, UploadMode: "regular", ShouldIgnore: ignored(f.Path)}
		if rules.wantsLFS(f.Path, f.Size, f.Sample, h.opts.Shapes.LFSBytesThreshold) {
			a.UploadMode = "lfs"
		}
		if e, err := q.repo.entry(id, f.Path); err == nil && e.Type == hub.File {
			a.OID = e.Content().Hex
		}
		answers[i] = a
	}
	writeJSON(w, http.StatusOK, map[string]any{"commitOid": id, "files": answers})
}

// ignoreMatcher reads a .gitignore. A file below an ignored folder is ignored.
func ignoreMatcher(data []byte) func(path string) bool {
	var ps []gitignore.Pattern
	for line := range strings.Lines(string(data)) {
		line = strings.TrimRight(line, "\r\n")
		if strings.TrimSpace(line) != "" && line[0] != '#' {
			ps = append(ps, gitignore.ParsePattern(line, nil))
		}
	}
	m := gitignore.NewMatcher(ps)
	return func(path string) bool {
		names := strings.Split(path, "/")
		for i := 1; i < len(names); i++ {
			if m.Match(names[:i], true) {
				return true
			}
		}
		return m.Match(names, false)
	}
}

// commitHeader is the first line of a commit.
type commitHeader struct {
	Summary      string
	Description  string
	ParentCommit string
}

// commitLine is the value of any other line, and of the legacy arrays.
type commitLine struct {
	Path, OldPath string
	Content       *string
	Encoding      string
	Algo, OID     string
	Size          *int64
}

// serveCommit answers POST …/commit/{rev} (hub-protocol §6.4).
func (h *Hub) serveCommit(w http.ResponseWriter, r *http.Request, q *request) {
	if !h.mayPropose(w, r, q) {
		return
	}
	c, err := readCommit(r)
	if err != nil {
		h.answerError(w, r, err)
		return
	}
	if err := h.refuseBinaries(q.rev, c); err != nil {
		h.answerError(w, r, err)
		return
	}
	c.author = q.account.Name
	c.createPR = boolParam(r, "create_pr")
	res, err := q.repo.publish(q.rev, c)
	if err != nil {
		h.answerError(w, r, err)
		return
	}
	out := map[string]any{
		"success": true, "commitOid": res.id, "hookOutput": "",
		"commitUrl": repoURL(q, q.id) + "/commit/" + string(res.id),
	}
	if res.pr != nil {
		out["pullRequestUrl"] = fmt.Sprintf("%s/discussions/%d", repoURL(q, q.id), res.pr.Num)
	}
	writeJSON(w, http.StatusOK, out)
}

// refuseBinaries keeps out of git what preupload would have sent to LFS for
// its content: a client that does not do as it is told must not get away with
// it. A .gitattributes that changed since is no fault of the client's.
func (h *Hub) refuseBinaries(rev string, c *commitRequest) error {
	var found strings.Builder
	none := parseAttributes(nil)
	for _, op := range c.ops {
		if op.kind == opFile && len(op.data) <= maxRegular && none.wantsLFS(op.path, int64(len(op.data)), op.data, h.opts.Shapes.LFSBytesThreshold) {
			fmt.Fprintf(&found, " - %s (ref: refs/heads/%s)", op.path, rev)
		}
	}
	if found.Len() == 0 {
		return nil
	}
	return refusef(http.StatusBadRequest,
		"Your push was rejected because it contains binary files. Please use https://huggingface.co/docs/hub/xet to store binary files. Offending files:%s", found.String())
}

// readCommit reads either form of the body.
func readCommit(r *http.Request) (*commitRequest, error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err == nil && kind == "application/json" {
		return readLegacyCommit(r.Body)
	}
	c := &commitRequest{}
	count := &commitCount{}
	br := bufio.NewReaderSize(r.Body, 1<<20)
	for n := 0; ; n++ {
		line, err := br.ReadBytes('\n')
		if err != nil && err != io.EOF {
			return nil, refusef(http.StatusBadRequest, "Incomplete body: %v", err)
		}
		if len(bytes.TrimSpace(line)) == 0 {
			if err == io.EOF {
				break
			}
			n--
			continue
		}
		var l struct {
			Key   string
			Value json.RawMessage
		}
		if bad := json.Unmarshal(line, &l); bad != nil {
			return nil, refusef(http.StatusBadRequest, "Invalid JSON in line %d: %v", n+1, bad)
		}
		if (l.Key == "header") != (n == 0) {
			return nil, refusef(http.StatusBadRequest, "The header must be the first line and the only one")
		}
		if bad := c.line(l.Key, l.Value, count); bad != nil {
			return nil, bad
		}
		if err == io.EOF {
			break
		}
	}
	return c, nil
}

func (c *commitRequest) header(h commitHeader) error {
	c.title, c.message, c.parent = h.Summary, h.Description, h.ParentCommit
	if n := len(c.parent); c.parent != "" && (n < 5 || n > 40 || strings.Trim(strings.ToLower(c.parent), "0123456789abcdef") != "") {
		return refusef(http.StatusBadRequest, `"parentCommit" is not a commit id`)
	}
	return nil
}

// commitCount enforces the limits of one commit.
type commitCount struct {
	lfs   int
	bytes int64
}

func (c *commitRequest) line(key string, value json.RawMessage, count *commitCount) error {
	if key == "header" {
		var h commitHeader
		if err := json.Unmarshal(value, &h); err != nil {
			return refusef(http.StatusBadRequest, "Invalid header: %v", err)
		}
		return c.header(h)
	}
	var v commitLine
	if err := json.Unmarshal(value, &v); err != nil {
		return refusef(http.StatusBadRequest, "Invalid %s: %v", key, err)
	}
	return c.add(key, v, count)
}

func (c *commitRequest) add(key string, v commitLine, count *commitCount) error {
	op := commitOp{path: v.Path, from: v.OldPath}
	switch key {
	case "file":
		if v.Content == nil {
			if v.OldPath == "" {
				return refusef(http.StatusBadRequest, "%s has no content", v.Path)
			}
			op.kind = opRename
			break
		}
		data, err := decodeContent(*v.Content, v.Encoding)
		if err != nil {
			return err
		}
		if count.bytes += int64(len(data)); count.bytes > maxCommitSize {
			return refusef(http.StatusRequestEntityTooLarge, "Payload too large: regular files of one commit are limited to 1 GB")
		}
		op.data = data
	case "lfsFile":
		if v.Algo != "sha256" {
			return refusef(http.StatusBadRequest, `"algo" must be sha256`)
		}
		if count.lfs++; count.lfs > maxCommitLFS {
			return refusef(http.StatusRequestEntityTooLarge, "Too many LFS files in one commit: the limit is %d", maxCommitLFS)
		}
		op.kind, op.sha, op.size = opLFS, v.OID, -1
		if v.Size != nil {
			op.size = max(*v.Size, 0)
		}
	case "deletedFile", "deletedFolder", "deletedEntry":
		op.kind, op.from = opDelete, ""
		op.path = strings.TrimSuffix(op.path, "/")
	default:
		return refusef(http.StatusBadRequest, "Unknown key %q", key)
	}
	c.ops = append(c.ops, op)
	return nil
}

// readLegacyCommit reads the form that is one JSON object.
func readLegacyCommit(body io.Reader) (*commitRequest, error) {
	var b struct {
		commitHeader
		Files          []commitLine
		LFSFiles       []commitLine
		DeletedEntries []commitLine
	}
	if err := json.NewDecoder(body).Decode(&b); err != nil {
		return nil, refusef(http.StatusBadRequest, "Invalid JSON: %v", err)
	}
	c, count := &commitRequest{}, &commitCount{}
	err := c.header(b.commitHeader)
	for key, lines := range map[string][]commitLine{"file": b.Files, "lfsFile": b.LFSFiles, "deletedEntry": b.DeletedEntries} {
		for _, l := range lines {
			if key == "lfsFile" && l.Algo == "" {
				l.Algo = "sha256"
			}
			err = errors.Join(err, c.add(key, l, count))
		}
	}
	return c, err
}

// serveSquash answers POST …/super-squash/{rev}: the history of a branch
// becomes one commit (hub-protocol §7).
func (h *Hub) serveSquash(w http.ResponseWriter, r *http.Request, q *request) {
	var b struct{ Message string }
	if !readJSON(w, r, &b) {
		return
	}
	if len(b.Message) > 500 {
		refuse(w, http.StatusBadRequest, "", `"message" must be at most 500 characters`)
		return
	}
	if strings.TrimSpace(b.Message) == "" {
		b.Message = "Super-squash branch '" + q.rev + "' using huggingface_hub"
	}
	id, err := q.repo.squash(q.rev, b.Message, q.account.Name)
	if err != nil {
		h.answerError(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"commitId": id})
}

func (r *repo) squash(rev, message, author string) (hub.CommitID, error) {
	r.commitMu.Lock()
	defer r.commitMu.Unlock()
	ref, tip, err := r.target(rev, &commitRequest{})
	if err != nil || tip.IsZero() {
		if _, isTag := r.db.ref("refs/tags/" + rev); isTag {
			return "", refusef(http.StatusBadRequest, "Cannot squash a tag: %s", rev)
		}
		return "", refuseRevision(rev)
	}
	ci, err := r.readCommit(tip)
	if err != nil {
		return "", err
	}
	title, rest, _ := strings.Cut(strings.TrimSpace(message), "\n")
	c, err := r.newCommit(r.db.batch(), ref, ci.tree, nil, author, title, rest)
	return hub.CommitID(c.String()), err
}
