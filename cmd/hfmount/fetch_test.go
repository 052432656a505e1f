package main

import (
	"errors"
	"strings"
	"testing"

	"hfmount/blockcache"
	"hfmount/remote/hub"
)

// The patterns are those of Python's fnmatch, in which * matches a slash.
func TestPathFilter(t *testing.T) {
	for _, c := range []struct {
		include, exclude, path string // patterns separated by spaces
		want                   bool
	}{
		{"", "", "a/b.bin", true},
		{"*.bin", "", "a/b.bin", true},
		{"*.bin", "", "a/b.bin.json", false},
		{"b.bin", "", "a/b.bin", false},
		{"a/", "", "a/b/c.bin", true},
		{"a/", "", "ab", false},
		{"a/*.bin", "", "a/b/c.bin", true},
		{"?.bin", "", "b.bin", true},
		{"?.bin", "", "bb.bin", false},
		{"*.json *.bin", "", "b.bin", true},
		{"", "*.bin", "b.bin", false},
		{"", "*.bin", "b.json", true},
		{"*", "*.bin", "b.bin", false},
		{"[ab].bin", "", "b.bin", true},
		{"[a-c].bin", "", "b.bin", true},
		{"[!a-c].bin", "", "b.bin", false},
		{"[!a-c].bin", "", "d.bin", true},
		{"[c-a].bin", "", "b.bin", false},
		{"[]].bin", "", "].bin", true},
		{"[a^].bin", "", "^.bin", true},
		{"[a-].bin", "", "-.bin", true},
		{"a[b", "", "a[b", true},
		{"a+.bin", "", "aa.bin", false},
		{"a.bin", "", "A.bin", false},
		{"*.bin", "", "a\nb.bin", true},
		{"ü*", "", "über", true},
	} {
		f, err := newPathFilter(strings.Fields(c.include), strings.Fields(c.exclude))
		if err != nil {
			t.Errorf("%q: %v", c.include, err)
		} else if got := f.match(c.path); got != c.want {
			t.Errorf("%q with include %q and exclude %q: %v", c.path, c.include, c.exclude, got)
		}
	}
	if _, err := newPathFilter([]string{""}, nil); err == nil {
		t.Error("an empty pattern is taken")
	}
}

func TestFetchedText(t *testing.T) {
	for want, f := range map[string]fetched{
		"2 files, 5.0 MB, there already in /c":                                          {Files: 2, Bytes: 5e6, FilesThere: 2, CacheDir: "/c"},
		"3 files, 9.0 MB in /c: 1 file fetched (4.0 MB in 1.5s), 2 files there already": {Files: 3, Bytes: 9e6, FilesThere: 2, BytesFetched: 4e6, Seconds: 1.5, CacheDir: "/c"},
		"0 files, 0 B, there already in /c":                                             {CacheDir: "/c"},
	} {
		if got := f.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// Several failures are one, with the code of the first.
func TestFetchFailures(t *testing.T) {
	loc := hub.Location{Ref: hub.Ref{Repo: hub.Repo{Namespace: "a", Name: "b"}}, Path: "w.bin"}
	f := fetcher{plan: &plan{}, todo: make([]*wanted, 30)}
	f.failed = append(f.failed, &repoError{loc, "http://hub", blockcache.ErrCorrupt})
	one := explain(f.failure())
	if one.code != exitFailed || !strings.Contains(one.text, "w.bin") || !strings.Contains(one.hint, "again") {
		t.Errorf("%+v", one)
	}
	for range 11 {
		f.failed = append(f.failed, &repoError{loc, "http://hub", hub.ErrUnavailable})
	}
	all := explain(f.failure())
	if all.code != exitFailed || all.text != "12 of 30 files could not be fetched" || strings.Count(all.hint, "\n") != 10 || !strings.Contains(all.hint, "and 2 more") {
		t.Errorf("%+v", all)
	}
	for err, want := range map[error]bool{
		blockcache.ErrNoRoom: true, blockcache.ErrCorrupt: false, hub.ErrUnavailable: true, hub.ErrEntryNotFound: false,
		errors.New("other"): false,
	} {
		if general(err) != want {
			t.Errorf("%v: general is %v", err, !want)
		}
	}
}
