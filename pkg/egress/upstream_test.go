package egress

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/tintype/tintype/pkg/job"
)

// TestNumbersAreNoNames: what a job's own proxy may read as an address is never
// handed to it as a name. The spellings are those of the URL Standard's tests
// (web-platform-tests, url/resources: "IPv4 parsing" and "ends in a number").
func TestNumbersAreNoNames(t *testing.T) {
	g, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{
		"0", "1", "127.1", "127.0.1", "2130706433", "017700000001", "0x7f000001", "0x7f.1", "0X7F.1", "0x7f.0x0.0x0.0x1",
		"0177.0.0.01", "127.0.0.0x1", "127.0.0.1.", "127.1.", "2130706433.", "0x7f.1.", "1.2", "1.2.", "1.2.3", "1.2.3.",
		"256", "256.", "256.256.256.256", "1.2.3.4.5", "1.2.3.4.5.", "1.2.3.08", "1.2.3.09", "0x", "0x.", "0x.0x.0", "0.0x",
		"09", "09.", "foo.0x", "foo.0x4", "foo.0x4.", "foo.09", "foo.09.", "foo.1.2.3.4", "foo.2.3", "foo.123", "foo.0XFfFfFfFfFfFfFfFfFfAcE123",
		"4294967295", "4294967296", "0xffffffff", "0x100000000", "999999999999999999999", "10000000000", "\u0661\u0662\u0667.1",
		"127.0.0.1%00", "127.0.0.1%20x", "%31%32%37.1", "127\u30020\u30020\u30021", "", ".", "..", "localhost", "a.localhost.", "LocalHost",
		"10.0.0.1", "169.254.169.254", "[::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[fe80::1%25eth0]",
	} {
		target := host + ":443"
		if g.mayAsk(target) {
			t.Errorf("%q may be asked of a proxy", host)
		}
	}
	for _, host := range []string{"example.test", "EXAMPLE.test.", "a_b.test", "xn--bcher-kva.test", "1.2.3.4.test", "0x7f.test", "127.0.0.1.nip.test", "foo.0test", "foo.x1", "intranet", "8.8.8.8", "[2606:4700::1111]"} {
		if !g.mayAsk(host + ":443") {
			t.Errorf("%q may not be asked of a proxy", host)
		}
	}
}

// TestHalfCloseThrough: behind a proxy of the job's own, too, each side of a
// tunnel ends by itself, and what the other still has to say is delivered, also
// where the far side spoke before it was spoken to.
func TestHalfCloseThrough(t *testing.T) {
	for name, first := range map[string]string{"it waits": "", "it speaks first": "hello "} {
		t.Run(name, func(t *testing.T) {
			port, arrived := listen(t, "127.0.0.1:0")
			p := open(t, "127.0.0.1:"+port)
			p.Through(&job.Upstream{Host: "127.0.0.1", Port: port})
			begin := func() (near *net.TCPConn, br *bufio.Reader, far *net.TCPConn, farRead *bufio.Reader) {
				answered := make(chan struct{})
				go func() {
					defer close(answered)
					far = (<-arrived).(*net.TCPConn)
					farRead = bufio.NewReader(far)
					http.ReadRequest(farRead)
					io.WriteString(far, "HTTP/1.1 200 OK\r\n\r\n"+first)
				}()
				c, br, resp := connect(t, p, "inside.customer.test:443")
				<-answered
				if resp.StatusCode != 200 {
					t.Fatalf("status %d", resp.StatusCode)
				}
				return c.(*net.TCPConn), br, far, farRead
			}
			read := func(who string, r io.Reader, want string) {
				t.Helper()
				if b, err := io.ReadAll(r); string(b) != want || err != nil {
					t.Errorf("%s read %q, %v; want %q", who, b, err, want)
				}
			}

			near, br, far, farRead := begin()
			io.WriteString(near, "ping")
			near.CloseWrite()
			read("the far side", farRead, "ping")
			io.WriteString(far, "pong")
			far.CloseWrite()
			read("the browser", br, first+"pong")

			near, br, far, farRead = begin()
			io.WriteString(far, "pong")
			far.CloseWrite()
			read("the browser", br, first+"pong")
			io.WriteString(near, strings.Repeat("ping", 1000))
			near.CloseWrite()
			read("the far side", farRead, strings.Repeat("ping", 1000))
		})
	}
}

// A reset stays one, also where the far side spoke first.
func TestResetThrough(t *testing.T) {
	port, arrived := listen(t, "127.0.0.1:0")
	p := open(t, "127.0.0.1:"+port)
	p.Through(&job.Upstream{Host: "127.0.0.1", Port: port})
	heard := make(chan struct{})
	go func() {
		far := (<-arrived).(*net.TCPConn)
		http.ReadRequest(bufio.NewReader(far))
		io.WriteString(far, "HTTP/1.1 200 OK\r\n\r\nhello")
		<-heard
		far.SetLinger(0)
		far.Close()
	}()
	_, br, _ := connect(t, p, "inside.customer.test:443")
	io.ReadFull(br, make([]byte, len("hello")))
	close(heard)
	if _, err := io.ReadAll(br); err == nil {
		t.Error("the reset came as a clean end")
	}
}
