package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"hfmount/remote/hub"
)

// mounted is one mount with directories of its own.
type mounted struct {
	b         *bench
	repo      hub.Repo
	token     string
	home, dir string
	flags     []string
}

// mount mounts the model with an empty cache.
func (b *bench) mount(flags ...string) (*mounted, error) { return b.mountRepo(repo, flags...) }

func (b *bench) mountRepo(r hub.Repo, flags ...string) (*mounted, error) {
	return b.mountAs("", r, flags...)
}

// mountAs mounts with an account's token, which may write.
func (b *bench) mountAs(token string, r hub.Repo, flags ...string) (*mounted, error) {
	b.made++
	home := filepath.Join(b.dir, fmt.Sprint(b.made))
	m := &mounted{b: b, repo: r, token: token, home: home, dir: home + "/mnt", flags: flags}
	for _, d := range []string{home + "/run", m.dir} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
	}
	return m, m.start()
}

func (m *mounted) start() error {
	args := append([]string{"mount", "--log-file", m.home + "/log"}, m.flags...)
	return m.hfmount(append(args, m.repo.String(), m.dir)...)
}

func (m *mounted) hfmount(args ...string) error {
	cmd := exec.Command(m.b.hfmount, args...)
	cmd.Env = append(os.Environ(), "HF_ENDPOINT="+m.b.srv.URL, "HF_HOME="+m.home, "XDG_RUNTIME_DIR="+m.home+"/run", "HF_TOKEN="+m.token)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("hfmount %s: %w: %s", args[0], err, out)
	}
	return nil
}

func (m *mounted) path(name string) string { return filepath.Join(m.dir, name) }

// remount unmounts and mounts again with the same cache.
func (m *mounted) remount() (*mounted, error) {
	if err := m.hfmount("unmount", m.dir); err != nil {
		return m, err
	}
	return m, m.start()
}

var warning = regexp.MustCompile(`(?i)level=(warn|error)|panic`)

// close unmounts, drops the cache, and fails if the log has a warning.
func (m *mounted) close() error {
	if err := m.hfmount("unmount", m.dir); err != nil {
		return err
	}
	log, err := os.ReadFile(m.home + "/log")
	if err == nil && warning.Match(log) {
		err = fmt.Errorf("the mount's log has warnings:\n%s", log)
	}
	return errors.Join(err, os.RemoveAll(m.home))
}

// abandon drops what was written, and closes.
func (m *mounted) abandon() error {
	if err := m.hfmount("discard", "--yes", m.dir); err != nil {
		return err
	}
	return m.close()
}

// signedURL resolves a file to its place on the CDN.
func (b *bench) signedURL(name string) (string, error) {
	client := &http.Client{CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if "http://"+r.URL.Host == b.srv.CDNURL {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	resp, err := client.Get(b.srv.URL + "/" + repo.String() + "/resolve/main/" + name)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	url := resp.Header.Get("Location")
	if !strings.HasPrefix(url, b.srv.CDNURL) {
		return "", fmt.Errorf("resolve answered %s with Location %q", resp.Status, url)
	}
	return url, nil
}

// curl fetches the file over n connections: a process for each equal share.
func (b *bench) curl(url string, n int) (time.Duration, error) {
	if n == 1 {
		return timed("curl", "-sSf", "-o", "/dev/null", url)
	}
	share := (b.file.Size + int64(n) - 1) / int64(n)
	errs := make([]error, n)
	var wg sync.WaitGroup
	begin := time.Now()
	for i := range n {
		wg.Go(func() {
			from := int64(i) * share
			to := min(from+share, b.file.Size) - 1
			_, errs[i] = timed("curl", "-sSf", "-o", "/dev/null", "-r", fmt.Sprintf("%d-%d", from, to), url)
		})
	}
	wg.Wait()
	return time.Since(begin), errors.Join(errs...)
}

// rclone reads the file through rclone mount of the same Hub: a page that
// lists it, and redirects to its resolve URL.
func (b *bench) rclone(program string) (time.Duration, error) {
	index := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			fmt.Fprint(w, `<html><body><a href="w.bin">w.bin</a></body></html>`)
			return
		}
		http.Redirect(w, r, b.srv.URL+"/"+repo.String()+"/resolve/main"+r.URL.Path, http.StatusFound)
	}))
	defer index.Close()
	b.made++
	dir := filepath.Join(b.dir, fmt.Sprintf("rclone%d", b.made))
	if err := os.MkdirAll(dir+"/mnt", 0o755); err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	cmd := exec.Command(program, "mount", ":http:", dir+"/mnt", "--http-url", index.URL+"/", "--read-only",
		"--vfs-cache-mode", "full", "--cache-dir", dir+"/cache", "--config", os.DevNull)
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer func() {
		exec.Command("fusermount3", "-u", dir+"/mnt").Run()
		cmd.Wait()
	}()
	file := dir + "/mnt/w.bin"
	for range 200 {
		if info, err := os.Stat(file); err == nil && info.Size() == b.file.Size {
			return b.read(file, false)
		}
		time.Sleep(50 * time.Millisecond)
	}
	return 0, errors.New("rclone mount never showed the file")
}

// timed runs a program and says how long it took.
func timed(name string, args ...string) (time.Duration, error) {
	begin := time.Now()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return 0, fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return time.Since(begin), nil
}
