package egress

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/textproto"
	"strconv"
	"strings"
	"time"
)

// The proxy speaks HTTP/1.1 to its browser by hand, because net/http's server
// parses the request target with net/url and answers 400 by itself to what
// browsers send every day, such as a lone % in a path. Such an answer would
// carry no marker and be rendered as the page.

const maxHead = 256 << 10 // bytes of a request's line and header

var errLongHead = errors.New("request head too long")

// A request is one request of the browser, its target as it was spelled.
type request struct {
	method string
	target string
	header http.Header
	body   io.Reader // nil without a body
	length int64     // of body; -1 when it comes in chunks
	head   int       // bytes of line and header as they came
}

// readRequest reads the head of the next request. With errLongHead comes as
// much of the request as was read of it.
func readRequest(br *bufio.Reader) (*request, error) {
	head, long := readHead(br)
	if long != nil && !errors.Is(long, errLongHead) {
		return nil, long
	}
	tp := textproto.NewReader(bufio.NewReader(bytes.NewReader(head)))
	line, err := tp.ReadLine()
	if err != nil {
		return nil, err
	}
	method, rest, ok := strings.Cut(line, " ")
	target, proto, ok2 := strings.Cut(rest, " ")
	if long == nil && (!ok || !ok2 || !strings.HasPrefix(proto, "HTTP/1.") || method == "" || target == "") {
		return nil, errors.New("malformed request line")
	}
	header, err := tp.ReadMIMEHeader()
	req := &request{method: method, target: target, header: http.Header(header), head: len(head)}
	if long != nil {
		return req, long
	}
	if err != nil {
		return nil, fmt.Errorf("request header: %w", err)
	}
	if req.header.Get("Transfer-Encoding") != "" {
		req.body, req.length = httputil.NewChunkedReader(br), -1
	} else if s := req.header.Get("Content-Length"); s != "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n < 0 {
			return nil, errors.New("malformed content length")
		}
		if n > 0 {
			req.body, req.length = io.LimitReader(br, n), n
		}
	}
	return req, nil
}

// readHead reads up to the empty line that ends a head, or up to its limit,
// which is errLongHead.
func readHead(br *bufio.Reader) (head []byte, err error) {
	start := 0 // of the line that is read
	for {
		part, err := br.ReadSlice('\n')
		head = append(head, part...)
		switch {
		case len(head) > maxHead:
			return head, errLongHead
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil:
			return nil, err
		case len(bytes.TrimRight(head[start:], "\r\n")) == 0:
			return head, nil
		}
		start = len(head)
	}
}

// navigates reports whether the request asks for a document to show in a
// frame. Browsers say so with this header, on plain HTTP too.
func (r *request) navigates() bool { return r.header.Get("Upgrade-Insecure-Requests") == "1" }

// hopByHop headers are about one connection and end here (RFC 9110 section
// 7.6.1); whatever begins with Proxy- does as well.
var hopByHop = map[string]bool{
	"Connection": true, "Keep-Alive": true, "Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true,
}

// endToEnd copies the headers that go on to the other side.
func endToEnd(in http.Header) http.Header {
	named := map[string]bool{}
	for _, v := range in["Connection"] {
		for name := range strings.SplitSeq(v, ",") {
			named[textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name))] = true
		}
	}
	out := make(http.Header, len(in))
	for k, v := range in {
		k = textproto.CanonicalMIMEHeaderKey(k)
		if !hopByHop[k] && !named[k] && !strings.HasPrefix(k, "Proxy-") && k != MarkerHeader {
			out[k] = v
		}
	}
	return out
}

// A conn is one connection of the browser. Its writer is flushed after every
// piece that came from an origin: a browser paints what it has, and a page
// that drips must not be held back.
type conn struct {
	net.Conn
	br *bufio.Reader
	bw *bufio.Writer
}

// serve answers the requests of one browser connection until it ends.
func (p *Proxy) serve(nc net.Conn) {
	c := &conn{Conn: nc, br: bufio.NewReader(nc), bw: bufio.NewWriter(nc)}
	for {
		req, err := readRequest(c.br)
		if errors.Is(err, errLongHead) {
			p.refuse(c, req, req.target, OverLimit)
			c.hangUp()
			return
		}
		if err != nil {
			return
		}
		if !p.answer(c, req) {
			return
		}
	}
}

// hangUp ends a connection whose request was not read to its end. Closed at
// once it would be reset, and the answer lost before the browser has read it.
func (c *conn) hangUp() {
	if t, ok := c.Conn.(halfCloser); ok {
		t.CloseWrite()
	}
	c.SetReadDeadline(time.Now().Add(time.Second))
	io.CopyN(io.Discard, c.Conn, 4<<20)
}

// answer serves one request and reports whether the connection may carry
// another.
func (p *Proxy) answer(c *conn, req *request) bool {
	key := req.target
	if !p.ledger.begin() {
		return p.refuse(c, req, key, OverLimit)
	}
	defer p.ledger.end()
	if req.method == http.MethodConnect {
		p.tunnel(c, req)
		return false
	}
	authority, path, ok := splitTarget(req.target)
	if !ok {
		return p.refuse(c, req, key, NoAnswer)
	}
	if page, ok := p.hosts.find(authority, path); ok {
		return c.writePage(req, page)
	}
	if why := p.judgeHost(authority); why != "" {
		return p.refuse(c, req, req.target, why)
	}
	return p.forward(c, req, authority, path)
}

// splitTarget cuts the absolute form http://authority/path?query.
func splitTarget(target string) (authority, path string, ok bool) {
	rest, ok := strings.CutPrefix(target, "http://")
	if !ok {
		return "", "", false
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	authority, path = rest[:end], rest[end:]
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	return authority, path, authority != "" && !strings.ContainsAny(authority, "@\\ ")
}

// watch cancels when the browser hangs up while an answer is awaited. The
// caller waits on done before it reads from the connection again.
func (c *conn) watch(cancel context.CancelFunc) (done chan struct{}) {
	done = make(chan struct{})
	go func() {
		defer close(done)
		if _, err := c.br.Peek(1); err != nil {
			cancel()
		}
	}()
	return done
}

// writeHead starts an answer; it is on the wire when writeHead returns.
func (c *conn) writeHead(status string, header http.Header) error {
	fmt.Fprintf(c.bw, "HTTP/1.1 %s\r\n", status)
	if err := header.Write(c.bw); err != nil {
		return err
	}
	c.bw.WriteString("\r\n")
	return c.bw.Flush()
}
