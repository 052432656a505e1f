package journal

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"
)

// Damage is what could not be replayed.
type Damage struct {
	Offset int64  // where the good part ends, in bytes
	Bytes  int64  // how many follow
	Saved  string // the file they were copied to
	Reason string
	// Torn is set when it is what an interrupted append leaves: nothing that
	// was acknowledged is lost.
	Torn bool
}

// String says it for people.
func (d *Damage) String() string {
	return fmt.Sprintf("%d bytes of the journal at %d cannot be read (%s); they are kept in %s", d.Bytes, d.Offset, d.Reason, d.Saved)
}

// replayFile reads size bytes of f and returns where the good part ends, with
// a reason if that is not the end of the file. An empty file is good and ends
// at 0.
func replayFile(f io.ReaderAt, size int64, replay func([][]byte) error) (good int64, reason string, err error) {
	if size == 0 {
		return 0, "", nil
	}
	r := bufio.NewReaderSize(io.NewSectionReader(f, 0, size), 1<<18)
	h := make([]byte, headerSize)
	switch _, err := io.ReadFull(r, h); {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return 0, "the header is cut short", nil
	case err != nil:
		return 0, "", err
	}
	if v, ok := checkHeader(h); !ok {
		return 0, "the header is damaged", nil
	} else if v != version {
		return 0, "", fmt.Errorf("journal: version %d, this program knows %d", v, version)
	}
	good = int64(headerSize)
	var head [frameSize]byte
	for good < size {
		if size-good < frameSize {
			return good, "a record is cut short", nil
		}
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return good, "", err
		}
		n := int64(binary.LittleEndian.Uint32(head[:]))
		switch {
		case n > maxBody:
			return good, "a record has an impossible length", nil
		case n > size-good-frameSize:
			return good, "a record is cut short", nil
		}
		body := make([]byte, n)
		if _, err := io.ReadFull(r, body); err != nil {
			return good, "", err
		}
		if checksum(head[:4], body) != binary.LittleEndian.Uint32(head[4:]) {
			return good, "a checksum is wrong", nil
		}
		payloads, ok := parseBody(body)
		if !ok {
			return good, "a record cannot be parsed", nil
		}
		if err := replay(payloads); err != nil {
			return good, "", err
		}
		good += frameSize + n
	}
	return good, "", nil
}

// torn says whether tail, which begins at offset off of the file and with a
// bad record, may be one append that did not end: the bytes of one record that
// stop too early, or, where the file grew before its blocks were written,
// zeros from some sector on. A tail in which another record can be found is
// not.
func torn(tail []byte, off int64) bool {
	if len(bytes.TrimRight(tail, "\x00")) == 0 {
		return true
	}
	if off == 0 {
		return bytes.HasPrefix(header(), tail)
	}
	if len(tail) < frameSize {
		return true
	}
	n := int64(binary.LittleEndian.Uint32(tail))
	rest := int64(len(tail) - frameSize)
	if n < rest || n > maxBody || anyFrame(tail) {
		return false
	}
	if n > rest {
		// A flipped bit in the length looks the same, but then the checksum
		// fits another length.
		var length [4]byte
		binary.LittleEndian.PutUint32(length[:], uint32(rest))
		return checksum(length[:], tail[frameSize:]) != binary.LittleEndian.Uint32(tail[4:])
	}
	zeros := off + int64(len(bytes.TrimRight(tail, "\x00")))
	const sector = 512
	return (zeros+sector-1)/sector*sector < off+int64(len(tail))
}

// anyFrame reports whether a whole record begins anywhere behind the start.
func anyFrame(tail []byte) bool {
	for i := 1; i+frameSize < len(tail); i++ {
		n := int64(binary.LittleEndian.Uint32(tail[i:]))
		if n == 0 || n > int64(len(tail)-i-frameSize) {
			continue
		}
		body := tail[i+frameSize:][:n]
		if checksum(tail[i:i+4], body) != binary.LittleEndian.Uint32(tail[i+4:]) {
			continue
		}
		if _, ok := parseBody(body); ok {
			return true
		}
	}
	return false
}

// setAside copies what follows good to a file beside the log, durably, and
// only then cuts it off.
func setAside(fs FS, path string, f File, good, size int64, reason string) (*Damage, error) {
	d := &Damage{Offset: good, Bytes: size - good, Reason: reason}
	tail := make([]byte, d.Bytes)
	if _, err := io.ReadFull(io.NewSectionReader(f, good, d.Bytes), tail); err != nil {
		return nil, err
	}
	d.Torn = torn(tail, good)
	stamp := path + ".damaged-" + time.Now().UTC().Format("20060102T150405.000000000")
	for i := 0; ; i++ {
		d.Saved = stamp
		if i > 0 {
			d.Saved = fmt.Sprintf("%s-%d", stamp, i)
		}
		s, n, err := fs.Open(d.Saved)
		if err != nil {
			return nil, err
		}
		if n > 0 { // an earlier one
			if err := s.Close(); err != nil {
				return nil, err
			}
			continue
		}
		_, err = s.WriteAt(tail, 0)
		if err == nil {
			err = s.Sync()
		}
		if cerr := s.Close(); err == nil {
			err = cerr
		}
		if err == nil {
			err = fs.SyncDir(filepath.Dir(path))
		}
		if err != nil {
			return nil, err
		}
		break
	}
	if err := f.Truncate(good); err != nil {
		return nil, err
	}
	return d, f.Sync()
}
