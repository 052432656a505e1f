package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// works are what the program does as a subprocess of itself, in a directory or
// with a file: what no command does.
var works = map[string]func(dir string, args []string) (result, error){
	"hub":      serveHub,
	"first":    workFirst,
	"pread":    workPread,
	"mmap":     workMmap,
	"names":    workNames,
	"stat":     workStat,
	"list":     workList,
	"absent":   workAbsent,
	"openread": workOpenRead,
	"contents": workContents,
	"make":     workMake,
	"places":   workPlaces,
	"scan":     workScan,
	"load":     workLoad,
	"fsync":    workFsync,
	"rename":   workRename,
}

const page = 4096

// numbers reads whole numbers from a work's arguments.
func numbers(args []string, to ...*int) error {
	if len(args) != len(to) {
		return fmt.Errorf("%d arguments, want %d", len(args), len(to))
	}
	for i, a := range args {
		n, err := strconv.Atoi(a)
		if err != nil {
			return err
		}
		*to[i] = n
	}
	return nil
}

// workFirst opens a file and reads 128 KiB from its start. Took is the read,
// P50 the open.
func workFirst(file string, _ []string) (result, error) {
	begin := time.Now()
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return result{}, err
	}
	defer unix.Close(fd)
	opened := time.Now()
	n, err := unix.Pread(fd, make([]byte, 128<<10), 0)
	if err == nil && n == 0 {
		err = errors.New("nothing to read")
	}
	return result{Took: time.Since(opened), P50: opened.Sub(begin), Bytes: int64(n)}, err
}

// workPread reads N times 4 KiB at random places of a file, by R readers that
// share the number. Before the clock starts it reads the first page, so that
// what is to be known of the file is.
func workPread(file string, args []string) (result, error) {
	var n, readers, seed int
	if err := numbers(args, &n, &readers, &seed); err != nil {
		return result{}, err
	}
	info, err := os.Stat(file)
	if err != nil {
		return result{}, err
	}
	pages := info.Size() / page
	fds := make([]int, readers)
	for i := range fds {
		if fds[i], err = unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			return result{}, err
		}
		defer unix.Close(fds[i])
	}
	if _, err := unix.Pread(fds[0], make([]byte, page), 0); err != nil {
		return result{}, err
	}
	time.Sleep(settle)
	each := n / readers
	took := make([][]time.Duration, readers)
	errs := make([]error, readers)
	var wg sync.WaitGroup
	begin := time.Now()
	for i := range readers {
		took[i] = make([]time.Duration, 0, each)
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(seed), uint64(i)))
			buf := make([]byte, page)
			for range each {
				start := time.Now()
				if n, err := unix.Pread(fds[i], buf, random.Int64N(pages)*page); err != nil || n != page {
					errs[i] = fmt.Errorf("read %d bytes: %w", n, err)
					return
				}
				took[i] = append(took[i], time.Since(start))
			}
		})
	}
	wg.Wait()
	res := result{Took: time.Since(begin), Ops: each * readers}
	res.P50, res.P95 = percentiles(slices.Concat(took...))
	return res, errors.Join(errs...)
}

// settle is how long what was read ahead of the first page may take to arrive,
// before random reads are counted.
const settle = 300 * time.Millisecond

func percentiles(d []time.Duration) (p50, p95 time.Duration) {
	if len(d) == 0 {
		return 0, 0
	}
	slices.Sort(d)
	return d[len(d)/2], d[len(d)*95/100]
}

// workMmap touches N pages of a mapped file at random, or, if N is 0, copies
// all of it in order, as a loader does.
func workMmap(file string, args []string) (result, error) {
	var n, seed int
	if err := numbers(args, &n, &seed); err != nil {
		return result{}, err
	}
	data, close, err := mapped(file)
	if err != nil {
		return result{}, err
	}
	defer close()
	var sum byte
	if n > 0 {
		sum += data[0]
		time.Sleep(settle)
	}
	var res result
	begin := time.Now()
	if n == 0 {
		buf := make([]byte, 1<<20)
		for at := 0; at < len(data); at += len(buf) {
			copy(buf, data[at:])
			sum += buf[0]
		}
		res.Took, res.Ops = time.Since(begin), len(data)/page
	} else {
		random := rand.New(rand.NewPCG(uint64(seed), 0))
		var took []time.Duration
		timeEach := n <= 10_000 // else the clock would be what is measured
		for range n {
			start := begin
			if timeEach {
				start = time.Now()
			}
			sum += data[random.IntN(len(data)/page)*page]
			if timeEach {
				took = append(took, time.Since(start))
			}
		}
		res.Took, res.Ops = time.Since(begin), n
		res.P50, res.P95 = percentiles(took)
	}
	res.Text = fmt.Sprint(sum)
	return res, nil
}

func mapped(file string) (data []byte, close func(), err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	data, err = unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, err
	}
	return data, func() { _ = unix.Munmap(data) }, nil
}

// comparePlaces compares n pages at random places of a file with what it holds.
func comparePlaces(file string, want io.ReaderAt, size int64, n int) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	random := rand.New(rand.NewPCG(1, 1))
	got, wanted := make([]byte, page), make([]byte, page)
	for range n {
		at := random.Int64N(size/page) * page
		if _, err := f.ReadAt(got, at); err != nil {
			return err
		}
		if _, err := want.ReadAt(wanted, at); err != nil {
			return err
		}
		if !bytes.Equal(got, wanted) {
			return fmt.Errorf("%s has other content at %d", file, at)
		}
	}
	return nil
}
