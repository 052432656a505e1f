package hubtest

import (
	"fmt"
	"io"
	"net/http"
	"testing"

	"hfmount/remote/hub"
)

// BenchmarkCDN reads a file from the CDN over loopback: real content on disk,
// and made content.
func BenchmarkCDN(b *testing.B) {
	h, err := New(Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer h.Close()
	repo := hub.Repo{Namespace: "ada", Name: "big"}
	if err := h.CreateRepo(repo, RepoOptions{}); err != nil {
		b.Fatal(err)
	}
	const size = 64 << 20
	if _, err := h.Commit(repo, "main", "disk", map[string][]byte{"disk.bin": make([]byte, size)}); err != nil {
		b.Fatal(err)
	}
	if _, err := h.CommitSynthetic(repo, "main", "made", map[string]Synthetic{"made.bin": {Size: size, Seed: 1}}); err != nil {
		b.Fatal(err)
	}
	s, err := h.Listen("127.0.0.1:0", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	client := &http.Client{Transport: &http.Transport{ReadBufferSize: 256 << 10}}
	defer client.CloseIdleConnections()
	for _, name := range []string{"disk", "made"} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(size)
			b.ReportAllocs()
			buf := make([]byte, 1<<20)
			for b.Loop() {
				resp, err := client.Get(fmt.Sprintf("%s/ada/big/resolve/main/%s.bin", s.URL, name))
				if err != nil {
					b.Fatal(err)
				}
				n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, resp.Body, buf)
				resp.Body.Close()
				if err != nil || n != size {
					b.Fatal(n, err)
				}
			}
		})
	}
}
