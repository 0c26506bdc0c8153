package job

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLanguages(t *testing.T) {
	for header, want := range map[string]string{
		"":                               "[]",
		"de":                             "[de]",
		"de-CH, fr;q=0.9 ,en;q=0.5":      "[de-CH fr en]",
		"en;q=0.5,de-CH,fr;q=0.9":        "[de-CH fr en]",
		"*":                              "[]",
		"de;q=0, en":                     "[en]",
		"de;q=x, en, EN":                 "[en]",
		"e, engl, de-, 12, a1, zh-Hant":  "[zh-Hant]",
		"de-DE;q=0.8, de;q=0.8, en ;q=1": "[en de-DE de]",
	} {
		if got := fmt.Sprint(Languages(header)); got != want {
			t.Errorf("%q: %s, want %s", header, got, want)
		}
	}
	for tag, want := range map[string]string{
		"de": "de", "de-CH": "de-CH", "de-CH-1996": "de-CH", "zh-Hant-TW": "zh-Hant-TW", "es-419": "es-419",
		"en-a": "en", "aa-aaaa-aaaa": "aa-aaaa", "en-US-u-ca-buddhist": "en-US", "de-abcdefgh-1": "de",
	} {
		if got := Locale(tag); got != want {
			t.Errorf("%s: locale %s, want %s", tag, got, want)
		}
	}
}

func TestParseCookie(t *testing.T) {
	for line, want := range map[string]Cookie{
		"a=b":     {Name: "a", Value: "b", Path: "/"},
		" a = b ": {Name: "a", Value: "b", Path: "/"},
		"a=":      {Name: "a", Path: "/"},
		`a="b=c"`: {Name: "a", Value: `"b=c"`, Path: "/"},
		"a=b; Domain=.Example.COM; Path=/x; Secure; HttpOnly; SameSite=none; Expires=Wed, 21 Oct 2026 07:28:00 GMT; Max-Age=5": {
			Name: "a", Value: "b", Domain: "example.com", Path: "/x", Secure: true, HTTPOnly: true, SameSite: "None",
		},
		"__Host-a=b;secure;path=/":              {Name: "__Host-a", Value: "b", Path: "/", Secure: true},
		"__Http-a=b; Secure; HttpOnly; Path=/x": {Name: "__Http-a", Value: "b", Path: "/x", Secure: true, HTTPOnly: true},
		"__Host-Http-a=b; Secure; HttpOnly":     {Name: "__Host-Http-a", Value: "b", Path: "/", Secure: true, HTTPOnly: true},
		"a=b; Domain=127.0.0.1":                 {Name: "a", Value: "b", Path: "/", Domain: "127.0.0.1"},
		"a=b; Domain=büro.example":              {Name: "a", Value: "b", Path: "/", Domain: "xn--bro-hoa.example"},
		"a=grüße":                               {Name: "a", Value: "grüße", Path: "/"},
	} {
		got, err := ParseCookie(line)
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		if diff := cmp.Diff(want, *got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", line, diff)
		}
	}
	for _, line := range []string{
		"", "secretvalue", "=secretvalue", "a b=secretvalue", "a=secretvalue\r\nSet-Cookie: x=y", "a=secretvalue\x00",
		"a=secretvalue; Domain=", "a=secretvalue; Path=x", "a=secretvalue; SameSite=Sometimes", "a=secretvalue; SameSite=None",
		"__Http-a=secretvalue; Secure", "__http-a=secretvalue; HttpOnly", "__Host-Http-a=secretvalue; Secure; Path=/", "__Host-Http-a=secretvalue; Secure; HttpOnly; Domain=example.com",
		"__Secure-a=secretvalue", "__Host-a=secretvalue; Secure; Path=/x", "__Host-a=secretvalue; Secure; Domain=example.com",
		"a=secretvalue; Domain=com", "a=secretvalue; Domain=exa mple.com",
		"a=secretvalue; Domain=example.com/x", "a=secretvalue; Domain=example.com:80", "a=secretvalue; Domain=user@example.com",
		"a=secretvalue; Partitioned", "a=" + strings.Repeat("secretvalue", 400),
	} {
		if c, err := ParseCookie(line); err == nil {
			t.Errorf("%s: accepted as %+v", line, c)
		} else if strings.Contains(err.Error(), "secretvalue") {
			t.Errorf("the error repeats the cookie: %v", err)
		}
	}
}

func TestParseUpstream(t *testing.T) {
	for text, want := range map[string]Upstream{
		"proxy.example:3128":                      {Host: "proxy.example", Port: "3128"},
		"http://PROXY.example:80/":                {Host: "proxy.example", Port: "80"},
		"me:pass@proxy.example:8080":              {Host: "proxy.example", Port: "8080", User: "me", Password: "pass"},
		"me:p:a@s@proxy.example:8080":             {Host: "proxy.example", Port: "8080", User: "me", Password: "p:a@s"},
		"[2001:db8::1]:8080":                      {Host: "2001:db8::1", Port: "8080"},
		"0x7f.1:80":                               {Host: "127.0.0.1", Port: "80"},
		"me-session-1_country-de:x@gw.example:80": {Host: "gw.example", Port: "80", User: "me-session-1_country-de", Password: "x"},
	} {
		got, err := ParseUpstream(text)
		if err != nil || *got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"", "secret", "secret.example", "secret.example:", "secret.example:0", "secret.example:99999", "secret.example:x", "secret@proxy.example:80", ":secret@proxy.example:80",
		"socks5://secret.example:80", "https://secret.example:80", "a:secret\r\n@proxy.example:80", "secret.example/x:80", "sec ret:80", "::1:secret", "secret?x:80",
	} {
		if up, err := ParseUpstream(text); err == nil {
			t.Errorf("%q: accepted as %+v", text, up)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("the error repeats the option: %v", err)
		}
	}
	for text, want := range map[string]string{
		"http://a:b@x:3128/p": "nothing behind the port", "x:3128?q": "nothing behind the port", "x:3128/": "nothing behind the port", "x:99999": "1 to 65535", "x": "port is missing",
	} {
		if _, err := ParseUpstream(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// TestNetworkRules: which fields are refused, and that no value of a secret is
// repeated.
func TestNetworkRules(t *testing.T) {
	const url = "https://example.com/"
	header := func(name, value string) Secrets { return Secrets{Headers: map[string]string{name: value}} }
	for _, c := range []struct {
		name   string
		spec   Spec
		fields string
	}{
		{"nothing", Spec{URL: url}, ""},
		{"zone", Spec{URL: url, SpecNetwork: SpecNetwork{TZ: "Europe/Berlin"}}, ""},
		{"own zone", Spec{URL: url, SpecNetwork: SpecNetwork{TZ: "Local"}}, "tz"},
		{"the system's zone", Spec{URL: url, SpecNetwork: SpecNetwork{TZ: "localtime"}}, "tz"},
		{"the system's rules", Spec{URL: url, SpecNetwork: SpecNetwork{TZ: "posixrules"}}, "tz"},
		{"another copy", Spec{URL: url, SpecNetwork: SpecNetwork{TZ: "posix/Europe/Berlin"}}, "tz"},
		{"a copy with leap seconds", Spec{URL: url, SpecNetwork: SpecNetwork{TZ: "right/Europe/Berlin"}}, "tz"},
		{"no zone", Spec{URL: url, SpecNetwork: SpecNetwork{TZ: "Mars/Olympus"}}, "tz"},
		{"path as zone", Spec{URL: url, SpecNetwork: SpecNetwork{TZ: "../../etc/passwd"}}, "tz"},
		{"languages", Spec{URL: url, SpecNetwork: SpecNetwork{AcceptLang: "de-DE,de;q=0.9"}}, ""},
		{"no language", Spec{URL: url, SpecNetwork: SpecNetwork{AcceptLang: "*, 12"}}, "accept_lang"},
		{"empty pattern", Spec{URL: url, SpecNetwork: SpecNetwork{BlockURLs: []string{"*.x", " "}}}, "block_urls/1"},
		{"header", Spec{URL: url, Secrets: header("X-Api-Key", "secretvalue")}, ""},
		{"header of markup", Spec{HTML: "<p>", Secrets: header("X-Api-Key", "secretvalue")}, "headers"},
		{"line break", Spec{URL: url, Secrets: header("X-A", "secretvalue\r\nHost: x")}, "headers/X-A"},
		{"line break in a name", Spec{URL: url, Secrets: header("X-A\r\nB", "secretvalue")}, "headers/X-A\r\nB"},
		{"slash in a name", Spec{URL: url, Secrets: header("a/b", "secretvalue")}, "headers/a~1b"},
		{"twice", Spec{URL: url, Secrets: Secrets{Headers: map[string]string{"X-A": "secretvalue", "x-a": "2"}}}, "headers/x-a"},
		{"own authorization", Spec{URL: url, Secrets: header("Authorization", "Bearer secretvalue")}, ""},
		{"authorization", Spec{URL: url, Secrets: Secrets{Authorization: "Bearer secretvalue"}}, ""},
		{"two authorizations", Spec{URL: url, Secrets: Secrets{Authorization: "Bearer secretvalue", BasicAuth: "a:secretvalue"}}, ""},
		{"three authorizations", Spec{URL: url, Secrets: Secrets{Authorization: "x", BasicAuth: "a:b", Headers: map[string]string{"authorization": "secretvalue"}}}, "headers"},
		{"authorization of markup", Spec{HTML: "<p>", Secrets: Secrets{BasicAuth: "a:secretvalue"}}, "basic_auth"},
		{"bad authorization", Spec{URL: url, Secrets: Secrets{Authorization: "secretvalue\n"}}, "authorization"},
		{"cookie", Spec{URL: url, Secrets: Secrets{Cookies: []string{"a=secretvalue"}}}, ""},
		{"bad cookie", Spec{URL: url, Secrets: Secrets{Cookies: []string{"a=1", "secretvalue"}}}, "cookies/1"},
		{"all at once", Spec{URL: url, Secrets: Secrets{Cookies: []string{"secretvalue", "a=1", "=secretvalue"}, Headers: map[string]string{"Host": "x", "TE": "x", "X-A": "y"}}}, "headers/Host headers/TE cookies/0 cookies/2"},
		{"cookie of markup", Spec{HTML: "<p>", Secrets: Secrets{Cookies: []string{"a=secretvalue"}}}, "cookies/0"},
		{"cookie of a domain for markup", Spec{HTML: "<p>", Secrets: Secrets{Cookies: []string{"a=secretvalue; Domain=example.com"}}}, ""},
		{"proxy", Spec{URL: url, Secrets: Secrets{Proxy: "a:secretvalue@proxy.example:8080"}}, ""},
		{"bad proxy", Spec{URL: url, Secrets: Secrets{Proxy: "secretvalue"}}, "proxy"},
	} {
		var fields []string
		for _, e := range c.spec.checkNetwork() {
			fields = append(fields, e.Field)
			if strings.Contains(e.Detail, "secretvalue") {
				t.Errorf("%s: the detail repeats a secret: %s", c.name, e.Detail)
			}
		}
		if got := strings.Join(fields, " "); got != c.fields {
			t.Errorf("%s: refused %q, want %q", c.name, got, c.fields)
		}
	}
	for _, name := range []string{
		"Host", "connection", "Content-Length", "Transfer-Encoding", "Upgrade", "TE", "Trailer", "Keep-Alive", "Proxy-Authorization", "Proxy-Connection",
		"Cookie", "Origin", "User-Agent", "Accept-Language", "Accept-Encoding", "Sec-Fetch-Site", "sec-ch-ua", "Metadata", "Metadata-Flavor",
		"X-aws-ec2-metadata-token", "X-aws-ec2-metadata-token-ttl-seconds", "X-Google-Metadata-Request", "X-Tintype-Egress",
	} {
		s := Spec{URL: url, Secrets: header(name, "x")}
		var fields []string
		for _, e := range s.checkNetwork() {
			fields = append(fields, e.Field)
		}
		if !slices.Equal(fields, []string{"headers/" + name}) {
			t.Errorf("%s: refused %v", name, fields)
		}
	}
}
