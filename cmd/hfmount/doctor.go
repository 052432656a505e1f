package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"hfmount/fs/node"
	"hfmount/remote"
	"hfmount/remote/hub"
	"hfmount/writeback"
)

func doctorCommand() *cli.Command {
	return &cli.Command{
		Name:      "doctor",
		Usage:     "check what mounting needs, and say what to do about each thing",
		ArgsUsage: " ",
		Description: `Ends with 1 if something is broken. What is only slower than it could be is
a note.

Example:
  hfmount doctor`,
		Flags: append([]cli.Flag{jsonFlag(), stateDirFlag()}, storeFlags("error")...),
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 0, 0); err != nil {
				return err
			}
			cfg, err := readStoreConfig(c)
			if err != nil {
				return err
			}
			stateDir, err := stateDirOf(c, cfg)
			if err != nil {
				return err
			}
			j := journals{dir: stateDir}
			for _, name := range []string{"state-dir", "cache-dir"} {
				if c.IsSet(name) {
					j.flags += " --" + name + " " + c.String(name)
				}
			}
			return doctor(c.Context, cfg, j, c.App.Writer, c.Bool("json"))
		},
	}
}

// finding is one thing the doctor looked at.
type finding struct {
	Check string `json:"check"`
	State string `json:"state"` // ok, note or broken
	Text  string `json:"text"`
	Hint  string `json:"hint"` // what to do, "" if nothing
}

const (
	findingOK     = "ok"
	findingNote   = "note"
	findingBroken = "broken"
)

func doctor(ctx context.Context, cfg storeConfig, j journals, w io.Writer, asJSON bool) error {
	findings := examine(ctx, cfg, j)
	broken := 0
	for _, f := range findings {
		if f.State == findingBroken {
			broken++
		}
	}
	if asJSON {
		b, err := json.MarshalIndent(findings, "", "  ")
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "%s\n", b); err != nil {
			return err
		}
	} else {
		for _, f := range findings {
			fmt.Fprintf(w, "%-7s %-17s %s\n", f.State, f.Check, f.Text)
			if f.Hint != "" {
				fmt.Fprintf(w, "%-7s %-17s → %s\n", "", "", f.Hint)
			}
		}
	}
	if broken > 0 {
		return &failure{text: fmt.Sprintf("%d of %d checks found something broken", broken, len(findings)), code: exitFailed}
	}
	return nil
}

func examine(ctx context.Context, cfg storeConfig, j journals) []finding {
	probe := node.ProbeHost(cfg.cacheDir)
	out := []finding{
		checkDevice(probe.Device),
		checkHelper(probe),
		checkPassthrough(probe),
		checkReadAhead(probe),
	}
	out = append(out, checkCacheDir(cfg.cacheDir)...)
	out = append(out, checkRuntimeDir())
	out = append(out, checkJournals(j)...)
	return append(out, checkHub(ctx, cfg)...)
}

func checkDevice(err error) finding {
	f := finding{Check: "/dev/fuse", State: findingOK, Text: "can be opened"}
	if err == nil {
		return f
	}
	f.State, f.Text = findingBroken, err.Error()
	e := explainMount(err, "any directory", "-", err)
	f.Hint = e.hint
	return f
}

func checkHelper(p node.Probe) finding {
	f := finding{Check: "fusermount3", State: findingOK, Text: p.Helper}
	if p.Helper != "" {
		return f
	}
	f.Text, f.Hint = "not installed", "apt-get install fuse3, dnf install fuse3, or apk add fuse3"
	f.State = findingBroken
	if p.Direct {
		f.State = findingNote
		f.Text += "; not needed with this user's rights"
	}
	return f
}

func checkPassthrough(p node.Probe) finding {
	if p.Passthrough {
		return finding{Check: "passthrough", State: findingOK, Text: "complete files are read natively"}
	}
	return finding{Check: "passthrough", State: findingNote, Text: "not available: " + p.Reason,
		Hint: "complete files are read through the mount's process, which is slower; it needs Linux 6.9 and root"}
}

func checkReadAhead(p node.Probe) finding {
	if p.ReadAhead {
		return finding{Check: "read-ahead", State: findingOK, Text: "can be raised"}
	}
	return finding{Check: "read-ahead", State: findingNote, Text: "stays at the kernel's default of 128 KiB",
		Hint: "as root after mounting: echo 896 > /sys/class/bdi/$(mountpoint -d DIR)/read_ahead_kb"}
}

// lowSpace is where a cache has little use: its floor is 20 GB.
const lowSpace = 20e9

func checkCacheDir(dir string) []finding {
	f := finding{Check: "cache", State: findingOK, Text: dir}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return []finding{{f.Check, findingBroken, err.Error(), "name another directory with --cache-dir"}}
	}
	probe, err := os.CreateTemp(dir, ".doctor-*")
	if err == nil {
		err = errors.Join(probe.Close(), os.Remove(probe.Name()))
	}
	if err != nil {
		return []finding{{f.Check, findingBroken, "cannot be written: " + err.Error(), "name another directory with --cache-dir"}}
	}
	if kind := unfitForCache(dir); kind != "" {
		f.State, f.Text, f.Hint = findingNote, dir+" is "+kind, "name a directory on a local disk with --cache-dir"
	}
	out := []finding{f}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err == nil {
		free := st.Bavail * uint64(st.Bsize)
		s := finding{Check: "cache space", State: findingOK, Text: humanize.Bytes(free) + " free"}
		if float64(free) < lowSpace {
			s.State, s.Hint = findingNote, "by default the cache leaves 20 GB free, so it keeps nothing on this disk; set --cache-size or make room"
		}
		out = append(out, s)
	}
	return out
}

func checkRuntimeDir() finding {
	dir, err := makeRuntimeDir()
	if err != nil {
		return finding{"runtime directory", findingBroken, err.Error(), "set XDG_RUNTIME_DIR to a directory that only this user can enter"}
	}
	return finding{"runtime directory", findingOK, filepath.Clean(dir), ""}
}

// journals is where the doctor looks for local changes.
type journals struct {
	dir   string
	flags string // that name the place to other commands, "" if it is the usual
}

// checkJournals tells of local changes that no mount serves now: nobody sends
// them until somebody asks for it.
func checkJournals(j journals) []finding {
	const check = "local changes"
	found, err := writeback.Layers(j.dir)
	if err != nil {
		return []finding{{check, findingBroken, "the journals in " + j.dir + " cannot be looked at: " + err.Error(), "correct its permissions, or name another with --state-dir"}}
	}
	var out []finding
	for _, f := range found {
		if f.Locked {
			continue // a mount has them, and status tells
		}
		name := refName(f.Key.Ref)
		send := "mount " + name + " again, which goes on with them, or `hfmount recover retry --repo " + name + j.flags + "`"
		switch {
		case f.Err != nil:
			out = append(out, finding{check, findingBroken, "the journal in " + f.Dir + " cannot be opened: " + f.Err.Error(), "keep that directory until `hfmount recover` can read it"})
		case f.Damage != "":
			out = append(out, finding{check, findingBroken, fmt.Sprintf("part of the journal of %s could not be read (%s); %s of it left", name, f.Damage, count(f.Changes, "change")),
				"`hfmount recover export FOLDER` copies out what was read; or " + send})
		case f.Changes > 0:
			text := fmt.Sprintf("%s of %s (%s staged) not on the Hub, and no mount sends them", count(f.Changes, "change"), name, humanize.Bytes(uint64(f.Bytes)))
			if f.Unclosed > 0 {
				text += fmt.Sprintf("; %d of them unclosed: open for writing when the process ended, sent with --unclosed only", f.Unclosed)
			}
			out = append(out, finding{check, findingNote, text, send})
		}
	}
	if len(out) == 0 {
		out = append(out, finding{check, findingOK, "none that no mount sends", ""})
	}
	return out
}

// hubPatience bounds the doctor's questions to the Hub.
const hubPatience = 20 * time.Second

func checkHub(ctx context.Context, cfg storeConfig) []finding {
	if cfg.offline {
		return []finding{{"endpoint", findingNote, "offline mode, not asked", "unset HF_HUB_OFFLINE to go online"}}
	}
	token, err := cfg.tokens().Token(ctx)
	if err != nil {
		return []finding{{"token", findingBroken, err.Error(), "log in with `hf auth login`"}}
	}
	client, err := remote.New(remote.Options{Endpoint: cfg.endpoint, Tokens: cfg.tokens(), APITimeout: hubPatience})
	if err != nil {
		return []finding{{"endpoint", findingBroken, err.Error(), "correct HF_ENDPOINT"}}
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, hubPatience)
	defer cancel()
	var account hub.Account
	if token != "" {
		account, err = client.WhoAmI(ctx)
	} else {
		// Any answer will do, and a Hub answers for a repository it does not have.
		_, err = client.Resolve(ctx, hub.Ref{Repo: hub.Repo{Namespace: "hfmount", Name: "doctor"}})
	}
	answered := err == nil || errors.Is(err, iofs.ErrPermission) || errors.Is(err, iofs.ErrNotExist)
	endpoint := finding{"endpoint", findingOK, cfg.endpoint + " answers", ""}
	if !answered {
		f := explain(err)
		return []finding{{"endpoint", findingBroken, cfg.endpoint + ": " + f.text, "check the network, the proxy settings and HF_ENDPOINT"}}
	}
	switch {
	case token != "" && err == nil:
		return []finding{endpoint, {"token", findingOK, "of " + account.Name, ""}}
	case token == "":
		return []finding{endpoint, {"token", findingNote, "none: public repositories only, at lower rates", "log in with `hf auth login`, or set HF_TOKEN"}}
	}
	f := explain(err)
	return []finding{endpoint, {"token", findingBroken, "refused: " + f.text, f.hint}}
}
