package remote_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	iofs "io/fs"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hfmount/remote"
	"hfmount/remote/hub"
	"hfmount/remote/hubtest"
)

// parts makes every object above 1000 bytes one of parts of 1000 bytes.
var parts = hubtest.Options{Shapes: hubtest.Shapes{MultipartThreshold: 1000, PartSize: 1000}}

func noise(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*i>>7 ^ i)
	}
	return b
}

// meter adds up what Progress is told, and checks that it never goes too far.
type meter struct {
	t    *testing.T
	size int64
	n    atomic.Int64
}

func (m *meter) told(n int64) {
	if now := m.n.Add(n); now < 0 || now > m.size {
		m.t.Errorf("progress of %d of %d", now, m.size)
	}
}

func stored(t *testing.T, c *remote.Client, o hub.Object) bool {
	t.Helper()
	at := head(t, c, mainRef)
	_, err := c.Commit(t.Context(), mainRef, hub.Commit{Parent: at, Summary: "it", Ops: []hub.Op{{Kind: hub.OpLFS, Path: "it.bin", SHA256: o.SHA256, Size: o.Size}}})
	if err != nil && !errors.Is(err, hub.ErrRefused) {
		t.Fatal(err)
	}
	return err == nil
}

func TestUploadFaults(t *testing.T) {
	for _, tt := range []struct {
		name   string
		size   int
		faults []hubtest.Fault
		want   error
	}{
		{"basic", 900, nil, nil},
		{"parts", 9_500, nil, nil},
		{"as many as fit", 10_000, nil, nil},
		{"basic, URL refused", 900, []hubtest.Fault{{Fault: "lfs-403", Times: 2}}, nil},
		{"parts, URLs refused", 9_500, []hubtest.Fault{{Fault: "lfs-403", Every: 4, Times: 3}}, nil},
		{"refused for good", 9_500, []hubtest.Fault{{Fault: "lfs-403"}}, hub.ErrUnavailable},
		{"basic, broken", 900, []hubtest.Fault{{Fault: "reset", Method: "PUT", Times: 3}}, nil},
		{"parts, broken", 9_500, []hubtest.Fault{{Fault: "reset", Method: "PUT", Every: 3}}, nil},
		{"answers lost", 9_500, []hubtest.Fault{{Fault: "stall", Method: "PUT", Every: 4}}, nil},
		{"503", 9_500, []hubtest.Fault{{Fault: "status", Status: 503, Method: "PUT", Every: 2}}, nil},
		{"429", 9_500, []hubtest.Fault{{Fault: "status", Status: 429, Method: "PUT", Every: 3, Headers: map[string]string{"Retry-After": "20"}}}, nil},
		{"400 now and then", 9_500, []hubtest.Fault{{Fault: "status", Status: 400, Method: "PUT", Every: 5}}, nil},
		{"400 always", 9_500, []hubtest.Fault{{Fault: "status", Status: 400, Method: "PUT"}}, hub.ErrRefused},
		{"dead", 9_500, []hubtest.Fault{{Fault: "reset", Method: "PUT"}}, hub.ErrUnavailable},
		{"batch 503", 9_500, []hubtest.Fault{{Fault: "status", Status: 503, Path: "*/batch", Times: 3}}, nil},
		{"batch 403", 9_500, []hubtest.Fault{{Fault: "status", Status: 403, Path: "*/batch"}}, hub.ErrForbidden},
		{"batch is no JSON", 9_500, []hubtest.Fault{{Fault: "status", Status: 200, Body: "hello", Path: "*/batch"}}, hub.ErrBadAnswer},
		{"completion 500", 9_500, []hubtest.Fault{{Fault: "status", Status: 500, Path: "*complete*", Times: 2}}, nil},
		{"completion's answer lost", 9_500, []hubtest.Fault{{Fault: "truncate", After: 3, Path: "*complete*", Times: 2}}, nil},
		{"completion refused once", 9_500, []hubtest.Fault{{Fault: "status", Status: 400, Path: "*complete*", Times: 1}}, nil},
		{"completion expired once", 9_500, []hubtest.Fault{{Fault: "status", Status: 403, Path: "*complete*", Times: 1}}, nil},
		{"completion refused", 9_500, []hubtest.Fault{{Fault: "status", Status: 400, Path: "*complete*"}}, hub.ErrRefused},
		{"not verified", 9_500, []hubtest.Fault{{Fault: "status", Status: 404, Path: "*/verify"}}, nil}, // the next batch says that it is stored
		{"verify 502", 900, []hubtest.Fault{{Fault: "status", Status: 502, Path: "*/verify", Times: 2}}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, parts, func(t *testing.T, h *hubtest.Hub, c *remote.Client) {
				must(t, h.SetFaults(tt.faults...))
				o := object(noise(tt.size))
				m := &meter{t: t, size: o.Size}
				o.Progress = m.told
				err := c.Upload(t.Context(), mainRef, o)
				must(t, h.SetFaults())
				if tt.want != nil {
					if !errors.Is(err, tt.want) {
						t.Errorf("%v", err)
					}
					if tt.want != hub.ErrRefused && errors.Is(err, hub.ErrForbidden) != (tt.want == hub.ErrForbidden) {
						t.Errorf("an expired address for a refusal: %v", err)
					}
					return
				}
				must(t, err)
				if m.n.Load() != o.Size {
					t.Errorf("progress of %d of %d in the end", m.n.Load(), o.Size)
				}
				if !stored(t, c, o) {
					t.Error("it is not there")
				}
				s := h.Stats()
				if s.LeakedTokens != 0 {
					t.Error("a token on the CDN")
				}
				o.Progress = nil
				puts := s.Requests["lfs-put"]
				must(t, c.Upload(t.Context(), mainRef, o)) // stored: no bytes
				if h.Stats().Requests["lfs-put"] != puts {
					t.Error("sent again")
				}
			})
		})
	}
}

func TestUploadRefusesNonsense(t *testing.T) {
	inBubble(t, parts, func(t *testing.T, h *hubtest.Hub, c *remote.Client) {
		if err := c.Upload(t.Context(), mainRef, object(nil)); !errors.Is(err, iofs.ErrInvalid) {
			t.Errorf("empty: %v", err)
		}
		for _, n := range []int{900, 3500} {
			o := object(noise(n))
			other := noise(n)
			other[n-1]++
			o.Data = bytes.NewReader(other)
			if err := c.Upload(t.Context(), mainRef, o); !errors.Is(err, hub.ErrRefused) {
				t.Errorf("other content, %d bytes: %v", n, err)
			} else if !strings.Contains(err.Error(), "announced sha256") {
				t.Errorf("no reason in %v", err)
			}
			if stored(t, c, o) {
				t.Error("and it is there")
			}
		}
		// A disk that cannot be read is not the network.
		o := object(noise(3500))
		o.Data = failing{}
		start := time.Now()
		if err := c.Upload(t.Context(), mainRef, o); err == nil || errors.Is(err, hub.ErrUnavailable) || !strings.Contains(err.Error(), "bad sector") {
			t.Errorf("%v", err)
		}
		if time.Since(start) > time.Second {
			t.Errorf("retried for %v", time.Since(start))
		}
	})
}

type failing struct{}

func (failing) ReadAt([]byte, int64) (int, error) { return 0, errors.New("bad sector") }

// An upload that is cut goes on where it was, as long as its addresses live.
func TestUploadResume(t *testing.T) {
	for _, tt := range []struct {
		name   string
		pause  time.Duration
		expire bool
		again  bool // all of it
	}{
		{name: "soon", pause: time.Minute},
		{name: "too late", pause: 2 * time.Hour, again: true},
		{name: "expired behind our back", expire: true, again: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, parts, func(t *testing.T, h *hubtest.Hub, c *remote.Client) {
				const n = 40
				o := object(noise(n*1000 - 1))
				var mu sync.Mutex
				var state []byte
				o.Save = func(b []byte) {
					mu.Lock()
					state = b
					mu.Unlock()
				}
				// The 21st part hangs, and the caller gives up.
				must(t, h.SetFaults(hubtest.Fault{Fault: "delay", MS: 3_600_000, Method: "PUT", Nth: 21}))
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				err := c.Upload(ctx, mainRef, o)
				cancel()
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Fatalf("%v", err)
				}
				must(t, h.SetFaults())
				if state == nil {
					t.Fatal("no state")
				}
				first := h.Stats().Requests["lfs-put"]
				if first < 21 {
					t.Fatalf("%d parts", first)
				}
				time.Sleep(tt.pause)
				if tt.expire {
					h.ExpireURLs()
				}
				o.Resume = state
				m := &meter{t: t, size: o.Size}
				o.Progress = m.told
				batches := h.Stats().Requests["lfs-batch"]
				must(t, c.Upload(t.Context(), mainRef, o))
				s := h.Stats()
				more := s.Requests["lfs-put"] - first
				if want := int64(n) - (first - 1); !tt.again && (more != want || s.Requests["lfs-batch"] != batches) {
					t.Errorf("%d parts more, want %d; %d batches more", more, want, s.Requests["lfs-batch"]-batches)
				}
				if tt.again && more < n {
					t.Errorf("%d parts more, of a new upload of %d", more, n)
				}
				if m.n.Load() != o.Size || !stored(t, c, o) {
					t.Errorf("progress of %d", m.n.Load())
				}
			})
		})
	}
	// States that are none cost nothing but a new beginning.
	inBubble(t, parts, func(t *testing.T, h *hubtest.Hub, c *remote.Client) {
		for i, state := range [][]byte{nil, {}, []byte("garbage"), bytes.Repeat([]byte{0xff}, 100)} {
			o := object(noise(2500 + i))
			o.Resume = state
			must(t, c.Upload(t.Context(), mainRef, o))
		}
	})
}

// TestUploadLarge sends 5 GB that exist nowhere and counts how they are read:
// each byte once, few at a time.
func TestUploadLarge(t *testing.T) {
	const size = 5_000_000_000
	sha := strings.Repeat("5a", 32)
	src := &counted{}
	var sent atomic.Int64
	rt := trip(func(req *http.Request) (*http.Response, error) {
		switch {
		case req.Method == "PUT":
			n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, req.Body, make([]byte, 32<<10))
			_ = req.Body.Close()
			if n != req.ContentLength || err != nil || req.Header.Get("Authorization") != "" {
				t.Errorf("%d of %d bytes, %v", n, req.ContentLength, err)
			}
			sent.Add(n)
			return said(req, 200, ``, "ETag", `"part"`), nil
		case strings.HasSuffix(req.URL.Path, "/batch"):
			var b strings.Builder
			for i := range 100 {
				b.WriteString(`,"` + strings.Repeat("0", i%4) + strconv.Itoa(i+1) + `":"https://s3.test/up?partNumber=` + strconv.Itoa(i+1) + `"`)
			}
			return said(req, 200, `{"transfer":"multipart","objects":[{"oid":"`+sha+`","size":5000000000,"actions":{"upload":{"href":"https://huggingface.co/api/complete_multipart?uploadId=u","header":{"chunk_size":"50000000"`+b.String()+`}}}}]}`), nil
		case req.URL.Path == "/api/complete_multipart":
			if req.URL.Host != "hub.test" || req.Header.Get("Authorization") != "" {
				t.Errorf("completion at %s with %q", req.URL.Host, req.Header.Get("Authorization"))
			}
			b, _ := io.ReadAll(req.Body)
			if !bytes.Contains(b, []byte(`{"partNumber":100,"etag":"\"part\""}`)) {
				t.Errorf("%s", b)
			}
			return said(req, 200, `{}`), nil
		}
		return said(req, 404, ``), nil
	})
	c, err := remote.New(remote.Options{Endpoint: "http://hub.test", Tokens: remote.StaticToken(writer), Transport: rt})
	must(t, err)
	saves := 0
	must(t, c.Upload(t.Context(), mainRef, hub.Object{SHA256: sha, Size: size, Data: src, Save: func(b []byte) {
		if saves++; len(b) > 64<<10 {
			t.Errorf("a state of %d bytes", len(b))
		}
	}}))
	if sent.Load() != size || src.bytes.Load() != size {
		t.Errorf("%d bytes sent, %d read", sent.Load(), src.bytes.Load())
	}
	if src.largest.Load() > 64<<10 || src.most.Load() > 4 {
		t.Errorf("reads of %d bytes, %d at once", src.largest.Load(), src.most.Load())
	}
	if saves == 0 || saves > 40 {
		t.Errorf("%d states", saves)
	}
}

// counted is content that exists nowhere and counts how it is read.
type counted struct {
	bytes, largest, now, most atomic.Int64
}

func (c *counted) ReadAt(p []byte, _ int64) (int, error) {
	raise(&c.most, c.now.Add(1))
	defer c.now.Add(-1)
	raise(&c.largest, int64(len(p)))
	c.bytes.Add(int64(len(p)))
	return len(p), nil
}

func raise(a *atomic.Int64, n int64) {
	for old := a.Load(); n > old && !a.CompareAndSwap(old, n); old = a.Load() {
	}
}

// TestCommitLarge commits 120 MB of regular content that exist nowhere.
func TestCommitLarge(t *testing.T) {
	const size, files = 3_000_001, 40
	src := &counted{}
	open := atomic.Int64{}
	var got atomic.Int64
	rt := trip(func(req *http.Request) (*http.Response, error) {
		n, err := io.Copy(struct{ io.Writer }{io.Discard}, req.Body)
		_ = req.Body.Close()
		if n != req.ContentLength || err != nil {
			t.Errorf("%d of %d bytes, %v", n, req.ContentLength, err)
		}
		got.Store(n)
		return said(req, 200, `{"success":true,"commitOid":"`+strings.Repeat("a", 40)+`"}`), nil
	})
	c, err := remote.New(remote.Options{Endpoint: "http://hub.test", Tokens: remote.StaticToken(writer), Transport: rt})
	must(t, err)
	m := hub.Commit{Parent: hub.CommitID(strings.Repeat("b", 40)), Summary: "much"}
	for i := range files {
		m.Ops = append(m.Ops, hub.Op{Kind: hub.OpFile, Path: "f" + strconv.Itoa(i), Size: size, Data: func() (io.ReadCloser, error) {
			if open.Add(1) > 1 {
				t.Error("two files open at once")
			}
			return &closing{io.NewSectionReader(src, 0, size), &open}, nil
		}})
	}
	done, err := c.Commit(t.Context(), mainRef, m)
	must(t, err)
	if done.ID != hub.CommitID(strings.Repeat("a", 40)) || got.Load() < size*files*4/3 || open.Load() != 0 {
		t.Errorf("%+v, %d bytes, %d files open", done, got.Load(), open.Load())
	}
	if src.largest.Load() > 64<<10 || src.bytes.Load() != size*files {
		t.Errorf("%d bytes read, %d at once", src.bytes.Load(), src.largest.Load())
	}
}

type closing struct {
	io.Reader
	open *atomic.Int64
}

func (c *closing) Close() error {
	c.open.Add(-1)
	return nil
}

type trip func(*http.Request) (*http.Response, error)

func (f trip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func said(req *http.Request, status int, body string, header ...string) *http.Response {
	h := http.Header{}
	for i := 0; i+1 < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{StatusCode: status, Header: h, ContentLength: int64(len(body)), Body: io.NopCloser(strings.NewReader(body)), Request: req}
}
