package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"hfmount/remote/hub"
	"hfmount/remote/hubtest"
)

const shards = 8

func shardName(i int) string { return fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, shards) }

// onDisk starts a Hub that keeps its files in a directory: for what is too
// large for memory and cannot be made on the fly.
func (b *bench) onDisk(r hub.Repo, folder string) (*hubProcess, func(), error) {
	b.made++
	data := filepath.Join(b.dir, fmt.Sprint("hub", b.made))
	h, err := b.startHub(HubArgs{Dir: data})
	if err != nil {
		return nil, nil, err
	}
	end := func() {
		b.hub.add(h)
		h.stop()
		os.RemoveAll(data)
	}
	if err := h.Import(r, folder); err != nil {
		end()
		return nil, nil, err
	}
	return h, end, nil
}

// model compares loading a model of 8 shards, mapped and its tensors touched in
// shuffled order, with reading the same bytes in order, and with downloading
// it first.
func (b *bench) model() error {
	folder := filepath.Join(b.dir, "model")
	defer os.RemoveAll(folder)
	if err := makeModel(folder, b.modelSize); err != nil {
		return err
	}
	r := hub.Repo{Namespace: "bench", Name: "shards"}
	h, end, err := b.onDisk(r, folder)
	if err != nil {
		return err
	}
	defer end()
	if err := h.Shape(near, nearBPS); err != nil {
		return err
	}
	fresh := func(f func(m *mounted) (time.Duration, error)) probe {
		return func() (time.Duration, error) {
			m, err := b.prepare(reader{}, h, r)
			if err != nil {
				return 0, err
			}
			if err := m.start(); err != nil {
				return 0, err
			}
			b.gate()
			d, err := f(m)
			return d, errors.Join(err, m.close())
		}
	}
	var loads samples // of what hf downloaded
	probes := []probe{
		fresh(func(m *mounted) (d time.Duration, err error) {
			for i := range shards {
				one, err := m.dd(m.path(shardName(i)))
				if err != nil {
					return 0, err
				}
				d += one
			}
			return d, nil
		}),
		fresh(func(m *mounted) (time.Duration, error) { return m.timedWork(b, "load", m.dir, 1) }),
		nil,
	}
	if b.hf != "" {
		probes[2] = func() (time.Duration, error) {
			b.made++
			to := filepath.Join(b.dir, fmt.Sprint("download", b.made))
			defer os.RemoveAll(to)
			b.gate()
			d, err := b.hfClient(h, "download", r.ID(), "--local-dir", to)
			if err != nil {
				return 0, err
			}
			load, err := reader{}.timedWork(b, "load", to, 1)
			loads = append(loads, load)
			return d + load, err
		}
	}
	all, err := b.take(probes...)
	if err != nil {
		return err
	}
	verify := fresh(func(m *mounted) (time.Duration, error) {
		if _, err := m.work(b, "load", m.dir, 2); err != nil {
			return 0, err
		}
		for i := range shards {
			if _, err := m.timed("cmp", m.path(shardName(i)), filepath.Join(folder, shardName(i))); err != nil {
				return 0, err
			}
		}
		return 0, nil
	})
	if _, err := verify(); err != nil {
		return err
	}
	sequential, shuffled := all[0].median(), all[1].median()
	b.add("8 shards read in order, cold", rate(b.modelSize, sequential), "1", seconds(sequential)+", 30 ms and 100 MB/s a connection")
	b.check("8 shards mapped, tensors shuffled, cold", rate(b.modelSize, shuffled), over(sequential, shuffled), atLeast(0.85), seconds(shuffled))
	if b.hf != "" {
		download := all[2].median()
		b.add("hf download, then load", seconds(download), "1", "its own start included; the load took "+seconds(loads.median()))
		b.check("load through the mount / that: time", seconds(shuffled), shuffled.Seconds()/download.Seconds(), atMost(0.80), "")
	} else {
		b.add("hf download, then load", "not installed", "", "")
	}
	return nil
}

// timedWork is work with the time of the process's start.
func (r reader) timedWork(b *bench, name, dir string, args ...any) (time.Duration, error) {
	begin := time.Now()
	_, err := r.work(b, name, dir, args...)
	return time.Since(begin), err
}

// tensor is one line of a safetensors header.
type tensor struct {
	Dtype   string   `json:"dtype"`
	Shape   []int64  `json:"shape"`
	Offsets [2]int64 `json:"data_offsets"`
}

// makeModel writes a model whose shards hold layers as transformers do: four
// attention and three larger matrices, and two vectors.
func makeModel(dir string, size int64) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	const layers = 4
	unit := size / shards / layers / (4*2 + 3*5) / 2 * 2
	for i := range shards {
		header := map[string]any{"__metadata__": map[string]string{"format": "pt"}}
		var at int64
		put := func(name string, bytes int64) {
			header[name] = tensor{"BF16", []int64{bytes / 2}, [2]int64{at, at + bytes}}
			at += bytes
		}
		for l := range layers {
			name := fmt.Sprintf("model.layers.%d.", i*layers+l)
			for _, part := range []string{"q", "k", "v", "o"} {
				put(name+"self_attn."+part+"_proj.weight", 2*unit)
			}
			for _, part := range []string{"gate", "up", "down"} {
				put(name+"mlp."+part+"_proj.weight", 5*unit)
			}
			put(name+"input_layernorm.weight", 8192)
			put(name+"post_attention_layernorm.weight", 8192)
		}
		if err := writeShard(filepath.Join(dir, shardName(i)), header, hubtest.Synthetic{Size: at, Seed: uint64(1000 + i)}); err != nil {
			return err
		}
	}
	return nil
}

func writeShard(name string, header map[string]any, data hubtest.Synthetic) error {
	text, err := json.Marshal(header)
	if err != nil {
		return err
	}
	for len(text)%8 != 0 {
		text = append(text, ' ')
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = f.Write(append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...))
	if err == nil {
		_, err = io.Copy(f, io.NewSectionReader(data.ReaderAt(), 0, data.Size))
	}
	return errors.Join(err, f.Close())
}

// workLoad loads a model shard by shard: maps it, reads its header, and touches
// every page of its tensors, in an order shuffled by the seed.
func workLoad(dir string, args []string) (result, error) {
	var seed int
	if err := numbers(args, &seed); err != nil {
		return result{}, err
	}
	random := rand.New(rand.NewPCG(uint64(seed), 0))
	var res result
	var sum byte
	for i := range shards {
		data, done, err := mapped(filepath.Join(dir, shardName(i)))
		if err != nil {
			return res, err
		}
		tensors, start, err := tensorsOf(data)
		if err != nil {
			done()
			return res, err
		}
		random.Shuffle(len(tensors), func(i, j int) { tensors[i], tensors[j] = tensors[j], tensors[i] })
		for _, t := range tensors {
			for at := start + t.Offsets[0]; at < start+t.Offsets[1]; at += page {
				sum += data[at]
			}
			sum += data[start+t.Offsets[1]-1]
			res.Bytes += t.Offsets[1] - t.Offsets[0]
		}
		done()
	}
	res.Text = fmt.Sprint(sum)
	return res, nil
}

// tensorsOf reads a safetensors header: the tensors in the order of the file,
// and where their data starts.
func tensorsOf(data []byte) (all []tensor, start int64, err error) {
	if len(data) < 8 {
		return nil, 0, io.ErrUnexpectedEOF
	}
	n := binary.LittleEndian.Uint64(data)
	if n > uint64(len(data)-8) {
		return nil, 0, errors.New("the header is longer than the file")
	}
	var header map[string]json.RawMessage
	if err := json.Unmarshal(data[8:8+n], &header); err != nil {
		return nil, 0, err
	}
	for name, raw := range header {
		if name == "__metadata__" {
			continue
		}
		var t tensor
		if err := json.Unmarshal(raw, &t); err != nil {
			return nil, 0, err
		}
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b tensor) int { return int(a.Offsets[0] - b.Offsets[0]) })
	start = int64(8 + n)
	if len(all) == 0 || start+all[len(all)-1].Offsets[1] != int64(len(data)) {
		return nil, 0, errors.New("the tensors do not fill the file")
	}
	return all, start, nil
}
