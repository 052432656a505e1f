package hubtest

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"hfmount/remote/hub"
)

// talksPerPage is the length of a page of discussions.
const talksPerPage = 50

// authorOf is how an account stands in a discussion.
func authorOf(name string) map[string]any {
	return map[string]any{"name": name, "type": "user", "avatarUrl": "/avatars/" + name + ".svg", "fullname": name}
}

func talkSummary(d *discussion, id hub.Repo) map[string]any {
	return map[string]any{
		"num": d.Num, "title": d.Title, "status": d.Status, "isPullRequest": d.PR,
		"author": authorOf(d.Author), "repo": map[string]string{"name": id.ID(), "type": id.Type.String()},
		"createdAt": date(d.Created), "pinned": false, "numComments": d.comments(),
	}
}

func eventJSON(e talkEvent) map[string]any {
	data := map[string]any{}
	switch e.Type {
	case "comment":
		data = map[string]any{"edited": false, "hidden": false, "latest": map[string]any{
			"raw": e.Text, "html": "", "updatedAt": date(e.Created), "author": authorOf(e.Author)}}
	case "status-change":
		data["status"] = e.Text
	case "commit":
		data["subject"], data["oid"] = e.Text, e.More
	case "title-change":
		data["from"], data["to"] = e.Text, e.More
	}
	return map[string]any{
		"id": e.ID, "type": e.Type, "createdAt": date(e.Created), "author": authorOf(e.Author), "data": data,
	}
}

// serveTalks answers GET …/discussions (hub-protocol §8).
func (h *Hub) serveTalks(w http.ResponseWriter, r *http.Request, q *request) {
	f := r.URL.Query()
	var page []map[string]any
	count, closed := 0, 0
	start := 0
	if p, err := strconv.Atoi(f.Get("p")); err == nil && p > 0 {
		start = p * talksPerPage
	}
	for _, d := range q.repo.allTalks() {
		kind := "discussion"
		if d.PR {
			kind = "pull_request"
		}
		isClosed := d.Status == "closed" || d.Status == "merged"
		if t := f.Get("type"); t != "" && t != "all" && t != kind {
			continue
		}
		if a := f.Get("author"); a != "" && a != d.Author {
			continue
		}
		if s := f.Get("search"); s != "" && !strings.Contains(strings.ToLower(d.Title), strings.ToLower(s)) {
			continue
		}
		if isClosed {
			closed++
		}
		if s := f.Get("status"); s == "open" && isClosed || s == "closed" && !isClosed {
			continue
		}
		if count >= start && len(page) < talksPerPage {
			page = append(page, talkSummary(&d, q.id))
		}
		count++
	}
	if page == nil {
		page = []map[string]any{}
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"discussions": page, "count": count, "start": start, "numClosedDiscussions": closed,
	})
}

// theTalk finds the discussion a path names, or answers 404.
func theTalk(w http.ResponseWriter, q *request) (discussion, bool) {
	num, err := strconv.Atoi(q.vars["num"])
	if err == nil {
		if d, ok := q.repo.talk(num); ok {
			return d, true
		}
	}
	refuse(w, http.StatusNotFound, "", "Discussion not found")
	return discussion{}, false
}

// serveTalk answers GET …/discussions/{num}.
func (h *Hub) serveTalk(w http.ResponseWriter, r *http.Request, q *request) {
	d, ok := theTalk(w, q)
	if !ok {
		return
	}
	out := talkSummary(&d, q.id)
	events := make([]map[string]any, len(d.Events))
	for i, e := range d.Events {
		events[i] = eventJSON(e)
	}
	out["events"] = events
	if d.PR {
		changes := map[string]any{"base": d.Base}
		if d.Merged != "" {
			changes["mergeCommitId"] = d.Merged
		}
		out["changes"] = changes
		conflicts, diff, err := q.repo.review(d, boolParam(r, "diff"))
		if err != nil {
			h.answerError(w, r, err)
			return
		}
		out["filesWithConflicts"] = conflicts
		if boolParam(r, "diff") {
			out["diff"] = diff
		}
	}
	writeJSON(w, http.StatusOK, out)
}

// review says which files stop a pull request from being merged and, if asked
// for, what it changes. One that is merged, or whose reference is gone, has
// neither.
func (r *repo) review(d discussion, wantDiff bool) (conflicts []string, diff string, err error) {
	conflicts = []string{}
	base, ok1 := r.db.ref(d.Base)
	head, ok2 := r.db.ref(d.ref())
	if !ok1 || !ok2 || d.Status == "merged" {
		return conflicts, "", nil
	}
	_, found, err := r.tryMerge(r.db.batch(), base, head)
	if err != nil {
		return nil, "", err
	}
	conflicts = append(conflicts, found...)
	if !wantDiff {
		return conflicts, "", nil
	}
	from, err := r.mergeBase(base, head)
	if err != nil || from.IsZero() {
		return conflicts, "", err
	}
	diff, err = r.diff(from, head)
	return conflicts, diff, err
}

// serveTalkCreate answers POST …/discussions. A new pull request is a draft.
func (h *Hub) serveTalkCreate(w http.ResponseWriter, r *http.Request, q *request) {
	var b struct {
		Title, Description string
		PullRequest        bool
	}
	if !readJSON(w, r, &b) {
		return
	}
	if n := len([]rune(b.Title)); n < 3 || n > 200 {
		refuse(w, http.StatusBadRequest, "", `"title" must have 3 to 200 characters`)
		return
	}
	d, err := q.repo.openTalk(b.Title, b.Description, q.account.Name, b.PullRequest)
	if err != nil {
		h.answerError(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"num": d.Num, "pullRequest": d.PR, "url": fmt.Sprintf("%s/discussions/%d", repoURL(q, q.id), d.Num),
	})
}

func (r *repo) openTalk(title, text, author string, pr bool) (*discussion, error) {
	r.commitMu.Lock()
	defer r.commitMu.Unlock()
	if !pr {
		d := r.newTalk(title, text, author, false, "open", "")
		return d, r.addTalk(d)
	}
	const base = "refs/heads/main"
	tip, ok := r.db.ref(base)
	if !ok {
		return nil, refuseRevision(hub.DefaultRevision)
	}
	d := r.newTalk(title, text, author, true, "draft", base)
	if err := r.moveRef(d.ref(), tip); err != nil {
		return nil, err
	}
	return d, r.addTalk(d)
}

// serveTalkComment answers POST …/comment.
func (h *Hub) serveTalkComment(w http.ResponseWriter, r *http.Request, q *request) {
	var b struct{ Comment string }
	d, ok := theTalk(w, q)
	if !ok || !readJSON(w, r, &b) {
		return
	}
	if strings.TrimSpace(b.Comment) == "" {
		refuse(w, http.StatusBadRequest, "", `"comment" is not allowed to be empty`)
		return
	}
	e := h.store.newEvent("comment", q.account.Name, b.Comment, "")
	h.addEvents(w, r, q, d.Num, nil, "newMessage", e)
}

// addEvents changes a discussion, adds events to it and answers with the first.
func (h *Hub) addEvents(w http.ResponseWriter, r *http.Request, q *request, num int, change func(*discussion), key string, es ...talkEvent) {
	err := q.repo.changeTalk(num, func(d *discussion) {
		if change != nil {
			change(d)
		}
		d.Events = append(d.Events, es...)
	})
	if err != nil {
		h.answerError(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{key: eventJSON(es[0])})
}

// mayChange answers 403 to an account that neither opened the discussion nor
// may write the repository.
func mayChange(w http.ResponseWriter, q *request, d discussion) bool {
	if q.writable || d.Author == q.account.Name {
		return true
	}
	refuse(w, http.StatusForbidden, "", "You don't have the rights to change this discussion")
	return false
}

// serveTalkStatus answers POST …/status.
func (h *Hub) serveTalkStatus(w http.ResponseWriter, r *http.Request, q *request) {
	var b struct{ Status, Comment string }
	d, ok := theTalk(w, q)
	if !ok || !mayChange(w, q, d) || !readJSON(w, r, &b) {
		return
	}
	if b.Status != "open" && b.Status != "closed" {
		refuse(w, http.StatusBadRequest, "", `"status" must be one of [open, closed]`)
		return
	}
	if d.Status == "merged" || d.Status == b.Status {
		refuse(w, http.StatusBadRequest, "", "This discussion is already "+d.Status)
		return
	}
	es := []talkEvent{h.store.newEvent("status-change", q.account.Name, b.Status, "")}
	if strings.TrimSpace(b.Comment) != "" {
		es = append(es, h.store.newEvent("comment", q.account.Name, b.Comment, ""))
	}
	h.addEvents(w, r, q, d.Num, func(d *discussion) { d.Status = b.Status }, "newStatus", es...)
}

// serveTalkTitle answers POST …/title.
func (h *Hub) serveTalkTitle(w http.ResponseWriter, r *http.Request, q *request) {
	var b struct{ Title string }
	d, ok := theTalk(w, q)
	if !ok || !mayChange(w, q, d) || !readJSON(w, r, &b) {
		return
	}
	if n := len([]rune(b.Title)); n < 3 || n > 200 {
		refuse(w, http.StatusBadRequest, "", `"title" must have 3 to 200 characters`)
		return
	}
	e := h.store.newEvent("title-change", q.account.Name, d.Title, b.Title)
	h.addEvents(w, r, q, d.Num, func(d *discussion) { d.Title = b.Title }, "newTitle", e)
}

// serveTalkMerge answers POST …/merge.
func (h *Hub) serveTalkMerge(w http.ResponseWriter, r *http.Request, q *request) {
	var b struct{ Comment string }
	d, ok := theTalk(w, q)
	if !ok || !readJSON(w, r, &b) {
		return
	}
	if !d.PR || d.Status != "open" {
		refuse(w, http.StatusBadRequest, "", "Only an open pull request can be merged; this one is "+d.Status)
		return
	}
	id, err := q.repo.merge(d, q.account.Name, b.Comment)
	if errors.Is(err, errMergeConflict) {
		refuse(w, http.StatusConflict, "", err.Error())
		return
	}
	if err != nil {
		h.answerError(w, r, err)
		return
	}
	es := []talkEvent{h.store.newEvent("status-change", q.account.Name, "merged", "")}
	if strings.TrimSpace(b.Comment) != "" {
		es = append(es, h.store.newEvent("comment", q.account.Name, b.Comment, ""))
	}
	h.addEvents(w, r, q, d.Num, func(d *discussion) {
		d.Status, d.Merged = "merged", string(id)
	}, "newStatus", es...)
}

// serveTalkRefDelete answers DELETE …/ref.
func (h *Hub) serveTalkRefDelete(w http.ResponseWriter, r *http.Request, q *request) {
	d, ok := theTalk(w, q)
	if !ok {
		return
	}
	h.deleteRef(w, r, q, d.ref(), d.ref())
}
