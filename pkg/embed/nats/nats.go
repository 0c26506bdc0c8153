// Package nats runs a NATS server with JetStream inside this process, for
// `tintype up`, `tintype backends` and tests.
//
// It promises:
//
//  1. Every write that a stream acknowledges has been synced to the disk
//     (SyncAlways), so a kill or a power cut after an ack loses nothing.
//  2. Nothing listens on the network unless Config.Listen is set, and then
//     only on loopback (unless Config.Open) and only for clients that know the
//     token.
//  3. The server's own log arrives in slog, its warnings and errors included,
//     and one that says that it cannot write any more closes Broken.
//
// It leaves to others: the streams and their bounds, the client's options
// (reconnect buffer, time-outs), and the lock on the data folder. That lock is
// the caller's duty: a second server opens the same folder without complaint
// and both write to it.
package nats

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	natsgo "github.com/nats-io/nats.go"
	"golang.org/x/sys/unix"
)

const (
	// readyWithin bounds the start. An empty store is ready in milliseconds;
	// a large one is read through first.
	readyWithin = 60 * time.Second

	// maxPayload is the largest message, in bytes: one ledger frame at its bound.
	maxPayload = 1 << 20
)

// Config is what New needs.
type Config struct {
	// Dir is the folder of the streams, created with mode 0700. Required.
	Dir string

	// MaxStore is how many bytes JetStream may promise to streams. The MaxBytes
	// of all streams are reserved against it when they are made, and a stream
	// that does not fit is refused ("insufficient storage resources").
	//
	// Zero means half the size of the file system that holds Dir. It is the
	// size and not the free space on purpose: the number must not shrink while
	// the disk fills, or a restart would refuse the streams that are already
	// there. It is a promise and no reservation of disk blocks, so whoever
	// publishes has to watch the free space itself.
	MaxStore int64

	// Listen is a loopback host:port (port 0 picks a free one) for clients in
	// other processes. Empty: in-process clients only.
	Listen string

	// Token is what every client must present. Required with Listen.
	Token string

	// Open allows Listen to be off loopback, where the token is sent in clear.
	Open bool

	// Log receives the server's log. Nil discards it.
	Log *slog.Logger
}

// Server is a running NATS server. Its methods are safe for concurrent use.
type Server struct {
	srv    *server.Server
	log    *bridge
	token  string
	listen bool
}

// New starts the server and returns once it takes connections. An error says
// what the server said, for example that its folder is not writable or that the
// port is taken.
func New(cfg Config) (*Server, error) {
	opts, err := options(cfg)
	if err != nil {
		return nil, fmt.Errorf("embedded nats: %w", err)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("embedded nats: make the data folder: %w", err)
	}
	if opts.JetStreamMaxStore == 0 {
		if opts.JetStreamMaxStore, err = halfOfDisk(cfg.Dir); err != nil {
			return nil, fmt.Errorf("embedded nats: %w", err)
		}
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("embedded nats: %w", err)
	}
	log := newBridge(cfg.Log)
	srv.SetLogger(log, false, false)
	srv.Start()

	s := &Server{srv: srv, log: log, token: cfg.Token, listen: cfg.Listen != ""}
	// What keeps the server from starting reaches us only as a call of its
	// logger's Fatalf.
	if why := log.fatal(); why != "" {
		s.Close()
		return nil, fmt.Errorf("embedded nats: %s", why)
	}
	if !srv.ReadyForConnections(readyWithin) {
		s.Close()
		return nil, fmt.Errorf("embedded nats: not ready within %s", readyWithin)
	}
	return s, nil
}

// options turns cfg into the server's options, or says what is wrong with it.
func options(cfg Config) (*server.Options, error) {
	if cfg.Dir == "" {
		return nil, errors.New("no data folder")
	}
	if cfg.MaxStore < 0 {
		return nil, fmt.Errorf("store limit of %d bytes is negative", cfg.MaxStore)
	}
	opts := &server.Options{
		ServerName:             "tintype",
		JetStream:              true,
		StoreDir:               cfg.Dir,
		SyncAlways:             true,
		JetStreamMaxStore:      cfg.MaxStore,
		MaxPayload:             maxPayload,
		DontListen:             true,
		NoSigs:                 true, // signals are main's
		DisableJetStreamBanner: true,
		Authorization:          cfg.Token,
	}
	if cfg.Listen == "" {
		return opts, nil
	}
	host, port, err := listenAt(cfg.Listen, cfg.Open)
	if err != nil {
		return nil, err
	}
	if cfg.Token == "" {
		return nil, fmt.Errorf("listening on %s needs a token", cfg.Listen)
	}
	opts.DontListen, opts.Host, opts.Port = false, host, port
	return opts, nil
}

// listenAt splits addr and, unless it may be open, refuses a host that others on
// the network can reach. Port 0 becomes the server's own word for "any free
// port".
func listenAt(addr string, open bool) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("listen address %q is not host:port: %w", addr, err)
	}
	if ip := net.ParseIP(host); !open && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return "", 0, fmt.Errorf("listen address %q is not a loopback address", addr)
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("listen address %q has no valid port: %w", addr, err)
	}
	if n == 0 {
		return host, server.RANDOM_PORT, nil
	}
	return host, int(n), nil
}

// halfOfDisk is half the size, in bytes, of the file system that holds dir.
func halfOfDisk(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("read the size of the disk under %s: %w", dir, err)
	}
	return int64(st.Blocks) * st.Bsize / 2, nil
}

// Connect opens an in-process connection. The options are applied after the
// server's own, so a caller may add handlers and names; the connection is the
// caller's to close, before the server.
func (s *Server) Connect(opts ...natsgo.Option) (*natsgo.Conn, error) {
	own := []natsgo.Option{natsgo.InProcessServer(s.srv)}
	if s.token != "" {
		own = append(own, natsgo.Token(s.token))
	}
	nc, err := natsgo.Connect("", append(own, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("connect to the embedded nats: %w", err)
	}
	return nc, nil
}

// ClientURL is where clients in other processes connect, without the token.
// It is empty when the server does not listen.
func (s *Server) ClientURL() string {
	if !s.listen {
		return ""
	}
	return s.srv.ClientURL()
}

// Broken is closed when the server cannot write to its folder any more, as on a
// full disk. It answers nothing from then on, until it is started again with
// room to write.
func (s *Server) Broken() <-chan struct{} { return s.log.broken }

// Err is why Broken was closed.
func (s *Server) Err() error {
	select {
	case <-s.log.broken:
		return fmt.Errorf("embedded nats cannot write to its folder: %s; see that the disk has room and start again", s.log.why)
	default:
		return nil
	}
}

// Close stops the server and returns when its files are closed. It may be
// called more than once.
func (s *Server) Close() {
	s.srv.Shutdown()
	s.srv.WaitForShutdown()
}
