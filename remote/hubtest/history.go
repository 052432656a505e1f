package hubtest

import (
	"fmt"
	"html"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"hfmount/remote/hub"
)

// refs answers GET …/refs.
func (f *front) refs(w http.ResponseWriter, r *http.Request, q *request) {
	refs, err := q.repo.refs()
	if err != nil {
		refuseErr(w, q, err)
		return
	}
	body := dict{}
	groups := map[hub.RefKind]string{hub.Branch: "branches", hub.Tag: "tags", hub.Convert: "converts"}
	if boolean(r.URL.Query().Get("include_prs")) {
		groups[hub.PullRequest] = "pullRequests"
	}
	for _, name := range groups {
		body[name] = []dict{}
	}
	for _, ref := range refs {
		group, ok := groups[ref.Kind]
		if !ok {
			continue
		}
		name, full := ref.Name, ref.Name
		switch ref.Kind {
		case hub.Branch:
			full = "refs/heads/" + name
		case hub.Tag:
			full = "refs/tags/" + name
		case hub.Convert:
			name = strings.TrimPrefix(name, "refs/convert/")
		case hub.PullRequest:
			name = strings.TrimPrefix(name, "refs/pr/")
		}
		body[group] = append(body[group].([]dict), dict{"name": name, "ref": full, "targetCommit": ref.Commit})
	}
	writeJSON(w, http.StatusOK, body)
}

// commits answers GET …/commits/{rev}, newest first.
func (f *front) commits(w http.ResponseWriter, r *http.Request, q *request) {
	head, ok := at(w, q)
	if !ok {
		return
	}
	query := r.URL.Query()
	page, err := number(query, "p", 0, 0, 1<<30)
	if err == nil {
		var limit int
		if limit, err = number(query, "limit", 50, 1, 1000); err == nil {
			f.commitPage(w, r, q, head, page, limit)
			return
		}
	}
	refuse(w, http.StatusBadRequest, "", err.Error())
}

func (f *front) commitPage(w http.ResponseWriter, r *http.Request, q *request, head hub.CommitID, page, limit int) {
	log, err := q.repo.log(head)
	if err != nil {
		refuseErr(w, q, err)
		return
	}
	query := r.URL.Query()
	formatted := slices.Contains(all(query, "expand"), "formatted")
	total := len(log)
	from := min(page*limit, total)
	to := min(from+limit, total)
	list := []dict{}
	for _, c := range log[from:to] {
		o := dict{
			"id": c.ID, "title": c.Title, "message": c.Message, "date": date(c.Time),
			"authors": []dict{{"user": c.Author, "avatar": "/avatars/" + c.Author + ".svg"}},
		}
		if formatted {
			o["formatted"] = dict{"title": html.EscapeString(c.Title), "message": html.EscapeString(c.Message)}
		}
		list = append(list, o)
	}
	w.Header().Set("X-Total-Count", strconv.Itoa(total))
	if to < total {
		query.Set("p", strconv.Itoa(page+1))
		nextLink(w, r, q, query)
	}
	writeJSON(w, http.StatusOK, list)
}

// compare answers GET …/compare/{a..b} with the lines of git diff --raw.
func (f *front) compare(w http.ResponseWriter, r *http.Request, q *request) {
	a, b, ok := strings.Cut(q.vars["range"], "..")
	b = strings.TrimPrefix(b, ".")
	if !ok {
		refuse(w, http.StatusBadRequest, "", "Invalid range: "+q.vars["range"])
		return
	}
	var sides [2]map[string]string // path to blob
	for i, rev := range []string{a, b} {
		q.rev = rev
		c, ok := at(w, q)
		if !ok {
			return
		}
		entries, err := q.repo.list(c, "", true)
		if err != nil {
			refuseErr(w, q, err)
			return
		}
		sides[i] = map[string]string{}
		for _, e := range entries {
			if e.Type == hub.File {
				sides[i][e.Path] = e.OID
			}
		}
	}
	const none = "0000000000000000000000000000000000000000"
	var lines []string
	for path, oid := range sides[0] {
		switch now, ok := sides[1][path]; {
		case !ok:
			lines = append(lines, fmt.Sprintf("%s\x00:100644 000000 %s %s D\t%s\n", path, oid, none, path))
		case now != oid:
			lines = append(lines, fmt.Sprintf("%s\x00:100644 100644 %s %s M\t%s\n", path, oid, now, path))
		}
	}
	for path, oid := range sides[1] {
		if _, ok := sides[0][path]; !ok {
			lines = append(lines, fmt.Sprintf("%s\x00:000000 100644 %s %s A\t%s\n", path, none, oid, path))
		}
	}
	slices.Sort(lines) // by the path before the NUL
	var text strings.Builder
	for _, l := range lines {
		_, line, _ := strings.Cut(l, "\x00")
		text.WriteString(line)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(text.Len()))
	w.Write([]byte(text.String()))
}
