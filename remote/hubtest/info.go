package hubtest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"hfmount/remote/hub"
)

// dict is a JSON object.
type dict = map[string]any

var commonExpand = []string{
	"author", "cardData", "createdAt", "disabled", "lastModified", "likes", "private", "resourceGroup",
	"sha", "siblings", "tags", "trendingScore", "usedStorage",
}

// expandable are the properties ?expand= knows, by type (hub-protocol §3.1).
var expandable = map[hub.RepoType][]string{
	hub.Model: sorted(commonExpand, "downloads", "downloadsAllTime", "gated", "baseModels", "childrenModelCount", "config",
		"evalResults", "gguf", "inference", "inferenceProviderMapping", "library_name", "mask_token", "model-index",
		"pipeline_tag", "safetensors", "spaces", "transformersInfo", "widgetData"),
	hub.Dataset: sorted(commonExpand, "downloads", "downloadsAllTime", "gated", "citation", "description", "mainSize", "paperswithcode_id"),
	hub.Space:   sorted(commonExpand, "datasets", "models", "region", "runtime", "sdk", "subdomain"),
}

func sorted(a []string, more ...string) []string {
	all := append(slices.Clone(a), more...)
	slices.Sort(all)
	return all
}

// badExpand says what is wrong with a list of properties, or "".
func badExpand(t hub.RepoType, props []string) string {
	for _, p := range props {
		if !slices.Contains(expandable[t], p) {
			return `"expand" must be one of [` + strings.Join(expandable[t], ", ") + "]"
		}
	}
	return ""
}

// info answers GET /api/models/ns/name[/revision/rev].
func (f *front) info(w http.ResponseWriter, r *http.Request, q *request) {
	query := r.URL.Query()
	props := all(query, "expand")
	if text := badExpand(q.repo.meta().ID.Type, props); text != "" {
		refuse(w, http.StatusBadRequest, "", text)
		return
	}
	commit, err := q.repo.resolve(defaultRev(q.rev))
	if err != nil && q.rev != "" {
		refuseErr(w, q, err)
		return // a repository with no commit has info, without a sha
	}
	body, err := f.describe(q.repo, commit, props, len(props) == 0, boolean(query.Get("blobs")))
	if err != nil {
		refuseErr(w, q, err)
		return
	}
	if commit != "" {
		w.Header().Set("X-Repo-Commit", string(commit))
	}
	writeJSON(w, http.StatusOK, body)
}

func defaultRev(rev string) string {
	if rev == "" {
		return hub.DefaultRevision
	}
	return rev
}

// describe builds a repo info: _id, id and the properties asked for, or the
// usual ones. Files are listed only if the answer needs them.
func (f *front) describe(rp *repo, commit hub.CommitID, props []string, siblings, blobs bool) (dict, error) {
	m := rp.meta()
	full := props == nil
	if full {
		props = []string{"author", "createdAt", "disabled", "lastModified", "likes", "private", "sha", "tags"}
		switch m.ID.Type {
		case hub.Model:
			props = append(props, "downloads", "gated", "spaces")
		case hub.Dataset:
			props = append(props, "downloads", "gated")
		case hub.Space:
			props = append(props, "models", "datasets")
		}
		if siblings {
			props = append(props, "siblings", "usedStorage")
		}
	}
	o := dict{"_id": m.ObjectID, "id": m.ID.ID()}
	if full && m.ID.Type == hub.Model {
		o["modelId"] = m.ID.ID()
	}
	var files []hub.Entry
	if commit != "" && (slices.Contains(props, "siblings") || slices.Contains(props, "usedStorage")) {
		var err error
		if files, err = rp.list(commit, "", true); err != nil {
			return nil, err
		}
	}
	for _, p := range props {
		switch p {
		case "author":
			o[p] = m.ID.Namespace
		case "sha":
			if commit != "" {
				o[p] = commit
			}
		case "lastModified":
			o[p] = date(m.Updated)
		case "createdAt":
			o[p] = date(m.Created)
		case "private":
			o[p] = m.Private
		case "disabled":
			o[p] = m.Disabled
		case "gated":
			o[p] = gated(m)
		case "likes", "downloads", "downloadsAllTime", "trendingScore", "childrenModelCount":
			o[p] = 0
		case "tags":
			o[p] = []string{"region:us"}
		case "spaces", "models", "datasets":
			o[p] = []string{}
		case "cardData", "config", "runtime":
			o[p] = dict{}
		case "siblings":
			o[p] = siblingsOf(files, blobs)
		case "usedStorage":
			var n int64
			for _, e := range files {
				n += e.Size
			}
			o[p] = n
		case "subdomain":
			o[p] = strings.ToLower(m.ID.Namespace + "-" + m.ID.Name)
		case "sdk":
			o[p] = "static"
		}
	}
	return o, nil
}

// gated is false or a string, not a plain boolean (hub-protocol §3.1).
func gated(m repoMeta) any {
	if m.Gated == "" {
		return false
	}
	return m.Gated
}

func siblingsOf(files []hub.Entry, blobs bool) []dict {
	list := []dict{}
	for _, e := range files {
		if e.Type != hub.File {
			continue
		}
		s := dict{"rfilename": e.Path}
		if blobs {
			s["size"], s["blobId"] = e.Size, e.OID
			if e.LFS() {
				// Here the hash is called sha256, in tree it is oid.
				s["lfs"] = dict{"sha256": e.SHA256, "size": e.Size, "pointerSize": pointerSize(e.Size)}
			}
		}
		list = append(list, s)
	}
	return list
}

// pointerSize is the length of an LFS pointer (hub-protocol §4.6).
func pointerSize(size int64) int { return 125 + len(fmt.Sprint(size)) }
