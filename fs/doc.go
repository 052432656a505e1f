// Package fs presents repositories as a tree of files, without knowing about
// FUSE.
//
// A [Tree] shows one repository, or the whole Hub. What stands behind a
// reference is a view: the commit it stood at when last looked at. A view
// moves to the next commit whole. Listings belong to a commit and are never
// changed, so a lookup takes the commit once and works on it throughout.
//
// Listings are kept by what they are, the git tree at a path, in memory and in
// Options.MetaDir. The tree of a sub-directory is named by the listing above
// it, so a new commit costs requests only for the directories that it changed,
// and a remount costs none but the one that asks where the branch stands.
//
// A view that may be written has an overlay: it shows the local changes that a
// writeback.Layer holds, and beneath them the snapshot. Whoever looks asks the
// layer first. A commit is in the snapshot before it leaves the layer, so names
// and bytes never go missing between the two. Files and directories of such a
// view are objects that follow their names: a handle, a node of the kernel's
// and an inode number stay with what was opened, however it is renamed, written
// and committed.
//
// Entries that are neither files nor directories (hub-protocol §3.4, submodules
// for example) are not shown. A symbolic link in git is a file with the target
// as its content: the Hub does not tell the two apart.
package fs
