// Package s3 runs an S3 server (versitygw over a local folder) inside this
// process, for `tintype up`, `tintype backends` and tests.
//
// It promises:
//
//  1. A PUT or a completed multipart upload is answered only after the file,
//     its metadata and every folder above it have been synced. versitygw itself
//     never syncs.
//  2. It listens on loopback only (unless Config.Open), and every request must
//     be signed with the keys of Config.
//  3. It prints nothing, and leaves the process's working directory alone.
//
// It serves what Tintype's own client uses and answers NotImplemented to the
// rest of S3; lifecycle rules are among that rest, so expiry is the janitor's.
// It leaves to others: making the bucket (pkg/object does), and the lock on the
// data folder.
//
// versitygw keeps state in package variables, therefore one server may run per
// process at a time; tests share one and take a bucket each.
package s3

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/embedgw"
	"github.com/versity/versitygw/s3api"
)

// Region is the only region the server knows. Clients must sign for it.
const Region = "us-east-1"

const (
	// maxConnections bounds open connections; workers, replicas and downloads
	// of one machine stay far below it.
	maxConnections = 1000
	// maxParts is what S3 itself allows in one multipart upload.
	maxParts = 10000
)

// running is true while a server of this process runs. See the package comment.
var running atomic.Bool

// Config is what New needs.
type Config struct {
	// Dir is the data folder, created with mode 0700. Below it, objects/ holds
	// a folder per bucket and, where the file system has no extended
	// attributes, metadata/ holds what would be in them. Required.
	Dir string

	// Addr is a loopback host:port. Empty picks a free port of 127.0.0.1, and
	// port 0 one of its host.
	Addr string

	// Open allows Addr to be off loopback, where nothing is encrypted.
	Open bool

	// AccessKey and SecretKey are the one account. Required.
	AccessKey, SecretKey string

	// Log receives errors that clients see only as InternalError. Nil discards
	// them.
	Log *slog.Logger
}

// Server is an S3 server. Its methods are safe for concurrent use.
type Server struct {
	cfg   Config
	picks bool // a free port of Addr's host

	mu   sync.Mutex
	addr string             // guarded by mu; set by Start
	stop context.CancelFunc // guarded by mu; set by Start
	err  error              // guarded by mu; set before done is closed

	done chan struct{}
}

// New checks cfg and starts nothing.
func New(cfg Config) (*Server, error) {
	if cfg.Dir == "" {
		return nil, errors.New("embedded s3: no data folder")
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("embedded s3: %w", err)
	}
	cfg.Dir = dir
	if cfg.AccessKey == "" || cfg.SecretKey == "" {
		return nil, errors.New("embedded s3: access key and secret key are required")
	}
	if cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:0"
	}
	host, port, err := net.SplitHostPort(cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("embedded s3: address %q is not host:port: %w", cfg.Addr, err)
	}
	if ip := net.ParseIP(host); !cfg.Open && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("embedded s3: address %q is not a loopback address", cfg.Addr)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{cfg: cfg, picks: port == "0", done: make(chan struct{})}, nil
}

// Start serves and returns once requests are accepted. A Server is started
// once; ctx bounds the start alone.
func (s *Server) Start(ctx context.Context) error {
	if !running.CompareAndSwap(false, true) {
		return errors.New("embedded s3: another embedded S3 server already runs in this process, and there can be only one")
	}
	if err := s.start(ctx); err != nil {
		running.Store(false)
		return fmt.Errorf("embedded s3: %w", err)
	}
	return nil
}

func (s *Server) start(ctx context.Context) error {
	addr, picked := s.cfg.Addr, false
	for {
		if s.picks {
			var err error
			if addr, err = freePort(s.cfg.Addr); err != nil {
				return err
			}
		}
		err := s.serve(ctx, addr)
		// versitygw takes no listener, only an address, so another process can
		// take the port between our look and its bind. Twice in a row is
		// something else.
		if s.picks && !picked && errors.Is(err, syscall.EADDRINUSE) {
			picked = true
			continue
		}
		return err
	}
}

// serve runs the server on addr and returns once it listens, or with what kept
// it from listening.
func (s *Server) serve(ctx context.Context, addr string) error {
	files, err := newFolder(s.cfg.Dir, s.cfg.Log)
	if err != nil {
		return err
	}
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	up, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- embedgw.RunVersityGW(life, files, &embedgw.Config{
			RootUserAccess: s.cfg.AccessKey,
			RootUserSecret: s.cfg.SecretKey,
			Region:         Region,
			Ports:          []string{addr},
			// Left to itself, versitygw makes the same service and prints a line
			// about it on stdout.
			IAMService:        auth.NewIAMServiceSingle(auth.Account{Access: s.cfg.AccessKey, Secret: s.cfg.SecretKey, Role: auth.RoleAdmin}),
			MaxConnections:    maxConnections,
			MaxRequests:       maxConnections,
			MultipartMaxParts: maxParts,
			KeepAlive:         true,
			Quiet:             true,
			S3Options:         []s3api.Option{s3api.WithOnListen(func() { close(up) })},
		})
	}()
	select {
	case <-up:
	case err := <-ended:
		stop()
		if err == nil {
			err = errors.New("the server ended at once")
		}
		return addrInUse(err)
	case <-ctx.Done():
		stop()
		<-ended
		return context.Cause(ctx)
	}
	// It listens, but does not serve yet: a Close before it does would be lost,
	// and the server would run for ever.
	if err := answers(ctx, addr); err != nil {
		stop()
		return err
	}

	s.mu.Lock()
	s.addr, s.stop = addr, stop
	s.mu.Unlock()
	go func() {
		err := <-ended
		s.mu.Lock()
		if life.Err() == nil {
			s.err = fmt.Errorf("embedded s3: the server ended by itself: %w", err)
		} else if err != nil {
			s.err = fmt.Errorf("embedded s3: %w", err)
		}
		s.mu.Unlock()
		stop()
		running.Store(false)
		close(s.done)
	}()
	return nil
}

// addrInUse gives back the errno of a taken port, which versitygw passes on
// as text.
func addrInUse(err error) error {
	if !errors.Is(err, syscall.EADDRINUSE) && strings.Contains(err.Error(), syscall.EADDRINUSE.Error()) {
		return fmt.Errorf("%w: %w", err, syscall.EADDRINUSE)
	}
	return err
}

// freePort is an address of addr's host on which nobody listened a moment ago.
func freePort(addr string) (string, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	addr = l.Addr().String()
	if err := l.Close(); err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return addr, nil
}

// Endpoint is where the server listens, as host:port. Empty before Start.
func (s *Server) Endpoint() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr
}

// Done is closed when a started server has ended, by Close or by itself.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err is why the server ended by itself, or what went wrong while it closed.
// Nil while it runs and after a clean Close.
func (s *Server) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Close finishes the requests in hand, stops, and returns Err. On a server that
// was never started it does nothing.
//
// The HTTP library below versitygw leaves goroutines asleep behind it. They hold
// nothing: fasthttp's (*workerPool).Start.func2 wakes once, within ten seconds,
// and ends; its updateServerDate.func1 is one per process and stays. Tests that
// look for leaks name these two.
func (s *Server) Close() error {
	s.mu.Lock()
	stop := s.stop
	s.mu.Unlock()
	if stop == nil {
		return nil
	}
	stop()
	<-s.done
	return s.Err()
}

// makeDir makes dir, readable by its owner alone, and syncs the folder above it.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	return syncPath(filepath.Dir(dir))
}

// answers returns once the server has answered a request, whatever it said.
func answers(ctx context.Context, addr string) error {
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/", nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return fmt.Errorf("the server listens but does not answer: %w", err)
	}
	return resp.Body.Close()
}
