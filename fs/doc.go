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
// Entries that are neither files nor directories (hub-protocol §3.4, submodules
// for example) are not shown. A symbolic link in git is a file with the target
// as its content: the Hub does not tell the two apart.
package fs
