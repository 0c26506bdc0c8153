package egress

import (
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
)

var errOverLimit = errors.New("the job may send no more")

func isOverLimit(err error) bool { return errors.Is(err, errOverLimit) }

// What pipe asks of a connection beside the carrying: TCP's can do both.
type (
	halfCloser interface{ CloseWrite() error }
	lingerer   interface{ SetLinger(sec int) error }
)

// metered counts what is read and stops when the job has spent its bytes.
type metered struct {
	r   io.Reader
	add func(int) bool
}

func (m *metered) Read(b []byte) (int, error) {
	n, err := m.r.Read(b)
	if n > 0 && !m.add(n) {
		return 0, errOverLimit
	}
	return n, err
}

// tunnel carries a CONNECT: TLS, or a WebSocket on a plain port. What is in
// it is between the browser and the origin.
func (p *Proxy) tunnel(c *conn, req *request) {
	if why := p.judgeHost(req.target); why != "" {
		p.refuse(c, req, req.target, why)
		return
	}
	origin, err := p.reach(p.ctx, req.target)
	if err != nil {
		if p.ctx.Err() == nil {
			p.refuse(c, req, req.target, wrap(req.target, err).Reason)
		}
		return
	}
	if !p.hold(origin) {
		return
	}
	defer p.drop(origin)
	if c.writeHead("200 Connection Established", http.Header{}) != nil {
		return
	}
	begin, ok := p.admit(c, req.target)
	if !ok {
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { p.pipe(origin, begin, origin, c.Conn, req.target, p.ledger.addUp) })
	wg.Go(func() { p.pipe(c.Conn, origin, origin, c.Conn, req.target, p.ledger.addDown) })
	wg.Wait()
}

// pipe copies one direction. The end of a stream is passed on as such; an
// error or a spent limit ends both directions, hard, so that a reset stays a
// reset.
func (p *Proxy) pipe(dst net.Conn, src io.Reader, a, b net.Conn, key string, add func(int) bool) {
	_, err := io.Copy(struct{ io.Writer }{dst}, &metered{r: src, add: add})
	if err == nil {
		if half, ok := dst.(halfCloser); ok && half.CloseWrite() == nil {
			return
		}
	}
	if isOverLimit(err) {
		p.ledger.note(key, OverLimit)
	}
	for _, c := range []net.Conn{a, b} {
		if l, ok := c.(lingerer); ok && err != nil {
			l.SetLinger(0)
		}
		c.Close()
	}
}
