package api

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/tintype/tintype/pkg/fault"
)

const (
	// checkWithin bounds one check of /readyz.
	checkWithin = time.Second
	// checkFresh is how long an answer of /readyz is repeated: anybody may ask,
	// and the parts are not there to be asked by everybody.
	checkFresh = 500 * time.Millisecond
)

// A Check asks one part of the farm whether it answers.
type Check struct {
	Name string // as /readyz shows it: nats, postgres, s3, worker
	// Needed parts make the replica unready when they fail; others degrade it.
	Needed bool
	Ask    func(ctx context.Context) error
}

// readiness is the last answer of /readyz.
type readiness struct {
	mu   sync.Mutex // held while the parts are asked, so that they are asked once
	at   time.Time
	last Ready
}

func (s *Server) healthz(w http.ResponseWriter, _ *http.Request, _ *call) error {
	return writeJSON(w, http.StatusOK, Health{Status: "ok"})
}

func (s *Server) readyz(w http.ResponseWriter, r *http.Request, _ *call) error {
	s.ready.mu.Lock()
	if time.Since(s.ready.at) > checkFresh {
		s.ready.last, s.ready.at = s.check(r.Context()), time.Now()
	}
	v := s.ready.last
	s.ready.mu.Unlock()
	if closed(s.draining) {
		v.Status = "unready"
	}
	status := http.StatusOK
	if v.Status != "ready" {
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "1")
	}
	return writeJSON(w, status, v)
}

// check asks every part at once.
func (s *Server) check(ctx context.Context) Ready {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), checkWithin, errors.New("no answer in time"))
	defer cancel()
	parts := append([]Check{{Name: "leader", Needed: true, Ask: func(context.Context) error {
		if !s.front.led() {
			return noLeader()
		}
		return nil
	}}, {Name: "worker", Ask: func(ctx context.Context) error {
		if q, _, err := s.busy(ctx, ""); err == nil && q.Seats == 0 { // without a leader nobody knows
			return errors.New("no worker is connected")
		}
		return nil
	}}}, s.deps.Checks...)
	errs := make([]error, len(parts))
	var asking sync.WaitGroup
	for i, p := range parts {
		asking.Go(func() { errs[i] = p.Ask(ctx) })
	}
	asking.Wait()
	v := Ready{Status: "ready", Degraded: []string{}, Checks: map[string]string{}}
	for i, p := range parts {
		v.Checks[p.Name] = "ok"
		if errs[i] == nil {
			continue
		}
		v.Checks[p.Name] = "failing"
		s.log.Debug("a part is not ready", "part", p.Name, "err", errs[i])
		if p.Needed {
			v.Status = "unready"
		} else {
			v.Degraded = append(v.Degraded, p.Name)
		}
	}
	return v
}

func (s *Server) serveMetrics(w http.ResponseWriter, r *http.Request, _ *call) error {
	promhttp.HandlerFor(s.deps.Metrics, promhttp.HandlerOpts{}).ServeHTTP(w, r)
	return nil
}

func (s *Server) index(w http.ResponseWriter, _ *http.Request, _ *call) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte(`Tintype: screenshots and PDFs of web pages.

GET  /v1/screenshot?url=https://example.com/    a picture
GET  /v1/pdf?url=https://example.com/           a PDF
POST /v1/jobs                                   a job; poll GET /v1/jobs/{id}, fetch GET /v1/jobs/{id}/result
GET  /docs                                      everything else; /openapi.yaml and .json for programs
GET  /healthz, /readyz, /pressure               the state of this process and of the farm

Authorization: Bearer tt_live_…
`)) // the client that went away is noticed by the server
	return nil
}

// metrics are this tier's figures. Labels come from small closed sets.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	submits  *prometheus.CounterVec
	problems *prometheus.CounterVec
	spared   prometheus.Counter
	// throttled requests were refused from memory
	throttled prometheus.Counter

	// Of the feeder of batches.
	batchesHeld  prometheus.Gauge
	batchesEnded *prometheus.CounterVec
	batchLines   *prometheus.CounterVec
	batchWaits   *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, led func() bool) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tintype_http_requests_total", Help: "HTTP requests by class of route and class of status.",
		}, []string{"class", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "tintype_http_request_seconds", Help: "Time to answer HTTP requests, waits included.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"class"}),
		submits: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tintype_submissions_total", Help: "Submissions that reached the door, by what became of them: accepted, or a kind of fault.",
		}, []string{"result"}),
		problems: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tintype_http_problems_total", Help: "Requests that were answered with a problem document, by its code.",
		}, []string{"code"}),
		spared: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tintype_submissions_spared_total", Help: "Submissions that were refused without asking the scheduler, which had refused the same a moment ago.",
		}),
		throttled: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tintype_requests_throttled_total", Help: "Requests of throttled callers that were refused from memory, without asking the scheduler.",
		}),
		batchesHeld: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tintype_batches_held", Help: "Batches that this replica works on.",
		}),
		batchesEnded: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tintype_batches_ended_total", Help: "Batches that this replica has ended, by how.",
		}, []string{"state"}),
		batchLines: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tintype_batch_lines_total", Help: "Lines of batches that were decided: accepted as jobs, known to be jobs already, or refused for good.",
		}, []string{"result"}),
		batchWaits: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tintype_batch_waits_total", Help: "Times that a line of a batch was refused for now and is tried again, by kind of fault.",
		}, []string{"kind"}),
	}
	reg.MustRegister(m.batchesHeld, m.batchesEnded, m.batchLines, m.batchWaits)
	reg.MustRegister(m.requests, m.seconds, m.submits, m.problems, m.spared, m.throttled, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tintype_api_leader_connected", Help: "1 while this replica has a stream to a leading scheduler.",
	}, func() float64 {
		if led() {
			return 1
		}
		return 0
	}))
	return m
}

func (m *metrics) request(c class, status int, took time.Duration) {
	text := "none" // a connection that broke before any answer
	if status > 0 {
		text = string(rune('0'+status/100)) + "xx"
	}
	m.requests.WithLabelValues(string(c), text).Inc()
	m.seconds.WithLabelValues(string(c)).Observe(took.Seconds())
}

// problem counts a refusal or an error by the code that the client was told: a
// closed list.
func (m *metrics) problem(f *fault.Error, look face) {
	code := f.Code
	if code == "" || f.Kind == fault.Internal {
		code = look.code
	}
	m.problems.WithLabelValues(code).Inc()
}

func (m *metrics) submitted(err error, replay bool) {
	result := "accepted"
	switch {
	case err == nil && replay:
		result = "replayed"
	case err != nil:
		result = fault.From(err).Kind.String()
	}
	m.submits.WithLabelValues(result).Inc()
}
