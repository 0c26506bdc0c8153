package webhook

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/seal"
)

func secret(t testing.TB, text string) Secret {
	t.Helper()
	s, err := ParseSecret(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The first standard signature is the vector of Standard Webhooks' own
// libraries; the others are of openssl.
func TestSign(t *testing.T) {
	one := secret(t, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	two := secret(t, "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	for _, c := range []struct {
		id      string
		at      int64
		body    string
		secrets []Secret
		want    []Header
	}{
		{"msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, `{"test": 2432232314}`, []Secret{one}, []Header{
			{"webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"},
			{"webhook-timestamp", "1614265330"},
			{"webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
			{"X-Tintype-Signature", "t=1614265330,sha256=2e37df5d4a028c51a7f3133d64ae1e300d2c2c900f1b1d49d4369ad2530f8964"},
		}},
		{"msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, `{"test": 2432232314}`, []Secret{two, one}, []Header{
			{"webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"},
			{"webhook-timestamp", "1614265330"},
			{"webhook-signature", "v1,O4Gjv1HqPqsMrjmczoggs/sWA8gZD0VyHG+fLh4+ktI= v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
			{"X-Tintype-Signature", "t=1614265330,sha256=8dbc842b6599c1be049900723cebba01cdec937f060d8d59fd18e8efade1dbb7,sha256=2e37df5d4a028c51a7f3133d64ae1e300d2c2c900f1b1d49d4369ad2530f8964"},
		}},
		{"msg_0000000000000000000000000A", 1795329600, "", []Secret{two}, []Header{
			{"webhook-id", "msg_0000000000000000000000000A"},
			{"webhook-timestamp", "1795329600"},
			{"webhook-signature", "v1,LaGIVmhxzbdcHZnP5OeJFMY3RQbkgBnkv3IE+GRFN5k="},
			{"X-Tintype-Signature", "t=1795329600,sha256=3b4974726f9087222da90e038257ed54f82c66ad1211e05e725881718b057c95"},
		}},
	} {
		// Within its second, whatever is left of it.
		got := Sign(c.id, time.Unix(c.at, 999_999_999), []byte(c.body), c.secrets...)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s of %d secrets:\n got %q\nwant %q", c.id, len(c.secrets), got, c.want)
		}
	}
}

// Whatever is changed of a message changes its signature.
func FuzzSign(f *testing.F) {
	f.Add("msg_a", int64(1), []byte("{}"), "msg_b", int64(1), []byte("{}"))
	f.Add("msg_a", int64(1), []byte("{}"), "msg_a", int64(12), []byte("{}"))
	f.Add("msg_a", int64(1), []byte("2.{}"), "msg_a", int64(1), []byte("{}"))
	key := NewSecret()
	f.Fuzz(func(t *testing.T, idA string, atA int64, a []byte, idB string, atB int64, b []byte) {
		if strings.Contains(idA+idB, ".") {
			t.Skip("ids of messages have no dot")
		}
		one, two := Sign(idA, time.Unix(atA, 0), a, key), Sign(idB, time.Unix(atB, 0), b, key)
		same := idA == idB && atA == atB && string(a) == string(b)
		if (one[2] == two[2]) != same {
			t.Errorf("signatures %q and %q", one, two)
		}
		if (one[3] == two[3]) != (atA == atB && string(a) == string(b)) {
			t.Errorf("legacy signatures %q and %q", one, two)
		}
	})
}

func TestSecret(t *testing.T) {
	a, b := NewSecret(), NewSecret()
	if a.Text() == b.Text() {
		t.Fatal("two secrets are one")
	}
	if again := secret(t, a.Text()); again.Text() != a.Text() {
		t.Errorf("%s was read as %s", a.Text(), again.Text())
	}
	for _, bad := range []string{"", "whsec_", a.Text()[6:], "whpk_" + a.Text()[6:], "whsec_c2hvcnQ=", "whsec_" + strings.Repeat("A", 88), a.Text() + "!", strings.TrimRight(a.Text(), "=")} {
		_, err := ParseSecret(bad)
		if err == nil {
			t.Errorf("%q is a secret", bad)
		} else if len(bad) > 6 && strings.Contains(err.Error(), bad[6:]) {
			t.Errorf("the error repeats it: %v", err)
		}
	}
	printed, err := json.Marshal(map[string]any{"s": a})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{fmt.Sprint(a), fmt.Sprintf("%+v %#v %s %q", a, a, a, a), fmt.Sprintf("%+v", struct{ S Secret }{a}), a.LogValue().String(), string(printed)} {
		if strings.Contains(text, a.Text()[6:12]) || !strings.Contains(text, "***") {
			t.Errorf("printed as %s", text)
		}
	}
}

func TestSecretsOpen(t *testing.T) {
	box, err := seal.Parse(seal.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	other, err := seal.Parse(seal.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_795_329_600, 0)
	fresh, old := NewSecret(), NewSecret()
	sealed := func(s Secret, b *seal.Box, owner string) []byte { return s.Seal(b, seal.Endpoint, owner) }
	for name, c := range map[string]struct {
		secrets Secrets
		want    []Secret
		err     error
	}{
		"one":                        {Secrets{Sealed: sealed(fresh, box, "we_1")}, []Secret{fresh}, nil},
		"two":                        {Secrets{sealed(fresh, box, "we_1"), sealed(old, box, "we_1"), now.Add(1)}, []Secret{fresh, old}, nil},
		"the old one's end":          {Secrets{sealed(fresh, box, "we_1"), sealed(old, box, "we_1"), now}, []Secret{fresh}, nil},
		"another key":                {Secrets{Sealed: sealed(fresh, other, "we_1")}, nil, seal.ErrWrongKey},
		"another's":                  {Secrets{Sealed: sealed(fresh, box, "we_2")}, nil, seal.ErrDamaged},
		"none":                       {Secrets{}, nil, seal.ErrDamaged},
		"the old one is another's":   {Secrets{sealed(fresh, box, "we_1"), sealed(old, box, "we_2"), now.Add(1)}, []Secret{fresh}, seal.ErrDamaged},
		"the new one does not open":  {Secrets{sealed(fresh, other, "we_1"), sealed(old, box, "we_1"), now.Add(1)}, []Secret{old}, seal.ErrWrongKey},
		"what it holds is no secret": {Secrets{Sealed: box.Seal([]byte("x"), seal.Endpoint, "we_1")}, nil, errAny},
	} {
		got, err := c.secrets.Open(box, seal.Endpoint, "we_1", now)
		if !slices.EqualFunc(got, c.want, func(a, b Secret) bool { return a.Text() == b.Text() }) {
			t.Errorf("%s: %d secrets, want %d", name, len(got), len(c.want))
		}
		if c.err == errAny && err != nil {
			continue
		}
		if !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", name, err, c.err)
		}
	}
}

var errAny = errors.New("any")
