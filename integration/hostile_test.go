package integration

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"hfmount/remote/hubtest"
)

// hostile puts a server of ill will before a good Hub: answer is asked first
// and reports whether it has answered. A test in which it never did fails.
func hostile(t *testing.T, answer func(w http.ResponseWriter, r *http.Request) bool) *world {
	t.Helper()
	good := newWorld(t, hubtest.Options{})
	good.commit("alice/victim", map[string][]byte{
		"good.txt": []byte("good\n"), "w.bin": noise(31, 12<<20), "sub/inner.txt": []byte("inner\n"),
	})
	target, err := url.Parse(good.srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(target)
		p.Out.Host = p.In.Host // links in answers lead back here
	}}
	var answered atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if answer(w, r) {
			answered.Add(1)
		} else {
			proxy.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(srv.Close)
	t.Cleanup(func() {
		if answered.Load() == 0 {
			t.Error("nothing asked for what was to be answered badly")
		}
	})
	return newPerson(t, good.hub, good.srv, srv.URL)
}

func isTree(r *http.Request) bool    { return strings.Contains(r.URL.Path, "/tree/") }
func isResolve(r *http.Request) bool { return strings.Contains(r.URL.Path, "/resolve/") }

const oid = "0123456789abcdef0123456789abcdef01234567"

func entry(path, size string) string {
	return fmt.Sprintf(`{"type":"file","oid":%q,"size":%s,"path":%s}`, oid, size, path)
}

// A listing with one impossible entry is refused whole: nothing of it is
// shown, nothing is kept, and a good one shows when the Hub comes to its senses.
func TestHostileListings(t *testing.T) {
	long := strings.Repeat("n", 1000)
	for name, line := range map[string]string{
		"dot dot":           entry(`"../evil"`, "1"),
		"dot dot within":    entry(`"sub/../../evil"`, "1"),
		"dot":               entry(`"."`, "1"),
		"absolute":          entry(`"/etc/passwd"`, "1"),
		"empty":             entry(`""`, "1"),
		"empty component":   entry(`"a//b"`, "1"),
		"NUL":               entry(`"a\u0000b"`, "1"),
		"invalid UTF-8":     entry("\"a\xff\xfeb\"", "1"),
		"1000 characters":   entry(`"`+long+`"`, "1"),
		"elsewhere":         entry(`"other/folder/x"`, "1"),
		"negative size":     entry(`"x"`, "-5"),
		"absurd size":       entry(`"x"`, "4611686018427387904"),
		"beyond 64 bits":    entry(`"x"`, "99999999999999999999999"),
		"size as text":      entry(`"x"`, `"12"`),
		"bad oid":           `{"type":"file","oid":"../../x","size":1,"path":"x"}`,
		"bad sha256":        `{"type":"file","oid":"` + oid + `","size":1,"path":"x","lfs":{"oid":"../../../../tmp/x","size":1,"pointerSize":130}}`,
		"negative LFS size": `{"type":"file","oid":"` + oid + `","size":1,"path":"x","lfs":{"oid":"` + strings.Repeat("a", 64) + `","size":-7,"pointerSize":130}}`,
		"not JSON":          `{"type":`,
	} {
		t.Run(name, func(t *testing.T) {
			var off atomic.Bool
			w := hostile(t, func(w http.ResponseWriter, r *http.Request) bool {
				if off.Load() || !isTree(r) {
					return false
				}
				w.Header().Set("Content-Type", "application/json")
				fmt.Fprintf(w, `[%s,%s]`, entry(`"harmless.txt"`, "3"), line)
				return true
			})
			dir := mkdir(t, w, "m")
			r := w.hfmount("mount", "--log-file", w.dir+"/log", "alice/victim", dir)
			if r.code == 0 { // the first listing may come later than the mount
				if entries, err := os.ReadDir(dir); !isErrno(err, syscall.EIO) {
					t.Errorf("ls: %v, %v; want EIO", entries, err)
				}
				if _, err := os.Lstat(dir + "/harmless.txt"); !isErrno(err, syscall.EIO) {
					t.Errorf("harmless.txt: %v, want EIO", err)
				}
				if log, _ := os.ReadFile(w.dir + "/log"); !strings.Contains(string(log), "makes no sense") {
					t.Errorf("the log does not say why: %s", log)
				}
				off.Store(true)
				if got, err := os.ReadFile(dir + "/good.txt"); err != nil || string(got) != "good\n" {
					t.Errorf("afterwards: %q, %v", got, err)
				}
				w.must(binary, "unmount", dir)
			} else if r.code != 1 || !strings.Contains(r.stderr, "hfmount: ") {
				t.Errorf("mount: %s", r)
			}
			off.Store(true)
			if r := w.hfmount("ls", "alice/victim"); r.code != 0 || strings.Contains(r.stdout, "harmless") || !strings.Contains(r.stdout, "good.txt") {
				t.Errorf("something was kept: %s", r)
			}
			if found := w.must("find", w.dir, "-name", "*evil*"); found != "" {
				t.Errorf("made %s", found)
			}
		})
	}
}

func TestHostileCursors(t *testing.T) {
	for name, link := range map[string]func(r *http.Request, page int) string{
		"loop": func(r *http.Request, _ int) string { return "http://" + r.Host + r.URL.String() },
		"loop of two": func(r *http.Request, n int) string {
			return fmt.Sprintf("http://%s%s?cursor=c%d", r.Host, r.URL.Path, n%2)
		},
		"elsewhere": func(r *http.Request, _ int) string { return "http://127.0.0.1:1" + r.URL.String() },
		"file":      func(*http.Request, int) string { return "file:///etc/passwd" },
		"not a URL": func(*http.Request, int) string { return "%zz" },
	} {
		t.Run(name, func(t *testing.T) {
			pages := 0
			w := hostile(t, func(w http.ResponseWriter, r *http.Request) bool {
				if !isTree(r) {
					return false
				}
				pages++
				w.Header().Set("Link", "<"+link(r, pages)+`>; rel="next"`)
				fmt.Fprintf(w, `[%s]`, entry(fmt.Sprintf(`"f%d"`, pages), "3"))
				return true
			})
			r := w.hfmount("ls", "alice/victim")
			if r.code == 0 || !strings.Contains(r.stderr, "hfmount: ") {
				t.Errorf("ls: %s", r)
			}
			if pages > 50 {
				t.Errorf("%d pages were asked for", pages)
			}
		})
	}
}

func TestHostileRedirects(t *testing.T) {
	for name, location := range map[string]func(r *http.Request) string{
		"loop":        func(r *http.Request) string { return r.URL.String() },
		"longer":      func(r *http.Request) string { return r.URL.Path + "?x" + r.URL.RawQuery },
		"file":        func(*http.Request) string { return "file:///etc/passwd" },
		"data":        func(*http.Request) string { return "data:text/plain,evil" },
		"unix":        func(*http.Request) string { return "unix:///run/x.sock" },
		"no location": func(*http.Request) string { return "" },
		"not a URL":   func(*http.Request) string { return "http://%zz" },
	} {
		for kind, is := range map[string]func(*http.Request) bool{"listing": isTree, "content": isResolve} {
			t.Run(kind+" "+name, func(t *testing.T) {
				hops := 0
				w := hostile(t, func(w http.ResponseWriter, r *http.Request) bool {
					if !is(r) {
						return false
					}
					hops++
					if l := location(r); l != "" {
						w.Header().Set("Location", l)
					}
					w.WriteHeader(http.StatusTemporaryRedirect)
					return true
				})
				r := w.hfmount("cat", "--read-timeout", "3s", "alice/victim/w.bin")
				if r.code == 0 || !strings.Contains(r.stderr, "hfmount: ") {
					t.Errorf("cat: %d bytes, %s", len(r.stdout), r.stderr)
				}
				if strings.Contains(r.stdout, "root:") || strings.Contains(r.stdout, "evil") {
					t.Errorf("printed %q", r.stdout)
				}
				if hops > 400 {
					t.Errorf("%d hops", hops)
				}
			})
		}
	}
}

// A server that lies about lengths: EIO within the deadline, never other bytes.
func TestHostileLengths(t *testing.T) {
	honest := noise(31, 12<<20)
	for name, lie := range map[string]func(w http.ResponseWriter, r *http.Request){
		"short body": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "12582912")
			w.Write(honest[:1000])
		},
		"long body": func(w http.ResponseWriter, r *http.Request) { w.Write(append(honest, "more"...)) },
		"other total": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", "bytes 0-999/1000")
			w.WriteHeader(http.StatusPartialContent)
			w.Write(honest[:1000])
		},
		"gzip": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(honest)
		},
		"empty": func(w http.ResponseWriter, r *http.Request) {},
		"HTML":  func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "<html>login here</html>") },
		"404 of a proxy": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, "<html>not found</html>")
		},
		"endless header": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Long", strings.Repeat("x", 4<<20))
			w.Write(honest)
		},
	} {
		t.Run(name, func(t *testing.T) {
			var off atomic.Bool
			w := hostile(t, func(w http.ResponseWriter, r *http.Request) bool {
				if off.Load() || !isResolve(r) || !strings.HasSuffix(r.URL.Path, "w.bin") {
					return false
				}
				lie(w, r)
				return true
			})
			m := w.mount("alice/victim", "--read-timeout", "2s")
			m.allow = anyLog
			begin := time.Now()
			reader := exec.Command("cat", m.join("w.bin"))
			out, err := reader.Output()
			if took := time.Since(begin); took > time.Minute {
				t.Errorf("took %s", took)
			}
			// "long body" and "short body" hold honest bytes, which may be used.
			if err == nil && string(out) != string(honest) {
				t.Errorf("served %d other bytes", len(out))
			}
			if err != nil {
				if stderr := string(err.(*exec.ExitError).Stderr); !strings.Contains(stderr, "Input/output error") {
					t.Errorf("want EIO: %s", stderr)
				}
			} else if name != "long body" {
				t.Error("the read succeeded")
			}
			if got, err := m.read("good.txt", 20*time.Second); err != nil || string(got) != "good\n" {
				t.Errorf("another file: %q, %v", got, err)
			}
			off.Store(true)
			if !eventually(20*time.Second, func() bool {
				out, err := exec.Command("cat", m.join("w.bin")).Output()
				return err == nil && string(out) == string(honest)
			}) {
				t.Error("no right read after the lies had ended")
			}
		})
	}
}

// A repository whose info answer is nonsense.
func TestHostileInfo(t *testing.T) {
	for name, body := range map[string]string{
		"not JSON":  `<html>`,
		"bad id":    `{"id":"../../etc","sha":"` + oid + `"}`,
		"no sha":    `{"id":"alice/victim"}`,
		"bad sha":   `{"id":"alice/victim","sha":"../../x"}`,
		"deep JSON": strings.Repeat("[", 200_000),
		"a list":    `[]`,
	} {
		t.Run(name, func(t *testing.T) {
			w := hostile(t, func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasPrefix(r.URL.Path, "/api/models/alice/victim") || isTree(r) {
					return false
				}
				w.Header().Set("Content-Type", "application/json")
				fmt.Fprint(w, body)
				return true
			})
			dir := mkdir(t, w, "m")
			if r := w.hfmount("mount", "alice/victim", dir); r.code == 0 || r.code == 4 || !strings.Contains(r.stderr, "hfmount: ") || strings.Contains(r.stderr, "goroutine ") {
				t.Errorf("mount: %s", r)
			}
			if mounts(t, dir) {
				t.Error("something was mounted")
				exec.Command("fusermount3", "-u", "-z", dir).Run()
			}
		})
	}
}
