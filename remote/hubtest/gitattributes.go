package hubtest

import (
	"bytes"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const attributesName = ".gitattributes"

// lfsAttributes is what follows the pattern on every line that sends files to LFS.
const lfsAttributes = " filter=lfs diff=lfs merge=lfs -text"

const modelPatterns = `*.7z *.arrow *.bin *.bz2 *.ckpt *.ftz *.gz *.h5 *.joblib *.lfs.* *.mlmodel *.model
*.msgpack *.npy *.npz *.onnx *.ot *.parquet *.pb *.pickle *.pkl *.pt *.pth *.rar *.safetensors
saved_model/**/* *.tar.* *.tar *.tflite *.tgz *.wasm *.xz *.zip *.zst *tfevents*`

var datasetGroups = [...]struct{ title, patterns string }{
	{"# Audio files - uncompressed", "*.pcm *.sam *.raw"},
	{"# Audio files - compressed", "*.aac *.flac *.mp3 *.ogg *.wav"},
	{"# Image files - uncompressed", "*.bmp *.gif *.png *.tiff"},
	{"# Image files - compressed", "*.jpg *.jpeg *.webp"},
	{"# Video files - compressed", "*.mp4 *.webm"},
}

// initialAttributes is the .gitattributes of a new repository (hub-protocol
// §7.1), byte for byte.
func initialAttributes(dataset bool) []byte {
	var b bytes.Buffer
	lines := func(patterns string) {
		for _, p := range strings.Fields(patterns) {
			b.WriteString(p + lfsAttributes + "\n")
			if dataset && p == "*.lfs.*" {
				b.WriteString("*.lz4" + lfsAttributes + "\n*.mds" + lfsAttributes + "\n")
			}
		}
	}
	lines(modelPatterns)
	if dataset {
		for _, g := range datasetGroups {
			b.WriteString(g.title + "\n")
			lines(g.patterns)
		}
	}
	return b.Bytes()
}

// attributes decides which paths a .gitattributes file sends to LFS. The last
// line that matches a path and sets its filter wins, as in git.
type attributes struct {
	rules    []attrRule
	literal  map[string][]int // whole path → rules, ascending
	names    map[string][]int // last component → rules, ascending
	suffix   []int            // rules of the form *.ext
	patterns []int            // all others
}

type attrRule struct {
	lfs    bool
	suffix string
	re     *regexp.Regexp
	base   bool // match the last component only
}

func parseAttributes(data []byte) *attributes {
	a := &attributes{literal: map[string][]int{}, names: map[string][]int{}}
	for line := range strings.Lines(string(data)) {
		pattern, attrs, ok := cutPattern(strings.TrimSpace(line))
		if !ok {
			continue
		}
		rule, sets := attrRule{}, false
		for _, at := range strings.Fields(attrs) {
			switch {
			case at == "filter=lfs":
				rule.lfs, sets = true, true
			case at == "filter", at == "-filter", at == "!filter", strings.HasPrefix(at, "filter="):
				rule.lfs, sets = false, true
			}
		}
		if sets {
			a.add(pattern, rule)
		}
	}
	return a
}

// cutPattern splits a line into its pattern, which may be quoted, and the rest.
func cutPattern(line string) (pattern, attrs string, ok bool) {
	if line == "" || line[0] == '#' || strings.HasPrefix(line, "[attr]") {
		return "", "", false
	}
	if line[0] == '"' {
		q, err := strconv.QuotedPrefix(line)
		if err != nil {
			return "", "", false
		}
		pattern, err = strconv.Unquote(q)
		return pattern, line[len(q):], err == nil
	}
	i := strings.IndexAny(line, " \t")
	if i < 0 {
		return line, "", true
	}
	return line[:i], line[i:], true
}

func (a *attributes) add(pattern string, rule attrRule) {
	if pattern == "" || pattern[0] == '!' || strings.HasSuffix(pattern, "/") {
		return // git forbids negative patterns here, and directories have no filter
	}
	n := len(a.rules)
	anchored := strings.Contains(pattern, "/")
	pattern = strings.TrimPrefix(pattern, "/")
	rule.base = !anchored
	special := strings.ContainsAny(pattern, `*?[\`)
	switch {
	case anchored && !special:
		a.literal[pattern] = append(a.literal[pattern], n)
	case !special:
		a.names[pattern] = append(a.names[pattern], n)
	case !anchored && strings.HasPrefix(pattern, "*.") && !strings.ContainsAny(pattern[1:], `*?[\`):
		rule.suffix = pattern[1:]
		a.suffix = append(a.suffix, n)
	default:
		re, err := regexp.Compile(globRegexp(pattern))
		if err != nil {
			return
		}
		rule.re = re
		if lit, complete := re.LiteralPrefix(); complete && anchored {
			a.literal[lit] = append(a.literal[lit], n)
		} else {
			a.patterns = append(a.patterns, n)
		}
	}
	a.rules = append(a.rules, rule)
}

// globRegexp turns a gitattributes pattern into an anchored expression.
func globRegexp(glob string) string {
	var b strings.Builder
	b.WriteString(`(?s)^`)
	for i := 0; i < len(glob); i++ {
		rest := glob[i:]
		switch c := glob[i]; {
		case strings.HasPrefix(rest, "**/") && (i == 0 || glob[i-1] == '/'):
			b.WriteString(`(?:.*/)?`)
			i += 2
		case rest == "**" && i > 0 && glob[i-1] == '/':
			b.WriteString(`.+`)
			i++
		case c == '*':
			b.WriteString(`[^/]*`)
		case c == '?':
			b.WriteString(`[^/]`)
		case c == '[':
			n := classEnd(rest)
			if n < 0 {
				b.WriteString(`\[`)
				break
			}
			class := rest[1:n]
			if class != "" && class[0] == '!' {
				class = "^" + class[1:]
			}
			b.WriteString("[" + class + "]")
			i += n
		case c == '\\' && i+1 < len(glob):
			i++
			b.WriteString(regexp.QuoteMeta(glob[i : i+1]))
		case c >= 0x80:
			b.WriteByte(c) // part of a UTF-8 sequence
		default:
			b.WriteString(regexp.QuoteMeta(string(c)))
		}
	}
	b.WriteString(`$`)
	return b.String()
}

// classEnd finds the bracket that closes the class s starts with.
func classEnd(s string) int {
	for i := 1; i < len(s); i++ {
		switch {
		case strings.HasPrefix(s[i:], "[:"):
			n := strings.Index(s[i:], ":]")
			if n < 0 {
				return -1
			}
			i += n + 1
		case s[i] == ']' && i > 1 && !(i == 2 && (s[1] == '!' || s[1] == '^')):
			return i
		}
	}
	return -1
}

// lfs reports whether a path is stored in LFS.
func (a *attributes) lfs(p string) bool {
	best := -1
	if l := a.literal[p]; len(l) > 0 {
		best = l[len(l)-1]
	}
	base := path.Base(p)
	if l := a.names[base]; len(l) > 0 {
		best = max(best, l[len(l)-1])
	}
	for _, n := range slices.Backward(a.suffix) {
		if n < best {
			break
		}
		if strings.HasSuffix(base, a.rules[n].suffix) {
			best = n
			break
		}
	}
	for _, n := range slices.Backward(a.patterns) {
		if n < best {
			break
		}
		subject := p
		if a.rules[n].base {
			subject = base
		}
		if a.rules[n].re.MatchString(subject) {
			best = n
			break
		}
	}
	return best >= 0 && a.rules[best].lfs
}

// attributesLine is the line the Hub adds for one path. For a file in the root
// it matches the name everywhere, as the Hub's lines do.
func attributesLine(p string) string {
	var b strings.Builder
	for i, c := range p {
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\v' || c == '\f':
			b.WriteString("[[:space:]]")
		case strings.ContainsRune(`*?[\`, c), i == 0 && strings.ContainsRune(`#!"`, c):
			b.WriteByte('\\')
			b.WriteRune(c)
		default:
			b.WriteRune(c)
		}
	}
	return b.String() + lfsAttributes + "\n"
}

// missingAttributes returns data with a line added for each of the LFS paths
// that no line matches, or nil if none is missing.
func missingAttributes(data []byte, lfs []string) []byte {
	rules := parseAttributes(data)
	var more bytes.Buffer
	for _, path := range lfs {
		if !rules.lfs(path) {
			more.WriteString(attributesLine(path))
		}
	}
	if more.Len() == 0 {
		return nil
	}
	out := bytes.Clone(data)
	if n := len(out); n > 0 && out[n-1] != '\n' {
		out = append(out, '\n')
	}
	return append(out, more.Bytes()...)
}

// wantsLFS is the rule by which the Hub sends a file to LFS (hub-protocol
// §6.1): by .gitattributes, then by size, then binary content above threshold
// bytes. Empty files never go there.
func (a *attributes) wantsLFS(path string, size int64, sample []byte, threshold int64) bool {
	switch {
	case size == 0:
		return false
	case a.lfs(path), size > maxRegular:
		return true
	}
	return size > threshold && bytes.IndexByte(sample[:min(len(sample), sampleSize)], 0) >= 0
}

// sampleSize is how much of a file clients send to be judged by.
const sampleSize = 512
