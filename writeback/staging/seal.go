package staging

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"time"
)

// Sealed is the identity of a file's bytes.
type Sealed struct {
	Size    int64  `json:"size"`
	GitBlob string `json:"git"`    // 40 hexadecimal digits
	SHA256  string `json:"sha256"` // 64
	Head    []byte `json:"head"`   // the first 512 bytes
	Print   Print  `json:"print"`
}

// sealStep is how much is hashed between two looks at the context.
const sealStep = 256 << 10

// tick is longer than a file system's clock stands still.
const tick = 20 * time.Millisecond

// Seal fills the file, makes sure that nobody can write to it any more, and
// reads it once. It fails with ErrWriters, or ErrChanged, or what Fill failed
// with. The File's own writable descriptor is closed for it: WriteAt opens it
// again, so that the caller keeps writers away from a seal that is to last.
func (f *File) Seal(ctx context.Context) (Sealed, error) {
	if err := f.Fill(ctx); err != nil {
		return Sealed{}, err
	}
	// A descriptor of its own: Idle may come and go meanwhile.
	r, err := f.sealable()
	if err != nil {
		return Sealed{}, err
	}
	defer r.Close()
	sure, err := noWriters(r)
	if err != nil {
		return Sealed{}, err
	}
	before, err := statPrint(r)
	if err != nil {
		return Sealed{}, err
	}
	if !sure {
		// A write could hide in the tick of the file's clock that it has now.
		if since := time.Since(time.Unix(0, before.Mtime)); since >= 0 && since < tick {
			select {
			case <-time.After(tick - since):
			case <-ctx.Done():
				return Sealed{}, ctx.Err()
			}
		}
	}
	s, err := hashFile(ctx, r, before.Size)
	if err != nil {
		return Sealed{}, err
	}
	if s.Print, err = statPrint(r); err != nil {
		return Sealed{}, err
	}
	if s.Print != before || s.Size != before.Size {
		return Sealed{}, ErrChanged
	}
	if !sure {
		// Whoever mapped it while it was read.
		if _, err := noWriters(r); err != nil {
			return Sealed{}, err
		}
	}
	return s, nil
}

// sealable closes the writable descriptor and opens one for reading.
func (f *File) sealable() (*os.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, os.ErrClosed
	}
	if f.base != nil {
		return nil, ErrChanged
	}
	r, err := os.Open(f.Path())
	if err != nil {
		return nil, err
	}
	if f.r == nil {
		f.countLocked()
		f.d.unuse(f)
	}
	if err := closeFile(&f.w); err != nil {
		_ = r.Close()
		return nil, err
	}
	return r, nil
}

func statPrint(f *os.File) (Print, error) {
	st, err := f.Stat()
	if err != nil {
		return Print{}, err
	}
	return printOf(st), nil
}

// hashFile reads size bytes, and one more to see that there is none.
func hashFile(ctx context.Context, r io.Reader, size int64) (Sealed, error) {
	git, sum := sha1.New(), sha256.New()
	fmt.Fprintf(git, "blob %d\x00", size)
	s := Sealed{}
	buf := make([]byte, min(sealStep, size+1))
	for {
		if err := ctx.Err(); err != nil {
			return Sealed{}, err
		}
		n, err := r.Read(buf)
		p := buf[:n]
		if have := len(s.Head); have < 512 {
			s.Head = append(s.Head, p[:min(n, 512-have)]...)
		}
		_, _ = git.Write(p)
		_, _ = sum.Write(p)
		s.Size += int64(n)
		if err == io.EOF {
			break
		} else if err != nil {
			return Sealed{}, err
		}
	}
	s.GitBlob = hex.EncodeToString(git.Sum(nil))
	s.SHA256 = hex.EncodeToString(sum.Sum(nil))
	return s, nil
}
