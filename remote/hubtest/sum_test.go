package hubtest

import (
	"bytes"
	"strings"
	"testing"

	"hfmount/remote/hub"
)

// Content whose hash is given is not hashed, and is served as it is.
func TestSyntheticSum(t *testing.T) {
	h, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	id := hub.Repo{Namespace: "a", Name: "b"}
	if err := h.CreateRepo(id, RepoOptions{}); err != nil {
		t.Fatal(err)
	}
	huge := Synthetic{Size: 1 << 50, Seed: 1, Sum: strings.Repeat("ab", 32)}
	c, err := h.CommitSynthetic(id, "main", "huge", map[string]Synthetic{"huge.bin": huge})
	if err != nil {
		t.Fatal(err)
	}
	r, _ := h.store.repo(id)
	e, err := r.entry(c, "huge.bin")
	if err != nil || e.SHA256 != huge.Sum || e.Size != huge.Size {
		t.Fatalf("%+v, %v", e, err)
	}
	same := Synthetic{Size: huge.Size, Seed: huge.Seed}
	a, b := make([]byte, 5000), make([]byte, 5000)
	if _, err := huge.ReaderAt().ReadAt(a, 1<<49); err != nil {
		t.Fatal(err)
	}
	if _, err := same.ReaderAt().ReadAt(b, 1<<49); err != nil || !bytes.Equal(a, b) {
		t.Errorf("the hash changes the content (%v)", err)
	}
}
