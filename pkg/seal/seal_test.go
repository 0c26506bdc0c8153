package seal

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func newBox(t testing.TB) *Box {
	t.Helper()
	b, err := Parse(NewKey())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSeal(t *testing.T) {
	b := newBox(t)
	for _, plain := range []string{"", "s", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", strings.Repeat("x", MostPlain)} {
		one, two := b.Seal([]byte(plain), Link, "k1"), b.Seal([]byte(plain), Link, "k1")
		if bytes.Equal(one, two) {
			t.Error("sealed twice to the same bytes: equal secrets can be told")
		}
		if len(plain) > 3 && bytes.Contains(one, []byte(plain)) {
			t.Error("the sealed form holds the secret")
		}
		for _, sealed := range [][]byte{one, two} {
			if got, err := b.Open(sealed, Link, "k1"); err != nil || string(got) != plain {
				t.Errorf("opened to %d bytes, %v", len(got), err)
			}
		}
	}
}

// What was sealed as one thing opens as no other.
func TestBound(t *testing.T) {
	b := newBox(t)
	sealed := b.Seal([]byte("secret"), Endpoint, "we_1")
	for _, as := range []struct {
		purpose Purpose
		owner   string
	}{{Account, "we_1"}, {Link, "we_1"}, {check, "we_1"}, {Endpoint, "we_2"}, {Endpoint, ""}, {Endpoint, "we_1\x00"}, {Endpoint + "\x00", "we_1"}} {
		if _, err := b.Open(sealed, as.purpose, as.owner); !errors.Is(err, ErrDamaged) {
			t.Errorf("opened as %q of %q: %v", as.purpose, as.owner, err)
		}
	}
}

// Every byte counts, and none too few or too many.
func TestDamaged(t *testing.T) {
	b := newBox(t)
	sealed := b.Seal([]byte("secret"), Endpoint, "we_1")
	for i := range sealed {
		for bit := range 8 {
			bad := bytes.Clone(sealed)
			bad[i] ^= 1 << bit
			want := ErrDamaged
			if i >= 1 && i < head {
				want = ErrWrongKey
			}
			if _, err := b.Open(bad, Endpoint, "we_1"); !errors.Is(err, want) {
				t.Errorf("byte %d, bit %d: %v", i, bit, err)
			}
		}
		if _, err := b.Open(sealed[:i], Endpoint, "we_1"); !errors.Is(err, ErrDamaged) {
			t.Errorf("cut to %d bytes: %v", i, err)
		}
	}
	if _, err := b.Open(append(bytes.Clone(sealed), 0), Endpoint, "we_1"); !errors.Is(err, ErrDamaged) {
		t.Errorf("a byte more: %v", err)
	}
}

func TestWrongKey(t *testing.T) {
	one, two := newBox(t), newBox(t)
	if one.ID() == two.ID() {
		t.Fatal("two keys with one id")
	}
	_, err := two.Open(one.Seal([]byte("secret"), Endpoint, "we_1"), Endpoint, "we_1")
	if !errors.Is(err, ErrWrongKey) || !strings.Contains(err.Error(), one.ID()) || !strings.Contains(err.Error(), two.ID()) {
		t.Errorf("the wrong key: %v", err)
	}
	if err := two.Checks(one.Check()); !errors.Is(err, ErrWrongKey) {
		t.Errorf("the check of another key: %v", err)
	}
	if err := one.Checks(one.Check()); err != nil {
		t.Errorf("its own check: %v", err)
	}
}

// What a key seals stays readable: this was sealed when the format was made.
func TestFormat(t *testing.T) {
	b, err := Parse(base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef")))
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := base64.StdEncoding.DecodeString(sealedThen)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := b.Open(sealed, Endpoint, "we_00000000000000000000000000"); err != nil || string(got) != "a secret of old" {
		t.Errorf("opened to %q, %v; sealed now it is %s", got, err,
			base64.StdEncoding.EncodeToString(b.Seal([]byte("a secret of old"), Endpoint, "we_00000000000000000000000000")))
	}
}

func TestParse(t *testing.T) {
	key := NewKey()
	box, err := Parse(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{key + "\n", strings.TrimRight(key, "="), " " + key} {
		if b, err := Parse(text); err != nil || b.ID() != box.ID() {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, text := range []string{"", "secret", key[:20], key + key, "!" + key[1:], base64.StdEncoding.EncodeToString(make([]byte, 31)), base64.StdEncoding.EncodeToString(make([]byte, 33))} {
		_, err := Parse(text)
		if err == nil {
			t.Errorf("%q is a key", text)
		} else if text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("the error repeats what may be a secret: %v", err)
		}
	}
	if _, err := New([]byte("short")); err == nil {
		t.Error("a key of 5 bytes")
	}
}

// A box that is printed by mistake tells its name.
func TestPrinted(t *testing.T) {
	b := newBox(t)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(verb, b); got != "key "+b.ID() {
			t.Errorf("%s prints %q", verb, got)
		}
	}
	if got := b.LogValue().String(); got != "key "+b.ID() {
		t.Errorf("logged as %q", got)
	}
}

func FuzzOpen(f *testing.F) {
	b := newBox(f)
	f.Add(b.Seal([]byte("secret"), Link, "k"))
	f.Add([]byte{})
	f.Add([]byte{version, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, sealed []byte) {
		if _, err := b.Open(sealed, Account, "acc"); err == nil {
			t.Error("bytes that nobody sealed open")
		}
	})
}

const sealedThen = "AUhexkXJ+sTRXONBYq/HOF5zrObKg/BK5OaeQ5bdmNHD0fgrM2wXQu9dDkPSc7pn"
