package egress

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/job"
)

func lists(t testing.TB, kind string, lines ...string) *Lists {
	t.Helper()
	name := filepath.Join(t.TempDir(), "list.txt")
	if err := os.WriteFile(name, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := LoadLists([]string{kind + name})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestOwnList(t *testing.T) {
	l, err := LoadLists(nil)
	if err != nil || len(l.hosts) < 100 || l.hasURLRules() || l.Rules != 0 {
		t.Fatalf("%d hosts, %v", len(l.hosts), err)
	}
	for _, c := range []struct {
		host          string
		ads, trackers bool
		want          Reason
	}{
		{"doubleclick.net", true, true, BlockedAd},
		{"AD.doubleclick.NET.", true, false, BlockedAd},
		{"ad.doubleclick.net", false, true, ""},
		{"www.googletagmanager.com", true, true, BlockedTracker},
		{"www.googletagmanager.com", true, false, ""},
		{"notdoubleclick.net", true, true, ""},
		{"doubleclick.net.example.com", true, true, ""},
		{"net", true, true, ""},
		{"example.com", true, true, ""},
	} {
		if got := l.host(c.host, c.ads, c.trackers, nil); got != c.want {
			t.Errorf("%s %t %t: %q, want %q", c.host, c.ads, c.trackers, got, c.want)
		}
	}
	if got := l.host("stats.hotjar.com", true, true, []string{"www.hotjar.com"}); got != "" {
		t.Errorf("on its own page a tracker's host is %q", got)
	}
}

func TestListFiles(t *testing.T) {
	l := lists(t, "", "! comment", "# comment", "[Adblock Plus 2.0]", "", "0.0.0.0 hosts.example # note", "plain.example",
		"||rule.example^", "||third.example^$third-party", "@@||good.rule.example^", "||path.example/ads/*.js", "/banner/*/img^", "|https://start.example/",
		".swf|", "-adframe-$subdocument,~third-party", "/promo.js$script,domain=shop.example|~news.shop.example", "@@/promo.js?ok",
		"example.com##.ad", "/regex[0-9]/", "||popup.example^$popup", "two words")
	if l.Rules != 12 || l.Skipped != 4 {
		t.Errorf("%d rules, %d skipped", l.Rules, l.Skipped)
	}
	for _, c := range []struct {
		url, kind, page string
		want            bool
	}{
		{"http://hosts.example/", "image", "a.example", true},
		{"http://x.plain.example/", "image", "a.example", true},
		{"http://rule.example/", "image", "a.example", true},
		{"http://good.rule.example/", "image", "a.example", false},
		{"http://third.example/", "image", "a.example", true},
		{"https://path.example/ads/x/y.js", "script", "a.example", true},
		{"https://sub.path.example/ads/y.js?1", "script", "a.example", true},
		{"https://path.example/y.js", "script", "a.example", false},
		{"https://a.example/?u=path.example/ads/y.js", "script", "a.example", false},
		{"https://a.example/banner/1/img", "image", "a.example", true},
		{"https://a.example/banner/1/img?x", "image", "a.example", true},
		{"https://a.example/banner/1/imgs", "image", "a.example", false},
		{"https://start.example/x", "image", "a.example", true},
		{"http://a.example/?https://start.example/", "image", "a.example", false},
		{"http://a.example/X.SWF", "object", "a.example", true},
		{"http://a.example/x.swf?1", "object", "a.example", false},
		{"http://cdn.a.example/x-adframe-1", "subdocument", "www.a.example", true},
		{"http://b.example/x-adframe-1", "subdocument", "www.a.example", false},
		{"http://cdn.a.example/x-adframe-1", "image", "www.a.example", false},
		{"http://c.example/promo.js", "script", "www.shop.example", true},
		{"http://c.example/promo.js?ok", "script", "www.shop.example", false},
		{"http://c.example/promo.js", "script", "news.shop.example", false},
		{"http://c.example/promo.js", "script", "a.example", false},
		{"http://c.example/promo.js", "image", "shop.example", false},
	} {
		host := hostOnly(strings.Split(c.url, "/")[2])
		got := l.host(host, true, false, nil)
		if got == "" {
			got = l.url(ListedRequest{URL: c.url, Host: host, Type: c.kind, Page: c.page}, true, false)
		}
		if (got == BlockedAd) != c.want {
			t.Errorf("%s as %s of %s: %q", c.url, c.kind, c.page, got)
		}
	}
	if got := lists(t, "trackers=", "||rule.example^").host("rule.example", true, true, nil); got != BlockedTracker {
		t.Errorf("of a list of trackers: %q", got)
	}
	_, err := LoadLists([]string{"/nothing/there", "other=x"})
	if err == nil || !strings.Contains(err.Error(), "/nothing/there") || !strings.Contains(err.Error(), `"other=x"`) {
		t.Errorf("error: %v", err)
	}
}

func TestBlockedHosts(t *testing.T) {
	site, address := origin(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "there") })
	host, port, _ := strings.Cut(address, ":")
	g := guard(t, Config{Allow: []string{address, "ads.test:" + port}, DNS: nameServer(t, func(string, int) []string { return []string{host} }), Lists: lists(t, "", "||ads.test^")})
	p, err := Open(g)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	c := through(t, p)
	plain := "http://www.ads.test:" + port + "/x"
	for range 2 {
		if resp, body := get(t, c, plain); resp.StatusCode != 200 || body != "there" {
			t.Errorf("not asked for: %d %s", resp.StatusCode, body)
		}
		p.Block(Block{Trackers: true})
	}
	p.Block(Block{Ads: true})
	resp, _ := get(t, c, plain)
	if why, ok := p.Marked(resp.Header.Get(MarkerHeader)); resp.StatusCode != 403 || !ok || why != BlockedAd {
		t.Errorf("%d %q", resp.StatusCode, why)
	}
	if _, _, resp := connect(t, p, "sub.ads.test:443"); resp.StatusCode != 403 {
		t.Errorf("tunnel: %d", resp.StatusCode)
	}
	if why, ok := p.Failure("https://sub.ads.test/any"); !ok || why != BlockedAd {
		t.Errorf("tunnel: %q", why)
	}
	if resp, _ := get(t, c, site+"/y"); resp.StatusCode != 200 {
		t.Errorf("another host: %d", resp.StatusCode)
	}
	p.Spare("www.ads.test")
	if resp, _ := get(t, c, plain); resp.StatusCode != 200 {
		t.Errorf("spared: %d", resp.StatusCode)
	}
	if blocked := p.Stats().Blocked; len(blocked) != 2 || blocked[0] != (job.Resource{URL: plain, Reason: "block_ads"}) {
		t.Errorf("blocked %+v", blocked)
	}
}

// TestLongURLs: a page can spell a URL that takes its rules time by its square,
// or that would, if they looked at all of it again at each word.
func TestLongURLs(t *testing.T) {
	lists := lists(t, "", "/ads/*/track.", "-banner*=click&", "||example.com^*/pixel*.gif|")
	judge := func(path string) Reason {
		return lists.url(ListedRequest{URL: "http://example.com/" + path, Host: "example.com", Type: "image", Page: "example.org"}, true, true)
	}
	for path, want := range map[string]Reason{
		"ads/x/track.js": BlockedAd, "a/ads/ads/track.": BlockedAd, "ads/track.js": "", "x-banner-banner=click&": BlockedAd,
		"a/pixel/pixel.gif": BlockedAd, "x/pixel.png/pixel.gif": BlockedAd, "a/pixel.gif?": "",
	} {
		if got := judge(path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, part := range []string{"ads/track/", "-banner/click/", "a.", "/pixel.gif/"} {
			if why := judge(strings.Repeat(part, 2<<20/len(part))); why != "" {
				t.Errorf("%s: %q", part, why)
			}
		}
	}()
	select {
	case <-done:
	case <-time.After(30 * time.Second): // it takes milliseconds, or hours
		t.Fatal("a long URL takes too long")
	}
}

// TestSocketsAreTold: a WebSocket is told from a page by what its tunnel begins
// with.
func TestSocketsAreTold(t *testing.T) {
	secure := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "there") }))
	secure.EnableHTTP2 = true
	secure.StartTLS()
	t.Cleanup(secure.Close)
	address := strings.TrimPrefix(secure.URL, "https://")
	_, clear := origin(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "there") })
	open := func(judge func(string) Reason) *Proxy {
		p := open(t, address, clear)
		if judge != nil {
			p.Block(Block{Socket: judge})
		}
		return p
	}
	shake := func(p *Proxy, protocols ...string) error {
		c, br, resp := connect(t, p, address)
		if resp.StatusCode != 200 {
			t.Fatalf("status %d", resp.StatusCode)
		}
		return tls.Client(&begun{Conn: c, r: br}, &tls.Config{InsecureSkipVerify: true, NextProtos: protocols}).Handshake()
	}
	ask := func(p *Proxy) string {
		c, br, _ := connect(t, p, clear)
		fmt.Fprintf(c, "GET /chat?x HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", clear)
		resp, err := http.ReadResponse(bufio.NewReader(br), nil)
		if err != nil {
			return err.Error()
		}
		b, _ := io.ReadAll(resp.Body)
		return string(b)
	}
	var judged []string
	none := open(nil)
	pass := open(func(u string) Reason { judged = append(judged, u); return "" })
	refuse := open(func(string) Reason { return BlockedType })
	for name, p := range map[string]*Proxy{"without a judge": none, "let pass": pass} {
		if err := shake(p, "http/1.1"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := ask(p); got != "there" {
			t.Errorf("%s: %s", name, got)
		}
	}
	if want := []string{"wss://" + address + "/", "ws://" + clear + "/chat?x"}; fmt.Sprint(judged) != fmt.Sprint(want) {
		t.Errorf("judged %v, want %v", judged, want)
	}
	if err := shake(refuse, "h2", "http/1.1"); err != nil {
		t.Errorf("a page over TLS: %v", err)
	}
	if err := shake(refuse, "http/1.1"); err == nil {
		t.Error("a WebSocket over TLS passed")
	}
	if got := ask(refuse); got == "there" {
		t.Error("a WebSocket passed")
	}
	if why, known := refuse.Failure("https://" + address + "/page"); known {
		t.Errorf("a page of that host is blamed for the WebSocket: %q", why)
	}
	if b := refuse.Stats().Blocked; len(b) != 2 || b[0] != (job.Resource{URL: "wss://" + address + "/", Reason: string(BlockedType)}) || b[1].URL != "ws://"+clear+"/chat?x" {
		t.Errorf("blocked %+v", b)
	}
}

// upstreamProxy is an HTTP proxy of somebody else, which wants a password. It
// connects every name to the address to.
func upstreamProxy(t *testing.T, to string) (address string, saw func() []string) {
	var asked []string
	seen := make(chan string, 100)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Method + " " + r.RequestURI
		if r.Header.Get("Proxy-Authorization") != "Basic bWU6cGFzcw==" {
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		if r.Method != http.MethodConnect {
			fmt.Fprintf(w, "by way of the proxy: %s %s", r.RequestURI, r.Header.Get("Proxy-Authorization"))
			return
		}
		far, err := net.Dial("tcp", to)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		near, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		io.WriteString(near, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { io.Copy(far, rw); far.Close() }()
		io.Copy(near, far)
		near.Close()
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://"), func() []string {
		for {
			select {
			case a := <-seen:
				asked = append(asked, a)
			default:
				return asked
			}
		}
	}
}

func TestThrough(t *testing.T) {
	site, address := origin(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "direct") })
	up, saw := upstreamProxy(t, address)
	host, port, _ := strings.Cut(up, ":")
	p := open(t, up)
	p.Through(&job.Upstream{Host: host, Port: port, User: "me", Password: "pass"})
	c := through(t, p)
	// A name that nobody here could resolve, and a path that net/url refuses.
	for _, u := range []string{"http://inside.customer.test/a", "http://inside.customer.test//b?c"} {
		if resp, body := get(t, c, u); resp.StatusCode != 200 || !strings.HasPrefix(body, "by way of the proxy: "+u+" ") {
			t.Errorf("%s: %d %s", u, resp.StatusCode, body)
		}
	}
	conn, br, resp := connect(t, p, "inside.customer.test:443")
	if resp.StatusCode != 200 {
		t.Fatalf("tunnel: %d", resp.StatusCode)
	}
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if b, _ := io.ReadAll(br); !strings.HasSuffix(string(b), "direct") {
		t.Errorf("tunnel: %s", b)
	}
	for _, u := range []string{site + "/", "http://10.0.0.1/", "http://localhost/", "http://inside.customer.test:25/"} {
		if resp, _ := get(t, c, u); resp.StatusCode != 403 {
			t.Errorf("%s: %d", u, resp.StatusCode)
		}
	}
	for _, target := range []string{"169.254.169.254:80", "[::1]:443", "inside.customer.test:6379"} {
		if _, _, resp := connect(t, p, target); resp.StatusCode != 403 {
			t.Errorf("%s: %d", target, resp.StatusCode)
		}
	}
	if got := saw(); len(got) != 3 || got[2] != "CONNECT inside.customer.test:443" {
		t.Errorf("the proxy was asked for %v", got)
	}
	if resp, _ := get(t, c, DemoURL); resp.StatusCode != 200 {
		t.Errorf("the demo page: %d", resp.StatusCode)
	}
}

func TestThroughFails(t *testing.T) {
	_, address := origin(t, func(http.ResponseWriter, *http.Request) {})
	up, _ := upstreamProxy(t, address)
	host, port, _ := strings.Cut(up, ":")
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	l.Close()
	for _, c := range []struct {
		name  string
		allow []string
		up    job.Upstream
		want  Reason
		code  job.Code
	}{
		{"wrong password", []string{up}, job.Upstream{Host: host, Port: port, User: "me", Password: "wrong"}, ProxyFailed, job.ConnectionRefused},
		{"nobody there", []string{closed}, job.Upstream{Host: "127.0.0.1", Port: strings.Split(closed, ":")[1]}, ProxyFailed, job.ConnectionRefused},
		{"not allowed", nil, job.Upstream{Host: host, Port: port}, ProxyRefused, job.AddressRefused},
		{"private", nil, job.Upstream{Host: "10.0.0.1", Port: "8080"}, ProxyRefused, job.AddressRefused},
		{"port", nil, job.Upstream{Host: "8.8.8.8", Port: "6379"}, ProxyRefused, job.AddressRefused},
	} {
		p := open(t, c.allow...)
		p.Through(&c.up)
		resp, _ := get(t, through(t, p), "http://somewhere.test/")
		if why, ok := p.Marked(resp.Header.Get(MarkerHeader)); !ok || why != c.want || why.Code() != c.code {
			t.Errorf("%s: %d %q", c.name, resp.StatusCode, why)
		}
		if _, _, resp := connect(t, p, "somewhere.test:443"); resp.StatusCode < 400 {
			t.Errorf("%s: tunnel %d", c.name, resp.StatusCode)
		}
		if why, _ := p.Failure("https://somewhere.test/"); why != c.want {
			t.Errorf("%s: tunnel %q", c.name, why)
		}
	}
}
