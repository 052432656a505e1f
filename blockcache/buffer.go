//go:build !race

package blockcache

import "golang.org/x/sys/unix"

// mapBuffer returns blockSize bytes outside the heap, so that the collector
// neither doubles the memory tier nor scans it. Huge pages would cost a lone
// read of one chunk the zeroing of two blocks.
func mapBuffer() []byte {
	b, err := unix.Mmap(-1, 0, blockSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return make([]byte, blockSize, blockSize+1) // out of mappings
	}
	return b
}

func unmapBuffer(b []byte) {
	if cap(b) == blockSize {
		// It can only fail for what mapBuffer did not map.
		_ = unix.Munmap(b[:blockSize])
	}
}
