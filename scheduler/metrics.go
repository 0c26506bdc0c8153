package scheduler

import "github.com/prometheus/client_golang/prometheus"

// metrics are the scheduler's own numbers. Gauges are read from the board of
// whoever leads, and are zero elsewhere.
type metrics struct {
	decided  *prometheus.CounterVec
	finished *prometheus.CounterVec
	lost     prometheus.Counter
	frames   prometheus.Counter
	stripped prometheus.Counter
	waited   prometheus.Histogram
}

func newMetrics(r prometheus.Registerer, s *Scheduler) (*metrics, error) {
	m := &metrics{
		decided: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tintype_jobs_decided_total", Help: "Records of JOBS decided, by result: accepted or the kind of refusal.",
		}, []string{"result"}),
		finished: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tintype_jobs_finished_total", Help: "Jobs that ended, by outcome.",
		}, []string{"outcome"}),
		lost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tintype_leases_lost_total", Help: "Leases that ended because their worker fell silent or did not hold them.",
		}),
		frames: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tintype_ledger_frames_total", Help: "Frames that this process appended to the ledger.",
		}),
		stripped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tintype_projection_stripped_total", Help: "Rows whose text the database refused; their money was kept.",
		}),
		waited: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "tintype_queue_wait_seconds", Help: "Time in a tier's queue before an attempt started.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 10),
		}),
	}
	gauge := func(name, help string, read func(*leader) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			l := s.leader.Load()
			if l == nil {
				return 0
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			return read(l)
		})
	}
	all := []prometheus.Collector{
		m.decided, m.finished, m.lost, m.frames, m.stripped, m.waited,
		gauge("tintype_leader", "1 while this process leads.", func(*leader) float64 { return 1 }),
		gauge("tintype_jobs_unfinished", "Jobs accepted and not ended.", func(l *leader) float64 { return float64(l.board.unfinished.Len()) }),
		gauge("tintype_jobs_running", "Jobs in a worker's hands.", func(l *leader) float64 { return float64(len(l.board.leases)) }),
		gauge("tintype_ledger_frame", "Newest frame of the ledger.", func(l *leader) float64 { return float64(l.seq) }),
		gauge("tintype_projection_lag_frames", "Frames of the ledger that the archive does not have.", func(l *leader) float64 {
			return max(0, float64(l.seq)-float64(s.projected.Load()))
		}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range all {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
