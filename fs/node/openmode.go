package node

// openMode is how the kernel serves the reads of one open file.
type openMode uint8

const (
	// cached: reads come to us and stay in the kernel's page cache.
	cached openMode = iota
	// native: the kernel reads the complete file on local disk by itself.
	native
)

func (m openMode) String() string {
	if m == native {
		return "native"
	}
	return "cached"
}

// nativeMin is the size in bytes from which a native open pays for itself. It
// costs about 14 µs more than a cached one (performance.md §4.1).
const nativeMin = 1 << 20

// openCount counts the opens of one inode by mode.
//
// The kernel refuses with EIO to mix the two modes on one inode, and counts an
// open until its RELEASE, which a mapping delays past close(2). So the first
// open decides and all others follow until the last RELEASE. At most one of
// the counts is positive. Opens for writing will be a third mode that never
// shares an inode with native.
type openCount struct {
	cached, native int
}

// mode is what the next open has to be. complete says that every byte is
// verified and on local disk and that the kernel can read it there.
func (c openCount) mode(complete bool, size int64) openMode {
	switch {
	case c.native > 0:
		return native
	case c.cached > 0:
		return cached
	case complete && size >= nativeMin:
		return native
	}
	return cached
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
