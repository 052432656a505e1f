package formats

import "encoding/binary"

const (
	ggufMagic = "GGUF"
	// Bounds on what a header may claim, far beyond what there is.
	ggufTensors = 1 << 20
	ggufKeys    = 1 << 20
	ggufDims    = 8
	ggufNesting = 4
)

// The types of metadata values, by their number, and the size of the fixed ones.
const (
	ggufUint32 = 4
	ggufString = 8
	ggufArray  = 9
)

var ggufSizes = map[uint32]uint64{0: 1, 1: 1, 2: 2, 3: 2, ggufUint32: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

// gguf: magic, version, counts, metadata, one description of each tensor, and
// the data, aligned; offsets count from there.
func gguf(head []byte, size int64) (int64, []int64) {
	r := &ggufReader{b: head, size: uint64(size)}
	r.skip(4)
	if v := r.u32(); !r.short && v != 2 && v != 3 {
		return 0, nil
	}
	tensors, keys := r.u64(), r.u64()
	if tensors == 0 || tensors > ggufTensors || keys > ggufKeys {
		r.bad = true
	}
	align := uint64(32)
	for i := uint64(0); i < keys && r.ok(); i++ {
		key := r.str()
		kind := r.u32()
		if kind == ggufUint32 && string(key) == "general.alignment" {
			align = uint64(r.u32())
			if r.ok() && (align == 0 || align > 1<<20 || align&(align-1) != 0) {
				r.bad = true
			}
			continue
		}
		r.value(kind, 0)
	}
	var parts []int64
	for i := uint64(0); i < tensors && r.ok(); i++ {
		r.str()
		dims := r.u32()
		if dims > ggufDims {
			r.bad = true
		}
		r.skip(8 * uint64(dims))
		r.u32() // type
		if off := r.u64(); off > r.size {
			r.bad = true
		} else {
			parts = append(parts, int64(off))
		}
	}
	switch {
	case r.bad:
		return 0, nil
	case r.short:
		// The metadata holds a vocabulary of unknown length: twice as much.
		if more := max(r.need(), 2*uint64(len(head)), 64<<10); more <= MaxHead && more < uint64(size) {
			return int64(more), nil
		}
		return 0, nil
	}
	base := int64((r.pos + align - 1) / align * align)
	if base >= size {
		return 0, nil
	}
	for i := range parts {
		parts[i] += base
		if parts[i] > size {
			return 0, nil
		}
	}
	return 0, tidy(parts, base, size)
}

// ggufReader reads a header that may end too early, or lie.
type ggufReader struct {
	b     []byte
	pos   uint64
	size  uint64 // of the file
	short bool   // b ended first
	bad   bool   // it is no header
}

func (r *ggufReader) ok() bool { return !r.short && !r.bad }

// need is how many bytes the reader would have to have to go on.
func (r *ggufReader) need() uint64 { return r.pos + 1 }

// skip passes n bytes and returns them, nil if they are not there.
func (r *ggufReader) skip(n uint64) []byte {
	if !r.ok() {
		return nil
	}
	if n > r.size-r.pos {
		r.bad = true
		return nil
	}
	if have := uint64(len(r.b)); n > have-r.pos {
		r.short, r.pos = true, min(r.pos+n, r.size-1)
		return nil
	}
	b := r.b[r.pos : r.pos+n]
	r.pos += n
	return b
}

func (r *ggufReader) u32() uint32 {
	if b := r.skip(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (r *ggufReader) u64() uint64 {
	if b := r.skip(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (r *ggufReader) str() []byte { return r.skip(r.u64()) }

func (r *ggufReader) value(kind uint32, depth int) {
	switch {
	case kind == ggufString:
		r.str()
	case kind == ggufArray && depth < ggufNesting:
		of, n := r.u32(), r.u64()
		if n > r.size {
			r.bad = true
			return
		}
		if fixed, ok := ggufSizes[of]; ok {
			r.skip(n * fixed)
			return
		}
		// Each takes 8 bytes at least, so this ends with the bytes.
		for i := uint64(0); i < n && r.ok(); i++ {
			r.value(of, depth+1)
		}
	default:
		fixed, ok := ggufSizes[kind]
		if !ok && r.ok() {
			r.bad = true
			return
		}
		r.skip(fixed)
	}
}
