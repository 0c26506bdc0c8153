package webhook

import (
	"net/http"
	"strings"
	"testing"
)

func TestCheckURL(t *testing.T) {
	for _, c := range []struct {
		raw  string
		http bool
		want string // serialised, or what the refusal holds after a "!"
	}{
		{"https://example.com", false, "https://example.com/"},
		{"HTTPS://EXAMPLE.com:443/Hook?a=b#c", false, "https://example.com/Hook?a=b"},
		{" https:\\\\example.com/a/../b\n", false, "https://example.com/b"},
		{"https://例え.jp/é", false, "https://xn--r8jz45g.jp/%C3%A9"},
		{"https://[::1]:8443/", false, "https://[::1]:8443/"}, // judged where it is dialled
		{"https://0x7f.1/", false, "https://127.0.0.1/"},
		{"http://example.com/", true, "http://example.com/"},
		{"http://example.com/", false, "!--webhook-allow-http"},
		{"https://example.com/100%", false, "!%25"},
		{"https://example.com/100%25?%zz", false, "https://example.com/100%25?%zz"},
		{"https://{host}/", false, "!its host"},
		{"ftp://example.com/", true, `!scheme "ftp"`},
		{"file:///etc/passwd", true, `!scheme "file"`},
		{"javascript:alert(1)", true, `!scheme "javascript"`},
		{"example.com/hook", false, "!not an absolute URL"},
		{"", false, "!not an absolute URL"},
		{"https://", false, "!not an absolute URL"},
		{"https://user@example.com/", false, "!credentials"},
		{"https://:pass@example.com/", false, "!credentials"},
		{"https://example.com/" + strings.Repeat("a", MostURL-20), false, "https://example.com/" + strings.Repeat("a", MostURL-20)},
		{"https://example.com/" + strings.Repeat("a", MostURL-19), false, "!is 2049 bytes long"},
		{"https://example.com/" + strings.Repeat(" a", 1000), false, "!once it is escaped"},
	} {
		got, err := CheckURL(c.raw, c.http)
		if want, refused := strings.CutPrefix(c.want, "!"); refused {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %q, %v; want a refusal with %q", c.raw, got, err, want)
			}
			continue
		}
		if err != nil || got != c.want {
			t.Errorf("%q: %q, %v; want %q", c.raw, got, err, c.want)
		}
	}
}

func FuzzCheckURL(f *testing.F) {
	f.Add("https://user:pass@example.com:80/a?b#c", true)
	f.Fuzz(func(t *testing.T, raw string, plain bool) {
		once, err := CheckURL(raw, plain)
		if err != nil {
			if len(raw) > 12 && strings.Contains(err.Error(), raw) {
				t.Errorf("the refusal repeats the address: %v", err)
			}
			return
		}
		if again, err := CheckURL(once, plain); err != nil || again != once {
			t.Errorf("%q was stored as %q and reads as %q, %v", raw, once, again, err)
		}
		if _, err := http.NewRequest("POST", once, nil); err != nil {
			t.Errorf("%q cannot be sent to: %v", once, err)
		}
		if strings.ContainsAny(once, "#@") && strings.ContainsAny(strings.Split(once, "/")[2], "#@") {
			t.Errorf("%q has credentials or a fragment", once)
		}
	})
}

func TestRedacted(t *testing.T) {
	for raw, want := range map[string]string{
		"https://hooks.example.com/services/T0/B0/secret?token=x": "https://hooks.example.com/…",
		"https://example.com:8443/":                               "https://example.com:8443/…",
		"not a URL":                                               "(no URL)",
	} {
		if got := Redacted(raw); got != want {
			t.Errorf("%s: %s, want %s", raw, got, want)
		}
	}
}
