package writeback

import (
	"strings"
	"testing"
)

func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		name string
		in   guardInput
		want string // part of it, "" is to pass
	}{
		{"nothing special", guardInput{Files: 10, Added: 3, Bytes: 5}, ""},
		{"nine deletes of nine", guardInput{Files: 9, Deleted: 9}, ""},
		{"ten of ten", guardInput{Files: 10, Deleted: 10}, "deletes 10 of the repository's 10"},
		{"exactly half", guardInput{Files: 20, Deleted: 10}, ""},
		{"more than half", guardInput{Files: 21, Deleted: 11}, "deletes 11"},
		{"100 GB", guardInput{Bytes: 100e9}, ""},
		{"over 100 GB", guardInput{Bytes: 100e9 + 1}, "adds 100 GB"},
		{"25,000 files", guardInput{Added: 25000}, ""},
		{"more files", guardInput{Added: 25001}, "25,001 files"},
		{"a secret, private", guardInput{Secrets: []secret{{".env", "x"}}}, ""},
		{"a secret, public", guardInput{Public: true, Secrets: []secret{{".env", "an environment file"}, {"b", "x"}}}, ".env looks like a secret (an environment file)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := verdict(c.in)
			if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
				t.Errorf("verdict %q, want %q", got, c.want)
			}
		})
	}
}

func TestSecrets(t *testing.T) {
	for name, want := range map[string]bool{
		".env": true, "d/.env": true, ".env.local": true, ".env.example": false, "env": false, "a.env": false,
		"id_rsa": true, "id_rsa.pub": false, "id_ed25519": true, ".netrc": true, "model.safetensors": false,
	} {
		if got := secretName(name) != ""; got != want {
			t.Errorf("secretName(%q) = %v, want %v", name, got, want)
		}
	}
	token := "hf_" + strings.Repeat("aB3", 12)
	for text, want := range map[string]bool{
		"TOKEN=" + token: true, token: true, "xhf_" + strings.Repeat("a", 40): false, "hf_short": false, "the hf_hub": false,
		"-----BEGIN RSA PRIVATE KEY-----\nMII": true, "-----BEGIN OPENSSH PRIVATE KEY-----": true, "-----BEGIN PRIVATE KEY-----": true,
		"-----BEGIN PUBLIC KEY-----": false, "a PRIVATE KEY": false,
	} {
		if got := secretContent([]byte(text)) != ""; got != want {
			t.Errorf("secretContent(%q) = %v, want %v", text, got, want)
		}
	}
}
