package hubtest

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Server is a Hub on two sockets.
type Server struct {
	URL    string // of the Hub: http://127.0.0.1:PORT
	CDNURL string

	servers []*http.Server
	serving sync.WaitGroup // the goroutines in http.Server.Serve
	tasks   *tasks
}

// Listen serves the Hub and its CDN; "127.0.0.1:0" picks a port. The caller
// closes the server before the Hub.
func (h *Hub) Listen(addr, cdnAddr string) (*Server, error) {
	lh, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	lc, err := net.Listen("tcp", cdnAddr)
	if err != nil {
		lh.Close()
		return nil, err
	}
	s := &Server{URL: origin(lh), CDNURL: origin(lc), tasks: newTasks()}
	e := endpoint{front: h.front, hub: s.URL, cdn: s.CDNURL, anyCDN: unspecified(lc)}
	s.serve(lh, h, e)
	e.isCDN = true
	s.serve(lc, h, e)
	return s, nil
}

// origin is how clients reach a listener; one that listens on all addresses
// is given as loopback.
func origin(l net.Listener) string {
	a := *l.Addr().(*net.TCPAddr)
	if a.IP.IsUnspecified() {
		a.IP = net.IPv4(127, 0, 0, 1)
	}
	return "http://" + a.String()
}

func unspecified(l net.Listener) bool { return l.Addr().(*net.TCPAddr).IP.IsUnspecified() }

func (s *Server) serve(l net.Listener, h *Hub, e endpoint) {
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !s.tasks.begin() {
				panic(http.ErrAbortHandler)
			}
			defer s.tasks.end()
			e.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: 30 * time.Second,
		IdleTimeout:       5 * time.Minute,
		ErrorLog:          slog.NewLogLogger(h.opts.Logger.Handler(), slog.LevelDebug),
		// A handler that waits with an unread request body does not notice the
		// connection going away; the base context ends it at Close.
		BaseContext: func(net.Listener) context.Context { return s.tasks.ctx },
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			return context.WithValue(ctx, pacerKey{}, new(pacer))
		},
	}
	s.servers = append(s.servers, srv)
	s.serving.Go(func() {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			h.opts.Logger.Error("serving stopped", "addr", l.Addr(), "err", err)
		}
	})
}

// Close ends the server and its connections and waits for the handlers.
func (s *Server) Close() error {
	var errs []error
	for _, srv := range s.servers {
		errs = append(errs, srv.Close())
	}
	s.tasks.close()
	s.serving.Wait()
	return errors.Join(errs...)
}
