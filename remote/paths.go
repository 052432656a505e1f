package remote

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"net/url"

	"hfmount/remote/hub"
)

// pathsBatch is how many paths one call asks about (hub-protocol §3.5).
const pathsBatch = 500

// Paths looks up paths at a snapshot (hub-protocol §3.5), in as many calls as
// it takes. What does not exist is left out; the order is the Hub's. As with
// [Client.List], one entry that makes no sense fails the whole.
func (c *Client) Paths(ctx context.Context, s hub.Snapshot, paths []string) ([]hub.Entry, error) {
	k := call{op: "look up paths in", repo: s.Ref.Repo}
	if err := c.ready(k); err != nil {
		return nil, err
	}
	if !s.Commit.Valid() {
		return nil, k.fail(errInvalid, "not a commit: %q", string(s.Commit))
	}
	var out []hub.Entry
	address := c.apiURL(s.Ref.Repo, "/paths-info/"+url.PathEscape(string(s.Commit)))
	for len(paths) > 0 {
		group := paths[:min(len(paths), pathsBatch)]
		paths = paths[len(group):]
		asked := make(map[string]bool, len(group))
		for _, p := range group {
			if err := hub.CheckPath(p); err != nil {
				return nil, k.fail(errInvalid, "%v", err)
			}
			asked[p] = true
		}
		ans, err := c.post(ctx, k, address, map[string]any{"paths": group, "expand": false})
		if err != nil {
			return nil, err
		}
		entries, err := parseTree(k, ans, "", true)
		if err != nil {
			c.stats.failed(err)
			return nil, err
		}
		for _, e := range entries {
			if !asked[e.Path] { // or it comes twice
				err := k.bad("an answer about %q, which was not asked for", e.Path)
				c.stats.failed(err)
				return nil, err
			}
			delete(asked, e.Path)
		}
		out = append(out, entries...)
	}
	return out, nil
}

// ListAll lists dir ("" is the root) with everything beneath it.
func (c *Client) ListAll(ctx context.Context, s hub.Snapshot, dir string) ([]hub.Entry, error) {
	var out []hub.Entry
	for e, err := range c.List(ctx, s, dir, true) {
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

// ReadAll reads a whole file of at most limit bytes and verifies it against
// its content id; iofs.ErrInvalid for a longer one. Bytes that are not those
// are asked for once more, then it is hub.ErrBadAnswer.
func (c *Client) ReadAll(ctx context.Context, s hub.Snapshot, e hub.Entry, limit int64) ([]byte, error) {
	k := call{op: "read", repo: s.Ref.Repo, path: e.Path}
	if e.Size > limit {
		return nil, k.fail(errInvalid, "%d bytes are more than %d", e.Size, limit)
	}
	for try := 0; ; try++ {
		b, err := c.readOnce(ctx, s, e)
		if err != nil {
			return nil, err
		}
		got := contentOf(e.Content().Algo, b)
		if got == e.Content().Hex {
			return b, nil
		}
		if try > 0 {
			err := k.bad("the content is %s, listed as %s", got, e.Content().Hex)
			c.stats.failed(err)
			return nil, err
		}
	}
}

func (c *Client) readOnce(ctx context.Context, s hub.Snapshot, e hub.Entry) ([]byte, error) {
	r, err := c.OpenRange(ctx, s, e, 0, e.Size, false)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b := make([]byte, e.Size)
	_, err = io.ReadFull(r, b)
	return b, err
}

// contentOf hashes b as a.
func contentOf(a hub.Algo, b []byte) string {
	var h hash.Hash
	if a == hub.SHA256 {
		h = sha256.New()
	} else {
		h = sha1.New()
		fmt.Fprintf(h, "blob %d\x00", len(b))
	}
	h.Write(b)
	return hex.EncodeToString(h.Sum(nil))
}
