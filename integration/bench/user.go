package main

import (
	"errors"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"hfmount/remote/hubtest"
)

// ordinary does the same for a user who may not use passthrough.
func (b *bench) ordinary() (err error) {
	who, why := ordinaryUser()
	if why != "" {
		b.add("as an ordinary user", "not measured", "", why)
		return nil
	}
	if err := b.publishFiles(map[string]hubtest.Synthetic{"w.bin": b.file}); err != nil {
		return err
	}
	for at := b.dir; at != "/"; at = filepath.Dir(at) {
		if info, err := os.Stat(at); err == nil && info.Mode()&0o005 != 0o005 {
			if at != b.dir {
				b.add("as an ordinary user", "not measured", "", at+" is closed to other users; set TMPDIR")
				return nil
			}
			if err := os.Chmod(at, 0o755); err != nil {
				return err
			}
		}
	}
	m, err := b.prepare(who, b.hub, repo)
	if err != nil {
		return err
	}
	if err := m.start(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	if err := m.verify(m.path("w.bin"), b.file); err != nil {
		return err
	}
	s, err := m.status()
	if err != nil {
		return err
	}
	if s.Passthrough {
		return errors.New("this user has passthrough")
	}
	native, err := b.nativeCopy()
	if err != nil {
		return err
	}
	bars := map[string]*bar{"sequential": atLeast(0.85), "mmap, random pages": nil, "mmap, copied in order": atLeast(0.95)}
	for _, r := range b.readings() {
		p, ok := bars[r.what]
		if !ok {
			continue
		}
		local, ours, err := b.compare(r, m, native)
		if err != nil {
			return err
		}
		b.add(r.what+", native in the page cache", r.show(local), "1", "")
		what, x := r.what+", hfmount without passthrough", over(local.median(), ours.median())
		if p == nil {
			b.add(what, r.show(ours), number(x), "")
			continue
		}
		b.check(what, r.show(ours), x, p, "")
	}
	return m.verify(m.path("w.bin"), b.file)
}

// ordinaryUser is an account without privileges that may mount: whoever runs
// this, or, for root, nobody. If there is none it says why.
func ordinaryUser() (who reader, why string) {
	info, err := os.Stat("/dev/fuse")
	if err != nil {
		return who, err.Error()
	}
	if os.Getuid() != 0 {
		return who, ""
	}
	if info.Mode().Perm()&0o006 != 0o006 {
		return who, "/dev/fuse is closed to ordinary users"
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		return who, err.Error()
	}
	uid, err := strconv.ParseUint(nobody.Uid, 10, 32)
	if err != nil {
		return who, err.Error()
	}
	gid, err := strconv.ParseUint(nobody.Gid, 10, 32)
	if err != nil {
		return who, err.Error()
	}
	return reader{&syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, ""
}
