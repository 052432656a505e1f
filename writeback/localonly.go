package writeback

import (
	"path"
	"strings"

	"github.com/go-git/go-git/v5/plumbing/format/gitignore"
)

// LocalOnlyOptions configures [NewLocalOnly].
type LocalOnlyOptions struct {
	// NoJunk commits droppings of operating systems and editors too.
	NoJunk bool
	// Ignore are patterns in the syntax of .gitignore, the last match decides.
	Ignore []string
	// IgnoreFile is the text of the repository's .hfignore; its patterns come
	// before those of Ignore.
	IgnoreFile string
}

// NewLocalOnly makes the function that [LayerOptions] asks why a path is never
// committed. It is safe for concurrent use.
func NewLocalOnly(o LocalOnlyOptions) func(path string) string {
	lines := append(strings.Split(o.IgnoreFile, "\n"), o.Ignore...)
	var patterns []gitignore.Pattern
	for _, line := range lines {
		line = strings.TrimSuffix(line, "\r")
		if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
			continue
		}
		patterns = append(patterns, gitignore.ParsePattern(line, nil))
	}
	ignored := gitignore.NewMatcher(patterns)
	return func(p string) string {
		parts := strings.Split(p, "/")
		for i, name := range parts {
			if localFolders[name] {
				return name
			}
			if !o.NoJunk && isJunk(name) {
				return "editor or system file"
			}
			// What is beneath an ignored directory cannot be asked back.
			if len(patterns) > 0 && ignored.Match(parts[:i+1], i < len(parts)-1) {
				return "ignored"
			}
		}
		return ""
	}
}

// localFolders are what tools keep beside the files they work on.
var localFolders = map[string]bool{
	".git": true, ".cache": true, "__pycache__": true, ".ipynb_checkpoints": true,
}

// junk is what operating systems and editors drop, as patterns of package path.
// "*.tmp" is not: checkpoints are written under such names.
var junk = []string{
	".DS_Store", "._*", ".AppleDouble", ".Spotlight-V100", ".Trashes", ".fseventsd", // macOS
	"Thumbs.db", "desktop.ini", // Windows
	".nfs*", ".fuse_hidden*", ".Trash-*", ".directory", // Linux
	"*.sw[opx]", "4913", "*~", ".#*", "#*#", ".goutputstream-*", // editors
}

func isJunk(name string) bool {
	for _, pattern := range junk {
		if ok, err := path.Match(pattern, name); ok && err == nil {
			return true
		}
	}
	return false
}
