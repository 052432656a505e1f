package main

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

func TestArrange(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"org/model m", "mount -- org/model m"},
		{"org/model m --read-only", "mount --read-only -- org/model m"},
		{"--read-only org/model m", "mount --read-only -- org/model m"},
		{"--cache-size 10G org/model m -f", "mount --cache-size 10G -f -- org/model m"},
		{"--cache-size=10G org/model m", "mount --cache-size=10G -- org/model m"},
		{"mount status m", "mount -- status m"},
		{"hf://status m", "mount -- hf://status m"},
		{"-- status m", "mount -- status m"},
		{"org/model -- -odd-name", "mount -- org/model -odd-name"},
		{"--json status", "status --json -- "},
		{"status m --json", "status --json -- m"},
		{"find a/b -name *.json -type f", "find -name *.json -type f -- a/b"},
		{"ls -l a/b", "ls -l -- a/b"},
		{"hub --data d --import a/b=c --import d/e=f", "hub --data d --import a/b=c --import d/e=f -- "},
		{"-o ro,cache_size=1G a/b m", "mount --read-only --cache-size=1G -- a/b m"},
		{"-oro a/b m", "mount --read-only -- a/b m"},
		{"a/b m --refresh 1s -o refresh=5s", "mount --refresh=5s --refresh 1s -- a/b m"},
		{"help find", "find --help"},
		{"help", "--help"},
		{"", "--help"},
		{"-h", "--help"},
		{"ls --help", "ls --help -- "},
		{"--version", "version"},
		{"-v", "version"},
		{"a/b -", "mount -- a/b -"},
		{"a/b m --bogus", "mount --bogus -- a/b m"},
	} {
		got, err := arrange(newApp(io.Discard, io.Discard), append([]string{"hfmount"}, strings.Fields(c.in)...))
		if err != nil {
			t.Errorf("%q: %v", c.in, err)
			continue
		}
		if s := strings.Join(got[1:], " "); s != strings.TrimSuffix(c.want, " ") {
			t.Errorf("%q: got %q, want %q", c.in, s, c.want)
		}
	}
}

func TestArrangeRefuses(t *testing.T) {
	for _, in := range []string{"a/b m -o", "a/b m -o bogus", "a/b m -o cache-size", "status -o ro"} {
		_, err := arrange(newApp(io.Discard, io.Discard), append([]string{"hfmount"}, strings.Fields(in)...))
		if f, ok := errors.AsType[*failure](err); !ok || f.code != exitUsage {
			t.Errorf("%q: got %v, want a usage failure", in, err)
		}
	}
}

func TestHelperArgs(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"org/model /mnt", "mount -- org/model /mnt"},
		{"org/model /mnt -o rw,nofail,_netdev,user,x-systemd.automount,defaults", "mount -- org/model /mnt"},
		{"org/model /mnt -sno ro,allow_other", "mount --read-only --allow-other -- org/model /mnt"},
		{"org/model /mnt -s -o wibble=1,refresh=5m", "mount --refresh=5m -- org/model /mnt"},
		{"org/model /mnt -v -o ro -o umask=022", "mount --read-only --umask=022 -- org/model /mnt"},
		{"-t fuse.hfmount hf:// /mnt -r", "mount --read-only -- hf:// /mnt"},
		{"org/model /mnt -f", ""},
	} {
		got, err := helperArgs(append([]string{"/sbin/mount.hfmount"}, strings.Fields(c.in)...))
		if err != nil {
			t.Errorf("%q: %v", c.in, err)
			continue
		}
		s := ""
		if got != nil {
			s = strings.Join(got[1:], " ")
		}
		if s != c.want {
			t.Errorf("%q: got %q, want %q", c.in, s, c.want)
		}
	}
	for _, in := range []string{"org/model", "a b c", "a /mnt -x", "a /mnt -o", "a /mnt -o wibble"} {
		if got, err := helperArgs(append([]string{"mount.hfmount"}, strings.Fields(in)...)); err == nil {
			t.Errorf("%q: got %q, want an error", in, got)
		}
	}
}

// TestFlagArity holds the promise that arrange depends on: a flag of one name
// takes a value in all commands, or in none.
func TestFlagArity(t *testing.T) {
	app := newApp(io.Discard, io.Discard)
	seen := map[string]bool{}
	for _, c := range app.Commands {
		for _, f := range c.Flags {
			_, isBool := f.(*cli.BoolFlag)
			for _, name := range f.Names() {
				if was, ok := seen[name]; ok && was != isBool {
					t.Errorf("--%s is a switch in one command and takes a value in another", name)
				}
				seen[name] = isBool
			}
		}
	}
	if len(seen) < 30 {
		t.Errorf("only %d flags seen", len(seen))
	}
}

// TestHelpComplete keeps the habits of the help texts: every command has an
// example, every flag a description and its environment variable.
func TestHelpComplete(t *testing.T) {
	app := newApp(io.Discard, io.Discard)
	for _, c := range app.Commands {
		if !strings.Contains(c.Description, "Example:") || c.Usage == "" {
			t.Errorf("%s: no example or no usage", c.Name)
		}
		for _, f := range c.Flags {
			d := f.(cli.DocGenerationFlag)
			if d.GetUsage() == "" || !slices.Contains(d.GetEnvVars(), envName(f.Names()[0])) {
				t.Errorf("%s --%s: no description, or no %s", c.Name, f.Names()[0], envName(f.Names()[0]))
			}
		}
	}
}
