package hubtest

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"
)

// signer makes and checks signed URLs (hub-protocol §4.4). As with the real
// ones, the signature covers neither the method nor a Range.
type signer struct {
	now func() time.Time
	ttl time.Duration
	key [32]byte
	// epoch is part of the key pair id; a new one revokes all older URLs.
	epoch atomic.Int64
}

func newSigner(now func() time.Time, ttl time.Duration) *signer {
	s := &signer{now: now, ttl: ttl}
	rand.Read(s.key[:])
	return s
}

func (s *signer) expireAll() { s.epoch.Add(1) }

// sign adds the signature to an absolute URL, keeping its query.
func (s *signer) sign(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		panic("hubtest: signing a bad URL: " + err.Error())
	}
	q := u.Query()
	expires := strconv.FormatInt(s.now().Add(s.ttl).Unix(), 10)
	policy := fmt.Sprintf(`{"Statement":[{"Resource":"%s://%s%s*","Condition":{"DateLessThan":{"AWS:EpochTime":%s}}}]}`,
		u.Scheme, u.Host, u.EscapedPath(), expires)
	q.Set("Expires", expires)
	q.Set("Policy", base64.URLEncoding.EncodeToString([]byte(policy)))
	q.Set("Key-Pair-Id", s.keyPair())
	q.Set("Signature", s.mac(u.Path, q))
	u.RawQuery = q.Encode()
	return u.String()
}

// check says why a URL is refused, or "".
func (s *signer) check(u *url.URL) string {
	q := u.Query()
	signature := q.Get("Signature")
	if signature == "" {
		return "Missing Key-Pair-Id query parameter or cookie value"
	}
	q.Del("Signature")
	if !hmac.Equal([]byte(signature), []byte(s.mac(u.Path, q))) {
		return "Access denied"
	}
	expires, err := strconv.ParseInt(q.Get("Expires"), 10, 64)
	if err != nil || s.now().Unix() >= expires || q.Get("Key-Pair-Id") != s.keyPair() {
		return "Request has expired"
	}
	return ""
}

func (s *signer) keyPair() string { return fmt.Sprintf("K%013X", s.epoch.Load()) }

func (s *signer) mac(path string, q url.Values) string {
	q = cloneWithout(q, "Signature")
	m := hmac.New(sha256.New, s.key[:])
	fmt.Fprintf(m, "%s\n%s", path, q.Encode())
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

func cloneWithout(q url.Values, key string) url.Values {
	c := make(url.Values, len(q))
	for k, v := range q {
		if k != key {
			c[k] = v
		}
	}
	return c
}
