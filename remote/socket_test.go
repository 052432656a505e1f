package remote_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"hfmount/remote"
	"hfmount/remote/hub"
	"hfmount/remote/hubtest"
)

// TestPublishOverSockets repeats what matters with a true transport, whose
// buffers and idle connections a Hub without sockets has not.
func TestPublishOverSockets(t *testing.T) {
	h, _ := newHub(t, hubtest.Options{Users: []hubtest.User{{Name: "acme", Token: string(writer)}}, Shapes: parts.Shapes})
	s, err := h.Listen("127.0.0.1:0", "127.0.0.1:0")
	must(t, err)
	defer func() {
		must(t, s.Close())
		must(t, h.Close())
	}()
	c, err := remote.New(remote.Options{Endpoint: s.URL, Tokens: remote.StaticToken(writer), FirstByte: 2 * time.Second})
	must(t, err)
	defer func() { must(t, c.Close()) }()
	ctx := t.Context()

	o := object(noise(40_500))
	must(t, h.SetFaults(hubtest.Fault{Fault: "lfs-403", Nth: 7}, hubtest.Fault{Fault: "reset", Method: "PUT", Nth: 15}))
	must(t, c.Upload(ctx, mainRef, o))
	must(t, h.SetFaults())
	if !stored(t, c, o) {
		t.Error("it is not there")
	}
	for _, tt := range []struct {
		fault   string
		want    error
		applied bool
	}{
		{"conflict", hub.ErrBusy, false}, {"precondition", hub.ErrConflict, false},
		{"apply-then-500", hub.ErrUncertain, true}, {"apply-late", hub.ErrUncertain, true}, {"truncate", hub.ErrUncertain, true}, {"", nil, true},
	} {
		at := head(t, c, mainRef)
		if tt.fault != "" {
			must(t, h.SetFaults(hubtest.Fault{Fault: tt.fault, Path: "*/commit/*", After: 1}))
		}
		_, err := c.Commit(ctx, mainRef, hub.Commit{Parent: at, Summary: tt.fault + "!", Ops: []hub.Op{fileOp("f", strings.Repeat(tt.fault, 100_000))}})
		if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
			t.Errorf("%s: %v", tt.fault, err)
		}
		must(t, h.SetFaults())
		moved := false
		for end := time.Now().Add(5 * time.Second); tt.applied && !moved && time.Now().Before(end); {
			if moved = head(t, c, mainRef) != at; !moved {
				time.Sleep(10 * time.Millisecond)
			}
		}
		if moved != tt.applied || (!moved && head(t, c, mainRef) != at) {
			t.Errorf("%s: applied %v", tt.fault, moved)
		}
	}
	if h.Stats().LeakedTokens != 0 {
		t.Error("a token on the CDN")
	}
	// A Hub that is gone: nothing can have been done.
	must(t, s.Close())
	_, err = c.Commit(ctx, mainRef, hub.Commit{Parent: hub.CommitID(strings.Repeat("1", 40)), Summary: "x", Ops: []hub.Op{fileOp("f", "x")}})
	if !errors.Is(err, hub.ErrUnavailable) || errors.Is(err, hub.ErrUncertain) {
		t.Errorf("nobody there: %v", err)
	}
	if bytes.Contains([]byte(err.Error()), []byte(writer)) {
		t.Error("the token is in the error")
	}
}
