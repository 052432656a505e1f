package integration

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"hfmount/remote/hubtest"
)

// edits are the words of the table in docs/SEMANTICS.md, as scripts for a
// mount of a repository with f, g, d/x and s/f.
var edits = map[string]string{
	"changes `f`":               `printf %s "$WHO" >f`,
	"changes `g`":               `printf %s "$WHO" >g`,
	"changes `f` to the same":   `printf same >f`,
	"appends to `f`":            `printf %s "$WHO" >>f`,
	"removes `f`":               `rm f`,
	"adds `n`":                  `printf %s "$WHO" >n`,
	"adds `n` with the same":    `printf same >n`,
	"adds `m`":                  `printf %s "$WHO" >m`,
	"renames `f` to `h`":        `mv f h`,
	"adds `d/y`":                `printf %s "$WHO" >d/y`,
	"removes `d`":               `rm -r d`,
	"renames `d` to `e`":        `mv d e`,
	"changes `s/f`, adds `s/n`": `printf %s "$WHO" >s/f; printf %s "$WHO" >s/n`,
	"changes `s/f`":             `printf %s "$WHO" >s/f`,
}

type conflictRow struct {
	ours, theirs string
	outcome      map[string]string // by --on-conflict
}

// conflictTable reads the table that the documentation promises.
func conflictTable(t *testing.T) []conflictRow {
	t.Helper()
	text, err := os.ReadFile("../docs/SEMANTICS.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "| One writer | The other, first |")
	if !ok {
		t.Fatal("docs/SEMANTICS.md has no table of conflicts")
	}
	var rows []conflictRow
	for _, line := range strings.Split(rest, "\n")[2:] {
		f := strings.Split(strings.Trim(line, "| "), " | ")
		if len(f) != 5 {
			break
		}
		rows = append(rows, conflictRow{f[0], f[1], map[string]string{"pr": f[2], "fail": f[3], "ours": f[4]}})
	}
	if len(rows) < 12 {
		t.Fatalf("only %d rows", len(rows))
	}
	return rows
}

// Two mounts, two writers: what becomes of both is what the table in
// docs/SEMANTICS.md says.
func TestTwoWriters(t *testing.T) {
	for i, row := range conflictTable(t) {
		for _, policy := range []string{"pr", "fail", "ours"} {
			t.Run(fmt.Sprintf("%s, the other %s, %s", row.ours, row.theirs, policy), func(t *testing.T) {
				if edits[row.ours] == "" || edits[row.theirs] == "" {
					t.Fatalf("row %d: the test knows no %q or %q", i, row.ours, row.theirs)
				}
				twoWriters(t, row, policy, row.outcome[policy])
			})
		}
	}
}

func conflictSeed() map[string][]byte {
	return map[string][]byte{"f": []byte("base f"), "g": []byte("base g"), "d/x": []byte("base x"), "s/f": []byte("base s"), "keep": []byte("keep")}
}

// after is the branch when a writer has done its edits to files.
func (w *writer) after(files map[string]string, dir, edit, who string) map[string]string {
	w.t.Helper()
	w.must("mkdir", dir)
	for name, d := range files {
		w.must("sh", "-c", `mkdir -p "$(dirname "$0")" && printf %s "$1" >"$0"`, dir+"/"+name, d)
	}
	w.must("env", "WHO="+who, "sh", "-c", "cd '"+dir+"' && "+edit)
	got := map[string]string{}
	for name := range committable(folder(w.t, dir), nil) {
		b, err := os.ReadFile(dir + "/" + name)
		if err != nil {
			w.t.Fatal(err)
		}
		got[name] = string(b)
	}
	return got
}

// text is a branch as names and contents, which are short here.
func (w *writer) text(repo, rev string) map[string]string {
	w.t.Helper()
	got := map[string]string{}
	for name := range committable(w.clone(repo, rev), nil) {
		got[name] = w.git(repo, "show", rev+":"+name)
	}
	return got
}

func twoWriters(t *testing.T, row conflictRow, policy, outcome string) {
	w := newWriter(t, hubtest.Options{})
	w.seed("alice/m", conflictSeed())
	base := w.text("alice/m", "main")
	other := w.person()
	one := w.writable("alice/m", "--on-conflict", policy, "--refresh", "0", "--guard", "off", "--commit", "manual")
	two := other.writable("alice/m", "--guard", "off")
	// One looks at everything first: what it changes is based on this.
	w.must("sh", "-c", "cat "+one.path+"/* "+one.path+"/*/* >/dev/null 2>&1; true")
	w.must("env", "WHO=ours", "sh", "-c", "cd '"+one.path+"' && "+edits[row.ours])
	w.must("env", "WHO=theirs", "sh", "-c", "cd '"+two.path+"' && "+edits[row.theirs])
	two.send()
	theirs := w.text("alice/m", "main")
	if d := differences(w.after(base, w.dir+"/t", edits[row.theirs], "theirs"), theirs); d != "" {
		t.Fatalf("the other writer's commit:\n%s", d)
	}
	ours := w.after(base, w.dir+"/o", edits[row.ours], "ours")
	// merged is their branch with the paths that we changed as we left them.
	merged := map[string]string{}
	for p, d := range theirs {
		merged[p] = d
	}
	for p, d := range base {
		if ours[p] != d {
			delete(merged, p)
		}
	}
	for p, d := range ours {
		if base[p] != d {
			merged[p] = d
		}
	}
	commits := len(w.log("alice/m", "main"))
	r := one.hfmount("commit", "--yes", one.path)
	p := one.pending()
	made := len(w.checkCommits("alice/m", "main")) - commits
	want := map[string]struct {
		code, made int
		branch     map[string]string
		pending    bool
		state      string
	}{
		"both":         {0, 1, merged, false, ""},
		"ours":         {0, 1, merged, false, ""},
		"done already": {0, 0, theirs, false, ""},
		"pull request": {7, 0, theirs, true, "in-pr"},
		"stays local":  {3, 0, theirs, true, "conflict"},
	}
	x, ok := want[outcome]
	if !ok {
		t.Fatalf("the test knows no outcome %q", outcome)
	}
	if r.code != x.code || made != x.made || (p.Pending > 0) != x.pending {
		t.Errorf("exit %d, %d commits, %d pending; want %d, %d, pending %v\n%s\n%+v", r.code, made, p.Pending, x.code, x.made, x.pending, r, p.Changes)
	}
	if d := differences(x.branch, w.text("alice/m", "main")); d != "" {
		t.Errorf("main:\n%s", d)
	}
	if x.state != "" && !p.has(x.state) {
		t.Errorf("no change is %s: %+v", x.state, p.Changes)
	}
	// The mount shows our side of what we changed in any case, also after a
	// look at the branch.
	if r := one.hfmount("refresh", one.path); r.code != 0 {
		t.Errorf("refresh: %s", r)
	}
	shown := w.after(nil, w.dir+"/shown", "cp -r '"+one.path+"/.' .", "")
	expect := merged
	if outcome == "done already" {
		expect = theirs
	}
	if d := differences(expect, shown); d != "" {
		t.Errorf("the mount shows:\n%s", d)
	}
	if x.state == "in-pr" {
		if d := differences(merged, w.text("alice/m", "refs/pr/1")); d != "" {
			t.Errorf("the pull request:\n%s", d)
		}
		if !regexp.MustCompile(`/discussions/1\b`).MatchString(r.stdout+r.stderr) || p.PullURL == "" {
			t.Errorf("the URL of the pull request is not said: %s", r)
		}
		// What we do next to the same path goes there as well; there is one.
		if strings.Contains(row.ours, "changes `f`") {
			if err := os.WriteFile(one.join("f"), []byte("later"), 0o644); err != nil {
				t.Fatal(err)
			}
			if r := one.hfmount("commit", "--yes", one.path); r.code != 7 {
				t.Errorf("a later change: %s", r)
			}
			if got := w.text("alice/m", "refs/pr/1")["f"]; got != "later" {
				t.Errorf("a later change is not in the pull request, which has %q", got)
			}
		}
		if refs := w.git("alice/m", "for-each-ref", "refs/pr"); strings.Count(refs, "\n") != 1 {
			t.Errorf("pull requests:\n%s", refs)
		}
	}
	if x.pending {
		// It survives an unmount, which says so if it is nowhere but here.
		code := 3
		if x.state == "in-pr" {
			code = 0
		}
		if r := one.hfmount("unmount", one.path); r.code != code {
			t.Errorf("unmount with what is %s: %s", x.state, r)
		}
		one.gone = true
		again := w.writable("alice/m", "--on-conflict", policy, "--guard", "off")
		if q := again.pending(); !q.has(x.state) {
			t.Errorf("after a remount: %+v", q.Changes)
		}
		again.must(binary, "discard", "--yes", again.path)
		if q := again.pending(); q.Pending != 0 {
			t.Errorf("after discard: %+v", q.Changes)
		}
		again.unmount()
	}
}

// Two writers of different files never meet, however often both commit.
func TestTwoWritersWithoutOverlap(t *testing.T) {
	w := newWriter(t, hubtest.Options{})
	w.seed("alice/m", conflictSeed())
	other := w.person()
	flags := []string{"--guard", "off", "--refresh", "1s"}
	mounts := []*mount{w.writable("alice/m", flags...), other.writable("alice/m", flags...)}
	done := make(chan string, 2)
	for i, m := range mounts {
		go func() {
			for n := range 8 {
				name := fmt.Sprintf("w%d/%d.txt", i, n)
				os.Mkdir(m.join(fmt.Sprintf("w%d", i)), 0o755)
				if err := os.WriteFile(m.join(name), []byte(name), 0o644); err != nil {
					done <- err.Error()
					return
				}
				if r := m.hfmount("commit", m.path); r.code != 0 {
					done <- r.String()
					return
				}
			}
			done <- ""
		}()
	}
	for range mounts {
		if msg := <-done; msg != "" {
			t.Error(msg)
		}
	}
	got := w.text("alice/m", "main")
	for i := range mounts {
		for n := range 8 {
			if name := fmt.Sprintf("w%d/%d.txt", i, n); got[name] != name {
				t.Errorf("%s is %q", name, got[name])
			}
		}
	}
	w.checkCommits("alice/m", "main")
}

// Files that become directories, and directories that become files, in one
// commit, also when the branch moved meanwhile: nobody else touched them.
func TestNamesThatChangeTheirKind(t *testing.T) {
	for _, script := range []string{
		`rm f; mkdir f; echo x >f/x`, `rm -r d; echo x >d`, `mv f t; mkdir f; mv t f/f`, `mv d e; mv f d; mv e f`,
		// What stays local takes the place of what the Hub has.
		`rm f; mkdir f`, `rm f; ln -s g f`, `ln -sf g f`, `rm -r d; ln -s s d`, `ln -s g l; mv l f`,
	} {
		for _, theirs := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, others commit: %v", script, theirs), func(t *testing.T) {
				w := newWriter(t, hubtest.Options{})
				w.seed("alice/m", conflictSeed())
				m := w.writable("alice/m", "--guard", "off")
				w.must("sh", "-c", "cd '"+m.path+"' && "+script)
				if theirs {
					w.seed("alice/m", map[string][]byte{"theirs.txt": []byte("x")})
				}
				m.send()
				if d := differences(committable(folder(t, m.path), nil), committable(w.clone("alice/m", "main"), nil)); d != "" {
					t.Error(d)
				}
				w.checkCommits("alice/m", "main")
				if refs := w.git("alice/m", "for-each-ref", "refs/pr"); refs != "" {
					t.Errorf("a pull request was opened:\n%s", refs)
				}
			})
		}
	}
}
