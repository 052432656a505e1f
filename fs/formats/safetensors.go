package formats

import (
	"encoding/binary"
	"encoding/json"
)

// maxSafetensors is the bound of the format itself.
const maxSafetensors = 100_000_000

// safetensors: the length of the header as 8 bytes, and a JSON object of
// name to {dtype, shape, data_offsets}, which count from the end of the header.
func safetensors(head []byte, size int64) (int64, []int64) {
	n := binary.LittleEndian.Uint64(head)
	if n < 2 || n > maxSafetensors || int64(n)+8 >= size || head[8] != '{' {
		return 0, nil
	}
	base := int64(n) + 8
	if base > MaxHead {
		// Too long to look at; where it ends is known all the same. The byte
		// after the brace tells it from other files a little better.
		if c := head[9]; c != '"' && c != ' ' && c != '\n' && c != '}' {
			return 0, nil
		}
		return 0, []int64{base}
	}
	if int64(len(head)) < base {
		return base, nil
	}
	var tensors map[string]json.RawMessage
	if json.Unmarshal(head[8:base], &tensors) != nil {
		return 0, nil
	}
	parts := make([]int64, 0, len(tensors)+1)
	for name, raw := range tensors {
		if name == "__metadata__" {
			continue
		}
		var t struct {
			Offsets []uint64 `json:"data_offsets"`
		}
		if json.Unmarshal(raw, &t) != nil || len(t.Offsets) != 2 ||
			t.Offsets[0] > t.Offsets[1] || t.Offsets[1] > uint64(size-base) {
			return 0, nil
		}
		parts = append(parts, base+int64(t.Offsets[0]))
	}
	if len(parts) == 0 {
		return 0, nil
	}
	return 0, tidy(parts, base, size)
}
