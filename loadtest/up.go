package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"strings"
	"time"

	"github.com/tintype/tintype/pkg/config"
	"github.com/tintype/tintype/pkg/farm"
	"github.com/tintype/tintype/pkg/telemetry"
	"github.com/tintype/tintype/worker"
)

// up is `tintype up` on seats that render nothing. All flags but our own are
// tintype's.
type up struct {
	Args []string `arg:"" optional:"" help:"--null or --null=noupload, --slow DURATION, --pprof HOST:PORT, and the flags of tintype up."`
}

// Run runs a farm until ctx ends.
func (c *up) Run(ctx context.Context) error { return runNull(ctx, "up", c.Args) }

// work is `tintype worker` on seats that render nothing.
type work struct {
	Args []string `arg:"" optional:"" help:"--null or --null=noupload, --slow DURATION, --pprof HOST:PORT, and the flags of tintype worker."`
}

// Run runs a worker until ctx ends.
func (c *work) Run(ctx context.Context) error { return runNull(ctx, "worker", c.Args) }

// nullFlags are the flags that tintype does not have.
type nullFlags struct {
	null     bool
	noUpload bool          // artifacts are not stored
	slow     time.Duration // what a render takes
	pprof    string        // HOST:PORT; empty: none
}

// takeFlags takes our flags out of args and leaves tintype's.
func takeFlags(args []string) (own nullFlags, rest []string, err error) {
	for i := 0; i < len(args); i++ {
		name, value, given := strings.Cut(args[i], "=")
		switch {
		case name == "--null" && (!given || value == "noupload"):
			own.null, own.noUpload = true, given
		case name == "--null":
			return own, nil, fmt.Errorf("--null: want nothing or noupload, not %q", value)
		case name == "--pprof" || name == "--slow":
			if !given {
				if i++; i == len(args) {
					return own, nil, fmt.Errorf("%s: a value is missing", name)
				}
				value = args[i]
			}
			if name == "--pprof" {
				own.pprof = value
			} else if own.slow, err = time.ParseDuration(value); err != nil || own.slow < 0 {
				return own, nil, fmt.Errorf("--slow: want a duration, not %q", value)
			}
		default:
			rest = append(rest, args[i])
		}
	}
	if !own.null {
		return own, nil, errors.New("give --null or --null=noupload; a farm with browsers is tintype's")
	}
	return own, rest, nil
}

func runNull(ctx context.Context, mode string, args []string) error {
	own, rest, err := takeFlags(args)
	if err != nil {
		return err
	}
	cfg, err := config.Parse(append([]string{mode}, rest...), os.Stdout)
	if errors.Is(err, config.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	log, err := telemetry.Logger(os.Stderr, cfg.LogLevel)
	if err != nil {
		return err
	}
	p := &farm.Process{Log: log, Version: "null", Metrics: telemetry.Registry("null"), Out: os.Stdout, Seats: func(n int) []worker.Renderer { return nullSeats(n, own.slow) }}
	if own.noUpload {
		p.Transfers = &http.Client{Transport: swallowing{http.DefaultTransport}}
	}
	if own.pprof != "" {
		stop, err := profiles(own.pprof, log)
		if err != nil {
			return err
		}
		defer stop()
	}
	if mode == "worker" {
		err = p.Worker(ctx, cfg.Worker)
	} else {
		err = p.Up(ctx, cfg.Up)
	}
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// profiles serves /debug/pprof on an address of its own.
func profiles(address string, log *slog.Logger) (stop func(), err error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--pprof: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Warn("profiles are not served any more", "err", err)
		}
	}()
	log.Info("profiles", "address", l.Addr().String())
	return func() { _ = s.Close(); <-ended }, nil
}
