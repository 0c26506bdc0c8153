package egress

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"time"
)

// A browser opens a WebSocket as a tunnel, to plain ports as well, and tells
// nobody who could stop it: the protocol for debugging shows it when it is too
// late. What is in the tunnel tells it apart from a page: over TLS the browser
// offers HTTP/2 for pages and never for a WebSocket, and what is not TLS is a
// WebSocket.

// admit looks at how a tunnel to target begins, for jobs that judge WebSockets,
// and gives what the origin is to read. It is false, and the tunnel must end,
// when the job does not want it.
func (p *Proxy) admit(c *conn, target string) (io.Reader, bool) {
	judge := p.socketJudge()
	if judge == nil {
		return c.br, true
	}
	first, err := c.br.Peek(1)
	if err != nil {
		return c.br, true // it ends by itself
	}
	host := strings.TrimSuffix(target, ":443")
	var url string
	var begin io.Reader
	switch {
	case first[0] == 0x16: // a TLS handshake
		var protocols []string
		protocols, begin = hello(c)
		if slices.Contains(protocols, "h2") {
			return begin, true
		}
		url = "wss://" + host + "/"
	default:
		head, err := readHead(c.br)
		begin = io.MultiReader(bytes.NewReader(head), c.br)
		if err != nil {
			return begin, true
		}
		_, rest, _ := strings.Cut(string(head), " ")
		path, _, _ := strings.Cut(rest, " ")
		url = "ws://" + strings.TrimSuffix(target, ":80") + path
	}
	why := judge(url)
	if why == "" {
		return begin, true
	}
	p.ledger.note(url, why) // not target: what else is asked of that host is not blocked
	return nil, false
}

// hello reads the first message of a TLS handshake as far as it must to know
// the protocols that are offered in it; begin is all that was sent.
func hello(c *conn) (protocols []string, begin io.Reader) {
	var read bytes.Buffer
	done := errors.New("the hello was read")
	// It comes at once, or the browser has hung up.
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	defer c.SetReadDeadline(time.Time{})
	server := tls.Server(&deaf{Conn: c.Conn, r: io.TeeReader(c.br, &read)}, &tls.Config{
		GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			protocols = h.SupportedProtos
			return nil, done
		},
	})
	server.Handshake() // it never succeeds
	return protocols, io.MultiReader(&read, c.br)
}

// deaf is a connection that is read elsewhere and never written.
type deaf struct {
	net.Conn
	r io.Reader
}

func (d *deaf) Read(b []byte) (int, error)  { return d.r.Read(b) }
func (d *deaf) Write(b []byte) (int, error) { return len(b), nil }
func (d *deaf) Close() error                { return nil }
