package node

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"hfmount/fs"
)

// Nothing here is reached in a mount that carries the flag ro: the kernel
// answers by itself. Where one that does not shows something that cannot be
// written, package fs says so.

func perm(mode uint32) iofs.FileMode { return iofs.FileMode(mode) & iofs.ModePerm }

// Create makes a file and opens it, natively if that can be: it is empty, and
// so all of it is on local disk.
func (d *dirNode) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*gofs.Inode, gofs.FileHandle, uint32, syscall.Errno) {
	r := d.s.begin(ctx)
	defer r.finish()
	file, h, err := d.dir.Load().Create(r, name, perm(mode), d.s.openFlags(ctx, flags))
	if errors.Is(err, iofs.ErrExist) && flags&syscall.O_EXCL == 0 {
		// The kernel remembers that there was none. It looks again, and opens
		// what there is.
		err = fs.ErrStale
	}
	if err != nil {
		return nil, nil, 0, d.s.failWrite(r, "create", name, err)
	}
	d.changes.Add(1)
	return d.created(ctx, r, name, file, h, out)
}

// Tmpfile makes a file without a name, for O_TMPFILE.
func (d *dirNode) Tmpfile(ctx context.Context, flags, mode uint32, out *fuse.EntryOut) (*gofs.Inode, gofs.FileHandle, uint32, syscall.Errno) {
	r := d.s.begin(ctx)
	defer r.finish()
	file, h, err := d.dir.Load().Tmpfile(r, perm(mode), d.s.openFlags(ctx, flags))
	if err != nil {
		return nil, nil, 0, d.s.failWrite(r, "tmpfile", "", err)
	}
	return d.created(ctx, r, "", file, h, out)
}

func (d *dirNode) created(ctx context.Context, r *request, name string, file *fs.File, h *fs.Handle, out *fuse.EntryOut) (*gofs.Inode, gofs.FileHandle, uint32, syscall.Errno) {
	a, err := file.Attr(r)
	if err != nil {
		d.s.closeHandle(h)
		return nil, nil, 0, d.s.failWrite(r, "create", name, err)
	}
	n := newFileNode(d.s, file)
	o := &openFile{node: n, h: h, write: true}
	if c, ok := ctx.(*fuse.Context); ok {
		o.pid = d.s.processOf(c.Pid)
	}
	n.enter(o, file, file.Epoch(), d.s.reply(ctx)) // an idle inode serves anything
	d.s.track(o)
	inode := d.NewInode(ctx, n, fileAttr(file))
	d.s.live.add(n)
	d.s.entry(out, a, n, file)
	// Also where the kernel writes by itself: it is empty, and the kernel looks
	// again after its own writes. A mapping cannot change it before a SETATTR or
	// a write made it larger.
	out.SetAttrTimeout(ttl(file.TTL()))
	return inode, o, 0, 0
}

// Mknod makes regular files alone: the Hub knows no other kinds.
func (d *dirNode) Mknod(ctx context.Context, name string, mode, _ uint32, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	if kind := mode & syscall.S_IFMT; kind != syscall.S_IFREG && kind != 0 {
		if d.s.readOnly || !d.dir.Load().Writable() {
			return nil, syscall.EROFS
		}
		return nil, syscall.EPERM
	}
	r := d.s.begin(ctx)
	defer r.finish()
	file, h, err := d.dir.Load().Create(r, name, perm(mode), fs.OpenFlags{Write: true})
	if err != nil {
		return nil, d.s.failWrite(r, "mknod", name, err)
	}
	if err := h.Close(); err != nil {
		return nil, d.s.failWrite(r, "mknod", name, err)
	}
	d.changes.Add(1)
	return d.added(ctx, r, name, file, out)
}

func (d *dirNode) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	r := d.s.begin(ctx)
	defer r.finish()
	dir, err := d.dir.Load().Mkdir(r, name, perm(mode))
	if err != nil {
		return nil, d.s.failWrite(r, "mkdir", name, err)
	}
	d.changes.Add(1)
	return d.added(ctx, r, name, dir, out)
}

func (d *dirNode) Symlink(ctx context.Context, target, name string, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	r := d.s.begin(ctx)
	defer r.finish()
	link, err := d.dir.Load().Symlink(r, name, target)
	if err != nil {
		return nil, d.s.failWrite(r, "symlink", name, err)
	}
	d.changes.Add(1)
	return d.added(ctx, r, name, link, out)
}

// added answers with what was just made under name.
func (d *dirNode) added(ctx context.Context, r *request, name string, n fs.Node, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	a, err := n.Attr(r)
	if err != nil {
		return nil, d.s.failWrite(r, "attributes", name, err)
	}
	inode, err := d.s.child(ctx, d.EmbeddedInode(), name, n)
	if err != nil {
		return nil, d.s.failWrite(r, "attributes", name, err)
	}
	d.s.entry(out, a, inode.Operations(), n)
	return inode, 0
}

// Link gives a name to a file that was made without one. The Hub has no hard
// links.
func (d *dirNode) Link(ctx context.Context, target gofs.InodeEmbedder, name string, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	r := d.s.begin(ctx)
	defer r.finish()
	dir := d.dir.Load()
	of, ok := target.(*fileNode)
	if !ok {
		if d.s.readOnly || !dir.Writable() {
			return nil, syscall.EROFS
		}
		return nil, d.s.fail(r, "link", name, fs.ErrNoLinks)
	}
	file, err := dir.Link(r, name, of.file.Load())
	if err != nil {
		return nil, d.s.failWrite(r, "link", name, err)
	}
	d.changes.Add(1)
	a, err := file.Attr(r)
	if err != nil {
		return nil, d.s.failWrite(r, "link", name, err)
	}
	of.file.Store(file)
	d.s.entry(out, a, of, file)
	out.Attr.Nlink = 1 // go-fuse gives it the name after this
	return of.EmbeddedInode(), 0
}

func (d *dirNode) Unlink(ctx context.Context, name string) syscall.Errno {
	r := d.s.begin(ctx)
	defer r.finish()
	last := d.s.lastOpen(r, d.GetChild(name))
	if err := d.dir.Load().Unlink(r, name); err != nil {
		last.drop()
		return d.s.failWrite(r, "unlink", name, err)
	}
	d.changes.Add(1)
	last.keep()
	return 0
}

func (d *dirNode) Rmdir(ctx context.Context, name string) syscall.Errno {
	r := d.s.begin(ctx)
	defer r.finish()
	if err := d.dir.Load().Rmdir(r, name); err != nil {
		return d.s.failWrite(r, "rmdir", name, err)
	}
	d.changes.Add(1)
	return 0
}

// Rename moves a name. go-fuse moves the inodes after it.
func (d *dirNode) Rename(ctx context.Context, name string, newParent gofs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	to, ok := newParent.(*dirNode)
	if !ok {
		return syscall.EXDEV
	}
	if flags&^(unix.RENAME_NOREPLACE|unix.RENAME_EXCHANGE) != 0 {
		return syscall.EINVAL
	}
	r := d.s.begin(ctx)
	defer r.finish()
	from := fs.RenameFlags{NoReplace: flags&unix.RENAME_NOREPLACE != 0, Exchange: flags&unix.RENAME_EXCHANGE != 0}
	var last *lastOpen
	if !from.Exchange {
		last = d.s.lastOpen(r, to.GetChild(newName))
	}
	if err := d.dir.Load().Rename(r, name, to.dir.Load(), newName, from); err != nil {
		last.drop()
		return d.s.failWrite(r, "rename", name, err)
	}
	last.keep()
	d.changes.Add(1)
	to.changes.Add(1)
	d.s.renew(r, d.GetChild(name), to.dir.Load(), newName)
	if from.Exchange {
		d.s.renew(r, to.GetChild(newName), d.dir.Load(), name)
	}
	return 0
}

// renew makes a moved inode show the node at its new place. It is still at the
// old one in go-fuse's tree. Where that fails the inode keeps the node it has,
// which the next lookup replaces.
func (s *Server) renew(r *request, inode *gofs.Inode, dir *fs.Dir, name string) {
	if inode == nil {
		return
	}
	n, err := dir.Lookup(r, name)
	if err != nil {
		return
	}
	s.adopt(inode, n)
}

// Setattr of a directory answers chmod, chown and utimensat.
func (d *dirNode) Setattr(ctx context.Context, _ gofs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if d.s.readOnly {
		return syscall.EROFS
	}
	if _, ok := in.GetSize(); ok {
		return syscall.EISDIR
	}
	r := d.s.begin(ctx)
	defer r.finish()
	dir := d.dir.Load()
	a, err := dir.SetAttr(r, setAttrOf(in))
	if err != nil {
		return d.s.failWrite(r, "setattr", d.Path(nil), err)
	}
	d.s.fill(&out.Attr, a, d)
	out.SetTimeout(ttl(dir.TTL()))
	return 0
}

// Fsync makes all names durable.
func (d *dirNode) Fsync(ctx context.Context, _ gofs.FileHandle, _ uint32) syscall.Errno {
	if d.s.readOnly {
		return syscall.ENOSYS // there is nothing to do, ever
	}
	r := d.s.begin(ctx)
	defer r.finish()
	return d.s.failWrite(r, "fsync", d.Path(nil), d.dir.Load().Sync(r))
}

// adopt makes inode show n if that is the same thing, and reports whether it
// is.
func (s *Server) adopt(inode *gofs.Inode, n fs.Node) bool {
	switch ops := inode.Operations().(type) {
	case *dirNode:
		d, ok := n.(*fs.Dir)
		if ok = ok && inode.StableAttr() == dirAttr(d); ok {
			ops.dir.Store(d)
		}
		return ok
	case *fileNode:
		f, ok := n.(*fs.File)
		if ok = ok && inode.StableAttr() == fileAttr(f); ok {
			ops.file.Store(f)
		}
		return ok
	case *linkNode:
		l, ok := n.(*fs.Symlink)
		return ok && inode.StableAttr() == linkAttr(l) && ops.link.Target() == l.Target()
	}
	return false
}

func dirAttr(d *fs.Dir) gofs.StableAttr {
	return gofs.StableAttr{Ino: d.Ino(), Mode: syscall.S_IFDIR}
}

func linkAttr(l *fs.Symlink) gofs.StableAttr {
	return gofs.StableAttr{Ino: l.Ino(), Mode: syscall.S_IFLNK}
}

// child returns the inode that shows n under name: the present one if it shows
// the same thing, else a new one.
//
// A file that others changed is another inode even where fs gives it the same
// number: its generation differs. So neither pages nor open handles of the old
// one are touched.
func (s *Server) child(ctx context.Context, parent *gofs.Inode, name string, n fs.Node) (*gofs.Inode, error) {
	if old := parent.GetChild(name); old != nil && s.adopt(old, n) {
		return old, nil
	}
	switch n := n.(type) {
	case *fs.Dir:
		return parent.NewInode(ctx, newDirNode(s, n), dirAttr(n)), nil
	case *fs.File:
		return parent.NewInode(ctx, newFileNode(s, n), fileAttr(n)), nil
	case *fs.Symlink:
		return parent.NewInode(ctx, &linkNode{s: s, link: n}, linkAttr(n)), nil
	}
	return nil, fmt.Errorf("a node of unknown type %T", n)
}
