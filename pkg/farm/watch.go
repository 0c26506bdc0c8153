package farm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/tintype/tintype/api"
)

const (
	// checkWithin bounds one check of /readyz.
	checkWithin = time.Second
	// checkFresh is how long an answer of /readyz is repeated: anybody who
	// reaches the listener may ask.
	checkFresh = 500 * time.Millisecond
)

// watch shows how a tier without an HTTP API of its own is: /healthz, /readyz
// as the API has it, and /metrics. It changes nothing and shows nobody's data.
type watch struct {
	metrics *prometheus.Registry
	stop    context.Context // ends when the process begins to stop

	checks atomic.Pointer[[]api.Check] // nil until the tier has started

	mu   sync.Mutex // held while the parts are asked, so that they are asked once
	at   time.Time  // of last; guarded by mu
	last api.Ready  // guarded by mu
}

// startWatch listens at once, so that a taken port costs nothing, and is unready
// until it is told what to ask. An empty address listens nowhere.
func (p *Process) startWatch(ctx context.Context, parts *parts, address string) (*watch, error) {
	w := &watch{metrics: p.Metrics, stop: ctx}
	if address == "" {
		return w, nil
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--admin-listen: %w", err)
	}
	server := &http.Server{Handler: w.handler(), ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute}
	parts.service("admin listener", func(ctx context.Context) error {
		defer context.AfterFunc(ctx, func() { server.Close() })()
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	p.Log.Info("admin listener", "address", l.Addr().String())
	return w, nil
}

// ready says what /readyz asks from now on.
func (w *watch) ready(checks ...api.Check) { w.checks.Store(&checks) }

func (w *watch) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(rw http.ResponseWriter, _ *http.Request) {
		answer(rw, http.StatusOK, api.Health{Status: "ok"})
	})
	mux.HandleFunc("GET /readyz", w.readyz)
	if w.metrics != nil {
		mux.Handle("GET /metrics", promhttp.HandlerFor(w.metrics, promhttp.HandlerOpts{}))
	}
	return mux
}

func (w *watch) readyz(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	if time.Since(w.at) > checkFresh {
		w.last, w.at = w.ask(r.Context()), time.Now()
	}
	v := w.last
	w.mu.Unlock()
	if w.stop.Err() != nil {
		v.Status = "unready"
	}
	status := http.StatusOK
	if v.Status != "ready" {
		status = http.StatusServiceUnavailable
		rw.Header().Set("Retry-After", "1")
	}
	answer(rw, status, v)
}

// ask asks every part at once.
func (w *watch) ask(ctx context.Context) api.Ready {
	v := api.Ready{Status: "unready", Degraded: []string{}, Checks: map[string]string{}}
	checks := w.checks.Load()
	if checks == nil {
		v.Checks["start"] = "failing"
		return v
	}
	v.Status = "ready"
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), checkWithin, errors.New("no answer in time"))
	defer cancel()
	errs := make([]error, len(*checks))
	var asking sync.WaitGroup
	for i, c := range *checks {
		asking.Go(func() { errs[i] = c.Ask(ctx) })
	}
	asking.Wait()
	for i, c := range *checks {
		v.Checks[c.Name] = "ok"
		if errs[i] == nil {
			continue
		}
		v.Checks[c.Name] = "failing"
		if c.Needed {
			v.Status = "unready"
		} else {
			v.Degraded = append(v.Degraded, c.Name)
		}
	}
	return v
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a client that went away is noticed by the server
}

// dials reports whether somebody takes connections at address.
func dials(address string) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	}
}
