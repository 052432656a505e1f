package hubtest

import (
	"net/http"
	"strings"

	"github.com/goccy/go-yaml"
)

// checkCard judges the metadata of a README.md: what is wrong with it, and
// what is merely missing.
func checkCard(readme string) (errs, warnings []string) {
	readme = strings.ReplaceAll(strings.TrimPrefix(readme, "\ufeff"), "\r\n", "\n")
	rest, ok := strings.CutPrefix(readme, "---\n")
	const empty = "empty or missing yaml metadata in repo card"
	if !ok {
		return nil, []string{empty}
	}
	block, _, ok := strings.Cut("\n"+rest, "\n---")
	if !ok {
		return nil, []string{empty}
	}
	var meta any
	if err := yaml.Unmarshal([]byte(block), &meta); err != nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		return []string{"Invalid YAML metadata: " + first}, nil
	}
	switch m := meta.(type) {
	case nil:
		return nil, []string{empty}
	case map[string]any:
		return cardFields(m), nil
	}
	return []string{"Metadata must be a YAML mapping"}, nil
}

// cardFields checks the types of the few fields every kind of card has.
func cardFields(m map[string]any) (errs []string) {
	for _, name := range [...]string{"tags", "language", "datasets", "license"} {
		v, ok := m[name]
		if !ok || v == nil {
			continue
		}
		switch v := v.(type) {
		case string:
		case []any:
			for _, item := range v {
				if _, ok := item.(string); !ok {
					errs = append(errs, `"`+name+`" must be a string or an array of strings`)
					break
				}
			}
		default:
			errs = append(errs, `"`+name+`" must be a string or an array of strings`)
		}
	}
	return errs
}

// serveValidateYAML answers POST /api/validate-yaml (hub-protocol §6.4).
func (h *Hub) serveValidateYAML(w http.ResponseWriter, r *http.Request, q *request) {
	var body struct{ Content, RepoType string }
	if !readJSON(w, r, &body) {
		return
	}
	errs, warnings := checkCard(body.Content)
	status := http.StatusOK
	if len(errs) > 0 {
		status = http.StatusBadRequest
	}
	writeJSON(w, status, map[string]any{"errors": messages(errs), "warnings": messages(warnings)})
}

type message struct {
	Message string `json:"message"`
}

func messages(texts []string) []message {
	out := make([]message, len(texts))
	for i, t := range texts {
		out[i].Message = t
	}
	return out
}
