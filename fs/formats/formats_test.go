package formats

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

func safetensorsHead(n int64, header string) []byte {
	return append(binary.LittleEndian.AppendUint64(nil, uint64(n)), header...)
}

func TestSafetensors(t *testing.T) {
	header := `{"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[2],"data_offsets":[8,16]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"e":{"dtype":"F32","shape":[0],"data_offsets":[8,8]}}`
	n := int64(len(header))
	head := safetensorsHead(n, header)
	size := 8 + n + 16
	for _, x := range []struct {
		name string
		head []byte
		size int64
		more int64
		want []int64
	}{
		{"nothing yet", nil, size, 16, nil},
		{"length alone", head[:16], size, 8 + n, nil},
		{"whole", head, size, 0, []int64{8 + n, 8 + n + 8}},
		{"longer than asked for", append(slices.Clone(head), 1, 2, 3), size, 0, []int64{8 + n, 8 + n + 8}},
		{"data cut off", head, size - 1, 0, nil},
		{"header of the whole file", head, 8 + n, 0, nil},
		{"no header", []byte(strings.Repeat("x", 64)), size, 0, nil},
		{"length beyond the format", safetensorsHead(maxSafetensors+1, header), 1 << 40, 0, nil},
		{"length that wraps", safetensorsHead(-8, header), 1 << 40, 0, nil},
		{"too long to look at", safetensorsHead(MaxHead, `{"a":{"dtype":"F32"`), 1 << 40, 0, []int64{MaxHead + 8}},
		{"no JSON", safetensorsHead(n, "{"+strings.Repeat("\x00", int(n)-1)), size, 0, nil},
		{"empty", safetensorsHead(8, "{}      "), 64, 0, nil},
		{"offsets the wrong way round", safetensorsHead(32, `{"a":{"data_offsets":[9,8]}}    `), 64, 0, nil},
		{"negative offset", safetensorsHead(32, `{"a":{"data_offsets":[-1,8]}}   `), 64, 0, nil},
		{"one offset", safetensorsHead(32, `{"a":{"data_offsets":[8]}}      `), 64, 0, nil},
		{"tiny file", []byte("12345678"), 8, 0, nil},
	} {
		more, parts := All{}.Head(x.head, x.size)
		if more != x.more || !slices.Equal(parts, x.want) {
			t.Errorf("%s: %d %v, want %d %v", x.name, more, parts, x.more, x.want)
		}
	}
}

type ggufWriter struct{ bytes.Buffer }

func (w *ggufWriter) put(v ...any) *ggufWriter {
	for _, x := range v {
		if s, ok := x.(string); ok {
			binary.Write(w, binary.LittleEndian, uint64(len(s)))
			w.WriteString(s)
			continue
		}
		binary.Write(w, binary.LittleEndian, x)
	}
	return w
}

func ggufHead(version uint32, align uint32) *ggufWriter {
	w := &ggufWriter{}
	w.WriteString(ggufMagic)
	w.put(version, uint64(2), uint64(4))
	w.put("general.alignment", uint32(4), align)
	w.put("tokens", uint32(9), uint32(8), uint64(2), "a", "bc")
	w.put("nested", uint32(9), uint32(9), uint64(1), uint32(5), uint64(3), int32(1), int32(2), int32(3))
	w.put("flag", uint32(7), uint8(1))
	w.put("t1", uint32(2), uint64(4), uint64(4), uint32(0), uint64(64))
	w.put("t0", uint32(1), uint64(16), uint32(0), uint64(0))
	return w
}

func TestGGUF(t *testing.T) {
	w := ggufHead(3, 64)
	head := w.Bytes()
	base := int64(len(head)+63) / 64 * 64
	size := base + 128
	more, parts := All{}.Head(head, size)
	if more != 0 || !slices.Equal(parts, []int64{base, base + 64}) {
		t.Errorf("%d %v, want parts at %d", more, parts, base)
	}
	// Any shorter piece either wants more or says nothing.
	for n := range head {
		if more, parts := (All{}).Head(head[:n], 1<<30); parts != nil || more <= int64(n) {
			t.Errorf("of %d bytes: %d %v", n, more, parts)
		}
	}
	for name, head := range map[string][]byte{
		"version":        ggufHead(1, 64).Bytes(),
		"alignment":      ggufHead(3, 48).Bytes(),
		"zero alignment": ggufHead(3, 0).Bytes(),
		"counts":         (&ggufWriter{*bytes.NewBufferString(ggufMagic)}).put(uint32(3), uint64(1)<<60, uint64(1)<<60).Bytes(),
		"long string":    (&ggufWriter{*bytes.NewBufferString(ggufMagic)}).put(uint32(3), uint64(1), uint64(1), uint64(1)<<63).Bytes(),
		"offset":         (&ggufWriter{*bytes.NewBufferString(ggufMagic)}).put(uint32(3), uint64(1), uint64(0), "t", uint32(0), uint32(0), uint64(1)<<62).Bytes(),
	} {
		if more, parts := (All{}).Head(head, size); parts != nil || more > int64(len(head)) {
			t.Errorf("%s: %d %v", name, more, parts)
		}
	}
}

func TestParquetFooter(t *testing.T) {
	tail := func(n uint32, magic string) []byte { return append(binary.LittleEndian.AppendUint32(nil, n), magic...) }
	for _, x := range []struct {
		tail []byte
		size int64
		want int64
	}{
		{tail(1000, "PAR1"), 1 << 20, 1<<20 - 1008},
		{append([]byte("before"), tail(1000, "PAR1")...), 1 << 20, 1<<20 - 1008},
		{tail(1000, "PARE"), 1 << 20, 0},
		{tail(1000, "PAR1"), 1008, 0},
		{tail(0, "PAR1"), 1 << 20, 0},
		{tail(1<<31, "PAR1"), 1 << 40, 0},
		{[]byte("PAR1"), 1 << 20, 0},
	} {
		if got := (All{}).Tail(x.tail, x.size); got != x.want {
			t.Errorf("%q of %d: %d, want %d", x.tail, x.size, got, x.want)
		}
	}
}

func TestNamed(t *testing.T) {
	for name, want := range map[string]bool{"a/model-00001-of-00008.safetensors": true, "q4.GGUF": true, "a.parquet": false, "safetensors": false} {
		if Named(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}

func FuzzHead(f *testing.F) {
	f.Add(ggufHead(3, 64).Bytes(), int64(1<<20))
	f.Add(safetensorsHead(32, `{"a":{"data_offsets":[0,8]}}    `), int64(64))
	h, _ := json.Marshal(map[string]any{"x": map[string]any{"data_offsets": []int{0, 1 << 20}}})
	f.Add(safetensorsHead(int64(len(h)), string(h)), int64(2<<20))
	f.Fuzz(func(t *testing.T, head []byte, size int64) {
		if size <= 0 {
			return
		}
		more, parts := All{}.Head(head, size)
		if more > MaxHead+8 && more > 16 {
			t.Errorf("wants %d bytes", more)
		}
		for i, at := range parts {
			if at <= 0 || at >= size || i > 0 && at <= parts[i-1] {
				t.Fatalf("parts %v of %d", parts, size)
			}
		}
	})
}
