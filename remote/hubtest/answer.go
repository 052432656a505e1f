package hubtest

import (
	"bytes"
	"cmp"

	"io"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"
)

// statusWriter is a ResponseWriter that remembers its status; 0 is none yet.
type statusWriter interface {
	http.ResponseWriter
	code() int
}

// answer is what handlers write to: it counts, keeps the bandwidth and
// carries out the faults of a request. One goroutine uses it.
type answer struct {
	http.ResponseWriter
	f *front
	r *http.Request

	pacer *pacer // with rate
	rate  int64  // bytes per second; 0 is unshaped

	arrived []*rule // of max-connections, that count this request
	pending []*rule // faults of the body, not yet decided
	cut     int64   // bytes of the body after which cutBy happens; -1 is none
	cutBy   string  // "truncate" or "stall"

	status int
	sent   int64 // bytes of the body
}

func (w *answer) code() int { return w.status }

// aborter is a ResponseWriter without a connection to break.
type aborter interface{ abort(error) }

// meet applies the rules that hit a request before its handler runs and
// reports whether it has been answered. h runs the handler.
func (w *answer) meet(rules []*rule, route, address string, cdn bool, h func(statusWriter, *http.Request)) bool {
	fs := &w.f.faults
	for _, rl := range rules {
		switch name := rl.Fault.Fault; name {
		case "max-connections":
			w.arrived = append(w.arrived, rl)
			if fs.arrive(rl, address) {
				if cdn {
					xmlError(w, http.StatusTooManyRequests, "SlowDown", "Please reduce your request rate.")
				} else {
					refuse(w, http.StatusTooManyRequests, "", "Too many connections from this address")
				}
				return true
			}
		case "delay":
			if fs.fire(rl) && sleep(w.r.Context(), time.Duration(rl.MS)*time.Millisecond) != nil {
				panic(http.ErrAbortHandler)
			}
		case "status":
			if fs.fire(rl) {
				w.fail(rl)
				return true
			}
		case "reset":
			if fs.fire(rl) {
				w.reset()
			}
		case "lfs-403":
			if route == "lfs-put" && fs.fire(rl) {
				xmlError(w, http.StatusForbidden, "AccessDenied", "Access Denied")
				return true
			}
		case "conflict", "precondition", "apply-then-500", "apply-late":
			if route == "commit" && fs.fire(rl) {
				w.spoilCommit(rl, h)
				return true
			}
		default:
			w.pending = append(w.pending, rl)
		}
	}
	return false
}

func (w *answer) fail(rl *rule) {
	status := cmp.Or(rl.Status, http.StatusServiceUnavailable)
	for k, v := range rl.Headers {
		w.Header().Set(k, v)
	}
	if rl.Body == "" && status >= 400 {
		refuse(w, status, w.Header().Get("X-Error-Code"), http.StatusText(status))
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(rl.Body)))
	w.WriteHeader(status)
	io.WriteString(w, rl.Body)
}

const internalError = "Internal Error - We're working hard to fix this as soon as possible!"

// spoilCommit answers a commit wrongly; hub-protocol §6.5 has what real ones do.
func (w *answer) spoilCommit(rl *rule, h func(statusWriter, *http.Request)) {
	switch rl.Fault.Fault {
	case "conflict":
		refuse(w, http.StatusConflict, "", "Cannot commit: another conflicting operation is in progress")
	case "precondition":
		refuse(w, http.StatusPreconditionFailed, "", "A commit has happened since. Please refresh and try again.")
	case "apply-then-500":
		h(newDiscard(), w.r)
		refuse(w, http.StatusInternalServerError, "", internalError)
	case "apply-late":
		body, err := io.ReadAll(w.r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		late := w.r.Clone(w.f.tasks.ctx)
		late.Body = io.NopCloser(bytes.NewReader(body))
		late.ContentLength = int64(len(body))
		if w.f.tasks.begin() {
			go func() {
				defer w.f.tasks.end()
				if sleep(late.Context(), time.Duration(rl.MS)*time.Millisecond) == nil {
					h(newDiscard(), late)
				}
			}()
		}
		refuse(w, http.StatusGatewayTimeout, "", http.StatusText(http.StatusGatewayTimeout))
	}
}

// take decides the pending rules of one fault for this answer; the last rule
// that hits is returned.
func (w *answer) take(name string, fits func(*rule) bool) (hit *rule) {
	kept := w.pending[:0:0]
	for _, rl := range w.pending {
		switch {
		case rl.Fault.Fault != name || !fits(rl):
			kept = append(kept, rl)
		case w.f.faults.fire(rl):
			hit = rl
		}
	}
	w.pending = kept
	return hit
}

func (w *answer) WriteHeader(status int) {
	if w.status != 0 {
		return
	}
	w.status = status
	if len(w.pending) > 0 {
		length, err := strconv.ParseInt(w.Header().Get("Content-Length"), 10, 64)
		if err != nil {
			length = -1
		}
		body := w.r.Method != http.MethodHead && status >= 200 && status < 300 && length != 0
		longer := func(rl *rule) bool { return body && (length < 0 || length > rl.After) }
		if rl := w.take("truncate", longer); rl != nil {
			w.cut, w.cutBy = rl.After, "truncate"
		}
		if rl := w.take("stall", func(rl *rule) bool { return !body || longer(rl) }); rl != nil {
			if !body {
				w.stall()
			}
			w.cut, w.cutBy = rl.After, "stall"
		}
	}
	w.ResponseWriter.WriteHeader(status)
	if w.cut == 0 {
		w.end()
	}
}

func (w *answer) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if w.cut >= 0 && w.sent+int64(len(p)) >= w.cut {
		n, err := w.write(p[:w.cut-w.sent])
		if err != nil {
			return n, err
		}
		w.end()
	}
	return w.write(p)
}

func (w *answer) write(p []byte) (n int, err error) {
	for first := true; first || len(p) > 0; first = false {
		part := p
		if w.rate > 0 {
			part = part[:min(len(part), burst(w.rate))]
		}
		m, err := w.ResponseWriter.Write(part)
		n += m
		w.count(int64(m))
		if err != nil {
			return n, err
		}
		p = p[m:]
		if w.rate > 0 {
			if err := w.pacer.pace(w.r.Context(), m, w.rate); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

func (w *answer) count(n int64) {
	w.sent += n
	w.f.stats.bytesSent.Add(n)
}

// Unwrap is for http.ResponseController.
func (w *answer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// end is what happens after the last byte of a spoilt body.
func (w *answer) end() {
	http.NewResponseController(w.ResponseWriter).Flush()
	if w.cutBy == "stall" {
		w.stall()
	}
	panic(http.ErrAbortHandler)
}

// stall waits until the client has given up.
func (w *answer) stall() {
	// The server sees the connection end only once the request is read.
	io.Copy(io.Discard, w.r.Body)
	<-w.r.Context().Done()
	panic(http.ErrAbortHandler)
}

// reset ends the connection without a word.
func (w *answer) reset() {
	err := &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
	if a, ok := w.ResponseWriter.(aborter); ok {
		a.abort(err)
	} else if conn, _, err := http.NewResponseController(w.ResponseWriter).Hijack(); err == nil {
		if tcp, ok := conn.(*net.TCPConn); ok {
			tcp.SetLinger(0)
		}
		conn.Close()
	}
	panic(http.ErrAbortHandler)
}

// discard is the answer nobody gets.
type discard struct {
	header http.Header
	status int
}

func newDiscard() *discard { return &discard{header: http.Header{}} }

func (d *discard) Header() http.Header { return d.header }
func (d *discard) code() int           { return d.status }

func (d *discard) WriteHeader(status int) {
	if d.status == 0 {
		d.status = status
	}
}

func (d *discard) Write(p []byte) (int, error) {
	d.WriteHeader(http.StatusOK)
	return len(p), nil
}
