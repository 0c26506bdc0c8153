package egress

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/tintype/tintype/pkg/job"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open starts a proxy whose pages may reach the allowed destinations.
func open(t *testing.T, allow ...string) *Proxy {
	t.Helper()
	dns := nameServer(t, func(string, int) []string { return nil })
	p, err := Open(guard(t, Config{Allow: allow, DNS: dns}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// through is a client of the proxy that follows no redirect.
func through(t *testing.T, p *Proxy) *http.Client {
	tr := &http.Transport{
		Proxy:              http.ProxyURL(&url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", p.Port())}),
		DisableCompression: true,
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// origin starts a site and gives its URL and HOST:PORT.
func origin(t *testing.T, h http.HandlerFunc) (url, address string) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL, strings.TrimPrefix(s.URL, "http://")
}

func get(t *testing.T, c *http.Client, url string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestForward(t *testing.T) {
	var seen http.Header
	site, address := origin(t, func(w http.ResponseWriter, r *http.Request) {
		seen = r.Header.Clone()
		w.Header().Set(MarkerHeader, "stolen address_refused")
		w.Header().Set("Proxy-Authenticate", "Basic")
		w.Header().Set("X-Own", "yes")
		switch r.URL.Path {
		case "/echo":
			body, _ := io.ReadAll(r.Body)
			w.Write(body)
		case "/304":
			w.WriteHeader(http.StatusNotModified)
		case "/302":
			w.Header().Set("Location", "/x")
			w.WriteHeader(http.StatusFound)
		default:
			fmt.Fprintf(w, "%s %s host %s", r.Method, r.RequestURI, r.Host)
		}
	})
	p := open(t, address)
	c := through(t, p)
	resp, body := get(t, c, site+"/a?b=%20c", "Proxy-Authorization", "Basic eA==", "X-Mine", "1", "Connection", "X-Hop", "X-Hop", "1", MarkerHeader, "x")
	if body != "GET /a?b=%20c host "+address || resp.StatusCode != 200 {
		t.Errorf("%d %q", resp.StatusCode, body)
	}
	if resp.Header.Get(MarkerHeader) != "" || resp.Header.Get("Proxy-Authenticate") != "" || resp.Header.Get("X-Own") != "yes" {
		t.Errorf("answer's header %v", resp.Header)
	}
	for _, h := range []string{"Proxy-Authorization", "Proxy-Connection", "X-Hop", MarkerHeader, "X-Forwarded-For", "Via"} {
		if seen.Get(h) != "" {
			t.Errorf("the origin saw %s: %s", h, seen.Get(h))
		}
	}
	if seen.Get("X-Mine") != "1" {
		t.Error("the origin missed a header")
	}
	if resp, _ := get(t, c, site+"/302"); resp.StatusCode != 302 || resp.Header.Get("Location") != "/x" {
		t.Errorf("redirect: %d %v", resp.StatusCode, resp.Header)
	}
	if resp, _ := get(t, c, site+"/304"); resp.StatusCode != 304 {
		t.Errorf("304 became %d", resp.StatusCode)
	}
	if resp, err := c.Head(site + "/h"); err != nil || resp.StatusCode != 200 || resp.ContentLength <= 0 {
		t.Errorf("HEAD: %v, %v", resp, err)
	}
	sent := make([]byte, 300_000)
	rand.Read(sent)
	for name, body := range map[string]io.Reader{"sized": bytes.NewReader(sent), "chunked": io.MultiReader(bytes.NewReader(sent))} {
		resp, err := c.Post(site+"/echo", "application/octet-stream", body)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !bytes.Equal(got, sent) {
			t.Errorf("%s post: %d of %d bytes, %v", name, len(got), len(sent), err)
		}
	}
	if s := p.Stats(); s.Requests != 6 || s.Up < 600_000 || s.Down < 600_000 || len(s.Blocked)+len(s.Failed) != 0 {
		t.Errorf("stats %+v", s)
	}
}

// TestSpelling sends targets that net/url refuses.
func TestSpelling(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	lines := make(chan string, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			line, _ := bufio.NewReader(c).ReadString('\n')
			lines <- strings.TrimSpace(line)
			io.WriteString(c, "HTTP/1.0 200 OK\r\n\r\nhello")
			c.Close()
		}
	}()
	address := l.Addr().String()
	p := open(t, address)
	for target, want := range map[string]string{
		"/100%/?a=%zz": "GET /100%/?a=%zz HTTP/1.1",
		"/a|b{c}":      "GET /a|b{c} HTTP/1.1",
		"":             "GET / HTTP/1.1",
		"?q":           "GET /?q HTTP/1.1",
		"//double":     "GET http://" + address + "//double HTTP/1.1",
	} {
		c := dialProxy(t, p)
		fmt.Fprintf(c, "GET http://%s%s HTTP/1.1\r\nHost: %s\r\n\r\n", address, target, address)
		if got := <-lines; got != want {
			t.Errorf("%q reached the origin as %q", target, got)
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != 200 {
			t.Errorf("%q: %v %v", target, resp, err)
		}
		c.Close()
	}
}

func dialProxy(t *testing.T, p *Proxy) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(p.Port()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestRefusals: an answer of ours is marked, carries no text, and leaves a
// frame as it was.
func TestRefusals(t *testing.T) {
	closed, _ := net.Listen("tcp", "127.0.0.1:0")
	dead := closed.Addr().String()
	closed.Close()
	broken, _ := net.Listen("tcp", "127.0.0.1:0")
	t.Cleanup(func() { broken.Close() })
	go func() {
		for {
			c, err := broken.Accept()
			if err != nil {
				return
			}
			http.ReadRequest(bufio.NewReader(c))
			c.(*net.TCPConn).SetLinger(0)
			c.Close()
		}
	}()
	asking, _ := origin(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusProxyAuthRequired) })
	p := open(t, dead, broken.Addr().String(), strings.TrimPrefix(asking, "http://"))
	c := through(t, p)
	for _, f := range []struct {
		url    string
		status int
		why    Reason
	}{
		{"http://127.0.0.1/", 403, Refused},
		{"http://169.254.169.254/latest", 403, Refused},
		{"http://[::1]:8080/", 403, Refused},
		{"http://other.tintype.internal/", 502, NotResolved},
		{"http://" + dead + "/", 502, ConnRefused},
		{"http://" + broken.Addr().String() + "/", 502, ConnReset},
		{asking + "/", 502, NoAnswer},
	} {
		for _, navigation := range []bool{false, true} {
			u, want := f.url+"?n="+strconv.FormatBool(navigation), f.status
			var header []string
			if navigation {
				header, want = []string{"Upgrade-Insecure-Requests", "1"}, 204
			}
			resp, body := get(t, c, u, header...)
			why, ok := p.Marked(resp.Header.Get(MarkerHeader))
			if resp.StatusCode != want || body != "" || !ok || why != f.why {
				t.Errorf("%s: %d %q, marked %q %t", u, resp.StatusCode, body, why, ok)
			}
			if why, ok := p.Failure(u + "#fragment"); !ok || why != f.why {
				t.Errorf("%s: the proxy knows %q %t", u, why, ok)
			}
		}
	}
	if _, ok := p.Marked("guessed address_refused"); ok {
		t.Error("a marker without the nonce is believed")
	}
	if _, ok := p.Failure("http://never.example/"); ok {
		t.Error("a failure of what was never asked for")
	}
	s := p.Stats()
	if len(s.Blocked) != 6 || len(s.Failed) != 8 || s.Blocked[0] != (job.Resource{URL: "http://127.0.0.1/?n=false", Reason: "address_refused"}) {
		t.Errorf("stats %+v", s)
	}
}

// TestFlush reads each piece before the origin sends the next.
func TestFlush(t *testing.T) {
	next := make(chan struct{})
	site, address := origin(t, func(w http.ResponseWriter, _ *http.Request) {
		for i := range 3 {
			fmt.Fprintf(w, "piece %d\n", i)
			w.(http.Flusher).Flush()
			<-next
		}
	})
	c := through(t, open(t, address))
	resp, err := c.Get(site)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	r := bufio.NewReader(resp.Body)
	for i := range 3 {
		if line, err := r.ReadString('\n'); err != nil || line != fmt.Sprintf("piece %d\n", i) {
			t.Fatalf("%q %v", line, err)
		}
		next <- struct{}{}
	}
	if _, err := r.ReadByte(); err != io.EOF {
		t.Errorf("end: %v", err)
	}
}

// TestBreaks: a body that is not whole must not look whole.
func TestBreaks(t *testing.T) {
	site, address := origin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/sized" {
			w.Header().Set("Content-Length", "1000")
		}
		io.WriteString(w, "some")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	c := through(t, open(t, address))
	for _, path := range []string{"/sized", "/chunked"} {
		resp, err := c.Get(site + path)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(resp.Body); err == nil || string(body) != "some" {
			t.Errorf("%s: %q, %v", path, body, err)
		}
		resp.Body.Close()
	}
}

// TestHangUp: an origin that is slow is left when the browser leaves.
func TestHangUp(t *testing.T) {
	began, left := make(chan struct{}), make(chan struct{})
	_, address := origin(t, func(_ http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
		close(left)
	})
	p := open(t, address)
	c := dialProxy(t, p)
	fmt.Fprintf(c, "GET http://%s/ HTTP/1.1\r\nHost: %s\r\n\r\n", address, address)
	<-began
	c.Close()
	<-left
}

func TestVirtualHosts(t *testing.T) {
	p, other := open(t), open(t)
	c := through(t, p)
	if resp, body := get(t, c, DemoURL); resp.StatusCode != 200 || !strings.Contains(body, "<h1>Tintype</h1>") {
		t.Errorf("demo: %d %.80q", resp.StatusCode, body)
	}
	if resp, _ := get(t, c, DemoURL+"x"); resp.StatusCode != 404 || resp.Header.Get(MarkerHeader) != "" {
		t.Errorf("demo/x: %d", resp.StatusCode)
	}
	const doc = "<p>Grüße \x00 %s"
	own := p.ServeHTML(doc)
	resp, body := get(t, c, own)
	if resp.StatusCode != 200 || body != doc || resp.Header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Errorf("own: %d %q %v", resp.StatusCode, body, resp.Header)
	}
	if resp, _ := get(t, c, own+"secret"); resp.StatusCode != 404 {
		t.Errorf("own/secret: %d", resp.StatusCode)
	}
	if resp, _ := get(t, through(t, other), own); resp.StatusCode != 502 {
		t.Errorf("another job's markup: %d", resp.StatusCode)
	}
	if resp, _ := get(t, c, strings.Replace(DemoURL, ".internal", ".internal:8080", 1)); resp.StatusCode != 502 {
		t.Errorf("demo on another port: %d", resp.StatusCode)
	}
	if again := p.ServeHTML("x"); again == own {
		t.Error("two documents have one name")
	}
}

// TestForgedHead: what an origin writes beside its status does not pass, and
// nothing passes behind a change of protocol.
func TestForgedHead(t *testing.T) {
	answers := map[string]string{
		"/words":  "HTTP/1.1 200 OK\rX-Forged: 1\r\nContent-Length: 2\r\n\r\nok",
		"/switch": "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged",
	}
	site, address := origin(t, func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, answers[r.URL.Path])
	})
	p := open(t, address)
	raw := func(path string) string {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", p.Port()))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "GET %s%s HTTP/1.1\r\nHost: %s\r\n\r\n", site, path, address)
		var seen strings.Builder
		resp, err := http.ReadResponse(bufio.NewReader(io.TeeReader(conn, &seen)), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(resp.Body); err != nil {
			t.Fatal(err)
		}
		return seen.String()
	}
	if got := raw("/words"); !strings.HasPrefix(got, "HTTP/1.1 200 OK\r\n") || strings.Contains(got, "X-Forged") {
		t.Errorf("passed on: %q", got)
	}
	if got := raw("/switch"); strings.Contains(got, "forged") || strings.Contains(got, " 101 ") {
		t.Errorf("passed on: %q", got)
	}
}
