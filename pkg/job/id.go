package job

import (
	"encoding/base32"
	"errors"
	"strings"
	"time"

	"github.com/google/uuid"
)

// An ID names a job for ever: "job_" and the 26 Crockford base32 characters
// of a UUIDv7 (RFC 9562 section 5.7), in upper case. IDs sort by the
// millisecond they were made in; the zero value names no job.
type ID string

const idPrefix = "job_"

// crockford is Crockford's base32 alphabet: no I, L, O, U, so that an id can
// be read out over a telephone.
var crockford = base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding)

// ErrID is returned by ParseID for text that names no job.
var ErrID = errors.New("not a job id: want job_ and 26 Crockford base32 characters")

// NewID makes a fresh id from the wall clock and 74 random bits.
func NewID() ID { return FromUUID(uuid.Must(uuid.NewV7())) }

// FirstID sorts before every id that is made at t or later, and after every
// earlier one. It names no job.
func FirstID(t time.Time) ID {
	ms := t.UnixMilli()
	u := uuid.UUID{byte(ms >> 40), byte(ms >> 32), byte(ms >> 24), byte(ms >> 16), byte(ms >> 8), byte(ms)}
	return FromUUID(u)
}

// FromUUID gives the id that spells u.
func FromUUID(u uuid.UUID) ID { return ID(idPrefix + EncodeBase32(u)) }

// EncodeBase32 spells 16 bytes as 26 Crockford base32 characters, the form
// that every id of Tintype has after its prefix.
func EncodeBase32(u [16]byte) string { return crockford.EncodeToString(u[:]) }

// ParseID checks text that came from outside. Case does not matter; the id
// returned is in its one canonical spelling.
func ParseID(s string) (ID, error) {
	rest, ok := strings.CutPrefix(s, idPrefix)
	if !ok || len(rest) != 26 {
		return "", ErrID
	}
	rest = strings.ToUpper(rest)
	b, err := crockford.DecodeString(rest)
	if err != nil || len(b) != 16 {
		return "", ErrID
	}
	if u := uuid.UUID(b); u.Version() != 7 || EncodeBase32(u) != rest {
		return "", ErrID
	}
	return ID(idPrefix + rest), nil
}

// UUID is what the id spells; the zero one for text that is no id.
func (id ID) UUID() uuid.UUID {
	b, err := crockford.DecodeString(strings.TrimPrefix(string(id), idPrefix))
	if err != nil || len(b) != len(uuid.UUID{}) {
		return uuid.UUID{}
	}
	return uuid.UUID(b)
}

// Time is the moment the id was made, to the millisecond, in UTC; the zero
// time for text that is no id. The archive files a job under this day.
func (id ID) Time() time.Time {
	if len(id) != len(idPrefix)+26 {
		return time.Time{}
	}
	b, err := crockford.DecodeString(string(id[len(idPrefix):]))
	if err != nil {
		return time.Time{}
	}
	ms := int64(b[0])<<40 | int64(b[1])<<32 | int64(b[2])<<24 | int64(b[3])<<16 | int64(b[4])<<8 | int64(b[5])
	return time.UnixMilli(ms).UTC()
}
