package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tintype/tintype/pkg/account"
)

// Bounds of a connection, against clients that send or read slowly. Routes
// that wait or send much move their own deadlines: see linger and steady.
const (
	headerWithin  = 5 * time.Second
	requestWithin = 30 * time.Second
	answerSlack   = 30 * time.Second // to write an answer in
	idleWithin    = 60 * time.Second
	maxHeader     = 32 << 10
	// connsPerAddress bounds the connections of one other machine, or of the /64
	// of an IPv6 one.
	connsPerAddress = 1024
)

// serve serves the listeners until ctx ends or lost is closed, then drains.
func (s *Server) serve(ctx context.Context, lost <-chan struct{}) error {
	servers := map[*http.Server]net.Listener{}
	if s.deps.Listener != nil {
		servers[s.server(s.main)] = s.deps.Listener
	}
	if s.deps.AdminListener != nil {
		servers[s.server(s.admin)] = s.deps.AdminListener
	}
	var serving errgroup.Group
	failed := make(chan struct{})
	var once sync.Once
	for srv, l := range servers {
		serving.Go(func() error {
			err := srv.Serve(&limitedListener{
				Listener: l, open: make(map[netip.Prefix]int), exempt: func() []netip.Prefix { return s.policy().TrustedProxies },
			})
			if errors.Is(err, http.ErrServerClosed) {
				return nil
			}
			once.Do(func() { close(failed) })
			return fmt.Errorf("api: serve %s: %w", l.Addr(), err)
		})
	}
	select {
	case <-ctx.Done():
	case <-lost:
	case <-failed:
	}

	close(s.draining)
	s.drain()
	if n := s.inWork.Load(); n > 0 {
		s.log.Info("waiting for requests", "requests", n)
	}
	began := time.Now()
	// At the limit whoever still waits is told to answer, and has a moment for it.
	answerNow := sync.OnceFunc(func() { close(s.late) })
	defer time.AfterFunc(s.cfg.DrainWithin, answerNow).Stop()
	drain, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), s.cfg.DrainWithin+cancelWithin, errors.New("the drain took too long"))
	defer cancel()
	var down errgroup.Group
	for srv := range servers {
		down.Go(func() error { return srv.Shutdown(drain) })
	}
	if err := down.Wait(); err != nil {
		s.log.Warn("requests were cut off", "took", time.Since(began), "err", context.Cause(drain))
		for srv := range servers {
			_ = srv.Close() // its listener is closed already
		}
	}
	answerNow()
	// Requests that were cut off cancel the jobs that nobody waits for now.
	left := make(chan struct{})
	go func() { s.active.Wait(); close(left) }()
	select {
	case <-left:
	case <-time.After(cancelWithin):
	}
	s.stop()
	<-left
	return serving.Wait()
}

// closed reports a channel that is closed.
func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (s *Server) server(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: headerWithin, ReadTimeout: requestWithin, WriteTimeout: requestWithin + answerSlack,
		IdleTimeout: idleWithin, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), // what clients do to connections
	}
}

// linger moves a request's deadlines before it waits: reading is over, and
// the answer may come up to d later. Without it the connection's read deadline
// would end the request's context in the middle of the wait.
func linger(w http.ResponseWriter, d time.Duration) {
	c := http.NewResponseController(w)
	// A writer without deadlines, as in tests, has none to move.
	_ = c.SetReadDeadline(time.Time{})
	_ = c.SetWriteDeadline(time.Now().Add(d + answerSlack))
}

// steady writes with a deadline for each write, so that a large artifact, of
// which no more than a piece is in memory, may take its time as long as the
// client goes on reading.
type steady struct{ http.ResponseWriter }

func (s steady) Unwrap() http.ResponseWriter { return s.ResponseWriter }

func (s steady) Write(p []byte) (int, error) {
	const piece = 256 << 10
	var n int
	for {
		linger(s.ResponseWriter, 0)
		m, err := s.ResponseWriter.Write(p[n:min(n+piece, len(p))])
		n += m
		if err != nil || n == len(p) {
			return n, err
		}
	}
}

// limitedListener closes connections beyond connsPerAddress of one address.
// Loopback and trusted proxies are exempt: a reverse proxy is everybody.
type limitedListener struct {
	net.Listener
	exempt func() []netip.Prefix

	mu   sync.Mutex
	open map[netip.Prefix]int // by identity; guarded by mu
}

func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from, err := netip.ParseAddrPort(c.RemoteAddr().String())
		addr := from.Addr().Unmap().WithZone("")
		switch {
		case err != nil || l.everybody(addr):
			return c, nil
		case l.admits(account.Identity(addr)):
			return &limitedConn{Conn: c, release: sync.OnceFunc(func() { l.release(account.Identity(addr)) })}, nil
		}
		_ = c.Close() // nothing was said on it
	}
}

// everybody reports an address that many clients share.
func (l *limitedListener) everybody(addr netip.Addr) bool {
	return addr.IsLoopback() || contains(l.exempt(), addr)
}

// admits takes a place for a connection, if there is one.
func (l *limitedListener) admits(who netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[who] >= connsPerAddress {
		return false
	}
	l.open[who]++
	return true
}

func (l *limitedListener) release(who netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[who]--; l.open[who] == 0 {
		delete(l.open, who)
	}
}

type limitedConn struct {
	net.Conn
	release func()
}

func (c *limitedConn) Close() error {
	c.release()
	return c.Conn.Close()
}
