// Package node serves an fs.Tree over FUSE.
//
// It only translates. Which names exist, what they contain and how long that
// may be believed is decided in package fs; the types here carry a go-fuse
// inode and a pointer to the fs node it shows. Three things have their home
// here because only the kernel's side of the conversation can see them: the
// mode in which a file's opens are served (openMode), requests whose caller is
// dying (request), and what the kernel must be told to forget (notifier).
//
// Lock order: fileNode.mu, then Server.mu or the locks of package fs;
// sharedHandles.mu, liveNodes.mu, dueWriters.mu, threads.mu and
// notifier.mu are leaves. No lock is held across a call that may wait for the
// network or for the kernel, except the ioctl that registers a backing file,
// which waits for neither.
package node
