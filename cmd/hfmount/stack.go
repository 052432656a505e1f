package main

import (
	"errors"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"hfmount/blockcache"
	"hfmount/fs"
	"hfmount/remote"
	"hfmount/remote/hub"
)

// blobDir is where the contents of files lie in the cache directory.
const blobDir = "blobs"

// stack is what stands between a command and the Hub: client, cache, tree.
type stack struct {
	client *remote.Client
	cache  *blockcache.Cache
	tree   *fs.Tree
	tokens remote.TokenSource
}

// writer makes the writing half of a tree from the client that both use; nil
// is a tree that is only read.
type writer func(client *remote.Client) *layers

func openStack(cfg storeConfig, log *slog.Logger, w writer) (*stack, error) {
	if err := os.MkdirAll(cfg.cacheDir, 0o700); err != nil {
		return nil, &failure{text: "the cache directory cannot be made: " + err.Error(), hint: "name another with --cache-dir", code: exitFailed, err: err}
	}
	tokens := cfg.tokens()
	client, err := remote.New(remote.Options{
		Endpoint:    cfg.endpoint,
		Tokens:      tokens,
		Offline:     cfg.offline,
		ReadTimeout: cfg.readTimeout,
		APITimeout:  min(cfg.readTimeout, time.Minute),
		Logger:      log,
	})
	if err != nil {
		return nil, err
	}
	// The cache can find an object corrupt before there is a tree to tell.
	var tree atomic.Pointer[fs.Tree]
	cache, err := blockcache.Open(blockcache.Options{
		Dir:         filepath.Join(cfg.cacheDir, blobDir),
		DiskBytes:   cfg.cacheSize,
		MemoryBytes: max(cfg.memory, 1), // 0 would be the default
		OnCorrupt: func(id hub.ContentID) {
			if t := tree.Load(); t != nil {
				t.CorruptDropped(id)
			}
		},
		Logger: log,
	})
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	o := fs.Options{
		Source:  client,
		Cache:   cache,
		MetaDir: filepath.Join(cfg.cacheDir, "meta", endpointDir(cfg.endpoint)),
		Refresh: cfg.refresh,
		Offline: cfg.offline,
		Logger:  log,
	}
	var l *layers
	if w != nil {
		if l = w(client); l.cfg.readOnly == "" {
			o.Layers = l
			o.Source = newBranchSource{client, l}
			if l.cfg.write.syncRemote {
				o.WaitFor = l.waitFor
			}
		}
	}
	t, err := fs.New(o)
	if err != nil {
		return nil, errors.Join(err, cache.Close(), client.Close())
	}
	tree.Store(t)
	if l != nil {
		l.tree.Store(t)
	}
	return &stack{client, cache, t, tokens}, nil
}

// endpointDir names the directory of what is known of one Hub: listings and
// references of another must not be taken for its own.
func endpointDir(endpoint string) string {
	name := strings.TrimPrefix(strings.ToLower(endpoint), "https://")
	return url.PathEscape(strings.ReplaceAll(name, "://", "+"))
}

// Close ends everything, readers before what they read from.
func (s *stack) Close() error {
	return errors.Join(s.tree.Close(), s.cache.Close(), s.client.Close())
}

// unfitForCache says why a cache in dir would be slow, lost or in the way, or
// "".
func unfitForCache(dir string) string {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return ""
	}
	switch int64(st.Type) {
	case unix.TMPFS_MAGIC, unix.RAMFS_MAGIC:
		return "in memory (tmpfs), so it takes RAM and is lost at reboot"
	case unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC:
		return "on a network file system, where it is slow and its locks may not hold"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "on overlayfs, likely a container's own layer, and is lost with it"
	case unix.FUSE_SUPER_MAGIC:
		return "on a FUSE file system, where native reads are not possible"
	}
	return ""
}
