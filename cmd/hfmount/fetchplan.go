package main

import (
	"context"
	"regexp"
	"slices"
	"strings"

	"hfmount/fs"
	"hfmount/remote/hub"
)

// wanted is one content to bring, and the first place it was found at.
type wanted struct {
	id    hub.ContentID
	file  *fs.File
	loc   hub.Location
	paths int // files that have it
}

// plan is what a fetch is to bring, found by listing. The listings stay, for
// mounts that are offline.
type plan struct {
	t      treeReader
	filter pathFilter
	told   func(files int) // how many were looked at

	files     int // that match
	seen      int
	contents  []*wanted // in the order found, each once
	byContent map[hub.ContentID]*wanted
}

// add finds what one argument names.
func (p *plan) add(ctx context.Context, arg string) error {
	loc, err := p.t.cfg.location(arg)
	if err != nil {
		return err
	}
	if loc.Repo.IsZero() {
		return &failure{text: "the whole Hub cannot be fetched", hint: "name repositories, or folders and files in them", code: exitUsage}
	}
	n, loc, err := p.t.node(ctx, arg)
	if err != nil {
		return err
	}
	if err := p.above(ctx, loc); err != nil {
		return p.t.wrap(loc, err)
	}
	switch n := n.(type) {
	case *fs.Dir:
		err = p.walk(ctx, n, loc)
	case *fs.File:
		p.take(n, loc)
	}
	return p.t.wrap(loc, err)
}

// above lists the folders that loc lies in, so that it is found offline.
func (p *plan) above(ctx context.Context, loc hub.Location) error {
	at := loc
	at.Path = ""
	for rest := loc.Path; rest != ""; {
		n, err := p.t.tree.Node(ctx, at)
		if err != nil {
			return err
		}
		d, ok := n.(*fs.Dir)
		if !ok {
			return fs.ErrNotDir
		}
		if _, _, err := d.ReadDir(ctx); err != nil {
			return err
		}
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		at.Path = strings.TrimPrefix(at.Path+"/"+name, "/")
	}
	return nil
}

func (p *plan) walk(ctx context.Context, d *fs.Dir, loc hub.Location) error {
	entries, _, err := d.ReadDir(ctx)
	if err != nil {
		return err
	}
	for _, e := range entries {
		at := loc
		at.Path = strings.TrimPrefix(loc.Path+"/"+e.Name, "/")
		if !e.Mode.IsDir() {
			if p.seen++; p.seen%1000 == 0 {
				p.told(p.seen)
			}
			if !p.filter.match(at.Path) {
				continue
			}
		}
		n, err := d.Lookup(ctx, e.Name)
		if err != nil {
			return err
		}
		switch n := n.(type) {
		case *fs.Dir:
			if err := p.walk(ctx, n, at); err != nil {
				return err
			}
		case *fs.File:
			p.take(n, at)
		}
	}
	return nil
}

// take puts a file into the plan if it matches.
func (p *plan) take(f *fs.File, loc hub.Location) {
	if !p.filter.match(loc.Path) {
		return
	}
	p.files++
	id := f.Content()
	w := p.byContent[id]
	if w == nil {
		w = &wanted{id: id, file: f, loc: loc}
		p.byContent[id] = w
		p.contents = append(p.contents, w)
	}
	w.paths++
}

// pathFilter says which paths of a repository are meant, as `hf download` does.
type pathFilter struct{ include, exclude []*regexp.Regexp }

func newPathFilter(include, exclude []string) (f pathFilter, err error) {
	if f.include, err = compilePatterns(include); err == nil {
		f.exclude, err = compilePatterns(exclude)
	}
	return f, err
}

func (f pathFilter) match(path string) bool {
	matches := func(r *regexp.Regexp) bool { return r.MatchString(path) }
	return (len(f.include) == 0 || slices.ContainsFunc(f.include, matches)) && !slices.ContainsFunc(f.exclude, matches)
}

func compilePatterns(patterns []string) ([]*regexp.Regexp, error) {
	var out []*regexp.Regexp
	for _, p := range patterns {
		if p == "" {
			return nil, errUsage("an empty pattern matches nothing")
		}
		if strings.HasSuffix(p, "/") {
			p += "*"
		}
		r, err := regexp.Compile(fnmatch(p))
		if err != nil {
			return nil, errUsage("%q is not a pattern", p)
		}
		out = append(out, r)
	}
	return out, nil
}

// fnmatch turns a pattern of Python's module of that name into an expression:
// * and ? match every character, a slash too; [ without an end is itself.
func fnmatch(pattern string) string {
	var b strings.Builder
	b.WriteString(`(?s)\A`)
	for rest := []rune(pattern); len(rest) > 0; {
		c := rest[0]
		rest = rest[1:]
		switch c {
		case '*':
			b.WriteString(".*")
		case '?':
			b.WriteByte('.')
		case '[':
			set, n := charSet(rest)
			b.WriteString(set)
			rest = rest[n:]
		default:
			b.WriteString(regexp.QuoteMeta(string(c)))
		}
	}
	b.WriteString(`\z`)
	return b.String()
}

// charSet reads what follows a bracket and returns the expression for it and
// how much it took.
func charSet(s []rune) (expr string, n int) {
	end := 0
	if end < len(s) && s[end] == '!' {
		end++
	}
	if end < len(s) && s[end] == ']' {
		end++
	}
	for end < len(s) && s[end] != ']' {
		end++
	}
	if end == len(s) {
		return `\[`, 0
	}
	set := s[:end]
	not := len(set) > 0 && set[0] == '!'
	if not {
		set = set[1:]
	}
	var b strings.Builder
	for i := 0; i < len(set); {
		if i+2 < len(set) && set[i+1] == '-' {
			if set[i] <= set[i+2] { // a range that is empty matches nothing
				b.WriteString(inClass(set[i]) + "-" + inClass(set[i+2]))
			}
			i += 3
			continue
		}
		b.WriteString(inClass(set[i]))
		i++
	}
	switch {
	case b.Len() == 0 && not:
		return ".", end + 1
	case b.Len() == 0:
		return `[^\x00-\x{10FFFF}]`, end + 1
	case not:
		return "[^" + b.String() + "]", end + 1
	}
	return "[" + b.String() + "]", end + 1
}

// inClass quotes a character for use between brackets.
func inClass(c rune) string {
	if strings.ContainsRune(`\]^-[&~`, c) {
		return `\` + string(c)
	}
	return string(c)
}
