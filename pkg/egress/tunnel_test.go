package egress

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// connect asks for a tunnel.
func connect(t *testing.T, p *Proxy, address string) (net.Conn, *bufio.Reader, *http.Response) {
	t.Helper()
	c := dialProxy(t, p)
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\nProxy-Connection: keep-alive\r\n\r\n", address, address)
	br := bufio.NewReader(c)
	resp, err := http.ReadResponse(br, &http.Request{Method: http.MethodConnect})
	if err != nil {
		t.Fatal(err)
	}
	return c, br, resp
}

// TestTunnel carries bytes both ways, with the end of one side passed on
// while the other goes on.
func TestTunnel(t *testing.T) {
	port, arrived := listen(t, "127.0.0.1:0")
	p := open(t, "127.0.0.1:"+port)
	c, br, resp := connect(t, p, "127.0.0.1:"+port)
	if resp.StatusCode != 200 {
		t.Fatalf("status %d", resp.StatusCode)
	}
	far := <-arrived
	io.WriteString(c, "ping")
	c.(*net.TCPConn).CloseWrite()
	if b, err := io.ReadAll(far); string(b) != "ping" || err != nil {
		t.Fatalf("origin read %q %v", b, err)
	}
	io.WriteString(far, "pong")
	far.Close()
	if b, err := io.ReadAll(br); string(b) != "pong" || err != nil {
		t.Fatalf("browser read %q %v", b, err)
	}
	if s := p.Stats(); s.Up != 4 || s.Down != 4 || s.Requests != 1 {
		t.Errorf("stats %+v", s)
	}
}

// TestTunnelReset: a reset stays a reset.
func TestTunnelReset(t *testing.T) {
	port, arrived := listen(t, "127.0.0.1:0")
	p := open(t, "127.0.0.1:"+port)
	_, br, _ := connect(t, p, "127.0.0.1:"+port)
	far := <-arrived
	far.(*net.TCPConn).SetLinger(0)
	far.Close()
	if _, err := io.ReadAll(br); err == nil {
		t.Error("the reset came as a clean end")
	}
}

func TestTunnelTLS(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "secret") }))
	t.Cleanup(s.Close)
	p := open(t, strings.TrimPrefix(s.URL, "https://"))
	c := through(t, p)
	c.Transport.(*http.Transport).TLSClientConfig = s.Client().Transport.(*http.Transport).TLSClientConfig
	if _, body := get(t, c, s.URL); body != "secret" {
		t.Errorf("body %q", body)
	}
}

// TestWebSocket does the opening handshake of RFC 6455 and a frame each way
// through a tunnel to a plain port, as browsers do behind a proxy.
func TestWebSocket(t *testing.T) {
	_, address := origin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "websocket" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
		rw.Flush()
		frame := make([]byte, 4)
		io.ReadFull(rw, frame)
		rw.Write(frame)
		rw.Flush()
	})
	p := open(t, address)
	c, br, _ := connect(t, p, address)
	fmt.Fprintf(c, "GET /chat HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", address)
	resp, err := http.ReadResponse(br, nil)
	if err != nil || resp.StatusCode != 101 {
		t.Fatalf("handshake: %v %v", resp, err)
	}
	io.WriteString(c, "\x82\x02hi")
	echo := make([]byte, 4)
	if _, err := io.ReadFull(br, echo); err != nil || string(echo) != "\x82\x02hi" {
		t.Errorf("frame %q %v", echo, err)
	}
}

func TestTunnelRefused(t *testing.T) {
	p := open(t)
	for target, want := range map[string]Reason{"10.0.0.1:443": Refused, "127.0.0.1:80": Refused, "missing.test:443": NotResolved, "8.8.8.8:25": Refused} {
		_, _, resp := connect(t, p, target)
		if why, ok := p.Marked(resp.Header.Get(MarkerHeader)); resp.StatusCode < 400 || !ok || why != want {
			t.Errorf("%s: %d, %q", target, resp.StatusCode, why)
		}
	}
	for u, want := range map[string]Reason{"https://10.0.0.1/path?x": Refused, "https://missing.test/": NotResolved, "wss://10.0.0.1/": Refused, "ws://127.0.0.1/": Refused} {
		if why, ok := p.Failure(u); !ok || why != want {
			t.Errorf("%s: %q %t", u, why, ok)
		}
	}
}

// TestClose ends what is under way.
func TestClose(t *testing.T) {
	port, arrived := listen(t, "127.0.0.1:0")
	stuck := make(chan struct{}, 1)
	_, address := origin(t, func(_ http.ResponseWriter, r *http.Request) { stuck <- struct{}{}; <-r.Context().Done() })
	p := open(t, "127.0.0.1:"+port, address)
	_, tunnel, _ := connect(t, p, "127.0.0.1:"+port)
	far := <-arrived
	c := dialProxy(t, p)
	fmt.Fprintf(c, "GET http://%s/ HTTP/1.1\r\nHost: %s\r\n\r\n", address, address)
	<-stuck
	p.Close()
	for name, r := range map[string]io.Reader{"tunnel": tunnel, "origin of the tunnel": far, "request": c} {
		if b, _ := io.ReadAll(r); len(b) > 0 {
			t.Errorf("%s: read %q after the close", name, b)
		}
	}
	if _, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", p.Port())); err == nil {
		t.Error("the proxy still listens")
	}
}

func TestLimits(t *testing.T) {
	stuck := make(chan struct{}, MaxConcurrent)
	site, address := origin(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/stuck":
			stuck <- struct{}{}
			<-r.Context().Done()
		case "/endless":
			for b := make([]byte, 1<<20); ; {
				if _, err := w.Write(b); err != nil {
					return
				}
			}
		case "/drain":
			io.Copy(io.Discard, r.Body)
		}
	})
	t.Run("concurrency", func(t *testing.T) {
		p := open(t, address)
		for range MaxConcurrent {
			fmt.Fprintf(dialProxy(t, p), "GET %s/stuck HTTP/1.1\r\nHost: x\r\n\r\n", site)
			<-stuck
		}
		resp, _ := get(t, through(t, p), site+"/one-more")
		if why, ok := p.Marked(resp.Header.Get(MarkerHeader)); resp.StatusCode != 429 || !ok || why != OverLimit {
			t.Errorf("%d %q", resp.StatusCode, why)
		}
	})
	t.Run("requests", func(t *testing.T) {
		p := open(t)
		c := through(t, p)
		for i := range MaxRequests {
			if resp, _ := get(t, c, DemoURL+"x"); resp.StatusCode != 404 {
				t.Fatalf("request %d: %d", i, resp.StatusCode)
			}
		}
		if resp, _ := get(t, c, DemoURL); resp.StatusCode != 429 {
			t.Errorf("one more: %d", resp.StatusCode)
		}
		if s := p.Stats(); s.Requests != MaxRequests || len(s.Blocked) != 1 || s.Blocked[0].Reason != "over_limit" {
			t.Errorf("stats %+v", s)
		}
	})
	t.Run("bytes down", func(t *testing.T) {
		p := open(t, address)
		resp, err := through(t, p).Get(site + "/endless")
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err == nil || n > MaxDown {
			t.Errorf("%d bytes, %v", n, err)
		}
		if why, _ := p.Failure(site + "/endless"); why != OverLimit {
			t.Errorf("noted as %q", why)
		}
	})
	t.Run("bytes up", func(t *testing.T) {
		p := open(t, address)
		resp, err := through(t, p).Post(site+"/drain", "text/plain", strings.NewReader(strings.Repeat("x", MaxUp+1)))
		if err == nil { // else the proxy hung up while the body was on its way
			resp.Body.Close()
			if resp.StatusCode != 429 {
				t.Errorf("status %d", resp.StatusCode)
			}
		}
		if why, _ := p.Failure(site + "/drain"); why != OverLimit {
			t.Errorf("noted as %q", why)
		}
	})
	t.Run("one head", func(t *testing.T) {
		p := open(t, address)
		for _, f := range []struct {
			name, path, header string
			status             int
			known              bool // the proxy knows the whole URL
		}{
			{"header", "/fill", "X-Fill: " + strings.Repeat("x", maxHead) + "\r\n", 429, true},
			{"navigation", "/fill?2", "Upgrade-Insecure-Requests: 1\r\nX-Fill: " + strings.Repeat("x", 2*maxHead) + "\r\n", 204, true},
			{"target", "/" + strings.Repeat("x", maxHead), "", 429, false},
		} {
			c := dialProxy(t, p)
			fmt.Fprintf(c, "GET %s%s HTTP/1.1\r\nHost: x\r\n%s\r\n", site, f.path, f.header)
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Errorf("%s: %v", f.name, err)
				continue
			}
			if why, ok := p.Marked(resp.Header.Get(MarkerHeader)); resp.StatusCode != f.status || !ok || why != OverLimit {
				t.Errorf("%s: %d %q", f.name, resp.StatusCode, why)
			}
			if why, _ := p.Failure(site + f.path); f.known && why != OverLimit {
				t.Errorf("%s: noted as %q", f.name, why)
			}
			c.Close()
		}
	})
	t.Run("heads", func(t *testing.T) {
		p := open(t, address)
		c := through(t, p)
		fill := strings.Repeat("x", maxHead/2) // each head is within its own limit
		for i := range MaxUp/len(fill) - 1 {
			if resp, _ := get(t, c, site+"/fill", "X-Fill", fill); resp.StatusCode != 200 {
				t.Fatalf("request %d: %d", i, resp.StatusCode)
			}
		}
		for range 2 {
			get(t, c, site+"/full", "X-Fill", fill)
		}
		if why, _ := p.Failure(site + "/full"); why != OverLimit {
			t.Errorf("noted as %q after %d bytes", why, p.Stats().Up)
		}
	})
}
