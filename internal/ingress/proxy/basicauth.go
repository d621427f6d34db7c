package proxy

import (
	"context"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/crypto/bcrypt"

	"fairway.dev/fairway/internal/ingress/policy"
)

// passwords checks passwords against stored hashes. What was right once is remembered under a key that only this process can make, because a
// good hash costs a tenth of a second, and every request brings its password. It is safe for concurrent use.
type passwords struct {
	key   [32]byte
	slots chan struct{} // bounds the hashes that are computed at the same time, so that guessing cannot starve everybody else

	mu   sync.Mutex
	good map[[32]byte]struct{}
}

// maxGood bounds what is remembered.
const maxGood = 8 << 10

func newPasswords() *passwords {
	p := &passwords{slots: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)), good: map[[32]byte]struct{}{}}
	_, _ = rand.Read(p.key[:]) // it cannot fail
	return p
}

// right tells whether a password is the one that was stored. The hash's cost is spent by at most half of the processors.
func (p *passwords) right(ctx context.Context, user, password, hash string) bool {
	h := sha256.New()
	h.Write(p.key[:])
	for _, s := range []string{user, password, hash} {
		n := len(s)
		h.Write([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
		h.Write([]byte(s))
	}
	var id [32]byte
	h.Sum(id[:0])
	p.mu.Lock()
	_, known := p.good[id]
	p.mu.Unlock()
	if known {
		return true
	}
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return false
	}
	if !matches(password, hash) {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.good) >= maxGood {
		clear(p.good)
	}
	p.good[id] = struct{}{}
	return true
}

// matches compares a password with a hash in one of the formats of policy.HashOf.
func matches(password, hash string) bool {
	same := func(want string) bool { return subtle.ConstantTimeCompare([]byte(want), []byte(hash)) == 1 }
	switch policy.HashOf(hash) {
	case policy.Bcrypt:
		return bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)) == nil
	case policy.MD5Crypt:
		magic := "$apr1$"
		if strings.HasPrefix(hash, "$1$") {
			magic = "$1$"
		}
		salt, _, ok := strings.Cut(hash[len(magic):], "$")
		return ok && same(md5Crypt(password, salt, magic))
	case policy.SHA1:
		sum := sha1.Sum([]byte(password))
		return same("{SHA}" + base64.StdEncoding.EncodeToString(sum[:]))
	case policy.SaltedSHA1:
		raw, err := base64.StdEncoding.DecodeString(hash[len("{SSHA}"):])
		if err != nil || len(raw) <= sha1.Size {
			return false
		}
		sum := sha1.Sum(append([]byte(password), raw[sha1.Size:]...))
		return subtle.ConstantTimeCompare(sum[:], raw[:sha1.Size]) == 1
	case policy.Plain:
		return same("{PLAIN}" + password)
	}
	return false
}

// md5Crypt is the MD5 scheme of crypt(3) and, with another magic, of Apache: a thousand rounds over password and salt.
func md5Crypt(password, salt, magic string) string {
	if len(salt) > 8 {
		salt = salt[:8]
	}
	pw := []byte(password)
	inner := md5.Sum([]byte(password + salt + password))
	h := md5.New()
	h.Write([]byte(password + magic + salt))
	for n := len(pw); n > 0; n -= md5.Size {
		h.Write(inner[:min(n, md5.Size)])
	}
	for n := len(pw); n > 0; n >>= 1 {
		if n&1 == 1 {
			h.Write([]byte{0})
		} else {
			h.Write(pw[:1])
		}
	}
	sum := h.Sum(nil)
	for i := range 1000 {
		h.Reset()
		part := func(password bool) {
			if password {
				h.Write(pw)
			} else {
				h.Write(sum)
			}
		}
		part(i&1 == 1)
		if i%3 != 0 {
			h.Write([]byte(salt))
		}
		if i%7 != 0 {
			h.Write(pw)
		}
		part(i&1 == 0)
		sum = h.Sum(nil)
	}
	const alphabet = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	out := []byte(magic + salt + "$")
	encode := func(v uint, n int) {
		for range n {
			out = append(out, alphabet[v&63])
			v >>= 6
		}
	}
	for i := range 5 {
		last := i + 12
		if last == 16 {
			last = 5
		}
		encode(uint(sum[i])<<16|uint(sum[i+6])<<8|uint(sum[last]), 4)
	}
	encode(uint(sum[11]), 2)
	return string(out)
}

// authenticate asks who comes, as far as the route wants to know, and answers requests of those who may not.
func (s *Server) authenticate(w http.ResponseWriter, r *http.Request, p *passage) bool {
	o := p.policy
	if o.Basic != nil && !s.basicAuth(r, o.Basic) {
		clear(w.Header())
		p.decorate(w.Header(), r)
		w.Header()["Www-Authenticate"] = []string{`Basic realm="` + o.Basic.Realm + `"`}
		writeRefusal(w, r, http.StatusUnauthorized, "give name and password")
		return false
	}
	if o.Basic != nil {
		p.replace("Authorization") // the password is for the proxy
	}
	if o.External != nil && !p.route.Acme() {
		return s.externalAuth(w, r, p)
	}
	if o.SatisfyAny && o.Basic == nil && o.External == nil && !p.admitsClient() {
		p.refuse(w, r, http.StatusForbidden, "this client may not come in")
		return false
	}
	return true
}

func (s *Server) basicAuth(r *http.Request, b *policy.BasicAuth) bool {
	if len(r.Header["Authorization"]) != 1 {
		return false // two could be read differently by whoever comes next
	}
	user, password, ok := r.BasicAuth()
	if !ok || len(password) > 1024 {
		return false
	}
	hash, ok := b.Users[user]
	return ok && s.passwords.right(r.Context(), user, password, hash)
}
