package hubtest

import (
	"cmp"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"

	"hfmount/remote/hub"
)

// listRepos answers GET /api/models, /api/datasets and /api/spaces. Private
// repositories are listed to those who can see them.
func (f *front) listRepos(w http.ResponseWriter, r *http.Request, q *request) {
	query := r.URL.Query()
	t := q.id.Type
	props := all(query, "expand")
	if text := badExpand(t, props); text != "" {
		refuse(w, http.StatusBadRequest, "", text)
		return
	}
	limit, err := number(query, "limit", f.hub.opts.PageSize, 1, f.hub.opts.PageSize)
	if err != nil {
		refuse(w, http.StatusBadRequest, "", err.Error())
		return
	}
	author, search := query.Get("author"), strings.ToLower(query.Get("search"))
	var found []*repo
	for _, rp := range f.hub.store.repos(t) {
		m := rp.meta()
		if (author == "" || strings.EqualFold(author, m.ID.Namespace)) &&
			(search == "" || strings.Contains(strings.ToLower(m.ID.ID()), search)) &&
			(query.Get("gated") == "" || boolean(query.Get("gated")) == (m.Gated != "")) &&
			f.visible(q.account, m) {
			found = append(found, rp)
		}
	}
	sortRepos(found, query.Get("sort"), query.Get("direction"))

	from := 0
	if s := query.Get("cursor"); s != "" {
		last, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			refuse(w, http.StatusBadRequest, "", "Invalid cursor")
			return
		}
		from = 1 + slices.IndexFunc(found, func(rp *repo) bool { return rp.meta().ID.ID() == string(last) })
		if from == 0 {
			// The last repository of the page before is gone: begin behind its name.
			from = len(found)
			if i := slices.IndexFunc(found, func(rp *repo) bool { return rp.meta().ID.ID() > string(last) }); i >= 0 {
				from = i
			}
		}
	}
	to := min(from+limit, len(found))
	full := boolean(query.Get("full"))
	if len(props) == 0 && !full {
		props = []string{"createdAt", "downloads", "gated", "lastModified", "likes", "private", "tags", "author"}
		if t == hub.Space {
			props = []string{"createdAt", "lastModified", "likes", "private", "sdk", "tags", "author"}
		}
	}
	list := []dict{}
	for _, rp := range found[from:to] {
		commit, err := rp.resolve(hub.DefaultRevision)
		if err != nil {
			commit = ""
		}
		o, err := f.describe(rp, commit, props, full, false)
		if err != nil {
			refuseErr(w, q, err)
			return
		}
		if t == hub.Model {
			o["modelId"] = o["id"]
		}
		list = append(list, o)
	}
	if to < len(found) {
		query.Set("cursor", base64.StdEncoding.EncodeToString([]byte(found[to-1].meta().ID.ID())))
		nextLink(w, r, q, query)
	}
	writeJSON(w, http.StatusOK, list)
}

// sortRepos orders a listing; the store gives them by id. The Hub sorts the
// newest and largest first, which is all direction=-1 says.
func sortRepos(rs []*repo, by, direction string) {
	var key func(repoMeta) int64
	switch by {
	case "lastModified", "last_modified":
		key = func(m repoMeta) int64 { return m.Updated.UnixNano() }
	case "createdAt", "created_at":
		key = func(m repoMeta) int64 { return m.Created.UnixNano() }
	default:
		return
	}
	slices.SortStableFunc(rs, func(a, b *repo) int {
		c := cmp.Compare(key(b.meta()), key(a.meta()))
		if direction == "1" {
			return -c
		}
		return c
	})
}
