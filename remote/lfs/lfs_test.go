package lfs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"hfmount/remote/hub"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var oid = strings.Repeat("5a", 32)

// script answers an upload from a table.
type script struct {
	batches []string // of JSON, in turn; the last one stays
	put     func(href string, n int64) (string, error)
	post    func(href string) error // of completion and verification

	mu    sync.Mutex
	asked int
	puts  []string
}

func (s *script) Post(_ context.Context, href string, in, out any, signed bool) error {
	if href == "batch" {
		if signed {
			return errors.New("the batch without a token")
		}
		s.mu.Lock()
		b := s.batches[min(s.asked, len(s.batches)-1)]
		s.asked++
		s.mu.Unlock()
		return json.Unmarshal([]byte(b), out)
	}
	if signed != strings.HasPrefix(href, "complete") {
		return fmt.Errorf("signed %v for %s", signed, href)
	}
	if s.post != nil {
		return s.post(href)
	}
	return nil
}

func (s *script) Put(_ context.Context, href string, size int64, body func() io.Reader, told func(int)) (string, error) {
	n, err := io.Copy(io.Discard, body())
	told(int(n))
	if n != size || err != nil {
		return "", fmt.Errorf("%d bytes of %d: %v", n, size, err)
	}
	s.mu.Lock()
	s.puts = append(s.puts, href)
	s.mu.Unlock()
	if s.put != nil {
		return s.put(href, size)
	}
	return `"` + href + `"`, nil
}

type status int

func (s status) Error() string           { return fmt.Sprintf("status %d", int(s)) }
func (s status) HTTPStatus() int         { return int(s) }
func (status) RetryAfter() time.Duration { return 0 }

type zeros struct{}

func (zeros) ReadAt(p []byte, _ int64) (int, error) { clear(p); return len(p), nil }

func multi(id string, chunk string, hrefs ...string) string {
	h := map[string]any{"chunk_size": chunk}
	for i, href := range hrefs {
		h[fmt.Sprintf("%05d", i+1)] = href
	}
	b, _ := json.Marshal(map[string]any{"transfer": "multipart", "objects": []any{map[string]any{"oid": oid, "size": 5,
		"actions": map[string]any{"upload": map[string]any{"href": "complete?uploadId=" + id, "header": h}}}}})
	return string(b)
}

func object(a string) string {
	return `{"transfer":"basic","objects":[{"oid":"` + oid + `","size":5` + a + `}]}`
}

func run(t *testing.T, s *script, o hub.Object) error {
	t.Helper()
	o.SHA256, o.Size, o.Data = oid, 5, zeros{}
	return Upload(t.Context(), s, Target{Batch: "batch", Ref: "main"}, o)
}

func TestPlans(t *testing.T) {
	for _, tt := range []struct {
		name, batch string
		want        error
		puts        int
	}{
		{"basic", object(`,"actions":{"upload":{"href":"u"}}`), nil, 1},
		{"stored", object(``), nil, 0},
		{"stored, null", object(`,"actions":null`), nil, 0},
		{"only to be verified", object(`,"actions":{"verify":{"href":"v"}}`), nil, 0},
		{"both", object(`,"actions":{"upload":{"href":"u","header":{"X":"y"}},"verify":{"href":"v"}}`), nil, 1},
		{"three parts", multi("a", "2", "1", "2", "3"), nil, 3},
		{"a number for a size", strings.Replace(multi("a", "2", "1", "2", "3"), `"chunk_size":"2"`, `"chunk_size":2`, 1), nil, 3},
		{"a part too few", multi("a", "2", "1", "2"), hub.ErrBadAnswer, 0},
		{"a part too many", multi("a", "2", "1", "2", "3", "4"), hub.ErrBadAnswer, 0},
		{"no address", multi("a", "2", "1", "", "3"), hub.ErrBadAnswer, 0},
		{"no size", multi("a", "x", "1", "2", "3"), hub.ErrBadAnswer, 0},
		{"a negative size", multi("a", "-2", "1", "2", "3"), hub.ErrBadAnswer, 0},
		{"too many", multi("a", "0", "1"), hub.ErrBadAnswer, 0},
		{"another object", `{"objects":[{"oid":"x","size":5}]}`, hub.ErrBadAnswer, 0},
		{"another size", strings.Replace(object(``), ":5", ":6", 1), hub.ErrBadAnswer, 0},
		{"another transfer", strings.Replace(object(`,"actions":{"upload":{"href":"u"}}`), "basic", "xet", 1), hub.ErrBadAnswer, 0},
		{"nowhere", object(`,"actions":{"upload":{}}`), hub.ErrBadAnswer, 0},
		{"refused", object(`,"error":{"code":422,"message":"too large"}`), hub.ErrRefused, 0},
		{"forbidden", object(`,"error":{"code":403,"message":"no"}`), hub.ErrForbidden, 0},
		{"busy", object(`,"error":{"code":503,"message":"later"}`), hub.ErrUnavailable, 0},
	} {
		s := &script{batches: []string{tt.batch}}
		if err := run(t, s, hub.Object{}); !errors.Is(err, tt.want) || (tt.want == nil) != (err == nil) {
			t.Errorf("%s: %v", tt.name, err)
		}
		if len(s.puts) != tt.puts {
			t.Errorf("%s: puts %q", tt.name, s.puts)
		}
	}
}

// A new plan for the same upload keeps what is stored; one for another does not.
func TestNewPlan(t *testing.T) {
	for _, tt := range []struct {
		second string
		puts   int // of the parts 1 and 3 of the first plan, and then
	}{
		{multi("a", "2", "n1", "n2", "n3"), 1},
		{multi("b", "2", "n1", "n2", "n3"), 3},
		{multi("a", "3", "n1", "n2"), 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &script{batches: []string{multi("a", "2", "1", "2", "3"), tt.second}}
			var ready sync.WaitGroup
			ready.Add(2)
			s.put = func(href string, _ int64) (string, error) {
				if href == "2" {
					ready.Wait()
					time.Sleep(time.Second)
					return "", status(403)
				}
				if len(href) == 1 {
					defer ready.Done()
				}
				return `"` + href + `"`, nil
			}
			shown := int64(0)
			var mu sync.Mutex
			must(t, run(t, s, hub.Object{Progress: func(n int64) {
				mu.Lock()
				defer mu.Unlock()
				shown += n
			}}))
			if len(s.puts) != 3+tt.puts || shown != 5 {
				t.Errorf("puts %q, progress %d", s.puts, shown)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestState(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	p := &plan{Version: planVersion, OID: oid, Href: "https://h/c?Expires=1800003600", Chunk: 2,
		Parts: []part{{"https://s/1?X-Amz-Date=20270115T080000Z&X-Amz-Expires=1800", `"e"`}, {"2", ""}, {"3", ""}}}
	p.date(now)
	if p.Until != now.Unix()+1800 {
		t.Errorf("expires %d s from now", p.Until-now.Unix())
	}
	b := p.encode()
	if q := resume(b, oid, 5, now); q == nil || q.stored(5) != 2 || q.Parts[2] != p.Parts[2] {
		t.Errorf("%+v", q)
	}
	for name, q := range map[string]*plan{
		"another object": resume(b, strings.Repeat("0", 64), 5, now), "another size": resume(b, oid, 7, now),
		"expired": resume(b, oid, 5, now.Add(time.Hour)), "cut": resume(b[:len(b)/2], oid, 5, now),
	} {
		if q != nil {
			t.Errorf("%s: %+v", name, q)
		}
	}
	undated := &plan{Href: "x", Chunk: 2}
	undated.date(now)
	if undated.Until != now.Add(defaultLife).Unix() {
		t.Error("no date of its own")
	}
	if (&plan{Href: "x"}).encode() != nil {
		t.Error("a single PUT cannot be resumed")
	}
}

// FuzzResume reads states that anybody may have written.
func FuzzResume(f *testing.F) {
	p := &plan{Version: planVersion, OID: oid, Href: "c", Chunk: 2, Parts: []part{{"1", "e"}, {"2", ""}, {"3", ""}}, Until: 1 << 40}
	f.Add(p.encode(), int64(5))
	f.Fuzz(func(t *testing.T, state []byte, size int64) {
		if size <= 0 {
			return
		}
		if q := resume(state, oid, size, time.Unix(0, 0)); q != nil {
			if n := q.stored(size); n < 0 || n > size {
				t.Errorf("%d of %d bytes stored", n, size)
			}
		}
	})
}
