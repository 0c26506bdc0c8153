package worker

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// seatMetrics are shared by all seats of a worker.
type seatMetrics struct {
	launches      prometheus.Counter
	launchSeconds prometheus.Histogram
	flagOnly      prometheus.Gauge
	recycles      *prometheus.CounterVec   // by reason
	seconds       *prometheus.HistogramVec // by result
}

// newSeatMetrics registers the seats' metrics, or finds those that an earlier
// seat of the same worker registered. A nil registerer keeps them to itself.
func newSeatMetrics(reg prometheus.Registerer) (*seatMetrics, error) {
	m := &seatMetrics{}
	var errs [5]error
	m.launches, errs[0] = register(reg, prometheus.NewCounter(prometheus.CounterOpts{
		Name: "tintype_browser_launches_total", Help: "Browsers that were started.",
	}))
	m.launchSeconds, errs[1] = register(reg, prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "tintype_browser_launch_seconds", Help: "Time from the start of a browser to its first ready page.",
		Buckets: []float64{.1, .25, .5, 1, 2.5, 5, 10, 30},
	}))
	m.recycles, errs[2] = register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tintype_browser_recycles_total", Help: "Browsers that were replaced, by reason.",
	}, []string{"reason"}))
	m.seconds, errs[3] = register(reg, prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "tintype_browser_render_seconds", Help: "Time of one attempt on a seat, by result: succeeded or the failure's code.",
		Buckets: []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
	}, []string{"result"}))
	m.flagOnly, errs[4] = register(reg, prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "tintype_browser_flag_only", Help: "Browsers that run without a network namespace of their own.",
	}))
	return m, errors.Join(errs[:]...)
}

func register[C prometheus.Collector](reg prometheus.Registerer, c C) (C, error) {
	if reg == nil {
		return c, nil
	}
	err := reg.Register(c)
	if have, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if same, ok := have.ExistingCollector.(C); ok {
			return same, nil
		}
	}
	return c, err
}
