// Package seal keeps secrets that have to be kept themselves, because they are
// used again: what signs webhooks and links, and what a job says to its page's
// server to be let in.
//
// It promises:
//
//  1. What is sealed can be read with the installation's key alone, and
//     cannot be changed unseen: AES-256-GCM (NIST SP 800-38D) with a random
//     nonce.
//  2. It opens only as what it was sealed as: its purpose and its owner are
//     part of the seal, so that a row that was copied to another account, or
//     into another column, opens nothing.
//  3. It begins with the format's version and the key's id, so that a wrong key
//     is told from damaged bytes.
//  4. Its digests tell whether two secrets are the same one to those alone who
//     have the key: nobody else can try what a secret may be.
//
// It leaves to others where the key comes from and where sealed bytes are kept.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
)

// A Purpose is what a sealed secret is for.
type Purpose string

// Every purpose, and whose id the owner is.
const (
	Endpoint Purpose = "webhook endpoint"    // signs what it is sent; of the endpoint
	Account  Purpose = "webhooks of account" // signs what a job's own URL is sent; of the account
	Link     Purpose = "links of key"        // signs links; of the API key
	Request  Purpose = "requests of account" // what jobs say to their pages' servers; of the account
	check    Purpose = "check"               // of nobody
)

const (
	// KeySize is the length of an installation's key, in bytes.
	KeySize = 32
	// MostPlain is the longest secret that is sealed. With it a nonce of 96
	// random bits is good for 2^32 secrets (SP 800-38D section 8.3).
	MostPlain = 64 << 10

	version = 1
	idSize  = 4
	head    = 1 + idSize
)

var (
	// ErrWrongKey is of what another installation's key sealed.
	ErrWrongKey = errors.New("it is sealed with another key")
	// ErrDamaged is of bytes that were changed, or sealed as something else.
	ErrDamaged = errors.New("it does not open: it was changed, or belongs to somebody else")
)

// A Box seals and opens with one key. It is safe for concurrent use.
type Box struct {
	aead    cipher.AEAD
	id      [idSize]byte
	digests []byte // key of Digest
}

// New is a box of that key.
func New(key []byte) (*Box, error) {
	if len(key) != KeySize {
		return nil, fmt.Errorf("a secret key has %d bytes, not %d", KeySize, len(key))
	}
	// What encrypts and what names the key are derived apart, so that the name
	// tells nothing (RFC 5869).
	derived, err := hkdf.Key(sha256.New, key, nil, "tintype seal 1", KeySize+idSize)
	if err != nil {
		return nil, fmt.Errorf("derive the seal's key: %w", err)
	}
	block, err := aes.NewCipher(derived[:KeySize])
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	digests, err := hkdf.Key(sha256.New, key, nil, "tintype digest 1", KeySize)
	if err != nil {
		return nil, fmt.Errorf("derive the key of digests: %w", err)
	}
	return &Box{aead: aead, id: [idSize]byte(derived[KeySize:]), digests: digests}, nil
}

// NewKey makes a key, as text.
func NewKey() string {
	key := make([]byte, KeySize)
	_, _ = rand.Read(key) // never fails
	return base64.StdEncoding.EncodeToString(key)
}

// Parse is a box of the key that text is: 32 bytes in base64, with or without
// its padding. Errors never repeat the text.
func Parse(text string) (*Box, error) {
	key, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(strings.TrimSpace(text), "="))
	if err != nil || len(key) != KeySize {
		return nil, fmt.Errorf("want %d bytes in base64, such as `head -c %d /dev/urandom | base64` prints", KeySize, KeySize)
	}
	return New(key)
}

// ID names the key in logs and errors, and tells nothing of it.
func (b *Box) ID() string { return hex.EncodeToString(b.id[:]) }

// LogValue keeps a key out of logs.
func (b *Box) LogValue() slog.Value { return slog.StringValue("key " + b.ID()) }

// String keeps a key out of what is printed.
func (b *Box) String() string { return "key " + b.ID() }

// GoString is String.
func (b *Box) GoString() string { return b.String() }

// Seal gives the sealed form of a secret of at most MostPlain bytes.
func (b *Box) Seal(plain []byte, as Purpose, owner string) []byte {
	if len(plain) > MostPlain {
		panic("seal: this is no secret, it is a document")
	}
	sealed := append(make([]byte, 0, head+len(plain)+b.aead.Overhead()), version)
	sealed = append(sealed, b.id[:]...)
	return b.aead.Seal(sealed, nil, plain, b.context(as, owner))
}

// Open gives back what was sealed as that, by that owner. Its error is, or
// wraps, ErrWrongKey or ErrDamaged.
func (b *Box) Open(sealed []byte, as Purpose, owner string) ([]byte, error) {
	switch {
	case len(sealed) < head:
		return nil, ErrDamaged
	case sealed[0] != version:
		return nil, fmt.Errorf("%w: version %d is not known to this release", ErrDamaged, sealed[0])
	case [idSize]byte(sealed[1:head]) != b.id:
		return nil, fmt.Errorf("%w: with %s, and this is %s", ErrWrongKey, hex.EncodeToString(sealed[1:head]), b.ID())
	}
	plain, err := b.aead.Open(nil, nil, sealed[head:], b.context(as, owner))
	if err != nil {
		return nil, ErrDamaged
	}
	return plain, nil
}

// Digest is 32 bytes that are the same for the same secret, purpose and owner,
// and tell nothing to who has not the key (HMAC-SHA256).
func (b *Box) Digest(plain []byte, as Purpose, owner string) []byte {
	mac := hmac.New(sha256.New, b.digests)
	mac.Write(b.context(as, owner))
	mac.Write([]byte{0})
	mac.Write(plain)
	return mac.Sum(nil)
}

// context is what a seal is bound to. No purpose holds a zero byte, so no two
// pairs are written alike.
func (b *Box) context(as Purpose, owner string) []byte {
	return append([]byte("\x01"+string(as)+"\x00"), owner...)
}

// Check gives a sealed value by which a later start knows that its key is this
// one.
func (b *Box) Check() []byte { return b.Seal(nil, check, "") }

// Checks reports whether Check made it with this key.
func (b *Box) Checks(sealed []byte) error {
	_, err := b.Open(sealed, check, "")
	return err
}
