package node

import (
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	lru "github.com/hashicorp/golang-lru/v2/simplelru"

	"hfmount/fs"
)

// Where every change of names is told to the kernel, OPENDIR is answered with
// ENOSYS. The kernel then sends none, nor RELEASEDIR, and walks over what it
// keeps without a single request. READDIR comes without a handle: the offset
// says which listing it goes on in.

// ReadDir implements fuse.RawFileSystem.
func (b *bridge) ReadDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	if in.Fh != 0 || !b.s.noOpendir {
		return b.RawFileSystem.ReadDir(cancel, in, out)
	}
	return b.readDir(cancel, in, out, false)
}

// ReadDirPlus implements fuse.RawFileSystem.
func (b *bridge) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	if in.Fh != 0 || !b.s.noOpendir {
		return b.RawFileSystem.ReadDirPlus(cancel, in, out)
	}
	return b.readDir(cancel, in, out, true)
}

func (b *bridge) readDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList, plus bool) fuse.Status {
	d := b.dirOf(cancel, in)
	if d == nil {
		return fuse.ENOTDIR
	}
	b.s.live.add(d)
	defer func(before uint64) {
		d.asked.Store(time.Now().UnixNano())
		if b.s.tree.News() != before {
			b.s.notifier.putLater(notice{kind: dirChanged, ino: d.StableAttr().Ino}, answerPatience)
		}
	}(b.s.tree.News())
	r := b.s.begin(&fuse.Context{Caller: in.Caller, Cancel: cancel})
	defer r.finish()
	l, gen, i, err := d.listingAt(r, in.Offset)
	if err != nil {
		return fuse.Status(b.s.fail(r, "readdir", "", err))
	}
	for n := l.Len() + dots; i < n; i++ {
		e := d.dirent(l, gen, i)
		if !plus {
			if !out.AddDirEntry(e) {
				break
			}
			continue
		}
		entry := out.AddDirLookupEntry(e)
		if entry == nil {
			break
		}
		if i < dots {
			continue // the kernel looks at neither
		}
		// A name that is gone by now has no node, and the kernel remembers
		// nothing of it.
		if st := b.RawFileSystem.Lookup(cancel, &in.InHeader, e.Name, entry); !st.Ok() {
			*entry = fuse.EntryOut{}
		} else if kind := entry.Attr.Mode & typeMask; kind != e.Mode&typeMask {
			out.FixMode(kind)
		}
	}
	return fuse.OK
}

const typeMask = 0o170000

// dirOf finds the node of a request, which the node layer does not give away
// otherwise: it asks the node to open, and gets the node instead of a handle.
func (b *bridge) dirOf(cancel <-chan struct{}, in *fuse.ReadIn) *dirNode {
	if cancel == nil {
		cancel = make(chan struct{}) // requests are known by it
	}
	var reply openReply
	defer b.s.expect(cancel, &reply)()
	var out fuse.OpenOut
	b.RawFileSystem.OpenDir(cancel, &fuse.OpenIn{InHeader: in.InHeader}, &out)
	return reply.dir
}

// listingAt finds the listing that an offset is in, and the next entry there.
// Whoever begins gets the present one: the kernel dates what it keeps by when
// it begins to read.
func (d *dirNode) listingAt(r *request, off uint64) (l *fs.Listing, gen uint32, next int, err error) {
	gen, next = placeOf(off)
	if off != 0 {
		if l := d.s.given.find(d, gen); l != nil {
			return l, gen, next, nil
		}
	}
	if l, err = d.dir.Load().Listing(r); err != nil {
		return nil, 0, 0, err
	}
	now, _ := d.given(l)
	d.s.given.keep(d, now, l)
	// Where the listing that off is in was changed and forgotten since, its
	// reader goes on at the same number.
	return l, now, next, nil
}

// answerPatience is for how long an answer may be on its way to the kernel,
// with a listing from before a change that the kernel was told of meanwhile.
const answerPatience = 2 * time.Second

// askedLately reports whether an answer with names may not have reached the
// kernel yet.
func (d *dirNode) askedLately() bool {
	return time.Now().UnixNano()-d.asked.Load() < int64(answerPatience)
}

// givenListings are those that somebody may be in the middle of reading.
type givenListings struct {
	mu    sync.Mutex
	kept  *lru.LRU[givenKey, *fs.Listing] // guarded by mu; nil until used
	names int                             // in all of kept; guarded by mu
}

type givenKey struct {
	d   *dirNode
	gen uint32
}

const (
	// maxGiven and maxGivenNames bound givenListings, in listings and in names.
	// The latest stays however large it is.
	maxGiven      = 128
	maxGivenNames = 1 << 18
)

func (g *givenListings) find(d *dirNode, gen uint32) *fs.Listing {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.kept == nil {
		return nil
	}
	l, _ := g.kept.Get(givenKey{d, gen})
	return l
}

func (g *givenListings) keep(d *dirNode, gen uint32, l *fs.Listing) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.kept == nil {
		g.kept, _ = lru.NewLRU(maxGiven, func(_ givenKey, old *fs.Listing) { g.names -= old.Len() }) // an error only for a size of 0
	}
	k := givenKey{d, gen}
	g.kept.Remove(k)
	g.kept.Add(k, l)
	g.names += l.Len()
	for g.names > maxGivenNames && g.kept.Len() > 1 {
		g.kept.RemoveOldest()
	}
}

// drop forgets the listings of a node that the kernel forgot.
func (g *givenListings) drop(d *dirNode) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.kept == nil {
		return
	}
	for _, k := range g.kept.Keys() {
		if k.d == d {
			g.kept.Remove(k)
		}
	}
}
