package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestModelIsValidAndLoads(t *testing.T) {
	dir := t.TempDir()
	const size = 8 << 20
	if err := makeModel(dir, size); err != nil {
		t.Fatal(err)
	}
	var total, tensors int64
	for i := range shards {
		data, err := os.ReadFile(filepath.Join(dir, shardName(i)))
		if err != nil {
			t.Fatal(err)
		}
		all, start, err := tensorsOf(data)
		if err != nil {
			t.Fatal(err)
		}
		at := int64(0)
		for _, x := range all {
			if x.Offsets[0] != at || x.Shape[0]*2 != x.Offsets[1]-at {
				t.Fatalf("shard %d: a tensor at %v of shape %v, want it at %d", i, x.Offsets, x.Shape, at)
			}
			at = x.Offsets[1]
		}
		if start%8 != 0 {
			t.Errorf("shard %d: data starts at %d", i, start)
		}
		total, tensors = total+at, tensors+int64(len(all))
	}
	if tensors != shards*4*9 || total < size*9/10 || total > size*11/10 {
		t.Errorf("%d tensors of %d bytes in all", tensors, total)
	}
	res, err := workLoad(dir, []string{"1"})
	if err != nil || res.Bytes != total {
		t.Errorf("loaded %d of %d bytes: %v", res.Bytes, total, err)
	}
	if _, _, err := tensorsOf([]byte{255, 0, 0, 0, 0, 0, 0, 0, '{'}); err == nil {
		t.Error("a header longer than its file is taken")
	}
}
