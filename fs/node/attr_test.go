package node

import (
	"bytes"
	iofs "io/fs"
	"math"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"hfmount/fs"
)

func TestFill(t *testing.T) {
	when := time.Unix(1_700_000_000, 42)
	for _, c := range []struct {
		name   string
		attr   fs.Attr
		umask  uint32
		mode   uint32
		blocks uint64
	}{
		{"file", fs.Attr{Ino: 5, Mode: 0o444, Size: 1025, Mtime: when}, 0, syscall.S_IFREG | 0o444, 3},
		{"empty file", fs.Attr{Mode: 0o444}, 0, syscall.S_IFREG | 0o444, 0},
		{"one block", fs.Attr{Mode: 0o444, Size: 512}, 0, syscall.S_IFREG | 0o444, 1},
		{"huge file", fs.Attr{Mode: 0o444, Size: 1 << 50}, 0, syscall.S_IFREG | 0o444, 1 << 41},
		{"file, private", fs.Attr{Mode: 0o444}, 0o077, syscall.S_IFREG | 0o400, 0},
		{"file, writable in the tree", fs.Attr{Mode: 0o644}, 0, syscall.S_IFREG | 0o444, 0},
		{"file, writable", fs.Attr{Mode: 0o644, Writable: true}, 0, syscall.S_IFREG | 0o644, 0},
		{"file, writable, private", fs.Attr{Mode: 0o644, Writable: true}, 0o077, syscall.S_IFREG | 0o600, 0},
		{"file, chmod", fs.Attr{Mode: 0o666, Writable: true, Chosen: true}, 0o077, syscall.S_IFREG | 0o666, 0},
		{"directory, writable", fs.Attr{Mode: iofs.ModeDir | 0o755, Writable: true}, 0o022, syscall.S_IFDIR | 0o755, 0},
		{"directory, chmod", fs.Attr{Mode: iofs.ModeDir | 0o700, Writable: true, Chosen: true}, 0o022, syscall.S_IFDIR | 0o700, 0},
		{"directory", fs.Attr{Mode: iofs.ModeDir | 0o555}, 0, syscall.S_IFDIR | 0o555, 0},
		{"directory, type alone", fs.Attr{Mode: iofs.ModeDir}, 0o022, syscall.S_IFDIR | 0o555, 0},
		{"directory, closed", fs.Attr{Mode: iofs.ModeDir | 0o555}, 0o777, syscall.S_IFDIR, 0},
		{"link", fs.Attr{Mode: iofs.ModeSymlink, Size: 7}, 0, syscall.S_IFLNK | 0o777, 1},
	} {
		var out fuse.Attr
		owner{uid: 1, gid: 2, umask: c.umask}.fill(&out, c.attr)
		if out.Mode != c.mode || out.Blocks != c.blocks || out.Size != uint64(c.attr.Size) ||
			out.Ino != c.attr.Ino || out.Uid != 1 || out.Gid != 2 || out.Nlink != 1 {
			t.Errorf("%s: %+v", c.name, out)
		}
		if !c.attr.Mtime.IsZero() && (out.Mtime != uint64(when.Unix()) || out.Mtimensec != 42) {
			t.Errorf("%s: mtime %d.%d", c.name, out.Mtime, out.Mtimensec)
		}
		if c.attr.Mtime.IsZero() && out.Mtime != 0 {
			t.Errorf("%s: no mtime shows as %d", c.name, out.Mtime)
		}
	}
}

func TestFillOverrides(t *testing.T) {
	when := time.Unix(1_700_000_000, 1)
	var out fuse.Attr
	owner{uid: 1, gid: 2}.fill(&out, fs.Attr{
		Mtime: when, Atime: when.Add(time.Second), Ctime: when.Add(time.Minute), Owner: &fs.Owner{UID: 7, GID: 8},
	})
	if out.Uid != 7 || out.Gid != 8 {
		t.Errorf("the owner is %d:%d", out.Uid, out.Gid)
	}
	var half fuse.Attr
	owner{uid: 1, gid: 2}.fill(&half, fs.Attr{Owner: &fs.Owner{UID: 1<<32 - 1, GID: 8}})
	if half.Uid != 1 || half.Gid != 8 {
		t.Errorf("after a chgrp alone the owner is %d:%d", half.Uid, half.Gid)
	}
	if d := out.AccessTime().Sub(out.ModTime()); d != time.Second {
		t.Errorf("read %v after it was written", d)
	}
	if d := out.ChangeTime().Sub(out.ModTime()); d != time.Minute {
		t.Errorf("changed %v after it was written", d)
	}
	owner{}.fill(&out, fs.Attr{Mtime: time.Unix(-1000, 0)})
	if got := out.ModTime(); got.Unix() != -1000 {
		t.Errorf("before 1970: %v", got)
	}
}

func TestTTL(t *testing.T) {
	for _, d := range []time.Duration{-1, 0, time.Second, math.MaxInt64} {
		var out fuse.EntryOut
		out.SetEntryTimeout(ttl(d))
		if got := out.EntryTimeout(); got != max(d, 0) {
			t.Errorf("%v came out as %v", d, got)
		}
	}
}

func TestCopyOut(t *testing.T) {
	for _, c := range []struct {
		room  int
		value string
		n     uint32
		errno syscall.Errno
	}{
		{0, "", 0, 0},
		{0, "abc", 3, syscall.ERANGE}, // asks for the size
		{2, "abc", 3, syscall.ERANGE},
		{3, "abc", 3, 0},
		{9, "abc", 3, 0},
	} {
		dest := make([]byte, c.room)
		n, no := copyOut(dest, c.value)
		if n != c.n || no != c.errno {
			t.Errorf("%d bytes for %q: %d, %v", c.room, c.value, n, no)
		}
		if no == 0 && !bytes.HasPrefix(dest, []byte(c.value)) {
			t.Errorf("%q was copied as %q", c.value, dest)
		}
	}
}
