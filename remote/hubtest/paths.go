package hubtest

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"hfmount/remote/hub"
)

// Limits of one paths-info (hub-protocol §3.5).
const (
	formPaths = 1000
	jsonPaths = 2000
	bodyLimit = 16 << 20 // bytes
)

// pathsInfo answers POST …/paths-info/{rev}. Missing paths are left out.
func (f *front) pathsInfo(w http.ResponseWriter, r *http.Request, q *request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, bodyLimit))
	if err != nil {
		refuse(w, http.StatusBadRequest, "", err.Error())
		return
	}
	var paths []string
	var expand bool
	limit := jsonPaths
	switch kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind {
	case "application/x-www-form-urlencoded":
		form, ferr := url.ParseQuery(string(body))
		paths, expand, err = all(form, "paths"), boolean(form.Get("expand")), ferr
		limit = formPaths
	default:
		paths, expand, err = decodePaths(body)
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, "", err.Error())
		return
	}
	if len(paths) > limit {
		refuse(w, http.StatusRequestEntityTooLarge, "", "too many parameters")
		return
	}
	commit, ok := at(w, q)
	if !ok {
		return
	}
	var found []hub.Entry
	for _, p := range paths {
		p = strings.Trim(p, "/")
		e, err := q.repo.entry(commit, p)
		if p == "" || errors.Is(err, hub.ErrEntryNotFound) {
			continue
		}
		if err != nil {
			refuseErr(w, q, err)
			return
		}
		found = append(found, e)
	}
	f.writeEntries(w, q, commit, found, expand)
}

// decodePaths reads {"paths": [...] or "...", "expand": bool}.
func decodePaths(body []byte) (paths []string, expand bool, err error) {
	var b struct {
		Paths  json.RawMessage `json:"paths"`
		Expand any             `json:"expand"`
	}
	if err := json.Unmarshal(body, &b); err != nil {
		return nil, false, err
	}
	switch v := b.Expand.(type) {
	case bool:
		expand = v
	case string:
		expand = boolean(v)
	}
	if json.Unmarshal(b.Paths, &paths) == nil {
		return paths, expand, nil
	}
	var one string
	if json.Unmarshal(b.Paths, &one) != nil {
		return nil, false, errors.New(`"paths" must be an array of strings`)
	}
	return []string{one}, expand, nil
}
