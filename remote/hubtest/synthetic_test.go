package hubtest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http/httptest"
	"testing"
)

func TestSynthetic(t *testing.T) {
	s := Synthetic{Size: 3*tileSize + 12345, Seed: 7}
	whole := make([]byte, s.Size)
	if n, err := s.ReaderAt().ReadAt(whole, 0); int64(n) != s.Size || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	sum := sha256.Sum256(whole)
	if got := s.SHA256(); got != hex.EncodeToString(sum[:]) {
		t.Errorf("SHA256 %s, bytes have %x", got, sum)
	}
	for _, off := range []int64{0, 1, 5, tileSize - 3, tileSize, 2*tileSize + 7, s.Size - 10} {
		p := make([]byte, 4096)
		n, err := s.ReaderAt().ReadAt(p, off)
		want := whole[off:min(off+4096, s.Size)]
		if !bytes.Equal(p[:n], want) {
			t.Errorf("bytes at %d differ", off)
		}
		if short := len(want) < 4096; short != errors.Is(err, io.EOF) {
			t.Errorf("at %d: %d bytes, %v", off, n, err)
		}
	}
	// What is sent without a copy is the same, and all but the stamps.
	r := noise{s, tile(s.Seed)}
	for _, off := range []int64{0, 7, 8, 4096, tileSize - 1, tileSize + 8, s.Size - 10, s.Size} {
		p := r.piece(off, 100_000)
		if stamp := off%tileSize < 8 || off == s.Size; stamp != (p == nil) || !bytes.HasPrefix(whole[off:], p) {
			t.Errorf("a piece of %d bytes at %d, or other bytes", len(p), off)
		}
	}
	w := httptest.NewRecorder()
	copyRange(w, r, 5, s.Size-9)
	if !bytes.Equal(w.Body.Bytes(), whole[5:s.Size-4]) {
		t.Error("other bytes are sent")
	}
	if _, err := s.ReaderAt().ReadAt(make([]byte, 1), s.Size); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	if bytes.Equal(whole[:tileSize], whole[tileSize:2*tileSize]) {
		t.Error("blocks repeat")
	}
	other := make([]byte, 64)
	(Synthetic{Size: 64, Seed: 8}).ReaderAt().ReadAt(other, 0)
	if bytes.Equal(other[8:], whole[8:64]) {
		t.Error("seeds do not matter")
	}
}

func BenchmarkSynthetic(b *testing.B) {
	r := Synthetic{Size: 1 << 40, Seed: 1}.ReaderAt()
	p := make([]byte, 1<<20)
	b.SetBytes(int64(len(p)))
	for i := range b.N {
		r.ReadAt(p, int64(i)*4096+1)
	}
}
