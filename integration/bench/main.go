// Bench measures hfmount against what the wire and the disk can do, in one
// run on one machine, and prints ratios beside their bars. The Hub, the mounts
// and every reader are processes of their own. Raw figures are curl processes
// with their URLs resolved beforehand, the best of all rounds; everything else
// is a median. What was read is verified in a round of its own, and a warning
// in the log of a mount fails its section.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hfmount/remote/hub"
	"hfmount/remote/hubtest"
)

// repo has the one large file of the cold and warm rows, and others.
var repo = hub.Repo{Namespace: "bench", Name: "model"}

// bench is one run.
type bench struct {
	hfmount, dir string
	hf, rclone   string // peers, "" if not installed
	python       string // one that imports duckdb, "" if none does
	self         string // this program
	only         []string
	quick        bool
	rounds       int
	gateLimit    time.Duration
	file         hubtest.Synthetic // what is read cold and warm
	header       hubtest.Synthetic // what only the start of is read, and random places
	files        int               // that listings show
	small        int               // of 4 KiB
	many         int               // that are only listed, for their memory
	parquet      int64             // bytes of the Parquet file, about
	modelSize    int64             // bytes of the safetensors model

	hub      *hubProcess
	rows     []row
	section  string // name of the one that runs
	failures int
	made     int    // mounts, for names
	gates    int    // quiet gates passed
	noisy    int    // of these, on a machine that was not quiet
	indexURL string // of what rclone mounts
	tidy     tidy
}

// measurement is one section of the table.
type measurement struct {
	name, what string
	do         func(*bench) error
}

// named are sections that take so long that they run only if -only names them,
// or with tiny sizes.
var named = map[string]bool{"growth": true}

// sections in the order of the table. Each prepares what it needs.
var sections = []measurement{
	{"shaped", "cold sequential, 30 ms and 100 MB/s a connection", (*bench).shaped},
	{"far", "cold sequential, 100 ms and 50 MB/s a connection", (*bench).far},
	{"unshaped", "cold sequential, unshaped", (*bench).unshaped},
	{"first", "first byte after open", (*bench).firstByte},
	{"eight", "8 files at once", (*bench).eight},
	{"warm", "a complete file, second open and after a remount", (*bench).warm},
	{"user", "the same as an ordinary user", (*bench).ordinary},
	{"header", "the header of 10 GB", (*bench).headerBytes},
	{"random", "random reads, cold", (*bench).random},
	{"model", "a safetensors model", (*bench).model},
	{"parquet", "Parquet with DuckDB", (*bench).duckdb},
	{"names", "a directory of many entries", (*bench).names},
	{"find", "a tree of many files: cold, again, remounted, offline", (*bench).find},
	{"small", "small files", (*bench).smallFiles},
	{"write", "writing, against local disk", (*bench).write},
	{"commit", "a commit of many files, against hf upload", (*bench).commit},
	{"memory", "memory", (*bench).memory},
	{"cpu", "CPU seconds", (*bench).cpu},
	{"growth", "how cost grows", (*bench).growth},
}

func main() {
	var b bench
	var out, work, only string
	var mib int
	var quotas bool
	flag.StringVar(&b.hfmount, "hfmount", "hfmount", "the `program` to measure")
	flag.StringVar(&b.dir, "dir", os.TempDir(), "a `directory` on a real disk for caches")
	flag.StringVar(&b.hf, "hf", found("hf"), "the official `client`, to compare with")
	flag.StringVar(&b.rclone, "rclone", found("rclone"), "`rclone`, to compare with")
	flag.StringVar(&b.python, "python", "", "a `python` that has duckdb")
	flag.StringVar(&out, "o", "", "also write the table to `file`, between its markers")
	flag.StringVar(&only, "only", "", "measure only these `sections`, separated by commas; \"list\" names them")
	flag.StringVar(&work, "work", "", "only do the `work` of that name in -dir, as a subprocess")
	flag.IntVar(&b.rounds, "n", 5, "rounds of each measurement")
	flag.IntVar(&mib, "mib", 2048, "`size` of the file that is read, in MiB")
	flag.IntVar(&b.files, "files", 100_000, "`number` of files that are listed")
	flag.IntVar(&b.small, "small", 20_000, "`number` of files of 4 KiB that are read")
	flag.IntVar(&b.many, "many", 1_000_000, "`number` of files whose memory is counted")
	flag.Int64Var(&b.parquet, "parquet", 2_000_000_000, "`bytes` of the Parquet file, about")
	flag.Int64Var(&b.modelSize, "model", 2<<30, "`bytes` of the safetensors model")
	flag.DurationVar(&b.gateLimit, "gate", 5*time.Second, "longest wait for a quiet machine before a sample")
	flag.BoolVar(&b.quick, "quick", false, "one round with tiny sizes, to prove that everything runs")
	flag.BoolVar(&quotas, "quotas", false, "measure only what the Hub's real quotas allow; takes about six minutes")
	flag.Parse()
	if work != "" {
		if err := runWork(work, b.dir, flag.Args()); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	if only == "list" {
		for _, s := range sections {
			fmt.Printf("%-10s %s\n", s.name, s.what)
		}
		return
	}
	b.header = hubtest.Synthetic{Size: 10_000_000_000, Seed: 2}
	if b.quick {
		b.rounds, mib, b.files, b.small, b.many = 1, 64, 3000, 160, 5000
		b.parquet, b.modelSize, b.header.Size, b.gateLimit = 30_000_000, 64<<20, 1_000_000_000, 200*time.Millisecond
	}
	b.file = hubtest.Synthetic{Size: int64(mib) << 20, Seed: 1}
	if only != "" {
		b.only = strings.Split(only, ",")
	}
	if err := b.run(quotas); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	fmt.Print(b.table())
	if out != "" {
		if err := b.publish(out); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
	}
	if b.failures > 0 {
		os.Exit(1)
	}
}

func found(program string) string {
	path, _ := exec.LookPath(program)
	return path
}

func (b *bench) run(quotas bool) (err error) {
	for _, name := range b.only {
		if !slices.ContainsFunc(sections, func(s measurement) bool { return s.name == name }) {
			return fmt.Errorf("there is no section %q; -only list names them", name)
		}
	}
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if b.dir, err = filepath.Abs(b.dir); err != nil {
		return err
	}
	b.tidy.endOnSignal()
	defer b.tidy.end()
	if quotas {
		return b.quotas()
	}
	if b.hub, err = b.startHub(HubArgs{}); err != nil {
		return err
	}
	for _, s := range sections {
		wanted := slices.Contains(b.only, s.name)
		if len(b.only) == 0 {
			wanted = b.quick || !named[s.name]
		}
		if !wanted {
			continue
		}
		fmt.Fprintln(os.Stderr, "bench:", s.name)
		b.measureSection(s.name, s.what, s.do)
	}
	return nil
}

// measureSection runs one section. Its failure is a row, and does not keep the
// others from being measured.
func (b *bench) measureSection(name, what string, do func(*bench) error) {
	begin := time.Now()
	b.section = what
	b.hub.forget()
	if err := do(b); err != nil {
		b.failures++
		b.put(row{what: "failed", note: strings.ReplaceAll(err.Error(), "\n", " ")})
		fmt.Fprintf(os.Stderr, "bench: %s: %v\n", name, err)
	}
	if err := b.hub.Shape(0, 0); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		b.failures++
	}
	b.put(row{what: "requests, all rounds", value: b.hub.requests()})
	fmt.Fprintf(os.Stderr, "bench: %s took %s\n", name, time.Since(begin).Round(time.Second))
}

// publishFiles puts the files of the cold and warm rows on the Hub, once.
func (b *bench) publishFiles(files map[string]hubtest.Synthetic) error {
	if err := b.hub.ensureRepo(repo); err != nil {
		return err
	}
	missing := map[string]hubtest.Synthetic{}
	for name, f := range files {
		if !b.hub.has[name] {
			missing[name] = f
			b.hub.has[name] = true
		}
	}
	if len(missing) == 0 {
		return nil
	}
	_, err := b.hub.CommitSynthetic(repo, "main", "files", missing)
	return err
}

// errAll joins what a row's steps return, and wraps it with the row's name.
func errAll(what string, errs ...error) error {
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
