package node

import (
	"context"
	"errors"
	"io"
	iofs "io/fs"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"hfmount/fs"
)

// setAttrOf translates the request but for the size. Set-user-ID, set-group-ID
// and sticky bits are not kept: the Hub has no place for them, and without
// them nothing need be cleared at a write.
func setAttrOf(in *fuse.SetAttrIn) fs.SetAttr {
	var s fs.SetAttr
	if mode, ok := in.GetMode(); ok {
		m := iofs.FileMode(mode) & iofs.ModePerm
		s.Mode = &m
	}
	if uid, ok := in.GetUID(); ok {
		s.UID = &uid
	}
	if gid, ok := in.GetGID(); ok {
		s.GID = &gid
	}
	if t, ok := in.GetATime(); ok {
		s.Atime = &t
	}
	if t, ok := in.GetMTime(); ok {
		s.Mtime = &t
	}
	return s
}

// Setattr answers chmod, chown, utimensat, truncate and ftruncate.
func (f *fileNode) Setattr(ctx context.Context, fh gofs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if f.s.readOnly {
		return syscall.EROFS
	}
	r := f.s.begin(ctx)
	defer r.finish()
	set := setAttrOf(in)
	if size, ok := in.GetSize(); ok {
		n := int64(size)
		if n < 0 {
			return syscall.EFBIG
		}
		if o, ok := fh.(*openFile); ok && o.write {
			if err := o.h.Truncate(r, n); err != nil {
				return f.s.failWrite(r, "truncate", f.name(), err)
			}
		} else {
			// The kernel has truncate(2) look the path up again, as it does
			// for an open.
			if !f.mayWrite(r) {
				f.detach()
				return f.s.fail(r, "truncate", f.name(), fs.ErrStale)
			}
			set.Size = &n
			defer f.s.writerDue.came(f.name)
		}
	}
	file := f.file.Load()
	a, err := file.SetAttr(r, set)
	if err != nil {
		return f.s.failWrite(r, "setattr", f.name(), err)
	}
	f.s.fill(&out.Attr, a, f)
	if !f.changesUnseen() {
		out.SetTimeout(ttl(file.TTL()))
	}
	return 0
}

// Write is what the kernel does not write by itself: a write(2) of a file that
// is open cached, or pages that a mapping made dirty. The offset is right also
// for O_APPEND, since the kernel's size is, and the pages of a mapping have a
// place of their own.
func (f *fileNode) Write(ctx context.Context, fh gofs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	return f.Writev(ctx, fh, [][]byte{data}, off)
}

// Writev is Write of data that arrived in pieces.
func (f *fileNode) Writev(ctx context.Context, fh gofs.FileHandle, data [][]byte, off int64) (uint32, syscall.Errno) {
	o, ok := fh.(*openFile)
	if !ok || !o.write {
		return 0, syscall.EBADF
	}
	r := f.s.begin(ctx)
	defer r.finish()
	var done uint32
	for _, p := range data {
		n, err := o.h.WriteAt(r, p, off+int64(done))
		done += uint32(n)
		switch {
		case err != nil && done == 0:
			return 0, f.s.failWrite(r, "write", f.name(), err)
		case err != nil || n < len(p):
			return done, 0 // the caller tries the rest and is told why not
		}
	}
	return done, 0
}

// Flush is sent at each close(2) of a file open for writing. It is not given
// up with its caller: a process that was killed closes its files as well, and
// what it wrote until then is to survive it.
func (f *fileNode) Flush(ctx context.Context, fh gofs.FileHandle) syscall.Errno {
	o, ok := fh.(*openFile)
	if !ok || f.s.readOnly {
		// To the caller a success; the kernel does not ask again in this mount.
		return syscall.ENOSYS
	}
	if !o.write {
		return 0
	}
	o.flushed.Store(true)
	flush := o.h.Flush
	if c, ok := fuse.FromContext(ctx); ok && o.pid != 0 && f.s.processOf(c.Pid) == o.pid && f.s.tables.last(o.pid, f.s.dir, f.name()) {
		flush = o.h.FlushLast
	}
	ctx = context.WithoutCancel(ctx)
	return f.s.failWrite(ctx, "flush", f.name(), flush(ctx))
}

// Fsync makes the bytes durable, also through a handle for reading, as
// programs do that sync what others wrote.
func (f *fileNode) Fsync(ctx context.Context, fh gofs.FileHandle, _ uint32) syscall.Errno {
	o, ok := fh.(*openFile)
	if !ok || f.s.readOnly {
		return syscall.ENOSYS
	}
	r := f.s.begin(ctx)
	defer r.finish()
	return f.s.failWrite(r, "fsync", f.name(), o.h.Sync(r))
}

// Allocate answers fallocate(2) in the modes that the kernel lets through.
func (f *fileNode) Allocate(ctx context.Context, fh gofs.FileHandle, off, size uint64, mode uint32) syscall.Errno {
	if f.s.readOnly {
		return syscall.EROFS
	}
	o, ok := fh.(*openFile)
	if !ok || !o.write {
		return syscall.EBADF
	}
	r := f.s.begin(ctx)
	defer r.finish()
	return f.s.failWrite(r, "fallocate", f.name(), o.h.Allocate(r, int64(off), int64(size), mode))
}

const (
	copyPiece = 1 << 20  // bytes read and written at once
	copyMost  = 64 << 20 // bytes in one request, so that its caller can be interrupted
)

// CopyFileRange copies within the mount, without the bytes passing through the
// kernel. It may copy less than asked for, as copy_file_range(2) may.
func (f *fileNode) CopyFileRange(ctx context.Context, fhIn gofs.FileHandle, offIn uint64,
	outNode *gofs.Inode, fhOut gofs.FileHandle, offOut, size, _ uint64) (uint32, syscall.Errno) {
	from, ok1 := fhIn.(*openFile)
	to, ok2 := fhOut.(*openFile)
	if !ok1 || !ok2 || !to.write {
		return 0, syscall.EBADF
	}
	r := f.s.begin(ctx)
	defer r.finish()
	size = min(size, copyMost)
	buf := make([]byte, min(size, copyPiece))
	var done uint64
	for done < size {
		n, err := from.h.ReadAt(r, buf[:min(size-done, copyPiece)], int64(offIn+done))
		if n == 0 {
			if err != nil && !errors.Is(err, io.EOF) && done == 0 {
				return 0, f.s.fail(r, "copy", f.name(), err)
			}
			break
		}
		w, err := to.h.WriteAt(r, buf[:n], int64(offOut+done))
		done += uint64(w)
		if err != nil && done == 0 {
			return 0, f.s.failWrite(r, "copy", to.node.name(), err)
		}
		if err != nil || w < n {
			break
		}
	}
	return uint32(done), 0
}
