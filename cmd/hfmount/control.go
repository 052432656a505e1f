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
	writing
}

// writing is the half of a mount that changes the Hub. Paths are relative to
// the mountpoint, "" is all of it; where a mount has no branch to write to,
// its methods do nothing.
type writing interface {
	commit(ctx context.Context, r commitRequest) (outcome, error)
	// hold starts a transaction; the caller ends it.
	hold() (transaction, error)
	changes(path string) []changeStatus
	discard(ctx context.Context, paths []string) error
	revert(ctx context.Context, r revertRequest) (outcome, error)
	log(ctx context.Context, r logRequest) ([]commitStatus, error)
	progress() progress
	// settle waits a moment for the kernel to say that closed files are closed,
	// and returns those that are open for writing.
	settle(ctx context.Context) []holderStatus
	// drained returns when the mount is gone and what may be committed is on
	// the Hub.
	drained(ctx context.Context) (outcome, error)
	// yield gives up draining; what is left stays in the journal.
	yield()
}

// commitRequest asks for an explicit commit of what is at and beneath Path.
type commitRequest struct {
	Path        string `json:"path"`
	Message     string `json:"message"`
	Description string `json:"description"`
	Yes         bool   `json:"yes"`
}

// revertRequest asks for old content of paths; To is a commit or the first
// digits of one, "" the parent of the last.
type revertRequest struct {
	Paths []string `json:"paths"`
	To    string   `json:"to"`
}

// logRequest asks for the last commits of the branch that Path is in.
type logRequest struct {
	Path  string `json:"path"`
	Limit int    `json:"limit"`
}

// transaction is what `hfmount run` holds.
type transaction interface {
	// end lets go: with ok, the changes are committed by the caller, else they
	// are held until somebody commits or discards them.
	end(ok bool) error
}

// ending is how the holder of a transaction ends it, over the connection that
// is the transaction.
type ending struct {
	OK      bool   `json:"ok"`
	Message string `json:"message"`
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
	c := &control{path: path, server: &http.Server{
		Handler:           routes(m, log),
		ReadHeaderTimeout: 5 * time.Second,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}}
	// Close removes the socket, under the name it has by then.
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	c.served.Go(func() {
		if err := c.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the control socket stopped answering", "err", err)
		}
	})
	return c, nil
}

// move gives the socket another name, so that the next mount of the directory
// can have its own while this process still drains.
func (c *control) move(path string) error {
	if err := os.Rename(c.path, path); err != nil {
		return err
	}
	c.path = path
	return nil
}

// answerPatience is how long answers that are under way may take at the end.
const answerPatience = 2 * time.Second

// Close stops answering and removes the socket. Answers under way get a moment:
// those who follow the end of the mount wait for its outcome.
func (c *control) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), answerPatience)
	defer cancel()
	err := c.server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = c.server.Close()
	}
	c.served.Wait()
	if rmErr := os.Remove(c.path); !errors.Is(rmErr, os.ErrNotExist) {
		err = errors.Join(err, rmErr)
	}
	return err
}

func routes(m controlled, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) {
		answer(w, m.status())
	})
	mux.HandleFunc("POST /refresh", func(w http.ResponseWriter, r *http.Request) {
		if err := m.refresh(r.Context()); err != nil {
			refuse(w, err)
			return
		}
		answer(w, m.status())
	})
	mux.HandleFunc("POST /commit", func(w http.ResponseWriter, r *http.Request) {
		if req, ok := read[commitRequest](w, r); ok {
			stream(w, r, m.progress, func(ctx context.Context) (outcome, error) { return m.commit(ctx, req) })
		}
	})
	mux.HandleFunc("POST /revert", func(w http.ResponseWriter, r *http.Request) {
		if req, ok := read[revertRequest](w, r); ok {
			stream(w, r, m.progress, func(ctx context.Context) (outcome, error) { return m.revert(ctx, req) })
		}
	})
	mux.HandleFunc("POST /log", func(w http.ResponseWriter, r *http.Request) {
		req, ok := read[logRequest](w, r)
		if !ok {
			return
		}
		commits, err := m.log(r.Context(), req)
		if err != nil {
			refuse(w, err)
			return
		}
		answer(w, commits)
	})
	mux.HandleFunc("POST /changes", func(w http.ResponseWriter, r *http.Request) {
		if path, ok := read[string](w, r); ok {
			answer(w, m.changes(path))
		}
	})
	mux.HandleFunc("POST /discard", func(w http.ResponseWriter, r *http.Request) {
		paths, ok := read[[]string](w, r)
		if !ok {
			return
		}
		if err := m.discard(r.Context(), paths); err != nil {
			refuse(w, err)
			return
		}
		answer(w, true)
	})
	mux.HandleFunc("POST /hold", func(w http.ResponseWriter, r *http.Request) { serveHold(w, r, m, log) })
	mux.HandleFunc("POST /settle", func(w http.ResponseWriter, r *http.Request) {
		answer(w, m.settle(r.Context()))
	})
	mux.HandleFunc("POST /drain", func(w http.ResponseWriter, r *http.Request) {
		stream(w, r, m.progress, m.drained)
	})
	mux.HandleFunc("POST /yield", func(w http.ResponseWriter, r *http.Request) {
		m.yield()
		answer(w, true)
	})
	return mux
}

// serveHold is the life of a transaction: it begins with the head of the
// answer and ends with the one object in the body of the request. A connection
// that is lost before that is a failed transaction.
func serveHold(w http.ResponseWriter, r *http.Request, m controlled, log *slog.Logger) {
	ctl := http.NewResponseController(w)
	if err := ctl.EnableFullDuplex(); err != nil {
		refuse(w, err)
		return
	}
	t, err := m.hold()
	if err != nil {
		refuse(w, err)
		return
	}
	p := m.progress()
	_ = json.NewEncoder(w).Encode(streamLine{Progress: &p}) // a peer that is gone also sends no end
	_ = ctl.Flush()
	var e ending
	if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
		log.Warn("the process that held changes back is gone; they stay held", "err", err)
		e.OK = false
	}
	if !e.OK {
		m.settle(context.WithoutCancel(r.Context())) // the command has ended, and with it what it had open
	}
	err = t.end(e.OK)
	if err == nil && !e.OK {
		_ = json.NewEncoder(w).Encode(streamLine{Outcome: &outcome{Left: m.changes("")}})
		return
	}
	stream(w, r, m.progress, func(ctx context.Context) (outcome, error) {
		if err != nil {
			return outcome{}, err
		}
		return m.commit(ctx, commitRequest{Message: e.Message})
	})
}

// maxBody bounds the body of a request, in bytes.
const maxBody = 64 << 20

// read decodes the body of a request; where it cannot, it has answered.
func read[T any](w http.ResponseWriter, r *http.Request) (T, bool) {
	var v T
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&v); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		answer(w, wireFailure{Text: "not understood: " + err.Error(), Code: exitFailed})
		return v, false
	}
	return v, true
}

func refuse(w http.ResponseWriter, err error) {
	f := explain(err)
	w.WriteHeader(http.StatusBadGateway)
	answer(w, wireFailure{f.text, f.hint, f.code})
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
