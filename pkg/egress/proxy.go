package egress

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// A Proxy is the only way out for the pages of one job: an HTTP proxy on a
// listener of its own, so that whatever connects to it is that job's. It
// forwards plain HTTP, carries CONNECT tunnels (TLS and WebSockets), and
// serves the virtual hosts of the job itself (see vhost.go). It is safe for
// concurrent use. Close ends everything it carries.
type Proxy struct {
	guard     *Guard
	nonce     string
	listener  net.Listener
	transport *http.Transport
	ledger    ledger
	hosts     vhosts
	blocks    blocks
	upstream  atomic.Pointer[upstream] // nil: requests go out by themselves

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // every goroutine of the proxy

	mu     sync.Mutex
	closed bool                  // guarded by mu
	conns  map[net.Conn]struct{} // guarded by mu; both sides of what is carried
}

// Open starts the proxy of one job on a loopback port of this machine.
func Open(g *Guard) (*Proxy, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the egress proxy of a job: %w", err)
	}
	return OpenOn(l, g), nil
}

// OpenOn starts the proxy of one job on a TCP listener that is the job's alone
// and that it closes. The listener may be of another network namespace than
// this process, which is where the proxy dials from.
func OpenOn(l net.Listener, g *Guard) *Proxy {
	p := &Proxy{guard: g, nonce: randomName(), listener: l, conns: map[net.Conn]struct{}{}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.transport = &http.Transport{
		DialContext:            p.dial,
		DisableCompression:     true, // the browser asked for what it can read
		MaxIdleConnsPerHost:    6,    // as browsers do
		IdleConnTimeout:        30 * time.Second,
		MaxResponseHeaderBytes: 512 << 10, // the browser itself gives up at 256 kB
	}
	p.wg.Go(p.accept)
	return p
}

// randomName gives 128 random bits in hex.
func randomName() string {
	b := make([]byte, 16)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// Port is the port of the proxy on 127.0.0.1.
func (p *Proxy) Port() int { return p.listener.Addr().(*net.TCPAddr).Port }

// Close ends every connection of the job and waits until the proxy's
// goroutines are gone.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	conns := p.conns
	p.conns = nil
	p.mu.Unlock()
	p.cancel()
	p.listener.Close()
	for c := range conns {
		c.Close()
	}
	p.transport.CloseIdleConnections()
	p.wg.Wait()
}

// hold registers a connection so that Close ends it; a proxy that is closed
// already closes it at once.
func (p *Proxy) hold(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		c.Close()
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *Proxy) drop(c net.Conn) {
	c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

func (p *Proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return // Close closed it
		}
		if p.hold(c) {
			p.wg.Go(func() {
				defer p.drop(c)
				p.serve(c)
			})
		}
	}
}

// dial connects the plain HTTP transport. Its connections are held until the
// transport is done with them.
func (p *Proxy) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var c net.Conn
	var err error
	if u := p.upstream.Load(); u != nil {
		c, err = p.dialUpstream(ctx, u)
	} else {
		c, err = p.guard.DialContext(ctx, network, address)
	}
	if err != nil {
		return nil, err
	}
	if !p.hold(c) {
		return nil, net.ErrClosed
	}
	return &held{Conn: c, proxy: p}, nil
}

// held is a connection that leaves the proxy's set when it is closed.
type held struct {
	net.Conn
	proxy *Proxy
}

func (h *held) Close() error {
	h.proxy.drop(h.Conn)
	return nil
}
