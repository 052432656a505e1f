package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"
)

// control answers other hfmount processes of the same user: HTTP with JSON
// over a Unix socket in the runtime directory, one socket for each mount.
type control struct {
	path   string
	server *http.Server
	served sync.WaitGroup
}

// controlled is what a control socket gives access to.
type controlled interface {
	status() mountStatus
	// refresh looks at the branches now and returns when views have moved.
	refresh(ctx context.Context) error
}

// listenControl starts to answer on path. The caller closes the result.
func listenControl(path string, m controlled, log *slog.Logger) (*control, error) {
	l, err := net.Listen("unix", path)
	if errors.Is(err, syscall.EADDRINUSE) {
		// Left by a process that is gone, or else somebody still answers.
		if c, dialErr := net.DialTimeout("unix", path, time.Second); dialErr == nil {
			_ = c.Close()
			return nil, fmt.Errorf("another process already answers on %s", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
		l, err = net.Listen("unix", path)
	}
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) {
		answer(w, m.status())
	})
	mux.HandleFunc("POST /refresh", func(w http.ResponseWriter, r *http.Request) {
		if err := m.refresh(r.Context()); err != nil {
			f := explain(err)
			w.WriteHeader(http.StatusBadGateway)
			answer(w, wireFailure{f.text, f.hint, f.code})
			return
		}
		answer(w, m.status())
	})
	c := &control{path: path, server: &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}}
	c.served.Go(func() {
		if err := c.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the control socket stopped answering", "err", err)
		}
	})
	return c, nil
}

// Close stops answering and removes the socket.
func (c *control) Close() error {
	err := c.server.Close() // also unlinks the socket
	c.served.Wait()
	return err
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the peer is gone; it has no use for an error
}

// wireFailure is a failure on its way between two hfmount processes.
type wireFailure struct {
	Text string `json:"text"`
	Hint string `json:"hint"`
	Code int    `json:"code"`
}

func (w wireFailure) failure() *failure { return &failure{text: w.Text, hint: w.Hint, code: w.Code} }
