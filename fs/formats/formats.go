// Package formats reads from the first or last bytes of a file which of its
// pieces will be read whole: the tensors of safetensors and GGUF files, and the
// footer of Parquet files. Formats are told by their content.
//
// Files come from strangers. Nothing a header says is believed beyond the size
// of the file, no header is looked at beyond [MaxHead] bytes, and a header that
// makes no sense is no header: the file is then read as any other.
package formats

import (
	"encoding/binary"
	"path"
	"slices"
	"strings"
)

const (
	// MaxHead is how many bytes of a header are looked at.
	MaxHead = 16 << 20
	// maxFooter bounds the footer that is worth fetching in one piece.
	maxFooter = 16 << 20
)

// All knows all of them. Its methods are what blockcache.Formats asks for.
type All struct{}

// Named reports whether a file of this name may be expected to begin with a
// header that says what will be read.
func Named(name string) bool {
	switch strings.ToLower(path.Ext(name)) {
	case ".safetensors", ".gguf":
		return true
	}
	return false
}

// Head looks at the first bytes of a file of size bytes. It returns the offsets
// at which its parts begin, in order and each once, the first of them being
// where the header ends; nil if the format has none. With more > len(head) it
// cannot tell yet and wants that many bytes.
func (All) Head(head []byte, size int64) (more int64, parts []int64) {
	if int64(len(head)) < min(16, size) {
		return 16, nil
	}
	switch {
	case size < 16:
		return 0, nil
	case string(head[:4]) == ggufMagic:
		return gguf(head, size)
	default:
		return safetensors(head, size)
	}
}

// Tail looks at the last bytes of a file, 8 or more, and returns where the
// footer that they end begins; 0 if there is none.
func (All) Tail(tail []byte, size int64) int64 {
	if len(tail) < 8 || string(tail[len(tail)-4:]) != "PAR1" {
		return 0
	}
	n := int64(binary.LittleEndian.Uint32(tail[len(tail)-8:]))
	if n == 0 || n > maxFooter || n+12 > size { // 4 more bytes of magic at the start
		return 0
	}
	return size - 8 - n
}

// tidy sorts the starts and drops what is not within [base, size).
func tidy(parts []int64, base, size int64) []int64 {
	parts = append(parts, base)
	parts = slices.DeleteFunc(parts, func(at int64) bool { return at < base || at >= size })
	slices.Sort(parts)
	return slices.Clip(slices.Compact(parts))
}
