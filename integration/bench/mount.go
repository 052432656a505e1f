package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"hfmount/remote/hub"
)

// mounted is one mount with directories of its own.
type mounted struct {
	reader
	b         *bench
	hub       *hubProcess
	repo      hub.Repo
	token     string
	home, dir string
	flags     []string
	forget    func() // that it is mounted
}

// mount mounts the model with an empty cache.
func (b *bench) mount(flags ...string) (*mounted, error) { return b.mountRepo(repo, flags...) }

func (b *bench) mountRepo(r hub.Repo, flags ...string) (*mounted, error) {
	return b.mountAs("", r, flags...)
}

// mountAs mounts with an account's token, which may write.
func (b *bench) mountAs(token string, r hub.Repo, flags ...string) (*mounted, error) {
	m, err := b.prepare(reader{}, b.hub, r, flags...)
	if err != nil {
		return nil, err
	}
	m.token = token
	return m, m.start()
}

// prepare makes the directories of a mount with an empty cache, for the
// account that is to mount.
func (b *bench) prepare(who reader, h *hubProcess, r hub.Repo, flags ...string) (*mounted, error) {
	b.made++
	home := filepath.Join(b.dir, fmt.Sprint(b.made))
	m := &mounted{reader: who, b: b, hub: h, repo: r, home: home, dir: home + "/mnt", flags: flags}
	for _, d := range []string{home + "/run", m.dir} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
	}
	if who.cred != nil {
		for _, d := range []string{home, home + "/run", m.dir} {
			if err := os.Chown(d, int(who.cred.Uid), int(who.cred.Gid)); err != nil {
				return nil, err
			}
		}
	}
	return m, nil
}

func (m *mounted) start(flags ...string) error {
	args := append([]string{"mount", "--log-file", m.home + "/log"}, m.flags...)
	args = append(args, flags...)
	if err := m.hfmount(append(args, m.repo.String(), m.dir)...); err != nil {
		return err
	}
	m.forget = m.b.tidy.add(func() {
		if m.hfmount("unmount", "--timeout", "5s", m.dir) != nil {
			detach(m.dir)
		}
	})
	return nil
}

func (m *mounted) hfmount(args ...string) error {
	_, err := m.output(args...)
	return err
}

func (m *mounted) output(args ...string) ([]byte, error) {
	cmd := m.command(m.b.hfmount, args...)
	cmd.Env = append(os.Environ(), "HF_ENDPOINT="+m.hub.URL, "HF_HOME="+m.home, "HOME="+m.home, "XDG_RUNTIME_DIR="+m.home+"/run", "HF_TOKEN="+m.token)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("hfmount %s: %w: %s", args[0], err, errs.String())
	}
	return out, nil
}

func (m *mounted) path(name string) string { return filepath.Join(m.dir, name) }

// status is what is used of `hfmount status --json`.
type status struct {
	PID          int                    `json:"pid"`
	Online       bool                   `json:"online"`
	Passthrough  bool                   `json:"passthrough"`
	BytesFetched uint64                 `json:"bytes_fetched"`
	LastError    *struct{ Text string } `json:"last_error"`
	Raw          string                 `json:"-"`
}

func (m *mounted) status() (s status, err error) {
	out, err := m.output("status", "--json", m.dir)
	if err != nil {
		return s, err
	}
	all := []status{}
	if err := json.Unmarshal(out, &all); err != nil {
		return s, err
	}
	if len(all) != 1 {
		return s, fmt.Errorf("status shows %d mounts", len(all))
	}
	all[0].Raw = string(out)
	return all[0], nil
}

func (m *mounted) unmount() error {
	if err := m.hfmount("unmount", m.dir); err != nil {
		return err
	}
	m.forget()
	return nil
}

// remount unmounts and mounts again with the same cache.
func (m *mounted) remount(flags ...string) error {
	if err := m.unmount(); err != nil {
		return err
	}
	return m.start(flags...)
}

var warning = regexp.MustCompile(`(?i)level=(warn|error)|panic`)

// close unmounts, drops the cache, and fails if the log has a warning.
func (m *mounted) close() error {
	if err := m.unmount(); err != nil {
		return err
	}
	log, err := os.ReadFile(m.home + "/log")
	if err == nil && warning.Match(log) {
		err = fmt.Errorf("the mount's log has warnings:\n%s", firstWarnings(string(log)))
	}
	return errors.Join(err, os.RemoveAll(m.home))
}

func firstWarnings(log string) string {
	var lines []string
	for line := range strings.Lines(log) {
		if warning.MatchString(line) && len(lines) < 3 {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return strings.Join(lines, "\n")
}

// abandon drops what was written, and closes.
func (m *mounted) abandon() error {
	if err := m.hfmount("discard", "--yes", m.dir); err != nil {
		return err
	}
	return m.close()
}

// fresh mounts with an empty cache, does f after the machine has come to
// rest, and closes.
func (b *bench) fresh(r hub.Repo, flags []string, f func(m *mounted) (time.Duration, error)) (time.Duration, error) {
	m, err := b.mountRepo(r, flags...)
	if err != nil {
		return 0, err
	}
	b.gate()
	d, err := f(m)
	return d, errors.Join(err, m.close())
}
