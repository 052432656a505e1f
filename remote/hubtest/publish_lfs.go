package hubtest

import (
	"cmp"
	"crypto/md5"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"hfmount/remote/hub"
)

const (
	maxBatch   = 1000
	maxLFSSize = 500 << 30 // hub-protocol §6.6
	// uploadLife is how long an upload that was begun is remembered.
	uploadLife = 24 * time.Hour
)

// upload is an LFS object that a client was told where to put.
type upload struct {
	repo  *repo
	by    string
	sha   string
	size  int64
	begun time.Time
	// part is the size of the pieces, 0 for one PUT of the whole.
	part int64

	mu    sync.Mutex // guards the rest; held while completing
	stage *staging
	etags map[int]string
	done  bool
}

// uploads remembers them by the name in their URLs.
type uploads struct {
	mu sync.Mutex
	m  map[string]*upload
}

func (u *uploads) add(up *upload) string {
	var b [12]byte
	rand.Read(b[:])
	name := hex.EncodeToString(b[:])
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.m == nil {
		u.m = map[string]*upload{}
	}
	for n, old := range u.m {
		if up.begun.Sub(old.begun) > uploadLife && old.mu.TryLock() {
			old.end()
			old.mu.Unlock()
			delete(u.m, n)
		}
	}
	u.m[name] = up
	return name
}

func (u *uploads) get(name string) (*upload, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	up, ok := u.m[name]
	return up, ok
}

// end drops what was staged. The caller holds mu.
func (up *upload) end() {
	if up.stage != nil {
		up.stage.drop()
		up.stage = nil
	}
}

func (up *upload) parts() int { return int((up.size + up.part - 1) / up.part) }

type lfsObject struct {
	OID           string         `json:"oid"`
	Size          int64          `json:"size"`
	Authenticated bool           `json:"authenticated,omitempty"`
	Actions       map[string]any `json:"actions,omitempty"`
	Error         *lfsError      `json:"error,omitempty"`
}

type lfsError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

type lfsAction struct {
	Href   string            `json:"href"`
	Header map[string]string `json:"header,omitempty"`
}

func writeLFS(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/vnd.git-lfs+json; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(status)
	w.Write(b)
}

// serveLFSBatch answers POST …/info/lfs/objects/batch (hub-protocol §6.2).
func (h *Hub) serveLFSBatch(w http.ResponseWriter, r *http.Request, q *request) {
	var b struct {
		Operation string
		Transfers []string
		Objects   []lfsObject
	}
	if !readJSON(w, r, &b) {
		return
	}
	if b.Operation != "upload" && b.Operation != "download" || len(b.Objects) > maxBatch {
		refuse(w, http.StatusUnprocessableEntity, "", "Invalid LFS batch request")
		return
	}
	multipart := slices.Contains(b.Transfers, "multipart")
	transfer := "basic"
	out := make([]lfsObject, len(b.Objects))
	for i, o := range b.Objects {
		out[i] = lfsObject{OID: o.OID, Size: o.Size}
		held, ok := q.repo.heldLFS(o.OID)
		switch {
		case !isSHA256(o.OID), o.Size < 0, o.Size > maxLFSSize:
			out[i].Error = &lfsError{http.StatusUnprocessableEntity, "Invalid object: a sha256 and a size up to 500 GB are needed"}
		case ok && held != o.Size:
			out[i].Error = &lfsError{http.StatusUnprocessableEntity, fmt.Sprintf("Object %s has size %d", o.OID, held)}
		case b.Operation == "download" && !ok:
			out[i].Error = &lfsError{http.StatusNotFound, "Object not found"}
		case b.Operation == "download":
			href := q.cdn + "/xet-bridge-us/" + q.repo.meta().ObjectID + "/" + o.OID
			out[i].Authenticated = true
			out[i].Actions = map[string]any{"download": lfsAction{Href: q.sign(href)}}
		case !ok:
			up := &upload{repo: q.repo, by: q.account.Name, sha: o.OID, size: o.Size, begun: h.store.now()}
			if multipart && o.Size > h.front.multipart.Load() {
				up.part, up.etags = h.front.partSize.Load(), map[int]string{}
				transfer = "multipart"
			}
			out[i].Authenticated = true
			out[i].Actions = h.uploadActions(q, up)
		}
	}
	writeLFS(w, http.StatusOK, map[string]any{"transfer": transfer, "objects": out})
}

func (h *Hub) uploadActions(q *request, up *upload) map[string]any {
	name := h.store.uploads.add(up)
	put := func(part int) string {
		return q.sign(fmt.Sprintf("%s/lfs-upload/%s/%d?X-Amz-Algorithm=AWS4-HMAC-SHA256&partNumber=%d", q.cdn, name, part, part))
	}
	act := lfsAction{Href: put(1)}
	if up.part > 0 {
		act.Href = q.sign(q.hub + "/api/complete_multipart?uploadId=" + url.QueryEscape(name) + "&bucket=hub&prefix=lfs")
		act.Header = map[string]string{"chunk_size": strconv.FormatInt(up.part, 10)}
		for n := range up.parts() {
			act.Header[strconv.Itoa(n+1)] = put(n + 1)
		}
	}
	return map[string]any{
		"upload": act,
		"verify": lfsAction{Href: repoURL(q, q.id) + ".git/info/lfs/objects/verify"},
	}
}

// storageError answers as an object store does.
func storageError(w http.ResponseWriter, status int, code, text string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>%s</Code><Message>%s</Message></Error>", code, text)
}

// serveLFSPut takes the bytes of an object or of a part, on the CDN's origin.
func (h *Hub) serveLFSPut(w http.ResponseWriter, r *http.Request, q *request) {
	up, ok := h.store.uploads.get(q.vars["upload"])
	if !ok {
		storageError(w, http.StatusNotFound, "NoSuchUpload", "The specified upload does not exist.")
		return
	}
	if up.size == 0 {
		storageError(w, http.StatusNotImplemented, "NotImplemented", "A header you provided implies functionality that is not implemented.")
		return
	}
	part, err := strconv.Atoi(q.vars["part"])
	if err != nil || part < 1 || up.part == 0 && part != 1 || up.part > 0 && part > up.parts() {
		storageError(w, http.StatusBadRequest, "InvalidArgument", "Part number is out of range.")
		return
	}
	want, at := up.size, int64(0)
	if up.part > 0 {
		at = int64(part-1) * up.part
		want = min(up.part, up.size-at)
	}
	switch {
	case r.ContentLength < 0:
		storageError(w, http.StatusLengthRequired, "MissingContentLength", "You must provide the Content-Length HTTP header.")
		return
	case r.ContentLength != want:
		storageError(w, http.StatusBadRequest, "IncompleteBody", fmt.Sprintf("Expected %d bytes, announced %d.", want, r.ContentLength))
		return
	}
	var etag string
	if up.part > 0 {
		etag, err = up.takePart(h.store.lfs, part, r.Body, at, want)
	} else {
		etag, err = up.takeWhole(h.store.lfs, r.Body)
	}
	var no *refusal
	switch {
	case errors.As(err, &no):
		storageError(w, no.status, no.code, no.text)
	case err != nil:
		h.opts.Logger.Error("take upload", "sha256", up.sha, "err", err)
		storageError(w, http.StatusInternalServerError, "InternalError", "We encountered an internal error. Please try again.")
	default:
		w.Header().Set("ETag", etag)
		w.WriteHeader(http.StatusOK)
	}
}

var errBadDigest = &refusal{http.StatusBadRequest, "BadDigest", "The content does not have the announced sha256 and size."}

func (up *upload) takeWhole(l *lfsStore, body io.Reader) (etag string, err error) {
	st, err := l.stage()
	if err != nil {
		return "", err
	}
	sum := md5.New()
	sha, n, err := st.copyHashed(io.TeeReader(body, sum))
	if err != nil || sha != up.sha || n != up.size {
		st.drop()
		if err != nil {
			return "", &refusal{http.StatusBadRequest, "IncompleteBody", "The body ended early."}
		}
		return "", errBadDigest
	}
	return fmt.Sprintf("%q", hex.EncodeToString(sum.Sum(nil))), up.keep(st)
}

// keep files a checked object, unless it is there already.
func (up *upload) keep(st *staging) error {
	if _, _, ok := st.l.object(up.sha); ok {
		st.drop()
	} else if err := st.keep(up.sha); err != nil {
		return err
	}
	return up.repo.holdLFS(up.by, map[string]int64{up.sha: up.size})
}

func (up *upload) takePart(l *lfsStore, part int, body io.Reader, at, want int64) (etag string, err error) {
	up.mu.Lock()
	if up.stage == nil && !up.done {
		up.stage, err = l.stage()
	}
	st := up.stage
	delete(up.etags, part)
	up.mu.Unlock()
	if err != nil {
		return "", err
	}
	if st == nil {
		return "", &refusal{http.StatusNotFound, "NoSuchUpload", "The specified upload does not exist."}
	}
	sum := md5.New()
	n, err := io.CopyBuffer(struct{ io.Writer }{io.NewOffsetWriter(st, at)},
		io.TeeReader(io.LimitReader(body, want), sum), make([]byte, copyBuffer))
	if err != nil || n != want {
		return "", &refusal{http.StatusBadRequest, "IncompleteBody", "The body ended early."}
	}
	etag = fmt.Sprintf("%q", hex.EncodeToString(sum.Sum(nil)))
	up.mu.Lock()
	defer up.mu.Unlock()
	up.etags[part] = etag
	return etag, nil
}

// serveLFSComplete puts the parts of an object together.
func (h *Hub) serveLFSComplete(w http.ResponseWriter, r *http.Request, q *request) {
	var b struct {
		OID   string
		Parts []struct {
			PartNumber int
			ETag       string
		}
	}
	up, ok := h.store.uploads.get(r.URL.Query().Get("uploadId"))
	if !ok || up.part == 0 {
		refuse(w, http.StatusNotFound, "", "The specified upload does not exist.")
		return
	}
	if !readJSON(w, r, &b) {
		return
	}
	up.mu.Lock()
	defer up.mu.Unlock()
	if up.done { // asked again because the answer was lost
		writeJSON(w, http.StatusOK, map[string]any{"success": true})
		return
	}
	good := b.OID == up.sha && len(b.Parts) == up.parts() && up.stage != nil
	for i, p := range b.Parts {
		good = good && p.PartNumber == i+1 && p.ETag != "" && up.etags[p.PartNumber] == p.ETag
	}
	if !good {
		refuse(w, http.StatusBadRequest, "", "One or more of the specified parts could not be found, or their ETags do not match.")
		return
	}
	sha, err := up.stage.sum()
	if err == nil && (sha != up.sha || up.stage.size != up.size) {
		up.end()
		up.etags = map[int]string{}
		refuse(w, http.StatusBadRequest, "", errBadDigest.text)
		return
	}
	if err == nil {
		err = up.keep(up.stage)
	}
	if err != nil {
		h.answerError(w, r, err)
		return
	}
	up.done, up.stage = true, nil
	writeJSON(w, http.StatusOK, map[string]any{"success": true})
}

// serveLFSVerify answers POST …/info/lfs/objects/verify.
func (h *Hub) serveLFSVerify(w http.ResponseWriter, r *http.Request, q *request) {
	var b struct {
		OID  string
		Size int64
	}
	if !readJSON(w, r, &b) {
		return
	}
	size, ok := q.repo.heldLFS(b.OID)
	switch {
	case !ok:
		writeLFS(w, http.StatusNotFound, map[string]string{"message": "Object not found"})
	case size != b.Size:
		writeLFS(w, http.StatusUnprocessableEntity, map[string]string{"message": "Size mismatch"})
	default:
		writeLFS(w, http.StatusOK, struct{}{})
	}
}

// serveNoXet tells clients that there is no CAS here (hub-protocol §15.5).
func (h *Hub) serveNoXet(w http.ResponseWriter, r *http.Request, q *request) {
	refuse(w, http.StatusNotFound, "", "Xet is not available: set HF_HUB_DISABLE_XET=1")
}

// serveLFSFiles lists the LFS objects of a repository, newest first.
func (h *Hub) serveLFSFiles(w http.ResponseWriter, r *http.Request, q *request) {
	names, err := q.repo.lfsNames()
	if err != nil {
		h.answerError(w, r, err)
		return
	}
	type file struct {
		FileOID  string         `json:"fileOid"`
		OID      string         `json:"oid"`
		Filename string         `json:"filename"`
		Ref      string         `json:"ref,omitempty"`
		PushedAt string         `json:"pushedAt"`
		Pusher   map[string]any `json:"pusher"`
		Size     int64          `json:"size"`
	}
	out := []file{}
	q.repo.lfsMu.Lock()
	for sha, rec := range q.repo.lfs {
		n := names[sha]
		out = append(out, file{sha, sha, n.path, n.ref, date(rec.pushed), map[string]any{"name": rec.by}, rec.size})
	}
	q.repo.lfsMu.Unlock()
	slices.SortFunc(out, func(a, b file) int {
		return cmp.Or(cmp.Compare(b.PushedAt, a.PushedAt), cmp.Compare(a.FileOID, b.FileOID))
	})
	writeJSON(w, http.StatusOK, out)
}

type lfsName struct{ path, ref string }

// lfsNames finds a path, and the reference it is on, for the LFS objects that
// the tip of some reference uses.
func (r *repo) lfsNames() (map[string]lfsName, error) {
	names := map[string]lfsName{}
	refs, err := r.refs()
	if err != nil {
		return nil, err
	}
	for _, g := range refs {
		es, err := r.list(g.Commit, "", true)
		if err != nil {
			return nil, err
		}
		for _, e := range es {
			if _, ok := names[e.SHA256]; e.LFS() && !ok {
				names[e.SHA256] = lfsName{e.Path, g.Name}
			}
		}
	}
	return names, nil
}

// serveLFSDuplicate lets another repository use objects of this one.
func (h *Hub) serveLFSDuplicate(w http.ResponseWriter, r *http.Request, q *request) {
	var b struct {
		Target struct{ Type, Name string }
		Files  []struct{ SHA256, Filename string }
	}
	if !readJSON(w, r, &b) {
		return
	}
	target, err := parseRepo(b.Target.Name)
	t, ok := repoType(b.Target.Type)
	target.Type = t
	if err != nil || !ok {
		refuse(w, http.StatusBadRequest, "", "Invalid target")
		return
	}
	if !h.mayAdminister(w, q, target) {
		return
	}
	to, _ := h.store.repo(target)
	type failure struct {
		SHA256 string `json:"sha256"`
		Error  string `json:"error"`
	}
	failed, held := []failure{}, map[string]int64{}
	for _, f := range b.Files {
		if size, ok := q.repo.heldLFS(f.SHA256); ok {
			held[f.SHA256] = size
		} else {
			failed = append(failed, failure{f.SHA256, "not found in " + q.id.String()})
		}
	}
	if to == nil {
		err = hub.ErrRepoNotFound
	} else {
		err = to.holdLFS(q.account.Name, held)
	}
	if err != nil {
		h.answerError(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"failed": failed})
}
