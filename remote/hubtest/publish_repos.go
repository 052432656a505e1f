package hubtest

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"hfmount/remote/hub"
)

// createBody is the body of create and, in part, of delete (hub-protocol §7).
type createBody struct {
	Name         string
	Organization *string
	Type         string
	Visibility   string
	Private      *bool
	SDK          string
	License      string
	EmptyRepo    bool
	Files        []struct{ Path, Content, Encoding string }
}

// id is the repository a body names; without an organization it is the account's.
func (b *createBody) id(w http.ResponseWriter, q *request) (hub.Repo, bool) {
	t, ok := repoType(b.Type)
	if !ok {
		refuse(w, http.StatusBadRequest, "", fmt.Sprintf("Invalid repo type %q", b.Type))
		return hub.Repo{}, false
	}
	id := hub.Repo{Type: t, Namespace: q.account.Name, Name: b.Name}
	if ns, name, ok := strings.Cut(b.Name, "/"); ok {
		id.Namespace, id.Name = ns, name
	} else if b.Organization != nil && *b.Organization != "" {
		id.Namespace = *b.Organization
	}
	if err := hub.CheckRepo(id); err != nil {
		refuse(w, http.StatusBadRequest, "", "Invalid repo name: "+err.Error())
		return id, false
	}
	return id, true
}

func repoURL(q *request, id hub.Repo) string { return q.hub + "/" + id.String() }

// serveCreate answers POST /api/repos/create.
func (h *Hub) serveCreate(w http.ResponseWriter, r *http.Request, q *request) {
	var b createBody
	if !readJSON(w, r, &b) {
		return
	}
	id, ok := b.id(w, q)
	if !ok {
		return
	}
	if !q.mayWrite(id.Namespace) {
		refuse(w, http.StatusForbidden, "", fmt.Sprintf("You don't have the rights to create a %s under the namespace %q", id.Type, id.Namespace))
		return
	}
	o := RepoOptions{Private: b.Visibility == "private" || b.Private != nil && *b.Private}
	files, err := b.initialFiles(id)
	if err != nil {
		h.answerError(w, r, err)
		return
	}
	rp, err := h.createRepo(id, o, q.account.Name, files)
	if errors.Is(err, errRepoExists) {
		text := fmt.Sprintf("You already created this %s repo", id.Type)
		w.Header().Set("X-Error-Message", text)
		writeJSON(w, http.StatusConflict, map[string]string{"error": text, "url": repoURL(q, id)})
		return
	}
	if err != nil {
		h.answerError(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{
		"url": repoURL(q, id), "name": id.ID(), "id": rp.meta().ObjectID,
	})
}

// initialFiles are those of the initial commit besides .gitattributes.
func (b *createBody) initialFiles(id hub.Repo) (map[string][]byte, error) {
	files := map[string][]byte{}
	switch {
	case id.Type == hub.Space:
		sdk := b.SDK
		if sdk == "" {
			sdk = "static"
		}
		files["README.md"] = fmt.Appendf(nil, "---\ntitle: %s\nsdk: %s\npinned: false\n---\n", id.Name, sdk)
	case b.License != "":
		files["README.md"] = fmt.Appendf(nil, "---\nlicense: %s\n---\n", b.License)
	}
	for _, f := range b.Files {
		data, err := decodeContent(f.Content, f.Encoding)
		if err != nil {
			return nil, err
		}
		files[f.Path] = data
	}
	return files, nil
}

func decodeContent(content, encoding string) ([]byte, error) {
	switch encoding {
	case "base64":
		data, err := base64.StdEncoding.DecodeString(content)
		if err != nil {
			return nil, refusef(http.StatusBadRequest, "Invalid base64 content: %v", err)
		}
		return data, nil
	case "", "utf-8", "utf8":
		return []byte(content), nil
	}
	return nil, refusef(http.StatusBadRequest, "Invalid encoding %q", encoding)
}

// serveDelete answers DELETE /api/repos/delete.
func (h *Hub) serveDelete(w http.ResponseWriter, r *http.Request, q *request) {
	var b createBody
	if !readJSON(w, r, &b) {
		return
	}
	id, ok := b.id(w, q)
	if !ok || !h.mayAdminister(w, q, id) {
		return
	}
	if err := h.store.delete(id); err != nil {
		h.answerError(w, r, err)
		return
	}
	writeText(w, "OK")
}

// mayAdminister answers 404 or 403 for what the account may not see or change.
func (h *Hub) mayAdminister(w http.ResponseWriter, q *request, id hub.Repo) bool {
	rp, ok := h.store.repo(id)
	switch {
	case !ok, !q.mayWrite(id.Namespace) && rp.meta().Private:
		refuse(w, http.StatusNotFound, "RepoNotFound", "Repository not found")
	case !q.mayWrite(id.Namespace):
		refuse(w, http.StatusForbidden, "", "You have read access but not the required permissions for this operation")
	default:
		return true
	}
	return false
}

func writeText(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusOK)
	w.Write([]byte(text))
}

// serveMove answers POST /api/repos/move.
func (h *Hub) serveMove(w http.ResponseWriter, r *http.Request, q *request) {
	var b struct{ FromRepo, ToRepo, Type string }
	if !readJSON(w, r, &b) {
		return
	}
	t, ok := repoType(b.Type)
	fromNS, fromName, ok1 := strings.Cut(b.FromRepo, "/")
	toNS, toName, ok2 := strings.Cut(b.ToRepo, "/")
	if !ok || !ok1 || !ok2 {
		refuse(w, http.StatusBadRequest, "", "Invalid repo name or type")
		return
	}
	from := hub.Repo{Type: t, Namespace: fromNS, Name: fromName}
	to := hub.Repo{Type: t, Namespace: toNS, Name: toName}
	if !h.mayAdminister(w, q, from) {
		return
	}
	if !q.mayWrite(toNS) {
		refuse(w, http.StatusForbidden, "", fmt.Sprintf("You don't have the rights to create a %s under the namespace %q", t, toNS))
		return
	}
	err := h.store.move(from, to)
	switch {
	case errors.Is(err, errRepoExists):
		refuse(w, http.StatusConflict, "", fmt.Sprintf("%s already exists", to))
	case err != nil:
		h.answerError(w, r, err)
	default:
		writeText(w, "OK")
	}
}

// serveSettings answers PUT …/settings.
func (h *Hub) serveSettings(w http.ResponseWriter, r *http.Request, q *request) {
	var b struct {
		Private    *bool
		Visibility string
		Gated      json.RawMessage
	}
	if !readJSON(w, r, &b) {
		return
	}
	m := q.repo.meta()
	private, gated := m.Private, m.Gated
	switch b.Visibility {
	case "":
		if b.Private != nil {
			private = *b.Private
		}
	case "private", "public":
		private = b.Visibility == "private"
	default:
		refuse(w, http.StatusBadRequest, "", fmt.Sprintf("Invalid visibility %q", b.Visibility))
		return
	}
	switch string(b.Gated) {
	case "":
	case "false":
		gated = ""
	case `"auto"`, `"manual"`:
		gated = strings.Trim(string(b.Gated), `"`)
	default:
		refuse(w, http.StatusBadRequest, "", `"gated" must be one of [false, auto, manual]`)
		return
	}
	err := h.store.update(q.repo, func(m *repoMeta) { m.Private, m.Gated = private, gated })
	if err != nil {
		h.answerError(w, r, err)
		return
	}
	out := map[string]any{"private": private, "gated": gated}
	if gated == "" {
		out["gated"] = false
	}
	writeJSON(w, http.StatusOK, out)
}

// serveGrant answers the two calls by which an owner of a gated repository
// lets an account in, or puts it out again.
func (h *Hub) serveGrant(w http.ResponseWriter, r *http.Request, q *request) {
	var b struct{ User, Status string }
	if !readJSON(w, r, &b) {
		return
	}
	if b.User == "" {
		refuse(w, http.StatusBadRequest, "", `"user" is required`)
		return
	}
	if q.repo.meta().Gated == "" {
		refuse(w, http.StatusBadRequest, "", "This repository is not gated")
		return
	}
	err := h.store.update(q.repo, func(m *repoMeta) {
		if b.Status == "" || b.Status == "accepted" {
			m.Approved[b.User] = true
		} else {
			delete(m.Approved, b.User)
		}
	})
	if err != nil {
		h.answerError(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, struct{}{})
}
