package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

const defaultCommand = "mount"

// arrange rewrites a command line into the only order the flag parser takes:
// command, flags, "--", arguments. It puts the default command in where none
// is named, and turns -o options into flags; those stand before the flags
// proper, which therefore win.
func arrange(app *cli.App, args []string) ([]string, error) {
	table := flagTable(app)
	var flags, options, pos []string
	before := 0 // arguments before "--"; only those can name a command
	rest := args[1:]
	ended := false
	for len(rest) > 0 && !ended {
		a := rest[0]
		rest = rest[1:]
		switch {
		case a == "--":
			ended = true
			pos = append(pos, rest...)
		case a == "-" || !strings.HasPrefix(a, "-"):
			pos = append(pos, a)
			before++
		default:
			name, _, hasValue := strings.Cut(strings.TrimPrefix(a[1:], "-"), "=")
			if !strings.HasPrefix(a, "--") && name != "" && name[0] == 'o' && !table.known(name) {
				text, given := strings.TrimPrefix(a[2:], "="), len(a) > 2
				if !given {
					if len(rest) == 0 {
						return nil, errUsage("-o needs a value")
					}
					text, rest = rest[0], rest[1:]
				}
				options = append(options, text)
				continue
			}
			if !table.known(name) && !strings.HasPrefix(a, "--") && table.allShort(name) && !hasValue {
				for _, c := range name {
					flags = append(flags, "-"+string(c))
				}
				continue
			}
			flags = append(flags, a)
			if table[name] && !hasValue && len(rest) > 0 {
				flags = append(flags, rest[0])
				rest = rest[1:]
			}
		}
	}
	if len(pos) == 0 && len(options) == 0 {
		switch {
		case len(flags) == 0 || slices.ContainsFunc(flags, isHelp):
			return []string{args[0], "--help"}, nil
		case len(flags) == 1 && (flags[0] == "--version" || flags[0] == "-v"):
			return []string{args[0], "version"}, nil
		}
	}
	command := defaultCommand
	if before > 0 && (app.Command(pos[0]) != nil || pos[0] == "help") {
		command, pos = pos[0], pos[1:]
	}
	if command == "help" {
		if len(pos) > 0 {
			return []string{args[0], pos[0], "--help"}, nil
		}
		return []string{args[0], "--help"}, nil
	}
	out := []string{args[0], command}
	if len(options) > 0 {
		if command != defaultCommand {
			return nil, errUsage("-o is for mount only")
		}
		expanded, err := mountOptions(app, strings.Join(options, ","), false)
		if err != nil {
			return nil, err
		}
		out = append(out, expanded...)
	}
	out = append(out, flags...)
	return append(append(out, "--"), pos...), nil
}

func isHelp(a string) bool { return a == "-h" || a == "--help" || a == "-help" || a == "--h" }

// arity says of every flag of every command whether it takes a value. Equal
// names have equal arity in all commands, so that flags can be told from
// arguments before the command is known.
type arity map[string]bool

func (t arity) known(name string) bool { _, ok := t[name]; return ok }

// allShort reports whether name is several one-letter switches in one word.
func (t arity) allShort(name string) bool {
	for _, c := range name {
		if value, ok := t[string(c)]; !ok || value {
			return false
		}
	}
	return len(name) > 1
}

// takesValue reports whether the argument after a flag is its value.
func takesValue(f cli.Flag) bool {
	switch f := f.(type) {
	case *cli.BoolFlag:
		return false
	case *cli.GenericFlag:
		b, ok := f.Value.(interface{ IsBoolFlag() bool })
		return !ok || !b.IsBoolFlag()
	}
	return true
}

func flagTable(app *cli.App) arity {
	t := arity{"help": false, "h": false, "version": false, "v": false}
	for _, c := range app.Commands {
		for _, f := range c.Flags {
			for _, name := range f.Names() {
				t[name] = takesValue(f)
			}
		}
	}
	return t
}

// ignoredOptions are what mount(8) and fstab add that means nothing here:
// either the kernel's to keep, or for the one who reads fstab.
var ignoredOptions = []string{
	"rw", "defaults", "user", "users", "nouser", "owner", "group", "nofail", "_netdev", "auto", "noauto",
	"exec", "noexec", "suid", "nosuid", "dev", "nodev", "async", "atime", "noatime", "relatime", "diratime", "nodiratime", "strictatime",
}

// mountOptions turns the value of -o into flags of mount. sloppy drops what it
// does not know.
func mountOptions(app *cli.App, text string, sloppy bool) ([]string, error) {
	table := arity{}
	for _, f := range app.Command(defaultCommand).Flags {
		for _, name := range f.Names() {
			if len(name) > 1 {
				table[name] = takesValue(f)
			}
		}
	}
	var out []string
	for o := range strings.SplitSeq(text, ",") {
		name, value, hasValue := strings.Cut(o, "=")
		// A bare rw is what mount(8) always says; rw=GLOB is the flag.
		if name == "" || slices.Contains(ignoredOptions, name) && !hasValue || strings.HasPrefix(name, "x-") || name == "comment" {
			continue
		}
		if name == "ro" {
			name = "read-only"
		}
		name = strings.ReplaceAll(name, "_", "-")
		needsValue, ok := table[name]
		switch {
		case !ok && sloppy:
		case !ok:
			return nil, errUsage("unknown mount option %q", o)
		case needsValue && !hasValue:
			return nil, errUsage("mount option %s needs a value: %s=…", name, name)
		case hasValue:
			out = append(out, fmt.Sprintf("--%s=%s", name, value))
		default:
			out = append(out, "--"+name)
		}
	}
	return out, nil
}
