package blockcache

import (
	"encoding/binary"
	"hash/crc32"
)

// recordSize is the length of the header and of every record of an index.
const recordSize = 44

const indexMagic = "hfmblk01"

// record says which chunks of a block are on disk, and their checksums.
type record struct {
	chunks  uint8
	trusted uint8 // chunks whose data this process wrote or has checked
	sums    [perBlock]uint32
}

func indexHeader(size int64) []byte {
	b := make([]byte, recordSize)
	copy(b, indexMagic)
	binary.LittleEndian.PutUint64(b[8:], uint64(size))
	binary.LittleEndian.PutUint32(b[recordSize-4:], crc32.Checksum(b[:recordSize-4], castagnoli))
	return b
}

func appendRecord(b []byte, idx int64, chunks uint8, sums *[perBlock]uint32) []byte {
	at := len(b)
	b = binary.LittleEndian.AppendUint32(b, uint32(idx))
	b = append(b, chunks, 0, 0, 0)
	for _, s := range sums {
		b = binary.LittleEndian.AppendUint32(b, s)
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[at:], castagnoli))
}

// validHeader reports whether b begins an index of an object of size bytes.
func validHeader(b []byte, size int64) bool {
	return len(b) >= recordSize && string(b[:recordSize]) == string(indexHeader(size))
}

// parseRecords calls add for each record of b that is whole and speaks of
// chunks an object of size bytes has. Others are passed over: the chunks they
// were about are absent, or their data fails its checksum.
func parseRecords(b []byte, size int64, add func(idx int64, chunks uint8, sums [perBlock]uint32)) {
	for ; len(b) >= recordSize; b = b[recordSize:] {
		r := b[:recordSize]
		if crc32.Checksum(r[:recordSize-4], castagnoli) != binary.LittleEndian.Uint32(r[recordSize-4:]) {
			continue
		}
		idx := int64(binary.LittleEndian.Uint32(r))
		if idx*blockSize >= size || r[4]&^fullMask(int(min(blockSize, size-idx*blockSize))) != 0 {
			continue
		}
		var sums [perBlock]uint32
		for i := range sums {
			sums[i] = binary.LittleEndian.Uint32(r[8+4*i:])
		}
		add(idx, r[4], sums)
	}
}
