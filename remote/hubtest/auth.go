package hubtest

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"hfmount/remote/hub"
)

//lint:ignore ST1005 the words of the Hub (hub-protocol §5.1)
var errBadToken = errors.New("Invalid credentials in Authorization header")

// authenticate finds the account of a request; nil is anonymous. The token is
// a Bearer, or the password of Basic as git clients send it.
func (f *front) authenticate(r *http.Request) (*account, error) {
	header := r.Header.Get("Authorization")
	if header == "" {
		return nil, nil
	}
	scheme, token, _ := strings.Cut(header, " ")
	switch strings.ToLower(scheme) {
	case "bearer":
		token = strings.TrimSpace(token)
	case "basic":
		b, err := base64.StdEncoding.DecodeString(token)
		if err != nil {
			return nil, errBadToken
		}
		_, token, _ = strings.Cut(string(b), ":")
	default:
		return nil, errBadToken
	}
	for _, u := range f.hub.opts.Users {
		if u.Token == token && token != "" {
			return &account{Name: u.Name, Token: u.Token}, nil
		}
	}
	return nil, errBadToken
}

// member reports whether an account may write a namespace: its own, one that
// holds an imported repository, or one that is nobody's name but has
// repositories, which is an organisation all accounts belong to.
func (f *front) member(a *account, namespace string) bool {
	if a == nil {
		return false
	}
	return strings.EqualFold(a.Name, namespace) || f.hub.store.imported(namespace) || f.organisation(namespace)
}

func (f *front) organisation(namespace string) bool {
	for _, u := range f.hub.opts.Users {
		if strings.EqualFold(u.Name, namespace) {
			return false
		}
	}
	for _, t := range []hub.RepoType{hub.Model, hub.Dataset, hub.Space} {
		for _, r := range f.hub.store.repos(t) {
			if r.meta().ID.Namespace == namespace {
				return true
			}
		}
	}
	return false
}

// visible reports whether an account may know that a repository exists.
func (f *front) visible(a *account, m repoMeta) bool {
	if !m.Private {
		return true
	}
	return a != nil && (strings.EqualFold(a.Name, m.ID.Namespace) || m.Approved[a.Name] || f.organisation(m.ID.Namespace))
}

// admit demands what the route's access needs and answers if it is not there
// (hub-protocol §5.1). The repository, if any, is already in q.
func (f *front) admit(w http.ResponseWriter, rt *route, q *request) bool {
	switch rt.access {
	case accessOpen, accessSigned:
		return true
	case accessAccount:
		if q.account == nil {
			unauthorized(w, "", "Invalid username or password.")
			return false
		}
		return true
	}
	m := q.repo.meta()
	if m.Disabled {
		refuse(w, http.StatusForbidden, "", "Access to this resource is disabled.")
		return false
	}
	switch rt.access {
	case accessContent:
		if m.Gated == "" || q.account != nil && (m.Approved[q.account.Name] || strings.EqualFold(q.account.Name, m.ID.Namespace)) {
			return true
		}
		what := fmt.Sprintf("Access to %s %s is restricted", m.ID.Type, m.ID.ID())
		if q.account == nil {
			unauthorized(w, "GatedRepo", what+". You must have access to it and be authenticated to access it. Please log in.")
		} else {
			refuse(w, http.StatusForbidden, "GatedRepo", what+" and you are not in the authorized list. Visit "+
				q.hub+"/"+m.ID.String()+" to ask for access.")
		}
		return false
	case accessPropose, accessWrite:
		if q.account == nil {
			unauthorized(w, "", "Invalid username or password.")
			return false
		}
		if rt.access == accessWrite && !q.writable {
			refuse(w, http.StatusForbidden, "", "You don't have the rights to write to "+m.ID.String())
			return false
		}
	}
	return true
}

func unauthorized(w http.ResponseWriter, code, text string) {
	w.Header().Set("WWW-Authenticate", `Bearer realm="Authentication required"`)
	refuse(w, http.StatusUnauthorized, code, text)
}

// noRepo answers for a repository that is missing or hidden: the anonymous
// are not told which.
func noRepo(w http.ResponseWriter, a *account) {
	if a == nil {
		unauthorized(w, "", "Invalid username or password.")
		return
	}
	refuse(w, http.StatusNotFound, "RepoNotFound", "Repository not found")
}
