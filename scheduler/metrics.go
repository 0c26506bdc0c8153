package scheduler

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tintype/tintype/pkg/account"
)

// metrics are the scheduler's own numbers; docs/operations.md says what each is
// good for. None is labelled by account.
type metrics struct {
	decided    *prometheus.CounterVec
	finished   *prometheus.CounterVec
	dispatches *prometheus.CounterVec
	expired    prometheus.Counter
	lost       prometheus.Counter
	frames     prometheus.Counter
	stripped   prometheus.Counter
	charged    *prometheus.CounterVec
	givenBack  *prometheus.CounterVec
	throttled  *prometheus.CounterVec
	steps      *prometheus.CounterVec
	waited     prometheus.Histogram
}

func newMetrics(r prometheus.Registerer, s *Scheduler) (*metrics, error) {
	m := &metrics{
		decided: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tintype_jobs_decided_total", Help: "Records of JOBS decided, by result: accepted, cached or the kind of refusal.",
		}, []string{"result"}),
		finished: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tintype_jobs_finished_total", Help: "Jobs that ended, by outcome.",
		}, []string{"outcome"}),
		dispatches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tintype_dispatches_total", Help: "Attempts that were given a seat, by tier.",
		}, []string{"tier"}),
		expired: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tintype_leases_expired_total", Help: "Leases that ended without a beat or at the end of their wall time.",
		}),
		lost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tintype_leases_lost_total", Help: "Leases that ended because their worker fell silent or did not hold them.",
		}),
		frames: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tintype_ledger_frames_total", Help: "Frames that this process appended to the ledger.",
		}),
		stripped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tintype_projection_stripped_total", Help: "Rows whose text the database refused; their money was kept.",
		}),
		charged: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tintype_charged_units_total", Help: "Charges in 1/120 credit, by reason: render, call or download.",
		}, []string{"reason"}),
		givenBack: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tintype_given_back_units_total", Help: "Charges given back in 1/120 credit, by reason: call, download or lost.",
		}, []string{"reason"}),
		throttled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tintype_throttled_total", Help: "Submissions and requests that a rate refused, by limit: rate of a plan, requests of http_limits, or cooling.",
		}, []string{"limit"}),
		steps: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tintype_ladder_steps_total", Help: "Steps of the abuse ladder, and of admins on it, by step.",
		}, []string{"step"}),
		waited: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "tintype_queue_wait_seconds", Help: "Time in a tier's queue before an attempt started.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 10),
		}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{
		m.decided, m.finished, m.dispatches, m.expired, m.lost, m.frames, m.stripped, m.throttled, m.steps, m.charged, m.givenBack, m.waited, newGauges(s),
	} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// gauges are read from the board of whoever leads. Another process has the
// first of them alone, which is 0 there.
type gauges struct {
	s     *Scheduler
	descs map[string]*prometheus.Desc
}

func newGauges(s *Scheduler) gauges {
	g := gauges{s: s, descs: map[string]*prometheus.Desc{}}
	for _, d := range []struct{ name, help, label string }{
		{"tintype_leader", "1 while this process leads.", ""},
		{"tintype_hot_standby", "1 while this process could take over at once.", ""},
		{"tintype_leader_epoch", "Number of the present reign; each take-over counts one.", ""},
		{"tintype_jobs_unfinished", "Jobs accepted and not ended.", ""},
		{"tintype_jobs_running", "Jobs in a worker's hands.", ""},
		{"tintype_seats", "Seats of the connected workers.", ""},
		{"tintype_workers", "Workers that are connected.", ""},
		{"tintype_queue_limit", "The queue's length L, that tintype_queue_counted is held to.", ""},
		{"tintype_queue_waiting", "Jobs that have a slot and wait for a seat, by tier.", "tier"},
		{"tintype_queue_running", "Jobs in a worker's hands, by tier.", "tier"},
		{"tintype_queue_parked", "Jobs that wait for a slot of their account, by tier.", "tier"},
		{"tintype_queue_retrying", "Jobs that wait for another attempt, by tier.", "tier"},
		{"tintype_queue_counted", "Jobs of this tier and above that count against the queue's length.", "tier"},
		{"tintype_queue_oldest_age_seconds", "How long the first in the tier's queue has waited there; 0 when none does.", "tier"},
		{"tintype_queue_drain_jobs_per_second", "Pace at which jobs leave the tier's queue for a seat while some wait; absent where none is measured.", "tier"},
		{"tintype_bans", "Subjects that the abuse ladder keeps out, by step.", "step"},
		{"tintype_ledger_frame", "Newest frame of the ledger.", ""},
		{"tintype_projection_lag_frames", "Frames of the ledger that the archive does not have.", ""},
		{"tintype_projection_lag_bytes", "About how many bytes of the ledger the archive does not have.", ""},
		{"tintype_projection_lag_seconds", "Age of the oldest frame that the archive does not have, to about a second.", ""},
		{"tintype_storage_full", "1 while nothing is accepted since a stream or the disk is nearly full.", ""},
		{"tintype_stream_bytes", "Bytes that a stream holds.", "stream"},
		{"tintype_stream_limit_bytes", "Bytes that a stream may hold.", "stream"},
		{"tintype_disk_free_bytes", "Bytes that are free on the disk under the streams, where that is known.", ""},
		{"tintype_disk_bytes", "Size of that disk.", ""},
	} {
		var labels []string
		if d.label != "" {
			labels = []string{d.label}
		}
		g.descs[d.name] = prometheus.NewDesc(d.name, d.help, labels, nil)
	}
	return g
}

// Describe names them.
func (g gauges) Describe(to chan<- *prometheus.Desc) {
	for _, d := range g.descs {
		to <- d
	}
}

// Collect reads them all under one lock.
func (g gauges) Collect(to chan<- prometheus.Metric) {
	tell := func(name string, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(g.descs[name], prometheus.GaugeValue, v, labels...)
	}
	standby := 0.0
	if g.s.hot.Load() {
		standby = 1
	}
	tell("tintype_hot_standby", standby)
	l := g.s.leader.Load()
	if l == nil {
		tell("tintype_leader", 0)
		return
	}
	projected := g.s.projected.Load()
	l.enter()
	q, stored, newest, epoch := l.queue(nil, nil), l.storage, l.seq, l.epoch
	out := map[account.Step]int{account.StepCooling: 0, account.StepBlocked: 0, account.StepBanned: 0}
	for b := range l.ladder.InForce(l.clock()) {
		out[b.Step]++
	}
	behind := l.backlog.behind(projected, l.now)
	all, running, connected := l.board.unfinished.Len(), len(l.board.leases), len(l.workers)
	l.leave()

	tell("tintype_leader", 1)
	tell("tintype_leader_epoch", float64(epoch))
	tell("tintype_jobs_unfinished", float64(all))
	tell("tintype_jobs_running", float64(running))
	tell("tintype_seats", float64(q.Seats))
	tell("tintype_workers", float64(connected))
	tell("tintype_queue_limit", float64(q.Length))
	for _, t := range q.Tiers {
		label := strconv.Itoa(int(t.Tier))
		tell("tintype_queue_waiting", float64(t.Jobs.GetWaiting()), label)
		tell("tintype_queue_running", float64(t.Jobs.GetRunning()), label)
		tell("tintype_queue_parked", float64(t.Jobs.GetParked()), label)
		tell("tintype_queue_retrying", float64(t.Jobs.GetRetrying()), label)
		tell("tintype_queue_counted", float64(t.Counted), label)
		tell("tintype_queue_oldest_age_seconds", float64(t.OldestMs)/1000, label)
		if t.DrainPerS > 0 {
			tell("tintype_queue_drain_jobs_per_second", t.DrainPerS, label)
		}
	}
	for step, n := range out {
		tell("tintype_bans", float64(n), string(step))
	}
	tell("tintype_ledger_frame", float64(newest))
	tell("tintype_projection_lag_frames", max(0, float64(newest)-float64(projected)))
	tell("tintype_projection_lag_bytes", bytesBehind(stored.ledger, projected))
	tell("tintype_projection_lag_seconds", behind.Seconds())
	full := 0.0
	if q.StorageFull {
		full = 1
	}
	tell("tintype_storage_full", full)
	tell("tintype_stream_bytes", float64(stored.jobs.Bytes), "jobs")
	tell("tintype_stream_bytes", float64(stored.ledger.Bytes), "ledger")
	tell("tintype_stream_limit_bytes", float64(stored.jobs.MaxBytes), "jobs")
	tell("tintype_stream_limit_bytes", float64(stored.ledger.MaxBytes), "ledger")
	if stored.size > 0 {
		tell("tintype_disk_free_bytes", float64(stored.free))
		tell("tintype_disk_bytes", float64(stored.size))
	}
}
