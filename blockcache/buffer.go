//go:build !race

package blockcache

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// slab is what is mapped at once: a huge page, which costs one fault and one
// pass of zeroing where small ones cost five hundred faults, and is found by
// the kernel in one step each time it copies.
const slab = 2 << 20

// mapBuffers returns buffers of blockSize bytes outside the heap, so that the
// collector neither doubles the memory tier nor scans it. Each is to be given
// back on its own.
func mapBuffers() (b []byte, more [][]byte) {
	m, err := unix.MmapPtr(-1, 0, nil, 2*slab, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return make([]byte, blockSize, blockSize+1), nil // out of mappings
	}
	// Huge pages are aligned: cut the middle out of twice as much.
	lead := -uintptr(m) & (slab - 1)
	unmapRange(m, lead)
	unmapRange(unsafe.Add(m, lead+slab), slab-lead)
	s := unsafe.Slice((*byte)(unsafe.Add(m, lead)), slab)
	// A kernel without huge pages refuses, and does well without.
	_ = unix.Madvise(s, unix.MADV_HUGEPAGE)
	for i := blockSize; i < slab; i += blockSize {
		more = append(more, s[i:i+blockSize:i+blockSize])
	}
	return s[:blockSize:blockSize], more
}

func unmapBuffer(b []byte) {
	if cap(b) == blockSize {
		unmapRange(unsafe.Pointer(unsafe.SliceData(b)), blockSize)
	}
}

func unmapRange(at unsafe.Pointer, n uintptr) {
	if n > 0 {
		// It can only fail for what mapBuffers did not map.
		_ = unix.MunmapPtr(at, n)
	}
}
