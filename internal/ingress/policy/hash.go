package policy

import "strings"

// Hash is a format in which a password is stored.
type Hash uint8

// The formats.
const (
	Unknown    Hash = iota
	Bcrypt          // $2a$, $2b$, $2y$: htpasswd -B
	MD5Crypt        // $apr1$, $1$: htpasswd, openssl passwd
	SHA1            // {SHA}
	SaltedSHA1      // {SSHA}
	Plain           // {PLAIN}
)

// HashOf tells the format of a stored password.
func HashOf(hash string) Hash {
	for prefix, h := range map[string]Hash{"$2a$": Bcrypt, "$2b$": Bcrypt, "$2y$": Bcrypt, "$apr1$": MD5Crypt, "$1$": MD5Crypt,
		"{SHA}": SHA1, "{SSHA}": SaltedSHA1, "{PLAIN}": Plain} {
		if strings.HasPrefix(hash, prefix) {
			return h
		}
	}
	return Unknown
}
