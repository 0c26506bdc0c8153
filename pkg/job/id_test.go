package job

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

func TestIDRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var u uuid.UUID
		copy(u[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "bytes"))
		u[6] = 0x70 | u[6]&0x0f // version 7
		u[8] = 0x80 | u[8]&0x3f
		id := FromUUID(u)
		got, err := ParseID(strings.ToLower(string(id)))
		if err != nil || got != id {
			t.Fatalf("ParseID of %s: %s, %v", id, got, err)
		}
		ms := int64(u[0])<<40 | int64(u[1])<<32 | int64(u[2])<<24 | int64(u[3])<<16 | int64(u[4])<<8 | int64(u[5])
		if id.Time().UnixMilli() != ms {
			t.Fatalf("%s was made at %d, says %d", id, ms, id.Time().UnixMilli())
		}
	})
}

func TestIDsSortByTime(t *testing.T) {
	before := time.Now().Add(-time.Millisecond)
	a := NewID()
	if a.Time().Before(before) || a.Time().After(time.Now()) {
		t.Errorf("%s says it was made at %s", a, a.Time())
	}
	if b := NewID(); b <= a {
		t.Errorf("%s is not after %s", b, a)
	}
	if first, next := FirstID(a.Time()), FirstID(a.Time().Add(time.Millisecond)); a <= first || a >= next || !first.Time().Equal(a.Time()) {
		t.Errorf("%s is not between %s and %s", a, first, next)
	}
}

func FuzzParseID(f *testing.F) {
	f.Add(string(NewID()))
	f.Add("job_")
	f.Add("job_ZZZZZZZZZZZZZZZZZZZZZZZZZZ")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseID(s)
		if err != nil {
			if !errors.Is(err, ErrID) || id != "" {
				t.Fatalf("%q: %q, %v", s, id, err)
			}
			return
		}
		if again, err := ParseID(string(id)); err != nil || again != id {
			t.Fatalf("%q became %q, which does not parse: %v", s, id, err)
		}
	})
}
