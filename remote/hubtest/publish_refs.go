package hubtest

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"

	"hfmount/remote/hub"
)

// checkBranchName refuses what git would not take, special references, and
// what would be read as a commit.
func checkBranchName(name string) error {
	if strings.HasPrefix(name, "refs/") || name == "HEAD" || hub.CommitID(name).Valid() ||
		strings.HasPrefix(name, "-") || plumbing.ReferenceName("refs/heads/"+name).Validate() != nil {
		return refusef(http.StatusBadRequest, "Invalid reference for a branch: %s", name)
	}
	return nil
}

// inTheWay finds a reference that cannot exist beside name, because one's
// path goes through the other.
func (r *repo) inTheWay(name string) (string, bool) {
	for other := range r.db.refs() {
		if strings.HasPrefix(other, name+"/") || strings.HasPrefix(name, other+"/") {
			return other, true
		}
	}
	return "", false
}

func refExists(name string) error {
	return refusef(http.StatusConflict, "Reference %s already exists", name)
}

// serveBranchCreate answers POST …/branch/{branch}.
func (h *Hub) serveBranchCreate(w http.ResponseWriter, r *http.Request, q *request) {
	var b struct {
		StartingPoint          string
		EmptyBranch, Overwrite bool
	}
	if !readJSON(w, r, &b) {
		return
	}
	if err := q.repo.createBranch(q.vars["branch"], b.StartingPoint, b.EmptyBranch, b.Overwrite, q.account.Name); err != nil {
		h.answerError(w, r, err)
		return
	}
	writeText(w, "OK")
}

func (r *repo) createBranch(name, start string, empty, overwrite bool, author string) error {
	if err := checkBranchName(name); err != nil {
		return err
	}
	ref := "refs/heads/" + name
	r.commitMu.Lock()
	defer r.commitMu.Unlock()
	if _, ok := r.db.ref(ref); ok && !overwrite {
		return refExists(ref)
	}
	if other, ok := r.inTheWay(ref); ok {
		return refExists(other)
	}
	if empty {
		b := r.db.batch()
		tree, err := r.addTree(b, nil)
		if err != nil {
			return err
		}
		_, err = r.newCommit(b, ref, tree, nil, author, "initial commit", "")
		return err
	}
	if start == "" {
		start = hub.DefaultRevision
	}
	from, err := r.resolveHash(start)
	if err != nil {
		return refuseRevision(start)
	}
	return r.moveRef(ref, from)
}

// serveBranchDelete answers DELETE …/branch/{branch}.
func (h *Hub) serveBranchDelete(w http.ResponseWriter, r *http.Request, q *request) {
	name := q.vars["branch"]
	ref := "refs/heads/" + name
	if name == hub.DefaultRevision {
		refuse(w, http.StatusForbidden, "", "Cannot delete "+ref)
		return
	}
	h.deleteRef(w, r, q, ref, name)
}

func (h *Hub) deleteRef(w http.ResponseWriter, r *http.Request, q *request, ref, name string) {
	q.repo.commitMu.Lock()
	defer q.repo.commitMu.Unlock()
	if _, ok := q.repo.db.ref(ref); !ok {
		h.answerError(w, r, refuseRevision(name))
		return
	}
	if err := q.repo.dropRef(ref); err != nil {
		h.answerError(w, r, err)
		return
	}
	writeText(w, "OK")
}

// serveTagCreate answers POST …/tag/{rev}.
func (h *Hub) serveTagCreate(w http.ResponseWriter, r *http.Request, q *request) {
	var b struct{ Tag, Message string }
	if !readJSON(w, r, &b) {
		return
	}
	if err := q.repo.createTag(b.Tag, q.rev, b.Message, q.account.Name); err != nil {
		h.answerError(w, r, err)
		return
	}
	writeText(w, "OK")
}

// createTag makes a tag, an annotated one if there is a message.
func (r *repo) createTag(name, rev, message, author string) error {
	if checkBranchName(name) != nil {
		return refusef(http.StatusBadRequest, "Invalid reference for a tag: %s", name)
	}
	ref := "refs/tags/" + name
	r.commitMu.Lock()
	defer r.commitMu.Unlock()
	if _, ok := r.db.ref(ref); ok {
		return refExists(ref)
	}
	if other, ok := r.inTheWay(ref); ok {
		return refExists(other)
	}
	to, err := r.resolveHash(rev)
	if err != nil {
		return refuseRevision(rev)
	}
	if message = strings.TrimSpace(message); message != "" {
		b := r.db.batch()
		text := fmt.Sprintf("object %s\ntype commit\ntag %s\ntagger %s\n\n%s\n",
			to, name, signature(author, r.st.now().UTC()), strings.ReplaceAll(message, "\x00", ""))
		if to, err = b.add(plumbing.TagObject, []byte(text)); err != nil {
			return err
		}
		if err := b.flush(); err != nil {
			return err
		}
		if err := r.db.setRef(ref, to); err != nil {
			return err
		}
		r.forgetReach()
		return nil
	}
	return r.moveRef(ref, to)
}

// forgetReach makes the set of reachable commits be found anew.
func (r *repo) forgetReach() {
	r.reachMu.Lock()
	defer r.reachMu.Unlock()
	r.reach = nil
}

// serveTagDelete answers DELETE …/tag/{tag}. The name of a branch is the
// Hub's own blunder, kept (hub-protocol §7).
func (h *Hub) serveTagDelete(w http.ResponseWriter, r *http.Request, q *request) {
	name := q.vars["tag"]
	_, isTag := q.repo.db.ref("refs/tags/" + name)
	if _, isBranch := q.repo.db.ref("refs/heads/" + name); isBranch && !isTag {
		refuse(w, http.StatusInternalServerError, "", "Internal Error - We're working hard to fix this as soon as possible!")
		return
	}
	h.deleteRef(w, r, q, "refs/tags/"+name, name)
}
