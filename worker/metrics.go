package worker

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// workerMetrics are the worker's own; those of its browsers are the seats'.
type workerMetrics struct {
	attempts *prometheus.CounterVec   // by result: succeeded, failed, or a drop
	upload   *prometheus.HistogramVec // by result: ok or failed
}

// newWorkerMetrics makes the metrics and registers them, unless reg is nil.
func newWorkerMetrics(reg prometheus.Registerer, ls *leases) (*workerMetrics, error) {
	m := &workerMetrics{
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tintype_worker_attempts_total", Help: "Attempts that ended on this worker, by what they came to.",
		}, []string{"result"}),
		upload: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "tintype_worker_upload_seconds", Help: "Time to store an artifact, with all tries.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"result"}),
	}
	for _, result := range []string{"succeeded", "failed", string(dropRevoked), string(dropStale), string(dropUnanswered), string(dropReturned)} {
		m.attempts.WithLabelValues(result)
	}
	seats := func(state string, count func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "tintype_worker_seats", Help: "Seats that hold a job (busy) or are ready for one (free).",
			ConstLabels: prometheus.Labels{"state": state},
		}, func() float64 {
			ls.mu.Lock()
			defer ls.mu.Unlock()
			return float64(count())
		})
	}
	if reg == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{
		m.attempts, m.upload,
		seats("busy", func() int { return ls.busy }),
		seats("free", func() int { return len(ls.idle) }),
	} {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}
