package main

import (
	"fmt"
	"io"
	"maps"
	"net/rpc"
	"os"
	"os/exec"
	"time"

	"hfmount/remote/hub"
	"hfmount/remote/hubtest"
)

// HubArgs say what Hub a process serves. What crosses to it has exported names,
// as net/rpc wants.
type HubArgs struct {
	Dir    string // "" keeps all in memory
	Quotas bool
}

// hubProcess is a Hub that runs as a process of its own, so that its work is
// never that of the program that takes the time. The methods are those of
// hubtest.Hub, called over the process's standard input and output.
type hubProcess struct {
	URL, CDNURL string
	has         map[string]bool // files of repo that are published

	cmd       *exec.Cmd
	rpc       *rpc.Client
	forgotten func()
	repos     map[hub.Repo]bool
	quota     map[string]int64 // requests before the last reset
}

// startHub starts a Hub, which ends with this program at the latest.
func (b *bench) startHub(args HubArgs) (*hubProcess, error) {
	p := &hubProcess{has: map[string]bool{}, repos: map[hub.Repo]bool{}, quota: map[string]int64{}}
	p.cmd = exec.Command(b.self, "-work", "hub")
	p.cmd.Stderr = os.Stderr
	in, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	p.rpc = rpc.NewClient(pipe{out, in})
	p.forgotten = b.tidy.add(p.stop)
	var where [2]string
	if err := p.rpc.Call("Hub.Open", args, &where); err != nil {
		return nil, err
	}
	p.URL, p.CDNURL = where[0], where[1]
	return p, nil
}

// stop ends the process and waits for it; a second call does nothing.
func (p *hubProcess) stop() {
	p.forgotten()
	p.rpc.Close()
	_ = p.cmd.Wait()
}

type pipe struct {
	io.Reader
	io.WriteCloser
}

// RepoFiles is what to publish, and where.
type RepoFiles struct {
	Repo          hub.Repo
	Branch, Title string
	Files         map[string][]byte
	Synthetic     map[string]hubtest.Synthetic
	Folder        string
	Made          MadeFiles
}

// MadeFiles are small files that are made where they are needed: Count of
// them, PerDir in a folder (0: all in the root), of Size bytes.
type MadeFiles struct{ Count, PerDir, Size int }

// name of file i; they sort in the order of i.
func (m MadeFiles) name(i int) string {
	if m.PerDir == 0 {
		return fmt.Sprintf("f%07d.txt", i)
	}
	return fmt.Sprintf("d%05d/f%03d.txt", i/m.PerDir, i%m.PerDir)
}

// content of file i, which no other file has.
func (m MadeFiles) content(i int) []byte {
	line := fmt.Appendf(nil, "line of file %d of a set of %d\n", i, m.Count)
	data := make([]byte, m.Size)
	for n := 0; n < m.Size; {
		n += copy(data[n:], line)
	}
	return data
}

func (p *hubProcess) CreateRepo(r hub.Repo, o hubtest.RepoOptions) error {
	return p.rpc.Call("Hub.Create", r, &struct{}{})
}

// ensureRepo creates a repository the first time.
func (p *hubProcess) ensureRepo(r hub.Repo) error {
	if p.repos[r] {
		return nil
	}
	p.repos[r] = true
	return p.CreateRepo(r, hubtest.RepoOptions{})
}

func (p *hubProcess) Commit(r hub.Repo, branch, title string, files map[string][]byte) (id hub.CommitID, err error) {
	err = p.rpc.Call("Hub.Commit", RepoFiles{Repo: r, Branch: branch, Title: title, Files: files}, &id)
	return id, err
}

func (p *hubProcess) CommitSynthetic(r hub.Repo, branch, title string, files map[string]hubtest.Synthetic) (id hub.CommitID, err error) {
	err = p.rpc.Call("Hub.CommitSynthetic", RepoFiles{Repo: r, Branch: branch, Title: title, Synthetic: files}, &id)
	return id, err
}

// Make publishes small files that the Hub's process makes itself, in a new
// repository.
func (p *hubProcess) Make(r hub.Repo, m MadeFiles) error {
	if p.repos[r] {
		return nil
	}
	if err := p.ensureRepo(r); err != nil {
		return err
	}
	return p.rpc.Call("Hub.Make", RepoFiles{Repo: r, Made: m}, &struct{}{})
}

// Import publishes a folder in a new repository.
func (p *hubProcess) Import(r hub.Repo, folder string) error {
	return p.rpc.Call("Hub.Import", RepoFiles{Repo: r, Folder: folder}, &struct{}{})
}

func (p *hubProcess) Shape(latency time.Duration, bytesPerSecond int64) error {
	return p.rpc.Call("Hub.Shape", [2]int64{int64(latency), bytesPerSecond}, &struct{}{})
}

// HubStats adds to the Hub's counters how many listings were of a folder.
type HubStats struct {
	hubtest.Stats
	Folders int64
}

func (p *hubProcess) Stats() (s HubStats) {
	if err := p.rpc.Call("Hub.Stats", struct{}{}, &s); err != nil {
		fmt.Fprintln(os.Stderr, "bench: the Hub:", err)
	}
	return s
}

func (p *hubProcess) ResetStats() {
	for q, n := range p.Stats().Quota {
		p.quota[q] += n
	}
	if err := p.rpc.Call("Hub.Reset", struct{}{}, &struct{}{}); err != nil {
		fmt.Fprintln(os.Stderr, "bench: the Hub:", err)
	}
}

// forget begins the count that requests shows.
func (p *hubProcess) forget() {
	p.ResetStats()
	clear(p.quota)
}

// requests shows how many there were since forget, by quota.
func (p *hubProcess) requests() string {
	all := maps.Clone(p.quota)
	for q, n := range p.Stats().Quota {
		all[q] += n
	}
	return quotaText(all)
}

// add counts what another Hub was asked as if it were this one.
func (p *hubProcess) add(other *hubProcess) {
	for _, q := range []map[string]int64{other.quota, other.Stats().Quota} {
		for name, n := range q {
			p.quota[name] += n
		}
	}
}

func quotaText(q map[string]int64) string {
	return fmt.Sprintf("api %d, resolvers %d, pages %d, cdn %d", q["api"], q["resolvers"], q["pages"], q["cdn"])
}
