package hubtest

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	iofs "io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hfmount/remote/hub"
)

// stateVersion is raised when an older program would misread the file.
const stateVersion = 1

type stateFile struct {
	Version   int             `json:"version"`
	Repos     []stateRepo     `json:"repos"`
	Redirects []stateRedirect `json:"redirects,omitempty"`
	Moving    *movePlan       `json:"moving,omitempty"`
}

type stateRepo struct {
	ID          string        `json:"id"` // as hub.Repo.String
	ObjectID    string        `json:"objectId"`
	Private     bool          `json:"private,omitempty"`
	Gated       string        `json:"gated,omitempty"`
	Approved    []string      `json:"approved,omitempty"`
	Disabled    bool          `json:"disabled,omitempty"`
	Imported    bool          `json:"imported,omitempty"`
	Created     time.Time     `json:"created"`
	Discussions []*discussion `json:"discussions,omitempty"`
}

type stateRedirect struct {
	From      string `json:"from"`
	To        string `json:"to"`
	Canonical bool   `json:"canonical,omitempty"`
}

// save writes state.json. The caller holds mu.
func (s *store) save() error {
	if s.dir == "" {
		return nil
	}
	st := stateFile{Version: stateVersion, Repos: []stateRepo{}, Moving: s.moving}
	for id, r := range s.byID {
		m := r.info
		st.Repos = append(st.Repos, stateRepo{
			ID: id.String(), ObjectID: m.ObjectID, Private: m.Private, Gated: m.Gated,
			Approved: slices.Sorted(maps.Keys(m.Approved)), Disabled: m.Disabled,
			Imported: m.Imported, Created: m.Created, Discussions: r.talks,
		})
	}
	slices.SortFunc(st.Repos, func(a, b stateRepo) int { return cmp.Compare(a.ID, b.ID) })
	for from, to := range s.redirects {
		st.Redirects = append(st.Redirects, stateRedirect{from.String(), to.to.String(), to.canonical})
	}
	slices.SortFunc(st.Redirects, func(a, b stateRedirect) int { return cmp.Compare(a.From, b.From) })
	b, err := json.MarshalIndent(st, "", " ")
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(s.dir, "state.json"), append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("save state: %w", err)
	}
	return nil
}

// load reads state.json and opens what it names.
func (s *store) load() error {
	b, err := os.ReadFile(filepath.Join(s.dir, "state.json"))
	if errors.Is(err, iofs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var st stateFile
	if err := json.Unmarshal(b, &st); err != nil {
		return fmt.Errorf("state.json: %w", err)
	}
	if st.Version != stateVersion {
		return fmt.Errorf("state.json has version %d, this program knows %d", st.Version, stateVersion)
	}
	moved, err := s.finishMove(&st)
	if err != nil {
		return err
	}
	for _, sr := range st.Repos {
		id, err := parseRepo(sr.ID)
		if err != nil {
			return fmt.Errorf("state.json: %w", err)
		}
		m := repoMeta{
			ID: id, ObjectID: sr.ObjectID, Private: sr.Private, Gated: sr.Gated,
			Disabled: sr.Disabled, Imported: sr.Imported, Created: sr.Created,
			Approved: map[string]bool{},
		}
		for _, a := range sr.Approved {
			m.Approved[a] = true
		}
		r, err := s.attach(m)
		if err != nil {
			return err
		}
		r.talks = sr.Discussions
		s.byID[id] = r
	}
	for _, rd := range st.Redirects {
		from, err1 := parseRepo(rd.From)
		to, err2 := parseRepo(rd.To)
		if err := errors.Join(err1, err2); err != nil {
			return fmt.Errorf("state.json: %w", err)
		}
		s.redirects[from] = redirection{to, rd.Canonical}
	}
	if moved {
		return s.save()
	}
	return nil
}

// finishMove completes a rename that a crash cut in two.
func (s *store) finishMove(st *stateFile) (bool, error) {
	if st.Moving == nil {
		return false, nil
	}
	from, err1 := parseRepo(st.Moving.From)
	to, err2 := parseRepo(st.Moving.To)
	if err := errors.Join(err1, err2); err != nil {
		return false, fmt.Errorf("state.json: %w", err)
	}
	there, err := exists(s.repoDir(from))
	if err != nil {
		return false, err
	}
	if there {
		if err := renameFolder(s.repoDir(from), s.repoDir(to)); err != nil {
			return false, err
		}
	}
	for i := range st.Repos {
		if st.Repos[i].ID == from.String() {
			st.Repos[i].ID = to.String()
		}
	}
	st.Redirects = slices.DeleteFunc(st.Redirects, func(r stateRedirect) bool { return r.From == to.String() })
	st.Redirects = append(st.Redirects, stateRedirect{From: from.String(), To: to.String()})
	return true, nil
}

// parseRepo reads what hub.Repo.String writes.
func parseRepo(s string) (hub.Repo, error) {
	var r hub.Repo
	for _, t := range [...]hub.RepoType{hub.Dataset, hub.Space} {
		if rest, ok := strings.CutPrefix(s, t.Prefix()); ok {
			r.Type, s = t, rest
			break
		}
	}
	if ns, name, ok := strings.Cut(s, "/"); ok {
		r.Namespace, r.Name = ns, name
	} else {
		r.Name = s
	}
	return r, hub.CheckRepo(r)
}
