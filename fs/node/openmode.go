package node

// openMode is how the kernel serves one open file.
type openMode uint8

const (
	// cached: reads and writes come to us, through the kernel's page cache.
	cached openMode = iota
	// native: the kernel reads and writes the file on local disk by itself.
	native
)

func (m openMode) String() string {
	if m == native {
		return "native"
	}
	return "cached"
}

// nativeMin is the size in bytes from which a native open for reading pays for
// itself. It costs about 14 µs more than a cached one (performance.md §4.1).
const nativeMin = 1 << 20

// openCount counts the opens of one inode by mode.
//
// The kernel refuses with EIO to mix the two modes on one inode, or two files
// on disk behind it, and counts an open until its RELEASE, which a mapping
// delays past close(2). So the first open decides and all others follow until
// the last RELEASE. At most one of the counts is positive.
type openCount struct {
	cached, native int
}

// openWish is what an open would like to be.
type openWish struct {
	write bool
	local bool // the bytes are not the cache's
	size  int64
	// backing is the identity of the file on disk that the kernel may be given
	// for this open; "" where there is none, or none that it may write to.
	backing string
}

// mode is what the next open has to be, given the file on disk behind the
// present native ones. ok is false if this inode cannot serve it: the kernel
// reads a file by itself that this open must not write to.
func (c openCount) mode(w openWish, present string) (m openMode, ok bool) {
	switch {
	case c.native > 0:
		// A reader with another file, or none by now, shares what the others
		// read: it is the content that this inode stands for.
		return native, !w.write || w.backing == present
	case c.cached > 0:
		return cached, true
	case w.backing == "":
		return cached, true
	case w.write || w.local || w.size >= nativeMin:
		// Local files are native at any size: pages that the kernel keeps of
		// them would be stale after a native write.
		return native, true
	}
	return cached, true
}

// asks reports whether mode depends on the file on disk. Finding that costs
// more than all the rest of an open.
func (c openCount) asks(w openWish) bool {
	switch {
	case c.native > 0:
		return w.write
	case c.cached > 0:
		return false
	}
	return w.write || w.local || w.size >= nativeMin
}

func (c *openCount) enter(m openMode) { *c.of(m)++ }
func (c *openCount) leave(m openMode) { *c.of(m)-- }
func (c openCount) idle() bool        { return c.cached == 0 && c.native == 0 }

func (c *openCount) of(m openMode) *int {
	if m == native {
		return &c.native
	}
	return &c.cached
}
