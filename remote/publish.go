package remote

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"hfmount/remote/hub"
)

const (
	// preuploadBatch is how many files one preupload asks about; the official
	// client takes the same (hub-protocol §6.1).
	preuploadBatch = 256
	// sampleSize is how much of a file the Hub looks at, in bytes.
	sampleSize = 512
	// maxSquashMessage is the longest message of a squash (hub-protocol §7).
	maxSquashMessage = 500
)

// MayWrite asks whether the account may commit to repo (hub-protocol §1.7). It
// is nil if so; hub.ErrUnauthorized, without a request, if there is no token;
// else what the Hub says: hub.ErrForbidden, hub.ErrBadToken,
// hub.ErrRepoNotFound and so on.
func (c *Client) MayWrite(ctx context.Context, repo hub.Repo) error {
	k := call{op: "check write access to", repo: repo, asks: true}
	if err := c.ready(k); err != nil {
		return err
	}
	t, err := c.o.Tokens.Token(ctx)
	if err != nil {
		return k.fail(nil, "%v", err)
	}
	if t == "" {
		return k.fail(hub.ErrUnauthorized, "there is no token")
	}
	_, err = c.get(ctx, k, c.apiURL(repo, "/auth-check/write"))
	return err
}

// at is the address of a call about a revision, which is one segment.
func (c *Client) at(ref hub.Ref, verb string) string {
	return c.apiURL(ref.Repo, "/"+verb+"/"+url.PathEscape(ref.Rev()))
}

// readyAt is ready for a call about a revision.
func (c *Client) readyAt(k call, ref hub.Ref) error {
	if err := c.ready(k); err != nil {
		return err
	}
	if err := hub.CheckRevision(ref.Rev()); err != nil {
		return k.fail(errInvalid, "%v", err)
	}
	return nil
}

type preuploadBody struct {
	Files      []preuploadFile `json:"files"`
	Attributes *string         `json:"gitAttributes,omitempty"`
	Ignore     *string         `json:"gitIgnore,omitempty"`
}

type preuploadFile struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	Sample []byte `json:"sample"` // base64
}

// Preupload asks how files are to be uploaded (hub-protocol §6.1), in groups
// as large as the Hub takes. The answers are in the order of p.Files. Empty
// files are never LFS, whatever the Hub says. A path that the Hub will not
// have is a *hub.RefusedError.
func (c *Client) Preupload(ctx context.Context, ref hub.Ref, p hub.Preupload) ([]hub.UploadMode, error) {
	k := call{op: "ask about the upload to", repo: ref.Repo}
	if err := c.readyAt(k, ref); err != nil {
		return nil, err
	}
	body := preuploadBody{Attributes: text(p.Attributes), Ignore: text(p.Ignore)}
	address := c.at(ref, "preupload")
	if p.PullRequest {
		address += "?create_pr=1"
	}
	modes := make([]hub.UploadMode, 0, len(p.Files))
	for len(modes) < len(p.Files) {
		group := p.Files[len(modes):min(len(modes)+preuploadBatch, len(p.Files))]
		body.Files, k.paths = body.Files[:0], nil
		for _, f := range group {
			if hub.CheckPath(f.Path) != nil || f.Size < 0 {
				return nil, k.fail(errInvalid, "not a file: %q", f.Path)
			}
			sample := f.Head[:min(len(f.Head), sampleSize)]
			if sample == nil {
				sample = []byte{} // an empty string, not null
			}
			body.Files = append(body.Files, preuploadFile{f.Path, f.Size, sample})
			k.paths = append(k.paths, f.Path)
		}
		ans, err := c.post(ctx, k, address, &body)
		if err != nil {
			return nil, err
		}
		if modes, err = readModes(k, ans, group, modes); err != nil {
			c.stats.failed(err)
			return nil, err
		}
	}
	return modes, nil
}

// text is a body's optional string: nil is absent, empty is empty.
func text(b []byte) *string {
	if b == nil {
		return nil
	}
	s := string(b)
	return &s
}

func readModes(k call, ans answer, group []hub.Sample, modes []hub.UploadMode) ([]hub.UploadMode, error) {
	type mode struct {
		Path         string `json:"path"`
		UploadMode   string `json:"uploadMode"`
		ShouldIgnore bool   `json:"shouldIgnore"`
		OID          string `json:"oid"`
	}
	var body struct {
		Files []mode `json:"files"`
	}
	if err := ans.decode(k, &body); err != nil {
		return nil, err
	}
	byPath := make(map[string]mode, len(body.Files))
	for _, m := range body.Files {
		byPath[m.Path] = m
	}
	for _, f := range group {
		m, ok := byPath[f.Path]
		if !ok {
			return nil, k.bad("nothing about %q", f.Path)
		}
		if m.UploadMode != "lfs" && m.UploadMode != "regular" {
			return nil, k.bad("the mode of %q is %q", f.Path, m.UploadMode)
		}
		if m.OID != "" && !(hub.ContentID{Algo: hub.GitBlob, Hex: m.OID}).Valid() && !(hub.ContentID{Algo: hub.SHA256, Hex: m.OID}).Valid() {
			return nil, k.bad("the object at %q is %q", f.Path, m.OID)
		}
		modes = append(modes, hub.UploadMode{LFS: m.UploadMode == "lfs" && f.Size > 0, Ignore: m.ShouldIgnore, OID: m.OID})
	}
	return modes, nil
}

// CheckCard validates the front matter of a README.md (hub-protocol §6.4). A
// bad one is a *hub.RefusedError about README.md.
func (c *Client) CheckCard(ctx context.Context, t hub.RepoType, readme []byte) error {
	k := call{op: "check the metadata in", path: "README.md", paths: []string{"README.md"}}
	if err := c.ready(k); err != nil {
		return err
	}
	ans, err := c.post(ctx, k, c.endpoint+"/api/validate-yaml", map[string]string{
		"content": strings.ToValidUTF8(string(readme), "\uFFFD"), "repoType": t.String(),
	})
	if err != nil {
		return nameCard(err)
	}
	if len(ans.body) == 0 {
		return nil
	}
	var body struct {
		Errors []struct {
			Message string `json:"message"`
		} `json:"errors"`
	}
	if err := ans.decode(k, &body); err != nil {
		return err
	}
	if len(body.Errors) > 0 {
		return k.fail(&hub.RefusedError{Message: scrub(bodyWords(ans.body)), Paths: k.paths}, "")
	}
	return nil
}

// nameCard makes a refusal of the metadata one about the file they are in.
func nameCard(err error) error {
	if e, ok := err.(*Error); ok && e.Status == http.StatusBadRequest {
		if r, ok := e.Kind.(*hub.RefusedError); ok {
			r.Paths = []string{"README.md"}
		}
	}
	return err
}

// CreateBranch makes a branch at a commit, or at the default branch if at is
// empty. hub.ErrExists if there is one of that name: also when an earlier try
// made it whose answer was lost, so look where it stands.
func (c *Client) CreateBranch(ctx context.Context, repo hub.Repo, branch string, at hub.CommitID) error {
	k := call{op: "create the branch " + branch + " of", repo: repo}
	if err := c.readyAt(k, hub.Ref{Repo: repo, Revision: branch}); err != nil {
		return err
	}
	if branch == "" || (at != "" && !at.Valid()) {
		return k.fail(errInvalid, "no branch, or no commit to begin at")
	}
	body := map[string]string{}
	if at != "" {
		body["startingPoint"] = string(at)
	}
	_, err := c.post(ctx, k, c.apiURL(repo, "/branch/"+url.PathEscape(branch)), body)
	return err
}

// CreateRepo makes a repository with its initial commit (hub-protocol §7.1).
// hub.ErrExists if there is one, as for [Client.CreateBranch].
func (c *Client) CreateRepo(ctx context.Context, repo hub.Repo, private bool) error {
	k := call{op: "create", repo: repo}
	if err := c.ready(k); err != nil {
		return err
	}
	if repo.Namespace == "" {
		return k.fail(errInvalid, "a new repository needs a namespace")
	}
	body := map[string]string{"name": repo.Name, "organization": repo.Namespace, "visibility": "public"}
	if private {
		body["visibility"] = "private"
	}
	if repo.Type != hub.Model { // the official client omits a model's
		body["type"] = repo.Type.String()
	}
	if repo.Type == hub.Space {
		body["sdk"] = "static" // a Space must have one; its README.md can say otherwise
	}
	_, err := c.post(ctx, k, c.endpoint+"/api/repos/create", body)
	return err
}

// SuperSquash makes the history of a branch one commit with that message, of
// which 500 bytes are kept, and returns it (hub-protocol §7).
func (c *Client) SuperSquash(ctx context.Context, ref hub.Ref, message string) (hub.CommitID, error) {
	k := call{op: "squash the history of", repo: ref.Repo}
	if err := c.readyAt(k, ref); err != nil {
		return "", err
	}
	if len(message) > maxSquashMessage {
		message = strings.ToValidUTF8(message[:maxSquashMessage], "")
	}
	ans, err := c.post(ctx, k, c.at(ref, "super-squash"), map[string]string{"message": message})
	if err != nil {
		return "", err
	}
	var body struct {
		CommitID hub.CommitID `json:"commitId"`
	}
	if err := ans.decode(k, &body); err != nil {
		return "", err
	}
	if !body.CommitID.Valid() {
		return "", k.bad("the commit is %q", string(body.CommitID))
	}
	return body.CommitID, nil
}
