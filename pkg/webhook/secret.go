package webhook

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/tintype/tintype/pkg/seal"
)

const (
	secretPrefix = "whsec_"
	// Bytes of a secret: those that are made, and those that Standard Webhooks
	// allows.
	madeSecret, leastSecret, mostSecret = 32, 24, 64
	// BothSecrets is how long after a rotation the secret before still signs.
	BothSecrets = 24 * time.Hour
)

// A Secret is what signs. Its zero value is none.
type Secret struct {
	key []byte
}

// NewSecret makes a secret of 256 random bits.
func NewSecret() Secret {
	key := make([]byte, madeSecret)
	_, _ = rand.Read(key) // never fails
	return Secret{key}
}

// ParseSecret reads what Text writes. Its error never repeats the text.
func ParseSecret(text string) (Secret, error) {
	rest, ok := strings.CutPrefix(text, secretPrefix)
	key, err := base64.StdEncoding.DecodeString(rest)
	if !ok || err != nil || len(key) < leastSecret || len(key) > mostSecret {
		return Secret{}, fmt.Errorf("not a webhook secret: want %s and %d to %d bytes in base64", secretPrefix, leastSecret, mostSecret)
	}
	return Secret{key}, nil
}

// Text is the secret as its owner is shown it. All else that prints a secret
// hides it.
func (s Secret) Text() string { return secretPrefix + base64.StdEncoding.EncodeToString(s.key) }

// String hides the secret.
func (Secret) String() string { return secretPrefix + "***" }

// GoString hides the secret.
func (s Secret) GoString() string { return s.String() }

// LogValue hides the secret.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText hides the secret.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Seal is the secret as it is kept.
func (s Secret) Seal(box *seal.Box, as seal.Purpose, owner string) []byte {
	return box.Seal([]byte(s.Text()), as, owner)
}

// Secrets are what signs, as it is kept: sealed.
type Secrets struct {
	Sealed    []byte
	OldSealed []byte // signs too, until then; nil: there is none
	OldUntil  time.Time
}

// Open gives what signs at the moment now, the newest first: never none
// without an error. One of two that does not open is left out, with an error
// beside the other, so that what can be signed is.
func (s Secrets) Open(box *seal.Box, as seal.Purpose, owner string, now time.Time) ([]Secret, error) {
	sealed := [][]byte{s.Sealed}
	if len(s.OldSealed) > 0 && now.Before(s.OldUntil) {
		sealed = append(sealed, s.OldSealed)
	}
	var live []Secret
	var errs []error
	for _, one := range sealed {
		text, err := box.Open(one, as, owner)
		if err == nil {
			var secret Secret
			if secret, err = ParseSecret(string(text)); err == nil {
				live = append(live, secret)
				continue
			}
		}
		errs = append(errs, fmt.Errorf("the secret of %s: %w", owner, err))
	}
	return live, errors.Join(errs...)
}
