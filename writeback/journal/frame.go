package journal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

const (
	magic      = "hfmjrnl\n"
	version    = 1
	headerSize = len(magic) + 8
	frameSize  = 8
	// maxBody bounds a record, so that a damaged length is not mistaken for a
	// reason to allocate. A rename of a million files stays below it.
	maxBody = 1 << 30
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func header() []byte {
	h := append([]byte(nil), magic...)
	h = binary.LittleEndian.AppendUint32(h, version)
	return binary.LittleEndian.AppendUint32(h, crc32.Checksum(h, castagnoli))
}

// checkHeader returns the version, or false if the header is damaged.
func checkHeader(h []byte) (uint32, bool) {
	if len(h) < headerSize || string(h[:len(magic)]) != magic {
		return 0, false
	}
	sum := binary.LittleEndian.Uint32(h[headerSize-4:])
	return binary.LittleEndian.Uint32(h[len(magic):]), sum == crc32.Checksum(h[:headerSize-4], castagnoli)
}

// appendFrame adds a record to buf, or fails if it is larger than one may be.
func appendFrame(buf []byte, payloads [][]byte) ([]byte, error) {
	start := len(buf)
	buf = append(buf, make([]byte, frameSize)...)
	buf = binary.AppendUvarint(buf, uint64(len(payloads)))
	for _, p := range payloads {
		if len(buf)-start+len(p) > maxBody {
			return buf[:start], fmt.Errorf("journal: a record is larger than %d bytes", maxBody)
		}
		buf = binary.AppendUvarint(buf, uint64(len(p)))
		buf = append(buf, p...)
	}
	f := buf[start:]
	binary.LittleEndian.PutUint32(f, uint32(len(f)-frameSize))
	binary.LittleEndian.PutUint32(f[4:], checksum(f[:4], f[frameSize:]))
	return buf, nil
}

func checksum(length, body []byte) uint32 {
	return crc32.Update(crc32.Checksum(length, castagnoli), castagnoli, body)
}

// parseBody takes a body apart whose checksum was right.
func parseBody(body []byte) ([][]byte, bool) {
	n, k := binary.Uvarint(body)
	if k <= 0 || n > uint64(len(body)) {
		return nil, false
	}
	body = body[k:]
	payloads := make([][]byte, 0, n)
	for range n {
		size, k := binary.Uvarint(body)
		if k <= 0 || size > uint64(len(body)-k) {
			return nil, false
		}
		end := k + int(size)
		payloads = append(payloads, body[k:end:end])
		body = body[end:]
	}
	return payloads, len(body) == 0
}
