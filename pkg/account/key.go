package account

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"time"
)

// A Key lets its holder act for an account.
type Key struct {
	ID      string // 12 lower-case base32 characters, shown in lists and logs
	Account string
	Name    string
	Hash    []byte  // SHA-256 of the whole key; the key itself is kept nowhere
	Scopes  []Scope // what it opens; none: everything
	// SigningSecret signs links in its name. Empty: it signs none. It is shown
	// with the key, and kept, since both sides compute the signature.
	SigningSecret string
	CreatedAt     time.Time
	ExpiresAt     time.Time // zero: never
	RevokedAt     time.Time // zero: live
}

// A Scope is what a key may be used for.
type Scope string

// Every scope there is.
const (
	// ScopeRead looks at jobs, results, usage and the account.
	ScopeRead Scope = "read"
	// ScopeRender submits, cancels, deletes and changes webhooks.
	ScopeRender Scope = "render"
)

// May reports whether the key opens something of this scope.
func (k *Key) May(s Scope) bool { return len(k.Scopes) == 0 || slices.Contains(k.Scopes, s) }

const (
	keyPrefix     = "tt_live_"
	signingPrefix = "tt_sign_"
)

// ErrKey is returned for text that cannot be a key.
var ErrKey = errors.New("not an API key: want tt_live_<id>_<secret>")

// NewKey makes a key for the account and the text to show once. Its secret
// has 160 random bits.
func NewKey(account, name string) (Key, string) {
	id := strings.ToLower(rand.Text()[:12])
	text := keyPrefix + id + "_" + strings.ToLower(rand.Text()+rand.Text()[:6])
	signing := signingPrefix + strings.ToLower(rand.Text()+rand.Text()[:6])
	return Key{ID: id, Account: account, Name: name, Hash: digest(text), SigningSecret: signing}, text
}

// Sign is the signature of a link whose raw query, before its last parameter
// sig, is signed: HMAC-SHA256 (RFC 2104) under the key's secret, in lower-case
// hex.
func (k *Key) Sign(signed string) string {
	mac := hmac.New(sha256.New, []byte(k.SigningSecret))
	mac.Write([]byte(signed))
	return hex.EncodeToString(mac.Sum(nil))
}

// KeyID reads the id out of a presented key without trusting it.
func KeyID(text string) (string, error) {
	rest, ok := strings.CutPrefix(text, keyPrefix)
	id, secret, ok2 := strings.Cut(rest, "_")
	if !ok || !ok2 || !ValidKeyID(id) || len(secret) < 26 || !inKeys(secret) || len(text) > 200 {
		return "", ErrKey
	}
	return id, nil
}

// ValidKeyID reports whether a key can have this id: any other is nobody's,
// and bytes that are no text never get as far as the archive.
func ValidKeyID(id string) bool { return len(id) == 12 && inKeys(id) }

// inKeys reports whether s has no other characters than NewKey writes: the
// base32 alphabet (RFC 4648 section 6) in lower case.
func inKeys(s string) bool { return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz234567") == "" }

// Matches compares a presented key in constant time.
func (k *Key) Matches(text string) bool {
	return subtle.ConstantTimeCompare(k.Hash, digest(text)) == 1
}

// Live reports whether the key opens anything at the moment now.
func (k *Key) Live(now time.Time) bool {
	return k.RevokedAt.IsZero() && (k.ExpiresAt.IsZero() || now.Before(k.ExpiresAt))
}

func digest(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return sum[:]
}
