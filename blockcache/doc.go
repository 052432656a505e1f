// Package blockcache caches blocks of immutable objects in memory and on disk.
//
// An object is named by its [hub.ContentID] and read through a [File]. Memory
// is held in blocks of 1 MiB; what is valid within a block, on the wire and on
// disk is counted in chunks of 128 KiB, so that a random read of 4 KiB costs
// one chunk and a stream costs long ranges. A chunk is in one of four states:
// absent, in flight, in memory, on disk (the last two may hold together). At
// most one flight fetches a chunk at a time, and it answers each reader as
// soon as that reader's chunks have arrived.
//
// # Integrity
//
// Objects up to 8 MiB are fetched whole and compared with their hash before a
// byte of them is served, from the network and from disk alike. Larger objects
// are hashed in order behind the reader: blocks that it has yet to come to are
// evicted last, and reading ahead waits for it where memory is short, so that a
// stream faster than the hash is verified all the same. When the last missing
// block of one has arrived, reads of that block and of the object's last block
// wait for the verdict. On a mismatch the object leaves memory and disk, and every handle
// that was open on it answers [ErrCorrupt] until it is closed, so that a
// retry by the kernel cannot hide the error. Once a block was hashed, its
// chunks are held to the checksums of that pass if they are fetched again.
// Ranges read of an object that is never completed trust the transport.
//
// # Disk format
//
//	DIR/lock              flock, held for the moments in which names change
//	DIR/blobs/XX/ID       a complete object; XX is the start of its hash
//	DIR/blobs/XX/ID.idx   its checksums, for objects over 8 MiB
//	DIR/partial/ID.data   a sparse file
//	DIR/partial/ID.idx    what of it is valid
//	DIR/partial/*.tmp     a small object being written
//
// An index is a header followed by records of 44 bytes, each the block number,
// the chunks it speaks of, their CRC-32C, and a CRC-32C of itself. A record is
// appended by one write after its data was written; a later record overrides
// an earlier one. Nothing needs to reach the disk in order: a torn record
// fails its own check, torn data that of its record, and both mean absent. A
// large object gets its name under blobs only after its hash was right and
// fdatasync returned. A small one is hashed each time it is loaded, so it is
// not synced at all.
//
// A file that [Cache.Adopt] takes in goes the same way: compared with its hash,
// synced if it is large, index first. A complete object is only ever open for
// reading, here and in what the kernel is given.
//
// Several processes may share DIR. Who holds the flock on a partial index
// writes that object, the others follow its log; it gives way when it stores
// nothing for a while and the object is not complete. Who has an object's data file
// open holds a shared flock on it, and eviction passes by what it cannot lock.
// The modification time of a data file is its last use; its owner-execute bit
// says that it was used again after it was stored.
//
// # Locks
//
// object.ioMu, then Cache.mu or diskTier.mu, which are leaves and never held
// together. The flock on DIR/lock is taken under object.ioMu. Cache.mu guards
// everything in memory and is never held across I/O or a call of a [Source].
package blockcache
