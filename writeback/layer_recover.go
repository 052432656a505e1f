package writeback

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"
)

// Promote makes what was open when its process died as good as closed, at and
// beneath paths ("" is all): it may be committed from now on. It returns the
// paths.
func (l *Layer) Promote(paths ...string) ([]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var done []string
	for _, p := range paths {
		for _, c := range l.underLocked(p) {
			f := c.file
			if f == nil || !f.unclosed {
				continue
			}
			was := *f.recLocked()
			f.unclosed, f.flushed, f.since = false, true, l.o.Now()
			var err error
			if f.print, err = f.cur.sf.Print(); err == nil {
				err = l.appendLocked(payload{File: f.recLocked()})
			}
			if err != nil {
				f.unclosed, f.flushed, f.since, f.print = was.Unclosed, was.Flushed, was.Since, was.Print
				return done, err
			}
			done = append(done, c.path)
		}
	}
	l.signal.raise()
	return done, nil
}

// Discard drops the changes at and beneath paths ("" is all), and returns their
// paths. It fails, and drops nothing, if one of them is open for writing. Unlike
// a Forget it leaves nothing behind, also of what is part of a commit under way.
func (l *Layer) Discard(paths ...string) ([]string, error) {
	l.mu.Lock()
	done, err := l.discardLocked(paths)
	l.mu.Unlock()
	l.sweep()
	l.signal.raise()
	return done, err
}

func (l *Layer) discardLocked(paths []string) ([]string, error) {
	var payloads []payload
	var done []string
	seen := make(map[string]bool)
	for _, p := range paths {
		for _, c := range l.underLocked(p) {
			if seen[c.path] {
				continue
			}
			seen[c.path] = true
			if c.file != nil && len(c.file.writers) > 0 {
				return nil, fmt.Errorf("%s is open for writing, by process %d", c.path, c.file.writers[0].o.PID)
			}
			payloads = append(payloads, payload{Gone: &goneRec{Path: c.path}})
			done = append(done, c.path)
		}
	}
	if len(done) == 0 {
		return nil, nil
	}
	if err := l.appendLocked(payloads...); err != nil {
		return nil, err
	}
	for _, p := range done {
		l.setLocked(p, nil)
	}
	l.compactLocked()
	return done, nil
}

// DiscardAll drops every change, what the queue keeps, and what a damaged
// journal left.
func (l *Layer) DiscardAll() error {
	if _, err := l.Discard(""); err != nil {
		return err
	}
	l.mu.Lock()
	for key := range l.values {
		if err := l.keepLocked(key, nil); err != nil {
			l.mu.Unlock()
			return err
		}
	}
	l.mu.Unlock()
	saved, err := filepath.Glob(filepath.Join(l.dir, "journal.damaged-*"))
	for _, name := range saved {
		err = errors.Join(err, os.Remove(name))
	}
	err = errors.Join(err, os.RemoveAll(l.lostDir()))
	if err == nil {
		l.damage = ""
	}
	return err
}

// Exported is what Export wrote.
type Exported struct {
	Files   int
	Bytes   int64
	Deleted []string // paths that are deleted locally, which a folder cannot say
}

// Export writes the present bytes of all changes, at their paths, into a new or
// empty folder. Bytes that only the Hub has are fetched.
func (l *Layer) Export(ctx context.Context, folder string) (Exported, error) {
	var out Exported
	if have, err := os.ReadDir(folder); err == nil && len(have) > 0 {
		return out, fmt.Errorf("%s is not empty: %w", folder, iofs.ErrExist)
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return out, err
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return out, err
	}
	defer root.Close()
	for _, c := range l.Under("") {
		if err := l.export(ctx, root, c, &out); err != nil {
			return out, fmt.Errorf("export %s: %w", c.Path, err)
		}
	}
	return out, nil
}

func (l *Layer) export(ctx context.Context, root *os.Root, c Change, out *Exported) error {
	if c.Kind == Delete {
		out.Deleted = append(out.Deleted, c.Path)
		return nil
	}
	if err := root.MkdirAll(filepath.Dir(c.Path), 0o755); err != nil {
		return err
	}
	switch c.Kind {
	case Folder:
		return root.MkdirAll(c.Path, 0o755)
	case Symlink:
		return root.Symlink(c.Target, c.Path)
	}
	read, done, err := l.reader(ctx, c)
	if err != nil {
		return err
	}
	defer done()
	w, err := root.OpenFile(c.Path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	n, err := copyAll(ctx, w, read)
	if cerr := w.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	out.Files++
	out.Bytes += n
	return nil
}

type readFunc func(ctx context.Context, p []byte, off int64) (int, error)

func (l *Layer) reader(ctx context.Context, c Change) (readFunc, func(), error) {
	if c.File != nil {
		h, err := c.File.Open(OpenFile{})
		if err != nil {
			return nil, nil, err
		}
		return h.ReadAt, func() { _ = h.Release() }, nil // it was only read
	}
	if l.o.Content == nil {
		return nil, nil, errors.New("its bytes are on the Hub")
	}
	src, err := l.o.Content(ctx, *c.From)
	if err != nil {
		return nil, nil, err
	}
	return src.ReadAt, func() { _ = src.Close() }, nil // it was only read
}

func copyAll(ctx context.Context, w io.Writer, read readFunc) (int64, error) {
	buf := make([]byte, 1<<20)
	var off int64
	for {
		n, err := read(ctx, buf, off)
		if n > 0 {
			if _, werr := w.Write(buf[:n]); werr != nil {
				return off, werr
			}
			off += int64(n)
		}
		if err == io.EOF {
			return off, nil
		} else if err != nil {
			return off, err
		}
		if n == 0 {
			return off, io.ErrNoProgress
		}
	}
}
