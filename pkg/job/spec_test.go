package job

import (
	"math"
	"mime"
	"reflect"
	"strings"
	"testing"
)

func TestCheckURL(t *testing.T) {
	for raw, want := range map[string]string{
		"https://example.com":                   "https://example.com/",
		"HTTP://EXAMPLE.com:80/a/../b?x#frag":   "http://example.com/b?x#frag",
		`http:\\example.com\a`:                  "http://example.com/a",
		"http:/example.com":                     "http://example.com/",
		" \thttp://exa\nmple.com/ ":             "http://example.com/",
		"http://0x7f.1/":                        "http://127.0.0.1/", // an address is judged where it is dialled
		"http://2130706433/":                    "http://127.0.0.1/",
		"http://１２７.0.0.1/":                     "http://127.0.0.1/",
		"http://bücher.example/":                "http://xn--bcher-kva.example/",
		"https://example.com/%7Euser/ü":         "https://example.com/%7Euser/%C3%BC",
		"http://[::ffff:127.0.0.1]:8080/metric": "http://[::ffff:7f00:1]:8080/metric",
	} {
		got, err := CheckURL(raw)
		if err != nil {
			t.Errorf("%q: %v", raw, err)
		} else if got != want {
			t.Errorf("%q became %q, want %q", raw, got, want)
		}
	}
	for _, raw := range []string{
		"", "example.com", "//example.com", "/etc/passwd",
		"file:///etc/passwd", "FILE:///etc/passwd", " file:///etc/passwd", `file:\\/etc/passwd`, "fi\nle:///etc/passwd",
		"view-source:http://example.com/", "chrome://crash", "CHROME://version", "devtools://devtools/x",
		"javascript:alert(1)", "java\tscript:alert(1)", "data:text/html,x", "blob:http://example.com/x", "filesystem:http://e/x",
		"about:blank", "ftp://example.com/", "ws://example.com/", "http://", "http://user@example.com/", "https://u:p@example.com/",
		"http://exa mple.com/", "http://a*b.example/", "http://[::1", "http://example.com:99999/", "http://1.2.3.4.5.6.7.8.9.999/",
		"http://example.com/" + strings.Repeat("a", 16<<10),
	} {
		if got, err := CheckURL(raw); err == nil {
			t.Errorf("%.60q passed as %q", raw, got)
		} else if err.Field != "url" || !err.URL || err.Detail == "" {
			t.Errorf("%.60q: %+v", raw, err)
		}
	}
}

// What is wrong with a URL is told by its rule and never by its text, which may
// hold a password.
func TestWhyNoURL(t *testing.T) {
	for raw, want := range map[string]string{
		"http://127.0.0.1:99999/": "65535", "http://exa mple.com": "a space", "http://[::1": "no ]", "http://[::g]/": "no IPv6 address", "http://1.2.3.400/": "IPv4",
		"http://1.2.3.4.5/": "IPv4", "http://a:b/": "no port", "http://::1/": "brackets", "http://xn--a/": "IDNA", "example.com": "absolute", "http://bob:secret@a b/": "a space",
		"http://bob:secret@example.com/": "give basic_auth", "http://bob:secret@x:0x/": "no port", "": "absolute", "http://[1.2.3]/": "no IPv6 address",
	} {
		if _, err := CheckURL(raw); err == nil || !strings.Contains(err.Detail, want) || strings.Contains(err.Detail, "secret") {
			t.Errorf("%q: %v, want %q", raw, err, want)
		}
	}
	// Two sources, and one that is no URL: both are told, and what goes with a URL
	// is not said to lack one.
	s := Defaults()
	s.URL, s.HTML, s.Secrets.BasicAuth = "x", "y", "a:b"
	var told []string
	for _, e := range s.Normalize(60_000) {
		told = append(told, e.Error())
	}
	if len(told) != 2 || !strings.Contains(told[0], "not both") || !strings.Contains(told[1], "url: is not an absolute URL") {
		t.Errorf("%q", told)
	}
}

func FuzzCheckURL(f *testing.F) {
	for _, s := range []string{"https://example.com/", "file:///etc/passwd", `http:\\127.1`, "java\nscript:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		got, err := CheckURL(raw)
		if err != nil {
			return
		}
		if !strings.HasPrefix(got, "http://") && !strings.HasPrefix(got, "https://") {
			t.Fatalf("%q passed as %q", raw, got)
		}
		if again, err := CheckURL(got); err != nil || again != got {
			t.Fatalf("%q became %q and then %q, %v", raw, got, again, err)
		}
	})
}

func TestNormalizeNamesEveryFault(t *testing.T) {
	s := Spec{
		URL: "file:///x", HTML: "<p>", Format: "bmp", Quality: 0, Width: 0, Height: 10_001,
		DeviceScaleFactor: math.NaN(), WaitUntil: "loaded", DelayMS: -1, TimeoutMS: 60_001,
	}
	var fields []string
	for _, e := range s.Normalize(60_000) {
		fields = append(fields, e.Field)
		if e.Detail == "" {
			t.Errorf("%s: no words", e.Field)
		}
	}
	const want = "html url format quality width height device_scale_factor wait_until delay_ms timeout_ms"
	if got := strings.Join(fields, " "); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if errs := (&Spec{}).Normalize(1000); len(errs) == 0 || errs[0].Field != "url" {
		t.Errorf("neither url nor html: %v", errs)
	}
}

func TestDefaultsAreValid(t *testing.T) {
	s := Defaults()
	s.URL, s.Format = "https://Example.com", "jpg"
	if errs := s.Normalize(60_000); len(errs) > 0 {
		t.Fatal(errs[0])
	}
	if s.Format != JPEG || s.URL != "https://example.com/" || s.Host() != "example.com" {
		t.Errorf("normalised to %+v, host %q", s, s.Host())
	}
	back, err := ParseSpec(s.Marshal())
	if err != nil || !reflect.DeepEqual(back, &s) {
		t.Errorf("round trip gave %+v, %v", back, err)
	}
}

func TestHost(t *testing.T) {
	for raw, want := range map[string]string{
		"https://Example.COM":            "example.com",
		"http://a.test:8080?x=http://b/": "a.test",
		"http://[::1]:81/x:1":            "[::1]",
		"http://[2001:DB8::1]/":          "[2001:db8::1]",
		"http://bücher.example/#:9":      "xn--bcher-kva.example",
		"http://127.1":                   "127.0.0.1",
	} {
		s := Defaults()
		s.URL = raw
		if problems := s.Normalize(60_000); len(problems) > 0 {
			t.Errorf("%s: %v", raw, problems[0])
		} else if got := s.Host(); got != want {
			t.Errorf("host of %s is %q, want %q", s.URL, got, want)
		}
	}
	page := Defaults()
	page.HTML = "<p>://x/"
	if got := page.Host(); got != "" {
		t.Errorf("html has the host %q", got)
	}
}

// TestContentTypes: each names its format, and one of several parts would have
// to say what is between them (RFC 2046 section 5.1.1).
func TestContentTypes(t *testing.T) {
	for _, f := range Formats {
		kind, params, err := mime.ParseMediaType(f.ContentType())
		if err != nil || strings.HasPrefix(kind, "multipart/") && params["boundary"] == "" {
			t.Errorf("%s: %s: %v", f, f.ContentType(), err)
		}
		if got := FormatOf(f.ContentType()); got != f {
			t.Errorf("%s is of format %q, want %q", f.ContentType(), got, f)
		}
	}
	for contentType, want := range map[string]Format{"multipart/related": MHTML, "image/gif": "", "": ""} {
		if got := FormatOf(contentType); got != want {
			t.Errorf("%q is of format %q, want %q", contentType, got, want)
		}
	}
}
