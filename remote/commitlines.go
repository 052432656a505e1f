package remote

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"

	"hfmount/remote/hub"
)

// commitLines is the body of a commit as NDJSON (hub-protocol §6.4). It is
// made line by line while it is sent, and its length is known before.
type commitLines struct {
	m    hub.Commit
	size int64
}

func newCommitLines(m hub.Commit) (*commitLines, error) {
	l := &commitLines{m: m}
	head, err := l.header()
	if err != nil {
		return nil, err
	}
	l.size = int64(len(head))
	for _, op := range m.Ops {
		before, after, err := opLine(op)
		if err != nil {
			return nil, err
		}
		l.size += int64(len(before) + len(after))
		if op.Kind == hub.OpFile {
			l.size += (op.Size + 2) / 3 * 4
		}
	}
	return l, nil
}

func (l *commitLines) header() ([]byte, error) {
	return line("header", map[string]string{
		"summary": l.m.Summary, "description": l.m.Description, "parentCommit": string(l.m.Parent),
	})
}

func line(key string, value any) ([]byte, error) {
	b, err := json.Marshal(map[string]any{"key": key, "value": value})
	return append(b, '\n'), err
}

// opLine is what stands before and after the content of an operation.
func opLine(op hub.Op) (before, after []byte, err error) {
	switch op.Kind {
	case hub.OpLFS:
		before, err = line("lfsFile", map[string]any{"path": op.Path, "algo": "sha256", "oid": op.SHA256, "size": op.Size})
	case hub.OpDelete:
		before, err = line("deletedFile", map[string]string{"path": op.Path})
	case hub.OpDeleteFolder:
		before, err = line("deletedFolder", map[string]string{"path": op.Path + "/"})
	default:
		var path []byte
		if path, err = json.Marshal(op.Path); err == nil {
			before = fmt.Appendf(nil, `{"key":"file","value":{"path":%s,"encoding":"base64","content":"`, path)
			after = []byte("\"}}\n")
		}
	}
	return before, after, err
}

// open begins the body anew.
func (l *commitLines) open() (io.ReadCloser, error) {
	head, err := l.header()
	if err != nil {
		return nil, err
	}
	return &lineReader{ops: l.m.Ops, now: head}, nil
}

const encodeStep = 48 << 10 // bytes of content at a time; a multiple of three

// lineReader gives the lines one after the other. At most one file is open.
type lineReader struct {
	ops   []hub.Op
	now   []byte // to be given next
	after []byte // the end of the line whose content is being given

	data io.ReadCloser
	left int64 // bytes of data
	path string
	raw  []byte
	text []byte
}

func (r *lineReader) Read(p []byte) (int, error) {
	for len(r.now) == 0 {
		if err := r.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.now)
	r.now = r.now[n:]
	return n, nil
}

// next puts what follows into now.
func (r *lineReader) next() error {
	if r.data != nil {
		return r.encode()
	}
	if len(r.ops) == 0 {
		return io.EOF
	}
	op := r.ops[0]
	r.ops = r.ops[1:]
	before, after, err := opLine(op)
	if err != nil {
		return err
	}
	r.now = before
	if op.Kind == hub.OpFile {
		if r.data, err = op.Data(); err != nil {
			return fmt.Errorf("%s: %w", op.Path, err)
		}
		r.after, r.left, r.path = after, op.Size, op.Path
	}
	return nil
}

// encode gives the next piece of the content in base64, or the end of the line.
func (r *lineReader) encode() error {
	if r.left == 0 {
		var one [1]byte
		if n, _ := r.data.Read(one[:]); n > 0 {
			return fmt.Errorf("%s: %w", r.path, errWrongLength)
		}
		err := r.data.Close()
		r.data, r.now = nil, r.after
		return err
	}
	if r.raw == nil {
		r.raw = make([]byte, encodeStep)
		r.text = make([]byte, base64.StdEncoding.EncodedLen(encodeStep))
	}
	raw := r.raw[:min(r.left, encodeStep)]
	if _, err := io.ReadFull(r.data, raw); err != nil {
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			err = errWrongLength
		}
		return fmt.Errorf("%s: %w", r.path, err)
	}
	r.left -= int64(len(raw))
	r.now = r.text[:base64.StdEncoding.EncodedLen(len(raw))]
	base64.StdEncoding.Encode(r.now, raw)
	return nil
}

func (r *lineReader) Close() error {
	if r.data == nil {
		return nil
	}
	err := r.data.Close()
	r.data = nil
	return err
}
