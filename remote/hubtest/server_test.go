package hubtest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestServer(t *testing.T) {
	b := filled(t, func(o *Options) { o.Admin = true })
	s, err := b.Listen("127.0.0.1:0", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	resp, err := client.Get(s.URL + "/ada/tiny/resolve/main/w.bin")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || string(body) != string(weights) || !strings.HasPrefix(resp.Request.URL.String(), s.CDNURL+"/") {
		t.Errorf("%d bytes from %s, %v", len(body), resp.Request.URL, err)
	}
	client.CloseIdleConnections()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := client.Get(s.URL); err == nil {
		t.Error("the server answers after Close")
	}
}

// TestCloseEndsStalls closes a server with a handler that waits for its client.
func TestCloseEndsStalls(t *testing.T) {
	b := filled(t)
	s, err := b.Listen("127.0.0.1:0", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.faults(Fault{Fault: "stall"})
	client := &http.Client{Transport: &http.Transport{}}
	done := make(chan error, 1)
	go func() {
		resp, err := client.Post(s.URL+infoPath+"/paths-info/main", "application/json", strings.NewReader(`{"paths":"none"}`))
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			resp.Body.Close()
		}
		done <- err
	}()
	for deadline := time.Now().Add(10 * time.Second); b.Faults()[0].Fired == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the stall does not happen")
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	select {
	case err := <-done:
		if err == nil {
			t.Error("the client has a whole answer")
		}
	case <-time.After(10 * time.Second):
		t.Error("the client still waits")
	}
	client.CloseIdleConnections()
}

func TestAdmin(t *testing.T) {
	b := filled(t, func(o *Options) { o.Admin = true })
	b.ResetStats()
	b.get(infoPath)
	stats := decode[Stats](t, b.get("/_hub/stats"))
	if stats.Total != 1 || stats.Requests["info"] != 1 || stats.Quota["api"] != 1 || stats.BytesSent == 0 {
		t.Errorf("stats %+v", stats)
	}
	rules := `[{"method":"GET","path":"*/ada/*","host":"hub","nth":2,"times":1,"fault":"status","status":500}]`
	if got := b.do("POST", "/_hub/faults", "body", rules); got.status != 200 {
		t.Fatalf("faults: %d %s", got.status, got.body)
	}
	b.get(infoPath)
	if got := b.get(infoPath); got.status != 500 {
		t.Errorf("the fault: %d", got.status)
	}
	if set := decode[[]Fault](t, b.get("/_hub/faults")); len(set) != 1 || set[0].Fired != 1 {
		t.Errorf("faults: %+v", set)
	}
	for _, bad := range []string{`[{"fault":"nonsense"}]`, `[{"fault":"reset","typo":1}]`, `{`} {
		if got := b.do("POST", "/_hub/faults", "body", bad); got.status != 400 {
			t.Errorf("%s: %d", bad, got.status)
		}
	}
	if b.do("DELETE", "/_hub/faults").status != 204 || len(b.Faults()) != 0 {
		t.Error("faults are not deleted")
	}
	u := b.cdnURL()
	if b.do("POST", "/_hub/expire").status != 204 || b.get(u).status != 403 {
		t.Error("URLs do not expire")
	}
	if b.do("DELETE", "/_hub/stats").status != 204 || b.Stats().Total != 0 {
		t.Error("stats are not reset")
	}
	if b.do("POST", "/_hub/shape", "body", `{"latency_ms":0,"bytes_per_second":1000000}`).status != 204 || b.front.bandwidth.Load() != 1e6 {
		t.Error("shape is not set")
	}
	if newBench(t).get("/_hub/stats").status != 404 {
		t.Error("/_hub/ answers without Admin")
	}
}

// TestVirtualTime: latency and bandwidth take exactly their time in a bubble.
func TestVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := filled(t, func(o *Options) { o.Latency, o.Bandwidth = 30*time.Millisecond, 1000 })
		u := b.cdnURL()
		start := time.Now()
		if got := b.get(u); got.body != string(weights) {
			t.Errorf("%d bytes", len(got.body))
		}
		if took := time.Since(start); took != 1030*time.Millisecond {
			t.Errorf("1000 bytes at 1000 B/s after 30 ms took %v", took)
		}
		b.Shape(0, 0)
		start = time.Now()
		b.get(u)
		if took := time.Since(start); took != 0 {
			t.Errorf("unshaped took %v", took)
		}
	})
}

func TestSocketlessContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := filled(t, func(o *Options) { o.Latency = time.Hour })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r, _ := http.NewRequestWithContext(ctx, "GET", site+infoPath, nil)
		if _, err := b.RoundTripper().RoundTrip(r); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		if _, err := b.send("GET", "http://elsewhere.test/"); err == nil {
			t.Error("another host answers")
		}
	})
}

func TestSocketlessClosedEarly(t *testing.T) {
	b := filled(t)
	resp, err := b.send("GET", b.cdnURL())
	if err != nil {
		t.Fatal(err)
	}
	io.ReadFull(resp.Body, make([]byte, 3))
	if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
}

func TestStatsJSON(t *testing.T) {
	b := newBench(t)
	js, err := json.Marshal(b.Stats())
	if want := `{"requests":{},"quota":{},"total":0,"bytes_sent":0,"commits":0,"bytes_received":0,"leaked_tokens":0}`; err != nil || string(js) != want {
		t.Errorf("%s %v, want %s", js, err, want)
	}
}
