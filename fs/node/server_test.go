package node

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"hfmount/blockcache"
	"hfmount/fs"
	"hfmount/remote/hub"
)

// A mount must not be used by the process that serves it: a page fault or a
// blocked system call can then wait for itself. So tests that touch a mount
// start this test binary again as its server, and talk to it in lines.

const serverEnv = "NODE_TEST_SERVER"

// serverConfig is what such a server serves.
type serverConfig struct {
	Dir, CacheDir string
	NoOpen        bool
	Write         bool // else read-only
	Cached        bool // no passthrough, as for ordinary users
	MaxStaging    int64
	Blobs         int // how many files there are as blobName and absentName say
	UID, GID      int
	Umask         uint32
}

// serverReady is the server's first line.
type serverReady struct {
	Passthrough bool
	Reason      string
	ReadAheadKB int
	Err         string
}

func TestMain(m *testing.M) {
	if conf := os.Getenv(serverEnv); conf != "" {
		os.Exit(serveTest(conf))
	}
	if os.Getenv(readerEnv) != "" {
		os.Exit(readDirect(os.Getenv(readerEnv)))
	}
	os.Exit(m.Run())
}

// serveTest is the server's main function. It ends with its stdin.
func serveTest(conf string) int {
	var c serverConfig
	if err := json.Unmarshal([]byte(conf), &c); err != nil {
		panic(err)
	}
	src := newSource()
	say := json.NewEncoder(os.Stdout)
	cache, err := blockcache.Open(blockcache.Options{Dir: c.CacheDir, DiskBytes: 1 << 30, MemoryBytes: 64 << 20})
	if err != nil {
		say.Encode(serverReady{Err: err.Error()})
		return 1
	}
	o := fs.Options{Source: src, Cache: cache}
	var layers *testLayers
	if c.Write {
		if layers, err = openTestLayers(filepath.Join(c.CacheDir, "state"), src, c.MaxStaging); err != nil {
			say.Encode(serverReady{Err: err.Error()})
			return 1
		}
		o.Layers = layers
	}
	tree, err := fs.New(o)
	if err != nil {
		say.Encode(serverReady{Err: err.Error()})
		return 1
	}
	if layers != nil {
		layers.tree = tree
	}
	blob := blobBytes()
	for i := range c.Blobs {
		src.files[blobName(i)] = blob
		src.files[absentName(i)] = absentBytes(i)
	}
	loc := hub.Location{Ref: hub.Ref{Repo: testRepo}}
	root, err := tree.Root(context.Background(), loc)
	if err != nil {
		say.Encode(serverReady{Err: err.Error()})
		return 1
	}
	var asked requestCount
	s, err := Mount(c.Dir, tree, root, Options{
		FSName: loc.String(), UID: c.UID, GID: c.GID, Umask: c.Umask, NoOpen: c.NoOpen, CacheDir: c.CacheDir, ReadOnly: !c.Write,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		wrap:   func(raw fuse.RawFileSystem) fuse.RawFileSystem { asked.RawFileSystem = raw; return &asked },
	})
	if err != nil {
		say.Encode(serverReady{Err: err.Error()})
		return 1
	}
	if c.Cached {
		s.setNoNative("a test wants none")
	}
	ready := serverReady{ReadAheadKB: s.ReadAheadKB()}
	ready.Passthrough, ready.Reason = s.Passthrough()
	say.Encode(ready)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		verb, arg, _ := strings.Cut(in.Text(), " ")
		if verb == "asked" { // how often the kernel asked for it
			fmt.Println(asked.of(arg))
			continue
		}
		if layers != nil {
			if answer, ok := writeCommand(s, layers, src, verb, arg); ok {
				fmt.Println(answer)
				continue
			}
		}
		fmt.Println(serverCommand(s, src, cache, verb, arg))
	}
	src.stall(false)
	if err := s.Unmount(); err != nil {
		// A failed test left it busy. It must not outlive the test.
		syscall.Unmount(c.Dir, syscall.MNT_FORCE|syscall.MNT_DETACH)
		return 1
	}
	s.Wait()
	if layers != nil {
		if err := layers.close(); err != nil {
			panic(err)
		}
	}
	if err := errors.Join(tree.Close(), cache.Close()); err != nil {
		panic(err)
	}
	return 0
}

func serverCommand(s *Server, src *source, cache *blockcache.Cache, verb, arg string) string {
	switch verb {
	case "stall":
		src.stall(true)
	case "go":
		src.stall(false)
	case "stalled": // requests that wait in the source
		return fmt.Sprint(src.waiting())
	case "opens": // of the file, by mode
		for _, n := range s.live.all() {
			if f, ok := n.(*fileNode); ok && f.Path(nil) == arg {
				f.mu.Lock()
				defer f.mu.Unlock()
				return fmt.Sprintf("%+v", f.opens)
			}
		}
		return "{cached:0 native:0}"
	case "blocks": // that reads asked the cache for
		st := cache.Stats()
		return fmt.Sprint(st.Hits + st.Misses)
	case "handles":
		s.mu.Lock()
		defer s.mu.Unlock()
		return fmt.Sprint(len(s.open))
	case "move", "refresh":
		if verb == "move" {
			src.move()
		}
		if err := s.tree.Refresh(context.Background()); err != nil {
			return err.Error()
		}
	case "unmount":
		if err := s.Unmount(); errors.Is(err, syscall.EBUSY) {
			return "busy"
		} else if err != nil {
			return err.Error()
		}
	default:
		return "no such command: " + verb
	}
	return "ok"
}

func (l *liveNodes) all() []liveNode {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []liveNode
	for _, n := range l.nodes {
		all = append(all, n)
	}
	return all
}

// mount is a mount under test.
type mount struct {
	t     *testing.T
	dir   string
	cache string
	ready serverReady
	cmd   *exec.Cmd
	in    *os.File
	out   *bufio.Scanner
	ended chan error
}

// startMount mounts the test repository. The mount and its server end with the test.
func startMount(t *testing.T, c serverConfig) *mount {
	t.Helper()
	base := t.TempDir()
	c.Dir = filepath.Join(base, "mnt")
	if c.CacheDir == "" {
		c.CacheDir = filepath.Join(base, "cache")
	}
	for _, d := range []string{c.Dir, c.CacheDir} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	conf, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	m := &mount{t: t, dir: c.Dir, cache: c.CacheDir, ended: make(chan error, 1)}
	m.cmd = exec.Command(os.Args[0])
	m.cmd.Env = append(os.Environ(), serverEnv+"="+string(conf))
	m.cmd.Stderr = os.Stderr
	inR, inW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	m.cmd.Stdin, m.cmd.Stdout, m.in, m.out = inR, outW, inW, bufio.NewScanner(outR)
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	inR.Close()
	outW.Close()
	go func() { m.ended <- m.cmd.Wait() }()
	t.Cleanup(func() {
		m.in.Close()
		outR.Close()
		select {
		case err := <-m.ended:
			if err != nil {
				t.Errorf("the server: %v", err)
			}
		case <-time.After(30 * time.Second):
			t.Error("the server does not end")
			m.cmd.Process.Kill()
			<-m.ended
			syscall.Unmount(m.dir, syscall.MNT_DETACH)
		}
	})
	if !m.out.Scan() {
		t.Fatal("the server died")
	}
	if err := json.Unmarshal(m.out.Bytes(), &m.ready); err != nil {
		t.Fatal(err)
	}
	if m.ready.Err != "" {
		m.in.Close()
		<-m.ended
		m.ended <- nil
		t.Fatal(m.ready.Err)
	}
	return m
}

// ask sends the server a command and returns its answer.
func (m *mount) ask(command string) string {
	m.t.Helper()
	if _, err := fmt.Fprintln(m.in, command); err != nil {
		m.t.Fatal(err)
	}
	if !m.out.Scan() {
		m.t.Fatalf("the server died of %q", command)
	}
	return m.out.Text()
}

func (m *mount) do(command string) {
	m.t.Helper()
	if got := m.ask(command); got != "ok" {
		m.t.Fatalf("%s: %s", command, got)
	}
}

func (m *mount) path(name string) string { return filepath.Join(m.dir, name) }
