package node

import "testing"

// TestReadAround has a page fault anywhere in a mapped file touch no more of the
// cache's 128 KiB chunks than make a MiB, however it lies on them.
func TestReadAround(t *testing.T) {
	const page, chunk = 4 << 10, 128 << 10
	for start := 0; start < chunk; start += page {
		end := start + readAheadKB<<10
		if n := (end + chunk - 1) / chunk * chunk; n > 1<<20 {
			t.Fatalf("%d KiB from %d on touch %d KiB", readAheadKB, start, n>>10)
		}
	}
}
