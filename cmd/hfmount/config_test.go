package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"hfmount/remote/hub"
)

// cleanEnv takes away whatever the environment of the test says.
func cleanEnv(t *testing.T) {
	t.Helper()
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, "HF") || name == "XDG_CACHE_HOME" || name == "TRANSFORMERS_OFFLINE" || name == "HUGGINGFACE_CO_STAGING" || name == "HUGGING_FACE_HUB_TOKEN" {
			t.Setenv(name, "")
			os.Unsetenv(name)
		}
	}
}

// configOf runs the command line as far as the configuration of a mount.
func configOf(t *testing.T, line string) (mountConfig, error) {
	t.Helper()
	app := newApp(io.Discard, io.Discard)
	var cfg mountConfig
	app.Command("mount").Action = func(c *cli.Context) (err error) {
		cfg, err = readMountConfig(c)
		return err
	}
	args, err := arrange(app, append([]string{"hfmount"}, strings.Fields(line)...))
	if err != nil {
		return cfg, err
	}
	err = app.RunContext(context.Background(), args)
	return cfg, err
}

func TestConfigPrecedence(t *testing.T) {
	cleanEnv(t)
	t.Setenv("HOME", "/home/ada")
	check := func(line string, ok func(mountConfig) bool, env ...string) {
		t.Helper()
		for i := 0; i < len(env); i += 2 {
			t.Setenv(env[i], env[i+1])
			defer os.Unsetenv(env[i])
		}
		cfg, err := configOf(t, line)
		if err != nil || !ok(cfg) {
			t.Errorf("%q with %q: %+v, %v", line, env, cfg, err)
		}
	}
	check("a/b m", func(c mountConfig) bool {
		return c.endpoint == "https://huggingface.co" && c.cacheDir == "/home/ada/.cache/huggingface/hfmount" &&
			c.cacheSize < 0 && c.memory == 512e6 && c.refresh == 30*time.Second && c.readTimeout == 10*time.Minute &&
			!c.offline && c.uid == -1 && c.gid == -1 && c.umask == 0 && !c.noOpen && !c.foreground && c.logLevel == slog.LevelInfo
	})
	check("a/b m", func(c mountConfig) bool { return c.endpoint == "http://x:1" }, "HF_ENDPOINT", "http://x:1/")
	check("a/b m", func(c mountConfig) bool { return c.endpoint == "http://y:1" }, "HF_ENDPOINT", "http://x:1", "HFMOUNT_ENDPOINT", "http://y:1")
	check("a/b m --endpoint http://z:1/", func(c mountConfig) bool { return c.endpoint == "http://z:1" }, "HFMOUNT_ENDPOINT", "http://y:1")
	check("a/b m -o endpoint=http://w:1", func(c mountConfig) bool { return c.endpoint == "http://w:1" }, "HFMOUNT_ENDPOINT", "http://y:1")
	check("a/b m --refresh 2s -o refresh=5s", func(c mountConfig) bool { return c.refresh == 2*time.Second })
	check("a/b m", func(c mountConfig) bool { return c.cacheSize == 0 && c.memory == 1<<20 }, "HFMOUNT_CACHE_SIZE", "0", "HFMOUNT_MEMORY", "1MiB")
	check("a/b m", func(c mountConfig) bool { return c.cacheDir == "/home/ada/hf/hfmount" }, "HF_HOME", "~/hf")
	check("a/b m", func(c mountConfig) bool { return c.cacheDir == "/xdg/huggingface/hfmount" }, "XDG_CACHE_HOME", "/xdg")
	check("a/b m", func(c mountConfig) bool { return c.offline && c.readOnly == "offline" }, "HF_HUB_OFFLINE", "on")
	check("a/b m", func(c mountConfig) bool { return !c.offline }, "HF_HUB_OFFLINE", "no")
	check("a/b m --read-only", func(c mountConfig) bool { return c.readOnly == "asked for" })
	check("a/b:/mnt:ro", func(c mountConfig) bool { return c.readOnly == "asked for" && c.dir == "/mnt" })
	check("hf:// m", func(c mountConfig) bool {
		return strings.HasPrefix(c.readOnly, "the whole Hub") && c.loc == hub.Location{}
	})
	check("a/b@v1 m", func(c mountConfig) bool { return c.loc.Revision == "v1" })
	check("a/b m --revision v1", func(c mountConfig) bool { return c.loc.Revision == "v1" })
	check("a/b m --uid 5 --gid 6 --umask 027 --open-mode noopen", func(c mountConfig) bool {
		return c.uid == 5 && c.gid == 6 && c.umask == 0o27 && c.noOpen
	})
}

func TestConfigRefuses(t *testing.T) {
	cleanEnv(t)
	for _, line := range []string{
		"a/b", "a/b m n", "a/b m --umask 9", "a/b m --umask 1000", "a/b m --open-mode x", "a/b m --log-level x", "a/b m --log-format x",
		"a/b m --refresh -1s", "a/b m --read-timeout 0", "a/b@v1 m --revision v2", "hf:// m --revision v1", "a/b m --memory 1Q", "a/b m --memory -5",
		"a/b m --endpoint ftp://x", "bad:name m", "./dir m",
	} {
		_, err := configOf(t, line)
		if err == nil {
			t.Errorf("%q: no error", line)
			continue
		}
		if f := explain(err); f.code != exitUsage {
			t.Errorf("%q: exit %d (%v), want %d", line, f.code, err, exitUsage)
		}
	}
}

func TestTokenFileMustExist(t *testing.T) {
	cleanEnv(t)
	path := filepath.Join(t.TempDir(), "token")
	if _, err := configOf(t, "a/b m --token-file "+path); err == nil || explain(err).code != exitAccess {
		t.Errorf("missing file: %v, want exit %d", err, exitAccess)
	}
	if err := os.WriteFile(path, []byte("hf_secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// An explicit file counts even where implicit tokens are switched off.
	t.Setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
	t.Setenv("HF_TOKEN", "hf_other")
	cfg, err := configOf(t, "a/b m --token-file "+path)
	if err != nil {
		t.Fatal(err)
	}
	token, err := cfg.tokens().Token(t.Context())
	if err != nil || string(token) != "hf_secret" {
		t.Errorf("got %q, %v", string(token), err)
	}
	cfg.tokenFile = ""
	if token, err := cfg.tokens().Token(t.Context()); err != nil || token != "" {
		t.Errorf("implicit: got %q, %v", string(token), err)
	}
}

func TestParseSize(t *testing.T) {
	for in, want := range map[string]int64{
		"0": 0, "5": 5, "512M": 512e6, "512MB": 512e6, "512MiB": 512 << 20, "512Mi": 512 << 20, "1K": 1000, "1Ki": 1024,
		"10GiB": 10 << 30, "1.5G": 15e8, "2T": 2e12, "10 GB": 10e9,
	} {
		if got, err := parseSize(in); err != nil || got != want {
			t.Errorf("%q: got %d, %v, want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "x", "-1", "1Q", "100MB/s", "9999999999T"} {
		if got, err := parseSize(in); err == nil {
			t.Errorf("%q: got %d, want an error", in, got)
		}
	}
	v := sizeValue{rate: true}
	if err := v.Set("100MB/s"); err != nil || v.n != 100e6 || v.String() != "100MB/s" {
		t.Errorf("100MB/s: got %d %q, %v", v.n, v.String(), err)
	}
}

func TestEndpointDir(t *testing.T) {
	for endpoint, want := range map[string]string{
		"https://huggingface.co":      "huggingface.co",
		"http://127.0.0.1:8765":       "http+127.0.0.1:8765",
		"https://hub.example/sub/dir": "hub.example%2Fsub%2Fdir",
	} {
		if got := endpointDir(endpoint); got != want {
			t.Errorf("%s: got %s, want %s", endpoint, got, want)
		}
	}
}
