// Package writeback keeps what was changed and is not on the Hub yet, and
// brings it there.
//
// A [Layer] is the local changes of one branch: names, bytes and the journal
// that both survive in. A [Queue] turns them into commits: it decides when a
// save is whole, builds a commit on the present head of the branch, settles
// what became of it, and says when the view has to move. What was closed stays
// in the layer until a commit with it is on the Hub and shown.
package writeback
