package blockcache

import (
	"context"
	"io"
	"testing"
	"time"
)

// shapedSource is a network: a round trip for each range, and a rate that each
// range has for itself.
type shapedSource struct {
	hugeSource
	latency time.Duration
	rate    float64 // bytes per second
}

func (s *shapedSource) OpenRange(ctx context.Context, off, n int64, urgent bool) (io.ReadCloser, error) {
	rc, _ := s.hugeSource.OpenRange(ctx, off, n, urgent)
	time.Sleep(s.latency)
	return &shapedReader{ReadCloser: rc, start: time.Now(), rate: s.rate}, nil
}

type shapedReader struct {
	io.ReadCloser
	start time.Time
	sent  int64
	rate  float64
}

func (r *shapedReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p[:min(len(p), 256<<10)])
	r.sent += int64(n)
	time.Sleep(time.Until(r.start.Add(time.Duration(float64(r.sent) / r.rate * 1e9))))
	return n, err
}

// BenchmarkShapedSequential reports its throughput as a part of what the
// connections can do together.
func BenchmarkShapedSequential(b *testing.B) {
	const size = 1 << 30
	id := zeroID(size)
	for _, x := range []struct {
		name    string
		latency time.Duration
		rate    float64
		o       Options
	}{
		{"30ms_100MBps", 30 * time.Millisecond, 100e6, Options{}},
		{"100ms_50MBps", 100 * time.Millisecond, 50e6, Options{}},
		{"30ms_100MBps_disk", 30 * time.Millisecond, 100e6, Options{DiskBytes: 1 << 40}},
	} {
		b.Run(x.name, func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				o := x.o
				if o.DiskBytes != 0 {
					o.Dir = b.TempDir()
				}
				c, err := Open(o)
				if err != nil {
					b.Fatal(err)
				}
				f, err := c.File(id, &shapedSource{latency: x.latency, rate: x.rate})
				if err != nil {
					b.Fatal(err)
				}
				if err := stream(f, size); err != nil {
					b.Fatal(err)
				}
				f.Close()
				c.Close()
			}
			raw := 16 * x.rate * size / (size + 16*x.rate*x.latency.Seconds())
			b.ReportMetric(float64(b.N)*size/b.Elapsed().Seconds()/raw, "of_raw")
		})
	}
}
