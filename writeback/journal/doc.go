// Package journal is an append-only log of checksummed records.
//
// A record is a list of payloads that are replayed together or not at all. What
// an interrupted write, a lost sector or a flipped bit leaves behind is found
// out when the log is opened: everything before it is replayed, the rest is
// set aside in a file beside the log and reported, never silently dropped.
//
// # Format
//
//	header   "hfmjrnl\n", version (uint32), CRC-32C of both
//	record   length of the body (uint32), CRC-32C of length and body, body
//	body     number of payloads (uvarint), then length (uvarint) and bytes of each
//
// Integers are little-endian. The checksum of a record covers its length, so
// that zeros are never a record. A record is written by one call at the end
// of the file.
//
// # What survives
//
// What Append wrote survives the process; what it wrote before a Sync that
// succeeded survives the machine. A Sync that failed makes all further ones
// fail, since the kernel may have dropped what it could not write and will not
// say so again; only Rewrite, which starts a new file, mends that.
package journal
