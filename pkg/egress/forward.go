package egress

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// MarkerHeader is on every answer that the proxy made itself because an
// origin's could not be had. Its value is the job's nonce and the Reason; it
// is stripped from what origins send over plain HTTP.
const MarkerHeader = "X-Tintype-Egress"

// Marked reads the marker out of the headers of an answer to a plain HTTP
// request; false when the answer is an origin's own.
func (p *Proxy) Marked(value string) (Reason, bool) {
	why, ok := strings.CutPrefix(value, p.nonce+" ")
	return Reason(why), ok
}

// refuse answers in an origin's place. A document gets 204, which leaves its
// frame as it was: no frame ever shows a text of ours. The caller of a script
// or an image gets an error status without a body.
func (p *Proxy) refuse(c *conn, req *request, key string, why Reason) bool {
	p.ledger.note(key, why)
	status := "502 Bad Gateway"
	switch {
	case req.navigates() && req.method != http.MethodConnect:
		status = "204 No Content"
	case why == Refused || why == ProxyRefused || why.Unwanted():
		status = "403 Forbidden"
	case why == OverLimit:
		status = "429 Too Many Requests"
	case why == TimedOut:
		status = "504 Gateway Timeout"
	}
	h := http.Header{MarkerHeader: {p.nonce + " " + string(why)}, "Cache-Control": {"no-store"}}
	if !strings.HasPrefix(status, "204") {
		h.Set("Content-Length", "0")
	}
	if req.body != nil { // what is left of it would be read as the next request
		h.Set("Connection", "close")
		c.writeHead(status, h)
		return false
	}
	return c.writeHead(status, h) == nil
}

// forward sends a plain HTTP request to its origin and the answer back, piece
// by piece as it comes.
func (p *Proxy) forward(c *conn, req *request, authority, path string) bool {
	if !p.ledger.addUp(req.head) {
		return p.refuse(c, req, req.target, OverLimit)
	}
	target := originURL(authority, path)
	if p.upstream.Load() != nil {
		if !p.guard.mayAsk(hostPort(authority)) {
			return p.refuse(c, req, req.target, Refused)
		}
		target.Opaque = "//" + authority + path // a proxy wants the whole URL
	}
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	out := (&http.Request{
		Method: req.method, URL: target, Host: authority,
		Header: endToEnd(req.header), ContentLength: req.length,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(ctx)
	if out.Header.Get("User-Agent") == "" {
		out.Header["User-Agent"] = nil // else net/http names itself
	}
	out.Header.Del("Host")
	out.Header.Del("Content-Length")
	var watched chan struct{}
	if req.body != nil {
		out.Body = io.NopCloser(&metered{r: req.body, add: p.ledger.addUp})
	} else {
		watched = c.watch(cancel)
	}
	keep := p.exchange(c, req, out)
	cancel()
	if watched != nil {
		if !keep {
			c.Close() // ends the watch
		}
		<-watched
	}
	return keep && req.body == nil
}

// exchange does one round trip and copies the answer.
func (p *Proxy) exchange(c *conn, req *request, out *http.Request) bool {
	resp, err := p.transport.RoundTrip(out)
	if err != nil {
		if p.ctx.Err() != nil || out.Context().Err() != nil {
			return false // the job is over or the browser hung up: nobody to tell
		}
		if isOverLimit(err) {
			return p.refuse(c, req, req.target, OverLimit)
		}
		return p.refuse(c, req, req.target, wrap(hostPort(out.URL.Host), err).Reason)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusProxyAuthRequired || resp.StatusCode < http.StatusOK {
		// From an origin a 407 is nonsense, and a browser would take it for ours;
		// after a 101 come bytes that nobody has judged.
		if resp.StatusCode == http.StatusProxyAuthRequired && p.upstream.Load() != nil {
			return p.refuse(c, req, req.target, ProxyFailed)
		}
		return p.refuse(c, req, req.target, NoAnswer)
	}
	h := endToEnd(resp.Header)
	bodiless := req.method == http.MethodHead || resp.StatusCode == 204 || resp.StatusCode == 304
	chunked := false
	switch {
	case bodiless:
	case resp.ContentLength >= 0:
		h.Set("Content-Length", strconv.FormatInt(resp.ContentLength, 10))
	default:
		h.Del("Content-Length")
		h.Set("Transfer-Encoding", "chunked")
		chunked = true
	}
	if req.body != nil {
		h.Set("Connection", "close") // what is left of the request would be read as the next one
	}
	// The origin's own words are not repeated: a bare CR in them could pass for
	// the end of the line.
	if c.writeHead(strconv.Itoa(resp.StatusCode)+" "+http.StatusText(resp.StatusCode), h) != nil {
		return false
	}
	if bodiless {
		return true
	}
	return p.copyBody(c, req, resp, chunked)
}

// copyBody flushes every piece. A body that breaks off, or goes over the
// job's limit, ends the connection, so that the browser sees that it is not
// whole.
func (p *Proxy) copyBody(c *conn, req *request, resp *http.Response, chunked bool) bool {
	buf := make([]byte, 32<<10)
	for {
		n, err := resp.Body.Read(buf)
		if n > 0 {
			if !p.ledger.addDown(n) {
				p.ledger.note(req.target, OverLimit)
				return false
			}
			if chunked {
				fmt.Fprintf(c.bw, "%x\r\n", n)
			}
			c.bw.Write(buf[:n])
			if chunked {
				c.bw.WriteString("\r\n")
			}
			if c.bw.Flush() != nil {
				return false
			}
		}
		switch {
		case err == io.EOF && chunked:
			c.bw.WriteString("0\r\n\r\n")
			return c.bw.Flush() == nil
		case err == io.EOF:
			return true
		case err != nil:
			return false
		}
	}
}

// originURL names the origin. The path travels as it was spelled, in URL.Opaque,
// because net/url refuses spellings that browsers and servers agree on.
func originURL(authority, path string) *url.URL {
	if strings.HasPrefix(path, "//") { // Opaque would read this as an authority
		path = "//" + authority + path
	}
	return &url.URL{Scheme: "http", Host: authority, Opaque: path}
}

// hostPort is authority with its port, for a message.
func hostPort(authority string) string {
	if _, _, err := net.SplitHostPort(authority); err == nil {
		return authority
	}
	return net.JoinHostPort(strings.Trim(authority, "[]"), "80")
}
