package egress

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tintype/tintype/pkg/job"
)

// upstreamPorts are the ports that a job's own proxy may be reached on, unless
// a rule of the operator names another: those where HTTP proxies usually are.
var upstreamPorts = []uint16{80, 443, 3128, 8000, 8080, 8081, 8118, 8443, 8888}

// An upstream is the job's own proxy, which its requests go through.
type upstream struct {
	address string // HOST:PORT
	auth    string // of Proxy-Authorization; empty without
	url     *url.URL
}

// Through sends all that the job asks for through a proxy of its own. The
// proxy's address is judged like any other. What it connects to is out of our
// sight and in its owner's network, so that names pass; addresses that are
// spelled out, and ports, are still judged. It must be called before the
// first request.
func (p *Proxy) Through(up *job.Upstream) {
	u := &upstream{address: net.JoinHostPort(up.Host, up.Port)}
	u.url = &url.URL{Scheme: "http", Host: u.address}
	if up.User != "" {
		u.auth = "Basic " + base64.StdEncoding.EncodeToString([]byte(up.User+":"+up.Password))
		u.url.User = url.UserPassword(up.User, up.Password)
	}
	p.transport.Proxy = func(*http.Request) (*url.URL, error) { return u.url, nil }
	p.upstream.Store(u)
}

// dialUpstream connects to the job's own proxy.
func (p *Proxy) dialUpstream(ctx context.Context, u *upstream) (net.Conn, error) {
	c, err := p.guard.dialOn(ctx, "tcp", u.address, upstreamPorts)
	if err == nil {
		return c, nil
	}
	why := ProxyFailed
	if wrap(u.address, err).Reason == Refused {
		why = ProxyRefused
	}
	return nil, &Error{Reason: why, Host: "the job's proxy", Err: err}
}

// mayAsk judges what is asked of the job's own proxy by what can be known of it.
func (g *Guard) mayAsk(target string) bool {
	host, portText, err := net.SplitHostPort(target)
	if err != nil {
		return false
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return false
	}
	name := canonicalHost(host)
	if addr, err := netip.ParseAddr(name); err == nil {
		return g.Allowed(host, addr, uint16(port))
	}
	if !validName(name) {
		return false // 127.1, 2130706433 or 0x7f.1, which many a proxy reads as an address
	}
	if slices.ContainsFunc(g.rules, func(r rule) bool { return r.name == name && slices.Contains(r.ports, uint16(port)) }) {
		return true
	}
	return slices.Contains(defaultPorts, uint16(port)) && name != "localhost" && !strings.HasSuffix(name, ".localhost")
}

// reach connects a tunnel to target, through the job's own proxy if it has one.
func (p *Proxy) reach(ctx context.Context, target string) (net.Conn, error) {
	u := p.upstream.Load()
	if u == nil {
		return p.guard.DialContext(ctx, "tcp", target)
	}
	if !p.guard.mayAsk(target) {
		return nil, &Error{Reason: Refused, Host: target}
	}
	c, err := p.dialUpstream(ctx, u)
	if err != nil {
		return nil, err
	}
	through, err := u.connect(ctx, c, target, p.guard.timeout)
	if err != nil {
		c.Close()
		return nil, &Error{Reason: ProxyFailed, Host: "the job's proxy", Err: err}
	}
	return through, nil
}

// connect asks the proxy behind c for a tunnel.
func (u *upstream) connect(ctx context.Context, c net.Conn, target string, limit time.Duration) (net.Conn, error) {
	c.SetDeadline(time.Now().Add(limit))
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	auth := ""
	if u.auth != "" {
		auth = "Proxy-Authorization: " + u.auth + "\r\n"
	}
	if _, err := fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", target, target, auth); err != nil {
		return nil, err
	}
	br := bufio.NewReader(c)
	head, err := readHead(br)
	if err != nil {
		return nil, err
	}
	line, _, _ := strings.Cut(string(head), "\r\n")
	proto, status, _ := strings.Cut(line, " ")
	if !strings.HasPrefix(proto, "HTTP/1.") || !strings.HasPrefix(status, "2") {
		return nil, fmt.Errorf("the proxy answered %.40q", line)
	}
	c.SetDeadline(time.Time{})
	if br.Buffered() == 0 {
		return c, nil
	}
	return &begun{Conn: c, r: br}, nil // the other side spoke first
}

// begun is a connection of which something was read already.
type begun struct {
	net.Conn
	r io.Reader
}

func (b *begun) Read(p []byte) (int, error) { return b.r.Read(p) }

// CloseWrite ends what is sent, while more may come.
func (b *begun) CloseWrite() error {
	if half, ok := b.Conn.(halfCloser); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// SetLinger is that of the connection.
func (b *begun) SetLinger(sec int) error {
	if l, ok := b.Conn.(lingerer); ok {
		return l.SetLinger(sec)
	}
	return errors.ErrUnsupported
}
