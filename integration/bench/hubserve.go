package main

import (
	"context"
	"errors"
	"log/slog"
	"net/rpc"
	"os"
	"path"
	"regexp"
	"sync/atomic"
	"time"

	"hfmount/remote/hub"
	"hfmount/remote/hubtest"
)

// hubService is the other side of a hubProcess.
type hubService struct {
	h       *hubtest.Hub
	s       *hubtest.Server
	folders folderCount
}

// serveHub is the work "hub": it ends when its input does.
func serveHub(string, []string) (result, error) {
	s := new(hubService)
	server := rpc.NewServer()
	if err := server.RegisterName("Hub", s); err != nil {
		return result{}, err
	}
	out := os.Stdout
	os.Stdout = os.Stderr // nothing but answers goes there
	server.ServeConn(pipe{os.Stdin, out})
	if s.h == nil {
		return result{}, nil
	}
	return result{}, errors.Join(s.s.Close(), s.h.Close())
}

func (s *hubService) Open(a HubArgs, where *[2]string) (err error) {
	s.h, err = hubtest.New(hubtest.Options{Dir: a.Dir, Quotas: a.Quotas, URLTTL: 24 * time.Hour, Logger: slog.New(&s.folders)})
	if err != nil {
		return err
	}
	if s.s, err = s.h.Listen("127.0.0.1:0", "127.0.0.1:0"); err == nil {
		*where = [2]string{s.s.URL, s.s.CDNURL}
	}
	return err
}

func (s *hubService) Create(r hub.Repo, _ *struct{}) error {
	return s.h.CreateRepo(r, hubtest.RepoOptions{})
}

func (s *hubService) Commit(f RepoFiles, id *hub.CommitID) (err error) {
	*id, err = s.h.Commit(f.Repo, f.Branch, f.Title, f.Files)
	return err
}

func (s *hubService) CommitSynthetic(f RepoFiles, id *hub.CommitID) (err error) {
	*id, err = s.h.CommitSynthetic(f.Repo, f.Branch, f.Title, f.Synthetic)
	return err
}

func (s *hubService) Make(f RepoFiles, _ *struct{}) error {
	files := make(map[string][]byte, f.Made.Count)
	for i := range f.Made.Count {
		files[path.Clean(f.Made.name(i))] = f.Made.content(i)
	}
	_, err := s.h.Commit(f.Repo, "main", "files", files)
	return err
}

func (s *hubService) Import(f RepoFiles, _ *struct{}) error {
	_, err := s.h.Import(f.Repo, os.DirFS(f.Folder))
	return err
}

func (s *hubService) Shape(a [2]int64, _ *struct{}) error {
	s.h.Shape(time.Duration(a[0]), a[1])
	return nil
}

func (s *hubService) Stats(_ struct{}, to *HubStats) error {
	*to = HubStats{s.h.Stats(), s.folders.n.Load()}
	return nil
}

func (s *hubService) Reset(_ struct{}, _ *struct{}) error {
	s.h.ResetStats()
	s.folders.n.Store(0)
	return nil
}

// folderCount counts listings below the root in the Hub's log.
type folderCount struct{ n atomic.Int64 }

var folderListing = regexp.MustCompile(`^/api/[a-z]+/[^/]+/[^/]+/tree/[^/]+/.`)

func (*folderCount) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }
func (c *folderCount) WithAttrs([]slog.Attr) slog.Handler         { return c }
func (c *folderCount) WithGroup(string) slog.Handler              { return c }
func (c *folderCount) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key != "path" {
			return true
		}
		if folderListing.MatchString(a.Value.String()) {
			c.n.Add(1)
		}
		return false
	})
	return nil
}
