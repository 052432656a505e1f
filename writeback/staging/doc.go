// Package staging keeps the bytes of files that were written and are not on the
// Hub yet, each in a file of its own on local disk.
//
// A staging file may be partial: it then shows a base, the content the file had
// before, wherever nothing was written, so that a small edit of a large file
// waits for no download. A file is complete when no byte of the base is shown
// any more, and only then may the kernel be given a descriptor of it.
//
// On disk a partial file has its full size and holes where the base shows.
// Which ranges are local is known in memory only; whoever wants to open the
// file in a later process keeps [File.BaseSize] and [File.Filled].
//
// # Locks
//
// File.filling is taken before File.mu, which is taken before Dir.mu. The last
// two are never held while a base is read. Descriptors are opened when they are
// first needed and go with [File.Idle], so that a file nobody uses costs none.
package staging

import "errors"

var (
	// ErrWriters is a file that somebody can still write to through a
	// descriptor or a mapping.
	ErrWriters = errors.New("the file is still open or mapped for writing")
	// ErrChanged is a file that changed while it was read.
	ErrChanged = errors.New("the file changed while it was read")
)
