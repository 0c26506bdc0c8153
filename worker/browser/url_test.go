package browser

import (
	"bufio"
	"encoding/json"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-rod/rod/lib/proto"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/needtest"
)

// A urlCase is one of the Web Platform Tests: how a URL is written, and how it
// is serialised; not at all if it is none.
type urlCase struct{ raw, href string }

// webPlatformURLs reads the tests that come with the URL parser's module.
func webPlatformURLs(t *testing.T) (cases []urlCase) {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/nlnwa/whatwg-url").Output()
	if err != nil {
		t.Fatal(err)
	}
	read := func(name string, into any) {
		b, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		var entries []json.RawMessage
		if err := json.Unmarshal(b, &entries); err != nil {
			t.Fatal(err)
		}
		var good []json.RawMessage
		for _, e := range entries {
			if e[0] == '{' { // the others are comments
				good = append(good, e)
			}
		}
		b, _ = json.Marshal(good)
		if err := json.Unmarshal(b, into); err != nil {
			t.Fatal(err)
		}
	}
	var parses []struct {
		Input, Href string
		Base        *string
		Failure     bool
	}
	read("urltestdata.json", &parses)
	for _, p := range parses {
		c := urlCase{raw: p.Input, href: p.Href}
		if p.Base != nil {
			// Without its base it is another test, whose result the browser tells;
			// with it, it is what came of it.
			c.href = "?"
			cases = append(cases, urlCase{raw: p.Href, href: p.Href})
		}
		cases = append(cases, c)
	}
	for _, name := range []string{"IdnaTestV2.json", "toascii.json"} {
		var hosts []struct {
			Input  string
			Output *string
		}
		read(name, &hosts)
		for _, h := range hosts {
			cases = append(cases, urlCase{raw: "https://" + h.Input + "/x", href: "?"})
		}
	}
	// What comes of setting a part of a URL is a URL again.
	var setters map[string]json.RawMessage
	b, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "testdata", "setters_tests.json"))
	if err == nil {
		err = json.Unmarshal(b, &setters)
	}
	if err != nil {
		t.Fatal(err)
	}
	delete(setters, "comment")
	n := 0
	for _, part := range slices.Sorted(maps.Keys(setters)) {
		var tests []struct {
			Href     string
			Expected struct{ Href string }
		}
		if err := json.Unmarshal(setters[part], &tests); err != nil {
			t.Fatalf("setters of %s: %v", part, err)
		}
		for _, s := range tests {
			n++
			cases = append(cases, urlCase{raw: s.Href, href: "?"})
			if h := s.Expected.Href; h != "" {
				cases = append(cases, urlCase{raw: h, href: h})
			}
		}
	}
	if n < 200 {
		t.Fatalf("only %d tests of setters", n)
	}
	for _, s := range spellings {
		cases = append(cases, urlCase{raw: "http://" + s + "/", href: "?"}, urlCase{raw: "http:" + s, href: "?"}, urlCase{raw: `http:\\` + s + `\x`, href: "?"})
	}
	return cases
}

// TestURLs holds the gate of the API against the browser: what the gate
// accepts, it spells as the browser will, so that what was checked is what is
// navigated to; and nothing but http and https passes.
func TestURLs(t *testing.T) {
	needtest.Browser(t)
	cases := webPlatformURLs(t)
	if len(cases) < 3300 {
		t.Fatalf("only %d cases", len(cases))
	}
	b := launch(t, Config{Dir: openDir(t), Listeners: 1})
	l, err := b.Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	tab, err := b.NewTab(t.Context(), l.Addr().(*net.TCPAddr).Port)
	if err != nil {
		t.Fatal(err)
	}
	var accepted, raws []string
	for _, c := range cases {
		raws = append(raws, c.raw)
		got, refused := job.CheckURL(c.raw)
		switch {
		case refused == nil && !isWeb(got):
			t.Errorf("%q passes as %q", c.raw, got)
		case refused == nil && c.href != "?" && got != c.href:
			t.Errorf("%q is spelled %q, want %q", c.raw, got, c.href)
		case refused != nil && c.href != "" && c.href != "?" && isWeb(c.href) && !strings.ContainsAny(c.href, "@*"):
			t.Errorf("%q is refused: %v", c.raw, refused)
		}
		accepted = append(accepted, got)
	}
	theirs := hrefs(t, tab, raws)
	again := hrefs(t, tab, accepted)
	differ := 0
	for i, c := range cases {
		if accepted[i] == "" {
			continue
		}
		if again[i] != accepted[i] {
			t.Errorf("%q was checked as %q, and the browser would go to %q", c.raw, accepted[i], again[i])
		}
		if theirs[i] != accepted[i] {
			differ++
			t.Logf("%q: the gate reads %q, the browser %q", c.raw, accepted[i], theirs[i])
		}
	}
	t.Logf("%d cases, %d read in another way than by this browser", len(cases), differ)
	wantNavigated(t, tab, l, accepted)
}

func isWeb(u string) bool { return strings.HasPrefix(u, "http://") || strings.HasPrefix(u, "https://") }

// hrefs are the URLs as the browser serialises them; empty where it finds none.
func hrefs(t *testing.T, tab *Tab, raws []string) (out []string) {
	t.Helper()
	list, err := json.Marshal(raws)
	if err != nil {
		t.Fatal(err)
	}
	res, err := proto.RuntimeEvaluate{
		Expression:    string(list) + ".map(u => { try { return new URL(u).href } catch { return '' } })",
		ReturnByValue: true,
	}.Call(tab.Within(t.Context(), 20*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(res.Result.Value.JSON("", "")), &out); err != nil || len(out) != len(raws) {
		t.Fatalf("%d answers for %d, %v", len(out), len(raws), err)
	}
	return out
}

// wantNavigated navigates to some of the URLs and reads what the proxy is
// asked for.
func wantNavigated(t *testing.T, tab *Tab, l net.Listener, urls []string) {
	t.Helper()
	asked := make(chan string, 100)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				close(asked)
				return
			}
			// By hand: net/http refuses what browsers send, such as a lone %.
			if line, err := bufio.NewReader(c).ReadString('\n'); err == nil {
				asked <- strings.TrimSuffix(strings.TrimPrefix(line, "GET "), " HTTP/1.1\r\n")
			}
			c.Write([]byte("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"))
			c.Close()
		}
	}()
	n := 0
	for i, u := range urls {
		host, path, _ := strings.Cut(strings.TrimPrefix(u, "http://"), "/")
		if !strings.HasPrefix(u, "http://") || slices.Contains(urls[:i], u) {
			continue
		}
		if strings.Contains(strings.Trim(host, "[]"), ":") && host[0] != '[' || host == "foo" || host == "facebook.com" {
			continue // ports that the browser does not go to, hosts that it asks by https
		}
		if path == "" && i%5 > 0 {
			continue // only a host: some will do
		}
		n++
		if _, err := (proto.PageNavigate{URL: u}).Call(tab.Within(t.Context(), 10*time.Second)); err != nil {
			t.Fatal(err)
		}
		select {
		case got := <-asked:
			if want, _, _ := strings.Cut(u, "#"); got != want {
				t.Errorf("navigated to %q, and the proxy was asked for %q", u, got)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("navigated to %q, and the proxy was asked for nothing", u)
		}
	}
	if n < 50 {
		t.Errorf("only %d URLs to navigate to", n)
	}
}
