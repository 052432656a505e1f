package hubtest

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"hfmount/remote/hub"
)

// publishRoutes is the table of everything that changes the Hub.
func (h *Hub) publishRoutes() []route {
	const repoAPI = "/api/{type}/{id}"
	api := func(name, method, pattern string, a access, f handler) route {
		return route{name: name, method: method, pattern: pattern, quota: "api", access: a, h: f}
	}
	return []route{
		api("repo-create", "POST", "/api/repos/create", accessAccount, h.serveCreate),
		api("repo-delete", "DELETE", "/api/repos/delete", accessAccount, h.serveDelete),
		api("repo-move", "POST", "/api/repos/move", accessAccount, h.serveMove),
		api("repo-settings", "PUT", repoAPI+"/settings", accessWrite, h.serveSettings),
		api("access-grant", "POST", repoAPI+"/user-access-request/grant", accessWrite, h.serveGrant),
		api("access-handle", "POST", repoAPI+"/user-access-request/handle", accessWrite, h.serveGrant),
		api("validate-yaml", "POST", "/api/validate-yaml", accessOpen, h.serveValidateYAML),

		api("preupload", "POST", repoAPI+"/preupload/{rev}", accessPropose, h.servePreupload),
		api("commit", "POST", repoAPI+"/commit/{rev}", accessPropose, h.serveCommit),
		api("branch-create", "POST", repoAPI+"/branch/{branch}", accessWrite, h.serveBranchCreate),
		api("branch-delete", "DELETE", repoAPI+"/branch/{branch}", accessWrite, h.serveBranchDelete),
		api("tag-create", "POST", repoAPI+"/tag/{rev}", accessWrite, h.serveTagCreate),
		api("tag-delete", "DELETE", repoAPI+"/tag/{tag}", accessWrite, h.serveTagDelete),
		api("super-squash", "POST", repoAPI+"/super-squash/{rev}", accessWrite, h.serveSquash),

		api("lfs-batch", "POST", "/{prefix}{id}.git/info/lfs/objects/batch", accessPropose, h.serveLFSBatch),
		api("lfs-verify", "POST", "/{prefix}{id}.git/info/lfs/objects/verify", accessPropose, h.serveLFSVerify),
		api("lfs-complete", "POST", "/api/complete_multipart", accessSigned, h.serveLFSComplete),
		{name: "lfs-put", method: "PUT", pattern: "/lfs-upload/{upload}/{part}", cdn: true, quota: "cdn",
			access: accessSigned, h: h.serveLFSPut},
		api("lfs-files", "GET", repoAPI+"/lfs-files", accessWrite, h.serveLFSFiles),
		api("lfs-duplicate", "POST", repoAPI+"/lfs-files/duplicate", accessPropose, h.serveLFSDuplicate),
		api("xet-write-token", "GET", repoAPI+"/xet-write-token/{rev}", accessPropose, h.serveNoXet),

		api("discussions", "GET", repoAPI+"/discussions", accessRead, h.serveTalks),
		api("discussion-create", "POST", repoAPI+"/discussions", accessPropose, h.serveTalkCreate),
		api("discussion", "GET", repoAPI+"/discussions/{num}", accessRead, h.serveTalk),
		api("discussion-comment", "POST", repoAPI+"/discussions/{num}/comment", accessPropose, h.serveTalkComment),
		api("discussion-status", "POST", repoAPI+"/discussions/{num}/status", accessPropose, h.serveTalkStatus),
		api("discussion-title", "POST", repoAPI+"/discussions/{num}/title", accessPropose, h.serveTalkTitle),
		api("discussion-merge", "POST", repoAPI+"/discussions/{num}/merge", accessWrite, h.serveTalkMerge),
		api("discussion-ref", "DELETE", repoAPI+"/discussions/{num}/ref", accessWrite, h.serveTalkRefDelete),
	}
}

// maxBody bounds the bodies that are read whole: everything but a commit.
const maxBody = 64 << 20

// readJSON reads a body, or answers 400 and returns false.
func readJSON(w http.ResponseWriter, r *http.Request, v any) bool {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err == nil && len(b) == 0 {
		b = []byte("{}")
	}
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, "", "Invalid JSON: "+err.Error())
		return false
	}
	return true
}

// answerError turns an error of the store into an answer.
func (h *Hub) answerError(w http.ResponseWriter, r *http.Request, err error) {
	var no *refusal
	switch {
	case errors.As(err, &no):
		refuse(w, no.status, no.code, no.text)
	case errors.Is(err, hub.ErrRepoNotFound):
		refuse(w, http.StatusNotFound, "RepoNotFound", "Repository not found")
	case errors.Is(err, hub.ErrEntryNotFound):
		refuse(w, http.StatusNotFound, "EntryNotFound", "Entry not found")
	case errors.Is(err, errBadID):
		refuse(w, http.StatusBadRequest, "", err.Error())
	default:
		h.opts.Logger.Error("request failed", "method", r.Method, "path", r.URL.Path, "err", err)
		refuse(w, http.StatusInternalServerError, "", "Internal Error - We're working hard to fix this as soon as possible!")
	}
}

// boolParam reads a query boolean in any of the spellings clients use
// (hub-protocol §2.4).
func boolParam(r *http.Request, name string) bool {
	switch r.URL.Query().Get(name) {
	case "1", "true", "True":
		return true
	}
	return false
}

// repoType reads a type as bodies have it; an omitted one is a model.
func repoType(s string) (hub.RepoType, bool) {
	for _, t := range [...]hub.RepoType{hub.Model, hub.Dataset, hub.Space} {
		if s == t.String() {
			return t, true
		}
	}
	return hub.Model, s == ""
}
