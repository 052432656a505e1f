package writeback

import (
	"bytes"
	"fmt"
	"path"
	"regexp"
	"strings"

	"github.com/dustin/go-humanize"
)

// The bounds beyond which a batch needs somebody's word (design §4).
const (
	guardDeletes = 10              // files; fewer are never too many
	guardBytes   = 100_000_000_000 // added in one batch
	guardFiles   = 25_000          // added in one batch
	secretScan   = 1 << 20         // bytes of a file that are looked at for secrets
)

// guardInput is what the guard judges of a batch.
type guardInput struct {
	Public  bool
	Files   int // in the repository, before
	Deleted int // deletes that no rename explains
	Added   int // files put
	Bytes   int64
	Secrets []secret
}

// secret is a file that looks like one.
type secret struct{ Path, What string }

// verdict says why a batch is held, or "".
func verdict(in guardInput) string {
	switch {
	case in.Deleted >= guardDeletes && 2*in.Deleted > in.Files:
		return fmt.Sprintf("it deletes %s of the repository's %s files", humanize.Comma(int64(in.Deleted)), humanize.Comma(int64(in.Files)))
	case in.Bytes > guardBytes:
		return "it adds " + humanize.Bytes(uint64(in.Bytes))
	case in.Added > guardFiles:
		return fmt.Sprintf("it adds %s files", humanize.Comma(int64(in.Added)))
	case in.Public && len(in.Secrets) > 0:
		s := in.Secrets[0]
		text := fmt.Sprintf("%s looks like a secret (%s) and the repository is public", s.Path, s.What)
		if n := len(in.Secrets) - 1; n > 0 {
			text += fmt.Sprintf("; so do %d more", n)
		}
		return text
	}
	return ""
}

var (
	hubToken   = regexp.MustCompile(`(?:^|[^A-Za-z0-9_])hf_[A-Za-z0-9]{30,}`)
	privateKey = regexp.MustCompile(`-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----`)
)

// secretName says what a file's name alone gives away, or "".
func secretName(name string) string {
	base := strings.ToLower(path.Base(name))
	switch base {
	case ".env":
		return "an environment file"
	case "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519":
		return "a private key"
	case ".netrc", "_netrc", ".pgpass", ".git-credentials":
		return "passwords"
	}
	if strings.HasPrefix(base, ".env.") {
		switch base[len(".env."):] {
		case "example", "sample", "template", "dist", "defaults":
			return ""
		}
		return "an environment file"
	}
	return ""
}

// secretContent says what the beginning of a file gives away, or "".
func secretContent(head []byte) string {
	switch {
	case bytes.Contains(head, []byte("PRIVATE KEY")) && privateKey.Match(head):
		return "a private key"
	case bytes.Contains(head, []byte("hf_")) && hubToken.Match(head):
		return "a Hugging Face token"
	}
	return ""
}
