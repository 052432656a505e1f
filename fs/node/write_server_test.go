package node

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"sort"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// requestCount counts some of the kernel's requests.
type requestCount struct {
	fuse.RawFileSystem
	open, create, stale, read, write, getxattr, setattr, flush, opendir, readdir, lookup, getattr atomic.Int64
}

func (c *requestCount) of(what string) int64 {
	return map[string]*atomic.Int64{
		"open": &c.open, "create": &c.create, "stale": &c.stale, "read": &c.read, "write": &c.write,
		"getxattr": &c.getxattr, "setattr": &c.setattr, "flush": &c.flush,
		"opendir": &c.opendir, "readdir": &c.readdir, "lookup": &c.lookup, "getattr": &c.getattr,
	}[what].Load()
}

func (c *requestCount) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	c.open.Add(1)
	st := c.RawFileSystem.Open(cancel, in, out)
	if st == fuse.Status(syscall.ESTALE) {
		c.stale.Add(1)
	}
	return st
}

func (c *requestCount) OpenDir(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	c.opendir.Add(1)
	return c.RawFileSystem.OpenDir(cancel, in, out)
}

func (c *requestCount) ReadDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	c.readdir.Add(1)
	return c.RawFileSystem.ReadDir(cancel, in, out)
}

func (c *requestCount) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	c.readdir.Add(1)
	return c.RawFileSystem.ReadDirPlus(cancel, in, out)
}

func (c *requestCount) Lookup(cancel <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	c.lookup.Add(1)
	return c.RawFileSystem.Lookup(cancel, h, name, out)
}

func (c *requestCount) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	c.getattr.Add(1)
	return c.RawFileSystem.GetAttr(cancel, in, out)
}

func (c *requestCount) Create(cancel <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	c.create.Add(1)
	return c.RawFileSystem.Create(cancel, in, name, out)
}

func (c *requestCount) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	c.read.Add(1)
	return c.RawFileSystem.Read(cancel, in, buf)
}

func (c *requestCount) Write(cancel <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	c.write.Add(1)
	return c.RawFileSystem.Write(cancel, in, data)
}

func (c *requestCount) Writev(cancel <-chan struct{}, in *fuse.WriteIn, data [][]byte) (uint32, fuse.Status) {
	c.write.Add(1)
	return c.RawFileSystem.Writev(cancel, in, data)
}

func (c *requestCount) GetXAttr(cancel <-chan struct{}, h *fuse.InHeader, attr string, dest []byte) (uint32, fuse.Status) {
	c.getxattr.Add(1)
	return c.RawFileSystem.GetXAttr(cancel, h, attr, dest)
}

func (c *requestCount) SetAttr(cancel <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	c.setattr.Add(1)
	return c.RawFileSystem.SetAttr(cancel, in, out)
}

func (c *requestCount) Flush(cancel <-chan struct{}, in *fuse.FlushIn) fuse.Status {
	c.flush.Add(1)
	return c.RawFileSystem.Flush(cancel, in)
}

// blobName is the name of one of serverConfig.Blobs files, which all have
// blobBytes, large enough to be native when they are complete.
func blobName(i int) string { return fmt.Sprintf("blobs/%05d.safetensors", i) }

func blobBytes() []byte {
	b := make([]byte, nativeMin+page)
	rand.NewChaCha8([32]byte{9}).Read(b)
	return b
}

// absentName is one of as many, of which nothing is in the cache.
func absentName(i int) string { return fmt.Sprintf("absent/%05d.bin", i) }

func absentBytes(i int) []byte {
	b := make([]byte, 5*page+17)
	rand.NewChaCha8([32]byte{10, byte(i), byte(i >> 8)}).Read(b)
	return b
}

// writeCommand answers what only a server that writes understands.
func writeCommand(s *Server, l *testLayers, src *source, verb, arg string) (string, bool) {
	switch verb {
	case "commit":
		return l.commit(), true
	case "hold": // the next commits wait before they are made
		l.hub.hold()
	case "seal": // begin a commit that is held, and return when bytes are sealed
		go func() { l.result <- l.commit() }() // ends with the commit, which "sealed" waits for
	case "sealed":
		l.hub.release()
		return <-l.result, true
	case "commits": // that wait
		return fmt.Sprint(l.hub.waiting.Load()), true
	case "states": // how many changes are in which state
		count := make(map[string]int)
		for _, c := range l.layer.Under("") {
			count[c.State.String()]++
		}
		var out []string
		for state, n := range count {
			out = append(out, fmt.Sprintf("%s:%d", state, n))
		}
		sort.Strings(out)
		return strings.Join(out, " "), true
	case "remote": // the hash of what the Hub has
		_, files := src.state()
		data, ok := files[arg]
		if !ok {
			return "absent", true
		}
		return hashOf(data), true
	case "ended":
		select {
		case <-s.ended:
			return "true", true
		default:
			return "false", true
		}
	case "writers":
		var out []string
		for _, w := range s.OpenForWriting() {
			out = append(out, fmt.Sprintf("%s:%d", w.Path, w.PID))
		}
		return strings.Join(out, " "), true
	case "add": // a file, by somebody else, that nobody here looks for
		src.commitFiles(func(files map[string][]byte) error {
			files[arg] = []byte("theirs\n")
			return nil
		})
	default:
		return "", false
	}
	return "ok", true
}

func hashOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
