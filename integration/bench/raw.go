package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"hfmount/remote/hub"
)

const connections = 16

// part is a range of what a URL leads to, to inclusive.
type part struct {
	url      string
	from, to int64
}

// shares cuts a file into n parts of equal size.
func shares(url string, size int64, n int) (all []part) {
	share := (size + int64(n) - 1) / int64(n)
	for from := int64(0); from < size; from += share {
		all = append(all, part{url, from, min(from+share, size) - 1})
	}
	return all
}

// curl fetches parts at once, a process each, and says what that took: the
// time of all, and the processors' sum.
func curl(parts ...part) (u used, err error) {
	var mu sync.Mutex
	u.wall, err = together(len(parts), func(i int) error {
		p := parts[i]
		one, err := reader{}.run("curl", "-sSf", "-o", "/dev/null", "-r", fmt.Sprintf("%d-%d", p.from, p.to), p.url)
		mu.Lock()
		defer mu.Unlock()
		u.cpu += one.cpu
		return err
	})
	return u, err
}

// curlOne fetches parts at once in one process.
func curlOne(parts ...part) (used, error) {
	args := []string{"--parallel", "--parallel-immediate", "--parallel-max", strconv.Itoa(len(parts))}
	for i, p := range parts {
		if i > 0 {
			args = append(args, "--next")
		}
		args = append(args, "-sSf", "-o", "/dev/null", "-r", fmt.Sprintf("%d-%d", p.from, p.to), p.url)
	}
	return reader{}.run("curl", args...)
}

// raw is a round of a raw transfer: what is faster, a process for each part or
// one for all.
func (b *bench) raw(parts ...part) probe {
	return func() (time.Duration, error) {
		b.gate()
		u, err := curl(parts...)
		if err != nil || len(parts) == 1 {
			return u.wall, err
		}
		b.gate()
		one, err := curlOne(parts...)
		return min(u.wall, one.wall), err
	}
}

// aQuarter is the fraction of the bytes that slow rows transfer: they go at the
// same speed, and nobody waits for minutes.
const aQuarter = 4

// times scales what a part took to the whole.
func times(n int, p probe) probe {
	return func() (time.Duration, error) {
		d, err := p()
		return time.Duration(n) * d, err
	}
}

// firstByteOf is when curl has the first byte of a part, asked for after the
// one before on the same connection, so that only the first pays for that.
func firstByteOf(parts ...part) (samples, error) {
	args := []string{"-sSf"}
	for i, p := range parts {
		if i > 0 {
			args = append(args, "--next", "-sSf")
		}
		args = append(args, "-o", "/dev/null", "-w", "%{time_starttransfer}\n", "-r", fmt.Sprintf("%d-%d", p.from, p.to), p.url)
	}
	out, err := reader{}.command("curl", args...).Output()
	if err != nil {
		return nil, fmt.Errorf("curl: %w", err)
	}
	var all samples
	for _, line := range strings.Fields(string(out)) {
		s, err := strconv.ParseFloat(line, 64)
		if err != nil {
			return nil, err
		}
		all = append(all, time.Duration(s*float64(time.Second)))
	}
	return all, nil
}

// resolved follows a file's redirects, without asking for its content, and
// returns where they lead.
func resolved(h *hubProcess, r hub.Repo, name string) (string, error) {
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	return follow(client, h, r, name)
}

func follow(client *http.Client, h *hubProcess, r hub.Repo, name string) (string, error) {
	at, err := url.Parse(h.URL + "/" + r.String() + "/resolve/main/" + name)
	if err != nil {
		return "", err
	}
	for range 5 {
		resp, err := client.Head(at.String())
		if err != nil {
			return "", err
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return at.String(), nil
		}
		if resp.StatusCode/100 != 3 {
			return "", fmt.Errorf("HEAD %s: %s", at, resp.Status)
		}
		next, err := at.Parse(resp.Header.Get("Location"))
		if err != nil {
			return "", err
		}
		at = next
		if strings.HasPrefix(at.String(), h.CDNURL) {
			return at.String(), nil
		}
	}
	return "", fmt.Errorf("%s redirects without end", name)
}

// resolvedAll writes configuration files for curl, one a connection, that
// fetch the first count of many small files with their redirects behind them.
func (b *bench) resolvedAll(r hub.Repo, made MadeFiles, count int, dir string) (configs []string, err error) {
	client := &http.Client{
		Transport:     &http.Transport{MaxIdleConnsPerHost: connections},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	defer client.CloseIdleConnections()
	urls := make([]string, count)
	_, err = together(connections, func(n int) error {
		for i := n; i < count; i += connections {
			u, err := follow(client, b.hub, r, made.name(i))
			if err != nil {
				return err
			}
			urls[i] = u
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for n := range connections {
		var s strings.Builder
		for i := n; i < count; i += connections {
			fmt.Fprintf(&s, "url = %q\noutput = /dev/null\n", urls[i])
		}
		name := filepath.Join(dir, fmt.Sprintf("curl%d", n))
		if err := os.WriteFile(name, []byte(s.String()), 0o644); err != nil {
			return nil, err
		}
		configs = append(configs, name)
	}
	return configs, nil
}
