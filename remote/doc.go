// Package remote is an HTTP client for the Hub.
//
// It pins revisions to commits, lists trees and streams ranges of files, and it
// takes nothing an answer says for granted: lengths, ranges, encodings, names
// and redirects are checked, and what does not fit is hub.ErrBadAnswer.
// Transient faults are retried here and nowhere above.
//
// The token goes to the endpoint's own origin and nowhere else. No error and no
// log line carries a token or the query of a signed URL.
//
// Locks are leaves: none is held across I/O or while another is taken.
package remote
