package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// rcloneTuned are the settings with which rclone reads ahead best.
var rcloneTuned = []string{"--vfs-read-chunk-streams", "16", "--vfs-read-chunk-size", "16M"}

// hfClient runs the official client with a home of its own, and says how long
// it took.
func (b *bench) hfClient(h *hubProcess, args ...string) (time.Duration, error) {
	b.made++
	home := filepath.Join(b.dir, fmt.Sprint("hf", b.made))
	defer os.RemoveAll(home)
	cmd := exec.Command(b.hf, args...)
	cmd.Env = append(os.Environ(), "HF_ENDPOINT="+h.URL, "HF_HOME="+home, "HF_TOKEN=hf_local", "HF_HUB_DISABLE_XET=1",
		"HF_HUB_DISABLE_TELEMETRY=1", "HF_HUB_DISABLE_PROGRESS_BARS=1")
	begin := time.Now()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("hf %s: %w: %s", args[0], err, out)
	}
	return time.Since(begin), nil
}

// rcloneMounted is rclone mount of the same Hub: of a page that lists the
// repository's files and redirects to their resolve URLs.
type rcloneMounted struct {
	b     *bench
	dir   string
	flags []string
	cmd   *exec.Cmd

	forget func()
}

// rcloneMount mounts with an empty cache.
func (b *bench) rcloneMount(flags ...string) (*rcloneMounted, error) {
	b.made++
	dir := filepath.Join(b.dir, fmt.Sprintf("rclone%d", b.made))
	if err := os.MkdirAll(dir+"/mnt", 0o755); err != nil {
		return nil, err
	}
	p := &rcloneMounted{b: b, dir: dir, flags: flags}
	return p, p.start()
}

// rcloneIndex is the page, served for as long as the program runs.
func (b *bench) rcloneIndex() string {
	index := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			for name := range b.hub.has {
				fmt.Fprintf(w, `<a href="%s">%s</a>`, name, name)
			}
			return
		}
		http.Redirect(w, r, b.hub.URL+"/"+repo.String()+"/resolve/main"+r.URL.Path, http.StatusFound)
	}))
	b.tidy.add(index.Close)
	return index.URL + "/"
}

func (p *rcloneMounted) start() error {
	if p.b.indexURL == "" {
		p.b.indexURL = p.b.rcloneIndex()
	}
	args := []string{"mount", ":http:", p.dir + "/mnt", "--http-url", p.b.indexURL, "--read-only", "--cache-dir", p.dir + "/cache", "--config", os.DevNull}
	p.cmd = exec.Command(p.b.rclone, append(args, p.flags...)...)
	if err := p.cmd.Start(); err != nil {
		return err
	}
	p.forget = p.b.tidy.add(func() {
		detach(p.dir + "/mnt")
		_ = p.cmd.Process.Kill()
	})
	for range 200 {
		var here, parent os.FileInfo
		here, err := os.Stat(p.dir + "/mnt")
		if err == nil {
			parent, err = os.Stat(p.dir)
		}
		if err == nil && !sameDevice(here, parent) {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return errors.Join(errors.New("rclone never mounted"), p.stop())
}

func (p *rcloneMounted) path(name string) string { return filepath.Join(p.dir, "mnt", name) }

// stop unmounts and waits for the process.
func (p *rcloneMounted) stop() error {
	var err error
	for range 50 { // a reader that has just ended may still hold it
		if err = exec.Command("fusermount3", "-u", p.dir+"/mnt").Run(); err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil {
		_ = p.cmd.Process.Kill()
	}
	_ = p.cmd.Wait() // its code on unmount says nothing
	p.forget()
	return err
}

func (p *rcloneMounted) close() error { return errors.Join(p.stop(), os.RemoveAll(p.dir)) }

// rcloneCold reads the file, or a part of it, through rclone with empty caches.
func (b *bench) rcloneCold(fraction int, flags ...string) probe {
	return func() (time.Duration, error) {
		p, err := b.rcloneMount(flags...)
		if err != nil {
			return 0, err
		}
		b.gate()
		d, err := reader{}.timed("dd", "if="+p.path("w.bin"), "of=/dev/null", "bs=1M", "status=none",
			fmt.Sprint("count=", b.file.Size>>20/int64(fraction)))
		return d, errors.Join(err, p.close())
	}
}

func sameDevice(a, b os.FileInfo) bool {
	x, ok := a.Sys().(*syscall.Stat_t)
	y, also := b.Sys().(*syscall.Stat_t)
	return ok && also && x.Dev == y.Dev
}
