package main

import (
	"io"
	"strings"
)

// helperArgs reads the command line of a mount(8) helper, "SRC DIR [-sfnv]
// [-o options] [-t type] [-N namespace]", and returns the same as a plain
// command line. nil without an error means that there is nothing to do (-f).
func helperArgs(args []string) ([]string, error) {
	var pos, options []string
	sloppy, fake := false, false
	for i := 1; i < len(args); i++ {
		a := args[i]
		if len(a) < 2 || a[0] != '-' {
			pos = append(pos, a)
			continue
		}
	letters:
		for j := 1; j < len(a); j++ {
			switch a[j] {
			case 's':
				sloppy = true
			case 'f':
				fake = true
			case 'n', 'v', 'r', 'w':
				if a[j] == 'r' {
					options = append(options, "ro")
				}
			case 'o', 't', 'N':
				value := a[j+1:]
				if value == "" {
					if i++; i == len(args) {
						return nil, errUsage("-%c needs a value", a[j])
					}
					value = args[i]
				}
				if a[j] == 'o' {
					options = append(options, value)
				}
				break letters
			default:
				return nil, errUsage("unknown option -%c of a mount helper", a[j])
			}
		}
	}
	if len(pos) != 2 {
		return nil, &failure{text: "a mount helper takes a source and a directory", hint: "usage: mount.hfmount REPO DIR [-sfnv] [-o OPTIONS]", code: exitUsage}
	}
	flags, err := mountOptions(newApp(io.Discard, io.Discard), strings.Join(options, ","), sloppy)
	if err != nil || fake {
		return nil, err
	}
	out := append([]string{"hfmount", "mount"}, flags...)
	return append(append(out, "--"), pos...), nil
}
